//! Exceptions of a program: what signal each becomes, and the few that are answered.

use super::signal::Info;
use super::signal::number::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP};

/// Vectors (Intel SDM volume 3, table 7-1).
pub mod vector {
    #![allow(missing_docs)]
    pub const DIVIDE: u8 = 0;
    pub const DEBUG: u8 = 1;
    pub const BREAKPOINT: u8 = 3;
    pub const INVALID_OPCODE: u8 = 6;
    pub const STACK: u8 = 12;
    pub const PROTECTION: u8 = 13;
    pub const PAGE_FAULT: u8 = 14;
    pub const FLOATING_POINT: u8 = 16;
    pub const ALIGNMENT: u8 = 17;
    pub const SIMD: u8 = 19;
}

/// `si_code` values (`include/uapi/asm-generic/siginfo.h`).
pub mod code {
    #![allow(missing_docs)]
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_ADRERR: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const FPE_FLTINV: i32 = 7;
    pub const ILL_ILLOPN: i32 = 2;
    pub const TRAP_TRACE: i32 = 2;
    pub const SI_KERNEL: i32 = 0x80;
}

/// Page-fault error code bits (Intel SDM volume 3, section 4.7).
pub mod page_fault {
    /// A write.
    pub const WRITE: u64 = 1 << 1;
    /// An instruction fetch.
    pub const FETCH: u64 = 1 << 4;
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
    Info { signal, code, value, fault: Some((vector, error, 0)) }
}

/// The signal of a page fault.
pub fn page_fault_signal(bus: bool, code: i32, error: u64, address: u64) -> Info {
    let signal = if bus { SIGBUS } else { SIGSEGV };
    Info { signal, code, value: address, fault: Some((vector::PAGE_FAULT, error, address)) }
}
