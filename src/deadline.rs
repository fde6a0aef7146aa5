//! When a run must be over, also while it waits for the host.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dejavm_sandbox::host::thread::StopHandle;
use dejavm_sandbox::world::Interrupt;

/// An instant that a sandbox and its outside share; it is set when the sandbox is first run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deadline(Arc<Mutex<Option<Instant>>>);

impl Deadline {
    pub fn set(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    pub fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a wait for the host when the sandbox is stopped or its time is over.
pub(crate) struct Waits {
    pub stop: StopHandle,
    pub deadline: Deadline,
}

impl Interrupt for Waits {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stop.event())
    }

    fn remaining(&self) -> Option<Duration> {
        Some(self.deadline.get()?.saturating_duration_since(Instant::now()))
    }
}
