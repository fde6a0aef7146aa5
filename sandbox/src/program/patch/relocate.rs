//! Copies of instructions elsewhere, that do what the original does where it is.
//!
//! Only of those for which that is exact, wherever it faults: each instruction of a copy is known to stand before
//! or behind the original, so that nobody sees where the copy is.

use iced_x86::code_asm::{CodeAssembler, CodeLabel, qword_ptr};
use iced_x86::{
    Code, ConditionCode, CpuidFeature, FlowControl, IcedError, Instruction, MemoryOperand, Mnemonic, OpKind,
    Register,
};

use crate::x86::by_rip::{stand_in, with_base};

/// How an instruction is run elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As it is.
    Same,
    /// It names memory by RIP: by this register in its stead, which is restored behind it.
    By(Register),
    Jump,
    JumpIf(ConditionCode),
    Call,
}

/// Where the program is, when it is at an instruction of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Landing {
    pub rip: u64,
    /// A register that does not hold the program's value: that was saved.
    pub saved: Option<Register>,
}

/// Where [`Way::By`] saves a register: a word that the program can write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot(pub u64);

/// Extensions whose instructions depend on nothing but registers and memory, and note nowhere where they are, as
/// those of the x87 do.
const FEATURES: [CpuidFeature; 24] = [
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CMOV,
    CpuidFeature::CX8,
    CpuidFeature::CMPXCHG16B,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::CET_IBT,
    CpuidFeature::POPCNT,
    CpuidFeature::LZCNT,
    CpuidFeature::MOVBE,
    CpuidFeature::ADX,
    CpuidFeature::BMI1,
    CpuidFeature::BMI2,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
    CpuidFeature::SSE3,
    CpuidFeature::SSSE3,
    CpuidFeature::SSE4_1,
    CpuidFeature::SSE4_2,
    CpuidFeature::AVX,
    CpuidFeature::AVX2,
];

/// How an instruction can be run elsewhere, if it can.
pub(super) fn way(instruction: &Instruction) -> Option<Way> {
    let usual = !instruction.is_invalid()
        && instruction.cpuid_features().iter().all(|feature| FEATURES.contains(feature))
        && !instruction.is_privileged()
        // These may be through with a part of their work.
        && !instruction.is_string_instruction()
        && !instruction.is_vsib()
        && !matches!(
            instruction.mnemonic(),
            Mnemonic::Pushf
                | Mnemonic::Pushfd
                | Mnemonic::Pushfq
                | Mnemonic::Popf
                | Mnemonic::Popfd
                | Mnemonic::Popfq
                | Mnemonic::In
                | Mnemonic::Out
                | Mnemonic::Cli
                | Mnemonic::Sti
        )
        && !(0..instruction.op_count())
            .any(|op| instruction.op_kind(op) == OpKind::Register && instruction.op_register(op).is_segment_register());
    if !usual {
        return None;
    }
    let near = instruction.op0_kind() == OpKind::NearBranch64;
    match instruction.flow_control() {
        FlowControl::Next if instruction.is_ip_rel_memory_operand() => stand_in(instruction).map(Way::By),
        FlowControl::Next => Some(Way::Same),
        FlowControl::Return if instruction.mnemonic() == Mnemonic::Ret => Some(Way::Same),
        FlowControl::IndirectBranch
            if instruction.is_jmp_near_indirect() && !instruction.is_ip_rel_memory_operand() =>
        {
            Some(Way::Same)
        }
        FlowControl::UnconditionalBranch if near => Some(Way::Jump),
        FlowControl::ConditionalBranch if near && instruction.is_jcc_short_or_near() => {
            Some(Way::JumpIf(instruction.condition_code()))
        }
        FlowControl::Call if near && instruction.is_call_near() => Some(Way::Call),
        _ => None,
    }
}

/// Places in a copy, and where the program is there.
pub(super) type Places = Vec<(CodeLabel, Landing)>;

/// Puts a copy together, at a label, which goes on behind the original. Words that it needs are added to `words`, to
/// be laid behind all code.
pub(super) fn copy(
    a: &mut CodeAssembler,
    instruction: &Instruction,
    code: &[u8],
    way: Way,
    slot: Slot,
    mut start: CodeLabel,
    words: &mut Vec<(CodeLabel, u64)>,
) -> Result<Places, IcedError> {
    let (before, behind) = (instruction.ip(), instruction.next_ip());
    a.set_label(&mut start)?;
    let mut places = vec![(start, Landing { rip: before, saved: None })];
    let mut place = |a: &mut CodeAssembler, rip, saved| {
        let mut label = a.create_label();
        a.set_label(&mut label)?;
        places.push((label, Landing { rip, saved }));
        Ok::<(), IcedError>(())
    };
    let mut word = |a: &mut CodeAssembler, value| {
        let label = a.create_label();
        words.push((label, value));
        label
    };
    match way {
        Way::Same => a.db(code)?,
        Way::By(register) => {
            let at_slot = MemoryOperand::with_base_displ(Register::RIP, slot.0 as i64);
            a.add_instruction(Instruction::with2(Code::Mov_rm64_r64, at_slot, register)?)?;
            place(a, before, None)?;
            let target = instruction.ip_rel_memory_address();
            a.add_instruction(Instruction::with2(Code::Mov_r64_imm64, register, target)?)?;
            place(a, before, Some(register))?;
            a.add_instruction(with_base(instruction, register))?;
            place(a, behind, Some(register))?;
            a.add_instruction(Instruction::with2(Code::Mov_r64_rm64, register, at_slot)?)?;
        }
        Way::Jump => {}
        Way::JumpIf(condition) => {
            let mut taken = a.create_label();
            let target = instruction.near_branch_target();
            jump_if(a, condition, taken)?;
            place(a, behind, None)?;
            let to = word(a, behind);
            a.jmp(qword_ptr(to))?;
            a.set_label(&mut taken)?;
            let to = word(a, target);
            a.jmp(qword_ptr(to))?;
            places.push((taken, Landing { rip: target, saved: None }));
            return Ok(places);
        }
        Way::Call => {
            let back = word(a, behind);
            a.push(qword_ptr(back))?;
        }
    }
    let next = match way {
        Way::Jump | Way::Call => instruction.near_branch_target(),
        _ => behind,
    };
    if way != Way::Jump {
        place(a, next, None)?;
    }
    let to = word(a, next);
    a.jmp(qword_ptr(to))?;
    Ok(places)
}

fn jump_if(a: &mut CodeAssembler, condition: ConditionCode, to: CodeLabel) -> Result<(), IcedError> {
    match condition {
        ConditionCode::o => a.jo(to),
        ConditionCode::no => a.jno(to),
        ConditionCode::b => a.jb(to),
        ConditionCode::ae => a.jae(to),
        ConditionCode::e => a.je(to),
        ConditionCode::ne => a.jne(to),
        ConditionCode::be => a.jbe(to),
        ConditionCode::a => a.ja(to),
        ConditionCode::s => a.js(to),
        ConditionCode::ns => a.jns(to),
        ConditionCode::p => a.jp(to),
        ConditionCode::np => a.jnp(to),
        ConditionCode::l => a.jl(to),
        ConditionCode::ge => a.jge(to),
        ConditionCode::le => a.jle(to),
        ConditionCode::g => a.jg(to),
        // Always taken.
        ConditionCode::None => a.jmp(to),
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    fn way_of(code: &[u8]) -> Option<Way> {
        way(&Decoder::with_ip(64, code, 0x40_0000, DecoderOptions::NONE).decode())
    }

    #[test]
    fn ways() {
        assert_eq!(way_of(&[0x55]), Some(Way::Same), "push rbp");
        assert_eq!(way_of(&[0xf3, 0x0f, 0x1e, 0xfa]), Some(Way::Same), "endbr64");
        assert_eq!(way_of(&[0xc3]), Some(Way::Same), "ret");
        assert_eq!(
            way_of(&[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0]),
            Some(Way::Same),
            "mov rax, fs:[0x28]"
        );
        assert_eq!(way_of(&[0xff, 0xe0]), Some(Way::Same), "jmp rax");
        assert_eq!(way_of(&[0xeb, 0x10]), Some(Way::Jump));
        assert_eq!(way_of(&[0x74, 0x10]), Some(Way::JumpIf(ConditionCode::e)));
        assert_eq!(way_of(&[0xe8, 0, 0, 0, 0]), Some(Way::Call));
        assert_eq!(way_of(&[0x8b, 0x05, 1, 0, 0, 0]), Some(Way::By(Register::RCX)), "mov eax, [rip+1]");
        assert_eq!(
            way_of(&[0x83, 0x05, 1, 0, 0, 0, 1]),
            Some(Way::By(Register::RAX)),
            "add dword [rip+1], 1"
        );
    }

    #[test]
    fn what_is_not_the_same_elsewhere_is_left_where_it_is() {
        let none: [(&[u8], &str); 14] = [
            (&[0xcc], "int3"),
            (&[0x0f, 0x05], "syscall"),
            (&[0x9c], "pushfq"),
            (&[0x9d], "popfq"),
            (&[0xf3, 0xa4], "rep movsb"),
            (&[0xf4], "hlt"),
            (&[0x0f, 0x31], "rdtsc"),
            (&[0x0f, 0xa2], "cpuid"),
            (&[0xd9, 0xe8], "fld1"),
            (&[0x8e, 0xd0], "mov ss, eax"),
            (&[0xff, 0xd0], "call rax"),
            (&[0xff, 0x25, 0, 0, 0, 0], "jmp [rip]"),
            (&[0xe3, 0x00], "jrcxz"),
            (&[0xe4, 0x10], "in al, 0x10"),
        ];
        for (code, name) in none {
            assert_eq!(way_of(code), None, "{name}");
        }
    }
}
