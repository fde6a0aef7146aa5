//! Which pages are written: by the guest, of which KVM keeps a log, and by the monitor, of which it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_MEM_LOG_DIRTY_PAGES, kvm_enable_cap};

use super::slot::Slot;
use super::slots::slot_of;
use super::{PAGE_SIZE, PageError, Ram, system};

const PAGE: u64 = PAGE_SIZE as u64;

/// What was written since somebody wants to know.
#[derive(Debug, Default)]
pub(super) struct Written {
    on: AtomicBool,
    /// To read KVM's log does not empty it: for [`Ram::mark`].
    stays: AtomicBool,
    /// What KVM does not tell, or told already.
    noted: Mutex<BTreeSet<u64>>,
    /// Pages whose contents were dropped.
    dropped: Mutex<PageSet>,
    /// The last mark.
    moment: Mutex<Option<Arc<()>>>,
}

impl Written {
    /// Whether somebody wants to know.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// The flags of a memory slot.
    pub fn flags(&self) -> u32 {
        if self.is_on() { KVM_MEM_LOG_DIRTY_PAGES } else { 0 }
    }

    /// Notes a page, if somebody wants to know.
    pub fn note(&self, page: u64) {
        if self.is_on() {
            self.noted().insert(page);
        }
    }

    /// Notes pages whose contents are dropped, if somebody wants to know.
    pub fn note_dropped(&self, pages: Range<u64>) {
        if self.is_on() {
            self.dropped().add(pages);
        }
    }

    /// Pages that were noted since this was asked last, apart from those that KVM tells of: what was written, and what
    /// was dropped.
    pub fn take(&self) -> (BTreeSet<u64>, PageSet) {
        (std::mem::take(&mut *self.noted()), std::mem::take(&mut *self.dropped()))
    }

    /// Says which mark is the last, if there is one; gives whether there was one.
    pub fn set_moment(&self, moment: Option<Arc<()>>) -> bool {
        let mut last = self.moment.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *last, moment).is_some()
    }

    /// Whether a mark is the last one.
    pub fn is_moment(&self, moment: &Arc<()>) -> bool {
        let last = self.moment.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_some_and(|last| Arc::ptr_eq(last, moment))
    }

    fn noted(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dropped(&self) -> MutexGuard<'_, PageSet> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ram {
    /// Logs from now on which pages are written, or does so no more. Then the first write of the guest to a page since
    /// [`Ram::take_written`] costs a fault, some 2 µs. A mark ([`Ram::mark`]) is over. No vCPU may run meanwhile.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn log_written(&self, on: bool) -> Result<(), PageError> {
        // To whoever reads the log, a mark's notes are lost.
        let was_marked = self.written.set_moment(None);
        if self.written.is_on() == on && !was_marked {
            return Ok(());
        }
        self.set_log(on, false)
    }

    /// Begins a log, which to read empties unless it `stays`, or ends it.
    pub(super) fn set_log(&self, on: bool, stays: bool) -> Result<(), PageError> {
        if self.written.stays.swap(stays, Ordering::AcqRel) != stays {
            let mut manual =
                kvm_enable_cap { cap: KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, ..kvm_enable_cap::default() };
            manual.args[0] = stays.into();
            self.vm.enable_cap(&manual).map_err(kvm("a log of written pages that stays"))?;
        }
        let was_on = self.written.on.swap(on, Ordering::AcqRel);
        self.written.take();
        for slot in self.slots.made() {
            if was_on && on {
                // What is in the log goes with it.
                self.tell_slot(slot, 0)?;
            }
            self.tell_slot(slot, self.written.flags())?;
        }
        Ok(())
    }

    /// The pages that were written since the log was turned on, or since this was asked last. A page that came in
    /// is not written by that. No vCPU may run meanwhile.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn take_written(&self) -> Result<BTreeSet<u64>, PageError> {
        if self.written.is_on() {
            for slot in self.slots.made() {
                self.note_written(slot)?;
            }
        }
        let (mut written, dropped) = self.written.take();
        written.extend(dropped.pages());
        Ok(written)
    }

    /// Notes that the monitor writes to guest-physical memory.
    pub(super) fn note(&self, gpa: u64, len: usize) {
        if self.written.is_on() && len > 0 {
            let last = gpa.saturating_add(len as u64 - 1);
            for page in (gpa / PAGE..=last / PAGE).filter_map(|page| self.page_at(page * PAGE)) {
                self.written.note(page);
            }
        }
    }

    /// Notes what KVM's log of a slot has. From now on, the guest's writes there fault again.
    pub(super) fn note_written(&self, slot: &Slot) -> Result<(), PageError> {
        let log = self.log_of(slot)?;
        self.written.noted().extend(pages_in(slot.first, &log));
        if self.written.stays.load(Ordering::Acquire) {
            self.tell_slot(slot, 0)?;
            self.tell_slot(slot, self.written.flags())?;
        }
        Ok(())
    }

    /// KVM's log of a slot: a bit for each page, the first one lowest.
    pub(super) fn log_of(&self, slot: &Slot) -> Result<Vec<u64>, PageError> {
        let number = system::FIRST_RAM_SLOT + slot_of(slot.first).0 as u32;
        let bytes = slot.pages() as usize * PAGE_SIZE;
        self.vm.get_dirty_log(number, bytes).map_err(kvm("reading the log of written pages"))
    }
}

/// A set of pages, which takes as much as there are pages in memory at most, however often they are added.
#[derive(Debug, Default)]
pub(super) struct PageSet {
    /// By their number divided by 64, a bit for each.
    words: BTreeMap<u64, u64>,
}

impl PageSet {
    /// Adds pages.
    pub fn add(&mut self, pages: Range<u64>) {
        let mut next = pages.start;
        while next < pages.end {
            let (word, first) = (next / 64, next % 64);
            let count = (64 - first).min(pages.end - next);
            *self.words.entry(word).or_default() |= (u64::MAX >> (64 - count)) << first;
            next += count;
        }
    }

    /// All of them, ascending.
    pub fn pages(&self) -> impl Iterator<Item = u64> {
        self.words.iter().flat_map(|(word, bits)| pages_in(word * 64, std::slice::from_ref(bits)))
    }
}

/// The pages from `first` on whose bits are set.
pub(super) fn pages_in(first: u64, bits: &[u64]) -> impl Iterator<Item = u64> {
    (first..).step_by(64).zip(bits.iter().copied()).filter(|(_, bits)| *bits != 0).flat_map(
        |(first, mut bits)| {
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| u64::from(bits.trailing_zeros()))?;
                bits &= bits - 1;
                Some(first + bit)
            })
        },
    )
}

fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> PageError {
    move |error| PageError::Host { what, error: io::Error::from(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_pages() {
        let mut set = PageSet::default();
        set.add(3..3);
        assert_eq!(set.pages().count(), 0);
        for _ in 0..2 {
            set.add(60..200);
            set.add(100..130);
            set.add(1 << 40..(1 << 40) + 1);
        }
        assert!(set.pages().eq((60..200).chain([1 << 40])));
        assert_eq!(set.words.len(), 5);
    }
}
