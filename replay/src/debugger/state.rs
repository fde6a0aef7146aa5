//! The registers and the memory that a debugger reads and sets.

use gdbstub::common::Tid;

use super::Debugger;
use super::arch::Registers;
use crate::looking;
use crate::timeline::TimelineError;

impl Debugger<'_> {
    /// The running task, as a thread of gdb's.
    pub(super) fn current(&self) -> Tid {
        Tid::new(looking::current_task(self.subject.machine()) as usize).unwrap_or(Tid::MIN)
    }

    /// A task's registers.
    pub(super) fn registers(&mut self, tid: Tid) -> Result<Option<Registers>, TimelineError> {
        let found = looking::task(self.subject.machine_mut(), tid.get() as u32)?;
        Ok(found.map(|(regs, fp)| Registers::of(&regs, &fp)))
    }

    /// Sets a task's registers; whether that can be: of the running task.
    pub(super) fn set_registers(&mut self, new: &Registers, tid: Tid) -> Result<bool, TimelineError> {
        if tid != self.current() || self.registers(tid)?.is_none() {
            return Ok(false);
        }
        let Some(machine) = self.subject.to_change()? else { return Ok(false) };
        let Some((regs, fp)) = looking::task(machine, tid.get() as u32)? else { return Ok(false) };
        let Some(program) = machine.program_mut() else { return Ok(false) };
        match new.put(&regs, &fp) {
            Some((regs, fp)) => Ok(program.set_registers(&regs, &fp)?),
            None => Ok(false),
        }
    }

    /// Reads memory, as much as there is.
    pub(super) fn read_memory(&self, address: u64, out: &mut [u8]) -> usize {
        looking::memory(self.subject.machine(), address, out)
    }

    /// Writes memory; how many bytes.
    pub(super) fn write_memory(&mut self, address: u64, data: &[u8]) -> Result<usize, TimelineError> {
        let machine = self.subject.to_change()?;
        let program = machine.and_then(|machine| machine.program_mut());
        Ok(program.map_or(Ok(0), |program| program.write_memory(address, data))?)
    }
}
