//! The guest's page tables, written by the monitor.
//!
//! Four levels of 4 KiB tables (Intel SDM volume 3, section 4.5), all in the system area. The last
//! level of a 2 MiB region is attached when the region is first touched, so a restored machine
//! starts with hardly any. Accessed and dirty bits are set beforehand: KVM then never writes to a
//! table.
//!
//! Under shadow paging KVM does not see these stores. Adding an entry where none was is always
//! safe; after changing or removing one, the page that it pointed to must be invalidated
//! ([`crate::ram::Ram::invalidate`], or its memory dropped). Table pages keep their role until all are
//! dropped together: they follow from the mappings, and the guest's faults build them anew.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::ram::{PAGE_SIZE, PageError, SystemArea};
use crate::x86::paging::{ACCESSED, ENTRIES, LEVEL_BITS, PAGE_SHIFT, PRESENT, USER, WRITABLE};

/// The tables of one address space.
#[derive(Debug)]
pub struct Tables {
    root: u64,
    /// Tables between the root and the last level by (level, address prefix); level 3 is below the
    /// root.
    upper: HashMap<(u32, u64), u64>,
    /// Last-level tables by region.
    leaves: BTreeMap<u64, u64>,
    /// Entries that the monitor keeps for itself, by address.
    kept: BTreeMap<u64, u64>,
}

impl Tables {
    /// An empty address space.
    pub fn new(system: &mut SystemArea) -> Result<Tables, PageError> {
        Ok(Tables {
            root: system.take_page()?,
            upper: HashMap::new(),
            leaves: BTreeMap::new(),
            kept: BTreeMap::new(),
        })
    }

    /// Guest-physical address of the root table: CR3.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// How many tables there are, besides the root.
    pub fn count(&self) -> usize {
        self.upper.len() + self.leaves.len()
    }

    /// The last-level table of a 2 MiB region, if it is attached.
    pub fn leaf(&self, region: u64) -> Option<u64> {
        self.leaves.get(&region).copied()
    }

    /// The attached regions that a range of addresses lies in, with their tables.
    pub fn leaves(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, u64)> + use<'_> {
        let regions = match range.is_empty() {
            true => 0..0,
            false => region_of(range.start)..region_of(range.end - 1) + 1,
        };
        self.leaves.range(regions).map(|(region, leaf)| (*region, *leaf))
    }

    /// The last-level table of a region, attached now if it was not; with whether it is new.
    pub fn attach_leaf(&mut self, system: &mut SystemArea, region: u64) -> Result<(u64, bool), PageError> {
        if let Some(leaf) = self.leaf(region) {
            return Ok((leaf, false));
        }
        let mut table = self.root;
        for level in (1..=3).rev() {
            let prefix = region >> (LEVEL_BITS * (level - 1));
            let known = if level == 1 { None } else { self.upper.get(&(level, prefix)).copied() };
            table = match known {
                Some(next) => next,
                None => {
                    let next = system.take_page()?;
                    let index = prefix % ENTRIES as u64;
                    system.write_u64(table + index * 8, next | PRESENT | WRITABLE | USER | ACCESSED);
                    match level {
                        1 => self.leaves.insert(prefix, next),
                        _ => self.upper.insert((level, prefix), next),
                    };
                    next
                }
            };
        }
        Ok((table, true))
    }

    /// Sets an entry that stays when the tables are dropped.
    pub fn keep(&mut self, system: &mut SystemArea, address: u64, entry: u64) -> Result<(), PageError> {
        self.attach_leaf(system, region_of(address))?;
        self.set(system, address, entry);
        self.kept.insert(address, entry);
        Ok(())
    }

    /// Gives up entries that are kept. KVM may have shadows of them.
    pub fn give_up(&mut self, system: &SystemArea, addresses: Range<u64>) {
        let given_up: Vec<u64> = self.kept.range(addresses).map(|(address, _)| *address).collect();
        for address in given_up {
            self.kept.remove(&address);
            self.set(system, address, 0);
        }
    }

    /// Drops all tables; the entries that are kept are set anew. The vCPUs must be stopped.
    pub fn drop_all(&mut self, system: &mut SystemArea) -> Result<(), PageError> {
        system.clear(self.root);
        let upper = self.upper.drain().map(|(_, table)| table);
        let pages = upper.chain(std::mem::take(&mut self.leaves).into_values()).collect();
        system.recycle(pages)?;
        for (address, entry) in std::mem::take(&mut self.kept) {
            self.keep(system, address, entry)?;
        }
        Ok(())
    }

    /// The pages of all tables, which are given up.
    pub fn into_pages(self) -> Vec<u64> {
        std::iter::once(self.root).chain(self.upper.into_values()).chain(self.leaves.into_values()).collect()
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

    /// Changes the entries of some pages of one attached region by `change`, which gets the index of
    /// each and what it holds, and says what it shall hold if that is something else.
    pub fn update(
        system: &SystemArea,
        leaf: u64,
        indexes: Range<u64>,
        mut change: impl FnMut(u64, u64) -> Option<u64>,
    ) {
        let mut table = [0u64; ENTRIES];
        let old = &mut table[..(indexes.end - indexes.start) as usize];
        system.read_entries(leaf + indexes.start * 8, old);
        for (index, old) in indexes.zip(old) {
            if let Some(new) = change(index, *old) {
                system.write_u64(leaf + index * 8, new);
            }
        }
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

/// The indexes in a region's table of the part of a range that lies in the region.
pub fn indexes_in(region: u64, range: &Range<u64>) -> Range<u64> {
    let start = range.start.max(region_start(region));
    let end = range.end.min(region_start(region + 1));
    match start < end {
        true => index_of(start)..index_of(end - 1) + 1,
        false => 0..0,
    }
}
