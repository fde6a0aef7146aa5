//! `dejavm find`

mod events;
mod grammar;
mod writes;

use std::path::PathBuf;

use dejavm::Image;
use dejavm::replay::Recording;

use super::decoding::{DecodeOptions, Look};
use super::hits::{HitOptions, Hits};
use super::{Failure, Result};
use events::Events;
use grammar::Query;
pub use grammar::{MOST_WATCHED, memory};
pub use writes::watch;

/// Finds where something happened in a recording: prints positions for `dejavm debug --at`, and what is there.
///
/// A line is a position, a tab, and what was found. EXIT- is the moment before an exit is made: a call's
/// arguments are in the registers. Behind an exit, EXIT, are exceptions, and signals that end or stop a process; at EXIT+1
/// a signal's handler begins. The exit status is 0 when something was found, 1 when nothing was, and else 125.
///
/// The recording is replayed for it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What can be looked for:
  call NAME[,NAME]...      these system calls; classes as %file, and ! for all others, as with dejavm log -e
  open PATH                calls that open or create a file
  write TEXT               calls that write this text; \\n, \\t, \\0, \\xNN and \\\\ are what they are in C
  write to PATH            calls that write to a file, by its descriptors
  write to 0xADDRESS[:LEN] where memory of the first process changes (8 bytes unless LEN is given); alone
  failed [ERRNO]           calls that failed, with this error
  exit [status] [!=] [N]   ends of processes, with this exit status or with another one; of those that a signal
                           ended it is 128 and the signal's number
  signal [NAME]            signals that were taken to a handler, or that ended or stopped a process
  fault                    exceptions
  exec [PATH]              programs that were executed
Joined by: and, or (and binds closer); not stands in front. A PATH is a pattern: * and ? stand for what is in
one name, ** for anything; without a slash in front it is the end of a path.

Examples:
  dejavm find rec open '*.conf'
  dejavm find rec open /etc/** and failed ENOENT
  dejavm find rec write 'Segmentation fault'
  dejavm find rec exit status != 0
  dejavm find rec signal SIGCHLD or exec
  dejavm find rec --last write to 0x7ffe1040:4
  dejavm debug rec --at \"$(dejavm find rec --first write to result.txt | cut -f1)\"")]
pub struct Args {
    /// The recording: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    dir: PathBuf,
    /// What to look for, in one word or several.
    #[arg(value_name = "EXPRESSION", required = true)]
    expression: Vec<String>,
    /// Only what this task does (of memory: the process). May be repeated.
    #[arg(short, value_name = "TASK")]
    p: Vec<u32>,
    #[command(flatten)]
    hits: HitOptions,
    #[command(flatten)]
    decode: DecodeOptions,
}

pub fn main(args: Args) -> Result {
    let query = grammar::query(&args.expression).map_err(Failure::new)?;
    let recording = Recording::open(&args.dir)?;
    if Image::of_start(&recording)?.state().program().is_none() {
        return Err(Failure::new("a bare-metal guest makes no system calls: see dejavm log"));
    }
    let mut hits = Hits::new(&args.hits, u64::MAX);
    match query {
        Query::Events(terms) => {
            let events = Look::new(Events::new(terms, args.p, hits));
            let fell_short = events.at(&recording, &args.decode, None);
            events.with(|events| events.hits.finish(fell_short))
        }
        Query::Writes(range) => {
            let host = super::host()?;
            let mut timeline = args.decode.replay.replay(&recording).timeline(&host)?;
            let process = match args.p[..] {
                [] => None,
                [process] => Some(process),
                _ => return Err(Failure::new("memory is that of one process: give -p once")),
            };
            let watched = watch(&mut timeline, process, &range, &mut |hit| {
                hits.add(hit);
                !hits.are_enough()
            });
            let status = hits.finish(None);
            watched.and(status)
        }
    }
}
