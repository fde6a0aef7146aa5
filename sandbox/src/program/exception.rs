//! Exceptions of a program: what signal each becomes, and the few that are answered.

use super::mm::USER_END;
use super::signal::number::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP};
use super::signal::{Info, Trap};
use crate::vcpu::registers::ExtendedState;
use crate::x86::flags::page_fault;
use crate::x86::vector;

/// `si_code` values (`include/uapi/asm-generic/siginfo.h`).
pub mod code {
    #![allow(missing_docs)]
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_ADRERR: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const FPE_FLTDIV: i32 = 3;
    pub const FPE_FLTOVF: i32 = 4;
    pub const FPE_FLTUND: i32 = 5;
    pub const FPE_FLTRES: i32 = 6;
    pub const FPE_FLTINV: i32 = 7;
    pub const ILL_ILLOPN: i32 = 2;
    pub const TRAP_BRKPT: i32 = 1;
    pub const TRAP_TRACE: i32 = 2;
    pub const SI_KERNEL: i32 = 0x80;
}

/// The signal that an exception other than a page fault becomes (`arch/x86/kernel/traps.c`).
pub fn signal(vector: u8, error: u64, rip: u64) -> Info {
    let (signal, code, value) = match vector {
        vector::DIVIDE => (SIGFPE, code::FPE_INTDIV, rip),
        vector::DEBUG => (SIGTRAP, code::TRAP_TRACE, rip),
        vector::BREAKPOINT => (SIGTRAP, code::SI_KERNEL, 0),
        vector::INVALID_OPCODE => (SIGILL, code::ILL_ILLOPN, rip),
        vector::STACK => (SIGBUS, code::SI_KERNEL, 0),
        vector::FLOATING_POINT | vector::SIMD => (SIGFPE, code::FPE_FLTINV, rip),
        vector::ALIGNMENT => (SIGBUS, code::BUS_ADRALN, 0),
        _ => (SIGSEGV, code::SI_KERNEL, 0),
    };
    Info { signal, code, value, fault: Some(Trap { vector, error, address: None }), ..Info::default() }
}

/// Lowest address that is not canonical, and the lowest canonical one above those.
const CANONICAL_END: u64 = 1 << 47;
const KERNEL_START: u64 = !(CANONICAL_END - 1);

/// The signal of a return to an address that a program cannot run at, if this is one. CPUs differ in
/// when they fault, and KVM may refuse to enter the guest at all; and the stubs are no program's.
pub fn unreachable(rip: u64) -> Option<Info> {
    match rip {
        ..USER_END => None,
        USER_END..CANONICAL_END => {
            let error = page_fault::USER | page_fault::FETCH;
            Some(page_fault_signal(false, code::SEGV_MAPERR, error, rip))
        }
        KERNEL_START.. => {
            let error = page_fault::PRESENT | page_fault::USER | page_fault::FETCH;
            Some(page_fault_signal(false, code::SEGV_MAPERR, error, rip))
        }
        _ => Some(signal(vector::PROTECTION, 0, 0)),
    }
}

/// The signal of a floating-point exception, by what the x87 status word or MXCSR say of it
/// (`fpu__exception_code`, `arch/x86/kernel/fpu/core.c`). `None` if they say nothing: the instruction is
/// tried again.
pub fn floating_point_signal(vector: u8, rip: u64, state: &ExtendedState) -> Option<Info> {
    /// Exception flags, the same in both: invalid, denormal, divide, overflow, underflow, precision.
    const CODES: [(u32, i32); 5] = [
        (0x01, code::FPE_FLTINV),
        (0x04, code::FPE_FLTDIV),
        (0x08, code::FPE_FLTOVF),
        (0x12, code::FPE_FLTUND),
        (0x20, code::FPE_FLTRES),
    ];
    /// The masks of MXCSR stand so many bits above the flags.
    const MASKS: u32 = 7;
    let raised = if vector == vector::FLOATING_POINT {
        u32::from(state.x87_status() & !state.x87_control())
    } else {
        !(state.mxcsr() >> MASKS) & state.mxcsr()
    };
    let (_, code) = CODES.into_iter().find(|(flags, _)| raised & flags != 0)?;
    Some(Info { code, ..signal(vector, 0, rip) })
}

/// The signal of a page fault.
pub fn page_fault_signal(bus: bool, code: i32, error: u64, address: u64) -> Info {
    let signal = if bus { SIGBUS } else { SIGSEGV };
    let trap = Trap { vector: vector::PAGE_FAULT, error, address: Some(address) };
    Info { signal, code, value: address, fault: Some(trap), ..Info::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code for these words, with all other state initial.
    fn code_of(vector: u8, control: u16, status: u16, mxcsr: u32) -> Option<i32> {
        let mut image = ExtendedState::initial().image(576);
        image[0..2].copy_from_slice(&control.to_le_bytes());
        image[2..4].copy_from_slice(&status.to_le_bytes());
        image[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        floating_point_signal(vector, 0x1000, &ExtendedState::from_bytes(&image)).map(|info| info.code)
    }

    #[test]
    fn codes_of_floating_point_exceptions() {
        const UNMASKED: u32 = 0;
        for (flags, code) in [(0x1, 7), (0x2, 5), (0x4, 3), (0x8, 4), (0x10, 5), (0x20, 6), (0x24, 3)] {
            assert_eq!(code_of(vector::SIMD, 0x37f, 0, UNMASKED | flags), Some(code), "MXCSR {flags:#x}");
            assert_eq!(code_of(vector::FLOATING_POINT, 0x340, flags as u16, 0x1f80), Some(code));
        }
        assert_eq!(code_of(vector::SIMD, 0x37f, 0, 0x1f80 | 0x3f), None, "all are masked");
        assert_eq!(code_of(vector::SIMD, 0x37f, 0, 0x1d80 | 0x24), Some(3), "only divisions trap");
        assert_eq!(code_of(vector::FLOATING_POINT, 0x37f, 0x3f, 0), None);
    }

    #[test]
    fn where_no_program_can_run() {
        assert_eq!(unreachable(USER_END - 1), None);
        assert_eq!(unreachable(USER_END).map(|info| info.code), Some(code::SEGV_MAPERR));
        assert_eq!(unreachable(1 << 47).map(|info| info.code), Some(code::SI_KERNEL));
        assert_eq!(unreachable(u64::MAX).map(|info| info.code), Some(code::SEGV_MAPERR));
        assert_eq!(unreachable(KERNEL_START).and_then(|info| info.fault?.address), Some(KERNEL_START));
    }
}
