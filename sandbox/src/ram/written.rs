//! Which pages are written: by the guest, of which KVM keeps a log, and by the monitor, of which it does not.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_bindings::KVM_MEM_LOG_DIRTY_PAGES;

use super::slot::Slot;
use super::slots::slot_of;
use super::{PAGE_SIZE, PageError, Ram, system};

const PAGE: u64 = PAGE_SIZE as u64;

/// What was written since somebody wants to know.
#[derive(Debug, Default)]
pub(super) struct Written {
    on: AtomicBool,
    /// What KVM does not tell, or told already.
    noted: Mutex<BTreeSet<u64>>,
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

    fn noted(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ram {
    /// Logs from now on which pages are written, or does so no more. Then the first write of the guest to a page since
    /// [`Ram::take_written`] costs a fault, some 2 µs. No vCPU may run meanwhile.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn log_written(&self, on: bool) -> Result<(), PageError> {
        if self.written.is_on() == on {
            return Ok(());
        }
        self.written.on.store(on, Ordering::Release);
        self.written.noted().clear();
        for slot in self.slots.made() {
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
        Ok(std::mem::take(&mut *self.written.noted()))
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
        let number = system::FIRST_RAM_SLOT + slot_of(slot.first).0 as u32;
        let bytes = slot.pages() as usize * PAGE_SIZE;
        let log = self
            .vm
            .get_dirty_log(number, bytes)
            .map_err(|e| PageError::Host { what: "reading the log of written pages", error: e.into() })?;
        let mut noted = self.written.noted();
        for (word, mut bits) in (0..).zip(log) {
            while bits != 0 {
                noted.insert(slot.first + word * 64 + u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
            }
        }
        Ok(())
    }
}
