//! Copying an address space: what `fork` does.

use std::ops::Range;

use super::{AddressSpace, CHUNK_BYTES, Memory, PAGE, Region, SpaceState, chunk_page};
use crate::ram::{CHUNK_PAGES, PAGE_SIZE, PageError};

impl AddressSpace {
    /// Makes an empty address space a copy of this one: private pages are copied, shared ones are the same.
    /// `false` when memory is used up: it is empty then.
    ///
    /// # Errors
    /// When a page cannot be brought in, and when the run must be over.
    pub fn fork(&self, memory: &mut Memory, copy: &mut AddressSpace) -> Result<bool, PageError> {
        let cost = self.state.cost();
        if memory.state.account.charge(cost).is_err() {
            return Ok(false);
        }
        let mut regions = std::collections::BTreeMap::new();
        let copied = self.copy_regions(memory, &mut regions);
        if !matches!(copied, Ok(true)) {
            regions.into_values().try_for_each(|region: Region| memory.free_chunk(region.chunk))?;
            memory.state.account.refund(cost);
            return copied;
        }
        copy.state = SpaceState { regions, lock_new: false, ..self.state.clone() };
        for vma in copy.state.vmas.values_mut() {
            vma.locked = false;
        }
        (copy.own_cost, copy.own_charged) = (self.own_cost, self.own_charged);
        Ok(true)
    }

    fn copy_regions(
        &self,
        memory: &mut Memory,
        regions: &mut std::collections::BTreeMap<u64, Region>,
    ) -> Result<bool, PageError> {
        let stop = memory.stop.clone();
        let mut pace = crate::host::stop::Pace::new(&stop);
        for (number, region) in &self.state.regions {
            let Some(chunk) = memory.take_chunk() else { return Ok(false) };
            regions.insert(*number, Region { chunk, blocks: region.blocks });
            let (from, to) = (chunk_page(region.chunk), chunk_page(chunk));
            for pages in memory.pages.copy_files(from..from + CHUNK_PAGES, to) {
                memory.ram.renew(pages)?;
            }
            let mut content = [0; PAGE_SIZE];
            for run in copied_runs(memory, from)? {
                // Written whole: what a file has there is not asked for first.
                memory.drop_pages(to + run.start - from..to + run.end - from)?;
                for page in run {
                    pace.bytes(PAGE_SIZE)?;
                    memory.ram.peek(page, &mut content)?;
                    memory.ram.write(memory.ram.base() + (to + page - from) * PAGE, &content)?;
                }
            }
        }
        Ok(true)
    }
}

/// The pages of a chunk, whose first page this is, that a copy of it does not get from files when they are
/// touched, as runs.
fn copied_runs(memory: &Memory, first: u64) -> Result<Vec<Range<u64>>, PageError> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for page in memory.ram.held(first..first + CHUNK_PAGES)? {
        if memory.comes_from_file(page) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == page => run.end += 1,
            _ => runs.push(page..page + 1),
        }
    }
    Ok(runs)
}

const _: () = assert!(CHUNK_BYTES == CHUNK_PAGES * PAGE);
