//! The monitor's own accesses: each brings its pages in first.

use std::io;
use std::ops::Range;

use vm_memory::Bytes;

use super::{PAGE_SIZE, PageError, PageState, Ram};

impl Ram {
    /// Calls `access` for each page of a range of guest-physical memory, present, with the offset
    /// of its bytes in the range.
    fn pages_of(
        &self,
        gpa: u64,
        len: usize,
        mut access: impl FnMut(vm_memory::VolatileSlice<'_>, Range<usize>) -> Result<(), PageError>,
    ) -> Result<(), PageError> {
        let mut done = 0usize;
        while done < len {
            let address = gpa.checked_add(done as u64);
            let page = address.and_then(|a| self.page_at(a)).ok_or(PageError::Outside {
                page: (gpa + done as u64) / PAGE_SIZE as u64,
                pages: self.pages,
            })?;
            let offset = ((gpa + done as u64) % PAGE_SIZE as u64) as usize;
            let n = (len - done).min(PAGE_SIZE - offset);
            let (slot, index) = self.slot(page)?;
            if slot.state(index) != PageState::Present {
                self.bring_in(page)?;
            }
            access(slot.bytes(index, offset, n), done..done + n)?;
            done += n;
        }
        Ok(())
    }

    /// Reads guest-physical memory, bringing pages in first.
    pub fn read(&self, gpa: u64, out: &mut [u8]) -> Result<(), PageError> {
        let len = out.len();
        self.pages_of(gpa, len, |bytes, range| {
            bytes.copy_to(&mut out[range]);
            Ok(())
        })
    }

    /// Writes guest-physical memory, bringing pages in first.
    pub fn write(&self, gpa: u64, data: &[u8]) -> Result<(), PageError> {
        self.note(gpa, data.len());
        self.pages_of(gpa, data.len(), |bytes, range| {
            bytes.copy_from(&data[range]);
            Ok(())
        })
    }

    /// Fills guest-physical memory with one byte, bringing pages in first.
    pub fn fill(&self, gpa: u64, len: usize, byte: u8) -> Result<(), PageError> {
        self.note(gpa, len);
        self.pages_of(gpa, len, |bytes, range| {
            bytes
                .write_slice(&[byte; PAGE_SIZE][..range.len()], 0)
                .map_err(|e| PageError::Host { what: "filling memory", error: io::Error::other(e) })
        })
    }
}
