//! What a debugger asks of a program that runs, and not of a recorded one: to halt wherever it is, and before signals
//! are delivered.

use super::{Halt, Machine};
use crate::machine::RunError;
use crate::program::mm::USER_END;
use crate::program::signal::number::MAX;
use crate::program::signal::{Info, SI_USER};
use crate::vcpu::registers::General;
use crate::x86::flags::rflags::TRAP_FLAG;

impl Machine {
    /// Whether the running task has no next instruction yet: it waits in a system call, or has ended.
    pub fn is_waiting(&self) -> bool {
        self.kernel.resumed().is_some() || self.kernel.task.dead
    }

    /// The number of the signal that is delivered next to the running task, of those that do something.
    pub fn next_signal(&mut self) -> Option<u32> {
        self.kernel.signals().next_deliverable().map(|info| info.signal)
    }

    /// Forgets that signal.
    pub fn drop_signal(&mut self) {
        self.kernel.signals().drop_next_deliverable();
    }

    /// Sends a task a signal, as another process would. A number that is none is ignored.
    pub fn send_signal(&mut self, tid: u32, signal: u32) {
        if (1..=MAX).contains(&signal) {
            self.kernel.send(tid, Info { signal, code: SI_USER, direct: true, ..Info::default() });
        }
    }

    /// Whether the run is to stop for a signal that is about to be delivered to the running task.
    pub(super) fn shows_signal(&mut self) -> bool {
        if !self.debug.signals || self.kernel.pid() != self.debug.process || self.kernel.task.dead {
            return false;
        }
        let Some(signal) = self.next_signal() else { return false };
        self.debug.halt = Some(Halt::Signal(signal));
        true
    }

    /// The guest was left for nothing of its own, and is to halt soon: before the next instruction, if it is in the
    /// program's own code. In the monitor's it will not be for long.
    pub(super) fn halt_soon(&mut self) -> Result<(), RunError> {
        let general = General::from(self.core.vcpu.regs());
        let in_program = general.rip < USER_END && general.rflags & TRAP_FLAG == 0;
        // A breakpoint that is about to be told would be forgotten, with RIP behind it.
        if !self.stepper.on && (!in_program || self.has_exception(general.rip)?) {
            return Ok(());
        }
        self.debug.steps = Some(self.stepper.steps.saturating_add(1));
        if !self.stepper.on {
            self.core.vcpu.regs_mut().rflags |= TRAP_FLAG;
            self.step_from(&general)?;
        }
        Ok(())
    }
}
