//! Address spaces: page tables of four levels. (Intel SDM volume 3, section 4.5.)

use core::arch::asm;

use dejavm_example_guest::boot::BootParams;

use crate::frames::{self, LARGE, PAGE};
use crate::layout;

/// Entry: present.
const PRESENT: u64 = 1 << 0;
/// Entry: may be written.
pub const WRITABLE: u64 = 1 << 1;
/// Entry: CPL 3 may use it.
pub const USER: u64 = 1 << 2;
/// Entry of level 2: maps 2 MiB instead of pointing to a table.
const LARGE_PAGE: u64 = 1 << 7;
/// The physical address in an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Level of the root; 1 is that of the tables whose entries map 4 KiB.
const ROOT_LEVEL: u32 = 4;
/// Level whose entries can map 2 MiB.
const LARGE_LEVEL: u32 = 2;
/// Entries of a table.
const ENTRIES: u64 = 512;

/// CR0.WP: CPL 0, too, cannot write to pages that are read-only.
const WRITE_PROTECT: u64 = 1 << 16;

/// An address space.
#[derive(Clone, Copy)]
pub struct AddressSpace {
    root: u64,
}

impl AddressSpace {
    /// An empty one.
    pub fn new() -> Self {
        Self { root: frames::take_zeroed() }
    }

    /// One that shares what `other` has mapped so far in the lowest 512 GiB.
    pub fn sharing(other: Self) -> Self {
        let new = Self::new();
        // SAFETY: both are roots, mapped one to one.
        unsafe { *entry(new.root, ROOT_LEVEL, 0) = *entry(other.root, ROOT_LEVEL, 0) };
        new
    }

    /// The one that is in use.
    pub fn current() -> Self {
        let cr3: u64;
        // SAFETY: it only reads.
        unsafe { asm!("mov {}, cr3", out(reg) cr3, options(nomem, nostack, preserves_flags)) };
        Self { root: cr3 & ADDRESS }
    }

    /// Uses it.
    pub fn enter(self) {
        // SAFETY: every space has the image and its stack where they are.
        unsafe { asm!("mov cr3, {}", in(reg) self.root, options(nostack, preserves_flags)) };
    }

    /// Maps a page of 4 KiB.
    pub fn map(self, address: u64, frame: u64, flags: u64) {
        self.fill(address, 1, 1, |_| frame | flags | PRESENT);
    }

    /// Maps pages of 4 KiB that follow each other, each to the frame and with the flags that `to` gives.
    pub fn map_many(self, address: u64, pages: u64, to: impl Fn(u64) -> (u64, u64)) {
        self.fill(address, 1, pages, |page| {
            let (frame, flags) = to(page);
            frame | flags | PRESENT
        });
    }

    /// Maps pages of 2 MiB that follow each other.
    pub fn map_large(self, address: u64, pages: u64, frame: u64, flags: u64) {
        self.fill(address, LARGE_LEVEL, pages, |page| (frame + page * LARGE) | flags | PRESENT | LARGE_PAGE);
    }

    /// Writes entries of this level. None was present: the CPU remembers no such entries.
    fn fill(self, address: u64, level: u32, count: u64, value: impl Fn(u64) -> u64) {
        let bytes = 1 << shift(level);
        let mut at = core::ptr::null_mut::<u64>();
        for n in 0..count {
            // At the end of a table, the next one is looked for.
            if at.addr().is_multiple_of(PAGE as usize) {
                at = self.find(address + n * bytes, level);
            }
            // SAFETY: an entry of a table, mapped one to one.
            unsafe { at.write_volatile(value(n)) };
            at = at.wrapping_add(1);
        }
    }

    /// Exchanges the frames of two addresses that are mapped by pages of 4 KiB.
    pub fn exchange(self, first: u64, second: u64) {
        let (a, b) = (self.find(first, 1), self.find(second, 1));
        // SAFETY: entries of tables, mapped one to one; what the CPU remembers of them is dropped.
        unsafe {
            let entry = a.read_volatile();
            a.write_volatile(b.read_volatile());
            b.write_volatile(entry);
            for address in [first, second] {
                asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags));
            }
        }
    }

    /// The entry of this level for an address. Makes the tables above it.
    fn find(self, address: u64, level: u32) -> *mut u64 {
        let mut table = self.root;
        for above in (level + 1..=ROOT_LEVEL).rev() {
            let entry = entry(table, above, address);
            // SAFETY: tables are mapped one to one. What they allow, the last level restricts.
            unsafe {
                if *entry & PRESENT == 0 {
                    *entry = frames::take_zeroed() | PRESENT | WRITABLE | USER;
                }
                table = *entry & ADDRESS;
            }
        }
        entry(table, level, address)
    }

    /// Maps memory one to one: what the image and the boot loader use in small pages, each with what it needs,
    /// the rest in large ones. Page 0 stays absent.
    pub fn map_identity(self, params: BootParams) {
        let small = layout::end_of_image().next_multiple_of(LARGE);
        self.map_many(PAGE, small / PAGE - 1, |page| {
            let frame = PAGE + page * PAGE;
            (frame, if layout::is_fixed(frame) { 0 } else { WRITABLE })
        });
        let large = frames::end(params).saturating_sub(small) / LARGE;
        self.map_large(small, large, small, WRITABLE);
    }
}

/// The entry of a table for an address.
fn entry(table: u64, level: u32, address: u64) -> *mut u64 {
    let index = address >> shift(level) & (ENTRIES - 1);
    (table as *mut u64).wrapping_add(index as usize)
}

/// Binary logarithm of the bytes that an entry of a level maps.
fn shift(level: u32) -> u32 {
    12 + 9 * (level - 1)
}

/// Makes read-only pages read-only for CPL 0.
pub fn protect() {
    // SAFETY: everything that is written is mapped as writable.
    unsafe {
        asm!("mov {0}, cr0", "or {0}, {bit}", "mov cr0, {0}", out(reg) _, bit = const WRITE_PROTECT,
            options(nostack));
    }
}
