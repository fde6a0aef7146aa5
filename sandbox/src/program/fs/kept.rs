//! Content of the host's files in a snapshot, so that the host need not have them where it is restored.
//!
//! A snapshot names the host's files that its guest knows, with what tells that they are unchanged. One
//! that is made to be restored elsewhere also holds their bytes, each file's as a row of pages behind
//! those of the overlay's blocks. Reads of such a file ask the snapshot in place of the host; all else is
//! as before, what the guest pays included.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Fs;
use super::cache::{Cached, HostBlocks};
use super::check::{Inconsistent, expect};
use super::content::MAX_FILE;
use super::error::{FsError, FsResult};
use super::inode::Lower;
use super::stored::Source;
use crate::program::outside::Contents;
use crate::ram::{PAGE_SIZE, PageError};
use crate::world::{BLOCK_SIZE, HostPath, World};

/// Pages between the guest's and the first file, so that the next snapshot can have the files in the same
/// place when the guest has grown: a layer holds what is in another.
const GAP: u64 = 1024;

const BLOCK_PAGES: u64 = (BLOCK_SIZE / PAGE_SIZE) as u64;

/// The files whose content the snapshot has that this sandbox came from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct KeptFiles {
    files: BTreeMap<HostPath, KeptFile>,
    #[serde(skip)]
    pub source: Source,
}

/// Where a file's content is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct KeptFile {
    /// The page of the snapshot that it starts in.
    first: u64,
    /// Bytes of it.
    size: u64,
}

impl KeptFile {
    fn pages(&self) -> Range<u64> {
        self.first..self.first.saturating_add(self.size.div_ceil(PAGE_SIZE as u64))
    }
}

impl KeptFiles {
    /// Whether a file's content is there.
    pub fn has(&self, path: &HostPath) -> bool {
        self.files.contains_key(path)
    }

    /// A block of a file, if its content is there.
    pub fn block(&self, path: &HostPath, block: u64) -> FsResult<Option<Arc<[u8]>>> {
        let Some(file) = self.files.get(path) else { return Ok(None) };
        let start = block.saturating_mul(BLOCK_SIZE as u64);
        let len = file.size.saturating_sub(start).min(BLOCK_SIZE as u64) as usize;
        let mut bytes = vec![0; len];
        let first = file.first.saturating_add(block.saturating_mul(BLOCK_PAGES));
        self.source.read(first, 0, &mut bytes)?;
        Ok(Some(bytes.into()))
    }

    /// The places of all files, if they are all behind a page.
    fn places_from(&self, page: u64) -> BTreeMap<HostPath, KeptFile> {
        match self.files.values().all(|file| file.first >= page) {
            true => self.files.clone(),
            false => BTreeMap::new(),
        }
    }

    /// Checks what was decoded: content lies in these pages of the snapshot.
    pub fn check(&self, pages: &Range<u64>) -> Result<(), Inconsistent> {
        let KeptFiles { files, source: _ } = self;
        for file in files.values() {
            let KeptFile { first, size } = *file;
            let inside = first >= pages.start && file.pages().end <= pages.end;
            expect(size <= MAX_FILE && inside, "the pages of a host file's content")?;
        }
        Ok(())
    }
}

/// The host's files of a new snapshot, with the pages that they take in it.
#[derive(Debug)]
pub struct KeptContent {
    contents: Contents,
    /// Ascending by page.
    files: Vec<(Range<u64>, Lower, u64)>,
    /// The block that was read last.
    last: Option<(usize, u64, Arc<[u8]>)>,
}

impl KeptContent {
    /// Page numbers in use end here; `None` where there are no files.
    pub fn end(&self) -> Option<u64> {
        self.files.last().map(|(pages, ..)| pages.end)
    }

    /// The first page from `from` on that belongs to a file.
    pub fn next_page(&self, from: u64) -> Option<u64> {
        let at = self.files.partition_point(|(pages, ..)| pages.end <= from);
        self.files.get(at).map(|(pages, ..)| pages.start.max(from))
    }

    /// Reads a page; zeros where it belongs to no file.
    ///
    /// # Errors
    /// When the file is not what the guest knows, or cannot be read.
    pub fn read(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<(), PageError> {
        out.fill(0);
        let at = self.files.partition_point(|(pages, ..)| pages.end <= page);
        let Some((pages, lower, size)) = self.files.get(at).filter(|(pages, ..)| pages.contains(&page))
        else {
            return Ok(());
        };
        let (block, within) = ((page - pages.start) / BLOCK_PAGES, (page - pages.start) % BLOCK_PAGES);
        let bytes = match &self.last {
            Some((file, number, bytes)) if (*file, *number) == (at, block) => bytes.clone(),
            _ => self.contents.host_block(lower, *size, block).map_err(|e| e.for_page(page))?,
        };
        self.last = Some((at, block, bytes.clone()));
        let part = bytes.get(within as usize * PAGE_SIZE..).unwrap_or_default();
        let n = part.len().min(PAGE_SIZE);
        out[..n].copy_from_slice(&part[..n]);
        Ok(())
    }
}

impl Fs {
    /// A block of a host file of `size` bytes.
    ///
    /// # Errors
    /// When the file is not what the guest knows, or cannot be read.
    pub fn host_block(
        &mut self,
        world: &mut dyn World,
        file: &Lower,
        size: u64,
        block: u64,
    ) -> FsResult<Arc<[u8]>> {
        Cached { cache: &mut self.cache, kept: &self.kept, world }.block(file, size, block)
    }

    /// Whether [`Fs::host_block`] has an answer: see [`World::has_block`].
    pub fn has_host_block(&self, world: &dyn World, file: &Lower, block: u64) -> bool {
        self.kept.has(file.path()) || world.has_block(file.path(), block)
    }

    /// Gives up the host's blocks that are at hand: the outside is asked again for what is read of them.
    pub fn drop_blocks(&mut self) {
        self.cache.clear();
    }

    /// Takes the host for all content from now on.
    pub fn forget_kept(&mut self) {
        self.kept = KeptFiles::default();
    }

    /// Gives host files their pages in a new snapshot, from page `from` on: those whose content the
    /// snapshot had that this sandbox came from, in the same pages if the guest has not grown over them,
    /// and with `all` those that the guest knows and may read. What a replay lacks is left out.
    ///
    /// Only for a copy of the file system of these contents that is to be encoded: the pages are not those to read
    /// from.
    ///
    /// # Errors
    /// When a file is not what the guest knows.
    pub fn keep_files(&mut self, contents: &Contents, from: u64, all: bool) -> FsResult<KeptContent> {
        let known: BTreeMap<HostPath, (Lower, u64)> = self
            .known_lower()
            .map(|(lower, fingerprint, _)| (lower.path().clone(), (lower.clone(), fingerprint.size)))
            .filter(|(path, _)| all || self.kept.has(path))
            .collect();
        let places = self.kept.places_from(from);
        let mut next = places.values().map(|file| file.pages().end).max().unwrap_or(from.saturating_add(GAP));
        let mut files = Vec::new();
        let mut kept = BTreeMap::new();
        for (path, (lower, size)) in known {
            let blocks = size.div_ceil(BLOCK_SIZE as u64);
            if !(0..blocks).all(|block| contents.has_host_block(&lower, block)) {
                continue;
            }
            match contents.host_block(&lower, size, 0) {
                // The guest cannot read it either.
                Err(FsError::Errno(_)) => continue,
                read => read?,
            };
            let file = match places.get(&path) {
                Some(place) if place.size == size => *place,
                _ => {
                    let file = KeptFile { first: next, size };
                    next = file.pages().end;
                    file
                }
            };
            if !file.pages().is_empty() {
                files.push((file.pages(), lower, size));
            }
            kept.insert(path, file);
        }
        files.sort_unstable_by_key(|(pages, ..)| pages.start);
        self.kept = KeptFiles { files: kept, source: Source::default() };
        Ok(KeptContent { contents: contents.clone(), files, last: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_lies_in_the_pages_behind_memory() {
        let kept = |first, size| KeptFiles {
            files: BTreeMap::from([(HostPath { grant: 0, path: b"f".to_vec() }, KeptFile { first, size })]),
            source: Source::default(),
        };
        let page = PAGE_SIZE as u64;
        for (first, size) in [(10, 0), (10, 1), (10, 5 * page), (14, page), (15, 0)] {
            assert_eq!(kept(first, size).check(&(10..15)), Ok(()), "{first}, {size}");
        }
        for (first, size) in [(9, 1), (10, 5 * page + 1), (15, 1), (u64::MAX, 1), (10, u64::MAX), (0, 0)] {
            assert!(kept(first, size).check(&(10..15)).is_err(), "{first}, {size}");
        }
    }
}
