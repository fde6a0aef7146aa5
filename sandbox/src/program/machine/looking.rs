//! What an observer that reads memory is told of system calls.

use super::Machine;
use crate::exit::{Delivered, Exit, ExitKind, GuestMemory, MadeCall, Taken};
use crate::machine::{RunError, RunOptions};
use crate::program::fs::{FdLinks, Fs};
use crate::program::kernel::Kernel;
use crate::program::signal::{Delivery, Info};
use crate::program::wait::Call;

/// The memory of the running task.
struct Looked<'a>(&'a Kernel);

impl GuestMemory for Looked<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> usize {
        self.0.space.look(&self.0.memory, address, out)
    }

    fn path_of(&self, descriptor: u32) -> Option<Vec<u8>> {
        self.0.files.target(descriptor).map(|file| self.0.outside.look(Fs::path_of, file))
    }

    fn working_directory(&self) -> Option<Vec<u8>> {
        Some(self.0.outside.look(Fs::path_of, self.0.context.cwd))
    }

    fn process(&self) -> Option<(u32, usize)> {
        let process = self.0.pid();
        Some((process, self.0.tasks_of(process).len()))
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

    /// Tells an observer that reads memory of a signal that is taken to the running task.
    pub(super) fn tell_signal(&mut self, delivery: &Delivery, options: &mut RunOptions<'_>) {
        let taken = match delivery {
            Delivery::Ignore(_) => return,
            Delivery::Handle(_, action) => Taken::Handled(action.handler),
            Delivery::Terminate(_) => Taken::Killed,
            Delivery::Stop(_) => Taken::Stopped,
        };
        let Some(observer) = &mut options.observer else { return };
        if !observer.reads_memory() {
            return;
        }
        if !observer.reads_no_clock() {
            self.core.vcpu.settle();
        }
        let Info { signal, code, .. } = *delivery.info();
        let (task, process) = (self.kernel.tid(), self.kernel.pid());
        observer.signal(&Delivered { exits: self.core.exits, task, process, signal, code, taken });
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
