//! ^C and its like: the guest gets them, as it would from its terminal. ^Z stops this process, and the
//! guest with it.

use std::fs;
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use dejavm::{Sandbox, StopHandle};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

use super::{Failure, Result};

/// Those that are waited for.
const AWAITED: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH, Signal::SIGTSTP];

/// How often a signal must come, without having been seen, until this process ends at once. The second
/// time ends a guest that does not look (see [`StopHandle::signal`]).
const ENOUGH: u32 = 3;

/// Signals that wait for this process to have a guest.
pub struct Signals {
    set: SigSet,
    state: Arc<Mutex<State>>,
}

struct State {
    guest: Guest,
    /// What a guest without signals was stopped by.
    stopped_by: Option<Signal>,
    /// The terminal and its modes at the start.
    terminal: Option<(OwnedFd, Termios)>,
}

/// Who gets them.
enum Guest {
    None,
    Program(StopHandle),
    /// A bare-metal guest, or one that is being loaded: it has no signals, and is stopped.
    WithoutSignals(StopHandle),
}

impl Signals {
    /// Blocks the signals in this thread, and in all that it starts from now on, so before any other is
    /// started.
    pub fn block() -> Result<Signals> {
        let ignored = ignored();
        let set: SigSet =
            AWAITED.into_iter().filter(|signal| ignored & 1 << (*signal as u32 - 1) == 0).collect();
        set.thread_block().map_err(|e| failed(&e))?;
        let state = State { guest: Guest::None, stopped_by: None, terminal: terminal() };
        Ok(Signals { set, state: Arc::new(Mutex::new(state)) })
    }

    /// Loads a guest that stops by the handle: a signal that comes meanwhile ends that. What is being loaded
    /// has no handlers yet.
    pub fn while_loading<T>(&self, load: impl FnOnce(StopHandle) -> Result<T>) -> Result<T> {
        let stop = StopHandle::new().map_err(|e| failed(&e))?;
        lock(&self.state).guest = Guest::WithoutSignals(stop.clone());
        // The window's size is the guest's own affair.
        let mut set = self.set;
        set.remove(Signal::SIGWINCH);
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).map_err(|e| failed(&e))?;
        let (over, loading) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(&e))?;
        let wait = || self.wait_while_loading(&signals, over.as_fd());
        // It ends before the process is confined, which it would not be.
        let loaded = thread::scope(|scope| {
            let thread = thread::Builder::new().name("signals".into());
            thread.spawn_scoped(scope, wait).map_err(|e| failed(&e))?;
            let loaded = load(stop);
            drop(loading);
            loaded
        });
        match (self.stopped_by(), loaded) {
            (Some(signal), Err(_)) => Err(Failure::signal(signal)),
            (_, loaded) => loaded,
        }
    }

    /// Until `over` is closed.
    fn wait_while_loading(&self, signals: &SignalFd, over: BorrowedFd<'_>) {
        loop {
            let wanted = [over, signals.as_fd()];
            let mut fds = wanted.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut fds, None) {
                Ok(_) if fds[0].revents().is_empty() => {}
                Err(rustix::io::Errno::INTR) => continue,
                _ => return,
            }
            let signal = signals.read_signal().ok().flatten();
            let signal = signal.and_then(|info| Signal::try_from(info.ssi_signo as i32).ok());
            if let Some(signal) = signal {
                lock(&self.state).take(signal);
            }
        }
    }

    /// Passes signals on to this guest from now on, those that came already too, on a thread of its own.
    pub fn pass_on(&self, sandbox: &Sandbox) -> Result<()> {
        let handle = sandbox.stop_handle();
        let program = sandbox.machine().program().is_some();
        lock(&self.state).guest =
            if program { Guest::Program(handle) } else { Guest::WithoutSignals(handle) };
        let (set, state) = (self.set, self.state.clone());
        let wait = move || {
            while let Ok(signal) = set.wait() {
                lock(&state).take(signal);
            }
        };
        thread::Builder::new().name("signals".into()).spawn(wait).map_err(|e| failed(&e))?;
        Ok(())
    }

    /// The number of the signal that a guest without signals was stopped by.
    pub fn stopped_by(&self) -> Option<u8> {
        lock(&self.state).stopped_by.map(|signal| signal as u8)
    }
}

fn failed(e: &dyn std::fmt::Display) -> Failure {
    Failure::new(format_args!("cannot wait for signals: {e}"))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn take(&mut self, signal: Signal) {
        if signal == Signal::SIGTSTP {
            return self.stop();
        }
        let times = match &self.guest {
            Guest::Program(handle) => handle.signal(signal as u32),
            Guest::WithoutSignals(handle) if signal != Signal::SIGWINCH => {
                let again = self.stopped_by.replace(signal).is_some();
                handle.stop();
                if again { ENOUGH } else { 1 }
            }
            Guest::WithoutSignals(_) | Guest::None => 0,
        };
        if times >= ENOUGH && signal != Signal::SIGWINCH {
            if let Some((terminal, modes)) = &self.terminal {
                let _ = tcsetattr(terminal, OptionalActions::Now, modes);
            }
            std::process::exit(128 + signal as i32);
        }
    }

    /// Stops this process. Meanwhile the terminal has the modes that it had before the guest; when the
    /// process is continued, it gets back the guest's, unless it is somebody else's by then.
    fn stop(&self) {
        let guests = self.terminal.as_ref().and_then(|(terminal, modes)| {
            let guests = tcgetattr(terminal).ok()?;
            tcsetattr(terminal, OptionalActions::Now, modes).ok()?;
            Some((terminal, guests))
        });
        // To this thread, which so goes no further, and with it to all others.
        let _ = raise(Signal::SIGSTOP);
        if let Some((terminal, guests)) = guests
            && tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
        {
            let _ = tcsetattr(terminal, OptionalActions::Now, &guests);
        }
    }
}

/// Signals that whoever started this process wants ignored: bits. A blocked signal would come all the
/// same.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// The terminal that a guest may set the modes of, and the modes.
fn terminal() -> Option<(OwnedFd, Termios)> {
    let modes = |fd: BorrowedFd<'_>| Some((fd.try_clone_to_owned().ok()?, tcgetattr(fd).ok()?));
    modes(stdin().as_fd()).or_else(|| modes(stdout().as_fd())).or_else(|| modes(stderr().as_fd()))
}
