//! Page-table entries (Intel SDM volume 3, sections 4.3 to 4.5).

/// Present.
pub const PRESENT: u64 = 1 << 0;
/// Writable.
pub const WRITABLE: u64 = 1 << 1;
/// Reachable at CPL 3.
pub const USER: u64 = 1 << 2;
/// Accessed.
pub const ACCESSED: u64 = 1 << 5;
/// Dirty.
pub const DIRTY: u64 = 1 << 6;
/// Above the last level: maps a large page. In the last level: PAT.
pub const LARGE: u64 = 1 << 7;
/// Not executable.
pub const NO_EXEC: u64 = 1 << 63;

/// The address in an 8-byte entry, and in CR3 where its entries are of 8 bytes: bits 12 to 51, the
/// most that MAXPHYADDR allows (section 4.1.4).
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The address in a 4-byte entry, and in CR3 with 32-bit paging.
pub const ADDRESS_32: u64 = 0xffff_f000;
/// The address in CR3 with PAE paging, whose topmost table has 32 bytes.
pub const ADDRESS_PAE_ROOT: u64 = 0xffff_ffe0;

/// Entries in a table of 8-byte entries.
pub const ENTRIES: usize = 512;
/// Bits of the offset in a page.
pub const PAGE_SHIFT: u32 = 12;
/// Bits of a linear address that index a table of 8-byte entries.
pub const LEVEL_BITS: u32 = 9;
/// Bits of a linear address that index a table of 4-byte entries.
pub const LEVEL_BITS_32: u32 = 10;
/// Bytes that one last-level table of 8-byte entries maps, or one large page in its place.
pub const LARGE_PAGE: u64 = 1 << (PAGE_SHIFT + LEVEL_BITS);
