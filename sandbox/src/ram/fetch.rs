//! Bringing pages in: from the source, a page, a run or a group at a time, or from aside.

use std::sync::atomic::Ordering;

use super::readahead::MAX_AHEAD;
use super::slot::Slot;
use super::source::{MAX_CLUSTER, host};
use super::{Aside, Marking, PAGE_SIZE, PageError, PageState, Ram};
use crate::exit::SourceKind;
use crate::host::thread::monotonic_ns;

impl Ram {
    /// Brings a page in, with its cluster. Returns how many pages came and from where; 0 where it
    /// was there already, which is no progress for whoever wanted it.
    ///
    /// # Errors
    /// [`PageError`]; the page stays absent.
    pub fn bring_in(&self, page: u64) -> Result<(u64, SourceKind), PageError> {
        let (slot, index) = self.slot(page)?;
        self.trap().take_if(|trap| *trap == page);
        loop {
            match slot.state(index) {
                PageState::Present => return Ok((0, SourceKind::Zero)),
                PageState::Zero => {
                    if let (Marking::Missing, Some(uffd)) = (self.marking, &self.uffd) {
                        let start = slot.host_address() + index * PAGE_SIZE as u64;
                        uffd.zero(start, PAGE_SIZE as u64).map_err(host("filling zeros"))?;
                        slot.set_state(index, PageState::Present);
                        return Ok((1, SourceKind::Zero));
                    }
                    return Ok((0, SourceKind::Zero));
                }
                PageState::Fresh => self.attach_in(slot, index..index + 1)?,
                PageState::Aside => return self.bring_back(slot, index),
                PageState::Absent => return self.bring_cluster(slot, index),
            }
        }
    }

    fn bring_back(&self, slot: &Slot, index: u64) -> Result<(u64, SourceKind), PageError> {
        let content = self.aside().take(slot.first + index);
        // Another vCPU may have been first; then the page is present by now.
        if let Some(content) = content {
            self.install(slot, index, &content[..])?;
        }
        Ok((1, SourceKind::Aside))
    }

    pub(super) fn aside(&self) -> std::sync::MutexGuard<'_, Aside> {
        self.aside.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn scratch(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn bring_cluster(&self, slot: &Slot, index: u64) -> Result<(u64, SourceKind), PageError> {
        if let Some(group) = self.source.group_of(slot.first + index)? {
            let asked = monotonic_ns();
            let mut content = std::mem::take(&mut *self.scratch());
            let pages = self.source.fetch_group(group, &mut content)?;
            self.counters.fetch_ns.fetch_add(monotonic_ns() - asked, Ordering::Relaxed);
            // Not pages that nobody attached: another vCPU may be placing their markers.
            let brought = self.install_those(&pages, &content, |state| state == PageState::Absent)?;
            *self.scratch() = content;
            // None, if another vCPU was first.
            return Ok((brought.max(1), SourceKind::Snapshot));
        }
        let cluster = self.source.cluster(slot.first + index);
        let absent = |i: u64| i < slot.pages() && slot.state(i) == PageState::Absent;
        // The longest run of absent pages around the wanted one, inside the cluster.
        let mut run = index..index + 1;
        while run.start > 0 && slot.first + run.start > cluster.start && absent(run.start - 1) {
            run.start -= 1;
        }
        while slot.first + run.end < cluster.end && run.end - run.start < MAX_CLUSTER && absent(run.end) {
            run.end += 1;
        }
        if run == (index..index + 1) && self.source.comes_alone(slot.first + index)? {
            let more = self.wanted_next(slot.first + index);
            while run.end - index < more
                && absent(run.end)
                && self.source.comes_alone(slot.first + run.end)?
            {
                run.end += 1;
            }
        }
        // Without allocation, since some pages come while this thread cannot read a clock.
        match run.end - run.start {
            1 => self.fetch_run(slot, run.start, &mut [0; PAGE_SIZE]),
            pages @ 2..=MAX_AHEAD => {
                let mut few = [0; MAX_AHEAD as usize * PAGE_SIZE];
                self.fetch_run(slot, run.start, &mut few[..pages as usize * PAGE_SIZE])
            }
            pages => {
                let mut content = std::mem::take(&mut *self.scratch());
                content.resize(pages as usize * PAGE_SIZE, 0);
                let fetched = self.fetch_run(slot, run.start, &mut content);
                *self.scratch() = content;
                fetched
            }
        }
    }

    fn fetch_run(&self, slot: &Slot, first: u64, buffer: &mut [u8]) -> Result<(u64, SourceKind), PageError> {
        let asked = monotonic_ns();
        let kind = self.source.fetch(slot.first + first, buffer)?;
        self.counters.fetch_ns.fetch_add(monotonic_ns() - asked, Ordering::Relaxed);
        self.install(slot, first, buffer)?;
        Ok(((buffer.len() / PAGE_SIZE) as u64, kind))
    }

    /// How many pages to bring in for a touch of this one.
    fn wanted_next(&self, page: u64) -> u64 {
        match &self.readahead {
            Some(readahead) => {
                readahead.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pages_for(page)
            }
            None => 1,
        }
    }

    /// Puts content in the place of markers. Pages that are present by now keep what they hold.
    fn install(&self, slot: &Slot, first: u64, content: &[u8]) -> Result<(), PageError> {
        let pages = (content.len() / PAGE_SIZE) as u64;
        match &self.uffd {
            Some(uffd) => {
                let mut done = 0;
                while done < content.len() {
                    let start = slot.host_address() + first * PAGE_SIZE as u64 + done as u64;
                    done += uffd.copy(start, &content[done..]).map_err(host("installing a page"))?;
                    if done < content.len() {
                        // The page at `done` is present: leave it, and go on behind it.
                        done += PAGE_SIZE;
                    }
                }
            }
            None => {
                for (i, page) in content.chunks_exact(PAGE_SIZE).enumerate() {
                    slot.bytes(first + i as u64, 0, PAGE_SIZE).copy_from(page);
                }
            }
        }
        for index in first..first + pages {
            slot.set_state(index, PageState::Present);
        }
        if let Some(order) = self.order().as_mut() {
            order.extend(slot.first + first..slot.first + first + pages);
        }
        self.counters.installed.fetch_add(pages, Ordering::Relaxed);
        self.counters.installs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives pages the content that an earlier run is known to want, before it is wanted. Pages
    /// that are there already are left alone; returns how many were not.
    pub fn prefetch(&self, pages: &[u64], content: &[u8]) -> Result<u64, PageError> {
        self.install_those(pages, content, |state| matches!(state, PageState::Fresh | PageState::Absent))
    }

    /// Installs those of the pages whose state is right, neighbours together. Returns how many.
    fn install_those(
        &self,
        pages: &[u64],
        content: &[u8],
        right: impl Fn(PageState) -> bool,
    ) -> Result<u64, PageError> {
        let mut brought = 0;
        let mut i = 0;
        while i < pages.len() {
            let (slot, index) = self.slot(pages[i])?;
            let mut n = 0u64;
            while i + (n as usize) < pages.len()
                && pages[i + n as usize] == pages[i] + n
                && index + n < slot.pages()
                && right(slot.state(index + n))
            {
                n += 1;
            }
            if n == 0 {
                i += 1;
                continue;
            }
            let bytes = content
                .get(i * PAGE_SIZE..(i + n as usize) * PAGE_SIZE)
                .ok_or(PageError::Outside { page: pages[i], pages: self.pages })?;
            self.install(slot, index, bytes)?;
            brought += n;
            i += n as usize;
        }
        Ok(brought)
    }
}
