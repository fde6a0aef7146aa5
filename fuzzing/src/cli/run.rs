//! `dejavm-fuzz run`: inputs alone.

use std::io::Write;

use dejavm::sandbox::program::signal;
use dejavm_fuzz::Ran;
use libafl::executors::ExitKind;

use super::failure::status;
use super::options::{Inputs, TargetOptions};
use super::{Failure, Result};

/// Runs inputs, and says how each ended.
///
/// Exit status: 0, or 77 when one crashed.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dejavm-fuzz run [OPTIONS] INPUT... -- TARGET [ARGS, with @@ for the input's path]",
    after_help = "\
Examples:
  dejavm-fuzz run 'out/default/crashes/id:000000,…/input' -- jq .
  dejavm-fuzz run out/default/queue -- ./parse @@"
)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    target: TargetOptions,
}

pub fn main(args: Args) -> Result {
    let target = args.target.target(true)?;
    let host = super::host()?;
    let mut ready = target.start(&host)?;
    let mut crashed = false;
    for (path, input) in args.inputs.read()? {
        let ran = ready.run(&input)?;
        crashed |= ran.kind() == ExitKind::Crash;
        let edges = ready.counts().iter().filter(|count| **count > 0).count();
        let line = format!("{}: {}, {edges} edges", path.display(), words(&ran, &args.target));
        writeln!(std::io::stdout(), "{line}")
            .map_err(|e| Failure::new(format_args!("standard output: {e}")))?;
    }
    Ok(if crashed { status::CRASHED } else { 0 })
}

/// How a run ended.
fn words(ran: &Ran, target: &TargetOptions) -> String {
    use dejavm::Outcome;
    match (ran.outcome, &ran.death) {
        (Outcome::Signalled(_), _) if ran.out_of_memory => "out of memory".into(),
        (Outcome::Signalled(_), Some(death)) => death.to_string().escape_debug().to_string(),
        (Outcome::Signalled(number), None) => format!("killed by {}", signal::name(number)),
        (Outcome::Exited(status), _) => format!("exit status {status}"),
        (Outcome::Deadline, _) => "hang: the time limit".into(),
        (Outcome::Paused, _) => target.until().map_or("returned".into(), |place| format!("came to {place}")),
        (Outcome::Stuck, _) => "hang: it waits for what never comes".into(),
        (outcome, _) => format!("{outcome:?}"),
    }
}
