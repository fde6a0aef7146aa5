//! `mremap`.

use std::ops::Range;

use super::map::page_up;
use super::{AddressSpace, Backing, MapError, MemError, Memory, PAGE, USER_END, USER_MIN, Vma, tables};
use crate::errno::Errno;
use crate::ram::PAGE_SIZE;

/// Where `mremap` may put a mapping.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remap {
    /// Elsewhere: `MREMAP_MAYMOVE`.
    pub may_move: bool,
    /// At `address`, in the place of what is there: `MREMAP_FIXED`.
    pub fixed: bool,
    /// The old mapping stays, without its pages: `MREMAP_DONTUNMAP`.
    pub keep: bool,
    /// The new address, for the last two.
    pub address: u64,
}

impl AddressSpace {
    /// Moves and resizes a mapping; returns the new address. The checks are in Linux's order.
    ///
    /// # Errors
    /// As `mremap(2)`.
    pub fn remap(
        &mut self,
        memory: &mut Memory,
        old: u64,
        old_len: u64,
        new_len: u64,
        how: Remap,
    ) -> Result<u64, MapError> {
        let old_len = page_up(old_len).unwrap_or(0);
        let new_len = page_up(new_len).filter(|len| *len > 0 && *len <= USER_END).ok_or(Errno::EINVAL)?;
        if !old.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        let places = how.fixed || how.keep;
        if places {
            let end = how.address.checked_add(new_len).filter(|end| *end <= USER_END).ok_or(Errno::EINVAL)?;
            let overlaps = how.address < old.saturating_add(old_len) && old < end;
            let resizes = how.keep && old_len != new_len;
            if !how.address.is_multiple_of(PAGE) || !how.may_move || resizes || overlaps {
                return Err(Errno::EINVAL.into());
            }
        }
        let (start, vma) = self.find(old).map(|(start, vma)| (start, vma.clone())).ok_or(Errno::EFAULT)?;
        if !places && old_len >= new_len {
            if new_len < old_len {
                self.unmap(memory, old + new_len, old_len - new_len)?;
            }
            return Ok(old);
        }
        if old_len == 0 && !vma.backing.is_shared() {
            return Err(Errno::EINVAL.into());
        }
        // What is cut off first may reach further than the mapping.
        if old_len.min(new_len) > vma.end - old {
            return Err(Errno::EFAULT.into());
        }
        if how.fixed {
            self.unmap(memory, how.address, new_len)?;
            if old_len > new_len {
                self.unmap(memory, old + new_len, old_len - new_len)?;
            }
            let old_range = old..old + old_len.min(new_len);
            return self.move_to(memory, (start, &vma), old_range, how.address, new_len, how.keep);
        }
        let old_range = old..old + old_len;
        if !how.keep {
            let growth = old_range.end..old.saturating_add(new_len);
            if vma.end == old_range.end && growth.end <= USER_END && self.has_room(&growth) {
                let mut piece = vma.clone();
                piece.backing.advance(growth.start - start);
                self.map(memory, growth.start, growth.end - growth.start, piece)?;
                self.join(memory, growth);
                return Ok(old);
            }
            if !how.may_move {
                return Err(Errno::ENOMEM.into());
            }
        }
        let hint = how.address..how.address.saturating_add(new_len);
        let to = if how.keep && hint.start >= USER_MIN && self.has_room(&hint) {
            hint.start
        } else {
            self.find_free(new_len, Some(old)).ok_or(Errno::ENOMEM)?
        };
        self.move_to(memory, (start, &vma), old_range, to, new_len, how.keep)
    }

    /// Moves a piece of one mapping to another address. Where old and new address lie alike within
    /// their 2 MiB regions, whole regions move by their chunk; the rest is copied.
    fn move_to(
        &mut self,
        memory: &mut Memory,
        (vma_start, vma): (u64, &Vma),
        old: Range<u64>,
        to: u64,
        new_len: u64,
        keep: bool,
    ) -> Result<u64, MapError> {
        let mut piece = vma.clone();
        piece.backing.advance(old.start - vma_start);
        let len = old.end - old.start;
        self.map(memory, to, new_len, piece)?;
        if vma.backing.notices_writes() {
            self.move_copies(memory, old.clone(), to)?;
        } else if !vma.backing.is_shared() && vma.charged {
            // What nobody could access so far holds nothing.
            self.move_pages(memory, old.start, to, len)?;
        }
        if keep {
            self.discard(memory, old.start, len)?;
        } else if len > 0 {
            // The pages have moved: from here on the call cannot be made again.
            self.remove(memory, &old, false)?;
            self.settle(memory);
        }
        Ok(to)
    }

    /// Copies what a mapping that notices writes has written to another place where the same is
    /// mapped.
    fn move_copies(&mut self, memory: &mut Memory, from: Range<u64>, to: u64) -> Result<(), MapError> {
        let copied: Vec<u64> = self.state.copied.range(from.clone()).copied().collect();
        let mut content = [0; PAGE_SIZE];
        for address in copied {
            let page =
                self.find(address).and_then(|(start, vma)| self.page_behind(memory, start, vma, address));
            let Some(page) = page else { continue };
            memory.ram.peek(page, &mut content)?;
            self.place(memory, to + (address - from.start), &content).map_err(no_room)?;
        }
        Ok(())
    }

    fn move_pages(&mut self, memory: &mut Memory, from: u64, to: u64, len: u64) -> Result<(), MapError> {
        let region_bytes = tables::region_start(1);
        let in_use: Vec<u64> = self.state.regions_in(&(from..from + len)).map(|(number, _)| number).collect();
        for number in in_use {
            let source =
                from.max(tables::region_start(number))..(from + len).min(tables::region_start(number + 1));
            let target = source.start - from + to;
            let target_region = tables::region_of(target);
            if source.end - source.start == region_bytes
                && target.is_multiple_of(region_bytes)
                && !self.state.regions.contains_key(&target_region)
            {
                for pages in self.clear_entries(memory, source.clone()) {
                    memory.ram.invalidate(pages)?;
                }
                if let Some(moved) = self.state.regions.remove(&number) {
                    self.state.regions.insert(target_region, moved);
                }
                self.fill(memory, target..target + region_bytes)?;
                continue;
            }
            let mut at = source.start;
            while at < source.end {
                let target = at - from + to;
                let n = (region_bytes - target % region_bytes).min(source.end - at);
                self.copy_pages(memory, at, target, n)?;
                at += n;
            }
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
                        self.place(memory, target(number), &page).map_err(no_room)?;
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
        for pages in self.clear_entries(memory, range.clone()) {
            memory.ram.invalidate(pages)?;
        }
        self.take_back(memory, &range)?;
        for (_, pages) in self.private_runs(range.clone()) {
            memory.drop_pages(pages)?;
        }
        Ok(self.fill(memory, range)?)
    }
}

/// What a page that has no place says.
fn no_room(e: MemError) -> MapError {
    match e {
        MemError::BadAddress(_) => MapError::Errno(Errno::ENOMEM),
        MemError::Page(e) => MapError::Page(e),
    }
}
