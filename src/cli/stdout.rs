//! `dejavm stdout`

use std::path::PathBuf;

use dejavm::replay::Recording;
use dejavm::{Outcome, Sink};

use super::decoding::DecodeOptions;
use super::failure::say;
use super::{Failure, Result, confine};

/// Writes what a recorded program wrote to its standard output, and nothing else.
///
/// The recording is replayed for it, since a log keeps only the digest of what was written. The exit status is 0
/// however the program ended, 122 when the replay did something else than the recorded run, and else 125.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm stdout rec
  dejavm stdout rec --stderr | less
  diff <(dejavm stdout one) <(dejavm stdout two)")]
pub struct Args {
    /// The recording: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    dir: PathBuf,
    /// What it wrote to its standard error instead.
    #[arg(long)]
    stderr: bool,
    #[command(flatten)]
    decode: DecodeOptions,
}

pub fn main(args: Args) -> Result {
    let recording = Recording::open(&args.dir)?;
    let host = super::host()?;
    let replay = args.decode.replay.replay(&recording);
    let replay = match args.stderr {
        true => replay.stderr(Sink::stdout()),
        false => replay.stdout(Sink::stdout()),
    };
    let mut sandbox = replay.start(&host)?;
    confine::confine(&sandbox, args.decode.no_confine, None)?;
    let report = sandbox.run()?;
    if let Some(errno) = report.output_error {
        return Err(Failure::output(errno));
    }
    if matches!(report.outcome, Outcome::LogEnds | Outcome::Stopped | Outcome::Deadline) {
        say(format_args!("{}: the recording ends here, at exit {}", args.dir.display(), report.exits));
    }
    Ok(0)
}
