//! Signals from outside on their way to a guest: what a terminal's ^C or a `kill` of the embedding
//! process becomes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

/// The highest signal number.
const MAX: u32 = 64;

/// Signals that were sent to a guest and that it has not seen yet: at most one of each, as Linux keeps
/// standard signals.
#[derive(Debug)]
pub struct SignalQueue {
    /// Bit `n - 1` for signal `n`, to be looked at without the lock.
    waiting: AtomicU64,
    /// The same, with how often each was sent since it was last taken.
    times: Mutex<Vec<(u32, u32)>>,
    /// Readable while there is a signal.
    event: OwnedFd,
}

impl SignalQueue {
    /// An empty queue.
    ///
    /// # Errors
    /// When the process has no more descriptors.
    pub fn new() -> io::Result<SignalQueue> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(SignalQueue { waiting: AtomicU64::new(0), times: Mutex::default(), event })
    }

    /// Adds a signal, by its number (1 to 64; others are nothing). Returns how often it was sent since
    /// the guest last took it, this time included.
    pub fn send(&self, signal: u32) -> u32 {
        if !(1..=MAX).contains(&signal) {
            return 0;
        }
        let mut times = self.lock();
        let count = match times.iter_mut().find(|(s, _)| *s == signal) {
            Some((_, count)) => {
                *count = count.saturating_add(1);
                *count
            }
            None => {
                times.push((signal, 1));
                1
            }
        };
        self.waiting.fetch_or(1 << (signal - 1), Ordering::SeqCst);
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        count
    }

    /// Whether there is one.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// Takes the signal that came first.
    pub fn take(&self) -> Option<u32> {
        self.take_if(|_, _| true)
    }

    /// Takes one that is to end the guest wherever it is: one in `fatal` (bit `n - 1` for signal `n`), or
    /// one that was sent again before the guest has seen it.
    pub fn take_fatal(&self, fatal: u64) -> Option<u32> {
        self.take_if(|signal, times| fatal & 1 << (signal - 1) != 0 || times > 1)
    }

    fn take_if(&self, wanted: impl Fn(u32, u32) -> bool) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let mut times = self.lock();
        let at = times.iter().position(|(signal, times)| wanted(*signal, *times))?;
        let (signal, _) = times.remove(at);
        self.waiting.fetch_and(!(1 << (signal - 1)), Ordering::SeqCst);
        if times.is_empty() {
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
        }
        Some(signal)
    }

    /// Readable while there is a signal.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u32, u32)>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_taken_in_order_and_once() {
        let queue = SignalQueue::new().expect("an eventfd");
        assert_eq!((queue.send(15), queue.send(2), queue.send(15)), (1, 1, 2));
        assert_eq!((queue.send(0), queue.send(65)), (0, 0));
        assert_eq!(queue.take(), Some(15));
        assert_eq!(queue.take(), Some(2));
        assert_eq!(queue.take(), None);
        assert!(queue.is_empty());
        assert!(rustix::io::read(&queue.event, &mut [0; 8]).is_err());
    }

    #[test]
    fn what_ends_a_guest_that_looks_at_nothing() {
        let queue = SignalQueue::new().expect("an eventfd");
        queue.send(2);
        queue.send(28);
        assert_eq!(queue.take_fatal(0), None);
        assert_eq!(queue.take_fatal(1 << 14), None);
        queue.send(2);
        assert_eq!(queue.take_fatal(0), Some(2));
        queue.send(2);
        assert_eq!(queue.take_fatal(1 << 1), Some(2));
        assert_eq!(queue.take(), Some(28));
    }
}
