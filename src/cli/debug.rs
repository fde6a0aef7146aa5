//! `dejavm debug`

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use dejavm::Evict;
use dejavm::replay::debugger::{DebugConnection, serve};
use dejavm::replay::{Moment, Recording, Timeline};

use super::decoding::ReplayOptions;
use super::failure::say;
use super::{Failure, Result};

/// Commands for recordings, in gdb's Python.
const COMMANDS: &str = include_str!("debug.py");

/// Debugs a recorded program with gdb, forwards and backwards.
///
/// gdb starts at the recording's start, with the program's file out of the recording; `continue` goes to its end or its crash, and
/// reverse-continue, reverse-step, reverse-next and reverse-finish go back. `seek`, `when`,
/// `reverse-to-write` and `last-write` are commands besides gdb's, and `monitor help` tells of more. What
/// is recorded cannot be changed: what is set or called happens in a copy.
///
/// The exit status is gdb's.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm debug rec
  dejavm debug rec --end
  dejavm debug rec -- -batch -ex continue -ex backtrace
  dejavm debug rec --port 1234        (then, elsewhere: target remote :1234)")]
pub struct Args {
    /// The recording: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    dir: PathBuf,
    /// Begins at this position: the number of an exit, EXIT+STEPS, or EXIT- for where the program is about to
    /// make that exit, as `dejavm find` tells it.
    #[arg(long, value_name = "POSITION", conflicts_with = "end")]
    at: Option<Moment>,
    /// Begins at the end: at the crash, if there is one.
    #[arg(long)]
    end: bool,
    /// Serves one debugger on this port of the loopback address, and starts none.
    #[arg(long, value_name = "N", conflicts_with = "gdb_args")]
    port: Option<u16>,
    /// The debugger to start.
    #[arg(long, value_name = "PROGRAM", default_value = "gdb")]
    gdb: OsString,
    #[command(flatten)]
    replay: ReplayOptions,
    /// Fault injection: makes a random half of the pages absent every so many exits.
    #[arg(long, value_name = "SPEC", value_parser = super::parse::evict, hide = true)]
    evict: Option<Evict>,
    /// Arguments for gdb.
    #[arg(last = true, value_name = "GDB-ARGUMENTS")]
    gdb_args: Vec<OsString>,
}

pub fn main(args: Args) -> Result {
    // ^C is for gdb, which tells of it.
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::new(AtomicBool::new(false)))
        .map_err(|e| Failure::new(format_args!("cannot handle SIGINT: {e}")))?;
    let host = super::host()?;
    let mut replay = args.replay.replay(&Recording::open(&args.dir)?);
    if let Some(evict) = args.evict {
        replay = replay.evict(evict);
    }
    let mut timeline = replay.timeline(&host)?;
    if timeline.machine().program().is_none() {
        return Err(Failure::new("a bare-metal guest cannot be debugged yet: only programs can"));
    }
    if args.end {
        timeline.seek_end()?;
    } else if let Some(at) = args.at {
        timeline.seek(at)?;
    }
    match args.port {
        Some(port) => serve_port(timeline, port),
        None => serve_gdb(timeline, &args),
    }
}

fn serve_port(timeline: Timeline, port: u16) -> Result {
    let io = |e| Failure::new(format_args!("port {port}: {e}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(io)?;
    let address = listener.local_addr().map_err(io)?;
    say(format_args!("waiting for a debugger; in gdb: target remote {address}"));
    let (stream, _) = listener.accept().map_err(io)?;
    serve(timeline, DebugConnection::Tcp(stream))?;
    Ok(0)
}

/// Starts gdb, and serves it.
fn serve_gdb(timeline: Timeline, args: &Args) -> Result {
    let dir = tempfile::tempdir().map_err(|e| Failure::new(format_args!("a temporary directory: {e}")))?;
    let path = dir.path().join("gdb");
    let io = |e| Failure::new(format_args!("the socket to gdb: {e}"));
    let listener = UnixListener::bind(&path).map_err(io)?;
    let commands = dir.path().join("dejavm.py");
    std::fs::write(&commands, COMMANDS)
        .map_err(|e| Failure::new(format_args!("{}: {e}", commands.display())))?;
    let mut gdb = start(args, &path, &commands)?;
    // gdb may end without having called: then nobody would.
    let ended = thread::scope(|scope| {
        let serving = scope.spawn(move || match listener.accept() {
            Ok((stream, _)) => serve(timeline, DebugConnection::Unix(stream)).map(drop),
            Err(e) => Err(e.into()),
        });
        let ended = gdb.wait();
        // Wakes it.
        let _ = std::os::unix::net::UnixStream::connect(&path);
        (ended, serving.join())
    });
    let status = ended.0.map_err(|e| Failure::new(format_args!("gdb: {e}")))?;
    match ended.1 {
        Ok(Err(e)) => Err(e.into()),
        Ok(Ok(())) => Ok(code(status)),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn start(args: &Args, socket: &Path, commands: &Path) -> Result<Child> {
    let mut command = Command::new(&args.gdb);
    // The program's file, and its libraries, come from the recording.
    command.arg("-q").arg("-iex").arg(format!("source {}", commands.display()));
    command.arg("-ex").arg(format!("target remote {}", socket.display())).args(&args.gdb_args);
    command.spawn().map_err(|e| {
        let name = args.gdb.display();
        Failure::new(format_args!("{name} cannot be started: {e} (Debian: apt install gdb; or use --port)"))
    })
}

/// As a shell gives it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}
