//! The paging of a guest that owns its page tables, as the CPU does it: Intel SDM volume 3,
//! chapter 4.
//!
//! Access rights are not looked at: where a page is does not depend on who may touch it. Reserved
//! bits are not either: an entry that would fault because of them counts as one without them.

mod entry;
mod physical;

use kvm_bindings::kvm_sregs;

use crate::ram::PAGE_SIZE;
use crate::x86::flags::{cr0, cr4, efer};
use crate::x86::paging::{ADDRESS, ADDRESS_32, ADDRESS_PAE_ROOT};
use entry::{Entry, Format};
#[cfg(test)]
pub(super) use physical::testing;
pub use physical::{Physical, RamView};

/// The paging mode (SDM volume 3, section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No paging: linear addresses are physical.
    None,
    /// 32-bit paging: two levels of 4-byte entries.
    Bits32 {
        /// Pages of 4 MiB.
        pse: bool,
    },
    /// PAE paging: three levels of 8-byte entries, the topmost with 4 of them.
    Pae,
    /// 4-level paging.
    Level4,
    /// 5-level paging.
    Level5,
}

/// Where a guest's page tables are, and how they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    mode: Mode,
    /// Guest-physical address of the topmost table. In [`Mode::Pae`] it is aligned to 32 bytes, and
    /// to a page in the others.
    root: u64,
}

impl Paging {
    /// The paging that the system registers select.
    pub fn of(sregs: &kvm_sregs) -> Paging {
        let mode = if sregs.cr0 & cr0::PG == 0 {
            Mode::None
        } else if sregs.efer & efer::LME != 0 {
            if sregs.cr4 & cr4::LA57 != 0 { Mode::Level5 } else { Mode::Level4 }
        } else if sregs.cr4 & cr4::PAE != 0 {
            Mode::Pae
        } else {
            Mode::Bits32 { pse: sregs.cr4 & cr4::PSE != 0 }
        };
        // What CR3 holds beside the address: flags, the PCID, and LAM's bits 61 and 62 (SDM
        // volume 3, tables 4-3, 4-7 and 4-12).
        let address = match mode {
            Mode::None => 0,
            Mode::Bits32 { .. } => ADDRESS_32,
            Mode::Pae => ADDRESS_PAE_ROOT,
            Mode::Level4 | Mode::Level5 => ADDRESS,
        };
        Paging { mode, root: sregs.cr3 & address }
    }

    /// The paging mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The guest-physical address of a linear address, by the guest's tables as they are. `None`
    /// where they do not map it, where it is not canonical, and where a table is not in memory.
    /// What is mapped need not be in memory.
    pub fn translate(&self, memory: &dyn Physical, linear: u64) -> Option<u64> {
        self.walk(memory, linear, &mut |_| {})
    }

    /// [`Paging::translate`], that shows the page of each table that it reads, from the topmost on;
    /// also those of a walk that finds nothing.
    pub fn walk(&self, memory: &dyn Physical, linear: u64, table: &mut dyn FnMut(u64)) -> Option<u64> {
        let Some(format) = Format::of(self.mode) else {
            // Linear addresses have 32 bits then.
            return Some(linear & u64::from(u32::MAX));
        };
        if !format.is_canonical(linear) {
            return None;
        }
        let mut at = self.root;
        for level in (1..=format.levels).rev() {
            let raw = format.read(memory, at + format.index(level, linear) * format.entry_bytes())?;
            table(at / PAGE_SIZE as u64);
            match format.decode(level, raw) {
                Entry::Absent => return None,
                Entry::Table(next) => at = next,
                Entry::Page { base, bits } => return Some(base | linear & ((1 << bits) - 1)),
            }
        }
        None
    }

    /// Shows every page that holds a table reachable from CR3, each once, by its number: the tables
    /// in memory, whatever else they are.
    ///
    /// A page may be a table at several levels, as in a table that points to itself; it is read once
    /// at each, so that time and space are bounded by the pages of memory.
    pub fn tables(&self, memory: &dyn Physical, visit: &mut dyn FnMut(u64)) {
        let Some(format) = Format::of(self.mode) else { return };
        if !memory.read(self.root, &mut []) {
            return;
        }
        let mut seen = Seen::default();
        let mut waiting = vec![(format.levels, self.root)];
        visit(self.root / PAGE_SIZE as u64);
        seen.insert(self.root / PAGE_SIZE as u64, format.levels);
        let mut content = [0u8; PAGE_SIZE];
        while let Some((level, table)) = waiting.pop() {
            let content = &mut content[..format.table_bytes(level)];
            if !memory.read(table, content) {
                continue;
            }
            for raw in format.entries(content) {
                let Entry::Table(next) = format.decode(level, raw) else { continue };
                let page = next / PAGE_SIZE as u64;
                if seen.has(page, level - 1) || !memory.read(next, &mut []) {
                    continue;
                }
                if seen.insert(page, level - 1) {
                    visit(page);
                }
                // The last level points to no tables.
                if level > 2 {
                    waiting.push((level - 1, next));
                }
            }
        }
    }
}

/// At which levels a page in memory was found to be a table: a bit for each.
#[derive(Default)]
struct Seen(Vec<u8>);

impl Seen {
    fn has(&self, page: u64, level: u32) -> bool {
        self.0.get(page as usize).is_some_and(|levels| levels & 1 << level != 0)
    }

    /// Whether the page is new at every level.
    fn insert(&mut self, page: u64, level: u32) -> bool {
        let page = page as usize;
        if page >= self.0.len() {
            self.0.resize(page + 1, 0);
        }
        let new = self.0[page] == 0;
        self.0[page] |= 1 << level;
        new
    }
}

#[cfg(test)]
mod tests;
