//! Mappings of files that change: private copies of pages, and content that moves into an object.
//!
//! A private mapping of a file shows the file's pages until they are written through it, and its own
//! copies from then on. Those of an object ([`Backing::Private`]) map the object's pages read-only
//! and copy a page at the fault that its first write is, as Linux does.
//!
//! A file that nobody changes while it is mapped needs none of this: its mappings are
//! [`Backing::File`], whose pages come from the file one by one. Before the first change
//! [`AddressSpace::follow`] turns them into mappings of an object.

use std::ops::Range;

use super::{AddressSpace, Backing, Held, Memory, PAGE, Protection, USER_END, Vma, patch, tables};
use crate::host::stop::Pace;
use crate::program::fs::{ContentRef, ReadContent};
use crate::ram::{PAGE_SIZE, PageError};
use crate::x86::paging::PRESENT;

impl AddressSpace {
    pub(super) fn is_copied(&self, address: u64) -> bool {
        self.state.copied.contains(&(address / PAGE * PAGE))
    }

    /// Whether a page may be written where it is.
    pub(super) fn is_own(&self, memory: &Memory, vma: &Vma, address: u64) -> bool {
        self.is_noted(vma, address) && !self.is_lent(memory, address)
    }

    /// Whether nobody needs to know of a page's next write.
    pub(super) fn is_noted(&self, vma: &Vma, address: u64) -> bool {
        !vma.backing.notices_writes() || self.is_copied(address)
    }

    /// What the page tables may allow for a page.
    pub(super) fn page_protection(&self, memory: &Memory, vma: &Vma, address: u64) -> Protection {
        Protection { write: vma.protection.write && self.is_own(memory, vma, address), ..vma.protection }
    }

    /// Sees to it that a page of a mapping may be written where it is from now on. `false` when memory is
    /// used up.
    pub(super) fn make_own(&mut self, memory: &mut Memory, address: u64) -> Result<bool, PageError> {
        if self.is_lent(memory, address)
            && let Some((start, vma)) = self.find(address)
        {
            let vma = vma.clone();
            self.unshare(memory, (start, &vma), address)?;
        }
        let noted = self.find(address).is_some_and(|(_, vma)| self.is_noted(vma, address));
        Ok(noted || self.take_copy(memory, address)?)
    }

    /// Whether an address of a mapping lies in a page behind the end of its file.
    pub(super) fn is_beyond(&self, memory: &Memory, start: u64, vma: &Vma, address: u64) -> bool {
        !matches!(vma.backing, Backing::Anonymous) && address >= self.file_end(memory, start)
    }

    /// Where the file of the mapping at an address ends, in whole pages: accesses from there on are
    /// `SIGBUS`. The end of the address space for what has no file.
    pub fn file_end(&self, memory: &Memory, address: u64) -> u64 {
        let Some((start, vma)) = self.find(address) else { return USER_END };
        let (offset, len) = match &vma.backing {
            Backing::Anonymous => return USER_END,
            Backing::File { offset, len, .. } => (*offset, *len),
            Backing::Shared { object, offset } | Backing::Private { object, offset } => {
                (*offset, memory.state.objects.get(object).map_or(0, |object| object.len))
            }
        };
        start + len.saturating_sub(offset).next_multiple_of(PAGE)
    }

    /// Gives a mapping that notices writes its own copy of a page, which may be written from now on.
    /// `false` when memory is used up.
    fn take_copy(&mut self, memory: &mut Memory, address: u64) -> Result<bool, PageError> {
        let address = address / PAGE * PAGE;
        let region = tables::region_of(address);
        let backed = self.back(memory, address)? && self.back_region(memory, region)?;
        if !backed || !self.use_private(memory, address) {
            return Ok(false);
        }
        let Some((start, vma)) = self.find(address) else { return Ok(false) };
        let private = matches!(vma.backing, Backing::Private { .. });
        let (shown, protection) = (self.page_behind(memory, start, vma, address), vma.protection);
        let (Some(shown), Some(backed)) = (shown, self.state.regions.get(&region)) else { return Ok(false) };
        let own = backed.page(tables::index_of(address));
        if private {
            let mut content = [0; PAGE_SIZE];
            memory.ram.read(memory.ram.base() + shown * PAGE, &mut content)?;
            memory.ram.write(memory.ram.base() + own * PAGE, &content)?;
        }
        self.state.copied.insert(address);
        if self.tables.get(&memory.system, address) & PRESENT != 0 {
            self.tables.set(&memory.system, address, Self::entry(memory, own, protection));
            memory.ram.invalidate(shown..shown + 1)?;
        }
        Ok(true)
    }

    /// Forgets which pages of a range are copies.
    pub(super) fn forget_copies(&mut self, range: Range<u64>) -> Vec<u64> {
        let gone: Vec<u64> = self.state.copied.range(range).copied().collect();
        for address in &gone {
            self.state.copied.remove(address);
        }
        gone
    }

    /// Makes mappings of a file's content follow the object that the content has moved into, since
    /// the file is about to change. Pages that a mapping has written stay as they are. `read` reads the
    /// content.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn follow(
        &mut self,
        memory: &mut Memory,
        moved: ContentRef,
        object: u64,
        read: &mut ReadContent<'_>,
    ) -> Result<(), PageError> {
        let of_it = |vma: &Vma| matches!(vma.backing, Backing::File { content, .. } if content == moved);
        let found: Vec<(u64, Vma)> =
            self.state.vmas.iter().filter(|(_, vma)| of_it(vma)).map(|(s, vma)| (*s, vma.clone())).collect();
        for (start, vma) in found {
            let Backing::File { offset, shared, tracked, content, .. } = vma.backing else { continue };
            self.lost.insert(Held::Content(content));
            let range = start..vma.end;
            if !shared && !tracked {
                self.find_copies(memory, range.clone(), offset, read)?;
            }
            for pages in self.clear_entries(memory, range.clone()) {
                memory.ram.invalidate(pages)?;
            }
            for address in self.lent_addresses(&range) {
                if !self.is_copied(address) {
                    self.take_back(memory, &(address..address + PAGE))?;
                }
            }
            for (address, pages) in self.private_runs(range.clone()) {
                // What is still seen in another chunk are copies.
                if self.lent_at(address).is_some() {
                    continue;
                }
                memory.pages.unmap(pages.clone());
                for page in pages.clone() {
                    if !self.state.copied.contains(&(address + (page - pages.start) * PAGE)) {
                        memory.ram.reset(page..page + 1)?;
                    }
                }
            }
            let backing = match shared {
                true => Backing::Shared { object, offset },
                false => Backing::Private { object, offset },
            };
            let before = self.charged_in(&range);
            self.put(start, Vma { backing, charged: vma.charged && !shared, ..vma });
            memory.state.account.refund(before - self.charged_in(&range));
            self.free_regions(memory, &range)?;
        }
        Ok(())
    }

    /// Notes as copies the pages of a range whose content is not the file's: the file's byte at
    /// `offset` belongs at the start of the range.
    fn find_copies(
        &mut self,
        memory: &Memory,
        range: Range<u64>,
        offset: u64,
        read: &mut ReadContent<'_>,
    ) -> Result<(), PageError> {
        let (mut held, mut of_file) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
        for (address, pages) in self.private_runs(range.clone()) {
            for page in memory.own_runs(pages.clone())?.into_iter().flatten() {
                let at = address + (page - pages.start) * PAGE;
                memory.ram.peek(page, &mut held)?;
                read(offset + (at - range.start), &mut of_file).map_err(|e| e.for_page(page))?;
                if patch::differs(&held, &of_file) {
                    self.state.copied.insert(at);
                }
            }
        }
        Ok(())
    }

    /// Takes the pages behind a new, lower end of an object out of its mappings, private copies
    /// included: they fault from now on.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn cut_object(&mut self, memory: &mut Memory, object: u64, len: u64) -> Result<(), PageError> {
        let end = len.next_multiple_of(PAGE);
        let behind: Vec<(Range<u64>, bool)> = self
            .state
            .vmas
            .iter()
            .filter_map(|(start, vma)| {
                let (_, offset) = vma.backing.object().filter(|(number, _)| *number == object)?;
                let from = start + end.saturating_sub(offset);
                let private = matches!(vma.backing, Backing::Private { .. });
                (from < vma.end).then_some((from..vma.end, private))
            })
            .collect();
        for (range, private) in behind {
            for pages in self.clear_entries(memory, range.clone()) {
                memory.ram.invalidate(pages)?;
            }
            for address in if private { self.forget_copies(range) } else { Vec::new() } {
                self.take_back(memory, &(address..address + PAGE))?;
                for (_, pages) in self.private_runs(address..address + PAGE) {
                    memory.ram.reset(pages)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the pages of a range of a shared object, which is about to become zeros, out of its
    /// mappings. Private copies stay.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn hide_zeroed(
        &mut self,
        memory: &mut Memory,
        object: u64,
        range: &Range<u64>,
    ) -> Result<(), PageError> {
        let mapped: Vec<Range<u64>> = self
            .state
            .vmas
            .iter()
            .filter_map(|(start, vma)| {
                let (_, offset) = vma.backing.object().filter(|(number, _)| *number == object)?;
                let at = |place: u64| start.saturating_add(place.saturating_sub(offset)).min(vma.end);
                let part = at(range.start / PAGE * PAGE)..at(range.end.next_multiple_of(PAGE));
                (!part.is_empty()).then_some(part)
            })
            .collect();
        for part in mapped {
            for pages in self.clear_entries(memory, part) {
                memory.ram.invalidate(pages)?;
            }
        }
        Ok(())
    }

    /// Takes the copies that writing to every page of a range would take. `false` when memory is used
    /// up.
    ///
    /// # Errors
    /// When the host refuses, and when the run must be over.
    pub fn copy_range(
        &mut self,
        memory: &mut Memory,
        range: Range<u64>,
        pace: &mut Pace<'_>,
    ) -> Result<bool, PageError> {
        let tracked: Vec<Range<u64>> = self
            .overlapping(&range)
            .filter(|(_, vma)| vma.backing.notices_writes())
            .map(|(start, vma)| range.start.max(start)..range.end.min(vma.end))
            .collect();
        for address in tracked.into_iter().flat_map(|part| part.step_by(PAGE_SIZE)) {
            pace.bytes(PAGE_SIZE)?;
            if !self.make_own(memory, address)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Memory {
    /// Makes a range of a shared object zeros, as far as the object reaches, and gives back the memory
    /// that held nothing else. No page table may point there: [`AddressSpace::hide_zeroed`].
    ///
    /// # Errors
    /// When the host refuses.
    pub fn zero_object(&mut self, object: u64, range: Range<u64>) -> Result<(), PageError> {
        let len = self.state.objects.get(&object).map_or(0, |object| object.len);
        let end = range.end.min(len.next_multiple_of(PAGE));
        let page_start = range.start / PAGE * PAGE;
        for (at, pages) in self.object_runs(object, page_start..end.next_multiple_of(PAGE)) {
            let run_end = at + (pages.end - pages.start) * PAGE;
            let (from, to) = (at.max(range.start), run_end.min(end));
            let whole = from.next_multiple_of(PAGE)..to / PAGE * PAGE;
            let page = |offset: u64| pages.start + (offset - at) / PAGE;
            let parts = match whole.is_empty() {
                true => [from..to, to..to],
                false => [from..whole.start, whole.end..to],
            };
            for part in parts {
                for (offset, bytes) in
                    Self::pages_of(part.start, part.end.saturating_sub(part.start) as usize)
                {
                    // One that comes from below still is zeros there.
                    if !self.comes_from_file(page(offset)) {
                        self.ram.fill(self.gpa(page(offset), offset), bytes.len(), 0)?;
                    }
                }
            }
            if !whole.is_empty() {
                self.drop_pages(page(whole.start)..page(whole.end))?;
            }
        }
        self.unuse_object(object, range)
    }
}
