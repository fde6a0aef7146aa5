//! Where everything lies in the guest's memory.
//!
//! Low memory is laid out as other monitors do (Firecracker, crosvm), so that guests built for them
//! find it free where they expect that:
//!
//! | address | |
//! |---|---|
//! | 0x500 | GDT, empty IDT |
//! | 0x6000 | PVH start information |
//! | 0x7000 | `boot_params` |
//! | 0x8000 | stack, down from 0x8ff0 |
//! | 0x9000 | page tables |
//! | 0x20000 | command line |
//! | 0x9fc00 | what a PC reserves, to 1 MiB |
//! | 0x100000 | memory, the initrd at its end |

use std::ops::Range;

use super::{LoadError, Protocol};
use crate::ram::PAGE_SIZE;

/// The GDT.
pub const GDT: u64 = 0x500;
/// The IDT, in which there is nothing.
pub const IDT: u64 = 0x520;
/// `struct hvm_start_info`, with its tables.
pub const START_INFO: u64 = 0x6000;
/// `struct boot_params`, the "zero page".
pub const BOOT_PARAMS: u64 = 0x7000;
/// The stack pointer at the 64-bit entry.
pub const STACK_POINTER: u64 = 0x8ff0;
/// The root of the page tables; the others follow.
pub const PAGE_TABLES: u64 = 0x9000;
/// The command line, with a NUL behind it.
pub const COMMAND_LINE: u64 = 0x2_0000;

/// Where a PC's extended BIOS data area starts: low memory ends there.
const LOW_END: u64 = 0x9_fc00;
/// Where memory goes on behind video memory and ROMs. Initrds lie above.
const HIGH_START: u64 = 0x10_0000;

const PAGE: u64 = PAGE_SIZE as u64;

/// What one page directory maps: 1 GiB.
pub const DIRECTORY_SPAN: u64 = 1 << 30;

/// How many page directories map all of `memory` bytes: at least one.
pub fn directories(memory: u64) -> u64 {
    memory.div_ceil(DIRECTORY_SPAN).max(1)
}

/// A range of the memory map, as the guest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// First address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Whether it is memory, or reserved.
    pub usable: bool,
}

/// The memory map of a guest with `memory` bytes: that of a PC.
pub fn memory_map(memory: u64) -> [MapEntry; 3] {
    let entry = |start, end: u64, usable| MapEntry { address: start, size: end - start, usable };
    [
        entry(0, LOW_END, true),
        entry(LOW_END, HIGH_START, false),
        entry(HIGH_START, memory.max(HIGH_START), true),
    ]
}

/// Pages that the monitor fills or that the guest is entered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootPages {
    /// What is there.
    pub what: &'static str,
    /// Their addresses.
    pub range: Range<u64>,
}

/// The boot area of an entry by `protocol` into a guest of `memory` bytes, ascending.
pub fn boot_area(protocol: Protocol, memory: u64) -> Vec<BootPages> {
    let pages = |what, start: u64, count: u64| {
        let start = start / PAGE * PAGE;
        BootPages { what, range: start..start + count * PAGE }
    };
    let tables = pages("the GDT", GDT, 1);
    let command_line = pages("the command line", COMMAND_LINE, 1);
    match protocol {
        Protocol::Pvh => vec![tables, pages("the PVH start information", START_INFO, 1), command_line],
        Protocol::Linux64 => vec![
            tables,
            pages("the boot parameters", BOOT_PARAMS, 1),
            pages("the boot stack", STACK_POINTER, 1),
            pages("the page tables", PAGE_TABLES, 2 + directories(memory)),
            command_line,
        ],
    }
}

/// Checks that what is loaded at `range` leaves the boot area alone.
///
/// # Errors
/// [`LoadError::BootArea`].
pub fn check_clear(range: &Range<u64>, boot_area: &[BootPages]) -> Result<(), LoadError> {
    match boot_area.iter().find(|pages| pages.range.start < range.end && range.start < pages.range.end) {
        None => Ok(()),
        Some(pages) => Err(LoadError::BootArea {
            start: range.start,
            end: range.end,
            what: pages.what,
            boot_start: pages.range.start,
            boot_end: pages.range.end,
        }),
    }
}

/// The highest page-aligned place of `size` bytes that ends at `limit` or below, starts at 1 MiB or
/// above, and shares no page with any of the ranges `taken`.
pub fn place_high(size: u64, limit: u64, taken: &[Range<u64>]) -> Option<Range<u64>> {
    let mut taken: Vec<&Range<u64>> = taken.iter().filter(|range| !range.is_empty()).collect();
    taken.sort_unstable_by_key(|range| std::cmp::Reverse(range.end));
    let mut end = limit;
    let place = |end: u64| Some(end.checked_sub(size)? / PAGE * PAGE).filter(|start| *start >= HIGH_START);
    for range in taken {
        let start = place(end)?;
        if start >= range.end.checked_next_multiple_of(PAGE)? {
            return Some(start..start + size);
        }
        end = end.min(range.start / PAGE * PAGE);
    }
    place(end).map(|start| start..start + size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_areas_are_apart() {
        for protocol in [Protocol::Linux64, Protocol::Pvh] {
            for memory in [2 << 20, 1 << 30, 3 << 30] {
                let area = boot_area(protocol, memory);
                assert!(area.windows(2).all(|two| two[0].range.end <= two[1].range.start), "{area:x?}");
                assert!(area.iter().all(|pages| pages.range.end <= LOW_END));
            }
        }
        assert_eq!(boot_area(Protocol::Linux64, 3 << 30)[3].range, 0x9000..0xe000);
        assert_eq!(boot_area(Protocol::Linux64, (1 << 30) + 4096)[3].range, 0x9000..0xd000);
    }

    #[test]
    fn the_map_covers_memory() {
        let map = memory_map(16 << 20);
        assert_eq!(map[0], MapEntry { address: 0, size: 0x9fc00, usable: true });
        assert!(!map[1].usable);
        assert_eq!(map[2].address + map[2].size, 16 << 20);
    }

    #[test]
    fn high_places() {
        let (mib, free) = (1 << 20, |size, limit, taken: &[Range<u64>]| place_high(size, limit, taken));
        assert_eq!(free(5000, 8 * mib, &[]), Some(0x7f_e000..0x7f_e000 + 5000));
        // Behind the kernel, before it, between two.
        assert_eq!(free(mib, 8 * mib, std::slice::from_ref(&(mib..2 * mib))), Some(7 * mib..8 * mib));
        assert_eq!(free(2 * mib, 8 * mib, std::slice::from_ref(&(4 * mib..7 * mib))), Some(2 * mib..4 * mib));
        let two = [2 * mib..3 * mib, 4 * mib..8 * mib - 1];
        assert_eq!(free(mib, 8 * mib, &two), Some(3 * mib..4 * mib));
        assert_eq!(free(mib + 1, 8 * mib, &two), None);
        // Not in a page that a segment has a part of.
        assert_eq!(free(4096, 8 * mib, &[mib..8 * mib - 4095, 0..mib]), None);
        assert_eq!(free(4096, 8 * mib, &[mib..8 * mib - 4096, 0..mib]), Some(8 * mib - 4096..8 * mib));
        // An odd limit, below which it must end.
        assert_eq!(free(4096, 0x7f_ffff, &[]), Some(0x7f_e000..0x7f_f000));
        // Never in low memory.
        assert_eq!(free(mib + 1, 2 * mib, &[]), None);
        assert_eq!(free(u64::MAX, 2 * mib, &[]), None);
    }

    #[test]
    fn overlap_is_told() {
        let area = boot_area(Protocol::Linux64, 2 << 20);
        assert!(check_clear(&(0x1000..0x7000), &area).is_ok());
        assert!(check_clear(&(0xc000..0x20000), &area).is_ok());
        let error = check_clear(&(0x1000..0x7001), &area).unwrap_err();
        assert!(matches!(error, LoadError::BootArea { what: "the boot parameters", .. }), "{error}");
    }
}
