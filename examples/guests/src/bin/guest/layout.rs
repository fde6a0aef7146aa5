//! Where things are: the image's parts, as `link.ld` names them, and what is mapped elsewhere.

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
    static data_start: u8;
    static user_start: u8;
}

/// The pages of the block, one by one, each address space in an order of its own.
pub const WINDOW: u64 = 0x4000_0000_0000;
/// The same pages, as one of 2 MiB.
pub const BLOCK: u64 = 0x4100_0000_0000;
/// Where pages are mapped as they are touched.
pub const LAZY: u64 = 0x5000_0000_0000;
/// Length of that.
pub const LAZY_BYTES: u64 = 1 << 30;
/// Code of CPL 3.
pub const USER_CODE: u64 = 0x6000_0000_0000;
/// End of the stack of CPL 3, a page.
pub const USER_STACK: u64 = 0x6000_4000_0000;

/// End of the image.
pub fn end_of_image() -> u64 {
    (&raw const image_end).addr() as u64
}

/// Physical address of the code of CPL 3.
pub fn user_code() -> u64 {
    (&raw const user_start).addr() as u64
}

/// Whether a page is the image's code or constants.
pub fn is_fixed(page: u64) -> bool {
    let at = |symbol: *const u8| symbol.addr() as u64;
    (at(&raw const image_start)..at(&raw const data_start)).contains(&page)
}
