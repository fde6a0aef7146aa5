//! Copy on write: pages that a `fork` left to both sides ([`Lent`]), and who takes a copy of them when.
//!
//! Under shadow paging KVM sees no change of a page table by itself (see [`super::tables`]): whoever stops
//! seeing a page has what KVM derived from it invalidated, since the other side may write the page from
//! then on.

use std::ops::Range;

use super::lending::{Lent, Pages};
use super::{AddressSpace, Backing, Memory, PAGE, Vma, chunk_page, tables};
use crate::ram::{CHUNK_PAGES, PAGE_SIZE, PageError};
use crate::x86::paging::PRESENT;

/// Pages around one that is written which are copied along: a fault costs as much as copying so many.
const CLUSTER: u64 = 16;
/// The most chunks that a region sees pages of, besides its own.
pub(super) const MAX_LENT: usize = 4;

impl AddressSpace {
    /// What of a page's region it lies in, if that is not the region's own chunk.
    pub(super) fn lent_at(&self, address: u64) -> Option<&Lent> {
        let region = self.state.regions.get(&tables::region_of(address))?;
        region.lent.iter().find(|lent| lent.pages.has(tables::index_of(address)))
    }

    /// Whether another address space sees the same page, so that it must not be written.
    pub(super) fn is_lent(&self, memory: &Memory, address: u64) -> bool {
        self.lent_at(address)
            .is_some_and(|lent| memory.lending.is_shared(lent.chunk, tables::index_of(address)))
    }

    /// The pages of a region that other address spaces see, too.
    pub(super) fn lent_pages(&self, memory: &Memory, number: u64) -> Pages {
        let lent = self.state.regions.get(&number).into_iter().flat_map(|region| &region.lent);
        lent.fold(Pages::default(), |pages, lent| pages.and(&memory.lending.shared(lent)))
    }

    /// The pages of a range that are not in their regions' own chunks, by address.
    pub(super) fn lent_addresses(&self, range: &Range<u64>) -> Vec<u64> {
        let regions = self.state.regions_in(range);
        let pages = regions.flat_map(|(number, region)| {
            let indexes = tables::indexes_in(number, range);
            let within = region.lent.iter().map(|lent| lent.pages.within(indexes.clone()));
            let all = within.fold(Pages::default(), |all, pages| all.and(&pages));
            all.iter().map(|index| tables::region_start(number) + index * PAGE).collect::<Vec<u64>>()
        });
        pages.collect()
    }

    /// Whether some region of a range sees pages that are not in its own chunk.
    pub(super) fn has_lent(&self, range: &Range<u64>) -> bool {
        self.state.regions_in(range).any(|(_, region)| !region.lent.is_empty())
    }

    /// Sees nothing of others in a range any more: its pages are those of the regions' own chunks, which
    /// hold zeros there. The entries of the range were cleared, and what they pointed to invalidated.
    pub(super) fn take_back(&mut self, memory: &mut Memory, range: &Range<u64>) -> Result<(), PageError> {
        let numbers: Vec<u64> = self.state.regions_in(range).map(|(number, _)| number).collect();
        for number in numbers {
            let Some(region) = self.state.regions.get_mut(&number) else { continue };
            let indexes = tables::indexes_in(number, range);
            for lent in &mut region.lent {
                let gone = lent.pages.within(indexes.clone());
                lent.pages.remove(&gone);
                memory.leave_lent(lent.chunk, &gone)?;
            }
            region.lent.retain(|lent| !lent.pages.is_empty());
        }
        Ok(())
    }

    /// Gives a page of a mapping that another address space sees, too, a copy of its own, which may be
    /// written; and some around it that are in memory.
    pub(super) fn unshare(
        &mut self,
        memory: &mut Memory,
        (start, vma): (u64, &Vma),
        address: u64,
    ) -> Result<(), PageError> {
        let (number, at) = (tables::region_of(address), tables::index_of(address));
        let mapped = tables::indexes_in(number, &(start..vma.end));
        let first = at / CLUSTER * CLUSTER;
        let around = first.max(mapped.start)..(first + CLUSTER).min(mapped.end);
        let Some(region) = self.state.regions.get_mut(&number) else { return Ok(()) };
        let own = chunk_page(region.chunk);
        let mut copied = Pages::default();
        let mut content = [0; PAGE_SIZE];
        for lent in &mut region.lent {
            let from = chunk_page(lent.chunk);
            let mut left = Pages::default();
            for index in lent.pages.within(around.clone()).iter() {
                let there = index == at || memory.ram.is_there(from + index);
                if there && memory.lending.is_shared(lent.chunk, index) {
                    memory.ram.peek(from + index, &mut content)?;
                    memory.ram.write(memory.ram.base() + (own + index) * PAGE, &content)?;
                    left = left.with(index..index + 1);
                }
            }
            let runs = left.runs();
            if let (Some(head), Some(tail)) = (runs.first(), runs.last()) {
                lent.pages.remove(&left);
                memory.ram.invalidate(from + head.start..from + tail.end)?;
                memory.leave_lent(lent.chunk, &left)?;
                copied = runs.into_iter().fold(copied, Pages::with);
            }
        }
        region.lent.retain(|lent| !lent.pages.is_empty());
        for index in copied.iter() {
            let address = tables::region_start(number) + index * PAGE;
            if self.tables.get(&memory.system, address) & PRESENT != 0 {
                let protection = self.page_protection(memory, vma, address);
                self.tables.set(&memory.system, address, Self::entry(memory, own + index, protection));
            }
        }
        Ok(())
    }

    /// Leaves `given` of the pages in a region's own chunk, which are `own`, to it and to another address space
    /// alike, besides those that it sees of other chunks: gives what both see from now on, and what is still in
    /// its own chunk. `None` when the region sees too many chunks already, and when there is no chunk. Pages that may be written must not be any more, which is for the
    /// caller to see to ([`crate::ram::Ram::forget_writable`]).
    pub(super) fn lend(
        &mut self,
        memory: &mut Memory,
        number: u64,
        (mut own, mut given): (Pages, Pages),
    ) -> Result<Option<(Vec<Lent>, Pages)>, PageError> {
        let is_full = |space: &AddressSpace| {
            space.state.regions.get(&number).is_none_or(|region| region.lent.len() >= MAX_LENT)
        };
        if !given.is_empty() && is_full(self) {
            self.gather(memory, number)?;
            if is_full(self) {
                return Ok(None);
            }
            own = self.own_pages(memory, number)?;
            given = own;
        }
        let Some(region) = self.state.regions.get_mut(&number) else { return Ok(None) };
        if !given.is_empty() {
            let Some(new) = memory.take_chunk() else { return Ok(None) };
            own.remove(&given);
            memory.copy_pages(region.chunk, &own, new)?;
            let chunk = std::mem::replace(&mut region.chunk, new);
            for run in own.runs() {
                memory.drop_pages(chunk_page(chunk) + run.start..chunk_page(chunk) + run.end)?;
            }
            let lent = Lent { chunk, pages: given };
            memory.lending.see(&lent);
            region.lent.push(lent);
        }
        let lent = region.lent.clone();
        if !lent.is_empty() {
            lent.iter().for_each(|lent| memory.lending.see(lent));
            self.fill(memory, tables::region_start(number)..tables::region_start(number + 1))?;
        }
        Ok(Some((lent, own)))
    }

    /// The pages in a region's own chunk that may hold anything but zeros and that it sees there. The chunk may have
    /// more in memory: zeros that a machine was put back to.
    ///
    /// # Errors
    /// When the host refuses.
    pub(super) fn own_pages(&self, memory: &Memory, number: u64) -> Result<Pages, PageError> {
        let Some(region) = self.state.regions.get(&number) else { return Ok(Pages::default()) };
        let held = memory.pages_in(region.chunk)?;
        let whole = tables::region_start(number)..tables::region_start(number + 1);
        let mut seen = Pages::default();
        for (start, vma) in self.overlapping(&whole) {
            let part = tables::indexes_in(number, &(start..vma.end));
            let own = match vma.backing {
                Backing::Anonymous | Backing::File { .. } => held.within(part),
                Backing::Shared { .. } => Pages::default(),
                Backing::Private { .. } => {
                    let copied = self.state.copied.range(start.max(whole.start)..vma.end.min(whole.end));
                    copied
                        .map(|address| tables::index_of(*address))
                        .fold(Pages::default(), |copied, index| copied.with(index..index + 1))
                }
            };
            seen = seen.and(&own);
        }
        region.lent.iter().for_each(|lent| seen.remove(&lent.pages));
        Ok(seen)
    }

    /// Brings the pages together that a region alone sees: those that are left of earlier forks.
    fn gather(&mut self, memory: &mut Memory, number: u64) -> Result<(), PageError> {
        let own = self.own_pages(memory, number)?;
        let Some(region) = self.state.regions.get(&number) else { return Ok(()) };
        let mut region = region.clone();
        let sole = |lent: &Lent| memory.lending.is_sole(lent);
        let (mut sole, others): (Vec<Lent>, Vec<Lent>) = region.lent.drain(..).partition(sole);
        let Some(most) = (0..sole.len()).max_by_key(|at| sole[*at].pages.count()) else { return Ok(()) };
        let range = tables::region_start(number)..tables::region_start(number + 1);
        for pages in self.clear_entries(memory, range.clone()) {
            memory.ram.invalidate(pages)?;
        }
        // The fewest pages are moved.
        if sole[most].pages.count() > own.count() {
            let largest = sole.swap_remove(most);
            memory.copy_pages(region.chunk, &own, largest.chunk)?;
            memory.free_chunk(std::mem::replace(&mut region.chunk, largest.chunk))?;
            memory.lending.end(largest.chunk);
        }
        for lent in sole {
            memory.copy_pages(lent.chunk, &lent.pages, region.chunk)?;
            memory.leave_lent(lent.chunk, &lent.pages)?;
        }
        region.lent = others;
        self.state.regions.insert(number, region);
        self.fill(memory, range)
    }
}

impl Memory {
    /// The pages of a chunk that may hold anything but zeros, here or where they come from.
    fn pages_in(&self, chunk: u32) -> Result<Pages, PageError> {
        let first = chunk_page(chunk);
        let held = self.ram.held(first..first + CHUNK_PAGES)?.into_iter().map(|page| page..page + 1);
        let of_files = self.pages.of_files(first..first + CHUNK_PAGES);
        let all = held.chain(of_files).map(|run| run.start - first..run.end - first);
        Ok(all.fold(Pages::default(), Pages::with))
    }

    /// Copies pages of a chunk into another one, which has zeros there. Those that still come from files do
    /// so there as well.
    pub(super) fn copy_pages(&self, from: u32, pages: &Pages, to: u32) -> Result<(), PageError> {
        let (from, to) = (chunk_page(from), chunk_page(to));
        let mut written = *pages;
        for run in pages.runs() {
            for copy in self.pages.copy_files(from + run.start..from + run.end, to + run.start) {
                self.ram.renew(copy)?;
            }
            let of_file = run.filter(|index| self.comes_from_file(from + index));
            let of_file = of_file.fold(Pages::default(), |set, index| set.with(index..index + 1));
            written.remove(&of_file);
        }
        let mut content = [0; PAGE_SIZE];
        for run in written.runs() {
            // Written whole: what a file has there is not asked for first.
            self.drop_pages(to + run.start..to + run.end)?;
            for index in run {
                self.ram.peek(from + index, &mut content)?;
                self.ram.write(self.ram.base() + (to + index) * PAGE, &content)?;
            }
        }
        Ok(())
    }
}
