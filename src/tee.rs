//! Two observers of one run, and one observer of several.

use std::sync::{Arc, Mutex, PoisonError};

use dejavm_sandbox::exit::{Exit, Fault, Observer};
use dejavm_sandbox::world::WorldError;

/// Tells both, the first one first: an exit that it refuses, the second one does not see.
pub(crate) struct Tee(pub Box<dyn Observer>, pub Box<dyn Observer>);

impl Observer for Tee {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        self.0.exit(exit)?;
        self.1.exit(exit)
    }

    fn fault(&mut self, fault: &Fault) {
        self.0.fault(fault);
        self.1.fault(fault);
    }

    fn reads_no_clock(&self) -> bool {
        self.0.reads_no_clock() && self.1.reads_no_clock()
    }
}

/// An observer that builders share.
pub(crate) type SharedObserver = Arc<Mutex<Box<dyn Observer>>>;

/// One that may be shared.
pub(crate) fn share(observer: impl Observer + 'static) -> SharedObserver {
    Arc::new(Mutex::new(Box::new(observer)))
}

/// For a run. What no other builder has is taken out of its lock.
pub(crate) fn unshare(observer: SharedObserver) -> Box<dyn Observer> {
    match Arc::try_unwrap(observer) {
        Ok(observer) => observer.into_inner().unwrap_or_else(PoisonError::into_inner),
        Err(shared) => Box::new(Shared(shared)),
    }
}

/// One observer of several runs.
struct Shared(SharedObserver);

impl Observer for Shared {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).exit(exit)
    }

    fn fault(&mut self, fault: &Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fault(fault);
    }

    fn reads_no_clock(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reads_no_clock()
    }
}

/// Both, either or none.
pub(crate) fn both(
    first: Option<Box<dyn Observer>>,
    second: Option<Box<dyn Observer>>,
) -> Option<Box<dyn Observer>> {
    match (first, second) {
        (Some(first), Some(second)) => Some(Box::new(Tee(first, second))),
        (first, second) => first.or(second),
    }
}
