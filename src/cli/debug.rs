//! `dejavm debug`

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use dejavm::Evict;
use dejavm::replay::debugger::serve;
use dejavm::replay::{Moment, Recording, Timeline};

use super::decoding::ReplayOptions;
use super::{Failure, Result, gdb};

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
    gdb::leave_interrupts_to_gdb()?;
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
        Some(port) => {
            if let Some(connection) = gdb::on_port(port, None)? {
                serve(timeline, connection)?;
            }
            Ok(0)
        }
        None => serve_gdb(timeline, &args),
    }
}

/// Starts gdb, and serves it.
fn serve_gdb(timeline: Timeline, args: &Args) -> Result {
    let start = gdb::Start {
        program: &args.gdb,
        args: &args.gdb_args,
        commands: Some(COMMANDS),
        stdin: Stdio::inherit(),
    };
    let (mut gdb, connection) = start.gdb()?;
    let served = connection.map_or(Ok(()), |connection| serve(timeline, connection).map(drop));
    let status = gdb.end()?;
    served?;
    Ok(status)
}
