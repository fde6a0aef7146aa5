//! `dejavm diff`

mod align;
mod inputs;
mod myers;
mod show;
mod states;
mod stream;

use std::path::{Path, PathBuf};

use dejavm::replay::{Ending, Recording};

use super::decoding::DecodeOptions;
use super::failure::say;
use super::{Failure, Result, Voice};
use align::Aligner;
use show::Printer;
use states::States;
use stream::{Keys, Streams};

/// Compares two recordings exit by exit, as `diff` compares lines.
///
/// First it tells what the runs were given that differs: seed, clock, arguments, environment, standard input, and
/// files of the host that both asked for. Most often that is the cause.
///
/// Exits that only one of them has are told apart from those that came out otherwise, and of these is said what
/// differs: an argument, the result, or what was written into memory. Both are replayed for it, so that what
/// pointers point to is compared, and not where that is. Behind the first difference stands what both were at
/// before it: the registers that differ, and who called whom. The exit status is 0 when they are the same, 1 when they
/// differ, and 125 on trouble.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm diff good bad
  dejavm diff good bad --context 10
  dejavm diff good bad -p 3
  dejavm diff good bad --raw
  dejavm -q diff good bad && echo the same")]
pub struct Args {
    /// A recording.
    #[arg(value_name = "RECORDING")]
    left: PathBuf,
    /// Another one.
    #[arg(value_name = "RECORDING")]
    right: PathBuf,
    /// Compares only this task's exits. May be repeated.
    #[arg(short, value_name = "TASK")]
    p: Vec<u32>,
    /// Exits shown before and behind each difference.
    #[arg(long, short = 'U', value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(..=1000))]
    context: u64,
    /// Compares addresses too. Else values above 4 GiB that are not decoded are taken for addresses, and are alike.
    #[arg(long)]
    addresses: bool,
    /// Compares what is in the logs and nothing more; replays nothing.
    #[arg(long)]
    raw: bool,
    /// Reads two exits' numbers, and says what the recordings are at before them.
    #[arg(long, hide = true)]
    states: bool,
    #[command(flatten)]
    decode: DecodeOptions,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let paths = [&*args.left, &*args.right];
    if args.states {
        return states::main(paths, &args.decode.replay);
    }
    let left = open(&args.left)?;
    let right = open(&args.right)?;
    if left.digest()? == right.digest()? {
        return Ok(0);
    }
    let names = [&args.left, &args.right].map(|dir| dir.display().to_string());
    let states = match args.raw || voice.quiet {
        true => States::none(),
        // Before the process is confined.
        false => States::start(paths, &args.decode.replay)?,
    };
    let before = [&left, &right].map(|recording| recording.exit_range().map_or(0, |(first, _)| first - 1));
    let mut printer = Printer::new(names, before, args.context as usize, voice.quiet, states);
    printer.given(inputs::differences([&left, &right])?)?;
    let keys = Keys { addresses: args.addresses, tasks: args.p.iter().copied().collect() };
    let mut streams = Streams::start([&left, &right], &keys, (!args.raw).then_some(&args.decode))?;
    let aligned = Aligner::new(&mut streams).run(&mut |step| printer.step(step));
    if let Some(why) = streams.end() {
        say(format_args!("arguments are not decoded to the end: {why}"));
    }
    aligned?;
    Ok(u8::from(printer.finish()?))
}

/// Opens a recording of which all is to be compared.
fn open(dir: &Path) -> Result<Recording> {
    let recording = Recording::open(dir)?;
    match recording.ending() {
        Ending::Damaged { .. } => {
            Err(Failure::new(format_args!("{}: {}", dir.display(), recording.ending())))
        }
        _ => Ok(recording),
    }
}
