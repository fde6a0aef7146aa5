//! What an observer that reads memory is told of system calls.

use super::Machine;
use crate::exit::{Exit, ExitKind, GuestMemory, MadeCall};
use crate::machine::{RunError, RunOptions};
use crate::program::kernel::Kernel;
use crate::program::wait::Call;

/// The memory of the running task.
struct Looked<'a>(&'a Kernel);

impl GuestMemory for Looked<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> usize {
        self.0.space.look(&self.0.memory, address, out)
    }
}

impl Machine {
    /// Tells an observer that reads memory of a call that is made for the first time.
    pub(super) fn tell_made(&mut self, call: &Call, options: &mut RunOptions<'_>) {
        let Some(observer) = &mut options.observer else { return };
        if !observer.reads_memory() || self.kernel.resumed().is_some() {
            return;
        }
        if !observer.reads_no_clock() {
            self.core.vcpu.settle();
        }
        let made = MadeCall { task: self.kernel.tid(), number: call.number, args: call.args };
        observer.made(&made, &Looked(&self.kernel));
    }

    /// Tells an observer that reads memory of a call that was answered, behind its exit.
    pub(super) fn tell_answered(&self, exit: &Exit, options: &mut RunOptions<'_>) -> Result<(), RunError> {
        match &mut options.observer {
            Some(observer) if matches!(exit.kind, ExitKind::Syscall { .. }) && observer.reads_memory() => {
                Ok(observer.answered(exit, &Looked(&self.kernel))?)
            }
            _ => Ok(()),
        }
    }
}
