//! Ports that a program accesses. Only the entry stubs may; on hosts where these run at CPL 3 their port is
//! open to the program as well, and its accesses exit. Elsewhere the CPU faults, and so they do here.

use iced_x86::{Instruction, Mnemonic};

use super::Machine;
use crate::host::thread::BlockedSignals;
use crate::machine::{RunEnd, RunError, RunOptions};
use crate::program::error::SysError;
use crate::program::exception;
use crate::program::mm::MemError;
use crate::vcpu::Exit;
use crate::x86::vector;

impl Machine {
    pub(super) fn port_access(
        &mut self,
        exit: &Exit,
        signals: &BlockedSignals,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.kernel.task.regs.general = self.program_registers();
        let rip = self.port_instruction(self.kernel.task.regs.general.rip)?;
        self.kernel.task.regs.general.rip = rip;
        if let Exit::In { len, .. } = exit {
            self.give_up_input(*len, signals)?;
        }
        self.record_exception(vector::PROTECTION, 0, rip, options)?;
        self.raise(exception::signal(vector::PROTECTION, 0, 0), options)
    }

    /// Where the port instruction is that has just exited: KVM may leave RIP behind one that writes a
    /// string.
    fn port_instruction(&mut self, rip: u64) -> Result<u64, RunError> {
        /// Bytes of `outs` with its prefixes, at most.
        const OUTS_BYTES: u64 = 4;
        let is_port = |instruction: &Instruction| {
            use Mnemonic::{In, Insb, Insd, Insw, Out, Outsb, Outsd, Outsw};
            matches!(instruction.mnemonic(), In | Insb | Insd | Insw | Out | Outsb | Outsd | Outsw)
        };
        if is_port(&self.instruction(rip)?) {
            return Ok(rip);
        }
        for back in 1..=OUTS_BYTES {
            let instruction = self.instruction(rip.wrapping_sub(back))?;
            if is_port(&instruction) && instruction.len() as u64 == back {
                return Ok(rip - back);
            }
        }
        Ok(rip)
    }

    /// KVM finishes an input at the next entry, whatever the registers are by then. So it does that
    /// now, into registers that are not kept; the bytes of a string, which it writes into memory, are
    /// put back.
    fn give_up_input(&mut self, len: usize, signals: &BlockedSignals) -> Result<(), RunError> {
        /// Memory that KVM wants is there: one entry will do.
        const ENTRIES: usize = 4;
        let target = self.kernel.task.regs.general.rdi;
        let mut kept = vec![0u8; len];
        let is_memory = match self.kernel.read(target, &mut kept) {
            Ok(()) => true,
            Err(SysError::Errno(_)) => false,
            Err(e) => return Err(e.into()),
        };
        self.core.vcpu.answer_in(&kept);
        for _ in 0..ENTRIES {
            if self.core.vcpu.complete(signals) == Exit::Signal {
                break;
            }
        }
        self.core.vcpu.clear_exception()?;
        if is_memory {
            match self.kernel.space.write(&mut self.kernel.memory, target, &kept) {
                Err(MemError::Page(e)) => return Err(e.into()),
                Ok(()) | Err(MemError::BadAddress(_)) => {}
            }
        }
        Ok(())
    }
}
