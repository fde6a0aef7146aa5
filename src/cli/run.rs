//! `dejavm run`

use std::ffi::{OsStr, OsString};
use std::sync::atomic::Ordering;

use dejavm::replay::debugger::DebugEnd;

use super::conclude;
use super::failure::say;
use super::guest::NewGuest;
use super::signals::Signals;
use super::{Failure, Result, Voice, confine, gdb, streams};

/// Runs a program in a sandbox.
///
/// The program sees this host's programs and libraries (/usr, /bin, /sbin, /lib*, /opt), its settings
/// (/etc), and the current directory, at /work and at its own path: all of it read-only. What it writes
/// is kept in memory and gone when it ends. It sees no network and nothing of the environment.
///
/// Of the system's directories it does not see what others than owner and group may not read; of the
/// settings neither what has the name of a secret (keys, passwords, tokens) nor what tells this machine
/// from others (hostname, machine-id, fstab): docs/view.md lists these names. Directories that other
/// file systems are mounted on are empty, but for those in /usr: --cross-mounts shows them.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dejavm run [OPTIONS] [--] PROGRAM [ARGS]...",
    after_help = "\
Examples:
  dejavm run -- python3 -c 'print(6*7)'
  dejavm run --memory 256M --deadline 5s --stats -- python3 script.py
  dejavm run --ro /data --ro ./config.json:/etc/app.json -- ./app
  dejavm run --root ./alpine -- /bin/busybox ls /
  dejavm run --gdb -- ./app < input
  dejavm run --gdb --gdb-arg=-ex --gdb-arg='break main' -- ./app
  dejavm run --gdb-port 1234 -- ./app        (then, elsewhere: target remote :1234)"
)]
pub struct Args {
    #[command(flatten)]
    debug: DebugOptions,
    #[command(flatten)]
    new: NewGuest,
}

/// Debugging the program while it runs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Debugging")]
pub struct DebugOptions {
    /// Debugs the program with gdb, or the debugger named here, from its first instruction on, forwards: to go
    /// back, record it and use `dejavm debug`. gdb has the terminal, so that the program's input is empty unless
    /// it is given by `< FILE` or a pipe; its output comes as usual. What gdb changes, changes the run. The exit
    /// status is gdb's.
    #[arg(
        long,
        value_name = "DEBUGGER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "gdb",
        conflicts_with_all = ["kernel", "deadline"]
    )]
    gdb: Option<OsString>,
    /// An argument for gdb, such as -x or -batch. May be repeated.
    #[arg(long, value_name = "ARGUMENT", requires = "gdb", allow_hyphen_values = true)]
    gdb_arg: Vec<OsString>,
    /// Waits for a debugger on this port of the loopback address instead, and starts none: the program has the
    /// terminal, and the exit status is its own, or 137 if the debugger killed it.
    #[arg(long, value_name = "N", conflicts_with_all = ["gdb", "kernel", "deadline"])]
    gdb_port: Option<u16>,
}

/// The exit status of a program that its debugger killed: as if by SIGKILL.
const KILLED: u8 = 128 + 9;

pub fn main(args: Args, voice: Voice) -> Result {
    if let Some(debugger) = &args.debug.gdb {
        return with_gdb(&args, debugger, voice);
    }
    let signals = Signals::block()?;
    let host = super::host()?;
    let start = |stop| args.new.start(streams::of_host(), None, &host, Some(stop), voice);
    let NewGuest { run, .. } = &args.new;
    let Some(port) = args.debug.gdb_port else {
        let sandbox = signals.while_loading(start)?;
        confine::confine(&sandbox, run.no_confine, None)?;
        return conclude::run(sandbox, &signals, &args.new.name(), run, None, voice);
    };
    let (mut sandbox, connection) = signals.while_loading(|stop| {
        let sandbox = start(stop.clone())?;
        // A signal ends the wait, and is what is told.
        let connection = gdb::on_port(port, Some(stop.event()))?;
        Ok((sandbox, connection.ok_or_else(|| Failure::new("no debugger has called"))?))
    })?;
    confine::confine_debugged(&sandbox, run.no_confine)?;
    signals.pass_on(&sandbox)?;
    match sandbox.debug(connection)? {
        DebugEnd::Exited | DebugEnd::Detached => {
            conclude::finish(sandbox, Some(&signals), &args.new.name(), run, None, voice)
        }
        end => {
            if !voice.quiet {
                let how = if end == DebugEnd::Lost {
                    "has lost its debugger"
                } else {
                    "was killed by its debugger"
                };
                say(format_args!("{} {how}", args.new.name()));
            }
            Ok(KILLED)
        }
    }
}

/// Runs a program under a debugger that is started here.
fn with_gdb(args: &Args, debugger: &OsStr, voice: Voice) -> Result {
    let stdin = gdb::take_terminal()?;
    let host = super::host()?;
    let mut sandbox = args.new.start(streams::of_host(), None, &host, None, voice)?;
    let interrupts = gdb::leave_interrupts_to_gdb()?;
    let start = gdb::Start { program: debugger, args: &args.debug.gdb_arg, commands: None, stdin };
    let (mut gdb, connection) = start.gdb()?;
    if let Some(connection) = connection {
        confine::confine_debugged(&sandbox, args.new.run.no_confine)?;
        let end = sandbox.debug(connection);
        // gdb has told how the program ended that it saw end. Another is on its own, also for ^C.
        let quiet = voice.quiet || matches!(end, Ok(DebugEnd::Exited));
        if matches!(end, Ok(DebugEnd::Exited | DebugEnd::Detached)) {
            interrupts.store(true, Ordering::SeqCst);
            let voice = Voice { quiet, ..voice };
            conclude::finish(sandbox, None, &args.new.name(), &args.new.run, None, voice)?;
            interrupts.store(false, Ordering::SeqCst);
        }
        let status = gdb.end()?;
        end?;
        return Ok(status);
    }
    gdb.end()
}
