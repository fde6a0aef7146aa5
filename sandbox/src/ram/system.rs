//! Memory of the monitor's own in the guest: page tables, descriptor tables, entry stubs.
//!
//! It is never absent, since KVM reads it by itself (an absent page-table page would become a page
//! fault in the guest, an absent IDT a livelock), it is not part of a
//! snapshot, since it follows from the machine's state, and no guest can write it.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::mmap::MmapRegion;
use vm_memory::{Bytes, VolatileMemory};

use super::{PAGE_SIZE, PageError};

/// Pages in each piece, as the area grows: 256 KiB, 1 MiB, then 4 MiB each.
const PIECE_PAGES: [u64; 3] = [64, 256, 1024];
/// Guest-physical address where the area starts.
const BASE: u64 = 0;
/// Guest-physical address that it must stay below.
const LIMIT: u64 = 256 << 20;
/// `_IO(KVMIO, 0x44)` (`include/uapi/linux/kvm.h`).
const KVM_SET_NR_MMU_PAGES: libc::c_ulong = 0xae44;
/// KVM slot numbers below this one are the area's pieces.
pub(super) const FIRST_RAM_SLOT: u32 = 512;

/// The area.
#[derive(Debug)]
pub struct SystemArea {
    vm: Arc<VmFd>,
    pieces: Vec<(u64, MmapRegion)>,
    /// Guest-physical address of the next page to give out that never was.
    next: u64,
    /// Pages that were given back.
    free: Vec<u64>,
    /// Page tables that were given up, of which KVM may have shadows.
    retired: Vec<u64>,
}

impl SystemArea {
    /// An empty area at guest-physical address 0.
    pub fn new(vm: Arc<VmFd>) -> SystemArea {
        SystemArea { vm, pieces: Vec::new(), next: BASE, free: Vec::new(), retired: Vec::new() }
    }

    /// Takes a page of zeros and returns its guest-physical address.
    ///
    /// # Errors
    /// When the area's 256 MiB are used up, or the host refuses memory.
    pub fn take_page(&mut self) -> Result<u64, PageError> {
        if let Some(page) = self.free.pop() {
            self.clear(page);
            return Ok(page);
        }
        let end = self.pieces.last().map_or(BASE, |(base, piece)| base + piece.size() as u64);
        if self.next == end {
            self.grow(end)?;
        }
        let page = self.next;
        self.next += PAGE_SIZE as u64;
        Ok(page)
    }

    fn grow(&mut self, base: u64) -> Result<(), PageError> {
        let pages = PIECE_PAGES[self.pieces.len().min(PIECE_PAGES.len() - 1)];
        let bytes = pages as usize * PAGE_SIZE;
        if base + bytes as u64 > LIMIT {
            return Err(PageError::Host { what: "page tables", error: io::ErrorKind::OutOfMemory.into() });
        }
        let region = MmapRegion::build(
            None,
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        )
        .map_err(|e| PageError::Host { what: "mapping page tables", error: io::Error::other(e) })?;
        self.pieces.push((base, region));
        self.set_slot(self.pieces.len() - 1, true)
    }

    /// Makes a piece known to KVM, or lets KVM forget it.
    fn set_slot(&self, number: usize, known: bool) -> Result<(), PageError> {
        let (base, piece) = &self.pieces[number];
        let slot = kvm_userspace_memory_region {
            slot: number as u32,
            flags: 0,
            guest_phys_addr: *base,
            memory_size: if known { piece.size() as u64 } else { 0 },
            userspace_addr: piece.as_ptr() as u64,
        };
        // SAFETY: the mapping is kept in `self.pieces` until `self` is dropped, which the machine
        // does after its vCPUs.
        unsafe { self.vm.set_user_memory_region(slot) }
            .map_err(|e| PageError::Host { what: "giving page tables to KVM", error: e.into() })
    }

    /// Takes back pages that were page tables. KVM may have shadows of them, which live as long as their
    /// memory slot: so all slots are made anew. No vCPU may run meanwhile.
    ///
    /// # Errors
    /// When the host refuses: the machine cannot be run on then.
    pub fn recycle(&mut self, pages: Vec<u64>) -> Result<(), PageError> {
        for known in [false, true] {
            for number in 0..self.pieces.len() {
                self.set_slot(number, known)?;
            }
        }
        self.free.extend(pages);
        Ok(())
    }

    /// Takes back pages that were page tables, some time later: what [`SystemArea::recycle`] costs is then
    /// shared by many. No vCPU may run meanwhile, nor on these tables later.
    ///
    /// # Errors
    /// As [`SystemArea::recycle`].
    pub fn retire(&mut self, pages: Vec<u64>) -> Result<(), PageError> {
        /// Pages that wait at most: 2 MiB.
        const WAIT: usize = 512;
        self.retired.extend(pages);
        if self.retired.len() < WAIT {
            return Ok(());
        }
        let retired = std::mem::take(&mut self.retired);
        self.recycle(retired)
    }

    /// Sets how many shadow pages KVM may have. Its own measure is 2 % of the memory slots' pages, which
    /// are few for a young program: a program with many regions then has its shadows thrown away and made
    /// anew all the time. A KVM that needs no shadows does not look at it.
    pub fn set_shadow_pages(&self, pages: usize) {
        // SAFETY: the ioctl takes a number and no memory. That it fails does no harm.
        unsafe { libc::ioctl(self.vm.as_raw_fd(), KVM_SET_NR_MMU_PAGES, pages as libc::c_ulong) };
    }

    /// Makes a page zeros.
    ///
    /// # Panics
    /// As [`SystemArea::write`].
    pub fn clear(&self, page: u64) {
        self.write(page, &[0; PAGE_SIZE]);
    }

    fn at(&self, gpa: u64, len: usize) -> vm_memory::VolatileSlice<'_> {
        self.pieces
            .iter()
            .find_map(|(base, piece)| piece.get_slice(gpa.checked_sub(*base)? as usize, len).ok())
            .expect("the monitor names only pages that it took")
    }

    /// Writes bytes at a guest-physical address in a page that was taken.
    ///
    /// # Panics
    /// When the address was not taken: the monitor's own mistake, never a guest's.
    pub fn write(&self, gpa: u64, bytes: &[u8]) {
        self.at(gpa, bytes.len()).copy_from(bytes);
    }

    /// Reads bytes.
    ///
    /// # Panics
    /// As [`SystemArea::write`].
    pub fn read(&self, gpa: u64, out: &mut [u8]) {
        self.at(gpa, out.len()).copy_to(out);
    }

    /// Writes a 64-bit entry, in one store.
    ///
    /// # Panics
    /// As [`SystemArea::write`], or when the address is not aligned.
    pub fn write_u64(&self, gpa: u64, value: u64) {
        self.at(gpa, 8)
            .store(value, 0, std::sync::atomic::Ordering::Release)
            .expect("table entries are aligned");
    }

    /// Reads 64-bit entries, one after the other.
    ///
    /// # Panics
    /// As [`SystemArea::write`].
    pub fn read_entries(&self, gpa: u64, out: &mut [u64]) {
        self.at(gpa, out.len() * 8).copy_to(out);
    }

    /// Reads a 64-bit entry.
    ///
    /// # Panics
    /// As [`SystemArea::write_u64`].
    pub fn read_u64(&self, gpa: u64) -> u64 {
        self.at(gpa, 8).load(0, std::sync::atomic::Ordering::Acquire).expect("table entries are aligned")
    }
}
