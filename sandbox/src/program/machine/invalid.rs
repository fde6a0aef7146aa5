//! What an invalid opcode is about, and a trap too early. Some KVMs emulate the instructions of a program that had a general
//! protection fault, or whose RSP is not canonical, and give an invalid opcode for what their emulator does not
//! know or cannot fetch.

use std::arch::is_x86_feature_detected as has;

use iced_x86::{
    Code, CpuidFeature, EncodingKind, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, Register,
};

use super::Machine;
use crate::exit::Rung;
use crate::fault::{Finding, Place};
use crate::machine::{RunError, RunOptions};
use crate::program::kernel::Kernel;
use crate::vcpu::registers::{General, UserRegisters};
use crate::x86::frame::Frame;
use crate::x86::vector;

/// In the error code of a fault about a vector: it is one of the IDT (Intel SDM volume 3, figure 7-7).
const IN_IDT: u64 = 2;

impl Machine {
    /// Whether an invalid opcode was for pages that were absent: they are there now, and the instruction is to
    /// be tried again.
    pub(super) fn lacked_pages(
        &mut self,
        frame: &Frame,
        options: &mut RunOptions<'_>,
    ) -> Result<bool, RunError> {
        let regs = self.interrupted(frame);
        let Kernel { space, memory, .. } = &self.kernel;
        let translate = |address, _: &mut dyn FnMut(u64)| space.walk(memory, address);
        let found = self.core.ladder.decode(&Place::from(&regs), &memory.ram, &translate, Rung::Emulation);
        let Some(Finding::Wanted { pages, rung, then }) = found else { return Ok(false) };
        self.fault(&pages, rung, &then, options)?;
        Ok(true)
    }

    /// Whether a trap came before its instruction was through: where KVM emulates one whose operand it reads
    /// or writes whole (`FXSAVE`, `SIDT`), and finds the page absent, it goes no further, but traps. The page is
    /// there now, and the instruction is to be tried again.
    pub(super) fn stood_still(
        &mut self,
        frame: &Frame,
        options: &mut RunOptions<'_>,
    ) -> Result<bool, RunError> {
        let General { rip, rcx, .. } = self.kernel.task.regs.general;
        let resumed = if self.stepper.on { self.stepper.at } else { (rip, rcx) };
        // A repeated instruction that has overwritten itself is another one by now, but has counted.
        if (frame.rip, self.core.vcpu.regs().rcx) != resumed {
            return Ok(false);
        }
        // Jumps to themselves and repeated instructions trap where they are.
        let instruction = self.instruction(frame.rip)?;
        let goes_on = instruction.flow_control() == FlowControl::Next && !instruction.is_string_instruction();
        Ok(goes_on && self.lacked_pages(frame, options)?)
    }

    /// The exception that a CPU has where KVM gives an invalid opcode, with its error code.
    pub(super) fn behind_invalid(&mut self, frame: &Frame) -> Result<(u8, u64), RunError> {
        let instruction = self.instruction(frame.rip)?;
        // `INT n` without a gate.
        if instruction.code() == Code::Int_imm8 {
            return Ok((vector::PROTECTION, u64::from(instruction.immediate8()) << 3 | IN_IDT));
        }
        let place = Place::from(&self.interrupted(frame));
        Ok((refused(&instruction, &place).unwrap_or(vector::INVALID_OPCODE), 0))
    }

    /// The program's registers where an exception came.
    fn interrupted(&self, frame: &Frame) -> UserRegisters {
        let general = General {
            rip: frame.rip,
            rsp: frame.rsp,
            rflags: frame.rflags,
            ..General::from(self.core.vcpu.regs())
        };
        UserRegisters { general, ..self.kernel.task.regs }
    }
}

/// The exception of an instruction of the x87, MMX, SSE or AVX for the address of its operand: one that is not
/// aligned (Intel SDM volume 1, section 4.6.2), or not canonical (section 3.3.7.1).
fn refused(instruction: &Instruction, place: &Place) -> Option<u8> {
    if instruction.is_invalid() || !instruction.cpuid_features().iter().all(|feature| is_here(*feature)) {
        return None;
    }
    let mut factory = InstructionInfoFactory::new();
    let memory = *factory.info(instruction).used_memory().first()?;
    let address = memory.virtual_address(0, |register, _, _| place.value(register))?;
    let size = memory.memory_size().size().max(1) as u64;
    if let Some(alignment) = alignment(instruction, size)
        && address % alignment != 0
    {
        return Some(vector::PROTECTION);
    }
    let canonical = |address: u64| (address as i64) << 16 >> 16 == address as i64;
    if !canonical(address) || !canonical(address.wrapping_add(size - 1)) {
        let of_stack = matches!(memory.base(), Register::RSP | Register::RBP | Register::ESP | Register::EBP)
            && !matches!(memory.segment(), Register::FS | Register::GS);
        return Some(if of_stack { vector::STACK } else { vector::PROTECTION });
    }
    None
}

/// What the address of an instruction's operand of so many bytes must be a multiple of, if of anything.
fn alignment(instruction: &Instruction, size: u64) -> Option<u64> {
    use Mnemonic::*;
    let wants = match (instruction.encoding(), instruction.mnemonic()) {
        (EncodingKind::Legacy, Fxsave | Fxsave64 | Fxrstor | Fxrstor64) => return Some(16),
        (EncodingKind::Legacy, Movups | Movupd | Movdqu | Lddqu) => false,
        (EncodingKind::Legacy, Pcmpestri | Pcmpestrm | Pcmpistri | Pcmpistrm) => false,
        (EncodingKind::Legacy, _) => size == 16,
        (_, Vmovaps | Vmovapd | Vmovdqa | Vmovntps | Vmovntpd | Vmovntdq | Vmovntdqa) => true,
        _ => false,
    };
    wants.then_some(size)
}

/// Whether this CPU has a feature, of those whose instructions are meant here.
fn is_here(feature: CpuidFeature) -> bool {
    match feature {
        CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387 => true,
        CpuidFeature::FXSR | CpuidFeature::X64 => true,
        CpuidFeature::MMX | CpuidFeature::SSE | CpuidFeature::SSE2 => true,
        CpuidFeature::SSE3 => has!("sse3"),
        CpuidFeature::SSSE3 => has!("ssse3"),
        CpuidFeature::SSE4_1 => has!("sse4.1"),
        CpuidFeature::SSE4_2 => has!("sse4.2"),
        CpuidFeature::AES => has!("aes"),
        CpuidFeature::PCLMULQDQ => has!("pclmulqdq"),
        CpuidFeature::SHA => has!("sha"),
        CpuidFeature::AVX => has!("avx"),
        CpuidFeature::AVX2 => has!("avx2"),
        CpuidFeature::FMA => has!("fma"),
        CpuidFeature::F16C => has!("f16c"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    /// The exception of these bytes, with all addresses in RAX and RSP.
    fn exception(bytes: &[u8], address: u64) -> Option<u8> {
        let general = General { rax: address, rsp: address, ..Default::default() };
        let regs = UserRegisters { general, ..Default::default() };
        refused(&Decoder::new(64, bytes, DecoderOptions::NONE).decode(), &Place::from(&regs))
    }

    #[test]
    fn addresses_that_are_refused() {
        let (addps, movups, pand_mmx, fld) =
            ([0x0f, 0x58, 0x00], [0x0f, 0x10, 0x00], [0x0f, 0xdb, 0x00], [0xd9, 0x00]);
        for bytes in [&addps[..], &movups, &pand_mmx, &fld] {
            assert_eq!(exception(bytes, 0x1000), None, "{bytes:02x?}");
            assert_eq!(exception(bytes, 1 << 47), Some(vector::PROTECTION), "{bytes:02x?}");
            assert_eq!(exception(bytes, (1 << 47) - 1), Some(vector::PROTECTION), "{bytes:02x?}");
        }
        assert_eq!(exception(&addps, 0x1008), Some(vector::PROTECTION));
        for bytes in [&movups[..], &pand_mmx, &fld] {
            assert_eq!(exception(bytes, 0x1001), None, "{bytes:02x?}");
        }
        // addps xmm0, [rsp]
        assert_eq!(exception(&[0x0f, 0x58, 0x04, 0x24], 1 << 60), Some(vector::STACK));
        // What is no such instruction, and what is none at all.
        assert_eq!(exception(&[0x0f, 0x0b], 1 << 60), None);
        assert_eq!(exception(&[0x06], 1 << 60), None);
    }
}
