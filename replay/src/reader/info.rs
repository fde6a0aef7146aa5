//! What is in a recording, in numbers.

use std::collections::BTreeMap;

use dejavm_sandbox::exit::{ExitKind, Rung, Trapped};
use serde::Serialize;

use super::{Ending, Recording};
use crate::error::Error;
use crate::record::Record;
use crate::text::call_name;

/// Counts over a whole recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Info {
    /// Length of the log, bytes.
    pub log_bytes: u64,
    /// Number of compared exits.
    pub exits: u64,
    /// Number of the first and the last one.
    pub exit_range: Option<(u64, u64)>,
    /// The log's bytes without contents, over the number of exits; 0 without exits.
    pub bytes_per_exit: f64,
    /// Number of blocks, contents included.
    pub blocks: u64,
    /// Number of distinct contents.
    pub blobs: u64,
    /// Their length, uncompressed, bytes.
    pub blob_bytes: u64,
    /// Their length in the log, headers included, bytes.
    pub blob_stored_bytes: u64,
    /// Compared exits by kind; system calls by name.
    pub exits_by_kind: BTreeMap<String, u64>,
    /// Pages brought in, by how they were found to be wanted.
    pub faults_by_rung: BTreeMap<&'static str, u64>,
    /// Answers of the outside, by name.
    pub answers_by_kind: BTreeMap<&'static str, u64>,
    /// Digest of the exits, 32 hexadecimal digits.
    pub digest: String,
    /// Whether the log was sealed.
    pub complete: bool,
    /// How it ends, in words.
    pub ending: String,
}

/// Kinds of exits that are told apart: more than Linux has system calls, and a log can name any number.
const MAX_KINDS: usize = 1000;

impl Recording {
    /// Reads the whole log and counts.
    ///
    /// # Errors
    /// Those of the log, except at its end: where that is damaged, what comes before is counted,
    /// and [`Info::ending`] says so.
    pub fn info(&self) -> Result<Info, Error> {
        let inner = &self.0;
        let mut info = Info { log_bytes: inner.file.len, exit_range: self.exit_range(), ..Info::default() };
        let mut digest = crate::RunDigest::new();
        for record in self.records() {
            match record {
                Ok(Record::Exit(exit)) => {
                    digest.add(&exit);
                    info.exits += 1;
                    let mut kind = kind_name(&exit.kind);
                    if info.exits_by_kind.len() >= MAX_KINDS && !info.exits_by_kind.contains_key(&kind) {
                        kind = "others".into();
                    }
                    *info.exits_by_kind.entry(kind).or_default() += 1;
                }
                Ok(Record::Fault(fault)) => {
                    *info.faults_by_rung.entry(rung_name(fault.rung)).or_default() += 1
                }
                Ok(Record::World(world)) => *info.answers_by_kind.entry(world.asked.name()).or_default() += 1,
                Ok(Record::Keyed(_)) => *info.answers_by_kind.entry("read-block").or_default() += 1,
                Err(Error::Corrupt { offset, .. }) if offset >= inner.stop => break,
                Err(e) => return Err(e),
            }
        }
        for entry in inner.blobs.values() {
            info.blobs += 1;
            info.blob_bytes += u64::from(entry.len);
            info.blob_stored_bytes += inner.file.header_at(entry.offset)?.block_len();
        }
        info.blocks = inner.block_count()?;
        if info.exits > 0 {
            info.bytes_per_exit =
                info.log_bytes.saturating_sub(info.blob_stored_bytes) as f64 / info.exits as f64;
        }
        info.digest = digest.to_string();
        info.complete = matches!(inner.ending, Ending::Sealed { .. });
        info.ending = inner.ending.to_string();
        Ok(info)
    }
}

impl super::open::Inner {
    /// Number of blocks, the end block included.
    fn block_count(&self) -> Result<u64, Error> {
        let mut count = 0;
        let mut offset = crate::format::ends::FILE_HEADER as u64;
        while offset < self.stop {
            offset += self.file.header_at(offset)?.block_len();
            count += 1;
        }
        Ok(count + u64::from(matches!(self.ending, Ending::Sealed { .. })))
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::manifest::RunEnd;
        match self {
            Ending::Sealed { end: RunEnd::Ended { status }, .. } => match status & 0x7f {
                0 => write!(f, "complete: the guest ended with status {}", status >> 8),
                signal => write!(f, "complete: the guest was ended by signal {signal}"),
            },
            Ending::Sealed { end: RunEnd::Stopped { why }, .. } => {
                write!(f, "complete: the run was stopped: {}", why.escape_debug())
            }
            Ending::Interrupted { offset } => {
                write!(f, "incomplete: the recorder did not finish; the log ends at byte {offset}")
            }
            Ending::Damaged { offset, why } => write!(f, "damaged at byte {offset}: {why}"),
        }
    }
}

fn kind_name(kind: &ExitKind) -> String {
    match kind {
        ExitKind::Syscall { number, .. } => call_name(*number).into_owned(),
        ExitKind::Instruction(Trapped::Rdtsc) => "rdtsc".into(),
        ExitKind::Instruction(Trapped::Rdtscp) => "rdtscp".into(),
        ExitKind::Instruction(Trapped::Rdrand) => "rdrand".into(),
        ExitKind::Instruction(Trapped::Rdseed) => "rdseed".into(),
        ExitKind::Instruction(Trapped::Pause) => "pause".into(),
        ExitKind::Instruction(Trapped::Rdpid) => "rdpid".into(),
        ExitKind::Instruction(Trapped::Xgetbv) => "xgetbv".into(),
        ExitKind::Instruction(Trapped::Cpuid { .. }) => "cpuid".into(),
        ExitKind::Exception { vector, .. } => format!("exception {vector}"),
        ExitKind::End { .. } => "end".into(),
        ExitKind::Timer { .. } => "timer".into(),
        ExitKind::Preempted { .. } => "preempted".into(),
        ExitKind::Sliced { .. } => "sliced".into(),
        ExitKind::Circle { .. } => "circle".into(),
        ExitKind::In { .. } => "in".into(),
        ExitKind::Out { .. } => "out".into(),
    }
}

/// The name of a rung, for people.
pub(crate) fn rung_name(rung: Rung) -> &'static str {
    match rung {
        Rung::Annotated => "annotated",
        Rung::Poison => "poison",
        Rung::Decode => "decode",
        Rung::Mmio => "mmio",
        Rung::Emulation => "emulation",
        Rung::Region => "region",
        Rung::Populate => "populate",
        Rung::Monitor => "monitor",
        Rung::Prefetch => "prefetch",
        Rung::Kept => "kept",
        Rung::Watchdog => "watchdog",
        Rung::Delivery => "delivery",
    }
}
