//! Copying an address space: what `fork` does.
//!
//! Where little is in memory, it is copied at once: each page that either side writes later on would cost a
//! fault. Else both sides see the same pages until one of them writes (see [`super::cow`]).

use std::collections::BTreeMap;

use super::lending::{Lent, Pages};
use super::{AddressSpace, Memory, Region, SpaceState, chunk_page, tables};
use crate::host::stop::Pace;
use crate::ram::{CHUNK_PAGES, PAGE_SIZE, PageError};

/// Pages of an address space that are copied at once at most.
const FEW_PAGES: u64 = 1024;
/// Pages of a region that are: its faults would cost more.
const FEW_OF_REGION: u64 = 128;
/// Pages that may not be written, such as code: they are left to both sides if they are more.
const FEW_FIXED: u64 = 16;

impl AddressSpace {
    /// Makes an empty address space a copy of this one: private pages are copied, at once or when they are
    /// written, shared ones are the same. `false` when memory is used up: it is empty then.
    ///
    /// # Errors
    /// When a page cannot be brought in, and when the run must be over.
    pub fn fork(&mut self, memory: &mut Memory, copy: &mut AddressSpace) -> Result<bool, PageError> {
        let cost = self.state.cost();
        if memory.state.account.charge(cost).is_err() {
            return Ok(false);
        }
        let mut regions = BTreeMap::new();
        let copied = self.copy_regions(memory, &mut regions);
        if !matches!(copied, Ok(true)) {
            for region in regions.into_values() {
                memory.free_chunk(region.chunk)?;
                region.lent.iter().try_for_each(|lent| memory.leave_lent(lent.chunk, &lent.pages))?;
            }
            memory.state.account.refund(cost);
            return copied;
        }
        *copy.state = SpaceState { regions, lock_new: false, ..(*self.state).clone() };
        for vma in copy.state.vmas.values_mut() {
            vma.locked = false;
        }
        (copy.own_cost, copy.own_charged) = (self.own_cost, self.own_charged);
        Ok(true)
    }

    /// Copies regions into those of another address space, which are given as far as they came.
    fn copy_regions(
        &mut self,
        memory: &mut Memory,
        copies: &mut BTreeMap<u64, Region>,
    ) -> Result<bool, PageError> {
        let stop = memory.stop.clone();
        let mut pace = Pace::new(&stop);
        let mut held: Vec<(u64, Pages)> = Vec::new();
        for number in self.state.regions.keys() {
            held.push((*number, self.own_pages(memory, *number)?));
        }
        let all: u64 = held.iter().map(|(_, pages)| pages.count()).sum();
        let mut left_alone = Vec::new();
        let mut copied = true;
        for (number, pages) in held {
            let Some(chunk) = memory.take_chunk() else {
                copied = false;
                break;
            };
            let Some(region) = self.state.regions.get(&number) else { continue };
            copies.insert(number, Region { blocks: region.blocks, ..Region::new(chunk) });
            let fixed = self.fixed_pages(number, &pages);
            let mut written = pages;
            written.remove(&fixed);
            pace.bytes(pages.count() as usize * PAGE_SIZE)?;
            let at_once = all <= FEW_PAGES || written.count() <= FEW_OF_REGION;
            let given = match at_once {
                true if fixed.count() <= FEW_FIXED => Pages::default(),
                true => fixed,
                false => pages,
            };
            let own = match self.lend(memory, number, (pages, given))? {
                Some((lent, own)) => {
                    let may_be_written = |lent: &&Lent| self.fixed_pages(number, &lent.pages) != lent.pages;
                    left_alone.extend(lent.iter().filter(may_be_written).map(|lent| lent.chunk));
                    copies.entry(number).and_modify(|copy| copy.lent = lent);
                    own
                }
                None => {
                    let Some(region) = self.state.regions.get(&number) else { continue };
                    for lent in &region.lent {
                        pace.bytes(lent.pages.count() as usize * PAGE_SIZE)?;
                        memory.copy_pages(lent.chunk, &lent.pages, chunk)?;
                    }
                    // Some may have come there, to be in fewer chunks.
                    self.own_pages(memory, number)?
                }
            };
            let Some(region) = self.state.regions.get(&number) else { continue };
            memory.copy_pages(region.chunk, &own, chunk)?;
        }
        let left_alone = left_alone.into_iter().map(chunk_page).map(|first| first..first + CHUNK_PAGES);
        memory.ram.forget_writable(left_alone)?;
        Ok(copied)
    }

    /// Those of a region's pages that are mapped so that they may not be written.
    fn fixed_pages(&self, number: u64, pages: &Pages) -> Pages {
        let range = tables::region_start(number)..tables::region_start(number + 1);
        let fixed = self.overlapping(&range).filter(|(_, vma)| !vma.protection.write);
        let parts = fixed.map(|(start, vma)| pages.within(tables::indexes_in(number, &(start..vma.end))));
        parts.fold(Pages::default(), |all, part| all.and(&part))
    }
}
