//! Exception vectors (Intel SDM volume 3, table 7-1).

/// `#DE`: a division by zero, or whose result does not fit.
pub const DIVIDE: u8 = 0;
/// `#DB`: a single step, a breakpoint of the debug registers, `int1`.
pub const DEBUG: u8 = 1;
/// `#BP`: `int3`.
pub const BREAKPOINT: u8 = 3;
/// `#OF`: `into`.
pub const OVERFLOW: u8 = 4;
/// `#UD`: an invalid opcode.
pub const INVALID_OPCODE: u8 = 6;
/// `#DF`: an exception while one was delivered.
pub const DOUBLE_FAULT: u8 = 8;
/// `#SS`: a fault of the stack segment.
pub const STACK: u8 = 12;
/// `#GP`: a general-protection fault.
pub const PROTECTION: u8 = 13;
/// `#PF`: a page fault.
pub const PAGE_FAULT: u8 = 14;
/// `#MF`: an x87 floating-point exception.
pub const FLOATING_POINT: u8 = 16;
/// `#AC`: an unaligned access.
pub const ALIGNMENT: u8 = 17;
/// `#XM`: a SIMD floating-point exception.
pub const SIMD: u8 = 19;

/// Number of vectors that the architecture keeps for exceptions.
pub const COUNT: u8 = 32;

/// Whether the CPU pushes an error code for a vector.
pub fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}
