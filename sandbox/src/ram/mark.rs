//! Memory as it was at one moment, to which it is put back again and again.
//!
//! What was written since is found by KVM's log and by the monitor's own notes ([`super::written`]). A page that was
//! written once will be written again, most of the time, and to notice that costs more than to copy it: so pages that
//! were written since the mark stay writable from then on, and are copied back each time. Only the others are looked
//! for.
//!
//! Pages that come in from their source stay: they are what they were.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::slot::Slot;
use super::written::pages_in;
use super::{Marking, PAGE_SIZE, PageError, PageState, Ram};

/// The content of one page.
pub type Page = [u8; PAGE_SIZE];

/// What a page was at a moment.
#[derive(Clone, Debug)]
pub enum Was {
    /// It held this.
    Content(Arc<Page>),
    /// It was zeros.
    Zeros,
    /// Nobody had asked for it: its source says what it holds.
    InSource,
}

/// The moment that memory is put back to, and what is known of pages that were written since.
#[derive(Debug)]
pub struct Mark {
    /// The same as the memory's, as long as this is the last mark.
    moment: Arc<()>,
    /// Pages that are copied back each time, with the place of what they held; zeros where that is nothing.
    hot: Vec<(u64, Option<usize>)>,
    /// What they held, one behind the other: the CPU sees what comes next.
    contents: Vec<Page>,
    /// The same pages, by the first page of their slot: a bit for each page.
    known: BTreeMap<u64, Vec<u64>>,
    heat: Heat,
}

/// When the pages that are copied back are found anew: one run may have written many that no other does.
#[derive(Debug)]
struct Heat {
    /// Pages copied since they were found anew.
    copied: usize,
    /// How many there were then.
    before: usize,
    /// Those of them that were zeros, ascending.
    zeros: Vec<u64>,
    /// How long it goes until the next time: longer each time that about the same pages are found.
    patience: usize,
}

impl Heat {
    /// Pages that may be copied before so many are found anew: some two that are copied cost as much as to find
    /// one, and to begin costs as much as some thousands.
    fn limit(&self, pages: usize) -> usize {
        const BEGIN: usize = 4096;
        match self.before > BEGIN + 4 * pages {
            // Most of those that were given up are not wanted, and the host may have its memory back.
            true => 16 * pages,
            false => self.patience.saturating_mul(BEGIN + 2 * pages),
        }
    }
}

impl Mark {
    /// Pages that are copied back each time.
    pub fn hot_pages(&self) -> usize {
        self.hot.len()
    }

    /// Has a page copied back each time, which held this.
    fn heat_up(&mut self, page: u64, content: &Page) {
        self.hot.push((page, Some(self.contents.len())));
        self.contents.push(*content);
    }

    /// Takes a page among those that are copied back. Whether it was not.
    fn know(&mut self, slot: &Slot, page: u64) -> bool {
        let bits =
            self.known.entry(slot.first).or_insert_with(|| vec![0; slot.pages().div_ceil(64) as usize]);
        let (word, bit) = ((page - slot.first) / 64, 1 << ((page - slot.first) % 64));
        let Some(bits) = bits.get_mut(word as usize) else { return false };
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new
    }

    /// Whether a page is copied back each time.
    fn knows(&self, slot: &Slot, page: u64) -> bool {
        let at = (page - slot.first) as usize;
        self.known.get(&slot.first).is_some_and(|bits| bits[at / 64] >> (at % 64) & 1 != 0)
    }

    fn forget(&mut self, slot: &Slot, page: u64) {
        let at = page - slot.first;
        if let Some(bits) = self.known.get_mut(&slot.first).and_then(|bits| bits.get_mut(at as usize / 64)) {
            *bits &= !(1 << (at % 64));
        }
    }
}

impl Ram {
    /// Marks this moment, to which memory is put back by [`Ram::put_back`]. Until the next mark, the first write of the
    /// guest to each page costs a fault, some 2 µs. No vCPU may run meanwhile.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn mark(&self) -> Result<Mark, PageError> {
        self.set_log(true, true)?;
        let moment = Arc::new(());
        self.written.set_moment(Some(moment.clone()));
        let heat = Heat { copied: 0, before: 0, zeros: Vec::new(), patience: 1 };
        Ok(Mark { moment, hot: Vec::new(), contents: Vec::new(), known: BTreeMap::new(), heat })
    }

    /// Finds out whether this is the last mark.
    ///
    /// # Errors
    /// [`PageError::NotMarked`].
    pub fn check_mark(&self, mark: &Mark) -> Result<(), PageError> {
        if self.written.is_moment(&mark.moment) { Ok(()) } else { Err(PageError::NotMarked) }
    }

    /// Puts memory back to what it was at the mark; `was` knows what that is, and the source is again what it was then.
    /// Returns how many pages were copied. No vCPU may run meanwhile.
    ///
    /// # Errors
    /// [`PageError::NotMarked`] when that is not the last mark; when the host refuses, or a page cannot be had from its
    /// source.
    pub fn put_back(&self, mark: &mut Mark, was: &dyn Fn(u64) -> Was) -> Result<usize, PageError> {
        self.check_mark(mark)?;
        let (noted, dropped) = self.written.take();
        self.restore_dropped(mark, dropped.pages(), was)?;
        let mut cold = Vec::new();
        for slot in self.slots.made() {
            let log = self.log_of(slot)?;
            let known = mark.known.get(&slot.first);
            let new = |word: usize, bits: u64| bits & !known.map_or(0, |known| known[word]);
            if log.iter().enumerate().any(|(word, bits)| new(word, *bits) != 0) {
                let new: Vec<u64> = log.iter().enumerate().map(|(word, bits)| new(word, *bits)).collect();
                cold.extend(pages_in(slot.first, &new));
            }
        }
        for page in cold.into_iter().chain(noted) {
            self.find_written(mark, page, was)?;
        }
        for (page, content) in &mark.hot {
            self.copy_back(*page, content.map(|at| &mark.contents[at]))?;
        }
        let copied = mark.hot.len();
        mark.heat.copied += copied;
        if mark.heat.copied > mark.heat.limit(copied) {
            self.cool(mark)?;
        }
        // What this wrote and dropped is what was.
        self.written.take();
        Ok(copied)
    }

    /// Looks for all pages that are written again, from here on. Pages of zeros that were not written since the last time
    /// are given back to the host.
    fn cool(&self, mark: &mut Mark) -> Result<(), PageError> {
        const PATIENCE_MAX: usize = 4096;
        let known = |page: &u64| self.slots.of(*page).is_some_and(|(slot, _)| mark.knows(slot, *page));
        let unused: Vec<u64> = mark.heat.zeros.iter().copied().filter(|page| !known(page)).collect();
        for run in unused.chunk_by(|a, b| a + 1 == *b) {
            self.make_zeros(run[0]..run[run.len() - 1] + 1)?;
        }
        let pages = mark.hot.len();
        let patience = match pages * 2 >= mark.heat.before {
            true => (mark.heat.patience * 2).min(PATIENCE_MAX),
            false => 1,
        };
        let mut zeros: Vec<u64> =
            mark.hot.drain(..).filter(|(_, content)| content.is_none()).map(|(page, _)| page).collect();
        zeros.sort_unstable();
        mark.contents.clear();
        mark.known.clear();
        mark.heat = Heat { copied: 0, before: pages, zeros, patience };
        self.set_log(true, true)
    }

    /// Makes KVM forget all that it derived from the guest's page tables: where it shadows them, it does not see what is
    /// put back into them. No vCPU may run meanwhile.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn forget_tables(&self) -> Result<(), PageError> {
        // A slot that goes takes all shadows with it.
        let Some(slot) = self.slots.made().next() else { return Ok(()) };
        self.note_written(slot)?;
        self.take_slot(slot)?;
        self.tell_slot(slot, self.written.flags())
    }

    /// A page was written.
    fn find_written(&self, mark: &mut Mark, page: u64, was: &dyn Fn(u64) -> Was) -> Result<(), PageError> {
        let (slot, index) = self.slot(page)?;
        if !mark.know(slot, page) {
            return Ok(());
        }
        let is_there = !matches!(slot.state(index), PageState::Fresh | PageState::Absent);
        match was(page) {
            Was::Content(content) => mark.heat_up(page, &content),
            Was::Zeros => mark.hot.push((page, None)),
            Was::InSource if is_there && self.source.can_fetch(page) => {
                let mut content = [0; PAGE_SIZE];
                self.source.fetch(page, &mut content)?;
                mark.heat_up(page, &content);
            }
            Was::InSource => {
                mark.forget(slot, page);
                self.leave_to_source(page..page + 1)?;
            }
        }
        Ok(())
    }

    /// The contents of pages were dropped. They may have come from elsewhere since; those that were written are found by
    /// that.
    fn restore_dropped(
        &self,
        mark: &mut Mark,
        pages: impl Iterator<Item = u64>,
        was: &dyn Fn(u64) -> Was,
    ) -> Result<(), PageError> {
        let mut runs: Vec<(bool, Range<u64>)> = Vec::new();
        for page in pages {
            let (slot, index) = self.slot(page)?;
            if mark.knows(slot, page) {
                continue;
            }
            let from_source = match (was(page), slot.state(index)) {
                (Was::Content(_), _) => {
                    self.find_written(mark, page, was)?;
                    continue;
                }
                (Was::Zeros, PageState::Zero) => continue,
                (Was::Zeros, _) => false,
                (Was::InSource, _) => true,
            };
            match runs.last_mut() {
                Some((last, run)) if *last == from_source && run.end == page => run.end += 1,
                _ => runs.push((from_source, page..page + 1)),
            }
        }
        runs.into_iter().try_for_each(|(from_source, run)| match from_source {
            true => self.leave_to_source(run),
            false => self.make_zeros(run),
        })
    }

    /// Drops what pages hold, and has their source asked for them.
    fn leave_to_source(&self, pages: Range<u64>) -> Result<(), PageError> {
        self.renew(pages.clone())?;
        self.attach(pages)
    }

    /// Drops what pages hold, here and in the source: zeros.
    fn make_zeros(&self, pages: Range<u64>) -> Result<(), PageError> {
        self.reset(pages.clone())?;
        self.attach(pages)
    }

    fn copy_back(&self, page: u64, content: Option<&Page>) -> Result<(), PageError> {
        let (slot, index) = self.slot(page)?;
        let state = slot.state(index);
        if matches!(state, PageState::Fresh | PageState::Absent | PageState::Aside) {
            self.make_zeros(page..page + 1)?;
        }
        // Else the kernel has it, or fills it with zeros by itself.
        if state != PageState::Present && self.marking == Marking::Missing {
            self.bring_in(page)?;
        }
        slot.bytes(index, 0, PAGE_SIZE).copy_from(content.unwrap_or(&[0; PAGE_SIZE]));
        Ok(())
    }

    /// The first byte of a page that is not what it was; none also where the page is still left to its source.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn differs(&self, page: u64, was: Was) -> Result<Option<usize>, PageError> {
        let mut then = [0; PAGE_SIZE];
        match was {
            Was::Content(content) => then = *content,
            Was::Zeros => {}
            Was::InSource if self.is_absent(page) || !self.source.can_fetch(page) => return Ok(None),
            Was::InSource => {
                self.source.fetch(page, &mut then)?;
            }
        }
        let mut now = [0; PAGE_SIZE];
        self.peek(page, &mut now)?;
        Ok(now.iter().zip(&then).position(|(now, then)| now != then))
    }
}
