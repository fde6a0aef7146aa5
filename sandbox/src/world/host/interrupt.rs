//! Waiting for the host, but not for ever.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::host::signals::SignalQueue;
use crate::world::WorldError;

/// What ends a wait for the outside before there is an answer.
pub trait Interrupt: Send {
    /// A descriptor that becomes readable when the wait is to end, such as an eventfd.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// How much longer to wait at most; zero when the time is over.
    fn remaining(&self) -> Option<Duration>;

    /// Signals for the guest: they end a wait, too.
    fn signals(&self) -> Option<&SignalQueue> {
        None
    }
}

/// Waits for as long as it takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

impl Interrupt for Never {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn remaining(&self) -> Option<Duration> {
        None
    }
}

/// Why a wait came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// The descriptor is ready.
    Ready,
    /// The time is over.
    Time,
    /// There is a signal for the guest.
    Signal,
}

/// Fails when the wait is over before it began.
pub(super) fn check(interrupt: &dyn Interrupt) -> Result<(), WorldError> {
    if interrupt.remaining() == Some(Duration::ZERO) {
        return Err(WorldError::Interrupted);
    }
    match interrupt.fd() {
        Some(fd) if is_ready(fd, PollFlags::IN) => Err(WorldError::Interrupted),
        _ => Ok(()),
    }
}

/// Whether a descriptor is ready now. An error counts: the call that follows will tell it.
pub(super) fn is_ready(fd: BorrowedFd<'_>, events: PollFlags) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(fd, events)], Some(&now)) {
            Ok(0) => return false,
            Err(Errno::INTR) => {}
            _ => return true,
        }
    }
}

/// Waits until a descriptor is ready, if one is given, for so long at most, if a time is given.
///
/// # Errors
/// [`WorldError::Interrupted`] when the run is over. That comes before an answer, and an answer before
/// a signal: with several there, which one wins must not be up to luck.
pub(super) fn wait(
    fd: Option<(BorrowedFd<'_>, PollFlags)>,
    time: Option<Duration>,
    interrupt: &dyn Interrupt,
) -> Result<Waited, WorldError> {
    // By a real system call, since RDTSC may fault here.
    let now = || Duration::from_nanos(crate::host::thread::monotonic_ns());
    let until = time.map(|time| now().saturating_add(time));
    loop {
        let remaining = interrupt.remaining();
        if remaining == Some(Duration::ZERO) {
            return Err(WorldError::Interrupted);
        }
        let left = until.map(|until| until.saturating_sub(now()));
        let timeout = remaining.into_iter().chain(left).min().map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let stop = interrupt.fd().map(|fd| (fd, PollFlags::IN));
        let signal = interrupt.signals().map(|signals| (signals.event(), PollFlags::IN));
        let wanted = [stop, fd, signal];
        let mut fds: Vec<PollFd<'_>> =
            wanted.iter().flatten().map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events)).collect();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            // The call that follows fails, too, and its error is the guest's.
            Err(_) => return Ok(Waited::Ready),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let [stop, answer, signal] = wanted.map(|fd| fd.is_some() && ready.next() == Some(true));
        if stop {
            return Err(WorldError::Interrupted);
        }
        if answer {
            return Ok(Waited::Ready);
        }
        if signal {
            return Ok(Waited::Signal);
        }
        if left == Some(Duration::ZERO) {
            return Ok(Waited::Time);
        }
    }
}
