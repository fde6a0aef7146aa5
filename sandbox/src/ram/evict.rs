//! Making pages absent again, their contents set aside: for fault injection, and for the one page whose
//! touch must be noticed.

use super::slot::Slot;
use super::source::host;
use super::uffd::Uffd;
use super::{Marking, PAGE_SIZE, PageError, PageState, Ram};

impl Ram {
    /// Makes present pages absent again, their contents set aside: fault injection. `choose` picks
    /// among the pages of content in memory. Returns how many went.
    pub fn evict(&self, mut choose: impl FnMut(u64) -> bool) -> Result<u64, PageError> {
        let Some(uffd) = &self.uffd else { return Ok(0) };
        let mut evicted = 0;
        for slot in self.slots.made() {
            let resident = slot.resident(0, slot.pages()).map_err(host("residency of pages"))?;
            for (index, resident) in resident.into_iter().enumerate() {
                let index = index as u64;
                let there = matches!(slot.state(index), PageState::Present | PageState::Zero);
                if !(resident && there && choose(slot.first + index)) {
                    continue;
                }
                self.set_aside(slot, index, uffd)?;
                evicted += 1;
            }
        }
        Ok(evicted)
    }

    /// Makes a page that is there absent, its content set aside.
    fn set_aside(&self, slot: &Slot, index: u64, uffd: &Uffd) -> Result<(), PageError> {
        let mut content = Box::new([0u8; PAGE_SIZE]);
        slot.bytes(index, 0, PAGE_SIZE).copy_to(&mut content[..]);
        self.aside().put(slot.first + index, content);
        slot.set_huge(index, false).map_err(host("refusing a huge page"))?;
        slot.advise(index, 1, libc::MADV_DONTNEED).map_err(host("evicting a page"))?;
        if self.marking == Marking::Poison {
            let start = slot.host_address() + index * PAGE_SIZE as u64;
            uffd.poison(start, PAGE_SIZE as u64).map_err(host("placing markers"))?;
        }
        slot.set_state(index, PageState::Aside);
        Ok(())
    }

    /// Makes one page absent, whatever it holds, so that a touch of it is noticed; the one that was so
    /// before becomes a page like any other. Until it is touched, or somebody brings it in, it does not
    /// count as lacking. With [`Marking::Eager`] nothing can be absent, and this does nothing.
    pub fn set_trap(&self, page: u64) -> Result<(), PageError> {
        let Some(uffd) = &self.uffd else { return Ok(()) };
        let (slot, index) = self.slot(page)?;
        if slot.state(index) == PageState::Fresh {
            self.attach_in(slot, index..index + 1)?;
        }
        if matches!(slot.state(index), PageState::Present | PageState::Zero) {
            self.set_aside(slot, index, uffd)?;
        }
        *self.trap() = Some(page);
        Ok(())
    }

    pub(super) fn trap(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.trap.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
