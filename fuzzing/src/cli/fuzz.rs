//! Without a subcommand: a campaign.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use libafl::mutators::Tokens;

use super::failure::{Failure, status};
use super::options::TargetOptions;
use super::signals::stop_flag;
use super::{Result, parse};
use crate::campaign::{Campaign, Event, Exchange, Manner, Plan, Voice};
use crate::cores::{self, Ending, Place};

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
    /// Does not add the words that the covered code compares with: numbers, and text that it has the address of.
    #[arg(long)]
    no_own_words: bool,
    /// The most bytes of an input.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = parse::size)]
    max_len: u64,
    /// The seed of all chance [default: another one each time; with --deterministic, 1].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The same seed, first inputs and target give the same queue, byte by byte. Only a run that comes near its time
    /// limit may go either way.
    #[arg(long, conflicts_with_all = ["cores", "listen", "peer"])]
    deterministic: bool,
    /// On how many cores it fuzzes, or "all": with a process for each, which has a directory of its own in OUT and gets
    /// what the others find.
    #[arg(short = 'j', long, value_name = "CORES", default_value = "1", value_parser = parse::cores)]
    cores: usize,
    /// Lets campaigns on other machines exchange inputs with this one, at this port of the loopback interface: reach it
    /// through ssh, for nobody is asked who they are.
    #[arg(long, value_name = "PORT")]
    listen: Option<u16>,
    /// Exchanges inputs with the campaign that listens there. May be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    peer: Vec<String>,
    /// Says how far it is in JSON, an object a line, on standard output.
    #[arg(long)]
    json: bool,
    /// This process is for a core of those.
    #[arg(long, hide = true)]
    core: Option<Place>,
    #[command(flatten)]
    target: TargetOptions,
}

pub fn main(args: Args) -> Result {
    let stop = stop_flag().map_err(|e| Failure::new(format_args!("cannot wait for signals: {e}")))?;
    if let Some(place) = args.core {
        return Ok(core(args, place, stop));
    }
    let is_alone = args.cores == 1 && args.listen.is_none() && args.peer.is_empty();
    if is_alone {
        return campaign(args, None, stop);
    }
    let plan = cores::Plan {
        cores: args.cores,
        listen: args.listen.unwrap_or(0),
        peers: args.peer,
        until_crash: args.until_crash,
        manner: Manner::new(args.json),
        out: args.output,
        stop,
    };
    match cores::run(plan).map_err(Failure::new)? {
        Ending::Done { crashes } => Ok(status_with(crashes)),
        Ending::Failed { status } => Ok(status),
    }
}

/// One of several processes. Why it fails is said by the one that started it.
fn core(args: Args, place: Place, stop: Arc<AtomicBool>) -> u8 {
    let result = match cores::die_with_parent() {
        Ok(()) => campaign(args, Some(place), stop),
        Err(e) => Err(Failure::new(e)),
    };
    result.unwrap_or_else(|failure| {
        let Failure { message, status } = failure;
        Voice::new(Manner::Core, String::new()).say(&Event::Failure { text: message, status });
        status
    })
}

/// A campaign in this process, by itself or as one of several.
fn campaign(args: Args, place: Option<Place>, stop: Arc<AtomicBool>) -> Result {
    let core = place.map_or(0, |place| place.index);
    let target = args.target.target(core == 0)?;
    let words = dictionary(&args.dict)?;
    let host = super::host()?;
    let exchange = place.map(|place| Exchange::connect(place.port));
    let exchange = exchange.transpose().map_err(|e| Failure::new(format_args!("LibAFL: {e}")))?;
    let seed = args.seed.unwrap_or_else(|| if args.deterministic { 1 } else { chance() });
    let plan = Plan {
        target,
        banner: args.target.name(),
        command_line: command_line(),
        seeds: args.input,
        out: args.output,
        words,
        own_words: !args.no_own_words,
        seed: seed.wrapping_add(core as u64),
        deterministic: args.deterministic,
        max_len: usize::try_from(args.max_len).unwrap_or(usize::MAX),
        max_runs: args.runs.map(|runs| place.map_or(runs, |place| place.share(runs))),
        until_crash: args.until_crash,
        max_time: args.max_total_time,
        manner: if place.is_some() { Manner::Core } else { Manner::new(args.json) },
        core,
        stop,
    };
    Ok(status_with(Campaign::start(plan, exchange, &host)?.run()?))
}

/// The exit status of a campaign that has so many crashes.
fn status_with(crashes: u64) -> u8 {
    if crashes > 0 { status::CRASHED } else { 0 }
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
