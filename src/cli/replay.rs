//! `dejavm replay`

use std::path::PathBuf;

use dejavm::Replay;

use super::conclude::conclude;
use super::failure::shown;
use super::options::{CeilingOptions, RunOptions, ViewOptions, apply};
use super::{Failure, Result, Voice, confine};

/// Does a recorded run again: the same output, the same exit status.
///
/// Every exit is compared with the recorded one. When one differs, the run ends with status 122 and
/// a report of what differed. A recording that was interrupted is replayed to its end, with status
/// 120; one of a run that its deadline ended, with status 124. Output that cannot be written is an
/// error, with status 125, once the run is through.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm replay rec
  dejavm replay rec --stats
  dejavm replay rec --live < more-input")]
pub struct Args {
    /// The recording: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    dir: PathBuf,
    /// Goes on live where the log of an interrupted or stopped run ends.
    #[arg(long)]
    live: bool,
    /// Runs on a CPU below the level of the recorded run's.
    #[arg(long)]
    any_cpu: bool,
    #[command(flatten)]
    ceilings: CeilingOptions,
    #[command(flatten)]
    view: ViewOptions,
    #[command(flatten)]
    run: RunOptions,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let host = super::host()?;
    let mut replay = Replay::open(&args.dir)?.any_cpu(args.any_cpu);
    replay = replay.memory(args.ceilings.memory).disk(args.ceilings.disk);
    if args.live {
        replay = replay.then_live(args.view.view(voice)?);
    }
    let name = replay.recording().manifest().command.first().map(|name| shown(name)).unwrap_or_default();
    let mut sandbox = apply!(&args.run, replay).start(&host)?;
    confine::confine(&sandbox, args.run.no_confine, None)?;
    let report = sandbox.run()?;
    let status = conclude(&report, &name, &args.run, voice);
    match report.output_error {
        Some(errno) => Err(Failure::output(errno)),
        None => Ok(status),
    }
}
