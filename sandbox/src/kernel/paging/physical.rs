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
            let Some(next) = at.checked_add(part.len() as u64) else { return after.is_empty() };
            (at, rest) = (next, after);
        }
        true
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
