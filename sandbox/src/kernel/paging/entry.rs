//! Entries of page tables: their sizes, and what one says.

use super::{Mode, Physical};
use crate::ram::PAGE_SIZE;
use crate::x86::paging::{ADDRESS, ADDRESS_32, LARGE, LEVEL_BITS, LEVEL_BITS_32, PAGE_SHIFT, PRESENT};

/// What a 4 MiB page's entry has of the address: bits 22 to 31 (SDM volume 3, table 4-4).
const LARGE_32: u64 = 0xffc0_0000;
/// Where that entry has bits 32 to 39 of the address: from bit 13 (PSE-36).
const LARGE_32_HIGH: u32 = 13;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing: what it maps is not there.
    Absent,
    /// The guest-physical address of a table of the next level.
    Table(u64),
    /// A page.
    Page {
        /// Its guest-physical address.
        base: u64,
        /// Bits of the offset in it.
        bits: u32,
    },
}

/// How tables of a mode are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    mode: Mode,
    /// Levels of tables. The topmost has this number, and the last is 1.
    pub(super) levels: u32,
}

impl Format {
    /// The format of a mode's tables. `None` when it has none.
    pub(super) fn of(mode: Mode) -> Option<Format> {
        let levels = match mode {
            Mode::None => return None,
            Mode::Bits32 { .. } => 2,
            Mode::Pae => 3,
            Mode::Level4 => 4,
            Mode::Level5 => 5,
        };
        Some(Format { mode, levels })
    }

    fn is_32_bit(self) -> bool {
        matches!(self.mode, Mode::Bits32 { .. })
    }

    /// Bytes of an entry.
    pub(super) fn entry_bytes(self) -> u64 {
        if self.is_32_bit() { 4 } else { 8 }
    }

    /// Bytes of a table.
    pub(super) fn table_bytes(self, level: u32) -> usize {
        // The page-directory-pointer table of PAE paging has 4 entries.
        if self.mode == Mode::Pae && level == self.levels { 32 } else { PAGE_SIZE }
    }

    /// Bits of a linear address below those that index a table.
    fn shift(self, level: u32) -> u32 {
        PAGE_SHIFT + (level - 1) * if self.is_32_bit() { LEVEL_BITS_32 } else { LEVEL_BITS }
    }

    /// The index of a linear address in its table of a level.
    pub(super) fn index(self, level: u32, linear: u64) -> u64 {
        linear >> self.shift(level) & (self.table_bytes(level) as u64 / self.entry_bytes() - 1)
    }

    /// Whether the upper bits of a linear address are copies of the highest one that is translated
    /// (SDM volume 1, section 3.3.7.1). In the modes of 32-bit addresses they are not looked at.
    pub(super) fn is_canonical(self, linear: u64) -> bool {
        let unused = match self.mode {
            Mode::Level4 => 16,
            Mode::Level5 => 7,
            _ => return true,
        };
        ((linear << unused) as i64 >> unused) as u64 == linear
    }

    /// Reads the entry at an address.
    pub(super) fn read(self, memory: &dyn Physical, gpa: u64) -> Option<u64> {
        let mut raw = [0u8; 8];
        memory.read(gpa, &mut raw[..self.entry_bytes() as usize]).then(|| u64::from_le_bytes(raw))
    }

    /// The entries in the bytes of a table.
    pub(super) fn entries(self, table: &[u8]) -> impl Iterator<Item = u64> {
        table.chunks_exact(self.entry_bytes() as usize).map(|bytes| {
            let mut raw = [0u8; 8];
            raw[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(raw)
        })
    }

    /// What an entry of a table of a level says.
    pub(super) fn decode(self, level: u32, raw: u64) -> Entry {
        if raw & PRESENT == 0 {
            return Entry::Absent;
        }
        let bits = self.shift(level);
        let address = if self.is_32_bit() { ADDRESS_32 } else { ADDRESS };
        match (level, raw & LARGE != 0, self.mode) {
            (1, ..) => Entry::Page { base: raw & address, bits },
            (2, true, Mode::Bits32 { pse: true }) => {
                Entry::Page { base: raw & LARGE_32 | (raw >> LARGE_32_HIGH & 0xff) << 32, bits }
            }
            (2, true, Mode::Pae | Mode::Level4 | Mode::Level5) | (3, true, Mode::Level4 | Mode::Level5) => {
                Entry::Page { base: raw & address & !((1 << bits) - 1), bits }
            }
            // There are no larger pages; the bit is reserved.
            (4.., true, _) => Entry::Absent,
            _ => Entry::Table(raw & address),
        }
    }
}
