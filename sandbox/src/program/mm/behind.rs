//! What stands behind addresses: chunks of memory for regions, and their pages in use.

use std::collections::BTreeSet;
use std::ops::Range;

use super::region::Blocks;
use super::{AddressSpace, Backing, Memory, PAGE, Region, USER_END, Vma, chunk_page, tables};
use crate::ram::{CHUNK_PAGES, PageError};

impl AddressSpace {
    /// The page of RAM behind an address of a mapping; `None` where the file behind it has ended,
    /// or where it is not in use yet.
    pub(super) fn page_behind(&self, memory: &Memory, start: u64, vma: &Vma, address: u64) -> Option<u64> {
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
                in_use.then(|| region.page(index))
            }
        }
    }

    /// The pages of RAM behind a range of a mapping, where it is in use: address and pages of each run.
    pub(super) fn runs_behind(
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
    pub(super) fn with_copies(
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
    pub(super) fn runs_in_use(&self, range: Range<u64>, no_reserve: bool) -> Vec<(u64, Range<u64>)> {
        let mut runs = Vec::new();
        for (number, region) in self.state.regions_in(&range) {
            let blocks = if no_reserve { region.blocks } else { Blocks::ALL };
            for (index, pages) in
                blocks.runs(tables::indexes_in(number, &range)).flat_map(|run| region.runs(run))
            {
                runs.push((tables::region_start(number) + index * PAGE, pages));
            }
        }
        runs
    }

    /// Gives a region its chunk, and tells the page source of the files that are mapped there.
    /// `false` when memory is used up.
    pub(super) fn back_region(&mut self, memory: &mut Memory, region: u64) -> Result<bool, PageError> {
        if self.state.regions.contains_key(&region) {
            return Ok(true);
        }
        let Some(chunk) = memory.take_chunk() else { return Ok(false) };
        self.state.regions.insert(region, Region::new(chunk));
        self.back_files(memory, tables::region_start(region)..tables::region_start(region + 1))?;
        Ok(true)
    }

    /// Gives regions their chunks that a program is likely to touch next, which would be an exit and a change to its state: the
    /// first and the last of each writable mapping that have none, `most` of them at most.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn back_ahead(&mut self, memory: &mut Memory, most: usize) -> Result<(), PageError> {
        let is_for_data =
            |vma: &Vma| vma.protection.write && vma.charged && !vma.no_reserve && vma.backing.is_in_chunk();
        let regions = &self.state.regions;
        let ends = self.state.vmas.iter().filter(|(_, vma)| is_for_data(vma)).flat_map(|(start, vma)| {
            let mut lacking = tables::region_of(*start)..tables::region_of(vma.end - 1) + 1;
            let is_lacking = |region: &u64| !regions.contains_key(region);
            let first = lacking.find(is_lacking);
            [first, lacking.rfind(is_lacking)]
        });
        let wanted: BTreeSet<u64> = ends.flatten().take(most).collect();
        wanted.into_iter().try_for_each(|region| self.back_region(memory, region).map(drop))
    }

    /// Makes sure that there is memory behind an address that is mapped. `false` when it is used up.
    pub(super) fn back(&mut self, memory: &mut Memory, address: u64) -> Result<bool, PageError> {
        let Some((start, vma)) = self.find(address) else { return Ok(false) };
        match vma.backing {
            Backing::Private { .. } if self.is_copied(address) => return Ok(true),
            Backing::Shared { object, offset } | Backing::Private { object, offset } => {
                return memory.back_object(object, offset + (address - start));
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
    pub(super) fn use_private(&mut self, memory: &mut Memory, address: u64) -> bool {
        let Some((start, vma)) = self.find(address) else { return false };
        if !vma.charged && !self.charge_whole(memory, start) {
            return false;
        }
        let no_reserve = self.find(address).is_some_and(|(_, vma)| vma.no_reserve);
        !no_reserve || self.use_blocks(memory, tables::region_of(address), tables::index_of(address))
    }

    /// Charges a mapping that was never accessible: what writes to it all the same is `/proc/self/mem`.
    pub(super) fn charge_whole(&mut self, memory: &mut Memory, start: u64) -> bool {
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
    pub(super) fn is_one_anonymous(&self, start: u64, vma: &Vma, address: u64) -> bool {
        let region = tables::region_of(address);
        matches!(vma.backing, Backing::Anonymous)
            && !vma.no_reserve
            && start <= tables::region_start(region)
            && tables::region_start(region + 1) <= vma.end
    }

    /// Asks the host for a huge page behind a new region, if the guest has filled the region below or
    /// above: a large mapping that is touched here and there would take much that nobody uses.
    pub(super) fn want_huge(&self, memory: &Memory, number: u64) -> Result<(), PageError> {
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
    pub(super) fn use_blocks(&mut self, memory: &mut Memory, number: u64, page: u64) -> bool {
        let Some(region) = self.state.regions.get(&number) else { return false };
        let blocks = region.blocks;
        if blocks.has(page) {
            return true;
        }
        let all = memory.state.account.is_ample().then_some(Blocks::ALL);
        let wanted = all.unwrap_or_else(|| blocks.wanted(page));
        for wanted in [wanted, Blocks::of(page)] {
            let new = self.unreserved_in(number, wanted.but(blocks));
            if memory.state.account.offer(new) {
                if let Some(region) = self.state.regions.get_mut(&number) {
                    region.blocks = blocks.and(wanted);
                }
                return true;
            }
        }
        memory.state.account.refuse();
        false
    }

    /// Bytes of a region's blocks that are mapped without reservation.
    pub(super) fn unreserved_in(&self, number: u64, blocks: Blocks) -> u64 {
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
    pub(super) fn back_files(&mut self, memory: &mut Memory, range: Range<u64>) -> Result<(), PageError> {
        if self.has_lent(&range) {
            let of_files: Vec<Range<u64>> = self
                .overlapping(&range)
                .filter(|(_, vma)| matches!(vma.backing, Backing::File { .. }))
                .map(|(start, vma)| range.start.max(start)..range.end.min(vma.end))
                .collect();
            for part in of_files {
                for pages in self.clear_entries(memory, part.clone()) {
                    memory.ram.invalidate(pages)?;
                }
                self.take_back(memory, &part)?;
            }
        }
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
    pub(super) fn private_runs(&self, range: Range<u64>) -> Vec<(u64, Range<u64>)> {
        self.runs_in_use(range, false)
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
    pub(super) fn next_of_file(&self, from: u64) -> Option<u64> {
        let range = tables::region_start(from)..USER_END;
        self.overlapping(&range).find_map(|(start, vma)| {
            let Backing::File { offset, len, .. } = &vma.backing else { return None };
            let end = vma.end.min(start + len.saturating_sub(*offset).next_multiple_of(PAGE));
            let first = start.max(range.start);
            (first < end).then(|| tables::region_of(first))
        })
    }
}
