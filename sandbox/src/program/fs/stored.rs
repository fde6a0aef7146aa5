//! The overlay's blocks in a snapshot: which of its pages they are, and reading them there.
//!
//! A snapshot holds blocks as pages behind those of guest memory, so that they are compressed,
//! checked and shared between layers as all pages are. The state says which pages a block is; a
//! restored sandbox reads them when they are wanted, and keeps a block only once it writes to it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::Fs;
use super::check::Inconsistent;
use super::chunks::Chunk;
use super::error::{FsError, FsResult, fail};
use crate::errno::Errno;
use crate::ram::{PAGE_SIZE, PageError, PageSource};

/// The pages of the snapshot that blocks are in, if there is one.
#[derive(Clone, Default)]
pub(super) struct Source(Option<Arc<dyn PageSource>>);

impl Source {
    /// Reads bytes from a page on.
    pub fn read(&self, first: u64, start: usize, out: &mut [u8]) -> FsResult<()> {
        // Blocks that there is nothing to read from are refused with the state.
        let Some(source) = &self.0 else { return fail(Errno::EIO) };
        let mut page = [0; PAGE_SIZE];
        let mut done = 0;
        while done < out.len() {
            let at = start + done;
            let from = at % PAGE_SIZE;
            let n = (out.len() - done).min(PAGE_SIZE - from);
            let number = first.saturating_add((at / PAGE_SIZE) as u64);
            source.fetch(number, &mut page).map_err(|e| FsError::Machine(Box::new(e)))?;
            out[done..done + n].copy_from_slice(&page[from..from + n]);
            done += n;
        }
        Ok(())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a snapshot" } else { "no snapshot" })
    }
}

/// The overlay's blocks with the pages that they take in a new snapshot.
#[derive(Debug)]
pub struct StoredBlocks {
    /// The blocks as they are now, ascending by page.
    blocks: Vec<(Range<u64>, Chunk)>,
    source: Source,
}

impl StoredBlocks {
    /// Page numbers in use end here; `None` where there are no blocks.
    pub fn end(&self) -> Option<u64> {
        self.blocks.last().map(|(pages, _)| pages.end)
    }

    /// The first page from `from` on that belongs to a block.
    pub fn next_page(&self, from: u64) -> Option<u64> {
        let at = self.blocks.partition_point(|(pages, _)| pages.end <= from);
        self.blocks.get(at).map(|(pages, _)| pages.start.max(from))
    }

    /// Reads a page; zeros where it belongs to no block.
    ///
    /// # Errors
    /// When the snapshot that the block is in cannot be read.
    pub fn read(&self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<(), PageError> {
        let at = self.blocks.partition_point(|(pages, _)| pages.end <= page);
        let mut n = 0;
        if let Some((pages, chunk)) = self.blocks.get(at)
            && pages.contains(&page)
        {
            let start = (page - pages.start) as usize * PAGE_SIZE;
            n = chunk.read(&self.source, start, out).map_err(|e| e.for_page(page))?;
        }
        out[n..].fill(0);
        Ok(())
    }
}

impl FsError {
    /// Why content of a file could not be had for a page.
    pub fn for_page(self, page: u64) -> PageError {
        let reason = match self {
            FsError::World(e) => return PageError::World(e),
            FsError::Machine(e) => match e.downcast::<PageError>() {
                Ok(e) => return *e,
                Err(e) => e.to_string(),
            },
            other => other.to_string(),
        };
        PageError::File { page, reason }
    }
}

impl Fs {
    /// Says where the pages are that the overlay's blocks are in.
    pub fn connect(&mut self, source: Option<Arc<dyn PageSource>>) {
        self.chunks.source = Source(source);
        self.kept.source = self.chunks.source.clone();
    }

    /// Checks that the blocks that were decoded lie in these pages of the snapshot, each in its own, and
    /// the content of host files too.
    ///
    /// # Errors
    /// When they do not.
    pub fn check_stored(&self, pages: Range<u64>) -> Result<(), Inconsistent> {
        self.kept.check(&pages)?;
        self.chunks.check_stored(pages)
    }

    /// Gives each block its pages in a new snapshot, from page `from` on. A block keeps the pages
    /// that it has in the snapshot that it came from where guest memory has not grown over them, so
    /// that a layer need not store it again.
    ///
    /// Only for a copy that is to be encoded: the pages are not those to read blocks from.
    pub fn place(&mut self, from: u64) -> StoredBlocks {
        StoredBlocks { blocks: self.chunks.place(from), source: self.chunks.source.clone() }
    }
}
