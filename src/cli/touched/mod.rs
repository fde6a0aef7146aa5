//! `dejavm where`

mod files;
mod memory;
mod symbol;

use std::path::PathBuf;

use dejavm::replay::Recording;

use super::decoding::{DecodeOptions, Look};
use super::failure::{say, shown};
use super::find;
use super::hits::{HitOptions, Hits};
use super::pattern::Pattern;
use super::{Failure, Result};
use files::FileTouches;
use memory::{MemoryTouches, merge};
use symbol::Symbol;

/// Things that are told unless it is said how many.
const MOST: u64 = 100;

/// Tells where in a recording a file or memory was touched.
///
/// Of a file, the calls that opened, executed, read, wrote, mapped, changed, renamed, removed or looked at it, by its path
/// or by a descriptor that is open on it, whoever opened that. Of memory of the first process, the calls that read it or filled it
/// in, and the instructions that changed it. Lines are those of `dejavm find`, and so is the exit status.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm where rec result.txt
  dejavm where rec '/etc/**' -n 1000
  dejavm where rec counter
  dejavm where rec 0x7ffe1040:4 --last

What changes memory is found in a replay that counts instructions: see \"What it cannot do yet\" in docs/debugging.md
for what that costs.")]
pub struct Args {
    /// The recording: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    dir: PathBuf,
    /// An address as 0x7ffe1000 (8 bytes unless a length is given), a variable or function of the program's
    /// file by its name there, or else a file: a pattern, as with `dejavm find`. With a slash in it, it is a file.
    #[arg(value_name = "ADDRESS[:LEN]|SYMBOL|FILE")]
    what: String,
    #[command(flatten)]
    hits: HitOptions,
    #[command(flatten)]
    decode: DecodeOptions,
}

pub fn main(args: Args) -> Result {
    let recording = Recording::open(&args.dir)?;
    let host = super::host()?;
    let mut timeline = args.decode.replay.replay(&recording).timeline(&host)?;
    if timeline.machine().program().is_none() {
        return Err(Failure::new("a bare-metal guest has neither files nor symbols"));
    }
    let symbol = match &*args.what {
        what if what.starts_with("0x") => Symbol::Memory(find::memory(what).map_err(Failure::new)?),
        what if what.contains('/') => Symbol::None,
        what => symbol::find(&mut timeline, what)?,
    };
    let mut hits = Hits::new(&args.hits, MOST);
    let Symbol::Memory(range) = symbol else {
        drop(timeline);
        let touches = Look::new(FileTouches::new(Pattern::new(&args.what), hits));
        let fell_short = touches.at(&recording, &args.decode, None);
        let status = touches.with(|touches| touches.hits.finish(fell_short))?;
        if status != 0 && symbol == Symbol::Unknown {
            let what = shown(&args.what);
            say(format_args!(
                "{what} was taken for a file: the recording does not hold all of the program's symbol table, and this \
                 machine does not have the same file"
            ));
        }
        return Ok(status);
    };
    // Before the process is confined, which cannot make machines any more then.
    let mut changes = hits.keeper();
    find::watch(&mut timeline, None, &range, &mut |hit| {
        changes.add(hit);
        !changes.are_enough()
    })?;
    drop(timeline);
    let touches = Look::new(MemoryTouches::new(range, hits.keeper()));
    let fell_short = touches.at(&recording, &args.decode, None);
    let calls = touches.with(|touches| std::mem::take(&mut touches.found));
    merge(changes.into_hits(), calls.into_hits()).into_iter().for_each(|hit| hits.add(hit));
    hits.finish(fell_short)
}
