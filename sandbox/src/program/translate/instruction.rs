//! What a copy is to do with an instruction.

use iced_x86::{Code, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::program::coverage::Way;
use crate::program::mm::patch;
use crate::x86::by_rip::stand_in;

/// What becomes of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is the same anywhere.
    Same,
    /// It names memory by its own address: by this register instead.
    By(Register),
    /// A jump, to this address.
    Jump(u64),
    /// A jump by a condition of this number.
    JumpIf(u8, u64),
    /// A jump by RCX, or by RCX and a flag, which has a short distance only.
    JumpByRcx(u64),
    /// A call, of this address.
    Call(u64),
    /// `ret`, that takes so many more bytes from the stack.
    Return(u16),
    /// A jump to where an operand says.
    JumpIndirect,
    /// The same of a call.
    CallIndirect,
    /// It leaves the guest, and is run where it is.
    Leaves,
    /// It may depend on where it is, or does something rare: it is stepped where it is.
    Stepped,
}

/// Whether an instruction from which the program went on at an address was a branch that is counted.
pub(crate) fn is_counted(instruction: &Instruction, to: u64) -> bool {
    match kind(instruction) {
        Kind::Jump(_) | Kind::JumpIf(..) | Kind::JumpByRcx(_) | Kind::Call(_) => to <= instruction.ip(),
        Kind::Return(_) | Kind::JumpIndirect | Kind::CallIndirect => true,
        Kind::Same | Kind::By(_) | Kind::Leaves | Kind::Stepped => false,
    }
}

/// The way that control flow took by an instruction from which it went on at an address, if it is one that is counted:
/// what it is counted of ([`crate::program::coverage`]).
pub(crate) fn way(instruction: &Instruction, to: u64) -> Option<(u64, Way)> {
    match kind(instruction) {
        Kind::JumpIf(_, target) if to == target => Some((instruction.ip(), Way::Taken)),
        Kind::JumpIf(..) => Some((instruction.ip(), Way::NotTaken)),
        Kind::Return(_) | Kind::JumpIndirect | Kind::CallIndirect => Some((to, Way::Entered)),
        _ => None,
    }
}

/// Bytes of what stands in the place of an instruction that the handler of breakpoints answers
/// ([`crate::program::mm::patch`]).
pub(super) fn replaced_bytes(code: &[u8]) -> Option<usize> {
    match code {
        [patch::BREAKPOINT, patch::CPUID | patch::PAUSE | patch::RDTSC, ..] => Some(2),
        [patch::BREAKPOINT, patch::XGETBV, patch::XGETBV_END, ..] => Some(3),
        _ => None,
    }
}

/// What is to be done with an instruction.
pub(super) fn kind(instruction: &Instruction) -> Kind {
    if instruction.is_invalid() {
        return Kind::Leaves;
    }
    let near = instruction.op0_kind() == OpKind::NearBranch64;
    match instruction.flow_control() {
        FlowControl::Next => next(instruction),
        FlowControl::UnconditionalBranch if near => Kind::Jump(instruction.near_branch_target()),
        FlowControl::ConditionalBranch if near && instruction.is_jcc_short_or_near() => {
            Kind::JumpIf(condition(instruction), instruction.near_branch_target())
        }
        FlowControl::ConditionalBranch
            if near && (instruction.is_jcx_short() || instruction.is_loop() || instruction.is_loopcc()) =>
        {
            Kind::JumpByRcx(instruction.near_branch_target())
        }
        FlowControl::Call if near && instruction.is_call_near() => {
            Kind::Call(instruction.near_branch_target())
        }
        FlowControl::Return => match instruction.code() {
            Code::Retnq => Kind::Return(0),
            Code::Retnq_imm16 => Kind::Return(instruction.immediate16()),
            _ => Kind::Stepped,
        },
        FlowControl::IndirectBranch if instruction.code() == Code::Jmp_rm64 => {
            indirect(instruction, Kind::JumpIndirect)
        }
        FlowControl::IndirectCall if instruction.code() == Code::Call_rm64 => {
            indirect(instruction, Kind::CallIndirect)
        }
        FlowControl::Interrupt | FlowControl::Exception => Kind::Leaves,
        // `syscall` is one of these.
        FlowControl::Call => match instruction.mnemonic() {
            Mnemonic::Syscall | Mnemonic::Sysenter => Kind::Leaves,
            _ => Kind::Stepped,
        },
        _ => Kind::Stepped,
    }
}

/// An instruction that goes on behind itself.
fn next(instruction: &Instruction) -> Kind {
    match instruction.mnemonic() {
        // They store where the last instruction of the x87 was.
        Mnemonic::Fnstenv
        | Mnemonic::Fstenv
        | Mnemonic::Fnsave
        | Mnemonic::Fsave
        | Mnemonic::Fxsave
        | Mnemonic::Fxsave64
        | Mnemonic::Xsave
        | Mnemonic::Xsave64
        | Mnemonic::Xsavec
        | Mnemonic::Xsavec64
        | Mnemonic::Xsaveopt
        | Mnemonic::Xsaveopt64
        // They may set TF, or keep a trap back.
        | Mnemonic::Popf
        | Mnemonic::Popfd
        | Mnemonic::Popfq
        | Mnemonic::Xbegin
        | Mnemonic::Xabort => return Kind::Stepped,
        Mnemonic::In | Mnemonic::Out | Mnemonic::Hlt => return Kind::Leaves,
        _ if instruction.is_privileged() => return Kind::Leaves,
        _ => {}
    }
    let writes_segment =
        instruction.op0_kind() == OpKind::Register && instruction.op0_register().is_segment_register();
    if writes_segment {
        return Kind::Stepped;
    }
    if !instruction.is_ip_rel_memory_operand() {
        return Kind::Same;
    }
    stand_in(instruction).map_or(Kind::Stepped, Kind::By)
}

/// An indirect branch by a register or by memory. What its operand names by RIP is known.
fn indirect(instruction: &Instruction, kind: Kind) -> Kind {
    match instruction.memory_base() {
        Register::EIP => Kind::Stepped,
        _ => kind,
    }
}

/// The number of a condition in opcodes (Intel SDM volume 2, appendix B.1.4.7).
fn condition(instruction: &Instruction) -> u8 {
    use iced_x86::ConditionCode as C;
    match instruction.condition_code() {
        C::o => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        C::g | C::None => 15,
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    const AT: u64 = 0x40_1000;

    fn decode(code: &[u8]) -> Instruction {
        Decoder::with_ip(64, code, AT, DecoderOptions::NONE).decode()
    }

    #[test]
    fn kinds() {
        for (code, expected, name) in [
            (&[0x55][..], Kind::Same, "push rbp"),
            (&[0xf3, 0xa4], Kind::Same, "rep movsb"),
            (&[0xd9, 0xe8], Kind::Same, "fld1"),
            (&[0x8b, 0x05, 1, 0, 0, 0], Kind::By(Register::RCX), "mov eax, [rip+1]"),
            (&[0xeb, 0xfe], Kind::Jump(AT), "jmp $"),
            (&[0x74, 0x10], Kind::JumpIf(4, AT + 0x12), "je"),
            (&[0xe2, 0xfe], Kind::JumpByRcx(AT), "loop $"),
            (&[0xe3, 0x02], Kind::JumpByRcx(AT + 4), "jrcxz"),
            (&[0xe8, 0, 0, 0, 0], Kind::Call(AT + 5), "call"),
            (&[0xc3], Kind::Return(0), "ret"),
            (&[0xf3, 0xc3], Kind::Return(0), "repz ret"),
            (&[0xc2, 8, 0], Kind::Return(8), "ret 8"),
            (&[0xff, 0xe0], Kind::JumpIndirect, "jmp rax"),
            (&[0x3e, 0xff, 0xe0], Kind::JumpIndirect, "notrack jmp rax"),
            (&[0xff, 0x15, 0, 0, 0, 0], Kind::CallIndirect, "call [rip]"),
            (&[0x0f, 0x05], Kind::Leaves, "syscall"),
            (&[0xcd, 0x80], Kind::Leaves, "int 0x80"),
            (&[0xcc], Kind::Leaves, "int3"),
            (&[0xf4], Kind::Leaves, "hlt"),
            (&[0x0f, 0x0b], Kind::Leaves, "ud2"),
            (&[0x06], Kind::Leaves, "invalid"),
            (&[0x9d], Kind::Stepped, "popfq"),
            (&[0xcb], Kind::Stepped, "retf"),
            (&[0xd9, 0x30], Kind::Stepped, "fnstenv"),
            (&[0x8e, 0xd0], Kind::Stepped, "mov ss, eax"),
            (&[0xc7, 0xf8, 0, 0, 0, 0], Kind::Stepped, "xbegin"),
        ] {
            assert_eq!(kind(&decode(code)), expected, "{name}");
        }
    }

    #[test]
    fn what_is_counted() {
        let counted = |code: &[u8], to| is_counted(&decode(code), to);
        assert!(counted(&[0x74, 0xf0], AT - 14), "taken, backwards");
        assert!(!counted(&[0x74, 0xf0], AT + 2), "not taken");
        assert!(counted(&[0xeb, 0xfe], AT), "to itself");
        assert!(!counted(&[0xe8, 0x10, 0, 0, 0], AT + 0x15), "forwards");
        assert!(counted(&[0xc3], AT + 1) && counted(&[0xff, 0xe0], AT + 2) && counted(&[0xff, 0x10], 5));
        assert!(!counted(&[0xcb], 0) && !counted(&[0x0f, 0x05], 0) && !counted(&[0x90], AT + 1));
    }

    #[test]
    fn ways() {
        let way = |code: &[u8], to| way(&decode(code), to);
        assert_eq!(way(&[0x74, 0xf0], AT - 14), Some((AT, Way::Taken)));
        assert_eq!(way(&[0x74, 0xf0], AT + 2), Some((AT, Way::NotTaken)));
        assert_eq!(way(&[0xc3], 5), Some((5, Way::Entered)));
        assert_eq!(way(&[0xff, 0x10], 5), Some((5, Way::Entered)));
        assert!(way(&[0xe8, 0, 0, 0, 0], AT + 5).is_none() && way(&[0xe2, 0xfe], AT).is_none());
    }

    #[test]
    fn replaced_instructions_have_their_length() {
        assert_eq!(replaced_bytes(&[0xcc, patch::CPUID]), Some(2));
        assert_eq!(replaced_bytes(&[0xcc, patch::XGETBV, 0xd0]), Some(3));
        assert_eq!(replaced_bytes(&[0xcc, 0x90]), None);
    }
}
