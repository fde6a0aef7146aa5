//! Instructions that name memory by their own address, where they are run elsewhere: a register stands in for RIP.

use iced_x86::{Instruction, InstructionInfoFactory, Register};
use kvm_bindings::kvm_regs;

/// Registers that may stand in for RIP: those that need no prefix, so that any instruction can name them.
const STAND_INS: [Register; 6] =
    [Register::RAX, Register::RCX, Register::RDX, Register::RBX, Register::RSI, Register::RDI];

/// A register that an instruction which names memory by RIP has nothing to do with.
pub fn stand_in(instruction: &Instruction) -> Option<Register> {
    if instruction.memory_base() != Register::RIP {
        return None;
    }
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(instruction).used_registers();
    let is_used = |register: &Register| used.iter().any(|used| used.register().full_register() == *register);
    STAND_INS.into_iter().find(|register| !is_used(register))
}

/// The same instruction, with a register in the stead of RIP and its distance.
pub fn with_base(instruction: &Instruction, register: Register) -> Instruction {
    let mut moved = *instruction;
    moved.set_memory_base(register);
    moved.set_memory_displ_size(0);
    moved.set_memory_displacement64(0);
    moved
}

/// One of the registers that may stand in.
pub fn register(regs: &mut kvm_regs, register: Register) -> Option<&mut u64> {
    match register {
        Register::RAX => Some(&mut regs.rax),
        Register::RCX => Some(&mut regs.rcx),
        Register::RDX => Some(&mut regs.rdx),
        Register::RBX => Some(&mut regs.rbx),
        Register::RSI => Some(&mut regs.rsi),
        Register::RDI => Some(&mut regs.rdi),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    #[test]
    fn a_register_that_is_not_used_stands_in() {
        // `add [rip + 1], rax`.
        let decoded =
            Decoder::with_ip(64, &[0x48, 0x01, 0x05, 1, 0, 0, 0], 0x1000, DecoderOptions::NONE).decode();
        assert_eq!(stand_in(&decoded), Some(Register::RCX));
        assert_eq!(with_base(&decoded, Register::RCX).to_string(), "add [rcx],rax");
        let mut regs = kvm_regs::default();
        *register(&mut regs, Register::RCX).unwrap() = 7;
        assert_eq!((regs.rcx, register(&mut regs, Register::RSP)), (7, None));
        let other = Decoder::with_ip(64, &[0x48, 0x01, 0x00], 0x1000, DecoderOptions::NONE).decode();
        assert_eq!(stand_in(&other), None);
    }
}
