//! `dejavm trace`

mod packets;
mod proto;
mod tasks;
mod tracer;

use std::path::PathBuf;

use dejavm::replay::text::STRING_BYTES;
use dejavm::replay::{Ending, Record, Recording};

use super::decoding::{DecodeOptions, Look};
use super::failure::say;
use super::output::Output;
use super::{Failure, Result, parse};
use tracer::Tracer;

/// Writes what happened in a recording as a trace for ui.perfetto.dev.
///
/// Processes and tasks are tracks: their system calls, with what was given and what came of it, when they ran and
/// what they waited for, signals, exceptions and page faults, and counters of the memory that a process has mapped
/// and of its descriptors. Time is the recording's virtual time, in which an exit takes 10 us.
///
/// The recording is replayed for it. What cannot be replayed here is traced without what a replay tells, and
/// standard error says why.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm trace rec -o rec.pftrace
  dejavm trace rec -o - | gzip > rec.pftrace.gz")]
pub struct Args {
    /// The recording: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    dir: PathBuf,
    /// The file to write; - is standard output.
    #[arg(short, value_name = "FILE")]
    output: PathBuf,
    /// Bytes of strings and buffers that are shown. Paths are shown whole.
    #[arg(short, value_name = "N", default_value_t = STRING_BYTES, value_parser = parse::strings)]
    s: usize,
    #[command(flatten)]
    decode: DecodeOptions,
}

pub fn main(args: Args) -> Result {
    let recording = Recording::open(&args.dir)?;
    if recording.manifest().clock == "none" {
        return Err(Failure::new("a bare-metal guest has no virtual time to trace it by"));
    }
    let out = Output::create(&args.output)?;
    let renamed = out.renamed().map(PathBuf::from);
    let tracer = Look::new(Tracer::new(&recording, out, args.s));
    let shortfall = tracer.at(&recording, &args.decode, renamed.as_deref());
    let Some(mut tracer) = tracer.into_viewer() else {
        return Err(Failure::new("the replay has not ended"));
    };
    let from = tracer.last().saturating_add(1);
    if let Some(why) = shortfall {
        say(format_args!("from exit {from} on, only what the log has is traced: {why}"));
    }
    // What is wrong with the log, the tracer comes upon too.
    for record in recording.records_from(from).map_while(std::result::Result::ok) {
        if let Record::Exit(exit) = record
            && !tracer.without_memory(&exit)
        {
            break;
        }
    }
    tracer.finish()?;
    if !matches!(recording.ending(), Ending::Sealed { .. }) {
        say(format_args!("{}: {}", args.dir.display(), recording.ending()));
    }
    Ok(0)
}
