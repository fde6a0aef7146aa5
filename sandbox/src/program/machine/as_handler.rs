//! What the handler of breakpoints at CPL 3 answers, where the monitor has it to answer: so that a run makes the same
//! exits while it is stepped, and while KVM emulates it.

use super::Machine;
use super::instructions::Answered;
use crate::exit::Trapped;
use crate::host::IoMap;
use crate::machine::RunError;
use crate::program::clock::PAUSE_STEP;
use crate::program::entry::Entry;
use crate::program::error::SysError;
use crate::program::kernel::Kernel;
use crate::program::vdso;
use crate::ram::PAGE_SIZE;
use crate::x86::flags::rflags::TRAP_FLAG;
use crate::x86::frame::Frame;
use crate::x86::vector;

impl Machine {
    /// Answers an instruction as the handler at CPL 3 would have, if the program were not stepped, or if KVM had
    /// not emulated it: without an exit. The frame behind it, or none where the handler has left it, or would
    /// have left it, to the monitor.
    pub(super) fn answer_as_handler(
        &mut self,
        answered: Answered,
        vector: u8,
        frame: &Frame,
    ) -> Result<Option<Frame>, RunError> {
        let Kernel { entry, memory, .. } = &self.kernel;
        let looks = vector == vector::BREAKPOINT && self.core.host.io_map != IoMap::Ignored;
        let (on, by_handler) = (self.stepper.on, Entry::is_handler(self.core.vcpu.regs().rip));
        let traps = if on { !self.is_stepped() } else { frame.rflags & TRAP_FLAG != 0 };
        if !looks || traps || by_handler && !on || !entry.looks_at(memory, frame.rip) {
            return Ok(None);
        }
        let (leaf, subleaf) = (self.core.vcpu.regs().rax as u32, self.core.vcpu.regs().rcx as u32);
        let len = match answered {
            Answered::Cpuid => {
                let Some(answer) = entry.leaf(memory, leaf, subleaf) else { return Ok(None) };
                let regs = self.core.vcpu.regs_mut();
                [regs.rax, regs.rbx, regs.rcx, regs.rdx] = answer.map(u64::from);
                1
            }
            Answered::Pause if entry.pause_exits(memory) => return Ok(None),
            Answered::Pause => {
                let clock = entry.clock(memory);
                if let Some(clock) = clock {
                    let (now, limit) = self.advance_clock_page(clock, PAUSE_STEP)?;
                    if now.wrapping_sub(PAUSE_STEP) >= limit {
                        return Ok(None);
                    }
                }
                1
            }
            Answered::Timestamp(Trapped::Rdtsc, _) => {
                let Some(clock) = entry.clock(memory) else { return Ok(None) };
                let (mode, step) =
                    (self.clock_word(clock, vdso::MODE)?, self.clock_word(clock, vdso::STEP_NS)?);
                if mode != 0 {
                    return Ok(None);
                }
                let (tsc, limit) = self.advance_clock_page(clock, step)?;
                if tsc >= limit {
                    return Ok(None);
                }
                let regs = self.core.vcpu.regs_mut();
                (regs.rax, regs.rdx) = (tsc & 0xffff_ffff, tsc >> 32);
                1
            }
            Answered::Xgetbv if subleaf != 0 || (frame.rip + 1).is_multiple_of(PAGE_SIZE as u64) => {
                return Ok(None);
            }
            Answered::Xgetbv => {
                let xcr0 = entry.xcr0(memory);
                let regs = self.core.vcpu.regs_mut();
                (regs.rax, regs.rdx) = (xcr0 & 0xffff_ffff, xcr0 >> 32);
                2
            }
            Answered::Timestamp(..) | Answered::Draw(_) => return Ok(None),
        };
        Ok(Some(Frame { rip: frame.rip + len, ..*frame }))
    }

    /// A word of the clock page, which the program can write.
    fn clock_word(&mut self, clock: u64, offset: usize) -> Result<u64, RunError> {
        let mut word = [0; 8];
        self.kernel.read(clock + offset as u64, &mut word).map_err(RunError::from)?;
        Ok(u64::from_le_bytes(word))
    }

    /// Advances the clock page. The time then, and the limit.
    fn advance_clock_page(&mut self, clock: u64, step: u64) -> Result<(u64, u64), RunError> {
        let now = self.clock_word(clock, vdso::MONOTONIC_NS)?.wrapping_add(step);
        let limit = self.clock_word(clock, vdso::LIMIT_NS)?;
        let Kernel { space, memory, .. } = &mut self.kernel;
        let at = clock + vdso::MONOTONIC_NS as u64;
        space.write(memory, at, &now.to_le_bytes()).map_err(SysError::from)?;
        Ok((now, limit))
    }
}
