//! One memory slot: a piece of guest-physical memory with its host mapping and the state of each
//! of its pages.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use vm_memory::mmap::{MmapRegion, MmapRegionError};
use vm_memory::{VolatileMemory, VolatileSlice};

use super::{CHUNK_PAGES, PAGE_SIZE};

/// Bytes in a chunk, which are those of a huge page.
const CHUNK_BYTES: usize = CHUNK_PAGES as usize * PAGE_SIZE;

/// What is known of one page.
///
/// ```text
///            attach: source has content            install
///   Fresh ────────────────────────────► Absent ───────────► Present
///     │                                                      ▲   │
///     │ attach: source has zeros                      install│   │evict
///     └───────────────► Zero ── touched by the guest ─┐      │   ▼
///                        ▲       (kernel's zero fill) └──► (stays Zero)   Aside
///                        └── reset (unmap): contents dropped ── any
/// ```
/// `Zero` pages may be resident or not: the kernel fills them by itself, and a touch of one by the
/// monitor is as harmless as by the guest (with markers; where memory is registered as missing
/// they are filled before anything touches them, and become `Present`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageState {
    /// Nobody asked the source yet. No marker.
    Fresh = 0,
    /// Zeros until written; no marker.
    Zero = 1,
    /// Content in the source; a marker stands in its place.
    Absent = 2,
    /// Evicted: content set aside; a marker stands in its place.
    Aside = 3,
    /// Content in memory.
    Present = 4,
}

impl PageState {
    fn from_u8(raw: u8) -> PageState {
        match raw {
            1 => PageState::Zero,
            2 => PageState::Absent,
            3 => PageState::Aside,
            4 => PageState::Present,
            _ => PageState::Fresh,
        }
    }
}

/// A slot.
#[derive(Debug)]
pub(super) struct Slot {
    /// First page of RAM in it.
    pub first: u64,
    region: MmapRegion,
    /// Offset in the mapping of the first page: the host has huge pages only where both addresses are
    /// multiples of their size.
    start: usize,
    states: Box<[AtomicU8]>,
    /// Chunks that may have a huge page.
    huge: Box<[AtomicBool]>,
}

impl Slot {
    /// Maps `pages` pages of anonymous memory. Huge pages are refused until they are asked for: one
    /// installed page would let KVM map its absent neighbours.
    pub fn map(first: u64, pages: u64) -> Result<Slot, MmapRegionError> {
        let region = MmapRegion::build(
            None,
            pages as usize * PAGE_SIZE + CHUNK_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        )?;
        let start = (region.as_ptr() as usize).next_multiple_of(CHUNK_BYTES) - region.as_ptr() as usize;
        let states = (0..pages).map(|_| AtomicU8::new(0)).collect();
        let huge = (0..pages.div_ceil(CHUNK_PAGES)).map(|_| AtomicBool::new(false)).collect();
        let slot = Slot { first, region, start, states, huge };
        match slot.advise(0, pages, libc::MADV_NOHUGEPAGE) {
            // A kernel without huge pages says so, and needs no advice.
            Err(e) if e.raw_os_error() != Some(libc::EINVAL) => return Err(MmapRegionError::Mmap(e)),
            _ => {}
        }
        slot.advise(0, pages, libc::MADV_DONTFORK).map_err(MmapRegionError::Mmap)?;
        Ok(slot)
    }

    /// Pages in the slot.
    pub fn pages(&self) -> u64 {
        self.states.len() as u64
    }

    /// Host address of the slot's first byte; for ioctls only.
    pub fn host_address(&self) -> u64 {
        self.region.as_ptr() as u64 + self.start as u64
    }

    fn at(&self, index: u64) -> *mut u8 {
        self.region.as_ptr().wrapping_add(self.start + index as usize * PAGE_SIZE)
    }

    /// The page at a host address, if it lies in this slot.
    pub fn page_at_host(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.host_address())?;
        let index = offset / PAGE_SIZE as u64;
        (index < self.pages()).then_some(self.first + index)
    }

    /// The state of page `index` of the slot.
    pub fn state(&self, index: u64) -> PageState {
        PageState::from_u8(self.states[index as usize].load(Ordering::Acquire))
    }

    /// Sets the state of page `index` of the slot.
    pub fn set_state(&self, index: u64, state: PageState) {
        self.states[index as usize].store(state as u8, Ordering::Release);
    }

    /// The bytes of page `index` of the slot from `offset` on. Volatile, since the guest may be
    /// writing; only for pages that are not behind a marker.
    pub fn bytes(&self, index: u64, offset: usize, len: usize) -> VolatileSlice<'_> {
        debug_assert!(offset + len <= PAGE_SIZE);
        self.region
            .get_slice(self.start + index as usize * PAGE_SIZE + offset, len)
            .expect("a page of the slot lies in the slot's mapping")
    }

    /// `madvise` on pages of the slot.
    pub fn advise(&self, index: u64, pages: u64, advice: libc::c_int) -> io::Result<()> {
        assert!(index.checked_add(pages).is_some_and(|end| end <= self.pages()));
        // SAFETY: the range lies in our own anonymous mapping (checked above), of which no
        // reference exists: all access is by volatile copies.
        let code = unsafe { libc::madvise(self.at(index).cast(), pages as usize * PAGE_SIZE, advice) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Makes KVM drop what it derived from these pages (shadow page-table entries and cached
    /// translations), by taking access away and giving it back: the kernel's MMU notifier zaps
    /// them on the way.
    pub fn invalidate(&self, index: u64, pages: u64) -> io::Result<()> {
        assert!(index.checked_add(pages).is_some_and(|end| end <= self.pages()));
        for protection in [libc::PROT_NONE, libc::PROT_READ | libc::PROT_WRITE] {
            // SAFETY: as in `advise`; between the two calls nobody touches the range, since the
            // vCPUs that may are stopped while page tables change, and the monitor's accesses are
            // made by the same thread.
            let code =
                unsafe { libc::mprotect(self.at(index).cast(), pages as usize * PAGE_SIZE, protection) };
            if code < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Whether the chunk of a page may have a huge page.
    pub fn is_huge(&self, index: u64) -> bool {
        self.huge[(index / CHUNK_PAGES) as usize].load(Ordering::Acquire)
    }

    /// Lets the chunk of a page have a huge page, or no more. Where the host has none, nothing happens.
    pub fn set_huge(&self, index: u64, huge: bool) -> io::Result<()> {
        if self.is_huge(index) == huge {
            return Ok(());
        }
        let first = index / CHUNK_PAGES * CHUNK_PAGES;
        let pages = CHUNK_PAGES.min(self.pages() - first);
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        match self.advise(first, pages, advice) {
            // No huge pages, or the process has too many mappings.
            Err(e) if huge && matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOMEM)) => return Ok(()),
            result => result?,
        }
        self.huge[(index / CHUNK_PAGES) as usize].store(huge, Ordering::Release);
        Ok(())
    }

    /// Which pages the kernel has memory for; one entry a page.
    pub fn resident(&self, index: u64, pages: u64) -> io::Result<Vec<bool>> {
        assert!(index.checked_add(pages).is_some_and(|end| end <= self.pages()));
        let mut out = vec![0u8; pages as usize];
        // SAFETY: the range lies in our mapping (checked above) and `out` has a byte for each page.
        let code =
            unsafe { libc::mincore(self.at(index).cast(), pages as usize * PAGE_SIZE, out.as_mut_ptr()) };
        if code < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(out.iter().map(|b| b & 1 != 0).collect())
    }
}
