//! Without a subcommand: a campaign.

use std::path::PathBuf;
use std::time::Duration;

use libafl::mutators::Tokens;

use super::failure::{Failure, status};
use super::options::TargetOptions;
use super::signals::stop_flag;
use super::{Result, parse};
use crate::campaign::{Campaign, Plan};

/// A campaign.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The campaign")]
pub struct Args {
    /// First inputs: a file, or all files of a directory [default: one of two bytes].
    #[arg(short = 'i', long, value_name = "SEEDS")]
    input: Option<PathBuf>,
    /// Where the queue, crashes and hangs are kept. If there is a queue, the campaign goes on.
    #[arg(short, long, value_name = "OUT", default_value = "fuzz-out")]
    output: PathBuf,
    /// Ends after this time; without a unit, seconds.
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    max_total_time: Option<Duration>,
    /// Ends after so many runs, those of the first inputs included.
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Ends when a crash is found that is not there yet.
    #[arg(long)]
    until_crash: bool,
    /// Words that inputs are made of: a dictionary of AFL's.
    #[arg(short = 'x', long, value_name = "DICT")]
    dict: Vec<PathBuf>,
    /// The most bytes of an input.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = parse::size)]
    max_len: u64,
    /// The seed of all chance [default: another one each time; with --deterministic, 1].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The same seed, first inputs and target give the same queue, byte by byte. Only a run that comes near its time
    /// limit may go either way.
    #[arg(long)]
    deterministic: bool,
    /// Says how far it is in JSON, an object a line, on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

pub fn main(args: Args) -> Result {
    let target = args.target.target()?;
    let words = dictionary(&args.dict)?;
    let host = super::host()?;
    let plan = Plan {
        target,
        banner: args.target.name(),
        command_line: command_line(),
        seeds: args.input,
        out: args.output,
        words,
        seed: args.seed.unwrap_or_else(|| if args.deterministic { 1 } else { chance() }),
        deterministic: args.deterministic,
        max_len: usize::try_from(args.max_len).unwrap_or(usize::MAX),
        max_runs: args.runs,
        until_crash: args.until_crash,
        max_time: args.max_total_time,
        json: args.json,
        stop: stop_flag().map_err(|e| Failure::new(format_args!("cannot wait for signals: {e}")))?,
    };
    let crashes = Campaign::start(plan, &host)?.run()?;
    Ok(if crashes > 0 { status::CRASHED } else { 0 })
}

fn dictionary(paths: &[PathBuf]) -> Result<Tokens> {
    let mut words = Tokens::new();
    for path in paths {
        // LibAFL panics at what is not UTF-8.
        let text =
            std::fs::read(path).map_err(|e| Failure::usage(format_args!("-x {}: {e}", path.display())))?;
        if std::str::from_utf8(&text).is_err() {
            return Err(Failure::usage(format_args!(
                "-x {}: not a dictionary: write bytes beyond ASCII as \\xNN",
                path.display()
            )));
        }
        words.add_from_file(path).map_err(|e| {
            Failure::usage(format_args!("-x {}: not a dictionary of AFL's: {e}", path.display()))
        })?;
    }
    Ok(words)
}

/// A seed that nobody chose.
fn chance() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

fn command_line() -> String {
    std::env::args_os().map(|word| word.to_string_lossy().replace('\n', " ")).collect::<Vec<_>>().join(" ")
}
