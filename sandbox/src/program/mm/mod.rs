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
mod free;
mod grow;
pub mod hardware_random;
mod map;
mod memory;
mod region;
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
pub use map::{MAX_MAPPINGS, MapError};
pub use memory::{CHUNK_BYTES, Memory, MemoryState, chunk_page, is_anonymous_object};
pub use region::{BLOCK_BYTES, Region};
pub use remap::Remap;
pub use user::MemError;
pub use vma::{Access, Backing, MAPPING_BYTES, Protection, Vma};

use crate::ram::{CHUNK_PAGES, PAGE_SIZE, PageError};
use free::Gaps;
use region::Blocks;
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

impl SpaceState {
    /// Bytes that are charged for the mappings.
    pub fn cost(&self) -> u64 {
        let mapping = |(start, vma): (&u64, &Vma)| vma.own_cost() + self.cost_of(*start, vma, &(0..USER_END));
        self.vmas.iter().map(mapping).fold(0, u64::saturating_add)
    }

    /// Bytes that are charged for the part of a mapping in a range: without reservation, what is in use
    /// of it.
    fn cost_of(&self, start: u64, vma: &Vma, range: &Range<u64>) -> u64 {
        let part = range.start.max(start)..range.end.min(vma.end);
        match vma.charged {
            false => 0,
            true if !vma.no_reserve => part.end - part.start,
            true => self.in_use(&part),
        }
    }

    /// Bytes of a range whose blocks are in use.
    fn in_use(&self, range: &Range<u64>) -> u64 {
        self.regions_in(range)
            .flat_map(|(number, region)| region.blocks.runs(tables::indexes_in(number, range)))
            .map(|pages| (pages.end - pages.start) * PAGE)
            .sum()
    }

    /// The regions in use that a range of addresses lies in.
    fn regions_in(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, Region)> + use<'_> {
        let regions = match range.is_empty() {
            true => 0..0,
            false => tables::region_of(range.start)..tables::region_of(range.end - 1) + 1,
        };
        self.regions.range(regions).map(|(number, region)| (*number, *region))
    }
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
    /// What is known of free addresses.
    gaps: Gaps,
    /// [`Vma::own_cost`] of all mappings together.
    own_cost: u64,
    /// How much of it is charged.
    own_charged: u64,
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
        let own_cost = state.vmas.values().map(Vma::own_cost).sum();
        Ok(AddressSpace {
            state,
            tables,
            partial: BTreeSet::new(),
            lost_backing: false,
            gaps: Gaps::default(),
            own_cost,
            own_charged: own_cost,
        })
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
        self.tables.keep(&mut memory.system, address, gpa | flags | PRESENT | ACCESSED | DIRTY)
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
    /// or where it is not in use yet.
    fn page_behind(&self, memory: &Memory, start: u64, vma: &Vma, address: u64) -> Option<u64> {
        match &vma.backing {
            Backing::Shared { .. } | Backing::Private { .. } => {
                let page = address / PAGE * PAGE;
                self.runs_behind(memory, start, vma, page..page + PAGE).pop().map(|(_, pages)| pages.start)
            }
            Backing::File { offset, len, .. }
                if address - start >= len.saturating_sub(*offset).next_multiple_of(PAGE) =>
            {
                None
            }
            Backing::File { .. } | Backing::Anonymous => {
                let region = self.state.regions.get(&tables::region_of(address))?;
                let index = tables::index_of(address);
                let in_use = !vma.no_reserve || region.blocks.has(index);
                in_use.then(|| chunk_page(region.chunk) + index)
            }
        }
    }

    /// The pages of RAM behind a range of a mapping, where it is in use: address and pages of each run.
    fn runs_behind(
        &self,
        memory: &Memory,
        start: u64,
        vma: &Vma,
        range: Range<u64>,
    ) -> Vec<(u64, Range<u64>)> {
        let mut end = range.end;
        match &vma.backing {
            Backing::Shared { object, offset } | Backing::Private { object, offset } => {
                let part = offset + (range.start - start)..offset + (range.end - start);
                let runs = memory.object_runs(*object, part).into_iter();
                let runs = runs.map(|(at, pages)| (start + (at - offset), pages));
                return match &vma.backing {
                    Backing::Private { .. } => self.with_copies(runs, range),
                    _ => runs.collect(),
                };
            }
            Backing::File { offset, len, .. } => {
                end = end.min(start + len.saturating_sub(*offset).next_multiple_of(PAGE));
            }
            Backing::Anonymous => {}
        }
        self.runs_in_use(range.start..end, vma.no_reserve)
    }

    /// The pages behind a range of which some are copies: `runs`, but for those.
    fn with_copies(
        &self,
        runs: impl Iterator<Item = (u64, Range<u64>)>,
        range: Range<u64>,
    ) -> Vec<(u64, Range<u64>)> {
        let mut all = Vec::new();
        for (address, pages) in runs {
            let end = address + (pages.end - pages.start) * PAGE;
            let mut from = address;
            for copy in self.state.copied.range(address..end).copied().chain([end]) {
                if from < copy {
                    let first = pages.start + (from - address) / PAGE;
                    all.push((from, first..first + (copy - from) / PAGE));
                }
                from = copy + PAGE;
            }
        }
        for copy in self.state.copied.range(range) {
            all.extend(self.runs_in_use(*copy..copy + PAGE, false));
        }
        all
    }

    /// The private pages behind a range of addresses, where it is in use: address and pages of each run.
    /// Without reservation, blocks that were not touched are not.
    fn runs_in_use(&self, range: Range<u64>, no_reserve: bool) -> Vec<(u64, Range<u64>)> {
        let mut runs = Vec::new();
        for (number, region) in self.state.regions_in(&range) {
            let first = chunk_page(region.chunk);
            let blocks = if no_reserve { region.blocks } else { Blocks::ALL };
            for run in blocks.runs(tables::indexes_in(number, &range)) {
                let address = tables::region_start(number) + run.start * PAGE;
                runs.push((address, first + run.start..first + run.end));
            }
        }
        runs
    }

    /// Gives a region its chunk, and tells the page source of the files that are mapped there.
    /// `false` when memory is used up.
    fn back_region(&mut self, memory: &mut Memory, region: u64) -> Result<bool, PageError> {
        if self.state.regions.contains_key(&region) {
            return Ok(true);
        }
        let Some(chunk) = memory.take_chunk() else { return Ok(false) };
        self.state.regions.insert(region, Region { chunk, blocks: Blocks::default() });
        self.back_files(memory, tables::region_start(region)..tables::region_start(region + 1))?;
        Ok(true)
    }

    /// Makes sure that there is memory behind an address that is mapped. `false` when it is used up.
    fn back(&mut self, memory: &mut Memory, address: u64) -> Result<bool, PageError> {
        let Some((start, vma)) = self.find(address) else { return Ok(false) };
        match vma.backing {
            Backing::Private { .. } if self.is_copied(address) => return Ok(true),
            Backing::Shared { object, offset } | Backing::Private { object, offset } => {
                return Ok(memory.back_object(object, offset + (address - start)));
            }
            Backing::Anonymous | Backing::File { .. } => {}
        }
        let whole = self.is_one_anonymous(start, vma, address);
        let number = tables::region_of(address);
        let new = !self.state.regions.contains_key(&number);
        if !self.back_region(memory, number)? {
            return Ok(false);
        }
        if new && whole {
            self.want_huge(memory, number)?;
        }
        Ok(self.use_private(memory, address))
    }

    /// Charges the private page at an address of a mapping, whose region has a chunk, if it is not charged
    /// yet. `false` when memory is used up.
    fn use_private(&mut self, memory: &mut Memory, address: u64) -> bool {
        let Some((start, vma)) = self.find(address) else { return false };
        if !vma.charged && !self.charge_whole(memory, start) {
            return false;
        }
        let no_reserve = self.find(address).is_some_and(|(_, vma)| vma.no_reserve);
        !no_reserve || self.use_blocks(memory, tables::region_of(address), tables::index_of(address))
    }

    /// Charges a mapping that was never accessible: what writes to it all the same is `/proc/self/mem`.
    fn charge_whole(&mut self, memory: &mut Memory, start: u64) -> bool {
        let Some(vma) = self.state.vmas.get(&start) else { return false };
        let charged = Vma { charged: true, ..vma.clone() };
        let cost = self.state.cost_of(start, &charged, &(start..vma.end));
        if memory.state.account.charge(cost).is_err() {
            return false;
        }
        self.state.vmas.insert(start, charged);
        true
    }

    /// Whether all of an address's region is of one mapping, of zeros that are charged.
    fn is_one_anonymous(&self, start: u64, vma: &Vma, address: u64) -> bool {
        let region = tables::region_of(address);
        matches!(vma.backing, Backing::Anonymous)
            && !vma.no_reserve
            && start <= tables::region_start(region)
            && tables::region_start(region + 1) <= vma.end
    }

    /// Asks the host for a huge page behind a new region, if the guest has filled the region below or
    /// above: a large mapping that is touched here and there would take much that nobody uses.
    fn want_huge(&self, memory: &Memory, number: u64) -> Result<(), PageError> {
        let chunk = |number: u64| self.state.regions.get(&number).map(|region| chunk_page(region.chunk));
        let Some(first) = chunk(number) else { return Ok(()) };
        for neighbour in [number.checked_sub(1), Some(number + 1)].into_iter().flatten() {
            if let Some(page) = chunk(neighbour)
                && memory.ram.is_mostly_there(page..page + CHUNK_PAGES)?
            {
                return memory.ram.want_huge(first);
            }
        }
        Ok(())
    }

    /// Uses the block of a page of a region, and more if the guest goes through the region, charging what
    /// is mapped there without reservation. `false` when memory is used up.
    fn use_blocks(&mut self, memory: &mut Memory, number: u64, page: u64) -> bool {
        let Some(region) = self.state.regions.get(&number).copied() else { return false };
        if region.blocks.has(page) {
            return true;
        }
        let all = memory.state.account.is_ample().then_some(Blocks::ALL);
        let wanted = all.unwrap_or_else(|| region.blocks.wanted(page));
        for wanted in [wanted, Blocks::of(page)] {
            let new = self.unreserved_in(number, wanted.but(region.blocks));
            if memory.state.account.charge(new).is_ok() {
                let blocks = region.blocks.and(wanted);
                self.state.regions.insert(number, Region { blocks, ..region });
                return true;
            }
        }
        false
    }

    /// Bytes of a region's blocks that are mapped without reservation.
    fn unreserved_in(&self, number: u64, blocks: Blocks) -> u64 {
        let range = tables::region_start(number)..tables::region_start(number + 1);
        self.overlapping(&range)
            .filter(|(_, vma)| vma.no_reserve && vma.charged)
            .map(|(start, vma)| {
                let pages = tables::indexes_in(number, &(start..vma.end));
                blocks.runs(pages).map(|run| (run.end - run.start) * PAGE).sum::<u64>()
            })
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
        self.runs_in_use(range, false)
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
    fn fill(&mut self, memory: &mut Memory, range: Range<u64>) -> Result<(), PageError> {
        let mut runs = Vec::new();
        let mut entries = Vec::new();
        for (region, leaf) in self.tables.leaves(&range) {
            let part = range.start.max(tables::region_start(region))
                ..range.end.min(tables::region_start(region + 1));
            for (start, vma) in self.overlapping(&part).filter(|(_, vma)| vma.protection.any()) {
                let piece = part.start.max(start)..part.end.min(vma.end);
                for (address, pages) in self.runs_behind(memory, start, vma, piece) {
                    let first = tables::index_of(address);
                    runs.push(pages.clone());
                    if !vma.backing.notices_writes() {
                        entries.push((leaf, first, pages, vma.protection));
                        continue;
                    }
                    for (i, page) in (0..).zip(pages) {
                        let protection = self.page_protection(vma, address + i * PAGE);
                        entries.push((leaf, first + i, page..page + 1, protection));
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
        let own = self.find(address).is_some_and(|(_, vma)| self.is_own(vma, address));
        if access == Access::Write && !own && !self.take_copy(memory, address)? {
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

    /// Gives every mapped file page its place in RAM, so that a snapshot can hold its content: the
    /// file is asked for pages of regions without a chunk only. `false` when memory is used up.
    pub fn back_all_files(&mut self, memory: &mut Memory) -> Result<bool, PageError> {
        let mut next = 0;
        while let Some(region) = self.next_of_file(next) {
            if !self.back_region(memory, region)? {
                return Ok(false);
            }
            next = region + 1;
        }
        Ok(true)
    }

    /// The first region from `from` on with pages of a mapped file.
    fn next_of_file(&self, from: u64) -> Option<u64> {
        let range = tables::region_start(from)..USER_END;
        self.overlapping(&range).find_map(|(start, vma)| {
            let Backing::File { offset, len, .. } = &vma.backing else { return None };
            let end = vma.end.min(start + len.saturating_sub(*offset).next_multiple_of(PAGE));
            let first = start.max(range.start);
            (first < end).then(|| tables::region_of(first))
        })
    }
}
