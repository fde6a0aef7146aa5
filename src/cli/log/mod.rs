//! `dejavm log`

pub mod filter;
mod show;
pub mod summary;

use std::path::PathBuf;

use dejavm::replay::text::STRING_BYTES;
use dejavm::replay::{Ending, Recording};

use super::decoding::{DecodeOptions, Look};
use super::failure::say;
use super::{Failure, Result, parse};
use filter::{Expression, Filter};
pub use show::wants_colour;
use show::{Printer, Style};

/// Shows the exits of a recording, as strace would.
///
/// The recording is replayed meanwhile, for what the arguments of system calls point to: paths, bytes,
/// structures. What cannot be replayed here is shown without, and standard error says why.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm log rec
  dejavm log rec -e trace=file,!readlink
  dejavm log rec -e execve,%process -s 200
  dejavm log rec -T -p 3 --from 1000 --to 2000
  dejavm log rec -c
  dejavm log rec --raw --faults
  dejavm log rec --json | jq -r 'select(.call == \"openat\").decoded'
  dejavm log rec --digest")]
pub struct Args {
    /// The recording: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    dir: PathBuf,
    /// Shows only these system calls: trace=NAMES or NAMES, with commas; classes are file, process,
    /// network, signal, ipc, desc, memory and clock, with or without %; a ! in front of all means all
    /// others. Exceptions and ends are always shown. `fault` shows page faults, too.
    #[arg(short, value_name = "EXPRESSION", value_parser = filter::expression)]
    e: Vec<Expression>,
    /// Shows only this task's exits. May be repeated.
    #[arg(short, value_name = "TASK")]
    p: Vec<u32>,
    /// Nothing: each line names its task anyway, once there are several.
    #[arg(short)]
    f: bool,
    /// Shows the virtual time that passed since the exit before, in seconds.
    #[arg(short = 'T')]
    times: bool,
    /// Only a table of the calls: how many, how many failed, how much virtual time passed.
    #[arg(short, conflicts_with_all = ["json", "faults", "answers", "times"])]
    c: bool,
    /// Bytes of strings and buffers that are shown. Paths are shown whole.
    #[arg(short, value_name = "N", default_value_t = STRING_BYTES, value_parser = parse::strings)]
    s: usize,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Only one number for all exits together: runs with the same one made the same exits.
    #[arg(long, conflicts_with_all = ["json", "from", "to", "faults", "answers", "c", "e", "p", "times"])]
    digest: bool,
    /// Starts at this exit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Stops behind this exit.
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Page faults too.
    #[arg(long)]
    faults: bool,
    /// Questions to the outside and their answers too.
    #[arg(long)]
    answers: bool,
    /// Shows what is in the log and nothing more; replays nothing.
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    decode: DecodeOptions,
}

pub fn main(args: Args) -> Result {
    let recording = Recording::open(&args.dir)?;
    if args.digest {
        use std::io::Write;
        writeln!(std::io::stdout(), "{}", recording.digest()?)?;
        return Ok(0);
    }
    // As with strace, the last list of calls counts.
    let calls = args.e.iter().rev().find_map(|e| match e {
        Expression::Trace(calls) => Some(calls.clone()),
        Expression::Faults => None,
    });
    let filter = Filter { calls, tasks: args.p.iter().copied().collect(), from: args.from, to: args.to };
    let style = Style {
        json: args.json,
        raw: args.raw,
        faults: args.faults || args.e.contains(&Expression::Faults),
        answers: args.answers,
        times: args.times,
        strings: args.s,
        colour: wants_colour(),
    };
    let printer = Look::new(Printer::new(&recording, filter, style, args.c));
    if !args.raw && !args.c {
        decode(&recording, &args.decode, &printer);
    }
    printer.with(Printer::finish)?;
    match recording.ending() {
        Ending::Sealed { .. } => Ok(0),
        Ending::Damaged { .. } if args.to.is_none() => {
            Err(Failure::new(format_args!("{}: {}", args.dir.display(), recording.ending())))
        }
        ending if args.to.is_none() => {
            say(format_args!("{}: {ending}", args.dir.display()));
            Ok(0)
        }
        _ => Ok(0),
    }
}

/// Shows as much as a replay comes by, and says what it did not.
fn decode(recording: &Recording, options: &DecodeOptions, printer: &Look<Printer>) {
    let Some(why) = printer.at(recording, options, None) else { return };
    let from = match printer.with(|printer| printer.last()) {
        0 => String::new(),
        last => format!(" from exit {} on", last.saturating_add(1)),
    };
    say(format_args!("arguments are not decoded{from}: {why}"));
}
