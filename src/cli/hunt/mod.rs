//! `dejavm hunt`: runs a program under many seeds until a run fails.

mod one;
mod runs;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::failure::say;
use super::guest::NewGuest;
use super::signals::Signals;
use super::{Failure, Result, Voice};
use runs::Runs;

/// The exit status when a run failed.
const FOUND: u8 = 1;

/// Runs a program many times, each time with another seed, until a run fails; keeps the recording of that.
///
/// A run fails when the program ends with another status than 0, by a signal, by its deadline, or waits for
/// what can never come. Of several that fail the one with the lowest seed is kept, so that the same hunt
/// finds the same. The program's output goes nowhere, and its standard input is empty; `dejavm replay` shows
/// what it wrote.
///
/// Run number N has the seed and, with --chaos, the scheduling of N more than what is given.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dejavm hunt -o DIR [OPTIONS] [--] PROGRAM [ARGS]...",
    after_help = "\
Exit status: 0 when no run failed, 1 when one failed and was kept, 125 when dejavm itself failed.

Examples:
  dejavm hunt -o crash --chaos --deadline 10s -- ./queue-test
  dejavm hunt -o crash -n 100000 --seed 5000 -- python3 test_threads.py
  dejavm replay crash"
)]
pub struct Args {
    /// The directory for the recording of the run that fails: made, or empty.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Runs at most.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    runs: u64,
    /// Runs at once [default: one for each CPU].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// The exit status of a run that is as it should be.
    #[arg(long, value_name = "STATUS", default_value_t = 0)]
    expect: u8,
    /// Gives each run this file as its standard input.
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Makes this one run, into a directory of its own: what a hunt starts.
    #[arg(long, hide = true, value_name = "N")]
    one: Option<u64>,
    #[command(flatten)]
    new: NewGuest,
}

pub fn main(mut args: Args, voice: Voice) -> Result {
    if let Some(number) = args.one {
        let dir = run_dir(&args.output, number);
        return one::main(number, &dir, &mut args.new, voice);
    }
    if args.new.is_bare_metal() {
        return Err(Failure::new("a bare-metal guest has no seed to hunt with: give a program"));
    }
    let signals = Signals::block()?;
    let made = dejavm::make_recording_dir(&args.output)?;
    let mut runs = Runs::new(&args)?;
    let progress = progress(args.runs, voice);
    // A signal ends the hunt as it would end the loading of a guest.
    let found = signals.while_loading(|stop| runs.hunt(&stop, |done| progress.set_position(done)));
    progress.finish_and_clear();
    let kept = match &found {
        Ok(Some(found)) => keep(&args.output, found.number),
        _ => Ok(()),
    };
    let dirs = runs.started().map(|number| run_dir(&args.output, number));
    dirs.for_each(|dir| drop(fs::remove_dir_all(dir)));
    let found = found?;
    kept.map_err(|e| Failure::new(format_args!("{}: {e}", args.output.display())))?;
    let Some(found) = found else {
        if made {
            let _ = fs::remove_dir(&args.output);
        }
        if !voice.quiet {
            let plural = if args.runs == 1 { "" } else { "s" };
            say(format_args!("no run of {} failed, in {} run{plural}", args.new.name(), args.runs));
        }
        return Ok(0);
    };
    if !voice.quiet {
        tell(&args, &found);
    }
    Ok(FOUND)
}

/// Says what was found.
fn tell(args: &Args, found: &one::Failed) {
    let seed = args.new.guest.seed.wrapping_add(found.number);
    let chaos = args.new.guest.chaos.map(|chaos| format!(" --chaos {}", chaos.wrapping_add(found.number)));
    say(format_args!(
        "run {} of {} (--seed {seed}{}): {}",
        found.number + 1,
        args.new.name(),
        chaos.unwrap_or_default(),
        found.verdict
    ));
    for line in found.said.lines() {
        say(format_args!("  {line}"));
    }
    say(format_args!(
        "its recording is {0}: dejavm replay {0}, or dejavm debug --end {0}",
        args.output.display()
    ));
}

/// Where a run is recorded.
fn run_dir(output: &Path, number: u64) -> PathBuf {
    output.join(format!("run-{number}"))
}

/// Moves the recording of a run to where it is kept: the manifest, which makes it a recording, last.
fn keep(output: &Path, number: u64) -> io::Result<()> {
    let dir = run_dir(output, number);
    let mut names = fs::read_dir(&dir)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(|name| name == dejavm::replay::MANIFEST_FILE);
    for name in names {
        fs::rename(dir.join(&name), output.join(&name))?;
    }
    File::open(output)?.sync_all()
}

fn progress(runs: u64, voice: Voice) -> ProgressBar {
    if voice.quiet {
        return ProgressBar::hidden();
    }
    let style = "{elapsed} [{bar:30}] {pos} of {len} runs, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(runs).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_that_is_kept_is_whole_when_its_manifest_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = run_dir(dir.path(), 3);
        fs::create_dir(&run).expect("a directory");
        for name in ["manifest.json", "log", "start.dvm"] {
            fs::write(run.join(name), name).expect("a file");
        }
        keep(dir.path(), 3).expect("kept");
        for name in ["manifest.json", "log", "start.dvm"] {
            assert_eq!(fs::read_to_string(dir.path().join(name)).expect("a file"), name);
        }
        assert!(fs::read_dir(run).expect("still there").next().is_none());
    }
}
