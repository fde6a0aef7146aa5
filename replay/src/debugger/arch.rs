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
        bytes.extend(word(24).to_le_bytes());
        bytes.extend(u64::MAX.to_le_bytes());
        bytes.extend(regs.fs_base.to_le_bytes());
        bytes.extend(regs.gs_base.to_le_bytes());
        bytes.extend(&area[YMM_HIGH..AREA]);
        Registers { rip: g.rip, bytes }
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
}
