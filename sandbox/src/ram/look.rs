//! Looking at memory without changing it: what pages hold, and what the host has given.

use std::ops::Range;

use super::slots::slot_of;
use super::source::NOT_RECORDED;
use super::source::host;
use super::{CHUNK_PAGES, Marking, PAGE_SIZE, PageError, PageState, Ram};

impl Ram {
    /// Pages of the range that may differ from zeros, with what a snapshot needs to know of each.
    pub fn contents(&self, pages: Range<u64>) -> Result<Vec<(u64, PageState)>, PageError> {
        let mut out = Vec::new();
        let mut next = pages.start;
        while next < pages.end {
            let (_, first, slot_pages) = slot_of(next);
            let end = pages.end.min(first + slot_pages);
            match self.slots.of(next).map(|(slot, _)| slot) {
                None => out.extend((next..end).map(|page| (page, PageState::Fresh))),
                Some(slot) => {
                    let range = next - first..end - first;
                    let resident = slot
                        .resident(range.start, range.end - range.start)
                        .map_err(host("residency of pages"))?;
                    for (index, resident) in range.zip(resident) {
                        match slot.state(index) {
                            PageState::Zero if !resident => {}
                            PageState::Zero => out.push((first + index, PageState::Present)),
                            state => out.push((first + index, state)),
                        }
                    }
                }
            }
            next = end;
        }
        Ok(out)
    }

    /// Pages of the range that may hold anything but zeros, here or in the source, ascending.
    pub fn held(&self, pages: Range<u64>) -> Result<Vec<u64>, PageError> {
        let contents = self.contents(pages)?;
        let mut held = Vec::with_capacity(contents.len());
        let mut have_content = [false; CHUNK_PAGES as usize];
        // The source is asked for many pages at once.
        for run in
            contents.chunk_by(|a, b| a.0 + 1 == b.0 && (a.1 == PageState::Fresh) == (b.1 == PageState::Fresh))
        {
            for part in run.chunks(have_content.len()) {
                let have = &mut have_content[..part.len()];
                match part[0].1 {
                    PageState::Fresh => self.source.have_content(part[0].0, have)?,
                    _ => have.fill(true),
                }
                held.extend(part.iter().zip(have).filter(|(_, have)| **have).map(|((page, _), _)| *page));
            }
        }
        Ok(held)
    }

    /// Copies a page without bringing it in: from memory, from what was set aside, or from the
    /// source.
    ///
    /// # Errors
    /// When the source lacks it, and is not asked, or cannot give it.
    pub fn peek(&self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<(), PageError> {
        match self.slots.of(page).map(|(slot, index)| (slot, index, slot.state(index))) {
            Some((slot, index, state @ (PageState::Present | PageState::Zero))) => {
                if state == PageState::Zero && self.marking == Marking::Missing {
                    out.fill(0);
                } else {
                    slot.bytes(index, 0, PAGE_SIZE).copy_to(&mut out[..]);
                }
            }
            Some((_, _, PageState::Aside)) => match self.aside().get(page) {
                Some(content) => out.copy_from_slice(&content[..]),
                None => out.fill(0),
            },
            _ => match self.source.has_content(page)? {
                true if !self.source.can_fetch(page) => {
                    return Err(PageError::File { page, reason: NOT_RECORDED.into() });
                }
                true => {
                    self.source.fetch(page, out)?;
                }
                false => out.fill(0),
            },
        }
        Ok(())
    }

    /// Whether a page is in memory, so that a touch of it by KVM cannot fail.
    pub fn is_there(&self, page: u64) -> bool {
        self.slots.of(page).is_some_and(|(slot, index)| match slot.state(index) {
            PageState::Present => true,
            PageState::Zero => self.marking != Marking::Missing,
            _ => false,
        })
    }

    /// Bytes of memory that the host has given so far.
    pub fn resident_bytes(&self) -> Result<u64, PageError> {
        let mut pages = 0;
        for slot in self.slots.made() {
            let resident = slot.resident(0, slot.pages()).map_err(host("residency of pages"))?;
            pages += resident
                .into_iter()
                .enumerate()
                .filter(|(i, r)| *r && self.is_there(slot.first + *i as u64))
                .count();
        }
        Ok((pages * PAGE_SIZE) as u64)
    }
}
