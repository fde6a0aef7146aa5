//! Changing an address space: what `mmap`, `munmap`, `mprotect`, `brk` and `madvise` do.

use std::ops::Range;

use super::tables::{self, PRESENT};
use super::{AddressSpace, Backing, Memory, PAGE, Protection, Region, USER_END, USER_MIN, Vma};
use crate::errno::Errno;
use crate::ram::PageError;

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
pub(super) fn page_up(len: u64) -> Option<u64> {
    len.checked_next_multiple_of(PAGE)
}

impl AddressSpace {
    /// A checked range of whole pages within the program's part of the address space.
    pub(super) fn range(address: u64, len: u64, error: Errno) -> Result<Range<u64>, MapError> {
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
            match self.in_the_way(&(start..start + len)) {
                Some(below) => ceiling = below,
                None => return Some(start),
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
            let stale = self.clear_entries(memory, gone.clone());
            if !vma.backing.is_in_chunk() {
                // The object keeps the pages: only what KVM derived from them must go.
                for pages in stale {
                    memory.ram.invalidate(pages)?;
                }
            }
            if !matches!(vma.backing, Backing::Shared { .. }) {
                self.forget_copies(gone.clone());
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
    pub(super) fn clear_entries(&self, memory: &Memory, range: Range<u64>) -> Vec<Range<u64>> {
        self.change_entries(memory, range, |_, _| 0)
    }

    /// Changes the present entries of a range; returns the pages whose entries lost something.
    fn change_entries(
        &self,
        memory: &Memory,
        range: Range<u64>,
        change: impl Fn(u64, u64) -> u64,
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
                let new = change(at, old);
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
    pub(super) fn free_regions(&mut self, memory: &mut Memory, range: Range<u64>) -> Result<(), PageError> {
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
        let refused = self
            .overlapping(&(range.start..mapped))
            .find(|(_, vma)| protection.write && !vma.may_write)
            .map(|(start, _)| start.max(range.start));
        if refused.is_some() || mapped < range.end {
            let until = refused.unwrap_or(mapped);
            if until > range.start {
                self.protect(memory, start, until - start, protection)?;
            }
            return Err(if refused.is_some() { Errno::EACCES } else { Errno::ENOMEM }.into());
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
            let notices = self.overlapping(&range).any(|(_, vma)| vma.backing.notices_writes());
            let may_write = |at| !notices || self.find(at).is_some_and(|(_, vma)| self.is_own(vma, at));
            let stale = self.change_entries(memory, range.clone(), |at, old| {
                let mut new = old & !(tables::WRITABLE | tables::NO_EXEC);
                if protection.write && may_write(at) {
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
    pub(super) fn join(&mut self, range: Range<u64>) {
        let starts: Vec<u64> =
            self.state.vmas.range(range.start..=range.end).map(|(start, _)| *start).collect();
        for start in starts {
            let Some(vma) = self.state.vmas.remove(&start) else { continue };
            self.insert(start, vma);
        }
    }

    /// Marks what is mapped in a range as `mlock`ed, or not, up to the first gap; returns where that
    /// is.
    pub fn lock(&mut self, range: Range<u64>, locked: bool) -> u64 {
        let mapped = range.start..self.mapped_until(&range);
        self.lock_parts(mapped.clone(), locked);
        mapped.end
    }

    /// Marks all that is mapped as `mlock`ed, or not.
    pub fn lock_all(&mut self, locked: bool) {
        self.lock_parts(0..USER_END, locked);
    }

    fn lock_parts(&mut self, range: Range<u64>, locked: bool) {
        self.cut(range.start);
        self.cut(range.end);
        for (_, vma) in self.state.vmas.range_mut(range.clone()) {
            vma.locked = locked;
        }
        self.join(range);
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
            if !self.has_room(&(old_end..new_end.saturating_add(PAGE))) {
                return Ok(old);
            }
            let vma = Vma::anonymous(new_end, Protection::READ_WRITE, b"[heap]");
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
            .filter(|(_, vma)| !vma.backing.is_shared())
            .map(|(start, vma)| range.start.max(start)..range.end.min(vma.end))
            .collect();
        for part in private {
            // Pages of a file that cannot be had again before they are touched stay without entries.
            for pages in self.clear_entries(memory, part.clone()) {
                memory.ram.invalidate(pages)?;
            }
            self.forget_copies(part.clone());
            for (_, pages) in self.private_runs(part) {
                memory.ram.reset(pages)?;
            }
        }
        self.back_files(memory, range.clone())?;
        self.fill(memory, range.clone())?;
        Ok(self.mapped_until(&range) == range.end)
    }
}
