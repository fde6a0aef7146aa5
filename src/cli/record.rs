//! `dejavm record`

use std::path::PathBuf;
use std::time::Duration;

use super::conclude;
use super::guest::{NewGuest, Recorded};
use super::signals::Signals;
use super::{Result, Voice, confine, parse, streams};

/// Runs a program in a sandbox and records the run.
///
/// The directory gets the state before the program was loaded, a log of the run's exits with all
/// that came from outside, and a manifest. A recording whose making was interrupted can be replayed
/// as far as it goes.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dejavm record -o DIR [OPTIONS] [--] PROGRAM [ARGS]...\n       dejavm record -o DIR [OPTIONS] --kernel IMAGE",
    after_help = "\
Examples:
  dejavm record -o rec -- sqlite3 :memory: 'select random()'
  dejavm record -o rec --clock host -- date
  dejavm record -o rec --ring 200M -- python3 service.py
  dejavm record -o rec --kernel target/guests/guest < words
  dejavm replay rec
  dejavm log rec"
)]
pub struct Args {
    /// The directory for the recording: made, or empty.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Ends the run, with exit status 119, when the log would pass this size, such as 100M. What was
    /// recorded until then can be replayed.
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    max_log: Option<u64>,
    /// Keeps the program's state each time that so much has passed, such as 1s, so that debugging begins at
    /// the end without running there again. Of a long run the last ones are kept, and some before them.
    #[arg(long, value_name = "EVERY", value_parser = parse::duration, conflicts_with = "kernel")]
    checkpoints: Option<Duration>,
    /// Keeps only the last part of the run, for one that goes on for days: a third of this size at least, such as
    /// 100M, of the log, which takes no more, and the program's state where that begins. The directory holds a
    /// recording at any moment, whenever dejavm is killed.
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = parse::ring,
        conflicts_with_all = ["kernel", "max_log"]
    )]
    ring: Option<u64>,
    #[command(flatten)]
    new: NewGuest,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let signals = Signals::block()?;
    let host = super::host()?;
    let recorded =
        Recorded { dir: &args.output, max_log: args.max_log, checkpoints: args.checkpoints, ring: args.ring };
    let sandbox = signals.while_loading(|stop| {
        args.new.start(streams::to_record(), Some(recorded), &host, Some(stop), voice)
    })?;
    confine::confine(&sandbox, args.new.run.no_confine, None)?;
    let recording = (!args.new.is_bare_metal()).then_some(&*args.output);
    conclude::run(sandbox, &signals, &args.new.name(), &args.new.run, recording, voice)
}
