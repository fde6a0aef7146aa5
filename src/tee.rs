//! Two observers of one run.

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
