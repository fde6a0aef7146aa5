//! When a run must be over: by a stop from another thread, or by its deadline.
//!
//! Whatever takes time in proportion to a number that a guest names asks here now and then, and so
//! does every wait for the host.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::signals::SignalQueue;
use super::thread::{KICK, monotonic_ns};
use crate::world::{Interrupt, WorldError};

/// [`Stop::deadline`] where there is none.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
struct Stop {
    wanted: AtomicBool,
    /// The run is to end that is going on now, and may be gone on with.
    interrupted: AtomicBool,
    /// When the run must end, by the monotonic clock, nanoseconds.
    deadline: AtomicU64,
    /// The thread that runs the vCPU now.
    thread: Mutex<Option<libc::pid_t>>,
    event: OwnedFd,
    signals: SignalQueue,
}

/// Stops a run from another thread, and keeps its deadline. Cloneable; all clones are of the same
/// sandbox.
#[derive(Clone, Debug)]
pub struct StopHandle {
    shared: Arc<Stop>,
}

impl StopHandle {
    /// A handle for a new sandbox, without a deadline.
    ///
    /// # Errors
    /// When the process has no more descriptors.
    pub fn new() -> io::Result<StopHandle> {
        let event = rustix::event::eventfd(
            0,
            rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
        )?;
        Ok(StopHandle {
            shared: Arc::new(Stop {
                wanted: AtomicBool::new(false),
                interrupted: AtomicBool::new(false),
                deadline: AtomicU64::new(NEVER),
                thread: Mutex::new(None),
                event,
                signals: SignalQueue::new()?,
            }),
        })
    }

    /// Ends the run as soon as the guest can be left: at once in guest code, or when the exit
    /// being answered is done. A sandbox that is not running ends when it is next run.
    pub fn stop(&self) {
        self.shared.wanted.store(true, Ordering::SeqCst);
        self.tell();
    }

    /// Ends the run as [`StopHandle::stop`] does, for as long as [`StopHandle::end_interrupt`] is not called:
    /// from then on the sandbox can be run on.
    pub fn interrupt(&self) {
        self.shared.interrupted.store(true, Ordering::SeqCst);
        self.tell();
    }

    /// Takes [`StopHandle::interrupt`] back. A stop stays.
    pub fn end_interrupt(&self) {
        self.shared.interrupted.store(false, Ordering::SeqCst);
        // It does not block, and fails where nothing was told.
        let _ = rustix::io::read(&self.shared.event, &mut [0; 8]);
        if self.is_stopped() {
            self.tell();
        }
    }

    /// Ends waits for the host, and makes the guest be left.
    fn tell(&self) {
        let _ = rustix::io::write(&self.shared.event, &1u64.to_ne_bytes());
        self.kick();
    }

    /// Sends a program a signal from outside, as its terminal would for ^C, or somebody else by
    /// `kill`. It gets it at its next system call, or at once where it waits in one; one that ends it
    /// ends it at once. Where it has a handler for the signal and makes no system call, the second of
    /// the same kind ends it. Returns how often the signal was sent since the program last took it. A
    /// bare-metal guest has no signals.
    pub fn signal(&self, signal: u32) -> u32 {
        let times = self.shared.signals.send(signal);
        self.kick();
        times
    }

    /// Makes the guest be left, if it runs.
    fn kick(&self) {
        if let Some(thread) = *self.thread() {
            // SAFETY: tgkill takes no memory. The thread is alive and has the signal blocked: it
            // takes itself out of `thread`, under the lock, before it unblocks it.
            unsafe {
                libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, KICK);
            }
        }
    }

    /// Whether a stop was asked for, or an interrupt.
    pub fn is_stopped(&self) -> bool {
        self.shared.wanted.load(Ordering::SeqCst) || self.shared.interrupted.load(Ordering::SeqCst)
    }

    /// Becomes readable when a stop is asked for.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }

    /// Sets when the run must end; `None` takes the deadline away.
    pub fn set_deadline(&self, at: Option<Instant>) {
        let left = at.map(|at| at.saturating_duration_since(Instant::now()));
        let ns = left.and_then(|left| u64::try_from(left.as_nanos()).ok()?.checked_add(monotonic_ns()));
        self.shared.deadline.store(ns.unwrap_or(NEVER), Ordering::SeqCst);
    }

    /// How much longer the run may take; `None` without a deadline. Reads the clock by a real system
    /// call: good where RDTSC faults.
    pub fn time_left(&self) -> Option<Duration> {
        match self.shared.deadline.load(Ordering::SeqCst) {
            NEVER => None,
            at => Some(Duration::from_nanos(at.saturating_sub(monotonic_ns()))),
        }
    }

    /// Whether the run may go on. Costs about a microsecond where there is a deadline: to be asked
    /// once in [`Pace`] steps of a loop.
    ///
    /// # Errors
    /// [`WorldError::Interrupted`] when it was stopped or its deadline has passed.
    pub fn check(&self) -> Result<(), WorldError> {
        if self.is_stopped() || self.time_left() == Some(Duration::ZERO) {
            return Err(WorldError::Interrupted);
        }
        Ok(())
    }

    /// Says that the calling thread runs the vCPU until the guard is dropped.
    pub fn running(&self) -> Running<'_> {
        // SAFETY: gettid takes no arguments.
        let thread = unsafe { libc::gettid() };
        *self.thread() = Some(thread);
        Running { handle: self }
    }

    fn thread(&self) -> MutexGuard<'_, Option<libc::pid_t>> {
        self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interrupt for StopHandle {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.event())
    }

    fn remaining(&self) -> Option<Duration> {
        self.time_left()
    }

    fn signals(&self) -> Option<&SignalQueue> {
        Some(&self.shared.signals)
    }
}

/// While it lives, the thread that made it can be kicked.
#[derive(Debug)]
pub struct Running<'a> {
    handle: &'a StopHandle,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.handle.thread() = None;
    }
}

/// Steps of a loop, or bytes of a copy divided by 64, between two looks at the deadline: some tens of
/// microseconds of work.
const STRIDE: u64 = 1024;

/// The pace of a loop whose length a guest decides: it counts steps, and looks at the deadline once in
/// a while.
#[derive(Debug)]
pub struct Pace<'a> {
    stop: &'a StopHandle,
    steps: u64,
}

impl<'a> Pace<'a> {
    /// For one loop of the sandbox that `stop` is of.
    pub fn new(stop: &'a StopHandle) -> Pace<'a> {
        Pace { stop, steps: 0 }
    }

    /// One step was done.
    ///
    /// # Errors
    /// As [`StopHandle::check`].
    pub fn step(&mut self) -> Result<(), WorldError> {
        self.steps(1)
    }

    /// So many bytes were copied or cleared.
    ///
    /// # Errors
    /// As [`StopHandle::check`].
    pub fn bytes(&mut self, bytes: usize) -> Result<(), WorldError> {
        const BYTES_A_STEP: usize = 64;
        self.steps((bytes / BYTES_A_STEP) as u64 + 1)
    }

    fn steps(&mut self, steps: u64) -> Result<(), WorldError> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps < STRIDE {
            return Ok(());
        }
        self.steps = 0;
        self.stop.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_may_go_on_until_its_deadline_or_a_stop() {
        let handle = StopHandle::new().expect("an eventfd");
        assert!(handle.check().is_ok());
        handle.set_deadline(Some(Instant::now() + Duration::from_secs(3600)));
        assert!(handle.check().is_ok());
        handle.set_deadline(Some(Instant::now()));
        assert!(matches!(handle.check(), Err(WorldError::Interrupted)));
        handle.set_deadline(None);
        assert!(handle.check().is_ok());
        handle.stop();
        assert!(matches!(handle.check(), Err(WorldError::Interrupted)));
    }

    #[test]
    fn an_interrupt_is_taken_back_and_a_stop_is_not() {
        let told = |handle: &StopHandle| {
            let mut event =
                [rustix::event::PollFd::from_borrowed_fd(handle.event(), rustix::event::PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            (handle.is_stopped(), rustix::event::poll(&mut event, Some(&now)) == Ok(1))
        };
        let handle = StopHandle::new().expect("an eventfd");
        handle.end_interrupt();
        assert_eq!(told(&handle), (false, false));
        handle.interrupt();
        handle.interrupt();
        assert_eq!(told(&handle), (true, true));
        handle.end_interrupt();
        assert_eq!(told(&handle), (false, false));
        handle.stop();
        handle.interrupt();
        handle.end_interrupt();
        assert_eq!(told(&handle), (true, true));
    }

    #[test]
    fn a_loop_looks_once_in_a_while() {
        let handle = StopHandle::new().expect("an eventfd");
        handle.stop();
        let mut pace = Pace::new(&handle);
        let steps = (0..).take_while(|_| pace.step().is_ok()).count() as u64;
        assert_eq!(steps, STRIDE - 1);
        assert!(Pace::new(&handle).bytes(1 << 20).is_err());
    }
}
