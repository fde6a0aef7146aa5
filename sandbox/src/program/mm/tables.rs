//! The guest's page tables, written by the monitor.
//!
//! Four levels of 4 KiB tables (Intel SDM volume 3, section 4.5), all in the system area. The last
//! level of a 2 MiB region is attached when the region is first touched, so a restored machine
//! starts with hardly any. Accessed and dirty bits are set beforehand: KVM then never writes to a
//! table.
//!
//! Under shadow paging KVM does not see these stores. Adding an entry where none was is always
//! safe; after changing or removing one, the page that it pointed to must be invalidated
//! ([`crate::ram::Ram::invalidate`], or its memory dropped). Table pages keep their role for good.

use std::collections::HashMap;

use crate::ram::{PAGE_SIZE, PageError, SystemArea};

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
/// Not executable.
pub const NO_EXEC: u64 = 1 << 63;

/// Entries in a table.
pub const ENTRIES: usize = 512;
/// Bits of the page offset.
const PAGE_SHIFT: u32 = 12;
/// Bits of index a level.
const LEVEL_BITS: u32 = 9;

/// The tables of one address space.
#[derive(Debug)]
pub struct Tables {
    root: u64,
    /// Upper-level tables by (level, address prefix); level 3 is below the root, 1 maps pages.
    tables: HashMap<(u32, u64), u64>,
}

impl Tables {
    /// An empty address space.
    pub fn new(system: &mut SystemArea) -> Result<Tables, PageError> {
        Ok(Tables { root: system.take_page()?, tables: HashMap::new() })
    }

    /// Guest-physical address of the root table: CR3.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The last-level table of a 2 MiB region, if it is attached.
    pub fn leaf(&self, region: u64) -> Option<u64> {
        self.tables.get(&(1, region)).copied()
    }

    /// The last-level table of a region, attached now if it was not; with whether it is new.
    pub fn attach_leaf(&mut self, system: &mut SystemArea, region: u64) -> Result<(u64, bool), PageError> {
        if let Some(leaf) = self.leaf(region) {
            return Ok((leaf, false));
        }
        let mut table = self.root;
        for level in (1..=3).rev() {
            let prefix = region >> (LEVEL_BITS * (level - 1));
            table = match self.tables.get(&(level, prefix)) {
                Some(next) => *next,
                None => {
                    let next = system.take_page()?;
                    let index = prefix % ENTRIES as u64;
                    system.write_u64(table + index * 8, next | PRESENT | WRITABLE | USER | ACCESSED);
                    self.tables.insert((level, prefix), next);
                    next
                }
            };
        }
        Ok((table, true))
    }

    /// Sets the entry of one page, whose region must be attached.
    pub fn set(&self, system: &SystemArea, address: u64, entry: u64) {
        if let Some(leaf) = self.leaf(region_of(address)) {
            system.write_u64(leaf + index_of(address) * 8, entry);
        }
    }

    /// The entry of a page; 0 where its region is not attached.
    pub fn get(&self, system: &SystemArea, address: u64) -> u64 {
        self.leaf(region_of(address)).map_or(0, |leaf| system.read_u64(leaf + index_of(address) * 8))
    }
}

/// The 2 MiB region that an address lies in.
pub fn region_of(address: u64) -> u64 {
    address >> (PAGE_SHIFT + LEVEL_BITS)
}

/// The index of an address in its region's table.
pub fn index_of(address: u64) -> u64 {
    (address / PAGE_SIZE as u64) % ENTRIES as u64
}

/// Where a region starts.
pub fn region_start(region: u64) -> u64 {
    region << (PAGE_SHIFT + LEVEL_BITS)
}
