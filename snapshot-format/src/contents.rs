//! Where a writer gets its pages from.

use crate::limits::PAGE_SIZE;

/// The error a source of pages may give; reported as
/// [`Error::Contents`](crate::Error::Contents).
pub type ContentsError = Box<dyn std::error::Error + Send + Sync>;

/// What [`PageContents::page`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The page is all zeros; `out` was not necessarily written.
    Zero,
    /// The page's content is in `out`. It may be all zeros, or the same as in
    /// the parent: the writer finds out.
    Data,
    /// The page is the same as in the parent, where pages behind the last are
    /// zeros; `out` was not necessarily written. Only when there is a parent.
    Unchanged,
}

/// What the pages are that [`PageContents::next_data`] passes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hole {
    /// They are all zeros.
    Zero,
    /// They are the same as in the parent. Only when there is a parent.
    Unchanged,
}

/// A source of pages for [`write`](crate::write).
///
/// All methods are called on the thread that called `write`. Pages are read in
/// rising order. When a dictionary may be trained, some pages are read once
/// before, also in rising order; the content should not change meanwhile (the
/// second reading is what is stored).
pub trait PageContents {
    /// How many pages the image has; at most
    /// [`MAX_PAGES`](crate::MAX_PAGES).
    fn page_count(&self) -> u64;

    /// Gets a page. `page` is below [`Self::page_count`].
    ///
    /// # Errors
    ///
    /// Whatever keeps the source from giving the page; it ends the writing.
    fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError>;

    /// The first page at or after `from` that is not in a hole, or `None` if
    /// there is none. Lets a mostly empty image be passed over quickly. Must
    /// not go backwards; a result past the last page counts as `None`.
    fn next_data(&mut self, from: u64) -> Option<u64> {
        Some(from)
    }

    /// What the pages in holes are.
    fn hole(&self) -> Hole {
        Hole::Zero
    }
}

/// A memory image as plain bytes; a last part of a page is padded with zeros.
impl PageContents for &[u8] {
    fn page_count(&self) -> u64 {
        self.len().div_ceil(PAGE_SIZE) as u64
    }

    fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
        let start = usize::try_from(page)?.saturating_mul(PAGE_SIZE);
        let bytes = self.get(start..).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(PAGE_SIZE)];
        out[..bytes.len()].copy_from_slice(bytes);
        out[bytes.len()..].fill(0);
        Ok(Content::Data)
    }
}
