//! `dejavm snapshot`

use std::path::PathBuf;

use dejavm::{Outcome, PauseAt, WriteOptions};

use super::conclude::conclude;
use super::failure::say;
use super::guest::NewGuest;
use super::progress::Progress;
use super::stats::bytes;
use super::{Failure, Result, Voice, confine, parse, streams};

/// Runs a program up to a point and keeps it there, in a file that `restore` goes on from.
///
/// The program takes its standard streams for pipes, wherever they lead here, since it will see
/// others when it is restored; one that is closed here is closed for it.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dejavm snapshot -o FILE [OPTIONS] [--] PROGRAM [ARGS]...\n       dejavm snapshot -o FILE [OPTIONS] --kernel IMAGE",
    after_help = "\
Points:
  ready       when the program writes the word snapshot to /dev/dejavm, or a bare-metal guest writes
              to port 0xf5
  first-read  before it first reads its standard input
  first-output
              after its first write to standard output
  exit:N      after its exit number N, as `dejavm log` counts them
  serial:TEXT when a bare-metal guest has sent this text to its serial port

Examples:
  dejavm snapshot -o sh.dvm -- sh -c 'x=1; echo snapshot >/dev/dejavm; echo $x'
  dejavm snapshot -o py.dvm --at first-read -- python3 -c 'import json,sys; print(eval(sys.stdin.read()))'
  dejavm snapshot -o guest.dvm --at serial:ready --kernel target/guests/guest
  echo '6*7' | dejavm restore py.dvm"
)]
pub struct Args {
    /// The file; one that is there is replaced.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The point: ready, first-read, first-output, exit:N or serial:TEXT.
    #[arg(long, value_name = "POINT", default_value = "ready", value_parser = parse::pause)]
    at: PauseAt,
    /// How hard to compress, from 1 (fast) to 22 (small).
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// Also keeps the content of the host's files that the program has looked at, so that it is restored
    /// on hosts that lack them.
    #[arg(long)]
    with_files: bool,
    #[command(flatten)]
    new: NewGuest,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let host = super::host()?;
    let name = args.new.name();
    let mut sandbox = args.new.start(streams::to_keep(), None, &host, None, voice)?;
    confine::confine(&sandbox, args.new.run.no_confine, Some(&args.output))?;
    let outcome = sandbox.run_until(args.at.clone())?;
    if outcome != Outcome::Paused {
        let report = sandbox.report(outcome);
        let status = conclude(&report, &name, &args.new.run, voice);
        if outcome == Outcome::Deadline {
            return Ok(status);
        }
        return Err(Failure::new(format_args!(
            "{name} ended with status {status} before it {}: no snapshot was written",
            point(&args.at)
        )));
    }
    let options = WriteOptions { level: args.level, ..WriteOptions::default() };
    sandbox.keep_host_files(args.with_files);
    let mut bar = Progress::new(voice);
    let summary = sandbox.snapshot_with(&args.output, &options, &mut |done, total| bar.show(done, total))?;
    bar.done();
    if !voice.quiet {
        let pages = &summary.pages;
        say(format_args!(
            "{}: {}, {} pages stored, {} repeated, {} zero; exit {}",
            args.output.display(),
            bytes(summary.file_bytes),
            pages.stored(),
            pages.repeated,
            pages.zero,
            sandbox.exits()
        ));
    }
    Ok(0)
}

/// The point in words.
fn point(at: &PauseAt) -> String {
    match at {
        PauseAt::Ready => "wrote `snapshot` to /dev/dejavm, or to port 0xf5".into(),
        PauseAt::Serial(text) => format!("sent {:?} to its serial port", String::from_utf8_lossy(text)),
        PauseAt::FirstRead => "read its standard input".into(),
        PauseAt::FirstOutput => "wrote to its standard output".into(),
        PauseAt::Exit(n) => format!("came to exit {n}"),
        PauseAt::Never => "paused".into(),
    }
}
