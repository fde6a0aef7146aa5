//! Waiting for the host, but not for ever.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::world::WorldError;

/// What ends a wait for the outside before there is an answer.
pub trait Interrupt: Send {
    /// A descriptor that becomes readable when the wait is to end, such as an eventfd.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// How much longer to wait at most; zero when the time is over.
    fn remaining(&self) -> Option<Duration>;
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

/// Waits until a descriptor is ready.
pub(super) fn wait(fd: &impl AsFd, events: PollFlags, interrupt: &dyn Interrupt) -> Result<(), WorldError> {
    loop {
        let remaining = interrupt.remaining();
        if remaining == Some(Duration::ZERO) {
            return Err(WorldError::Interrupted);
        }
        let timeout = remaining.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut fds = vec![PollFd::new(fd, events)];
        if let Some(stop) = interrupt.fd() {
            fds.push(PollFd::from_borrowed_fd(stop, PollFlags::IN));
        }
        // A stop comes before an answer: with both there, which one wins must not be up to luck.
        let [stop, answer] = match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => [1, 0].map(|n| fds.get(n).is_some_and(|fd| !fd.revents().is_empty())),
            Err(Errno::INTR) => continue,
            // The call that follows fails, too, and its error is the guest's.
            Err(_) => return Ok(()),
        };
        if stop {
            return Err(WorldError::Interrupted);
        }
        if answer {
            return Ok(());
        }
    }
}
