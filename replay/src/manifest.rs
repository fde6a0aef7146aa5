//! `manifest.json`: what a recording is, for people and tools.

use std::io::{Read, Write};
use std::path::Path;

use dejavm_sandbox::guest::Anew;
use dejavm_snapshot::{ContentId, NewFile, Place};
use serde::{Deserialize, Serialize};

use crate::digest::RunDigest;
use crate::error::Error;
use crate::format::FORMAT_VERSION;
use crate::home::Home;

/// File name of the manifest in a recording's directory.
pub const MANIFEST_FILE: &str = "manifest.json";

/// File name of the log in a recording's directory.
pub const LOG_FILE: &str = "log";

/// File name that the start snapshot has by custom; the manifest names it.
pub const START_FILE: &str = "start.dvm";

/// Longest manifest that is read, bytes.
const MAX_MANIFEST: u64 = 1 << 20;

/// How a recorded run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunEnd {
    /// The guest ended, and the log's last exit says so.
    Ended {
        /// As `wait4` would give it: `status << 8`, or the signal's number.
        status: i32,
    },
    /// The run was stopped before the guest ended: a deadline, a limit, an error. A replay stops at
    /// the same place.
    Stopped {
        /// Why, for people.
        why: String,
    },
}

/// Why a run was stopped whose log came to its limit ([`RunEnd::Stopped`]).
pub const LOG_FULL: &str = "log-full";

/// Why a run was stopped in which nothing could ever go on ([`RunEnd::Stopped`]).
pub const STUCK: &str = "stuck";

/// Longest reason that is kept, bytes.
const MAX_WHY: usize = 4 << 10;

impl RunEnd {
    /// The end of a log that came to its limit.
    pub(crate) fn log_full() -> RunEnd {
        RunEnd::Stopped { why: LOG_FULL.into() }
    }

    /// With a reason of bounded length.
    pub(crate) fn shortened(mut self) -> RunEnd {
        if let RunEnd::Stopped { why } = &mut self {
            let fits = |end: &usize| *end <= MAX_WHY && why.is_char_boundary(*end);
            let end = (0..=why.len()).rev().find(fits).unwrap_or(0);
            why.truncate(end);
        }
        self
    }
}

/// What a recording is. The embedder fills in what it knows; [`crate::Recorder`] keeps the last
/// four fields, and `log`, `dropped` and `checkpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version of the recording, [`FORMAT_VERSION`] for a new one.
    pub format: u32,
    /// What wrote it, such as `dejavm 0.1.0`.
    pub created_by: String,
    /// The guest's command line; bytes that are not UTF-8 are replaced.
    pub command: Vec<String>,
    /// The run's seed.
    pub seed: u64,
    /// What the run did not go on with as the start snapshot has it.
    #[serde(default, skip_serializing_if = "Anew::is_nothing")]
    pub anew: Anew,
    /// The instant at which the guest's clock started, nanoseconds since the Unix epoch.
    pub start: u64,
    /// The clock's mode, such as `virtual`.
    pub clock: String,
    /// The snapshot that the run started from.
    pub snapshot: SnapshotRef,
    /// File name of the log in the recording's directory, [`LOG_FILE`] but for a ring that was cut: no slash.
    #[serde(default = "log_file", skip_serializing_if = "is_log_file")]
    pub log: String,
    /// Number of compared exits that came before the start snapshot and were dropped: those of a ring.
    #[serde(default, skip_serializing_if = "is_none")]
    pub dropped: u64,
    /// Checkpoints, in the order of their exits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<CheckpointRef>,
    /// The identity of the CPU features that the guest saw.
    pub cpu: String,
    /// Whether the log was sealed.
    #[serde(default)]
    pub complete: bool,
    /// How the run ended; `None` while it is being recorded, or when the recorder was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<RunEnd>,
    /// Number of compared exits in a sealed log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exits: Option<u64>,
    /// Digest of them, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

fn log_file() -> String {
    LOG_FILE.into()
}

fn is_log_file(name: &str) -> bool {
    name == LOG_FILE
}

fn is_none(number: &u64) -> bool {
    *number == 0
}

/// A checkpoint of a recorded run. None is needed to replay it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// The compared exit behind which it was made.
    pub exit: u64,
    /// Where it is.
    pub snapshot: SnapshotRef,
}

/// The start snapshot of a recording, or another one that is beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// Its file name in the recording's directory: no slash.
    pub file: String,
    /// Its content id.
    pub id: ContentId,
}

/// Whether a file is on the disk when the call that wrote it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durable {
    /// It is.
    Now,
    /// The caller sees to it.
    Later,
}

impl Manifest {
    /// A manifest for a new recording. The seed and the start are 0, the clock `virtual`, and the
    /// rest is empty: fill in what is known.
    pub fn new(snapshot_id: ContentId) -> Manifest {
        Manifest {
            format: FORMAT_VERSION,
            created_by: concat!("dejavm ", env!("CARGO_PKG_VERSION")).into(),
            command: Vec::new(),
            seed: 0,
            anew: Anew::default(),
            start: 0,
            clock: "virtual".into(),
            snapshot: SnapshotRef { file: START_FILE.into(), id: snapshot_id },
            log: LOG_FILE.into(),
            dropped: 0,
            checkpoints: Vec::new(),
            cpu: String::new(),
            complete: false,
            end: None,
            exits: None,
            digest: None,
        }
    }

    /// Reads and checks the manifest of a recording, a directory or a pack.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Manifest`] or [`Error::NewerVersion`]; and what is wrong with a pack.
    pub fn read(path: &Path) -> Result<Manifest, Error> {
        Manifest::read_at(&Home::open(path)?.place(MANIFEST_FILE))
    }

    pub(crate) fn read_at(place: &Place) -> Result<Manifest, Error> {
        /// The one field that every version has.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let path = place.path().to_owned();
        let bad = |why: String| Error::Manifest { path: path.clone(), why };
        let bytes = place.open().map_err(|e| Error::io("open", &path, e))?;
        if bytes.length() > MAX_MANIFEST {
            return Err(bad(format!("longer than {MAX_MANIFEST} bytes")));
        }
        let mut text = Vec::new();
        bytes.reader().read_to_end(&mut text).map_err(|e| Error::io("read", &path, e))?;
        let Version { format: found } = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        if found > FORMAT_VERSION {
            return Err(Error::NewerVersion { path, found, supported: FORMAT_VERSION });
        }
        if found < FORMAT_VERSION {
            return Err(Error::OlderVersion { path, found, supported: FORMAT_VERSION });
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        manifest.check().map_err(bad)?;
        Ok(manifest)
    }

    /// Puts the manifest into `dir` in one step: a reader sees the old one or the new one.
    pub(crate) fn write(&self, dir: &Path, durable: Durable) -> Result<(), Error> {
        let path = dir.join(MANIFEST_FILE);
        let text = self.to_text().map_err(|why| Error::Manifest { path: path.clone(), why })?;
        let write = || -> std::io::Result<()> {
            let mut file = NewFile::create(&path)?;
            file.write_all(&text)?;
            file.finish(durable == Durable::Now)
        };
        write().map_err(|e| Error::io("write", &path, e))
    }

    /// The file's text.
    pub(crate) fn to_text(&self) -> Result<Vec<u8>, String> {
        self.check()?;
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| e.to_string())?;
        text.push(b'\n');
        Ok(text)
    }

    /// What is wrong with it, if anything.
    fn check(&self) -> Result<(), String> {
        if self.format == 0 {
            return Err("there is no format version 0".into());
        }
        let kept = self.checkpoints.iter().map(|checkpoint| &checkpoint.snapshot);
        let snapshots = [&self.snapshot].into_iter().chain(kept).map(|snapshot| ("snapshot", &snapshot.file));
        for (what, file) in snapshots.chain([("log", &self.log)]) {
            let plain = !file.contains('/') && !file.contains(char::is_control);
            if file.is_empty() || file == "." || file == ".." || !plain {
                return Err(format!("a {what} must be a file beside it, not {file:?}"));
            }
        }
        if !self.checkpoints.is_sorted_by(|one, next| one.exit < next.exit) {
            return Err("its checkpoints are not in order".into());
        }
        if let Some(digest) = &self.digest
            && RunDigest::from_hex(digest).is_none()
        {
            return Err(format!("{digest:?} is not a digest"));
        }
        Ok(())
    }
}
