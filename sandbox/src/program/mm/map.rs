//! Changing an address space: what `mmap`, `munmap`, `mprotect`, `mremap`, `brk` and `madvise` do.

use std::ops::Range;
use std::sync::Arc;

use super::tables::{self, PRESENT};
use super::{AddressSpace, Backing, Memory, PAGE, Protection, Region, USER_END, USER_MIN, Vma};
use crate::errno::Errno;
use crate::ram::{PAGE_SIZE, PageError};

/// The most mappings of an address space (`vm.max_map_count`).
const MAX_MAPPINGS: usize = 65_530;

/// Why an address space was not changed.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// What the program gets.
    #[error("{0}")]
    Errno(Errno),
    /// The run ends.
    #[error(transparent)]
    Page(#[from] PageError),
}

impl From<Errno> for MapError {
    fn from(errno: Errno) -> MapError {
        MapError::Errno(errno)
    }
}

/// Rounds a length up to pages; `None` when it overflows.
fn page_up(len: u64) -> Option<u64> {
    len.checked_next_multiple_of(PAGE)
}

impl AddressSpace {
    /// A checked range of whole pages within the program's part of the address space.
    fn range(address: u64, len: u64, error: Errno) -> Result<Range<u64>, MapError> {
        let len = page_up(len).ok_or(error)?;
        let end = address.checked_add(len).filter(|end| *end <= USER_END).ok_or(error)?;
        Ok(address..end)
    }

    /// Finds a free range of `len` bytes, as high as possible below the top; `phase` is its offset
    /// from a 2 MiB boundary, if that matters.
    pub fn find_free(&self, len: u64, phase: Option<u64>) -> Option<u64> {
        let mut ceiling = self.state.mmap_top;
        loop {
            let mut start = ceiling.checked_sub(len)? / PAGE * PAGE;
            if let Some(phase) = phase {
                let region = tables::region_start(1);
                start = start.checked_sub((start % region + region - phase % region) % region)?;
            }
            if start < USER_MIN {
                return None;
            }
            match self.state.vmas.range(..start + len).next_back() {
                Some((below, vma)) if vma.end > start => ceiling = *below,
                _ => return Some(start),
            }
        }
    }

    /// Whether nothing is mapped in a range.
    pub fn is_free(&self, range: &Range<u64>) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// What a mapping of this kind costs.
    pub(super) fn cost(vma: &Vma, len: u64) -> u64 {
        let charged = vma.protection.any() && !vma.no_reserve;
        if charged { len } else { 0 }
    }

    /// Puts a mapping at a range, in the place of whatever was there.
    pub fn map(&mut self, memory: &mut Memory, start: u64, len: u64, mut vma: Vma) -> Result<(), MapError> {
        let range = Self::range(start, len, Errno::ENOMEM)?;
        if range.is_empty() || !start.is_multiple_of(PAGE) || start < USER_MIN {
            return Err(Errno::EINVAL.into());
        }
        if self.state.vmas.len() >= MAX_MAPPINGS {
            return Err(Errno::ENOMEM.into());
        }
        vma.end = range.end;
        // What is replaced is given back first, but only if the new mapping fits after that.
        let freed: u64 = self.charged_in(&range);
        let cost = Self::cost(&vma, range.end - range.start);
        if cost > memory.state.account.free() + freed {
            return Err(Errno::ENOMEM.into());
        }
        self.unmap(memory, start, range.end - range.start)?;
        memory.state.account.charge(cost)?;
        if vma.no_reserve && vma.protection.any() {
            self.charge_regions_in_use(memory, &range)?;
        }
        self.insert(start, vma);
        self.back_files(memory, range.clone())?;
        self.fill(memory, range)?;
        Ok(())
    }

    /// Charges a mapping without reservation for the regions of it that are in use already.
    fn charge_regions_in_use(&mut self, memory: &mut Memory, range: &Range<u64>) -> Result<(), MapError> {
        let regions = tables::region_of(range.start)..=tables::region_of(range.end - 1);
        let mut total = 0;
        for (number, region) in self.state.regions.range_mut(regions) {
            let part = range.end.min(tables::region_start(number + 1))
                - range.start.max(tables::region_start(*number));
            region.charged += part;
            total += part;
        }
        Ok(memory.state.account.charge(total)?)
    }

    /// Adds a mapping to the map, joined with its neighbour below where they are alike.
    fn insert(&mut self, start: u64, vma: Vma) {
        if let Some((below_start, below)) = self.state.vmas.range_mut(..start).next_back()
            && below.end == start
            && below.joins(*below_start, &vma)
        {
            below.end = vma.end;
            return;
        }
        self.state.vmas.insert(start, vma);
    }

    fn charged_in(&self, range: &Range<u64>) -> u64 {
        self.overlapping(range)
            .map(|(start, vma)| Self::cost(vma, vma.end.min(range.end) - start.max(range.start)))
            .sum()
    }

    /// Cuts mappings at an address.
    fn cut(&mut self, at: u64) {
        if let Some((start, vma)) = self.state.vmas.range_mut(..at).next_back()
            && vma.end > at
        {
            let upper = vma.split(*start, at);
            self.state.vmas.insert(at, upper);
        }
    }

    /// Removes all mappings of a range.
    pub fn unmap(&mut self, memory: &mut Memory, start: u64, len: u64) -> Result<(), MapError> {
        let range = Self::range(start, len, Errno::EINVAL)?;
        if range.is_empty() || !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        memory.state.account.refund(self.charged_in(&range));
        self.cut(range.start);
        self.cut(range.end);
        let starts: Vec<u64> = self.state.vmas.range(range.clone()).map(|(start, _)| *start).collect();
        for start in starts {
            let Some(vma) = self.state.vmas.remove(&start) else { continue };
            let gone = start..vma.end;
            self.lost_backing |= !matches!(vma.backing, Backing::Anonymous);
            let shared = matches!(vma.backing, Backing::Shared { .. });
            let stale = self.clear_entries(memory, gone.clone());
            if shared {
                // The object keeps the pages: only what KVM derived from them must go.
                for pages in stale {
                    memory.ram.invalidate(pages)?;
                }
            } else {
                for (_, pages) in self.private_runs(gone.clone()) {
                    memory.pages.unmap(pages.clone());
                    memory.ram.reset(pages)?;
                }
                self.free_regions(memory, gone)?;
            }
        }
        Ok(())
    }

    /// Clears the entries of a range; returns the pages of RAM that they pointed to, as runs.
    fn clear_entries(&mut self, memory: &Memory, range: Range<u64>) -> Vec<Range<u64>> {
        self.change_entries(memory, range, |_| 0)
    }

    /// Changes the present entries of a range; returns the pages whose entries lost something.
    fn change_entries(
        &mut self,
        memory: &Memory,
        range: Range<u64>,
        change: impl Fn(u64) -> u64,
    ) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let region = tables::region_of(at);
            if self.tables.leaf(region).is_none() {
                at = tables::region_start(region + 1);
                continue;
            }
            let old = self.tables.get(&memory.system, at);
            if old & PRESENT != 0 {
                let new = change(old);
                if new != old {
                    self.tables.set(&memory.system, at, new);
                    let lost = new & PRESENT == 0
                        || old & tables::WRITABLE > new & tables::WRITABLE
                        || old & tables::NO_EXEC < new & tables::NO_EXEC;
                    if lost && let Some(page) = memory.ram.page_at(old & !(tables::NO_EXEC | 0xfff)) {
                        match runs.last_mut() {
                            Some(last) if last.end == page => last.end += 1,
                            _ => runs.push(page..page + 1),
                        }
                    }
                }
            }
            at += PAGE;
        }
        runs
    }

    /// Gives back the chunks of regions in which nothing private is mapped any more.
    fn free_regions(&mut self, memory: &mut Memory, range: Range<u64>) -> Result<(), PageError> {
        let regions: Vec<u64> = self
            .state
            .regions
            .range(tables::region_of(range.start)..=tables::region_of(range.end - 1))
            .map(|(region, _)| *region)
            .collect();
        for region in regions {
            let whole = tables::region_start(region)..tables::region_start(region + 1);
            let used =
                self.overlapping(&whole).any(|(_, vma)| !matches!(vma.backing, Backing::Shared { .. }));
            if !used && let Some(Region { chunk, charged }) = self.state.regions.remove(&region) {
                memory.state.account.refund(charged);
                memory.free_chunk(chunk)?;
            }
        }
        Ok(())
    }

    /// Changes the protection of a range, all of which must be mapped.
    pub fn protect(
        &mut self,
        memory: &mut Memory,
        start: u64,
        len: u64,
        protection: Protection,
    ) -> Result<(), MapError> {
        if !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        let range = Self::range(start, len, Errno::ENOMEM)?;
        if range.is_empty() {
            return Ok(());
        }
        // As the kernel does it: up to the first gap, then `ENOMEM`.
        let mapped = self.mapped_until(&range);
        if mapped < range.end {
            if mapped > range.start {
                self.protect(memory, start, mapped - start, protection)?;
            }
            return Err(Errno::ENOMEM.into());
        }
        let before = self.charged_in(&range);
        let after: u64 = self
            .overlapping(&range)
            .map(|(start, vma)| {
                let len = vma.end.min(range.end) - start.max(range.start);
                if protection.any() && !vma.no_reserve { len } else { 0 }
            })
            .sum();
        if after > before {
            memory.state.account.charge(after - before)?;
        } else {
            memory.state.account.refund(before - after);
        }
        self.cut(range.start);
        self.cut(range.end);
        if protection.any() {
            let unreserved: Vec<Range<u64>> = self
                .overlapping(&range)
                .filter(|(_, vma)| vma.no_reserve && !vma.protection.any())
                .map(|(start, vma)| start..vma.end)
                .collect();
            for part in unreserved {
                self.charge_regions_in_use(memory, &part)?;
            }
        }
        for (_, vma) in self.state.vmas.range_mut(range.clone()) {
            vma.protection = protection;
        }
        let stale = if protection.any() {
            let stale = self.change_entries(memory, range.clone(), |old| {
                let mut new = old & !(tables::WRITABLE | tables::NO_EXEC);
                if protection.write {
                    new |= tables::WRITABLE;
                }
                if !protection.exec {
                    new |= tables::NO_EXEC;
                }
                new
            });
            // Pages that had no access so far have no entries yet.
            self.fill(memory, range.clone())?;
            stale
        } else {
            self.clear_entries(memory, range.clone())
        };
        for pages in stale {
            memory.ram.invalidate(pages)?;
        }
        self.join(range);
        Ok(())
    }

    /// Joins mappings that have become alike.
    fn join(&mut self, range: Range<u64>) {
        let starts: Vec<u64> =
            self.state.vmas.range(range.start..=range.end).map(|(start, _)| *start).collect();
        for start in starts {
            let Some(vma) = self.state.vmas.remove(&start) else { continue };
            self.insert(start, vma);
        }
    }

    /// How far a range is mapped without a gap.
    pub fn mapped_until(&self, range: &Range<u64>) -> u64 {
        let mut at = range.start;
        while at < range.end {
            match self.find(at) {
                Some((_, vma)) => at = vma.end,
                None => break,
            }
        }
        at.min(range.end)
    }

    /// Moves the end of the heap; returns where it is afterwards: where it was, if it cannot move.
    pub fn set_brk(&mut self, memory: &mut Memory, wanted: u64) -> Result<u64, PageError> {
        let (old, start) = (self.state.brk, self.state.brk_start);
        if wanted < start || wanted > USER_END {
            return Ok(old);
        }
        let (old_end, new_end) = (old.next_multiple_of(PAGE), wanted.next_multiple_of(PAGE));
        let result = if new_end > old_end {
            if !self.is_free(&(old_end..new_end.saturating_add(PAGE))) {
                return Ok(old);
            }
            let vma = Vma {
                end: new_end,
                protection: Protection::READ_WRITE,
                backing: Backing::Anonymous,
                no_reserve: false,
                name: Arc::from(&b"[heap]"[..]),
            };
            self.map(memory, old_end, new_end - old_end, vma)
        } else if new_end < old_end {
            self.unmap(memory, new_end, old_end - new_end)
        } else {
            Ok(())
        };
        match result {
            Ok(()) => {
                self.state.brk = wanted;
                Ok(wanted)
            }
            Err(MapError::Errno(_)) => Ok(old),
            Err(MapError::Page(e)) => Err(e),
        }
    }

    /// Drops the contents of private pages: they are zeros, or the file's content, when they are
    /// touched again. `false` when part of the range is not mapped.
    pub fn discard(&mut self, memory: &mut Memory, start: u64, len: u64) -> Result<bool, MapError> {
        let range = Self::range(start, len, Errno::ENOMEM)?;
        let private: Vec<Range<u64>> = self
            .overlapping(&range)
            .filter(|(_, vma)| !matches!(vma.backing, Backing::Shared { .. }))
            .map(|(start, vma)| range.start.max(start)..range.end.min(vma.end))
            .collect();
        for part in private {
            // Pages of a file that cannot be had again before they are touched stay without entries.
            self.clear_entries(memory, part.clone());
            for (_, pages) in self.private_runs(part) {
                memory.ram.reset(pages)?;
            }
        }
        self.back_files(memory, range.clone())?;
        self.fill(memory, range.clone())?;
        Ok(self.mapped_until(&range) == range.end)
    }

    /// `mremap`: returns the new address.
    pub fn remap(
        &mut self,
        memory: &mut Memory,
        old: u64,
        old_len: u64,
        new_len: u64,
        may_move: bool,
        fixed: Option<u64>,
    ) -> Result<u64, MapError> {
        if !old.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        let new_len = page_up(new_len).filter(|len| *len > 0 && *len <= USER_END).ok_or(Errno::EINVAL)?;
        let old_len = page_up(old_len).filter(|len| *len > 0).ok_or(Errno::EINVAL)?;
        // Shrinking is an unmapping, and says what that says of a bad range.
        let bad_range =
            if old_len > new_len && self.find(old).is_some() { Errno::EINVAL } else { Errno::EFAULT };
        let old_range = Self::range(old, old_len, bad_range)?;
        let (start, vma) = self.find(old).map(|(start, vma)| (start, vma.clone())).ok_or(Errno::EFAULT)?;
        if old_range.end > vma.end {
            return Err(Errno::EFAULT.into());
        }
        if let Some(to) = fixed {
            let target = Self::range(to, new_len, Errno::EINVAL)?;
            let overlaps = target.start < old_range.end && old_range.start < target.end;
            if !to.is_multiple_of(PAGE) || overlaps || !may_move {
                return Err(Errno::EINVAL.into());
            }
            return self.move_to(memory, start, &vma, old_range, to, new_len);
        }
        if new_len <= old_len {
            if new_len < old_len {
                self.unmap(memory, old + new_len, old_len - new_len)?;
            }
            return Ok(old);
        }
        let growth =
            old_range.end..old.checked_add(new_len).filter(|e| *e <= USER_END).ok_or(Errno::ENOMEM)?;
        if vma.end == old_range.end && self.is_free(&growth) {
            let mut piece = vma.clone();
            if let Backing::File { offset, .. } | Backing::Shared { offset, .. } = &mut piece.backing {
                *offset += growth.start - start;
            }
            self.map(memory, growth.start, growth.end - growth.start, piece)?;
            return Ok(old);
        }
        if !may_move {
            return Err(Errno::ENOMEM.into());
        }
        let to = self.find_free(new_len, Some(old)).ok_or(Errno::ENOMEM)?;
        self.move_to(memory, start, &vma, old_range, to, new_len)
    }

    /// Moves a piece of one mapping to another address. Where old and new address lie alike within
    /// their 2 MiB regions, whole regions move by their chunk; the rest is copied.
    fn move_to(
        &mut self,
        memory: &mut Memory,
        vma_start: u64,
        vma: &Vma,
        old: Range<u64>,
        to: u64,
        new_len: u64,
    ) -> Result<u64, MapError> {
        let mut piece = vma.clone();
        if let Backing::File { offset, .. } | Backing::Shared { offset, .. } = &mut piece.backing {
            *offset += old.start - vma_start;
        }
        let shared = matches!(piece.backing, Backing::Shared { .. });
        let writable = piece.clone();
        self.map(memory, to, new_len, Vma { protection: Protection::READ_WRITE, ..writable })?;
        if !shared {
            let len = (old.end - old.start).min(new_len);
            self.move_pages(memory, old.start, to, len)?;
        }
        if piece.protection != Protection::READ_WRITE {
            self.protect(memory, to, new_len, piece.protection)?;
        }
        self.unmap(memory, old.start, old.end - old.start)?;
        Ok(to)
    }

    fn move_pages(&mut self, memory: &mut Memory, from: u64, to: u64, len: u64) -> Result<(), MapError> {
        let region_bytes = tables::region_start(1);
        let mut done = 0;
        while done < len {
            let (source, target) = (from + done, to + done);
            let whole =
                source % region_bytes == 0 && target % region_bytes == 0 && len - done >= region_bytes;
            let (source_region, target_region) = (tables::region_of(source), tables::region_of(target));
            if whole
                && self.tables.leaf(target_region).is_none()
                && !self.state.regions.contains_key(&target_region)
            {
                if let Some(moved) = self.state.regions.remove(&source_region) {
                    let stale = self.clear_entries(memory, source..source + region_bytes);
                    for pages in stale {
                        memory.ram.invalidate(pages)?;
                    }
                    self.state.regions.insert(target_region, moved);
                }
                done += region_bytes;
                continue;
            }
            let n = (region_bytes - target % region_bytes)
                .min(region_bytes - source % region_bytes)
                .min(len - done);
            self.copy_pages(memory, source, target, n)?;
            done += n;
        }
        Ok(())
    }

    /// Copies private pages within one region to another place within one region, where the same is
    /// mapped: pages that still come from their file do so there already.
    fn copy_pages(&mut self, memory: &mut Memory, from: u64, to: u64, len: u64) -> Result<(), MapError> {
        let of_file = matches!(self.find(to), Some((_, Vma { backing: Backing::File { .. }, .. })));
        let mut page = [0u8; PAGE_SIZE];
        for (address, pages) in self.private_runs(from..from + len) {
            let target = |number: u64| to + (address - from) + (number - pages.start) * PAGE;
            for run in memory.own_runs(pages.clone())? {
                if of_file {
                    self.clear_file(memory, target(run.start)..target(run.end))?;
                }
                for (number, _) in memory.ram.contents(run)? {
                    memory.ram.peek(number, &mut page)?;
                    if page.iter().any(|b| *b != 0) {
                        self.place(memory, target(number), &page).map_err(|e| match e {
                            super::MemError::BadAddress(_) => MapError::Errno(Errno::ENOMEM),
                            super::MemError::Page(e) => MapError::Page(e),
                        })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes pages of a file mapping, all in one region, zeros.
    fn clear_file(&mut self, memory: &mut Memory, range: Range<u64>) -> Result<(), MapError> {
        if !self.back_region(memory, tables::region_of(range.start))? {
            return Err(Errno::ENOMEM.into());
        }
        for (_, pages) in self.private_runs(range.clone()) {
            memory.pages.unmap(pages.clone());
            memory.ram.reset(pages)?;
        }
        Ok(self.fill(memory, range)?)
    }
}
