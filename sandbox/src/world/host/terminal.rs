//! The user's terminal, as a guest may use it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::fcntl_dupfd_cloexec;

use super::interrupt::{Interrupt, Waited, is_ready, wait};
use super::stream::again;
use crate::errno::Errno;
use crate::host::tty::{self, Termios, Winsize};
use crate::world::{TerminalAnswer, TerminalModes, TerminalRequest, WorldError};

/// How often it is looked whether output has gone out, which nothing tells.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Bytes read at once.
const MOST: usize = 64 << 10;

/// The user's terminal. What a guest sets of it comes back when this is dropped.
#[derive(Debug)]
pub(super) struct Terminal {
    fd: OwnedFd,
    /// Its modes before the guest set any.
    before: Option<Termios>,
    /// Its size before the guest set one, and the one that the guest set.
    sizes: Option<(Winsize, Winsize)>,
}

impl Terminal {
    /// The terminal behind a descriptor.
    pub fn of(fd: BorrowedFd<'_>) -> Option<Terminal> {
        let own = again(fd, OFlags::RDWR).or_else(|| fcntl_dupfd_cloexec(fd, 3).ok())?;
        Some(Terminal { fd: own, before: None, sizes: None })
    }

    /// For `poll`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Answers a question of the guest's.
    pub fn answer(
        &mut self,
        request: TerminalRequest,
        interrupt: &dyn Interrupt,
    ) -> Result<Result<TerminalAnswer, Errno>, WorldError> {
        if request == TerminalRequest::Drain {
            return self.drain(interrupt);
        }
        Ok(self.answer_now(request).map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_host)))
    }

    fn answer_now(&mut self, request: TerminalRequest) -> std::io::Result<TerminalAnswer> {
        let fd = self.fd.as_fd();
        match request {
            TerminalRequest::Modes => Ok(TerminalAnswer::Modes(TerminalModes::from_bytes(&tty::modes(fd)?))),
            TerminalRequest::SetModes(modes) => {
                let now = tty::modes(fd)?;
                let modes = modes.on_the_line_of(&TerminalModes::from_bytes(&now));
                self.before.get_or_insert(now);
                tty::set_modes(fd, &modes.to_bytes())?;
                Ok(TerminalAnswer::Done)
            }
            TerminalRequest::Size => Ok(TerminalAnswer::Size(tty::size(fd)?)),
            TerminalRequest::SetSize(size) => {
                let before = self.sizes.map_or_else(|| tty::size(fd), |(before, _)| Ok(before))?;
                self.sizes = Some((before, size));
                tty::set_size(fd, &size)?;
                Ok(TerminalAnswer::Done)
            }
            TerminalRequest::Flush(queue) => tty::flush(fd, queue).map(|()| TerminalAnswer::Done),
            TerminalRequest::Available => tty::available(fd).map(TerminalAnswer::Available),
            TerminalRequest::Read(max) => {
                let mut bytes = vec![0; (max as usize).min(MOST)];
                if !is_ready(fd, rustix::event::PollFlags::IN) {
                    return Err(rustix::io::Errno::AGAIN.into());
                }
                let n = rustix::io::read(fd, &mut bytes)?;
                bytes.truncate(n);
                Ok(TerminalAnswer::Read(bytes))
            }
            TerminalRequest::Drain => Ok(TerminalAnswer::Done),
        }
    }

    /// Waits until all output has gone out: not by `tcdrain`, which nothing could interrupt.
    fn drain(&self, interrupt: &dyn Interrupt) -> Result<Result<TerminalAnswer, Errno>, WorldError> {
        while tty::unsent(self.fd.as_fd()).is_ok_and(|bytes| bytes > 0) {
            if wait(None, Some(LOOK_AGAIN), interrupt)? == Waited::Signal {
                return Ok(Err(Errno::EINTR));
            }
        }
        Ok(Ok(TerminalAnswer::Done))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let fd = self.fd.as_fd();
        if let Some(before) = &self.before {
            let _ = tty::set_modes(fd, before);
        }
        // Unless the user has changed it since.
        if let Some((before, set)) = self.sizes
            && tty::size(fd).is_ok_and(|now| now == set)
        {
            let _ = tty::set_size(fd, &before);
        }
    }
}
