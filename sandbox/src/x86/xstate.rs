//! The XSAVE area in its standard format, and the components of XCR0 (Intel SDM volume 1, chapter 13).

/// Component of XCR0: x87 state.
pub const X87: u64 = 1 << 0;
/// Component of XCR0: MXCSR and the XMM registers.
pub const SSE: u64 = 1 << 1;
/// Component of XCR0: upper halves of the YMM registers.
pub const AVX: u64 = 1 << 2;
/// Components of XCR0 that AVX-512 has: mask registers, upper halves of the ZMM registers, and the
/// upper 16 of these.
pub const AVX512: u64 = 7 << 5;
/// Component of XCR0: the register of protection keys for user pages.
pub const PKRU: u64 = 1 << 9;

/// Offsets of the x87 control and status words in the legacy region (table 10-2).
pub const X87_CONTROL: usize = 0;
/// See [`X87_CONTROL`].
pub const X87_STATUS: usize = 2;
/// Offset there of the address of the last instruction of the x87, of 8 bytes (Intel SDM volume 1, section 10.5.1).
pub const X87_POINTER: usize = 8;
/// Offset of MXCSR in the legacy region.
pub const MXCSR: usize = 24;
/// Bytes of the legacy region.
pub const LEGACY_BYTES: usize = 512;
/// Offset of XSTATE_BV, which starts the header behind the legacy region (section 13.4.2).
pub const XSTATE_BV: usize = LEGACY_BYTES;
/// Offset of XCOMP_BV, which is zero in the standard format.
pub const XCOMP_BV: usize = XSTATE_BV + 8;
/// Offset of the header's end.
pub const HEADER_END: usize = XSTATE_BV + 64;
