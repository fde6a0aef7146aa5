//! The command line: one file a subcommand, and what they share.

mod about;
mod cat;
mod conclude;
mod confine;
mod debug;
mod decoding;
mod diff;
mod doctor;
mod failure;
mod find;
mod fuzz;
mod gdb;
mod generate;
mod guest;
mod hits;
mod hunt;
mod inspect;
mod kernel;
mod log;
mod options;
mod output;
mod pack;
mod parse;
mod pattern;
mod place;
mod progress;
mod ps;
mod record;
mod redact;
mod replay;
mod report;
mod restore;
mod run;
mod signals;
mod snapshot;
mod stats;
mod stdout;
mod streams;
mod touched;
mod trace;
mod unpack;
mod usage;
mod view;
mod warm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// What this host can do. The tool's allocator is the C library's, which reads no clock.
fn host() -> Result<dejavm::Host> {
    let host = match runtime_dir() {
        Some(dir) => dejavm::Host::probe_cached(dir.join("dejavm"))?,
        None => dejavm::Host::probe()?,
    };
    Ok(host.with_clock_free_allocator())
}

/// Where this user's processes keep what holds until the next boot: `$XDG_RUNTIME_DIR`, else where
/// that usually is. Root has `/run`, which nobody else can write.
fn runtime_dir() -> Option<PathBuf> {
    let user = rustix::process::geteuid();
    let told = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let usual = PathBuf::from(format!("/run/user/{}", user.as_raw()));
    let root = user.is_root().then(|| PathBuf::from("/run"));
    told.into_iter().chain([usual]).chain(root).find(|dir| dir.is_dir())
}

/// Exit statuses, for the help.
const AFTER_HELP: &str = "\
Exit status of run, kernel, record, replay and restore:
  the guest's own, or 128 plus the number of the signal that ended it;
  119  the log of a recording came to its limit (--max-log)
  120  a recording ends before its guest did: it was interrupted
  121  a bare-metal guest halted for ever, or met an exception that it could not take
  122  a replay did something else than the recorded run
  123  the program waits for something that can never come, such as a pipe that only it writes
  124  the deadline passed
  125  dejavm itself failed, or was used wrongly
  126  the program was found, but cannot be executed
  127  the program was not found
Exit status of hunt: 0, or 1 when a run failed; of diff: 0 when the recordings are the same, 1 when they
differ; of find and where: 0, or 1 when nothing was found; of fuzz: dejavm-fuzz's. The other commands: 0, or 125.

Examples:
  dejavm run -- python3 -c 'print(6*7)'
  dejavm record -o rec -- sqlite3 :memory: 'select random()'
  dejavm replay rec
  dejavm pack rec -o rec.dvr
  dejavm snapshot -o py.dvm --at first-read -- python3 -c 'import json,sys; print(eval(sys.stdin.read()))'
  echo '6*7' | dejavm restore py.dvm";

/// Runs Linux programs and bare-metal guests in sandboxes that can be recorded, replayed, and started from snapshots.
#[derive(Debug, Parser)]
#[command(name = "dejavm", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    voice: Voice,
    #[command(subcommand)]
    command: Command,
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Voice {
    /// Say nothing of dejavm's own on standard error but errors: not what a program died of, nor
    /// which system calls it missed.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say what is done, on standard error; twice for more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Kernel(kernel::Args),
    Record(record::Args),
    Hunt(hunt::Args),
    Fuzz(fuzz::Args),
    Replay(replay::Args),
    Debug(debug::Args),
    Snapshot(snapshot::Args),
    Restore(restore::Args),
    Warm(warm::Args),
    Log(log::Args),
    Ps(ps::Args),
    Find(find::Args),
    Where(touched::Args),
    Diff(diff::Args),
    Stdout(stdout::Args),
    Cat(cat::Args),
    Trace(trace::Args),
    Report(report::Args),
    Inspect(inspect::Args),
    Pack(pack::Args),
    Unpack(unpack::Args),
    Redact(redact::Args),
    Doctor(doctor::Args),
    Completions(generate::Completions),
    Man(generate::Man),
}

/// What a subcommand gives: the process's exit status.
type Result<T = u8> = std::result::Result<T, Failure>;

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage::report(&e).into(),
    };
    listen(cli.voice.verbose);
    let voice = cli.voice;
    let result = match cli.command {
        Command::Run(args) => run::main(args, voice),
        Command::Kernel(args) => kernel::main(args, voice),
        Command::Record(args) => record::main(args, voice),
        Command::Hunt(args) => hunt::main(args, voice),
        Command::Fuzz(args) => fuzz::main(args),
        Command::Replay(args) => replay::main(args, voice),
        Command::Debug(args) => debug::main(args),
        Command::Snapshot(args) => snapshot::main(args, voice),
        Command::Restore(args) => restore::main(args, voice),
        Command::Warm(args) => warm::main(args, voice),
        Command::Log(args) => log::main(args),
        Command::Find(args) => find::main(args),
        Command::Where(args) => touched::main(args),
        Command::Diff(args) => diff::main(args, voice),
        Command::Ps(args) => ps::main(args),
        Command::Stdout(args) => stdout::main(args),
        Command::Cat(args) => cat::main(args),
        Command::Trace(args) => trace::main(args),
        Command::Report(args) => report::main(args),
        Command::Inspect(args) => inspect::main(args),
        Command::Pack(args) => pack::main(args, voice),
        Command::Unpack(args) => unpack::main(args, voice),
        Command::Redact(args) => redact::main(args, voice),
        Command::Doctor(args) => doctor::main(args),
        Command::Completions(args) => generate::completions(args),
        Command::Man(args) => generate::man(args),
    };
    result
        .unwrap_or_else(|failure| {
            failure.print();
            failure.status
        })
        .into()
}

/// Lets messages of the library through to standard error.
fn listen(verbose: u8) {
    use std::io::IsTerminal;

    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::fmt::format::FmtSpan;
    use tracing_subscriber::fmt::time::uptime;
    let level = match verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_timer(uptime())
        .init();
}
