//! Starting gdb, and waiting for it or for another debugger to call.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dejavm::replay::debugger::DebugConnection;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::failure::say;
use super::{Failure, Result};

/// gdb, which this process has started.
pub struct Gdb {
    child: Child,
}

/// How gdb is started.
pub struct Start<'a> {
    /// The program.
    pub program: &'a OsStr,
    /// Its arguments besides.
    pub args: &'a [OsString],
    /// Commands for it, in its Python.
    pub commands: Option<&'a str>,
    /// What its commands are read from.
    pub stdin: Stdio,
}

impl Start<'_> {
    /// Starts gdb, and waits for it to call. It may end without having done so.
    pub fn gdb(self) -> Result<(Gdb, Option<DebugConnection>)> {
        let dir =
            tempfile::tempdir().map_err(|e| Failure::new(format_args!("a temporary directory: {e}")))?;
        let path = dir.path().join("gdb");
        let io = |e: io::Error| Failure::new(format_args!("the socket to gdb: {e}"));
        let listener = UnixListener::bind(&path).map_err(io)?;
        let gdb = Gdb { child: self.spawn(dir.path(), &path)? };
        let ended = pidfd_open(Pid::from_child(&gdb.child), PidfdFlags::empty()).map_err(|e| io(e.into()))?;
        let connection = match wait(listener.as_fd(), ended.as_fd()).map_err(io)? {
            true => Some(DebugConnection::Unix(listener.accept().map_err(io)?.0)),
            false => None,
        };
        Ok((gdb, connection))
    }

    fn spawn(self, dir: &Path, socket: &Path) -> Result<Child> {
        let mut command = Command::new(self.program);
        // The program's file, and its libraries, come by the connection.
        command.arg("-q").stdin(self.stdin);
        if let Some(commands) = self.commands {
            let file = dir.join("dejavm.py");
            std::fs::write(&file, commands)
                .map_err(|e| Failure::new(format_args!("{}: {e}", file.display())))?;
            command.arg("-iex").arg(format!("source {}", file.display()));
        }
        command.arg("-ex").arg(format!("target remote {}", socket.display())).args(self.args);
        command.spawn().map_err(|e| {
            let name = self.program.display();
            Failure::new(format_args!(
                "{name} cannot be started: {e} (Debian: apt install gdb; or serve a debugger on a port, see --help)"
            ))
        })
    }
}

impl Gdb {
    /// Waits for its end; its exit status, as a shell gives it.
    pub fn end(&mut self) -> Result {
        let status = self.child.wait().map_err(|e| Failure::new(format_args!("gdb: {e}")))?;
        Ok(code(status))
    }
}

/// Waits for a debugger to call on this port of the loopback address. None if `over` becomes readable before.
pub fn on_port(port: u16, over: Option<BorrowedFd<'_>>) -> Result<Option<DebugConnection>> {
    let io = |e| Failure::new(format_args!("port {port}: {e}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(io)?;
    let address = listener.local_addr().map_err(io)?;
    say(format_args!("waiting for a debugger; in gdb: target remote {address}"));
    match over {
        Some(over) if !wait(listener.as_fd(), over).map_err(io)? => Ok(None),
        _ => Ok(Some(DebugConnection::Tcp(listener.accept().map_err(io)?.0))),
    }
}

/// Waits for one of two descriptors to become readable; whether it is the first.
fn wait(first: BorrowedFd<'_>, second: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [first, second].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    loop {
        match poll(&mut fds, None) {
            Ok(_) => return Ok(!fds[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// From here on ^C is for gdb, which tells of it; until `again` is set.
pub fn leave_interrupts_to_gdb() -> Result<Arc<AtomicBool>> {
    let again = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register_conditional_default(signal_hook::consts::SIGINT, again.clone())
        .map_err(|e| Failure::new(format_args!("cannot handle SIGINT: {e}")))?;
    Ok(again)
}

/// Gives gdb the terminal for its commands, and leaves a program nothing of it: standard input is what was given in
/// the terminal's place, or else nothing.
pub fn take_terminal() -> Result<Stdio> {
    let io = |e: io::Error| Failure::new(format_args!("standard input: {e}"));
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(File::open("/dev/tty").map_or_else(|_| Stdio::null(), Stdio::from));
    }
    let terminal = stdin.as_fd().try_clone_to_owned().map_err(io)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null").map_err(io)?).map_err(|e| io(e.into()))?;
    Ok(terminal.into())
}

/// As a shell gives it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}
