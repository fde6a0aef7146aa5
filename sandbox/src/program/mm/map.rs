//! Changing an address space: what `mmap`, `munmap`, `mprotect`, `brk` and `madvise` do.

use std::ops::Range;

use super::region::Blocks;
use super::tables::{self, Tables};
use super::{AddressSpace, BLOCK_BYTES, Memory, PAGE, Protection, USER_END, USER_MIN, Vma};
use crate::errno::Errno;
use crate::host::stop::Pace;
use crate::ram::{CHUNK_PAGES, PageError};
use crate::x86::paging::{NO_EXEC, PRESENT, WRITABLE};

/// The most mappings of an address space (`vm.max_map_count`).
pub const MAX_MAPPINGS: usize = 65_530;

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

    pub(super) fn charged_in(&self, range: &Range<u64>) -> u64 {
        self.overlapping(range).map(|(start, vma)| self.state.cost_of(start, vma, range)).sum()
    }

    /// Adds a mapping to the map.
    pub(super) fn put(&mut self, start: u64, vma: Vma) {
        self.note_code(start, &vma);
        self.own_cost += vma.own_cost();
        if let Some(old) = self.state.vmas.insert(start, vma) {
            self.own_cost -= old.own_cost();
        }
    }

    /// Takes a mapping out of the map.
    fn take(&mut self, start: u64) -> Option<Vma> {
        let vma = self.state.vmas.remove(&start)?;
        self.note_code(start, &vma);
        if vma.protection.exec {
            self.note_change_of_code(start..vma.end);
        }
        self.own_cost -= vma.own_cost();
        Some(vma)
    }

    /// Charges mappings as such, after they have changed. That there is room was found out before.
    pub(super) fn settle(&mut self, memory: &mut Memory) {
        let account = &mut memory.state.account;
        if self.own_cost < self.own_charged {
            account.refund(self.own_charged - self.own_cost);
        } else if account.charge(self.own_cost - self.own_charged).is_err() {
            debug_assert!(false, "{} bytes of mappings do not fit", self.own_cost);
            return;
        }
        self.own_charged = self.own_cost;
    }

    /// What the mappings cost as such that would be cut in two at these addresses, and how many.
    fn cuts(&self, at: &[u64]) -> (u64, usize) {
        let cut = at.iter().filter_map(|at| self.find(*at).filter(|(start, _)| start < at));
        cut.fold((0, 0), |(cost, n), (_, vma)| (cost + vma.own_cost(), n + 1))
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
        vma.charged = vma.has_own_pages() && (vma.charged || vma.protection.any());
        // What is replaced is given back first, but only if the new mapping fits after that.
        let freed = self.charged_in(&range);
        let len = range.end - range.start;
        let cost = match (vma.charged, vma.no_reserve) {
            (false, _) => 0,
            (true, false) => len,
            // Blocks that others keep in use.
            (true, true) => self.state.in_use(&range).min(2 * BLOCK_BYTES),
        };
        let own = self.cuts(&[range.start, range.end]).0 + vma.own_cost();
        memory.state.account.expect(cost.saturating_add(own), freed)?;
        if !self.is_free(&range) {
            self.remove(memory, &range, true)?;
        }
        let cost = self.state.cost_of(range.start, &vma, &range);
        memory.state.account.charge(cost)?;
        self.insert(start, vma);
        self.settle(memory);
        self.back_files(memory, range.clone())?;
        self.fill(memory, range)?;
        Ok(())
    }

    /// Adds a mapping to the map, joined with its neighbours where they are alike.
    fn insert(&mut self, start: u64, mut vma: Vma) {
        let above = self.state.vmas.get(&vma.end).filter(|above| vma.joins(start, above));
        if let Some(end) = above.map(|above| above.end) {
            self.take(vma.end);
            vma.end = end;
        }
        if let Some((below_start, below)) = self.state.vmas.range_mut(..start).next_back()
            && below.end == start
            && below.joins(*below_start, &vma)
        {
            below.end = vma.end;
            self.note_code(start, &vma);
            return;
        }
        self.put(start, vma);
    }

    /// Cuts mappings at an address.
    fn cut(&mut self, at: u64) {
        if let Some((start, vma)) = self.state.vmas.range_mut(..at).next_back()
            && vma.end > at
        {
            let upper = vma.split(*start, at);
            self.put(at, upper);
        }
    }

    /// Removes all mappings of a range.
    pub fn unmap(&mut self, memory: &mut Memory, start: u64, len: u64) -> Result<(), MapError> {
        let range = Self::range(start, len, Errno::EINVAL)?;
        if range.is_empty() || !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        if self.is_free(&range) {
            return Ok(());
        }
        // A hole in the middle of a mapping makes two of it.
        if let Some((first, vma)) = self.find(range.start)
            && first < range.start
            && range.end < vma.end
        {
            if self.state.vmas.len() >= MAX_MAPPINGS {
                return Err(Errno::ENOMEM.into());
            }
            memory.state.account.expect(vma.own_cost(), self.charged_in(&range))?;
        }
        self.remove(memory, &range, true)?;
        self.settle(memory);
        Ok(())
    }

    /// Removes all mappings of a range; what they cost as such is to be settled. With `may_stop`, the run
    /// may end before any mapping is gone: the call is made again if it goes on.
    pub(super) fn remove(
        &mut self,
        memory: &mut Memory,
        range: &Range<u64>,
        may_stop: bool,
    ) -> Result<(), PageError> {
        let shared: Vec<Range<u64>> = self
            .overlapping(range)
            .filter(|(_, vma)| !vma.backing.is_in_chunk())
            .map(|(start, vma)| range.start.max(start)..range.end.min(vma.end))
            .collect();
        for part in shared {
            // The object keeps the pages: only what KVM derived from them must go.
            for pages in self.clear_entries(memory, part) {
                memory.ram.invalidate(pages)?;
            }
        }
        let stale = self.clear_entries(memory, range.clone());
        if self.has_lent(range) {
            // Others may go on to write them; what is the space's own is dropped below.
            stale.into_iter().try_for_each(|pages| memory.ram.invalidate(pages))?;
            self.take_back(memory, range)?;
        }
        self.forget_copies(range.clone());
        let stop = memory.stop.clone();
        let mut pace = Pace::new(&stop);
        for (_, pages) in self.private_runs(range.clone()) {
            if may_stop {
                pace.step()?;
            }
            memory.drop_pages(pages)?;
        }
        let freed = self.charged_in(range);
        self.cut(range.start);
        self.cut(range.end);
        let starts: Vec<u64> = self.state.vmas.range(range.clone()).map(|(start, _)| *start).collect();
        for start in starts {
            if let Some(vma) = self.take(start) {
                self.lost.extend(vma.backing.held());
            }
        }
        memory.state.account.refund(freed);
        self.freed(range);
        self.free_regions(memory, range)
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
        for (region, leaf) in self.tables.leaves(&range) {
            Tables::update(&memory.system, leaf, tables::indexes_in(region, &range), |index, old| {
                let at = tables::region_start(region) + index * PAGE;
                let new = if old & PRESENT != 0 { change(at, old) } else { old };
                if new == old {
                    return None;
                }
                let lost =
                    new & PRESENT == 0 || old & WRITABLE > new & WRITABLE || old & NO_EXEC < new & NO_EXEC;
                if lost && let Some(page) = memory.ram.page_at(old & !(NO_EXEC | 0xfff)) {
                    // Pages between two of one chunk may go as well: one call does for all.
                    match runs.last_mut() {
                        Some(last) if last.start / CHUNK_PAGES == page / CHUNK_PAGES || last.end == page => {
                            *last = last.start.min(page)..last.end.max(page + 1);
                        }
                        _ => runs.push(page..page + 1),
                    }
                }
                Some(new)
            });
        }
        runs
    }

    /// Gives back the chunks of regions of a range in which nothing private is mapped any more; in the
    /// others, its blocks are no longer in use. The pages of the range were dropped.
    pub(super) fn free_regions(&mut self, memory: &mut Memory, range: &Range<u64>) -> Result<(), PageError> {
        let numbers: Vec<u64> = self.state.regions_in(range).map(|(number, _)| number).collect();
        for number in numbers {
            let whole = tables::region_start(number)..tables::region_start(number + 1);
            if self.overlapping(&whole).any(|(_, vma)| vma.has_own_pages()) {
                self.unuse_blocks_in(number, range);
                continue;
            }
            self.take_back(memory, &whole)?;
            if let Some(region) = self.state.regions.remove(&number) {
                memory.give_back(region.chunk)?;
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
        let newly = |vma: &Vma| protection.any() && !vma.charged && vma.has_own_pages();
        let cost: u64 = self
            .overlapping(&range)
            .filter(|(_, vma)| newly(vma))
            .map(|(start, vma)| self.state.cost_of(start, &Vma { charged: true, ..vma.clone() }, &range))
            .sum();
        memory.state.account.charge(cost)?;
        if let Err(errno) = self.may_cut(memory, &range) {
            memory.state.account.refund(cost);
            return Err(errno.into());
        }
        self.cut(range.start);
        self.cut(range.end);
        if protection.exec || self.overlapping(&range).any(|(_, vma)| vma.protection.exec) {
            self.note_change_of_code(range.clone());
        }
        let clock = self.state.image.clock_page;
        for (start, vma) in self.state.vmas.range_mut(range.clone()) {
            if vma.is_code() || protection.exec || (*start..vma.end).contains(&clock) {
                self.code = None;
            }
            vma.charged |= newly(vma);
            vma.protection = protection;
        }
        let stale = if protection.any() {
            let notices = self.overlapping(&range).any(|(_, vma)| vma.backing.notices_writes());
            let some = notices || self.has_lent(&range);
            let may_write = |at| !some || self.find(at).is_some_and(|(_, vma)| self.is_own(memory, vma, at));
            let stale = self.change_entries(memory, range.clone(), |at, old| {
                let mut new = old & !(WRITABLE | NO_EXEC);
                if protection.write && may_write(at) {
                    new |= WRITABLE;
                }
                if !protection.exec {
                    new |= NO_EXEC;
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
        self.join(memory, range);
        Ok(())
    }

    /// Joins mappings that have become alike, and settles what mappings cost as such.
    pub(super) fn join(&mut self, memory: &mut Memory, range: Range<u64>) {
        let starts: Vec<u64> =
            self.state.vmas.range(range.start..=range.end).map(|(start, _)| *start).collect();
        for start in starts {
            let Some(vma) = self.take(start) else { continue };
            self.insert(start, vma);
        }
        self.settle(memory);
    }

    /// Marks what is mapped in a range as `mlock`ed, or not, up to the first gap; returns where that
    /// is.
    pub fn lock(&mut self, memory: &mut Memory, range: Range<u64>, locked: bool) -> u64 {
        let mapped = range.start..self.mapped_until(&range);
        match self.lock_parts(memory, mapped.clone(), locked) {
            true => mapped.end,
            false => range.start,
        }
    }

    /// Marks all that is mapped as `mlock`ed, or not.
    pub fn lock_all(&mut self, memory: &mut Memory, locked: bool) {
        self.lock_parts(memory, 0..USER_END, locked);
    }

    /// `false` when there are too many mappings to cut some in two.
    fn lock_parts(&mut self, memory: &mut Memory, range: Range<u64>, locked: bool) -> bool {
        if self.may_cut(memory, &range).is_err() {
            return false;
        }
        self.cut(range.start);
        self.cut(range.end);
        for (_, vma) in self.state.vmas.range_mut(range.clone()) {
            vma.locked = locked;
        }
        self.join(memory, range);
        true
    }

    /// Whether the mappings at the ends of a range may be cut in two there.
    ///
    /// # Errors
    /// `ENOMEM` when there are too many mappings, or memory is used up.
    fn may_cut(&self, memory: &mut Memory, range: &Range<u64>) -> Result<(), Errno> {
        let (own, cuts) = self.cuts(&[range.start, range.end]);
        if self.state.vmas.len() + cuts > MAX_MAPPINGS {
            return Err(Errno::ENOMEM);
        }
        memory.state.account.expect(own, 0)
    }

    /// Bytes of the mappings that count.
    pub fn mapped_bytes(&self, counts: impl Fn(&Vma) -> bool) -> u64 {
        let vmas = self.state.vmas.iter().filter(|(_, vma)| counts(vma));
        vmas.map(|(start, vma)| vma.end - start).sum()
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
        let before = self.charged_in(&range);
        for part in private {
            // Pages of a file that cannot be had again before they are touched stay without entries.
            for pages in self.clear_entries(memory, part.clone()) {
                memory.ram.invalidate(pages)?;
            }
            self.forget_copies(part.clone());
            self.take_back(memory, &part)?;
            for (_, pages) in self.private_runs(part.clone()) {
                memory.ram.reset(pages)?;
            }
            self.unuse_blocks(&part);
        }
        memory.state.account.refund(before - self.charged_in(&range));
        self.back_files(memory, range.clone())?;
        self.fill(memory, range.clone())?;
        Ok(self.mapped_until(&range) == range.end)
    }

    /// Blocks that lie in a range are no longer in use: their pages were dropped.
    fn unuse_blocks(&mut self, range: &Range<u64>) {
        let numbers: Vec<u64> = self.state.regions_in(range).map(|(number, _)| number).collect();
        numbers.into_iter().for_each(|number| self.unuse_blocks_in(number, range));
    }

    fn unuse_blocks_in(&mut self, number: u64, range: &Range<u64>) {
        if let Some(region) = self.state.regions.get_mut(&number) {
            region.blocks = region.blocks.but(Blocks::inside(&tables::indexes_in(number, range)));
        }
    }
}
