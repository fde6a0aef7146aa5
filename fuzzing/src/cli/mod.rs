//! The command line: one file a subcommand, and what they share.

mod cmin;
mod cov;
mod failure;
mod fuzz;
mod options;
mod parse;
mod run;
mod shrink;
mod signals;
mod tmin;
mod view;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use dejavm::Host;

pub use failure::harmless;
use failure::{Failure, say, status};

/// Exit statuses and examples, for the help.
const AFTER_HELP: &str = "\
Exit status:
  0    the campaign came to its end (--runs, --max-total-time, ^C) and has no crash
  77   it has crashes: those that were found before count, too
  125  wrong usage
  1    anything else, such as a full disk

Examples:
  dejavm-fuzz -i seeds -o out --max-total-time 60 -- jq .
  dejavm-fuzz -i seeds -o out -x json.dict -- ./parse --file @@
  dejavm-fuzz run crash-input -- jq .
  dejavm debug --end 'out/default/crashes/id:000000,…/recording'";

/// Fuzzes an unmodified Linux program in a sandbox.
///
/// The program is started once and stopped where it is about to read its input. For each input it goes on from there
/// in a sandbox that is put back afterwards: all that the program did is undone. Which ways its code went is counted, without
/// instrumentation. A run that ends by a signal is a crash: it is made again by itself and recorded, and kept in
/// OUT/default/crashes with the input, the stack and the recording, which `dejavm debug` opens. The other files of OUT are
/// AFL++'s. A campaign whose OUT has a queue goes on where it was.
#[derive(Debug, Parser)]
#[command(
    name = "dejavm-fuzz",
    version,
    after_help = AFTER_HELP,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    override_usage = "dejavm-fuzz [OPTIONS] -- TARGET [ARGS, with @@ for the input's path]\n       dejavm-fuzz COMMAND"
)]
struct Cli {
    #[command(flatten)]
    fuzz: fuzz::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Cmin(cmin::Args),
    Cov(cov::Args),
    Tmin(tmin::Args),
}

/// What a subcommand gives: the process's exit status.
type Result<T = u8> = std::result::Result<T, Failure>;

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e).into(),
    };
    let result = match cli.command {
        None => fuzz::main(cli.fuzz),
        Some(Command::Run(args)) => run::main(args),
        Some(Command::Cmin(args)) => cmin::main(args),
        Some(Command::Cov(args)) => cov::main(args),
        Some(Command::Tmin(args)) => tmin::main(args),
    };
    result
        .unwrap_or_else(|failure| {
            say(&failure.message);
            failure.status
        })
        .into()
}

/// What this host can do. The tool's allocator is the C library's, which reads no clock.
fn host() -> Result<Host> {
    Ok(Host::probe().map_err(Failure::new)?.with_clock_free_allocator())
}

/// Prints what clap has to say, and gives the exit status.
fn usage(error: &clap::Error) -> u8 {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        _ => status::USAGE,
    }
}
