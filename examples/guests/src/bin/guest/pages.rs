//! A block of pages, filled, and seen through the window: in each address space in another order.

use crate::frames::{LARGE, PAGE};
use crate::layout::{BLOCK, WINDOW};
use crate::paging::{AddressSpace, USER, WRITABLE};

/// Pages of the block.
pub const PAGES: u64 = LARGE / PAGE;

/// Rotation and multiplier of the checksums: those of Firefox's and rustc's hash function, `FxHasher`.
pub const ROTATE: u32 = 5;
pub const MULTIPLIER: u64 = 0x517c_c1b7_2722_0a95;

/// Folds a word into a checksum.
pub fn fold(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(ROTATE) ^ word).wrapping_mul(MULTIPLIER)
}

/// Folds bytes.
pub fn fold_bytes(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| fold(sum, u64::from(*byte)))
}

/// Exchanges two pages of the window of one address space.
pub fn exchange(space: AddressSpace, first: u64, second: u64) {
    space.exchange(WINDOW + first * PAGE, WINDOW + second * PAGE);
}

/// Maps the block: page N of the window is page `N * stride` of the block. Odd strides reach all.
pub fn map(space: AddressSpace, block: u64, stride: u64) {
    space.map_large(BLOCK, 1, block, WRITABLE);
    space.map_many(WINDOW, PAGES, |page| (block + page * stride % PAGES * PAGE, WRITABLE | USER));
}

/// Fills the first word of each page of the block.
pub fn fill(seed: u64) {
    let mut word = seed;
    for page in 0..PAGES {
        word = fold(word, page + 1);
        // SAFETY: the block is mapped, and nothing else is there.
        unsafe { ((BLOCK + page * PAGE) as *mut u64).write_volatile(word) };
    }
}

/// The first word of a page of the window.
pub fn word(page: u64) -> *mut u64 {
    (WINDOW + page % PAGES * PAGE) as *mut u64
}

/// Folds the words of the window, as the program of CPL 3 does.
pub fn walk(start: u64) -> u64 {
    // SAFETY: the window is mapped.
    (0..PAGES).fold(start, |sum, page| fold(sum, unsafe { word(page).read_volatile() }))
}
