//! What writing a snapshot of a machine takes.

use dejavm_snapshot::{Content, ContentsError, PageContents};

use super::RunError;
use crate::ram::{PAGE_SIZE, PageError, Ram};

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The file could not be written.
    #[error(transparent)]
    Snapshot(#[from] dejavm_snapshot::Error),
    /// The machine could not be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// There is nothing to go on from.
    #[error("the program has ended: there is nothing to go on from")]
    Ended,
}

impl From<PageError> for SaveError {
    fn from(e: PageError) -> SaveError {
        SaveError::Run(e.into())
    }
}

/// The pages of RAM as the snapshot writer wants to see them.
pub(crate) struct RamContents<'a> {
    ram: &'a Ram,
    /// Pages of RAM.
    pages: u64,
    /// Pages of RAM that may hold something, ascending.
    present: Vec<u64>,
}

impl<'a> RamContents<'a> {
    /// The first `pages` pages of `ram`, but for those that the state says are in files alone.
    ///
    /// # Errors
    /// When the source cannot say what it has.
    pub fn new(
        ram: &'a Ram,
        pages: u64,
        in_files: impl Fn(u64) -> bool,
    ) -> Result<RamContents<'a>, PageError> {
        let mut present = ram.held(0..pages)?;
        present.retain(|page| !in_files(*page));
        Ok(RamContents { ram, pages, present })
    }
}

impl PageContents for RamContents<'_> {
    fn page_count(&self) -> u64 {
        self.pages
    }

    fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
        if self.present.binary_search(&page).is_err() {
            return Ok(Content::Zero);
        }
        self.ram.peek(page, out)?;
        Ok(Content::Data)
    }

    fn next_data(&mut self, from: u64) -> Option<u64> {
        let at = self.present.partition_point(|page| *page < from);
        self.present.get(at).copied()
    }
}
