//! Single-stepping, so that virtual time passes in a program that spins until a timer goes off, and so
//! that a task can lose the CPU between two exits.
//!
//! While a timer is armed and the clock has a timer step, or while the scheduler counts instructions,
//! the program runs with RFLAGS.TF set, and the debug exception behind each instruction advances the
//! clock. The count of steps follows from the program alone: an instruction that faults and is run
//! again traps once, when it is through.
//!
//! The flag is the monitor's, so the program must not see it, and may have set it for itself. Each
//! instruction is looked at before it runs, for the few that store RFLAGS or load it.

use super::Machine;
use super::delivery::Resume;
use crate::exit::ExitKind;
use crate::machine::{RunEnd, RunError, RunOptions};
use crate::program::error::SysError;
use crate::program::kernel::Kernel;
use crate::program::mm::MemError;
use crate::vcpu::registers::General;
use crate::x86::flags::rflags::TRAP_FLAG;
use crate::x86::frame::Frame;
use crate::x86::vector;

/// What an instruction has to do with RFLAGS.TF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Touch {
    /// Nothing.
    #[default]
    None,
    /// `pushf` stores it.
    Stores,
    /// `popf` and `iret` load it.
    Loads,
    /// `int1` makes a debug exception of its own.
    Traps,
    /// A load of SS keeps the trap back until the instruction behind it is through too.
    Shadow,
}

/// What is known while the program is stepped.
#[derive(Debug, Default)]
pub(super) struct Stepper {
    /// RFLAGS.TF of the vCPU is the monitor's.
    pub on: bool,
    /// Steps since the last compared exit.
    pub steps: u64,
    /// The program's own RFLAGS.TF.
    own: bool,
    /// What the instruction that runs next has to do with it.
    next: Touch,
    /// Where that instruction is, and RCX before it.
    pub at: (u64, u64),
}

impl Machine {
    /// Whether steps are to be counted from here on.
    fn wants_steps(&self) -> bool {
        self.passes_time()
            || self.kernel.sched.counts_steps()
            || self.search.is_some()
            || self.debug.steps()
            || self.branches.steps()
    }

    /// Whether a step takes time.
    fn passes_time(&self) -> bool {
        self.kernel.clock.timer_step.is_some() && self.kernel.process.timers.any_armed()
    }

    /// Whether the program is to be stepped and is not yet.
    pub(super) fn begins_to_step(&self) -> bool {
        self.wants_steps() && !self.stepper.on
    }

    /// RFLAGS for the vCPU, when the program goes on with these registers.
    pub(super) fn prepare_step(&mut self, general: &General) -> Result<u64, RunError> {
        self.stepper.on = self.wants_steps();
        if !self.stepper.on {
            return Ok(general.rflags);
        }
        self.step_from(general)?;
        Ok(general.rflags | TRAP_FLAG)
    }

    /// The program is stepped from here on, with these registers of its own.
    pub(super) fn step_from(&mut self, general: &General) -> Result<(), RunError> {
        self.stepper.on = self.wants_steps();
        self.stepper.own = general.rflags & TRAP_FLAG != 0;
        self.look_ahead(general.rip, general.rcx)
    }

    /// RFLAGS as the program would have them without the monitor's stepping.
    pub(super) fn program_flags(&self, flags: u64) -> u64 {
        if self.stepper.on && !self.stepper.own { flags & !TRAP_FLAG } else { flags }
    }

    /// The program's registers at the system-call stub.
    pub(super) fn program_registers(&self) -> General {
        let general = General::from(self.core.vcpu.regs());
        let (r11, rflags) = (self.program_flags(general.r11), self.program_flags(general.rflags));
        General { r11, rflags, ..general }
    }

    /// Whether the program is stepped by the monitor alone.
    pub(super) fn is_stepped(&self) -> bool {
        self.stepper.on && !self.stepper.own
    }

    /// The debug exception behind an instruction that was stepped, with RSP of its stub; or, without one, what
    /// stands for it behind an instruction that was answered.
    pub(super) fn step(
        &mut self,
        rsp: Option<u64>,
        frame: &Frame,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.core.stats.steps += 1;
        self.stepper.steps += 1;
        let trapped = self.stepper.own || self.stepper.next == Touch::Traps;
        match self.stepper.next {
            Touch::Stores if !self.stepper.own => self.clear_stored_flag(frame.rsp)?,
            Touch::Loads => self.stepper.own = frame.rflags & TRAP_FLAG != 0,
            _ => {}
        }
        let fired =
            self.passes_time() && self.pass_time(self.kernel.clock.timer_step.map_or(0, u64::from))?;
        let turn_over = self.count_step(frame.rip);
        let slice_over = self.count_stepped_branch(frame)?;
        let goes_on = !fired && !trapped && !turn_over && !slice_over;
        if goes_on && self.search_step(frame)? {
            return self.lose_turn(frame, options);
        }
        if goes_on && let Some(end) = self.debug_step(frame)? {
            return Ok(Some(end));
        }
        if goes_on && (rsp.is_none() || !self.wants_steps()) {
            self.take_frame(frame);
            self.resume(Resume::Full)?;
            return Ok(None);
        }
        if let (true, Some(rsp)) = (goes_on, rsp) {
            self.look_ahead(frame.rip, self.core.vcpu.regs().rcx)?;
            if frame.rflags & TRAP_FLAG == 0 {
                let next = Frame { rflags: frame.rflags | TRAP_FLAG, ..*frame };
                self.kernel.entry.set_frame(&self.kernel.memory, vector::DEBUG, rsp, &next);
            }
            return Ok(None);
        }
        self.take_frame(frame);
        if fired {
            self.core.stats.exits.timers += 1;
            let steps = self.stepper.steps;
            self.record(ExitKind::Timer { steps }, frame.rip, 0, options)?;
        }
        if trapped {
            self.record_exception(vector::DEBUG, 0, frame.rip, options)?;
            let info = self.debug_signal(frame)?;
            self.kernel.signals().force(info);
        }
        if turn_over && !fired && !trapped {
            self.core.stats.exits.preemptions += 1;
            let steps = self.stepper.steps;
            self.record(ExitKind::Preempted { steps }, frame.rip, 0, options)?;
        } else if slice_over && !fired && !trapped {
            self.end_slice(frame.rip, options)?;
        }
        self.go_on(options)
    }

    /// Counts a step, to this instruction, for the task's turn. Whether that is over.
    fn count_step(&mut self, rip: u64) -> bool {
        let tid = self.kernel.tid();
        let Kernel { sched, space, .. } = &mut self.kernel;
        sched.step(tid, || space.find(rip).is_some_and(|(_, vma)| *vma.name == *space.state.image.exe))
    }

    /// So many nanoseconds pass. Whether a timer goes off.
    pub(super) fn pass_time(&mut self, ns: u64) -> Result<bool, RunError> {
        let Kernel { clock, memory, space, .. } = &mut self.kernel;
        let before = clock.cpu();
        clock.pass(memory, space, ns).map_err(SysError::from)?;
        self.kernel.account(before);
        let fired = self.kernel.fire_timers();
        self.kernel.pass_horizon();
        Ok(fired)
    }

    /// Takes the monitor's RFLAGS.TF out of what `pushf` has just stored.
    fn clear_stored_flag(&mut self, rsp: u64) -> Result<(), RunError> {
        const FLAG_BYTE: u64 = TRAP_FLAG.trailing_zeros() as u64 / 8;
        const FLAG_IN_BYTE: u8 = 1 << (TRAP_FLAG.trailing_zeros() % 8);
        let Kernel { space, memory, .. } = &mut self.kernel;
        let at = rsp.wrapping_add(FLAG_BYTE);
        let mut byte = [0u8];
        let cleared = space.read(memory, at, &mut byte).and_then(|()| {
            byte[0] &= !FLAG_IN_BYTE;
            space.write(memory, at, &byte)
        });
        match cleared {
            Ok(()) | Err(MemError::BadAddress(_)) => Ok(()),
            Err(MemError::Page(e)) => Err(e.into()),
        }
    }

    /// Looks at the instruction that runs next, with this RCX.
    pub(super) fn look_ahead(&mut self, rip: u64, rcx: u64) -> Result<(), RunError> {
        if !self.stepper.on {
            return Ok(());
        }
        self.stepper.at = (rip, rcx);
        self.stepper.next = match touch(&self.code(rip)?) {
            Touch::Shadow => {
                let behind = rip.wrapping_add(self.instruction(rip)?.len() as u64);
                touch(&self.code(behind)?)
            }
            other => other,
        };
        Ok(())
    }
}

/// What the instruction in `code` has to do with RFLAGS.TF, by its opcode behind prefixes (Intel SDM
/// volume 2, appendix A).
fn touch(code: &[u8]) -> Touch {
    let is_prefix = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let opcode = &code[code.iter().take_while(|byte| is_prefix(byte)).count()..];
    match opcode {
        [0x9c, ..] => Touch::Stores,
        [0x9d | 0xcf, ..] => Touch::Loads,
        [0xf1, ..] => Touch::Traps,
        // `mov` to a segment register, whose number is in the middle of ModRM.
        [0x8e, modrm, ..] if modrm >> 3 & 7 == 2 => Touch::Shadow,
        _ => Touch::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_that_touch_the_trap_flag() {
        assert_eq!(touch(&[0x9c]), Touch::Stores);
        assert_eq!(touch(&[0x66, 0x9c]), Touch::Stores);
        assert_eq!(touch(&[0x48, 0x9d]), Touch::Loads);
        assert_eq!(touch(&[0x48, 0xcf]), Touch::Loads);
        assert_eq!(touch(&[0xf1]), Touch::Traps);
        assert_eq!(touch(&[0x8e, 0xd0]), Touch::Shadow);
        assert_eq!(touch(&[0x8e, 0xe8]), Touch::None);
        assert_eq!(touch(&[0x0f, 0x9c, 0xc0]), Touch::None);
        assert_eq!(touch(&[0x66; 15]), Touch::None);
        assert_eq!(touch(&[]), Touch::None);
    }
}
