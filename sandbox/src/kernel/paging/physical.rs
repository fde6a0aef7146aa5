//! Guest-physical memory as a reader of page tables sees it.

use crate::ram::{PAGE_SIZE, Ram};

/// Guest-physical memory: bytes from address 0 up to some end.
pub trait Physical {
    /// Reads memory; whether that brings pages in is up to the implementor. Returns false where
    /// there is no memory, or what it holds cannot be had; `out` may be overwritten then. An empty
    /// read asks whether there is memory at an address, and costs little.
    fn read(&self, gpa: u64, out: &mut [u8]) -> bool;
}

/// The memory of a guest, read without bringing pages in. For RAM from address 0 up, as bare-metal
/// guests have it.
///
/// A page that cannot be had (a damaged snapshot) looks like none at all: whoever needs its content
/// meets the error.
#[derive(Clone, Copy, Debug)]
pub struct RamView<'a>(pub &'a Ram);

impl Physical for RamView<'_> {
    fn read(&self, gpa: u64, out: &mut [u8]) -> bool {
        if out.is_empty() {
            return self.0.page_at(gpa).is_some();
        }
        let mut at = gpa;
        let mut rest = out;
        while !rest.is_empty() {
            let Some(page) = self.0.page_at(at) else { return false };
            let offset = at.wrapping_sub(self.0.base()) as usize % PAGE_SIZE;
            let (part, after) = rest.split_at_mut(rest.len().min(PAGE_SIZE - offset));
            let read = match <&mut [u8; PAGE_SIZE]>::try_from(&mut *part) {
                Ok(whole) => self.0.peek(page, whole),
                Err(_) => {
                    let mut content = [0u8; PAGE_SIZE];
                    let read = self.0.peek(page, &mut content);
                    part.copy_from_slice(&content[offset..offset + part.len()]);
                    read
                }
            };
            if read.is_err() {
                return false;
            }
            // Wrapped around, it would lead on at address 0: but no memory reaches up to the end.
            (at, rest) = (at.wrapping_add(part.len() as u64), after);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::exit::SourceKind;
    use crate::host::open_kvm;
    use crate::ram::{Marking, PageError, PageSource};

    /// Pages that hold their numbers; page 3 is damaged.
    struct Numbers;

    impl PageSource for Numbers {
        fn has_content(&self, page: u64) -> Result<bool, PageError> {
            Ok(page > 0)
        }

        fn fetch(&self, first: u64, out: &mut [u8]) -> Result<SourceKind, PageError> {
            if first == 3 {
                return Err(PageError::Outside { page: 3, pages: 3 });
            }
            out.fill(first as u8);
            Ok(SourceKind::Snapshot)
        }
    }

    #[test]
    fn absent_memory_stays_absent() {
        let vm = Arc::new(open_kvm().unwrap().create_vm().unwrap());
        let ram = Ram::new(vm, 0, 1024, Marking::Eager, Arc::new(Numbers)).unwrap();
        ram.write(0x5fff, &[0xaa, 0xbb]).unwrap();
        let view = RamView(&ram);
        let read = |gpa, len| {
            let mut out = vec![0xee; len];
            view.read(gpa, &mut out).then_some(out)
        };
        assert_eq!(read(0xffe, 4), Some(vec![0, 0, 1, 1]));
        assert_eq!(read(0x5ffe, 4), Some(vec![5, 0xaa, 0xbb, 6]));
        assert_eq!(read(0x1000, 2 * PAGE_SIZE), Some([[1; PAGE_SIZE], [2; PAGE_SIZE]].concat()));
        assert_eq!(read(0x2ffe, 4), None, "damaged");
        assert_eq!(read(0x3f_fffe, 2), Some(vec![0xff, 0xff]));
        for outside in [0x3f_fffe, 0x40_0000, u64::MAX - 3, u64::MAX - 1] {
            assert_eq!(read(outside, 4), None);
        }
        assert_eq!(
            [0, 0x3fff, 0x3f_ffff, 0x40_0000, u64::MAX].map(|gpa| view.read(gpa, &mut [])),
            [true, true, true, false, false]
        );
        assert!([1, 2, 4].into_iter().all(|page| !ram.is_there(page)));
        assert!([5, 6].into_iter().all(|page| ram.is_there(page)));
    }
}

/// Made-up memory.
#[cfg(test)]
pub(in crate::kernel) mod testing {
    use std::cell::Cell;

    use super::Physical;
    use crate::ram::PAGE_SIZE;

    /// Bytes from address 0 up, that count how often they are read.
    pub struct Flat {
        pub bytes: Vec<u8>,
        pub reads: Cell<u64>,
    }

    impl Flat {
        pub fn new(pages: usize) -> Flat {
            Flat { bytes: vec![0; pages * PAGE_SIZE], reads: Cell::new(0) }
        }

        pub fn set(&mut self, gpa: u64, bytes: &[u8]) {
            self.bytes[gpa as usize..][..bytes.len()].copy_from_slice(bytes);
        }

        /// Sets an 8-byte entry of a table.
        pub fn entry(&mut self, table: u64, index: u64, value: u64) {
            self.set(table + index * 8, &value.to_le_bytes());
        }

        /// Sets a 4-byte entry of a table.
        pub fn entry_32(&mut self, table: u64, index: u64, value: u32) {
            self.set(table + index * 4, &value.to_le_bytes());
        }

        pub fn page(&self, page: u64) -> &[u8; PAGE_SIZE] {
            self.bytes[page as usize * PAGE_SIZE..][..PAGE_SIZE].try_into().unwrap()
        }
    }

    impl Physical for Flat {
        fn read(&self, gpa: u64, out: &mut [u8]) -> bool {
            if out.is_empty() {
                return gpa < self.bytes.len() as u64;
            }
            self.reads.set(self.reads.get() + 1);
            let bytes = usize::try_from(gpa).ok().and_then(|at| self.bytes.get(at..)?.get(..out.len()));
            bytes.map(|bytes| out.copy_from_slice(bytes)).is_some()
        }
    }
}
