//! Bringing in more than the guest wants, and what is then left out: pages that the source lacks.

use crate::host::stop::{Pace, StopHandle};

use super::{Marking, PageError, PageState, Ram};

impl Ram {
    /// From now on many pages are only brought in as long as the run may go on.
    pub fn stop_by(&self, stop: StopHandle) {
        let _ = self.stop.set(stop);
    }

    /// Whether the run may go on: for who brings in many pages.
    ///
    /// # Errors
    /// When it was stopped, or its deadline has passed.
    pub fn look(&self) -> Result<(), PageError> {
        Ok(self.stop.get().map_or(Ok(()), StopHandle::check)?)
    }

    /// Brings in every page that is known to be absent, but those that the source lacks. Returns
    /// how many came.
    pub fn populate(&self) -> Result<u64, PageError> {
        self.bring_in_all(|page| self.source.can_fetch(page))
    }

    /// As [`Ram::populate`], with those that the source lacks: for a guest that wants one of them.
    /// The source says why it cannot be had.
    pub fn populate_all(&self) -> Result<u64, PageError> {
        self.bring_in_all(|_| true)
    }

    fn bring_in_all(&self, wanted: impl Fn(u64) -> bool) -> Result<u64, PageError> {
        self.make_all()?;
        let trap = *self.trap();
        let mut brought = 0;
        let mut pace = self.stop.get().map(Pace::new);
        for slot in self.slots.made() {
            for index in 0..slot.pages() {
                let page = slot.first + index;
                if let Some(pace) = &mut pace {
                    pace.step()?;
                }
                let comes = match slot.state(index) {
                    _ if trap == Some(page) => false,
                    PageState::Absent => wanted(page),
                    PageState::Aside => true,
                    _ => false,
                };
                if comes {
                    brought += self.bring_in(page)?.0;
                }
            }
        }
        Ok(brought)
    }

    /// Whether [`Ram::populate`] would bring anything in.
    pub fn lacks_any(&self) -> bool {
        if self.lacks_slots() {
            return true;
        }
        let trap = *self.trap();
        self.slots.made().any(|slot| {
            (0..slot.pages()).any(|index| match slot.state(index) {
                _ if trap == Some(slot.first + index) => false,
                PageState::Absent => self.source.can_fetch(slot.first + index),
                PageState::Aside => true,
                _ => false,
            })
        })
    }

    /// Whether a page is absent, and the source is asked for it when it is touched.
    pub fn is_absent(&self, page: u64) -> bool {
        let state = self.slots.of(page).map(|(slot, index)| slot.state(index));
        matches!(state, None | Some(PageState::Fresh | PageState::Absent))
    }

    /// Whether a page is absent and the source lacks it.
    pub fn is_withheld(&self, page: u64) -> bool {
        self.is_absent(page) && !self.source.can_fetch(page)
    }

    /// Whether a page is absent, and a touch of it by KVM would not be noticed: with
    /// [`Marking::Eager`], one that the source lacked when it was attached.
    pub fn is_unguarded(&self, page: u64) -> bool {
        self.marking == Marking::Eager
            && self.slots.of(page).is_some_and(|(slot, index)| slot.state(index) == PageState::Absent)
    }
}
