//! Reading a guest's memory from outside.

use crate::ram::{PAGE_SIZE, PageError, Ram};

/// Why memory of a guest could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Nothing is mapped at this address, or the file that is has ended before it.
    #[error("nothing is mapped at {0:#x}")]
    Unmapped(u64),
    /// What the page at this address holds cannot be had.
    #[error("the page at {address:#x} cannot be had: {source}")]
    Page {
        /// The first address that could not be read.
        address: u64,
        /// Why.
        source: PageError,
    },
}

/// Reads memory page by page: `page_at` copies the page that an address lies in.
pub(crate) fn read_memory(
    address: u64,
    out: &mut [u8],
    mut page_at: impl FnMut(u64, &mut [u8; PAGE_SIZE]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut content = [0; PAGE_SIZE];
    let mut done = 0;
    while done < out.len() {
        let at = address.checked_add(done as u64).ok_or(ReadError::Unmapped(u64::MAX))?;
        let offset = at as usize % PAGE_SIZE;
        let n = (PAGE_SIZE - offset).min(out.len() - done);
        page_at(at, &mut content)?;
        out[done..done + n].copy_from_slice(&content[offset..offset + n]);
        done += n;
    }
    Ok(())
}

/// Copies the page of RAM behind an address as it is, here or in its source; zeros where none is in use. No
/// page is brought in, so that nothing changes for the guest.
pub(crate) fn peek(
    ram: &Ram,
    page: Option<u64>,
    address: u64,
    out: &mut [u8; PAGE_SIZE],
) -> Result<(), ReadError> {
    match page {
        Some(page) => ram.peek(page, out).map_err(|source| ReadError::Page { address, source }),
        None => {
            out.fill(0);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_that_cannot_be_read_is_named() {
        let page_at = |address: u64, out: &mut [u8; PAGE_SIZE]| {
            match address / PAGE_SIZE as u64 {
                1 => out.fill(7),
                2 | 0xf_ffff_ffff_ffff => out.fill(0),
                _ => return Err(ReadError::Unmapped(address)),
            }
            Ok(())
        };
        let mut out = [1; 4];
        read_memory(0x1ffe, &mut out, page_at).unwrap();
        assert_eq!(out, [7, 7, 0, 0]);
        let first = |address, len| match read_memory(address, &mut vec![0; len], page_at) {
            Err(ReadError::Unmapped(address)) => address,
            other => panic!("{other:?}"),
        };
        assert_eq!(first(0x1ffe, 0x2000), 0x3000);
        assert_eq!(first(0x10, 1), 0x10);
        assert_eq!(first(u64::MAX - 1, 4), u64::MAX);
        read_memory(0, &mut [], page_at).unwrap();
    }
}
