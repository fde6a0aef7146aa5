//! `dejavm report`

mod crash;
mod html;
mod kept;
mod lanes;
mod page;
mod seen;

use std::io::Write;
use std::path::{Path, PathBuf};

use dejavm::replay::{Ending, Record, Recording};
use dejavm::{Death, Sandbox};

use super::decoding::{self, DecodeOptions, Look};
use super::failure::say;
use super::output::Output;
use super::{Failure, Result, confine};
use crash::Crash;
use kept::Kept;
use page::Page;
use seen::Seen;

/// Writes what happened in a recording as one page, to be read in a browser.
///
/// It has the command and its result, when tasks ran, the tree of processes, a table of system calls, and what was
/// written; of a crash the signal, the backtrace with names and lines, and the registers. It loads nothing from
/// elsewhere and runs no scripts.
///
/// The recording is replayed for it. What cannot be replayed here is left out, and the page says so. For the
/// backtrace of a crash, which comes first, the process is not confined yet, as with `dejavm debug`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm report rec -o report.html
  dejavm report rec -o - | gzip > report.html.gz")]
pub struct Args {
    /// The recording: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    dir: PathBuf,
    /// The file to write; - is standard output.
    #[arg(short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    decode: DecodeOptions,
}

pub fn main(args: Args) -> Result {
    let recording = Recording::open(&args.dir)?;
    let mut out = Output::create(&args.output)?;
    let crash = Crash::of(args.decode.replay.replay(&recording), super::host);
    let look = Look::new(Seen::new(&recording)?);
    let (stdout, stderr) = (Kept::default(), Kept::default());
    let replay = args.decode.replay.replay(&recording).stdout(stdout.sink()).stderr(stderr.sink());
    let result = look.start(replay).and_then(|sandbox| run(&look, sandbox, &args.decode, out.renamed()));
    let Some(mut seen) = look.into_viewer() else {
        return Err(Failure::new("the replay has not ended"));
    };
    let mut notes = Vec::new();
    let death = result.unwrap_or_else(|failure| {
        let from = seen.tasks.last().saturating_add(1);
        let why = decoding::first_line(failure.message());
        notes.push(format!("From exit {from} on, this is what the log has: {why}"));
        say(format_args!("the replay is not complete: {why}"));
        None
    });
    for record in recording.records_from(seen.tasks.last().saturating_add(1)) {
        match record {
            Ok(Record::Exit(exit)) => seen.without_memory(&exit),
            Ok(_) => {}
            Err(e) => {
                notes.push(e.to_string());
                break;
            }
        }
    }
    seen.lanes.over();
    let page = Page {
        recording: &recording,
        seen: &seen,
        stdout: &stdout,
        stderr: &stderr,
        crash: crash.as_ref(),
        death: death.as_ref(),
        notes: &notes,
    };
    let mut text = String::new();
    page.write(&mut text).map_err(|e| Failure::new(format_args!("the page: {e}")))?;
    out.write_all(text.as_bytes()).map_err(|e| out.failure(e))?;
    out.finish()?;
    match recording.ending() {
        Ending::Damaged { .. } => {
            Err(Failure::new(format_args!("{}: {}", args.dir.display(), recording.ending())))
        }
        _ => Ok(0),
    }
}

/// Replays it, confined; what it died of.
fn run(
    look: &Look<Seen>,
    sandbox: Option<Sandbox>,
    options: &DecodeOptions,
    writes: Option<&Path>,
) -> Result<Option<Death>> {
    if let Some(sandbox) = &sandbox {
        confine::confine(sandbox, options.no_confine, writes)?;
    }
    Ok(look.run(sandbox)?.and_then(|report| report.death))
}
