//! Guest-physical memory: the only code that holds host addresses of it.
//!
//! Memory starts absent. What a page holds before it is first touched is up to a [`PageSource`];
//! [`Ram::attach`] asks it about a range and puts markers on the pages that have content, and
//! [`Ram::bring_in`] replaces a marker by the content. The guest's touch of a marker makes
//! `KVM_RUN` return, which [`crate::fault`] turns into a call of `bring_in`; every access of the
//! monitor goes through [`Ram::read`] and [`Ram::write`], which bring in pages first. No pointer
//! or slice of guest memory leaves this module.
//!
//! All methods take `&self` and may be called from several vCPU threads at once: a page is
//! installed by one atomic `UFFDIO_COPY`, and the loser of a race finds it present. Only
//! [`Ram::evict`], [`Ram::reset`] and [`Ram::invalidate`] need the vCPUs to be stopped.

#![allow(unsafe_code)]

mod access;
mod aside;
mod evict;
mod fetch;
mod look;
mod mark;
mod populate;
mod readahead;
mod slot;
mod slots;
mod source;
mod system;
pub mod uffd;
mod written;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;

use crate::host::stop::StopHandle;
use aside::Aside;
pub use mark::{Mark, Page, Was};
use readahead::Readahead;
pub use slot::PageState;
use slot::Slot;
use slots::{Slots, slot_of};
pub(crate) use source::NOT_RECORDED;
use source::host;
pub use source::{MAX_CLUSTER, PageError, PageSource, Zeros};
pub use system::SystemArea;
use uffd::Uffd;
use written::Written;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;
/// Pages in a chunk: 2 MiB, what one page table maps and what physical memory is given out in.
pub const CHUNK_PAGES: u64 = 512;

/// How a page that is not there is made known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    /// By poison markers: a touch by the guest queues `SIGBUS` with the page's address to the vCPU
    /// thread; pages of zeros are left to the kernel.
    Poison,
    /// By being missing: a touch by the guest makes `KVM_RUN` fail with a bare `EFAULT`.
    Missing,
    /// Not at all: everything is brought in as soon as it is attached. What the source lacks must be
    /// kept out of the guest's reach ([`Ram::is_unguarded`]).
    Eager,
}

/// Counts of what was brought in. Pages unless said otherwise.
#[derive(Debug, Default)]
pub struct RamCounters {
    /// Pages installed with content.
    pub installed: AtomicU64,
    /// Calls that installed them.
    pub installs: AtomicU64,
    /// Markers placed.
    pub marked: AtomicU64,
    /// Memory slots given to KVM.
    pub slots: AtomicU64,
    /// Nanoseconds spent in sources: reading, decompressing, checking.
    pub fetch_ns: AtomicU64,
}

/// Guest-physical memory.
pub struct Ram {
    vm: Arc<VmFd>,
    base: u64,
    pages: u64,
    marking: Marking,
    uffd: Option<Uffd>,
    source: Arc<dyn PageSource>,
    slots: Slots,
    /// Held while a slot is made, so that KVM is told of it once.
    making: Mutex<()>,
    /// Held while pages leave the state [`PageState::Fresh`].
    attaching: Mutex<()>,
    aside: Mutex<Aside>,
    /// A buffer for contents of many pages, so that it need not be made anew each time.
    scratch: Mutex<Vec<u8>>,
    readahead: Option<Mutex<Readahead>>,
    /// A slot is attached as soon as it is made: see [`Ram::with_whole_slots`].
    whole_slots: bool,
    /// Which pages are written.
    written: Written,
    /// See [`Ram::set_trap`].
    trap: Mutex<Option<u64>>,
    counters: RamCounters,
    /// The order in which pages came, while somebody wants to know.
    order: Mutex<Option<Vec<u64>>>,
    /// What ends the bringing in of many pages.
    stop: OnceLock<StopHandle>,
}

impl std::fmt::Debug for Ram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ram")
            .field("base", &self.base)
            .field("pages", &self.pages)
            .field("marking", &self.marking)
            .finish_non_exhaustive()
    }
}

impl Ram {
    /// Memory of `pages` pages (rounded up to whole chunks) at guest-physical address `base`. No
    /// memory is taken and KVM is told of none until a page is attached or accessed.
    ///
    /// # Errors
    /// When the host lacks what `marking` needs.
    pub fn new(
        vm: Arc<VmFd>,
        base: u64,
        pages: u64,
        marking: Marking,
        source: Arc<dyn PageSource>,
    ) -> Result<Ram, PageError> {
        let pages = pages.next_multiple_of(CHUNK_PAGES);
        let features = match marking {
            Marking::Poison => Some(uffd::FEATURE_WP | uffd::FEATURE_POISON),
            Marking::Missing => Some(uffd::FEATURE_SIGBUS),
            Marking::Eager => None,
        };
        let uffd = features.map(Uffd::open).transpose().map_err(host("userfaultfd"))?;
        Ok(Ram {
            vm,
            base,
            pages,
            marking,
            uffd,
            source,
            slots: Slots::new(pages),
            making: Mutex::new(()),
            attaching: Mutex::new(()),
            aside: Mutex::default(),
            scratch: Mutex::default(),
            readahead: None,
            whole_slots: false,
            written: Written::default(),
            trap: Mutex::default(),
            counters: RamCounters::default(),
            order: Mutex::default(),
            stop: OnceLock::new(),
        })
    }

    /// Whether a guest that touches pages in a row gets some more of the row with each fault.
    /// Without this, each page that the source has by itself comes alone.
    #[must_use]
    pub fn with_readahead(mut self, readahead: bool) -> Ram {
        self.readahead = readahead.then(Mutex::default);
        self
    }

    /// Attaches all of a slot when the first of its pages is wanted, for guests that may touch any page
    /// at any time: until then KVM knows of no memory there, and a touch looks like that of a device. So
    /// the start of such a guest does not take longer when there is more memory.
    ///
    /// With [`Marking::Eager`], everything is brought in when it is attached, and nothing is gained. Nor
    /// may slots be made late where the CPU walks the guest's page tables by itself: a table must not look
    /// like a device.
    #[must_use]
    pub fn with_whole_slots(mut self) -> Ram {
        self.whole_slots = self.marking != Marking::Eager;
        self
    }

    /// See [`PageSource::run_begins`].
    pub fn run_begins(&self, cpus: usize) {
        self.source.run_begins(cpus);
    }

    /// Guest-physical address of page 0.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Pages of memory.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// How absent pages are marked.
    pub fn marking(&self) -> Marking {
        self.marking
    }

    /// What was brought in so far.
    pub fn counters(&self) -> &RamCounters {
        &self.counters
    }

    /// The page at a guest-physical address.
    pub fn page_at(&self, gpa: u64) -> Option<u64> {
        let page = gpa.checked_sub(self.base)? / PAGE_SIZE as u64;
        (page < self.pages).then_some(page)
    }

    /// The page at a host address, as a signal names it.
    pub fn page_at_host(&self, address: u64) -> Option<u64> {
        self.slots.made().find_map(|slot| slot.page_at_host(address))
    }

    /// Makes the slots that are not there yet, where that attaches them.
    fn make_all(&self) -> Result<(), PageError> {
        let mut page = 0;
        while self.whole_slots && page < self.pages {
            let (slot, _) = self.slot(page)?;
            page = slot.first + slot.pages();
        }
        Ok(())
    }

    /// Whether slots are yet to be made, where a guest may touch what is in them.
    fn lacks_slots(&self) -> bool {
        self.whole_slots && self.slots.lacks_any()
    }

    /// The slot of a page, and its index there; made known to KVM first if need be.
    fn slot(&self, page: u64) -> Result<(&Slot, u64), PageError> {
        if page >= self.pages {
            return Err(PageError::Outside { page, pages: self.pages });
        }
        if let Some(found) = self.slots.of(page) {
            return Ok(found);
        }
        let _making = self.making.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.slots.of(page).is_none() {
            let (number, first, pages) = slot_of(page);
            let slot = self.make_slot(first, pages.min(self.pages - first))?;
            if self.whole_slots {
                self.attach_in(&slot, 0..slot.pages())?;
            }
            // Nobody else makes it: `making` is held.
            self.slots.set(number, slot);
        }
        Ok(self.slots.of(page).expect("set just now"))
    }

    fn make_slot(&self, first: u64, pages: u64) -> Result<Slot, PageError> {
        let slot = Slot::map(first, pages)
            .map_err(|e| PageError::Host { what: "mapping a memory slot", error: io::Error::other(e) })?;
        let bytes = pages * PAGE_SIZE as u64;
        if let Some(uffd) = &self.uffd {
            match self.marking {
                Marking::Missing => uffd.register_missing(slot.host_address(), bytes),
                _ => uffd.register_markers(slot.host_address(), bytes),
            }
            .map_err(host("registering a memory slot"))?;
        }
        self.tell_slot(&slot, self.written.flags())?;
        self.counters.slots.fetch_add(1, Ordering::Relaxed);
        Ok(slot)
    }

    /// Makes a slot known to KVM, or changes its flags.
    fn tell_slot(&self, slot: &Slot, flags: u32) -> Result<(), PageError> {
        self.set_slot(slot, flags, slot.pages())
    }

    /// Lets KVM forget a slot.
    fn take_slot(&self, slot: &Slot) -> Result<(), PageError> {
        self.set_slot(slot, 0, 0)
    }

    fn set_slot(&self, slot: &Slot, flags: u32, pages: u64) -> Result<(), PageError> {
        let region = kvm_userspace_memory_region {
            slot: system::FIRST_RAM_SLOT + slot_of(slot.first).0 as u32,
            flags,
            guest_phys_addr: self.base + slot.first * PAGE_SIZE as u64,
            memory_size: pages * PAGE_SIZE as u64,
            userspace_addr: slot.host_address(),
        };
        // SAFETY: the mapping belongs to `slot`, which goes to or is in `self.slots` until `self` is
        // dropped; the machine drops its vCPUs before its RAM, so KVM runs no guest on it then.
        unsafe { self.vm.set_user_memory_region(region) }
            .map_err(|e| PageError::Host { what: "giving a memory slot to KVM", error: e.into() })
    }

    /// Makes KVM and the kernel ready for a touch of these pages: slots exist, and every page that
    /// has content in the source bears a marker (or is brought in, with [`Marking::Eager`]).
    pub fn attach(&self, pages: Range<u64>) -> Result<(), PageError> {
        let mut next = pages.start;
        while next < pages.end {
            let (slot, index) = self.slot(next)?;
            let end = pages.end.min(slot.first + slot.pages());
            self.attach_in(slot, index..end - slot.first)?;
            next = end;
        }
        Ok(())
    }

    fn attach_in(&self, slot: &Slot, indexes: Range<u64>) -> Result<(), PageError> {
        // Two vCPUs that attach the same pages must not both place markers.
        let _attaching = self.attaching.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut run: Option<(PageState, Range<u64>)> = None;
        let mut have_content = [false; CHUNK_PAGES as usize];
        let mut known = indexes.start..indexes.start;
        for index in indexes.clone() {
            if index == known.end {
                known = index..indexes.end.min(index + CHUNK_PAGES);
                let len = (known.end - known.start) as usize;
                self.source.have_content(slot.first + index, &mut have_content[..len])?;
            }
            let new = match slot.state(index) {
                PageState::Fresh => match have_content[(index - known.start) as usize] {
                    true => Some(PageState::Absent),
                    false => Some(PageState::Zero),
                },
                // Registered as missing, zeros must be filled in before they are touched.
                PageState::Zero if self.marking == Marking::Missing => Some(PageState::Zero),
                _ => None,
            };
            match (&mut run, new) {
                (Some((state, range)), Some(new)) if *state == new => range.end = index + 1,
                (_, new) => {
                    self.mark_run(slot, run.take())?;
                    run = new.map(|new| (new, index..index + 1));
                }
            }
        }
        self.mark_run(slot, run)
    }

    /// Puts a run of pages into a state that the source gave.
    fn mark_run(&self, slot: &Slot, run: Option<(PageState, Range<u64>)>) -> Result<(), PageError> {
        let Some((state, run)) = run else { return Ok(()) };
        let start = slot.host_address() + run.start * PAGE_SIZE as u64;
        let len = (run.end - run.start) * PAGE_SIZE as u64;
        let mut now = state;
        match (state, self.marking, &self.uffd) {
            (PageState::Absent, Marking::Poison, Some(uffd)) => {
                for index in [run.start, run.end - 1] {
                    slot.set_huge(index, false).map_err(host("refusing a huge page"))?;
                }
                uffd.poison(start, len).map_err(host("placing markers"))?;
                self.counters.marked.fetch_add(run.end - run.start, Ordering::Relaxed);
            }
            (PageState::Zero, Marking::Missing, Some(uffd)) => {
                uffd.zero(start, len).map_err(host("filling zeros"))?;
                now = PageState::Present;
            }
            _ => {}
        }
        for index in run.clone() {
            slot.set_state(index, now);
        }
        if state == PageState::Absent && self.marking == Marking::Eager {
            for page in run.map(|index| slot.first + index) {
                if self.source.can_fetch(page) {
                    self.bring_in(page)?;
                }
            }
        }
        Ok(())
    }

    /// Drops what pages hold, here and in the source: zeros from now on. Gives their memory back
    /// to the host, and makes KVM forget them.
    pub fn reset(&self, pages: Range<u64>) -> Result<(), PageError> {
        self.each_slot(pages, |slot, range| {
            slot.advise(range.start, range.end - range.start, libc::MADV_DONTNEED)
                .map_err(host("dropping pages"))?;
            self.written.note_dropped(slot.first + range.start..slot.first + range.end);
            let mut aside = self.aside();
            for index in range {
                slot.set_state(index, PageState::Zero);
                aside.drop_page(slot.first + index);
            }
            Ok(())
        })
    }

    /// Lets a chunk, whose first page this is, have a huge page of the host's: for memory that is sure to
    /// be used. Does nothing where a page of it has content in the source, or may get some: one page
    /// brought in would then be all of them.
    pub fn want_huge(&self, first: u64) -> Result<(), PageError> {
        if self.marking == Marking::Missing {
            return Ok(());
        }
        let (slot, index) = self.slot(first)?;
        let mut have_content = [false; CHUNK_PAGES as usize];
        self.source.have_content(first, &mut have_content)?;
        let plain = |index| matches!(slot.state(index), PageState::Fresh | PageState::Zero);
        if have_content.contains(&true) || !(index..index + CHUNK_PAGES).all(plain) {
            return Ok(());
        }
        slot.set_huge(index, true).map_err(host("asking for a huge page"))
    }

    /// Whether a chunk, whose first page this is, may have a huge page.
    pub fn is_huge(&self, first: u64) -> bool {
        self.slots.of(first).is_some_and(|(slot, index)| slot.is_huge(index))
    }

    /// Takes the huge page of a chunk away again, whose pages were dropped.
    pub fn refuse_huge(&self, first: u64) -> Result<(), PageError> {
        let (slot, index) = self.slot(first)?;
        slot.set_huge(index, false).map_err(host("refusing a huge page"))
    }

    /// Whether the host has memory for most of the pages of a range in one slot. For guesses only.
    pub fn is_mostly_there(&self, pages: Range<u64>) -> Result<bool, PageError> {
        let Some((slot, index)) = self.slots.of(pages.start) else { return Ok(false) };
        let len = pages.end - pages.start;
        let resident = slot.resident(index, len).map_err(host("residency of pages"))?;
        Ok(resident.into_iter().filter(|resident| *resident).count() as u64 * 2 > len)
    }

    /// Drops what pages hold here, so that the source is asked again: for pages whose meaning in
    /// the source has changed.
    pub fn renew(&self, pages: Range<u64>) -> Result<(), PageError> {
        self.reset(pages.clone())?;
        self.each_slot(pages, |slot, range| {
            for index in range {
                slot.set_state(index, PageState::Fresh);
            }
            Ok(())
        })
    }

    /// Makes KVM forget what it derived from these pages. Under shadow paging this is how a
    /// changed or removed page-table entry takes effect: see the notes in `program::mm`.
    pub fn invalidate(&self, pages: Range<u64>) -> Result<(), PageError> {
        self.each_slot(pages, |slot, range| {
            slot.invalidate(range.start, range.end - range.start).map_err(host("invalidating pages"))
        })
    }

    /// Makes KVM look at the guest's page tables again before the next write to any of these pages, and to
    /// others of their memory slots: for many pages whose entries do not allow writing any more. Turning on
    /// the log of written pages does that at a fraction of what [`Ram::invalidate`] costs, and what is read
    /// stays known. No vCPU may run meanwhile.
    pub fn forget_writable(&self, ranges: impl Iterator<Item = Range<u64>>) -> Result<(), PageError> {
        let slots: BTreeSet<u64> = ranges.map(|range| slot_of(range.start).1).collect();
        for first in slots {
            let Some((slot, _)) = self.slots.of(first) else { continue };
            if self.written.is_on() {
                // Reading the log has the same effect.
                self.note_written(slot)?;
                continue;
            }
            for flags in [KVM_MEM_LOG_DIRTY_PAGES, 0] {
                self.tell_slot(slot, flags)?;
            }
        }
        Ok(())
    }

    /// Cuts a range of pages at the slots' borders; slots that do not exist yet are made.
    fn each_slot(
        &self,
        pages: Range<u64>,
        mut act: impl FnMut(&Slot, Range<u64>) -> Result<(), PageError>,
    ) -> Result<(), PageError> {
        let mut next = pages.start;
        while next < pages.end {
            let (slot, index) = self.slot(next)?;
            let end = pages.end.min(slot.first + slot.pages());
            act(slot, index..end - slot.first)?;
            next = end;
        }
        Ok(())
    }

    fn order(&self) -> std::sync::MutexGuard<'_, Option<Vec<u64>>> {
        self.order.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps from now on the order in which pages with content come: the working set.
    pub fn record_order(&self) {
        *self.order() = Some(Vec::new());
    }

    /// The pages that came since [`Ram::record_order`], in order, each once.
    pub fn take_order(&self) -> Vec<u64> {
        let mut seen = std::collections::HashSet::new();
        self.order().take().unwrap_or_default().into_iter().filter(|page| seen.insert(*page)).collect()
    }
}
