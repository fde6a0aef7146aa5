//! Memory of a guest that has not run yet: what the loader put there, and zeros.

use std::ops::Range;

use vm_memory::mmap::FromRangesError;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::paging::Physical;
use crate::exit::SourceKind;
use crate::ram::{PAGE_SIZE, PageError, PageSource};

const PAGE: u64 = PAGE_SIZE as u64;

/// Guest-physical memory before the first instruction, from address 0: what the loader wrote, zeros
/// elsewhere.
///
/// As a [`PageSource`], page N is the one at guest-physical address N * 4096, so that a fresh guest
/// starts with every page absent, like a restored one. It costs the host only what was written.
#[derive(Debug)]
pub struct StagedMemory {
    memory: GuestMemoryMmap<()>,
    bytes: u64,
    /// Pages that may hold something: ascending, apart from one another.
    written: Vec<Range<u64>>,
}

/// Memory that cannot be had, or an access outside of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StagedError {
    /// A size that is none.
    #[error("a guest's memory of {bytes:#x} bytes: use a multiple of 4 KiB that is not 0")]
    Size {
        /// The size.
        bytes: u64,
    },
    /// The host refused it.
    #[error("the host has no room for {bytes:#x} bytes of guest memory: {error}")]
    Host {
        /// The size.
        bytes: u64,
        /// What it said.
        error: FromRangesError,
    },
    /// An access that does not lie in memory.
    #[error("{len:#x} bytes at guest-physical address {gpa:#x} are outside the guest's {bytes:#x} bytes")]
    Outside {
        /// The address.
        gpa: u64,
        /// Bytes of the access.
        len: u64,
        /// Bytes of memory.
        bytes: u64,
    },
}

impl StagedMemory {
    /// Memory of `bytes`, all zeros.
    ///
    /// # Errors
    /// [`StagedError::Size`] unless they are whole pages, and what the host says.
    pub fn new(bytes: u64) -> Result<StagedMemory, StagedError> {
        let len = usize::try_from(bytes).ok().filter(|len| *len > 0 && len.is_multiple_of(PAGE_SIZE));
        let len = len.ok_or(StagedError::Size { bytes })?;
        // Anonymous and not reserved: pages that nobody writes cost nothing.
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)])
            .map_err(|error| StagedError::Host { bytes, error })?;
        Ok(StagedMemory { memory, bytes, written: Vec::new() })
    }

    /// Bytes of memory.
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Writes `data` at the guest-physical address `gpa`.
    ///
    /// # Errors
    /// [`StagedError::Outside`]; nothing is written then.
    pub fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), StagedError> {
        self.mark(gpa, data.len() as u64)?;
        let outside = |_| self.outside(gpa, data.len() as u64);
        self.memory.write_slice(data, GuestAddress(gpa)).map_err(outside)
    }

    /// Reads from the guest-physical address `gpa`.
    ///
    /// # Errors
    /// [`StagedError::Outside`].
    pub fn read(&self, gpa: u64, out: &mut [u8]) -> Result<(), StagedError> {
        let len = out.len() as u64;
        self.check(gpa, len)?;
        self.memory.read_slice(out, GuestAddress(gpa)).map_err(|_| self.outside(gpa, len))
    }

    /// The pages that hold anything but zeros, ascending.
    pub fn held(&self) -> Vec<u64> {
        let written = self.written.iter().cloned().flatten();
        written.filter(|page| self.has_content(*page).unwrap_or(true)).collect()
    }

    /// The memory itself, for a loader that writes it. What it writes must be
    /// [marked](StagedMemory::mark).
    pub(super) fn memory(&self) -> &GuestMemoryMmap<()> {
        &self.memory
    }

    /// Says that `len` bytes at `gpa` may be more than zeros.
    pub(super) fn mark(&mut self, gpa: u64, len: u64) -> Result<(), StagedError> {
        let end = self.check(gpa, len)?;
        if len == 0 {
            return Ok(());
        }
        let mut new = gpa / PAGE..end.div_ceil(PAGE);
        // Those that it touches become one with it.
        let first = self.written.partition_point(|range| range.end < new.start);
        let last = self.written.partition_point(|range| range.start <= new.end);
        if let Some(touched) = self.written.get(first..last)
            && let (Some(a), Some(b)) = (touched.first(), touched.last())
        {
            new = new.start.min(a.start)..new.end.max(b.end);
        }
        self.written.splice(first..last, [new]);
        Ok(())
    }

    /// Where an access ends, if it lies in memory.
    fn check(&self, gpa: u64, len: u64) -> Result<u64, StagedError> {
        gpa.checked_add(len).filter(|end| *end <= self.bytes).ok_or_else(|| self.outside(gpa, len))
    }

    fn outside(&self, gpa: u64, len: u64) -> StagedError {
        StagedError::Outside { gpa, len, bytes: self.bytes }
    }

    fn was_written(&self, page: u64) -> bool {
        let after = self.written.partition_point(|range| range.end <= page);
        self.written.get(after).is_some_and(|range| range.contains(&page))
    }

    /// Reads whole pages from `first` on.
    fn pages(&self, first: u64, out: &mut [u8]) -> Result<(), PageError> {
        let outside = || PageError::Outside { page: first, pages: self.bytes / PAGE };
        let gpa = first.checked_mul(PAGE).ok_or_else(outside)?;
        self.read(gpa, out).map_err(|_| outside())
    }
}

impl Physical for StagedMemory {
    fn read(&self, gpa: u64, out: &mut [u8]) -> bool {
        if out.is_empty() {
            return gpa < self.bytes;
        }
        StagedMemory::read(self, gpa, out).is_ok()
    }
}

impl PageSource for StagedMemory {
    fn has_content(&self, page: u64) -> Result<bool, PageError> {
        if page >= self.bytes / PAGE {
            return Err(PageError::Outside { page, pages: self.bytes / PAGE });
        }
        // Others are not looked at: reading them would make the host map them.
        if !self.was_written(page) {
            return Ok(false);
        }
        let mut content = [0; PAGE_SIZE];
        self.pages(page, &mut content)?;
        Ok(content != [0; PAGE_SIZE])
    }

    fn comes_alone(&self, _page: u64) -> Result<bool, PageError> {
        Ok(true)
    }

    fn fetch(&self, first: u64, out: &mut [u8]) -> Result<SourceKind, PageError> {
        self.pages(first, out)?;
        Ok(SourceKind::File)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_shared<T: Send + Sync>(_: &T) {}

    #[test]
    fn holds_what_was_written() {
        let mut memory = StagedMemory::new(1 << 20).unwrap();
        is_shared(&memory);
        memory.write(0x1ffe, b"word").unwrap();
        memory.write(0x9000, &[0; 100]).unwrap();
        let have: Vec<u64> = (0..256).filter(|page| memory.has_content(*page).unwrap()).collect();
        assert_eq!(have, [1, 2]);
        let mut pages = [1; 2 * PAGE_SIZE];
        assert_eq!(memory.fetch(1, &mut pages).unwrap(), SourceKind::File);
        assert_eq!(&pages[0xffe..0x1002], b"word");
        assert!(pages[..0xffe].iter().chain(&pages[0x1002..]).all(|byte| *byte == 0));
        let mut read = [0; 4];
        memory.read(0x1ffe, &mut read).unwrap();
        assert_eq!(&read, b"word");
    }

    #[test]
    fn ranges_become_one() {
        let mut memory = StagedMemory::new(1 << 20).unwrap();
        for (gpa, len) in [(0x5000, 1), (0x1000, 0x1000), (0x9000, 1), (0x6fff, 2), (0, 0), (0x3000, 0x1001)]
        {
            memory.mark(gpa, len).unwrap();
        }
        assert_eq!(memory.written, [1..2, 3..8, 9..10]);
        memory.mark(0x1800, 0x8000).unwrap();
        assert_eq!(memory.written, std::slice::from_ref(&(1..10)));
        assert!(!memory.was_written(0) && memory.was_written(9) && !memory.was_written(10));
    }

    #[test]
    fn outside() {
        let mut memory = StagedMemory::new(8192).unwrap();
        assert_eq!(memory.len(), 8192);
        assert!(memory.write(8191, &[1, 2]).is_err());
        assert!(memory.write(u64::MAX, &[1]).is_err());
        assert!(memory.read(8192, &mut [0]).is_err());
        assert!(memory.read(8192, &mut []).is_ok());
        assert!(!memory.has_content(1).unwrap());
        assert!(matches!(memory.has_content(2), Err(PageError::Outside { page: 2, pages: 2 })));
        assert!(memory.has_content(u64::MAX).is_err());
        assert!(memory.fetch(1, &mut [0; 2 * PAGE_SIZE]).is_err());
        assert!(memory.fetch(u64::MAX, &mut [0; PAGE_SIZE]).is_err());
    }

    #[test]
    fn sizes() {
        assert!(matches!(StagedMemory::new(0), Err(StagedError::Size { bytes: 0 })));
        assert!(matches!(StagedMemory::new(4097), Err(StagedError::Size { .. })));
        assert!(matches!(StagedMemory::new(1 << 62), Err(StagedError::Host { .. })));
    }
}
