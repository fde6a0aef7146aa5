//! The guest's page tables: entries for what is in use, written when it is first touched.

use std::collections::HashMap;
use std::ops::Range;

use super::tables::{self, Tables};
use super::{Access, AddressSpace, FaultAnswer, Memory, PAGE, Protection};
use crate::ram::{CHUNK_PAGES, PageError};
use crate::x86::paging::{ACCESSED, ADDRESS, DIRTY, NO_EXEC, PRESENT, USER, WRITABLE};

impl AddressSpace {
    pub(super) fn entry(memory: &Memory, page: u64, protection: Protection) -> u64 {
        let mut entry = (memory.ram.base() + page * PAGE) | PRESENT | USER | ACCESSED | DIRTY;
        if protection.write {
            entry |= WRITABLE;
        }
        if !protection.exec {
            entry |= NO_EXEC;
        }
        entry
    }

    /// Makes an address ready that the guest is about to touch, as far as that costs it nothing.
    pub fn warm(&mut self, memory: &mut Memory, address: u64) -> Result<(), PageError> {
        let Some((_, vma)) = self.find(address) else { return Ok(()) };
        let region = tables::region_of(address);
        if !vma.backing.is_in_chunk() || self.back_region(memory, region)? {
            self.attach(memory, region)?;
        }
        Ok(())
    }

    /// Makes a region ready for the guest, as far as it is in use: memory slots, markers, page table.
    pub fn attach(&mut self, memory: &mut Memory, region: u64) -> Result<(), PageError> {
        if self.tables.leaf(region).is_some() && !self.partial.remove(&region) {
            return Ok(());
        }
        if self.tables.count() >= memory.table_budget() {
            self.partial.clear();
            self.tables.drop_all(&mut memory.system)?;
        }
        self.tables.attach_leaf(&mut memory.system, region)?;
        self.fill(memory, tables::region_start(region)..tables::region_start(region + 1))
    }

    /// Writes the entries of what is in use of a range, where regions are attached, and marks its absent
    /// pages. Entries of pages that are not mapped are left alone.
    pub(super) fn fill(&mut self, memory: &mut Memory, range: Range<u64>) -> Result<(), PageError> {
        let mut runs = Vec::new();
        let mut entries = Vec::new();
        for (region, leaf) in self.tables.leaves(&range) {
            let part = range.start.max(tables::region_start(region))
                ..range.end.min(tables::region_start(region + 1));
            let lent = self.lent_pages(memory, region);
            for (start, vma) in self.overlapping(&part).filter(|(_, vma)| vma.protection.any()) {
                let piece = part.start.max(start)..part.end.min(vma.end);
                for (address, pages) in self.runs_behind(memory, start, vma, piece) {
                    let first = tables::index_of(address);
                    runs.push(pages.clone());
                    let may_write = |index: &u64| {
                        let at = tables::region_start(region) + index * PAGE;
                        vma.protection.write && !lent.has(*index) && self.is_noted(vma, at)
                    };
                    let indexes: Vec<u64> = (first..first + (pages.end - pages.start)).collect();
                    for alike in indexes.chunk_by(|a, b| may_write(a) == may_write(b)) {
                        let protection = Protection { write: may_write(&alike[0]), ..vma.protection };
                        let from = pages.start + (alike[0] - first);
                        entries.push((leaf, alike[0], from..from + alike.len() as u64, protection));
                    }
                }
            }
        }
        for pages in runs {
            memory.ram.attach(pages)?;
        }
        for (leaf, first, pages, protection) in entries {
            let len = pages.end - pages.start;
            Tables::update(&memory.system, leaf, first..first + len, |index, old| {
                let page = pages.start + (index - first);
                let new = Self::entry(memory, page, protection);
                // A page whose touch nothing else would show gets its entry once it is there.
                (old != new && !memory.ram.is_unguarded(page)).then_some(new)
            });
        }
        Ok(())
    }

    /// Answers a page fault of the guest.
    pub fn fault(
        &mut self,
        memory: &mut Memory,
        address: u64,
        access: Access,
    ) -> Result<FaultAnswer, PageError> {
        if self.find(address).is_none() && !self.grow_to(memory, address)? {
            return Ok(FaultAnswer::NotMapped);
        }
        let Some((start, vma)) = self.find(address) else { return Ok(FaultAnswer::NotMapped) };
        if !vma.protection.allows(access) {
            return Ok(FaultAnswer::NotAllowed);
        }
        if self.is_beyond(memory, start, vma, address) {
            return Ok(FaultAnswer::BeyondFile);
        }
        if !self.back(memory, address)? {
            return Ok(FaultAnswer::OutOfMemory);
        }
        let own = self.find(address).is_some_and(|(_, vma)| self.is_own(memory, vma, address));
        if access == Access::Write && !own && !self.make_own(memory, address)? {
            return Ok(FaultAnswer::OutOfMemory);
        }
        let region = tables::region_of(address);
        if self.tables.leaf(region).is_none() || self.partial.contains(&region) {
            self.attach(memory, region)?;
            return Ok(FaultAnswer::Attached);
        }
        if self.tables.get(&memory.system, address) & PRESENT == 0 {
            // In use only since the region was attached.
            if let Some((start, vma)) = self.find(address)
                && let Some(page) = self.page_behind(memory, start, vma, address)
                && memory.ram.is_unguarded(page)
            {
                memory.ram.bring_in(page)?;
            }
            self.fill(memory, tables::region_start(region)..tables::region_start(region + 1))?;
            return Ok(FaultAnswer::Attached);
        }
        if self.tables.get(&memory.system, address) & USER == 0 {
            // A debugger looked for what uses it, and does no more.
            self.fill(memory, tables::region_start(region)..tables::region_start(region + 1))?;
            return Ok(FaultAnswer::Attached);
        }
        if access == Access::Write && !own {
            return Ok(FaultAnswer::Attached);
        }
        if access == Access::Write && self.tables.get(&memory.system, address) & WRITABLE == 0 {
            // Others saw the page when the entry was made, and none does now.
            self.fill(memory, tables::region_start(region)..tables::region_start(region + 1))?;
            return Ok(FaultAnswer::Attached);
        }
        Ok(FaultAnswer::Stale)
    }

    /// Whether an address can be read and has its memory already, so that a fault there would change no more than
    /// tables.
    pub fn is_backed(&self, memory: &Memory, address: u64) -> bool {
        self.find(address).is_some_and(|(start, vma)| {
            vma.protection.allows(Access::Read)
                && !self.is_beyond(memory, start, vma, address)
                && self.page_behind(memory, start, vma, address).is_some()
        })
    }

    /// The entry that the guest's tables have for an address, for diagnosis.
    pub fn entry_of(&self, memory: &Memory, address: u64) -> u64 {
        self.tables.get(&memory.system, address)
    }

    /// Forbids writes to a page by its entry alone, or allows them again where nothing else forbids them;
    /// whatever fills the tables again allows them, too. Whether anything was changed.
    ///
    /// # Errors
    /// When KVM refuses to look again.
    pub fn set_writable(&self, memory: &Memory, address: u64, writable: bool) -> Result<bool, PageError> {
        let entry = self.tables.get(&memory.system, address);
        if entry & PRESENT == 0 || (entry & WRITABLE != 0) == writable {
            return Ok(false);
        }
        let allowed =
            self.find(address).is_some_and(|(_, vma)| self.page_protection(memory, vma, address).write);
        if writable && !allowed {
            return Ok(false);
        }
        self.tables.set(&memory.system, address, entry ^ WRITABLE);
        if let (false, Some(page)) = (writable, memory.ram.page_at(entry & ADDRESS)) {
            memory.ram.invalidate(page..page + 1)?;
        }
        Ok(true)
    }

    /// Takes a page out of the program's reach by its entry alone, or gives it back; whatever fills the tables again
    /// gives it back, too. The monitor reaches it either way. Whether anything was changed.
    ///
    /// # Errors
    /// When KVM refuses to look again.
    pub fn set_reachable(&self, memory: &Memory, address: u64, reachable: bool) -> Result<bool, PageError> {
        let entry = self.tables.get(&memory.system, address);
        if entry & PRESENT == 0 || (entry & USER != 0) == reachable {
            return Ok(false);
        }
        self.tables.set(&memory.system, address, entry ^ USER);
        if let (false, Some(page)) = (reachable, memory.ram.page_at(entry & ADDRESS)) {
            memory.ram.invalidate(page..page + 1)?;
        }
        Ok(true)
    }

    /// The page of RAM that the guest's tables map an address to, as KVM would walk them.
    pub fn walk(&self, memory: &Memory, address: u64) -> Option<u64> {
        let entry = self.tables.get(&memory.system, address);
        (entry & PRESENT != 0).then(|| memory.ram.page_at(entry & ADDRESS)).flatten()
    }

    /// Maps private pages that are in memory already, and nothing else of their regions: what else
    /// is there costs nothing until the guest touches it.
    pub fn map_present(&mut self, memory: &mut Memory, pages: &[u64]) -> Result<(), PageError> {
        let regions = self.state.regions.iter();
        let region_of_chunk: HashMap<u64, u64> =
            regions.flat_map(|(number, region)| region.chunks().map(|c| (c.into(), *number))).collect();
        for page in pages {
            let Some(region) = region_of_chunk.get(&(page / CHUNK_PAGES)) else { continue };
            let address = tables::region_start(*region) + page % CHUNK_PAGES * PAGE;
            let Some((start, vma)) = self.find(address) else { continue };
            if !vma.protection.any() || self.page_behind(memory, start, vma, address) != Some(*page) {
                continue;
            }
            let entry = Self::entry(memory, *page, self.page_protection(memory, vma, address));
            if self.tables.leaf(*region).is_none() && self.tables.count() >= memory.table_budget() {
                break;
            }
            if self.tables.attach_leaf(&mut memory.system, *region)?.1 {
                self.partial.insert(*region);
            }
            self.tables.set(&memory.system, address, entry);
        }
        Ok(())
    }
}
