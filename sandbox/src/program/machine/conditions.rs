//! Whether a breakpoint of the debugger stops the program: where the instruction has one, and its condition holds.

use super::Machine;
use crate::machine::RunError;
use crate::program::kernel::Kernel;
use crate::program::patch::Condition;
use crate::vcpu::registers::{General, UserRegisters};

impl Machine {
    /// Whether the running program is the one with the breakpoints, and one is at this address.
    pub(super) fn breaks_at(&self, rip: u64) -> bool {
        self.kernel.pid() == self.debug.process && self.debug.breakpoints.contains(&rip)
    }

    /// Whether the program is to stop before its next instruction, with these registers.
    pub(super) fn stops_at(&mut self, general: &General) -> Result<bool, RunError> {
        if !self.breaks_at(general.rip) {
            return Ok(false);
        }
        match self.debug.conditions.get(&general.rip) {
            Some(conditions) => {
                self.debug.judged += u64::from(!conditions.is_empty());
                one_holds(&conditions.clone(), self, general)
            }
            None => Ok(true),
        }
    }

    /// Whether one of these conditions holds for the running task where it is. Where there is none, nothing must
    /// hold.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn holds(&mut self, conditions: &[Condition]) -> Result<bool, RunError> {
        let general = self.kernel.task.regs.general;
        one_holds(conditions, self, &general)
    }
}

fn one_holds(conditions: &[Condition], machine: &mut Machine, general: &General) -> Result<bool, RunError> {
    if conditions.iter().any(Condition::reads_bases) {
        machine.refresh_bases()?;
    }
    let Kernel { space, memory, task, .. } = &machine.kernel;
    let regs = UserRegisters { general: *general, ..task.regs };
    let mut read = |address: u64, out: &mut [u8]| space.peek(memory, address, out).is_ok();
    Ok(conditions.is_empty() || conditions.iter().any(|condition| condition.holds(&regs, &mut read)))
}
