//! `dejavm warm`

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use dejavm::{Image, Input};

use super::options::{CeilingOptions, ViewOptions};
use super::stats::bytes;
use super::{Failure, Result, Voice, confine, parse, streams};

/// Stores in a snapshot which pages a run wants, so that restores bring them in beforehand.
///
/// What it wants before its first output comes in before the guest starts, the rest in clusters. The snapshot is restored once for that. The run's output goes nowhere. Its input should be like that of the runs to come.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  echo '6*7' | dejavm warm py.dvm
  dejavm warm py.dvm --stdin typical-input")]
pub struct Args {
    /// The snapshot.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The run's standard input [default: this one; nothing when it is a terminal].
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Ends the run after this time. What it wanted until then is stored.
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    deadline: Option<Duration>,
    /// Runs on a CPU below the level of the snapshot's.
    #[arg(long)]
    any_cpu: bool,
    /// Leaves this process as it is, as with `dejavm run --no-confine`.
    #[arg(long)]
    no_confine: bool,
    #[command(flatten)]
    ceilings: CeilingOptions,
    #[command(flatten)]
    view: ViewOptions,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let host = super::host()?;
    let input = match &args.stdin {
        Some(path) => {
            let file = File::open(path)
                .map_err(|e| Failure::new(format_args!("--stdin {}: {e}", path.display())))?;
            Input::from_fd(file)
        }
        None if streams::stdin_is_terminal() => Input::Empty,
        None => Input::HostStdin,
    };
    let image = Image::open(&args.file)?;
    args.view.check(&image, &args.file)?;
    let mut restore = image.restore().any_cpu(args.any_cpu).view(args.view.view(voice)?).stdin_from(input);
    restore = restore.memory(args.ceilings.memory).disk(args.ceilings.disk);
    if let Some(time) = args.deadline {
        restore = restore.deadline(time);
    }
    let (report, info) =
        restore.warm_with(&host, |sandbox| confine::confine(sandbox, args.no_confine, Some(&args.file)))?;
    writeln!(
        std::io::stdout(),
        "{}: working set of {} pages ({} zero) in {} clusters, {} of them wanted before the first output, {}; \
         the run: {:?}, {} faults",
        args.file.display(),
        info.pages,
        info.zero_pages,
        info.clusters,
        info.first_clusters,
        bytes(info.bytes),
        report.outcome,
        report.stats.faults()
    )?;
    Ok(0)
}
