//! A program's address space: mappings, the page tables that follow from them, and access to it by
//! the monitor.
//!
//! Physical memory is given out in chunks of 2 MiB, one for each 2 MiB region of an address space
//! that has private pages in use: so where a virtual page lies follows from its region's chunk
//! alone, no page-by-page map is kept, and a snapshot's state is small whatever its size. Most
//! pages of a chunk are never touched and cost the host nothing.

mod account;
mod check;
mod clear;
mod copy;
mod grow;
pub mod hardware_random;
mod map;
mod memory;
mod remap;
pub mod source;
pub mod tables;
mod user;
mod vma;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use account::Account;
pub use grow::GUARD_GAP;
pub use map::MapError;
pub use memory::{CHUNK_BYTES, Memory, MemoryState, chunk_page, is_anonymous_object};
pub use remap::Remap;
pub use user::MemError;
pub use vma::{Access, Backing, Protection, Vma};

use crate::ram::{CHUNK_PAGES, PAGE_SIZE, PageError};
use tables::{ACCESSED, DIRTY, NO_EXEC, PRESENT, Tables, USER, WRITABLE};

const PAGE: u64 = PAGE_SIZE as u64;

/// Lowest address that a program may map (`vm.mmap_min_addr`).
pub const USER_MIN: u64 = 0x1_0000;
/// Address behind the highest that a program may map. Above it, below the end of the lower half,
/// are the monitor's own pages: the entry stubs must lie in the lower half (see `program::entry`).
pub const USER_END: u64 = 0x7fff_ffe0_0000;

/// The part of an address space that a snapshot keeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SpaceState {
    /// Mappings by start address.
    pub vmas: BTreeMap<u64, Vma>,
    /// The private pages of each 2 MiB region in use.
    pub regions: BTreeMap<u64, Region>,
    /// Pages, by address, that a mapping that notices writes has written: its own copies.
    pub copied: BTreeSet<u64>,
    /// Where the heap starts.
    pub brk_start: u64,
    /// Where it ends.
    pub brk: u64,
    /// Mappings are placed below this address.
    pub mmap_top: u64,
    /// New mappings are `mlock`ed: `mlockall(MCL_FUTURE)`.
    pub lock_new: bool,
    /// The most bytes that a mapping may grow down to: `RLIMIT_STACK`.
    pub stack_limit: u64,
}

/// What stands behind the private pages of a 2 MiB region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// The chunk.
    pub chunk: u32,
    /// Bytes charged for mappings without reservation that were touched here.
    pub charged: u64,
}

/// An address space.
#[derive(Debug)]
pub struct AddressSpace {
    /// What a snapshot keeps.
    pub state: SpaceState,
    tables: Tables,
    /// Regions whose tables hold pages that were brought in beforehand and nothing else yet.
    partial: BTreeSet<u64>,
    /// A mapping of a file or shared object went away since [`AddressSpace::take_lost_backing`].
    lost_backing: bool,
}

/// What a page fault of the guest means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAnswer {
    /// The region's table was attached: try again.
    Attached,
    /// The tables allow the access already: a stale translation. Try again.
    Stale,
    /// `SIGSEGV` with `SEGV_MAPERR`: nothing is mapped there.
    NotMapped,
    /// `SIGSEGV` with `SEGV_ACCERR`: the mapping does not allow it.
    NotAllowed,
    /// `SIGBUS` with `BUS_ADRERR`: behind the end of a mapped file.
    BeyondFile,
    /// Memory is used up.
    OutOfMemory,
}

impl AddressSpace {
    /// An empty one, whose entry stubs are mapped by the caller.
    pub fn new(memory: &mut Memory, state: SpaceState) -> Result<AddressSpace, PageError> {
        let tables = Tables::new(&mut memory.system)?;
        Ok(AddressSpace { state, tables, partial: BTreeSet::new(), lost_backing: false })
    }

    /// CR3.
    pub fn root(&self) -> u64 {
        self.tables.root()
    }

    /// Maps a page of the system area at an address above [`USER_END`].
    pub fn map_system(
        &mut self,
        memory: &mut Memory,
        address: u64,
        gpa: u64,
        flags: u64,
    ) -> Result<(), PageError> {
        self.tables.attach_leaf(&mut memory.system, tables::region_of(address))?;
        self.tables.set(&memory.system, address, gpa | flags | PRESENT | ACCESSED | DIRTY);
        Ok(())
    }

    /// The mapping at an address, with its start.
    pub fn find(&self, address: u64) -> Option<(u64, &Vma)> {
        let (start, vma) = self.state.vmas.range(..=address).next_back()?;
        (address < vma.end).then_some((*start, vma))
    }

    /// Whether a mapping of a file or shared object has gone away since the last call: the time to
    /// look for what nothing maps any more.
    pub fn take_lost_backing(&mut self) -> bool {
        std::mem::take(&mut self.lost_backing)
    }

    /// Says that what a mapping would have needed is not needed: [`AddressSpace::take_lost_backing`].
    pub fn note_lost_backing(&mut self) {
        self.lost_backing = true;
    }

    /// The first mapping that ends above an address, with its start.
    pub fn first_from(&self, address: u64) -> Option<(u64, &Vma)> {
        self.find(address).or_else(|| self.state.vmas.range(address..).next().map(|(s, vma)| (*s, vma)))
    }

    /// Mappings that overlap a range, with their starts.
    pub fn mappings_in(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Vma)> + use<'_> {
        self.overlapping(range)
    }

    /// The nearest mapping to an address, for messages.
    pub fn nearest(&self, address: u64) -> Option<(u64, &Vma)> {
        let below = self.state.vmas.range(..=address).next_back();
        let above = self.state.vmas.range(address..).next();
        let distance = |(start, vma): &(&u64, &Vma)| {
            if address >= **start { address.saturating_sub(vma.end.max(1) - 1) } else { **start - address }
        };
        [below, above].into_iter().flatten().min_by_key(distance).map(|(start, vma)| (*start, vma))
    }

    /// Mappings that overlap a range, with their starts.
    fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Vma)> + use<'_> {
        let first = self.find(range.start).map_or(range.start, |(start, _)| start);
        self.state.vmas.range(first..range.end).map(|(start, vma)| (*start, vma))
    }

    /// The page of RAM behind an address of a mapping; `None` where the file behind it has ended,
    /// or where the region has no chunk yet.
    fn page_behind(&self, memory: &Memory, start: u64, vma: &Vma, address: u64) -> Option<u64> {
        match &vma.backing {
            Backing::Private { object, offset } if !self.is_copied(address) => {
                memory.object_page(*object, offset + (address - start))
            }
            Backing::Shared { object, offset } => memory.object_page(*object, offset + (address - start)),
            Backing::File { offset, len, .. } if offset + (address - start) / PAGE * PAGE >= *len => None,
            _ => {
                let region = self.state.regions.get(&tables::region_of(address))?;
                Some(chunk_page(region.chunk) + tables::index_of(address))
            }
        }
    }

    /// Gives a region its chunk, and tells the page source of the files that are mapped there.
    /// `false` when memory is used up.
    fn back_region(&mut self, memory: &mut Memory, region: u64) -> Result<bool, PageError> {
        if self.state.regions.contains_key(&region) {
            return Ok(true);
        }
        let range = tables::region_start(region)..tables::region_start(region + 1);
        let charged = self.unreserved_in(&range);
        if memory.state.account.charge(charged).is_err() {
            return Ok(false);
        }
        let Some(chunk) = memory.take_chunk() else {
            memory.state.account.refund(charged);
            return Ok(false);
        };
        self.state.regions.insert(region, Region { chunk, charged });
        self.back_files(memory, range)?;
        Ok(true)
    }

    /// Bytes of a range that are mapped without reservation: charged once their region is in use.
    fn unreserved_in(&self, range: &Range<u64>) -> u64 {
        self.overlapping(range)
            .filter(|(_, vma)| vma.no_reserve && vma.protection.any())
            .map(|(start, vma)| vma.end.min(range.end) - start.max(range.start))
            .sum()
    }

    /// Tells the page source of the files mapped in a range whose regions have chunks: what the
    /// pages held is dropped.
    fn back_files(&mut self, memory: &mut Memory, range: Range<u64>) -> Result<(), PageError> {
        let mut wanted = Vec::new();
        for (start, vma) in self.overlapping(&range) {
            let Backing::File { content, offset, len, .. } = &vma.backing else { continue };
            // Whole pages of the file; the tail of the last one is zeros.
            let file_end = start + (len.saturating_sub(*offset)).next_multiple_of(PAGE);
            let part = range.start.max(start)..range.end.min(vma.end).min(file_end);
            for (address, pages) in self.private_runs(part) {
                wanted.push((pages, *content, offset + (address - start), vma.protection.exec));
            }
        }
        for (pages, content, offset, exec) in wanted {
            memory.ram.renew(pages.clone())?;
            memory.pages.unmap(pages.clone());
            memory.pages.map_file(pages, content, offset, exec);
        }
        Ok(())
    }

    /// The runs of private pages behind a range of addresses, where regions have chunks: start
    /// address and pages of each.
    fn private_runs(&self, range: Range<u64>) -> Vec<(u64, Range<u64>)> {
        let mut runs = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let region = tables::region_of(at);
            let end = tables::region_start(region + 1).min(range.end);
            if let Some(Region { chunk, .. }) = self.state.regions.get(&region) {
                let first = chunk_page(*chunk) + tables::index_of(at);
                runs.push((at, first..first + (end - at) / PAGE));
            }
            at = end;
        }
        runs
    }

    fn entry(memory: &Memory, page: u64, protection: Protection) -> u64 {
        let mut entry = (memory.ram.base() + page * PAGE) | PRESENT | USER | ACCESSED | DIRTY;
        if protection.write {
            entry |= WRITABLE;
        }
        if !protection.exec {
            entry |= NO_EXEC;
        }
        entry
    }

    /// Makes a region ready for the guest: chunk, memory slot, markers, page table. `false` when
    /// memory is used up.
    pub fn attach(&mut self, memory: &mut Memory, region: u64) -> Result<bool, PageError> {
        if self.tables.leaf(region).is_some() && !self.partial.remove(&region) {
            return Ok(true);
        }
        let range = tables::region_start(region)..tables::region_start(region + 1);
        let private = self.overlapping(&range).any(|(_, vma)| vma.backing.is_in_chunk());
        if private && !self.back_region(memory, region)? {
            return Ok(false);
        }
        self.tables.attach_leaf(&mut memory.system, region)?;
        self.fill(memory, range)?;
        Ok(true)
    }

    /// Writes the entries of the mappings in a range whose regions are attached, and marks their
    /// absent pages. Entries of pages that are not mapped are left alone.
    fn fill(&mut self, memory: &mut Memory, range: Range<u64>) -> Result<(), PageError> {
        let mut entries = Vec::new();
        let mut pages: Vec<Range<u64>> = Vec::new();
        for (start, vma) in self.overlapping(&range) {
            if !vma.protection.any() {
                continue;
            }
            let mut at = range.start.max(start);
            while at < range.end.min(vma.end) {
                if let (Some(_), Some(page)) =
                    (self.tables.leaf(tables::region_of(at)), self.page_behind(memory, start, vma, at))
                {
                    entries.push((at, page, self.page_protection(vma, at)));
                    match pages.last_mut() {
                        Some(last) if last.end == page => last.end += 1,
                        _ => pages.push(page..page + 1),
                    }
                }
                at += PAGE;
            }
        }
        for run in pages {
            memory.ram.attach(run)?;
        }
        for (address, page, protection) in entries {
            // A page whose touch nothing else would show gets its entry once it is there.
            if !memory.ram.is_unguarded(page) {
                self.tables.set(&memory.system, address, Self::entry(memory, page, protection));
            }
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
        if access == Access::Write && !self.is_own(vma, address) && !self.take_copy(memory, address)? {
            return Ok(FaultAnswer::OutOfMemory);
        }
        let region = tables::region_of(address);
        if self.tables.leaf(region).is_none() || self.partial.contains(&region) {
            return Ok(match self.attach(memory, region)? {
                true => FaultAnswer::Attached,
                false => FaultAnswer::OutOfMemory,
            });
        }
        if self.tables.get(&memory.system, address) & PRESENT == 0 {
            // Mapped since the region was attached, with a chunk that the region lacked.
            let in_chunk = self.find(address).is_some_and(|(_, vma)| vma.backing.is_in_chunk());
            if in_chunk && !self.back_region(memory, region)? {
                return Ok(FaultAnswer::OutOfMemory);
            }
            if let Some((start, vma)) = self.find(address)
                && let Some(page) = self.page_behind(memory, start, vma, address)
                && memory.ram.is_unguarded(page)
            {
                memory.ram.bring_in(page)?;
            }
            let page = address / PAGE * PAGE;
            let end = vma_end(self, page).min(tables::region_start(region + 1));
            self.fill(memory, page..end)?;
            return Ok(FaultAnswer::Attached);
        }
        Ok(FaultAnswer::Stale)
    }

    /// The entry that the guest's tables have for an address, for diagnosis.
    pub fn entry_of(&self, memory: &Memory, address: u64) -> u64 {
        self.tables.get(&memory.system, address)
    }

    /// The page of RAM that the guest's tables map an address to, as KVM would walk them.
    pub fn walk(&self, memory: &Memory, address: u64) -> Option<u64> {
        const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;
        let entry = self.tables.get(&memory.system, address);
        (entry & PRESENT != 0).then(|| memory.ram.page_at(entry & ADDRESS_MASK)).flatten()
    }

    /// Maps private pages that are in memory already, and nothing else of their regions: what else
    /// is there costs nothing until the guest touches it.
    pub fn map_present(&mut self, memory: &mut Memory, pages: &[u64]) -> Result<(), PageError> {
        let region_of_chunk: HashMap<u64, u64> =
            self.state.regions.iter().map(|(region, r)| (u64::from(r.chunk), *region)).collect();
        for page in pages {
            let Some(region) = region_of_chunk.get(&(page / CHUNK_PAGES)) else { continue };
            let address = tables::region_start(*region) + page % CHUNK_PAGES * PAGE;
            let Some((start, vma)) = self.find(address) else { continue };
            if !vma.protection.any() || self.page_behind(memory, start, vma, address) != Some(*page) {
                continue;
            }
            let entry = Self::entry(memory, *page, self.page_protection(vma, address));
            if self.tables.attach_leaf(&mut memory.system, *region)?.1 {
                self.partial.insert(*region);
            }
            self.tables.set(&memory.system, address, entry);
        }
        Ok(())
    }

    /// Gives every mapped file page its place in RAM, so that a snapshot can hold its content: the
    /// file is asked for pages of regions without a chunk only. `false` when memory is used up.
    pub fn back_all_files(&mut self, memory: &mut Memory) -> Result<bool, PageError> {
        let mut regions = BTreeSet::new();
        for (start, vma) in &self.state.vmas {
            if let Backing::File { offset, len, .. } = &vma.backing {
                let end = vma.end.min(start + len.saturating_sub(*offset).next_multiple_of(PAGE));
                regions.extend(tables::region_of(*start)..tables::region_of(end.max(start + 1) - 1) + 1);
            }
        }
        for region in regions {
            if !self.back_region(memory, region)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn vma_end(space: &AddressSpace, address: u64) -> u64 {
    space.find(address).map_or(address + PAGE, |(_, vma)| vma.end)
}
