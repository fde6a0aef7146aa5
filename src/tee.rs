//! Two observers of one run, and one observer of several.

use std::sync::{Arc, Mutex, PoisonError};

use dejavm_sandbox::exit::{DeliveredSignal, Exit, Fault, GuestMemory, MadeCall, Observer};
use dejavm_sandbox::world::WorldError;

/// Tells both, the first one first: an exit that it refuses, the second one does not see. The last one of a
/// recording, behind which a replay ends, it does.
pub(crate) struct Tee(pub Box<dyn Observer>, pub Box<dyn Observer>);

impl Observer for Tee {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        match self.0.exit(exit) {
            Ok(()) => self.1.exit(exit),
            Err(WorldError::EndOfLog) => self.1.exit(exit).and(Err(WorldError::EndOfLog)),
            Err(e) => Err(e),
        }
    }

    fn fault(&mut self, fault: &Fault) {
        self.0.fault(fault);
        self.1.fault(fault);
    }

    fn reads_no_clock(&self) -> bool {
        self.0.reads_no_clock() && self.1.reads_no_clock()
    }

    fn reads_memory(&self) -> bool {
        self.0.reads_memory() || self.1.reads_memory()
    }

    fn made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) {
        self.0.made(call, memory);
        self.1.made(call, memory);
    }

    fn answered(&mut self, exit: &Exit, memory: &dyn GuestMemory) -> Result<(), WorldError> {
        self.0.answered(exit, memory)?;
        self.1.answered(exit, memory)
    }

    fn signal(&mut self, signal: &DeliveredSignal) {
        self.0.signal(signal);
        self.1.signal(signal);
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

    fn reads_memory(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reads_memory()
    }

    fn made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).made(call, memory);
    }

    fn answered(&mut self, exit: &Exit, memory: &dyn GuestMemory) -> Result<(), WorldError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).answered(exit, memory)
    }

    fn signal(&mut self, signal: &DeliveredSignal) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).signal(signal);
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
