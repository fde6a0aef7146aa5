//! The program's instructions: reading them, and those that the monitor answers.

use iced_x86::{Decoder, DecoderOptions, Instruction};
use kvm_bindings::kvm_regs;
use smallvec::{SmallVec, smallvec};

use super::Machine;
use super::delivery::Resume;
use super::exceptions::Trap;
use crate::exit::{ExitKind, Trapped};
use crate::machine::{RunEnd, RunError, RunOptions};
use crate::program::error::SysError;
use crate::program::exception;
use crate::program::mm::patch::random::{self, Draw, Source};
use crate::program::mm::{Access, patch};
use crate::ram::PAGE_SIZE;
use crate::x86::MAX_INSTRUCTION;
use crate::x86::flags::rflags::{ARITHMETIC_FLAGS, CARRY_FLAG, TRAP_FLAG};
use crate::x86::frame::Frame;
use crate::x86::vector;

/// An instruction that the monitor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// `RDTSC` or `RDTSCP`, so many bytes of which are at RIP and behind.
    Timestamp(Trapped, u64),
    /// `RDRAND`, `RDSEED` or `RDPID`.
    Draw(Draw),
    /// `CPUID`.
    Cpuid,
    /// `PAUSE`.
    Pause,
    /// `XGETBV`.
    Xgetbv,
}

impl Machine {
    /// The instruction at an address; an invalid one where there is none.
    pub(super) fn instruction(&mut self, rip: u64) -> Result<Instruction, RunError> {
        let bytes = self.code(rip)?;
        Ok(Decoder::with_ip(64, &bytes, rip, DecoderOptions::NONE).decode())
    }

    /// The bytes at an address, as many as may be those of one instruction.
    pub(super) fn code(&mut self, rip: u64) -> Result<SmallVec<[u8; MAX_INSTRUCTION]>, RunError> {
        let mut bytes = smallvec![0u8; MAX_INSTRUCTION];
        let all = self.kernel.space.accessible(rip, MAX_INSTRUCTION, Access::Exec);
        let in_page = all.min(PAGE_SIZE - (rip % PAGE_SIZE as u64) as usize);
        // A mapping may be longer than what is mapped: a file may end with the first page.
        for len in [all, in_page] {
            match self.kernel.read(rip, &mut bytes[..len]) {
                Ok(()) => {
                    bytes.truncate(len);
                    return Ok(bytes);
                }
                Err(SysError::Errno(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(SmallVec::new())
    }

    /// The instruction at RIP, where an exception came from, if it is one that the monitor answers.
    pub(super) fn answered_at(&mut self, vector: u8, rip: u64) -> Result<Option<Answered>, RunError> {
        match vector {
            vector::PROTECTION => {
                let timestamp = timestamp_at(&self.code(rip)?);
                Ok(timestamp.map(|(trapped, len)| Answered::Timestamp(trapped, len)))
            }
            vector::BREAKPOINT => {
                // RIP is behind the first byte.
                let start = rip.wrapping_sub(1);
                if !self.kernel.space.find(start).is_some_and(|(_, vma)| vma.is_code()) {
                    return Ok(None);
                }
                Ok(match self.code(start)?[..] {
                    [patch::BREAKPOINT, patch::CPUID, ..] => Some(Answered::Cpuid),
                    [patch::BREAKPOINT, patch::PAUSE, ..] => Some(Answered::Pause),
                    // RIP is at its last byte.
                    [patch::BREAKPOINT, patch::RDTSC, ..] => Some(Answered::Timestamp(Trapped::Rdtsc, 1)),
                    [patch::BREAKPOINT, patch::XGETBV, patch::XGETBV_END, ..] => Some(Answered::Xgetbv),
                    _ => None,
                })
            }
            vector::INVALID_OPCODE => {
                // A program's own has its signal.
                if !self.kernel.space.find(rip).is_some_and(|(_, vma)| vma.is_code()) {
                    return Ok(None);
                }
                Ok(random::draw_at(&self.code(rip)?).map(Answered::Draw))
            }
            _ => Ok(None),
        }
    }

    /// Answers an instruction, and goes on behind it.
    pub(super) fn answer_instruction(
        &mut self,
        answered: Answered,
        trap: &Trap,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let Trap { vector, rsp, frame, .. } = *trap;
        self.core.stats.exits.instructions += 1;
        self.kernel.tick()?;
        let mut next = frame;
        let at = if vector == vector::BREAKPOINT { frame.rip - 1 } else { frame.rip };
        if answered == Answered::Xgetbv && self.core.vcpu.regs().rcx as u32 != 0 {
            // There are no other registers.
            self.take_frame(&Frame { rip: at, ..frame });
            self.record_exception(vector::PROTECTION, 0, at, options)?;
            return self.raise(exception::signal(vector::PROTECTION, 0, 0), options);
        }
        let (trapped, result) = match answered {
            Answered::Timestamp(trapped, len) => {
                next.rip += len;
                (trapped, self.read_timestamp(trapped))
            }
            Answered::Draw(draw) => {
                next.rip += draw.len;
                self.draw(draw, &mut next)
            }
            Answered::Cpuid => {
                next.rip += 1;
                self.cpuid()
            }
            Answered::Pause => {
                next.rip += 1;
                self.kernel.sched.end_slice();
                (Trapped::Pause, 0)
            }
            Answered::Xgetbv => {
                next.rip += 2;
                let xcr0 = self.kernel.cpu.xcr0();
                let regs = self.core.vcpu.regs_mut();
                (regs.rax, regs.rdx) = (xcr0 & 0xffff_ffff, xcr0 >> 32);
                (Trapped::Xgetbv, xcr0)
            }
        };
        self.kernel.entry.clear_handler_stack(&self.kernel.memory);
        self.kernel.entry.set_frame(&self.kernel.memory, vector, rsp, &next);
        self.look_ahead(next.rip, self.core.vcpu.regs().rcx)?;
        self.record(ExitKind::Instruction(trapped), at, result, options)?;
        let fired = self.kernel.fire_timers();
        self.kernel.wake_for_files();
        self.kernel.pass_horizon();
        if vector != vector::PROTECTION && self.program_flags(frame.rflags) & TRAP_FLAG != 0 {
            // What stands in its place does not trap behind itself.
            self.take_frame(&next);
            self.record_exception(vector::DEBUG, 0, next.rip, options)?;
            return self.raise(exception::signal(vector::DEBUG, 0, next.rip), options);
        }
        if fired && self.kernel.signals().any_deliverable() {
            self.take_frame(&next);
            return self.go_on(options);
        }
        if self.reached(options) {
            // The vCPU is still in a stub; whoever goes on from here knows the program only.
            self.take_frame(&next);
            if self.kernel.sched.any_ready() {
                self.kernel.sched.count_later();
            }
            self.resume(Resume::Full)?;
            return Ok(Some(RunEnd::Paused));
        }
        if self.kernel.sched.any_ready() || self.kernel.sched.is_stopped(self.kernel.tid()) {
            self.take_frame(&next);
            return self.go(Resume::Full, options);
        }
        if !self.debug.is_idle() {
            // A debugger sees the program, not the stub.
            self.take_frame(&next);
            self.resume(Resume::Full)?;
            return Ok(None);
        }
        self.kernel.set_horizon(&mut self.told)?;
        Ok(None)
    }

    /// CPUID describes the processor that programs see.
    fn cpuid(&mut self) -> (Trapped, u64) {
        let level = self.kernel.cpu;
        let regs = self.core.vcpu.regs_mut();
        let (leaf, subleaf) = (regs.rax as u32, regs.rcx as u32);
        let answer = level.answer(leaf, subleaf).map(u64::from);
        [regs.rax, regs.rbx, regs.rcx, regs.rdx] = answer;
        (Trapped::Cpuid { leaf, subleaf }, answer[0])
    }

    /// RDTSC and RDTSCP read the program's clock.
    fn read_timestamp(&mut self, trapped: Trapped) -> u64 {
        let tsc = self.kernel.clock.monotonic();
        let regs = self.core.vcpu.regs_mut();
        regs.rax = tsc & 0xffff_ffff;
        regs.rdx = tsc >> 32;
        if trapped == Trapped::Rdtscp {
            // TSC_AUX: CPU 0 of node 0.
            regs.rcx = 0;
        }
        tsc
    }

    /// RDRAND and RDSEED draw from the run's seed, and always have a number; RDPID gives that of the CPU.
    fn draw(&mut self, draw: Draw, next: &mut Frame) -> (Trapped, u64) {
        let mut number = [0u8; 8];
        if draw.of != Source::Processor {
            self.kernel.random.fill(&mut number[..usize::from(draw.bytes)]);
        }
        // There is one CPU, number 0.
        let number = u64::from_le_bytes(number);
        let register = match draw.register {
            // The stub runs on a stack of its own.
            4 => &mut next.rsp,
            n => general_register(self.core.vcpu.regs_mut(), n),
        };
        *register = match draw.bytes {
            2 => *register & !0xffff | number,
            // A register of 32 bits is extended by zeros.
            _ => number,
        };
        let trapped = match draw.of {
            Source::Random => Trapped::Rdrand,
            Source::Seed => Trapped::Rdseed,
            Source::Processor => return (Trapped::Rdpid, number),
        };
        next.rflags = next.rflags & !ARITHMETIC_FLAGS | CARRY_FLAG;
        (trapped, number)
    }
}

/// Which of `RDTSC` and `RDTSCP` is at the start of `code`, and its length. They are looked for by
/// hand: every start of a program has some, and a decoder's tables take a millisecond to make.
fn timestamp_at(code: &[u8]) -> Option<(Trapped, u64)> {
    // Legacy prefixes but `LOCK`, and REX (Intel SDM volume 2, section 2.1.1).
    let is_prefix =
        |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf2 | 0xf3);
    let prefixes = code.iter().take_while(|byte| is_prefix(byte)).count();
    let (trapped, len) = match code[prefixes..] {
        [0x0f, 0x31, ..] => (Trapped::Rdtsc, 2),
        [0x0f, 0x01, 0xf9, ..] => (Trapped::Rdtscp, 3),
        _ => return None,
    };
    Some((trapped, prefixes as u64 + len))
}

/// A general register by its number in instructions (Intel SDM volume 2, table 2-2), 0 to 15.
fn general_register(regs: &mut kvm_regs, number: u8) -> &mut u64 {
    match number {
        0 => &mut regs.rax,
        1 => &mut regs.rcx,
        2 => &mut regs.rdx,
        3 => &mut regs.rbx,
        4 => &mut regs.rsp,
        5 => &mut regs.rbp,
        6 => &mut regs.rsi,
        7 => &mut regs.rdi,
        8 => &mut regs.r8,
        9 => &mut regs.r9,
        10 => &mut regs.r10,
        11 => &mut regs.r11,
        12 => &mut regs.r12,
        13 => &mut regs.r13,
        14 => &mut regs.r14,
        _ => &mut regs.r15,
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::Code;

    use super::*;

    /// What the decoder says.
    fn decoded(code: &[u8]) -> Option<(Trapped, u64)> {
        let instruction = Decoder::new(64, code, DecoderOptions::NONE).decode();
        let trapped = match instruction.code() {
            Code::Rdtsc => Trapped::Rdtsc,
            Code::Rdtscp => Trapped::Rdtscp,
            _ => return None,
        };
        Some((trapped, instruction.len() as u64))
    }

    #[test]
    fn timestamps_are_found_as_a_decoder_finds_them() {
        let opcodes: [&[u8]; 6] =
            [&[0x0f, 0x31], &[0x0f, 0x01, 0xf9], &[0x0f, 0x01, 0xf8], &[0x0f, 0x33], &[0x0f], &[]];
        for opcode in opcodes {
            assert_eq!(timestamp_at(opcode), decoded(opcode), "{opcode:x?}");
            for first in 0..=255u8 {
                let code = [&[first], opcode].concat();
                assert_eq!(timestamp_at(&code), decoded(&code), "{code:x?}");
                for second in 0..=255u8 {
                    let code = [&[first, second], opcode].concat();
                    assert_eq!(timestamp_at(&code), decoded(&code), "{code:x?}");
                }
            }
        }
    }
}
