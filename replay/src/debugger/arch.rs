//! x86-64 as gdb is told of it: which registers there are, and where they are in what it is sent.

use dejavm_sandbox::vcpu::registers::{ExtendedState, UserRegisters};
use gdbstub::arch::{Arch, RegId};

/// x86-64 with the registers of Linux programs.
#[derive(Debug)]
pub(super) enum Amd64 {}

impl Arch for Amd64 {
    type Usize = u64;
    type Registers = Registers;
    type BreakpointKind = usize;
    type RegId = NoRegister;

    fn target_description_xml() -> Option<&'static str> {
        Some(include_str!("target.xml"))
    }
}

/// Registers are not asked for one by one.
#[derive(Debug)]
pub(super) enum NoRegister {}

impl RegId for NoRegister {
    fn from_raw_id(_id: usize) -> Option<(NoRegister, Option<std::num::NonZeroUsize>)> {
        None
    }
}

/// All registers of a task, in the order of `target.xml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Registers {
    rip: u64,
    bytes: Vec<u8>,
}

/// Offsets in the XSAVE area: of the x87 registers and the XMM registers (Intel SDM volume 1, table 10-2), and
/// of the upper halves of the YMM registers in the standard format (section 13.5.3).
const ST: usize = 32;
const XMM: usize = 160;
const YMM_HIGH: usize = 576;
const MXCSR: usize = 24;
/// Which parts are in use: x87, SSE and AVX are bits 0 to 2 (section 13.4.2).
const XSTATE_BV: usize = 512;
/// Bytes of an area with whatever there is.
const AREA_MAX: usize = 4096;
/// Bytes of an area with all of these.
const AREA: usize = YMM_HIGH + 16 * 16;

/// Segment selectors of 64-bit programs (`arch/x86/include/asm/segment.h`): CS, SS, DS, ES, FS, GS.
const SELECTORS: [u32; 6] = [0x33, 0x2b, 0, 0, 0, 0];

impl Registers {
    /// From a task's.
    pub fn of(regs: &UserRegisters, fp: &ExtendedState) -> Registers {
        let g = &regs.general;
        let general = [
            g.rax, g.rbx, g.rcx, g.rdx, g.rsi, g.rdi, g.rbp, g.rsp, g.r8, g.r9, g.r10, g.r11, g.r12, g.r13,
            g.r14, g.r15, g.rip,
        ];
        let area = fp.image(AREA);
        let half = |at: usize| u32::from(u16::from_le_bytes([area[at], area[at + 1]]));
        let word = |at: usize| u32::from_le_bytes([area[at], area[at + 1], area[at + 2], area[at + 3]]);
        let mut bytes = Vec::new();
        bytes.extend(general.iter().flat_map(|value| value.to_le_bytes()));
        let flags = [g.rflags as u32].into_iter().chain(SELECTORS);
        bytes.extend(flags.flat_map(u32::to_le_bytes));
        for n in 0..8 {
            bytes.extend(&area[ST + n * 16..ST + n * 16 + 10]);
        }
        // Control, status, tags (abridged), segment and offset of instruction and operand, opcode.
        let x87 = [half(0), half(2), half(4) & 0xff, 0, word(8), 0, word(16), half(6)];
        bytes.extend(x87.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(&area[XMM..XMM + 16 * 16]);
        bytes.extend(word(MXCSR).to_le_bytes());
        bytes.extend(u64::MAX.to_le_bytes());
        bytes.extend(regs.fs_base.to_le_bytes());
        bytes.extend(regs.gs_base.to_le_bytes());
        bytes.extend(&area[YMM_HIGH..AREA]);
        Registers { rip: g.rip, bytes }
    }
}

impl Registers {
    /// These, for a task that has others: `None` if they are too few. Segments and the x87's control registers
    /// are left as they are.
    pub fn put(&self, regs: &UserRegisters, fp: &ExtendedState) -> Option<(UserRegisters, ExtendedState)> {
        let mut rest = &self.bytes[..];
        let mut take = |n: usize| {
            let (taken, left) = rest.split_at_checked(n)?;
            rest = left;
            Some(taken)
        };
        let (mut regs, mut area) = (*regs, fp.image(AREA_MAX));
        let g = &mut regs.general;
        let general = [
            &mut g.rax, &mut g.rbx, &mut g.rcx, &mut g.rdx, &mut g.rsi, &mut g.rdi, &mut g.rbp, &mut g.rsp,
            &mut g.r8, &mut g.r9, &mut g.r10, &mut g.r11, &mut g.r12, &mut g.r13, &mut g.r14, &mut g.r15,
            &mut g.rip,
        ];
        for register in general {
            *register = u64::from_le_bytes(take(8)?.try_into().ok()?);
        }
        g.rflags = u64::from(u32::from_le_bytes(take(4)?.try_into().ok()?));
        take(SELECTORS.len() * 4)?;
        let before = area.clone();
        for n in 0..8 {
            area[ST + n * 16..ST + n * 16 + 10].copy_from_slice(take(10)?);
        }
        take(8 * 4)?;
        area[XMM..XMM + 16 * 16].copy_from_slice(take(16 * 16)?);
        area[MXCSR..MXCSR + 4].copy_from_slice(take(4)?);
        // The number of the system call.
        take(8)?;
        regs.fs_base = u64::from_le_bytes(take(8)?.try_into().ok()?);
        regs.gs_base = u64::from_le_bytes(take(8)?.try_into().ok()?);
        area[YMM_HIGH..AREA].copy_from_slice(take(16 * 16)?);
        // What was not in use yet is, where it is set.
        let parts = [(0..XMM, 1), (XMM..XMM + 16 * 16, 2), (YMM_HIGH..AREA, 4)];
        for (part, bit) in parts {
            if area[part.clone()] != before[part] {
                area[XSTATE_BV] |= bit;
            }
        }
        Some((regs, ExtendedState::from_bytes(&area)))
    }
}

impl gdbstub::arch::Registers for Registers {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.rip
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.bytes.iter().for_each(|byte| write_byte(Some(*byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.bytes = bytes.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gdbstub::arch::Registers as _;

    use super::*;

    #[test]
    fn what_is_sent_is_what_the_description_says() {
        let xml = Amd64::target_description_xml().unwrap();
        let sizes = xml.split("bitsize=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let bits: usize = sizes.map(|size| size.parse::<usize>().unwrap()).sum();
        let mut sent = 0;
        Registers::of(&UserRegisters::default(), &ExtendedState::initial()).gdb_serialize(|_| sent += 1);
        assert_eq!(sent * 8, bits);
    }

    #[test]
    fn what_is_put_is_what_was_sent() {
        let (mut regs, mut area) = (UserRegisters::default(), vec![0; AREA]);
        regs.general.rip = 0x401000;
        regs.general.r15 = 15;
        regs.general.rflags = 0x246;
        regs.fs_base = 0x7000;
        area[XMM] = 1;
        area[YMM_HIGH] = 2;
        area[ST + 16] = 3;
        area[MXCSR] = 0x80;
        let sent = Registers::of(&regs, &ExtendedState::from_bytes(&area));
        let (put, fp) = sent.put(&UserRegisters::default(), &ExtendedState::initial()).unwrap();
        assert_eq!(put, regs);
        assert_eq!(fp.image(AREA)[XSTATE_BV], 7);
        assert_eq!(fp.image(AREA)[XMM..XMM + 256], area[XMM..XMM + 256]);
        let mut cut = sent.clone();
        cut.bytes.pop();
        assert_eq!(cut.put(&regs, &fp), None);
    }
}
