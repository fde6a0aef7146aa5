//! Whether a page could be a page table, by its content alone.

use crate::kernel::paging::Mode;
use crate::ram::PAGE_SIZE;
use crate::x86::paging::{ADDRESS, ADDRESS_32, LARGE, PRESENT};

/// The end of the addresses that a PC's devices have, unless they are given some of 64 bits.
const END_32: u64 = 1 << 32;
/// Where a PC's devices begin at the lowest: QEMU's q35, with the largest hole in memory that it makes,
/// has them from here on (`pc_q35_init` in `hw/i386/pc_q35.c`).
const DEVICES_32: u64 = 1 << 31;

/// Entries in a table of 4-byte entries.
const ENTRIES_32: u64 = 1024;

/// Address bits in a large page's entry that are 0, as the smallest large page, of 2 MiB, is aligned;
/// bit 12 among them is PAT (SDM volume 3, table 4-18).
const LARGE_ALIGNMENT: u64 = 0x001f_e000;
/// The same in a 4 MiB page's entry: PSE-36's upper address bits, of which no machine of this kind
/// has any, and bit 21 (SDM volume 3, table 4-4).
const LARGE_ALIGNMENT_32: u64 = 0x003f_e000;
/// Reserved in all entries of PAE paging, as far as no address can be there (SDM volume 3, tables
/// 4-9 to 4-11).
const RESERVED_PAE: u64 = 0x7ff0_0000_0000_0000;
/// Reserved in an entry of the topmost table of PAE paging (SDM volume 3, table 4-8).
const RESERVED_PAE_TOP: u64 = 0xfff0_0000_0000_01e6;

/// Whether a page's content could be a page table in a mode, for a guest with `memory_bytes` of
/// memory from address 0 up whose CPU has no more than `max_phys_bits` bits of physical address.
/// Without paging, a table of any mode: the guest may be about to turn it on.
///
/// It may say yes wrongly, which costs a page of memory; it does not say no to a table in real use.
/// What makes a table: at least one present entry, and all present ones plausible. Entries that are
/// not present may hold anything, such as where a page was swapped out to. A table without a present
/// entry need not be kept: see [`find`](super::find).
///
/// A present entry of 8 bytes is plausible when its physical address is in memory or below 4 GiB,
/// where the devices are; or anywhere when it could be a large page, since guests map the whole of
/// physical memory by those. Address bits that the CPU lacks must be 0, and in PAE paging those above
/// as well, but NX. In the other modes those are free for protection keys and software.
///
/// That rule would let everything through in 32-bit paging, whose addresses are all below 4 GiB.
/// There, an address beyond memory is plausible from 2 GiB on, where devices are; or when its page
/// has, in its 4 MiB, the place of the entry in the table, as in a map of all physical memory. Up to
/// 2 GiB of memory that still tells text and code from tables, and beyond nothing does.
///
/// The topmost table of PAE paging is 32 bytes anywhere in a page. Small odd numbers look like it, so
/// that in that mode, and without paging, most pages of data are kept.
///
/// A page that is a table in one part and something else in another is not found. (That of the
/// current address space is, by way of CR3.)
pub fn could_be_table(content: &[u8; PAGE_SIZE], mode: Mode, memory_bytes: u64, max_phys_bits: u32) -> bool {
    let lacking = ADDRESS & !((1 << max_phys_bits.min(52)) - 1);
    let wide = |reserved| all_plausible(wide_entries(content), |_, raw| is_wide(raw, memory_bytes, reserved));
    let narrow =
        || all_plausible(narrow_entries(content), |index, raw| is_narrow(raw, index as u64, memory_bytes));
    let pae_top = || {
        let plausible = |_, raw| is_pae_top(raw, memory_bytes, lacking);
        content.as_chunks::<32>().0.iter().any(|table| all_plausible(wide_entries(table), plausible))
    };
    match mode {
        Mode::Level4 | Mode::Level5 => wide(lacking),
        Mode::Pae => wide(lacking | RESERVED_PAE) || pae_top(),
        Mode::Bits32 { .. } => narrow(),
        Mode::None => wide(lacking) || narrow() || pae_top(),
    }
}

fn wide_entries(table: &[u8]) -> impl Iterator<Item = u64> {
    table.as_chunks().0.iter().map(|raw| u64::from_le_bytes(*raw))
}

fn narrow_entries(table: &[u8]) -> impl Iterator<Item = u64> {
    table.as_chunks().0.iter().map(|raw| u32::from_le_bytes(*raw).into())
}

/// Whether there are present entries, and all of them, with their indexes, are plausible.
fn all_plausible(entries: impl Iterator<Item = u64>, plausible: impl Fn(usize, u64) -> bool) -> bool {
    let mut any = false;
    for (index, raw) in entries.enumerate().filter(|(_, raw)| raw & PRESENT != 0) {
        if !plausible(index, raw) {
            return false;
        }
        any = true;
    }
    any
}

/// Whether a present entry of 8 bytes is plausible.
fn is_wide(raw: u64, memory_bytes: u64, reserved: u64) -> bool {
    let large = raw & LARGE != 0 && raw & LARGE_ALIGNMENT == 0;
    raw & reserved == 0 && (large || raw & ADDRESS < memory_bytes.max(END_32))
}

/// Whether a present entry of the topmost table of PAE paging is plausible. It points to a table.
fn is_pae_top(raw: u64, memory_bytes: u64, lacking: u64) -> bool {
    raw & (lacking | RESERVED_PAE_TOP) == 0 && raw & ADDRESS < memory_bytes
}

/// Whether a present entry of 4 bytes is plausible.
fn is_narrow(raw: u64, index: u64, memory_bytes: u64) -> bool {
    let address = raw & ADDRESS_32;
    let large = raw & LARGE != 0 && raw & LARGE_ALIGNMENT_32 == 0;
    large
        || address < memory_bytes
        || address >= DEVICES_32
        || address / PAGE_SIZE as u64 % ENTRIES_32 == index
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    const MEMORY: u64 = 64 << 20;
    const MODES: [Mode; 6] = [
        Mode::None,
        Mode::Bits32 { pse: false },
        Mode::Bits32 { pse: true },
        Mode::Pae,
        Mode::Level4,
        Mode::Level5,
    ];

    fn page(bytes: impl Iterator<Item = u8>) -> [u8; PAGE_SIZE] {
        let mut content = [0; PAGE_SIZE];
        content.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        content
    }

    fn wide(entries: impl IntoIterator<Item = u64>) -> [u8; PAGE_SIZE] {
        page(entries.into_iter().flat_map(u64::to_le_bytes))
    }

    fn narrow(entries: impl IntoIterator<Item = u32>) -> [u8; PAGE_SIZE] {
        page(entries.into_iter().flat_map(u32::to_le_bytes))
    }

    /// The modes in which a page could be a table.
    fn modes(content: &[u8; PAGE_SIZE]) -> Vec<Mode> {
        MODES.into_iter().filter(|mode| could_be_table(content, *mode, MEMORY, 46)).collect()
    }

    const NARROW: [Mode; 2] = [Mode::Bits32 { pse: false }, Mode::Bits32 { pse: true }];
    const WIDE: [Mode; 3] = [Mode::Pae, Mode::Level4, Mode::Level5];
    const LONG: [Mode; 2] = [Mode::Level4, Mode::Level5];

    /// Of the modes of 8-byte entries, those in which a page could be a table. It often looks like one
    /// of 4-byte entries, too, and the other way round.
    fn wide_modes(content: &[u8; PAGE_SIZE]) -> Vec<Mode> {
        modes(content).into_iter().filter(|mode| WIDE.contains(mode)).collect()
    }

    fn narrow_modes(content: &[u8; PAGE_SIZE]) -> Vec<Mode> {
        modes(content).into_iter().filter(|mode| NARROW.contains(mode)).collect()
    }

    #[test]
    fn what_is_none() {
        assert_eq!(modes(&[0; PAGE_SIZE]), [], "zeros");
        assert_eq!(
            modes(&[0xff; PAGE_SIZE]),
            [&[Mode::None], &NARROW[..]].concat(),
            "ones: of the last page below 4 GiB"
        );
        assert_eq!(modes(&[0xcc; PAGE_SIZE]), [], "nothing present");
        let text = "It was the best of times, it was the worst of times,\n";
        assert_eq!(modes(&page(text.bytes().cycle())), []);
        let part = page(text.bytes());
        assert_eq!(modes(&part), [], "a little text, then zeros");
        // Prologue, call, test, jump, return, as compilers order them.
        let code = b"\x55\x48\x89\xe5\x41\x57\x41\x56\x48\x83\xec\x18\x48\x8b\x05\x39\x1f\x20\x00\
            \xe8\x73\xfe\xff\xff\x85\xc0\x0f\x84\x21\x01\x00\x00\x48\x83\xc4\x18\x41\x5e\x5d\xc3";
        assert_eq!(modes(&page(code.iter().copied().cycle())), []);
        let mut random = ChaCha20Rng::seed_from_u64(4096);
        for _ in 0..1000 {
            let mut bytes = [0; PAGE_SIZE];
            random.fill_bytes(&mut bytes);
            assert_eq!(modes(&bytes), []);
        }
    }

    #[test]
    fn tables_of_8_byte_entries() {
        // Of pages in memory, with NX; of the LAPIC; with a protection key and software's bits.
        let last = |flags: u64| wide((0..512).map(move |n| n << 13 & 0x3ff_f000 | flags));
        assert_eq!(wide_modes(&last(0x63)), WIDE);
        assert_eq!(wide_modes(&last(1 << 63 | 0xe67)), WIDE);
        assert_eq!(wide_modes(&last(0xe7)), WIDE, "PAT");
        assert_eq!(wide_modes(&wide([0, 0xfee0_0000 | 0x1b])), WIDE);
        assert_eq!(wide_modes(&last(0x5ff << 52 | 1)), LONG);
        assert_eq!(wide_modes(&last(1 << 46 | 1)), [], "no such address bit");
        assert_eq!(wide_modes(&wide([1 << 32 | 1])), [], "beyond memory and devices");
        // One that points to itself.
        assert_eq!(wide_modes(&wide((0..512).map(|n| if n == 510 { 0x234_5003 } else { 0 }))), WIDE);
        // Large pages of all there is, with PAT.
        assert_eq!(wide_modes(&wide((0..512).map(|n| n << 30 | 1 << 12 | 0xe3))), WIDE);
        assert_eq!(wide_modes(&wide((0..512).map(|n| 1 << 45 | n << 21 | 0xe3))), WIDE);
        // Pages that are swapped out, or elsewhere, among those that are there.
        let swapped =
            (0..512u64).map(|n| if n % 3 == 0 { n << 12 | 0x27 } else { !n << 40 | 0xabcd_0002 & !1 });
        assert_eq!(wide_modes(&wide(swapped)), WIDE);
        assert_eq!(wide_modes(&wide((0..512).map(|n| !n << 40 | 0x1a))), [], "all swapped out");
    }

    #[test]
    fn any_table_before_paging_is_on() {
        for content in [wide([0x1003]), wide([0xffff_f083, 1 << 63 | 3]), narrow([0x1003, 0x2003])] {
            assert!(could_be_table(&content, Mode::None, MEMORY, 46));
        }
        assert!(!could_be_table(&wide([0x4000_3003]), Mode::Bits32 { pse: true }, MEMORY, 46));
        assert!(could_be_table(&wide([0x4000_3003]), Mode::None, MEMORY, 46));
    }

    #[test]
    fn the_memory_above_4_gib() {
        let content = wide((0..512).map(|n| 8 << 30 | n << 12 | 3));
        assert!(could_be_table(&content, Mode::Level4, 16 << 30, 36));
        assert!(!could_be_table(&content, Mode::Level4, 4 << 30, 36));
        assert!(!could_be_table(&content, Mode::Level4, 16 << 30, 33));
        // Any number of bits will do.
        assert!(could_be_table(&content, Mode::Level4, u64::MAX, u32::MAX));
        assert!(!could_be_table(&content, Mode::Level4, 0, 0));
    }

    #[test]
    fn the_topmost_table_of_pae() {
        let mut content = page("of odd letters ".bytes().cycle());
        let top =
            [0x1000u64, 0x2000, 0, 0x3f_f000].map(|table| if table == 0 { 0x1ee } else { table | 0x19 });
        content[96..128].copy_from_slice(&top.map(u64::to_le_bytes).concat());
        assert_eq!(modes(&content), [Mode::None, Mode::Pae]);
        // A table lies in memory.
        content[100] = 1;
        assert_eq!(modes(&content), []);
        content[100] = 0;
        // It has no writable bit.
        content[96] |= 2;
        assert_eq!(modes(&content), []);
    }

    #[test]
    fn tables_of_4_byte_entries() {
        assert_eq!(narrow_modes(&narrow((0..1024).map(|n| n << 12 | 0x67))), NARROW);
        let directory = (0..1024).map(|n| if n >= 768 { (n - 768) << 22 | 0x1e3 } else { 0 });
        assert_eq!(narrow_modes(&narrow(directory)), NARROW);
        assert_eq!(
            narrow_modes(&narrow((0..1024).map(|n| n << 22 | 0x83))),
            NARROW,
            "4 MiB pages of everything"
        );
        // The same by 4 KiB pages, far beyond memory; and the LAPIC beside memory.
        assert_eq!(narrow_modes(&narrow((0..1024).map(|n| 0x4000_0000 | n << 12 | 3))), NARROW);
        assert_eq!(narrow_modes(&narrow([0x1003, 0xfee0_001b, 0xbeef << 8])), NARROW);
        assert_eq!(narrow_modes(&narrow([0x4000_3003])), [], "out of order, beyond memory");
    }
}
