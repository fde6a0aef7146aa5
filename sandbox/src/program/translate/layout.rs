//! Where the copies lie, and what they work with: above what a program may map, with the entry stubs.

use std::ops::Range;

use crate::program::entry::SAVED_WORDS;
use crate::program::mm::USER_END;
use crate::ram::PAGE_SIZE;
use crate::x86::frame::Frame;

const PAGE: u64 = PAGE_SIZE as u64;

/// A page that the copies write: words.
pub const WORDS: u64 = USER_END + 0x1_0000;
/// Branches until the guest is left, counted down.
pub const COUNTER: u64 = WORDS;
/// Where registers are kept while a copy uses them for itself.
pub const SAVED_RAX: u64 = WORDS + 8;
/// The same.
pub const SAVED_RCX: u64 = WORDS + 16;
/// The same.
pub const SAVED_RDX: u64 = WORDS + 24;
/// The same, of a register that stands in for RIP.
pub const SAVED_STAND_IN: u64 = WORDS + 32;
/// Where an indirect branch goes, in the program.
pub const TARGET: u64 = WORDS + 40;
/// Where it goes, among the copies.
pub const JUMP: u64 = WORDS + 48;
/// Where the program's registers are while a condition is computed, in the order in which they are popped, with the
/// frame of an exception above them. The stack grows down from here, to behind the other words.
pub const FRAME: u64 = WORDS + PAGE - (SAVED_WORDS + Frame::WORDS) as u64 * 8;
/// Its RFLAGS.
pub const FRAME_RFLAGS: u64 = FRAME + (SAVED_WORDS as u64 + 2) * 8;
/// Its RSP.
pub const FRAME_RSP: u64 = FRAME_RFLAGS + 8;
/// From which copy an indirect branch comes.
pub const FROM: u64 = WORDS + 56;

/// The table of indirect branches' targets.
pub const TABLE: u64 = WORDS + PAGE;
/// Bytes of one of its entries: the target, negated, and its copy.
pub const ENTRY_BYTES: u64 = 16;
/// Bits of the number that an entry is looked for from.
pub const HASH_BITS: u32 = 13;
/// Entries behind the last of those numbers, as the search only goes on.
const ENTRIES_BEHIND: u64 = 512;
/// Entries in all.
pub const ENTRIES: u64 = (1 << HASH_BITS) + ENTRIES_BEHIND;
/// Pages of the table.
pub const TABLE_PAGES: u64 = (ENTRIES * ENTRY_BYTES).div_ceil(PAGE);

/// Counts of the ways that control flow took, words of 32 bits.
pub const COUNTS: u64 = TABLE + TABLE_PAGES * PAGE;
/// Counts that there are at most.
pub const MOST_COUNTS: usize = 1 << 18;

/// The copies.
pub const CODE: u64 = COUNTS + MOST_COUNTS as u64 * 4;
/// Behind the last byte that they may take: the end of the lower half is a page farther on.
const END: u64 = 0x7fff_ffff_f000;
/// Bytes that they may take: of programs whose ways are counted, which somebody wants to see run fast who has the
/// memory for it, and of others.
pub const CODE_BYTES: u64 = END - CODE;
/// The same.
pub const FEWER_CODE_BYTES: u64 = 4 << 20;

/// Everything.
pub(crate) const RANGE: Range<u64> = WORDS..END;
/// The copies.
pub(crate) const COPIES: Range<u64> = CODE..END;

/// Whether an address is among the copies.
pub(crate) fn is_inside(rip: u64) -> bool {
    COPIES.contains(&rip)
}
