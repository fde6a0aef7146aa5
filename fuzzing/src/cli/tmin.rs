//! `dejavm-fuzz tmin`: the smallest input that does the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dejavm::{Host, Outcome};
use dejavm_fuzz::{Error, Ran, Ready, Stack, Target};
use libafl::executors::ExitKind;

use super::failure::say;
use super::options::TargetOptions;
use super::shrink::shrink;
use super::{Failure, Result};
use crate::campaign::files;

/// How long a recorded run of a crash may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes an input as small as it can be: one that crashes still crashes in the same place, one that hangs still hangs,
/// and another still takes the same edges.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dejavm-fuzz tmin -i FILE -o FILE [OPTIONS] -- TARGET [ARGS, with @@ for the input's path]"
)]
pub struct Args {
    /// The input.
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// Where the smaller one is written.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    target: TargetOptions,
}

pub fn main(args: Args) -> Result {
    let target = args.target.target(true)?;
    let input = files::read(&args.input)?;
    let host = super::host()?;
    let mut ready = target.start(&host)?;
    let target = ready.target().clone();
    let same = Same::of(&input, &mut ready, &target, &host)?;
    let smaller = shrink(&input, |candidate| same.holds(candidate, &mut ready, &target, &host))?;
    files::write_beside(&args.output, &smaller)?;
    say(format_args!(
        "{}: {} bytes of {}: {}",
        args.output.display(),
        smaller.len(),
        input.len(),
        same.words()
    ));
    Ok(0)
}

/// What must stay.
enum Same {
    Crash { signal: u32, rip: Option<u64>, stack: u64 },
    Hang,
    Edges(Vec<u8>),
}

impl Same {
    fn of(input: &[u8], ready: &mut Ready, target: &Target, host: &Host) -> Result<Same> {
        let ran = ready.run(input)?;
        Ok(match (ran.kind(), ran.outcome) {
            (ExitKind::Crash, Outcome::Signalled(signal)) => {
                let stack = stack(input, signal, target, host)?;
                Same::Crash { signal, rip: rip(&ran), stack }
            }
            (ExitKind::Timeout, _) => Same::Hang,
            (ExitKind::Oom, _) => {
                return Err(Failure::new(
                    "the input is one that the target has no memory for: give more by --memory",
                ));
            }
            _ => Same::Edges(taken(ready.counts())),
        })
    }

    /// Whether an input does the same. A crash's stack takes a recording, which is made only of one that looks alike.
    fn holds(&self, input: &[u8], ready: &mut Ready, target: &Target, host: &Host) -> Result<bool> {
        let ran = ready.run(input)?;
        Ok(match self {
            Same::Crash { signal, rip: place, stack: known } => {
                ran.outcome == Outcome::Signalled(*signal)
                    && rip(&ran) == *place
                    && stack(input, *signal, target, host)? == *known
            }
            Same::Hang => ran.kind() == ExitKind::Timeout,
            Same::Edges(edges) => ran.kind() == ExitKind::Ok && taken(ready.counts()) == *edges,
        })
    }

    fn words(&self) -> &'static str {
        match self {
            Same::Crash { .. } => "the same crash",
            Same::Hang => "a hang",
            Same::Edges(_) => "the same edges",
        }
    }
}

fn rip(ran: &Ran) -> Option<u64> {
    ran.death.as_ref().map(|death| death.rip)
}

/// Which edges were taken, whatever how often. Edges that are found later do not change it.
fn taken(counts: &[u8]) -> Vec<u8> {
    let mut taken: Vec<u8> = counts.iter().map(|count| u8::from(*count > 0)).collect();
    taken.truncate(taken.iter().rposition(|taken| *taken > 0).map_or(0, |last| last + 1));
    taken
}

fn stack(input: &[u8], signal: u32, target: &Target, host: &Host) -> Result<u64> {
    let dir = tempfile::tempdir().map_err(|e| Failure::new(format_args!("a temporary directory: {e}")))?;
    let recording: &Path = &dir.path().join("recording");
    let recorded = match target.record(input, recording, LIMIT, host) {
        Err(Error::NotRunAlone { .. }) => return Ok(0),
        recorded => recorded?,
    };
    // Of one that ends in another way when it is run by itself there is no stack to compare.
    if recorded.outcome != Outcome::Signalled(signal) {
        return Ok(0);
    }
    Ok(Stack::of_end(recording, host)?.hash(signal))
}
