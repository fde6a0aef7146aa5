//! The memory that the instruction at RIP touches.

use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, Register};
use smallvec::SmallVec;

use super::{Translate, pages_of_access};
use crate::ram::{PAGE_SIZE, Ram};
use crate::vcpu::registers::{General, UserRegisters};
use crate::x86::MAX_INSTRUCTION;

/// Where the guest is, as far as decoding needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// General registers.
    pub general: General,
    /// Segment bases: ES, CS, SS, DS, FS, GS. In 64-bit code the first four count for nothing and
    /// are 0.
    pub bases: [u64; 6],
    /// Bits of the code segment: 16, 32 or 64.
    pub bits: u32,
}

impl From<&UserRegisters> for Place {
    fn from(regs: &UserRegisters) -> Place {
        Place { general: regs.general, bases: [0, 0, 0, 0, regs.fs_base, regs.gs_base], bits: 64 }
    }
}

impl Place {
    /// The linear address of the instruction at RIP.
    pub fn linear_rip(&self) -> u64 {
        self.bases[1].wrapping_add(self.general.rip)
    }

    /// The value of a register: a general one, or the base of a segment.
    pub(crate) fn value(&self, register: Register) -> Option<u64> {
        match register {
            Register::ES | Register::CS | Register::SS | Register::DS | Register::FS | Register::GS => {
                Some(self.bases[register as usize - Register::ES as usize])
            }
            register => value(&self.general, register),
        }
    }
}

/// Bytes of an operand whose size the decoder does not say: a XSAVE area.
const LARGE_OPERAND: u64 = 4096;

/// The bytes at a linear address, as far as the guest's tables map them to pages that are there.
pub(crate) fn fetch(rip: u64, ram: &Ram, translate: Translate<'_>) -> SmallVec<[u8; 16]> {
    let mut out = SmallVec::new();
    while out.len() < MAX_INSTRUCTION {
        let address = rip.wrapping_add(out.len() as u64);
        let Some(page) = translate(address, &mut |_| {}).filter(|page| ram.is_there(*page)) else { break };
        let offset = (address % PAGE_SIZE as u64) as usize;
        let mut bytes = [0u8; MAX_INSTRUCTION];
        let part = &mut bytes[..(MAX_INSTRUCTION - out.len()).min(PAGE_SIZE - offset)];
        let gpa = ram.base() + page * PAGE_SIZE as u64 + offset as u64;
        if ram.read(gpa, part).is_err() {
            break;
        }
        out.extend_from_slice(part);
    }
    out
}

fn value(regs: &General, register: Register) -> Option<u64> {
    Some(match register.full_register() {
        Register::RAX => regs.rax,
        Register::RBX => regs.rbx,
        Register::RCX => regs.rcx,
        Register::RDX => regs.rdx,
        Register::RSI => regs.rsi,
        Register::RDI => regs.rdi,
        Register::RSP => regs.rsp,
        Register::RBP => regs.rbp,
        Register::R8 => regs.r8,
        Register::R9 => regs.r9,
        Register::R10 => regs.r10,
        Register::R11 => regs.r11,
        Register::R12 => regs.r12,
        Register::R13 => regs.r13,
        Register::R14 => regs.r14,
        Register::R15 => regs.r15,
        _ => return None,
    })
}

/// One address in each page that the instruction in `bytes` may touch.
pub fn operand_addresses(bytes: &[u8], place: &Place) -> SmallVec<[u64; 8]> {
    // Some KVMs emulate an instruction that its LOCK prefix makes invalid as if it had none.
    let options = DecoderOptions::NO_INVALID_CHECK;
    let mut decoder = Decoder::with_ip(place.bits, bytes, place.general.rip, options);
    let instruction = decoder.decode();
    let mut out = SmallVec::new();
    if instruction.is_invalid() {
        return out;
    }
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&instruction);
    for memory in info.used_memory() {
        let address = memory.virtual_address(0, |register, _, _| place.value(register));
        let Some(address) = address else { continue };
        let size = match memory.memory_size().size() as u64 {
            0 => LARGE_OPERAND,
            size => size,
        };
        out.extend(pages_of_access(address, size));
    }
    out
}

/// Where the instruction in `bytes` may write, and how many bytes; `None` if that cannot be said.
pub(crate) fn written(bytes: &[u8], place: &Place) -> Option<SmallVec<[(u64, u64); 2]>> {
    let instruction = Decoder::with_ip(place.bits, bytes, place.general.rip, DecoderOptions::NONE).decode();
    let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    if instruction.is_invalid() || instruction.is_string_instruction() && repeats {
        return None;
    }
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(&instruction).used_memory().iter();
    let writes = |access| {
        matches!(
            access,
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        )
    };
    let place_of = |memory: &iced_x86::UsedMemory| {
        let address = memory.virtual_address(0, |register, _, _| place.value(register))?;
        Some((address, memory.memory_size().size() as u64)).filter(|(_, size)| *size > 0)
    };
    used.filter(|memory| writes(memory.access())).map(place_of).collect()
}

/// A use that an instruction makes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    /// Where it begins.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    pub reads: bool,
    pub writes: bool,
}

/// The uses that the instruction in `bytes` makes of memory, or one round of it if it is repeated; `None` if that
/// cannot be said.
pub(crate) fn used(bytes: &[u8], place: &Place) -> Option<SmallVec<[MemoryUse; 4]>> {
    let instruction = Decoder::with_ip(place.bits, bytes, place.general.rip, DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        return None;
    }
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(&instruction).used_memory().iter();
    let use_of = |memory: &iced_x86::UsedMemory| {
        let (reads, writes) = match memory.access() {
            OpAccess::Read | OpAccess::CondRead => (true, false),
            OpAccess::Write | OpAccess::CondWrite => (false, true),
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
            _ => (false, false),
        };
        let address = memory.virtual_address(0, |register, _, _| place.value(register))?;
        // Of a repeated one, all that its rounds use.
        let len = match memory.memory_size().size() as u64 {
            0 if instruction.is_string_instruction() => instruction.memory_size().size() as u64,
            len => len,
        };
        (len > 0).then_some(MemoryUse { address, len, reads, writes })
    };
    used.map(use_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_instructions_write() {
        let general = General { rip: 0x1000, rax: 0x2000, rdi: 0x4000, rsp: 0x6000, ..Default::default() };
        let place = Place::from(&UserRegisters { general, fs_base: 0x9000, gs_base: 0 });
        let written = |code: &[u8]| written(code, &place).map(|found| found.to_vec());
        // mov rcx, [rax]; mov [rax], ecx; push rax; call; lock xadd [rax], rcx; fs: mov [0x10], eax; stosb
        assert_eq!(written(&[0x48, 0x8b, 0x08]), Some(vec![]));
        assert_eq!(written(&[0x89, 0x08]), Some(vec![(0x2000, 4)]));
        assert_eq!(written(&[0x50]), Some(vec![(0x5ff8, 8)]));
        assert_eq!(written(&[0xe8, 0, 0, 0, 0]), Some(vec![(0x5ff8, 8)]));
        assert_eq!(written(&[0xf0, 0x48, 0x0f, 0xc1, 0x08]), Some(vec![(0x2000, 8)]));
        let of_threads = [0x64, 0x89, 0x04, 0x25, 0x10, 0, 0, 0];
        assert_eq!(written(&of_threads), Some(vec![(0x9010, 4)]));
        assert_eq!(written(&[0xaa]), Some(vec![(0x4000, 1)]));
        // rep stosb; xsave [rax]; nothing that is an instruction
        for unknown in [&[0xf3, 0xaa][..], &[0x0f, 0xae, 0x20], &[0x06]] {
            assert_eq!(written(unknown), None, "{unknown:x?}");
        }
    }

    #[test]
    fn operands_of_common_instructions() {
        let regs =
            General { rip: 0x1000, rax: 0x2000, rsi: 0x3000, rdi: 0x4ffc, rsp: 0x6000, ..Default::default() };
        let regs = Place::from(&UserRegisters { general: regs, fs_base: 0x9000, gs_base: 0 });
        // mov rcx, [rax+8]
        assert_eq!(operand_addresses(&[0x48, 0x8b, 0x48, 0x08], &regs)[..], [0x2008]);
        // movsq: both sides; the store crosses a page
        let mut found = operand_addresses(&[0x48, 0xa5], &regs);
        found.sort_unstable();
        assert_eq!(found[..], [0x3000, 0x4ffc, 0x5003]);
        // push rax
        assert_eq!(operand_addresses(&[0x50], &regs)[..], [0x5ff8]);
        // mov rax, [rip+0x10]
        assert_eq!(operand_addresses(&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0], &regs)[..], [0x1017]);
        // mov rax, fs:[0x10]
        let tls = operand_addresses(&[0x64, 0x48, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0], &regs);
        assert_eq!(tls[..], [0x9010]);
        // lock fxsave [rax+15], which is invalid
        assert_eq!(operand_addresses(&[0xf0, 0x0f, 0xae, 0x40, 0x0f], &regs)[..], [0x200f]);
        // nothing
        assert!(operand_addresses(&[0x90], &regs).is_empty());
        assert!(operand_addresses(&[], &regs).is_empty());
    }

    #[test]
    fn what_instructions_use() {
        let general =
            General { rip: 0x1000, rax: 0x2000, rsi: 0x3000, rdi: 0x4000, rsp: 0x6000, ..Default::default() };
        let place = Place::from(&UserRegisters { general, fs_base: 0x9000, gs_base: 0 });
        let used = |code: &[u8]| {
            let uses = used(code, &place)?;
            let uses = uses.iter().map(|used| (used.address, used.len, used.reads, used.writes));
            Some(uses.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>())
        };
        // mov rcx, [rax]; mov [rax], ecx; add [rax], cl; pop rcx; ret; fs: mov eax, [0x10]; lea rcx, [rax]
        assert_eq!(used(&[0x48, 0x8b, 0x08]), Some(vec![(0x2000, 8, true, false)]));
        assert_eq!(used(&[0x89, 0x08]), Some(vec![(0x2000, 4, false, true)]));
        assert_eq!(used(&[0x00, 0x08]), Some(vec![(0x2000, 1, true, true)]));
        assert_eq!(used(&[0x59]), Some(vec![(0x6000, 8, true, false)]));
        assert_eq!(used(&[0xc3]), Some(vec![(0x6000, 8, true, false)]));
        let of_threads = [0x64, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0];
        assert_eq!(used(&of_threads), Some(vec![(0x9010, 4, true, false)]));
        assert_eq!(used(&[0x48, 0x8d, 0x08]), Some(vec![]));
        // rep movsb: a round of it.
        assert_eq!(used(&[0xf3, 0xa4]), Some(vec![(0x3000, 1, true, false), (0x4000, 1, false, true)]));
        // xsave [rax]; vpgatherdd xmm0, [rax + xmm1 * 4], xmm2; nothing that is an instruction
        for unknown in [&[0x0f, 0xae, 0x20][..], &[0xc4, 0xe2, 0x69, 0x90, 0x04, 0x88], &[0x06]] {
            assert_eq!(used(unknown), None, "{unknown:x?}");
        }
    }
}
