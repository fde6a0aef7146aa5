//! Where the pages of a program come from: mapped files, then the snapshot.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};

use super::patch::Sites;
use crate::exit::SourceKind;
use crate::program::fs::{ContentRef, FsResult};
use crate::program::outside::Contents;
use crate::ram::{NOT_RECORDED, PAGE_SIZE, PageError, PageSource};
use crate::world::BLOCK_SIZE;

/// Pages in one block of a file.
const BLOCK_PAGES: u64 = (BLOCK_SIZE / PAGE_SIZE) as u64;

#[derive(Clone, Debug, PartialEq, Eq)]
struct FileRange {
    end: u64,
    content: ContentRef,
    /// Offset in the file of the first page.
    offset: u64,
    /// It is code.
    exec: bool,
}

/// Pages of RAM that are a private copy of a file and that a snapshot does not hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FilePages {
    /// The first page.
    pub first: u64,
    /// Behind the last one.
    pub end: u64,
    /// The file's content.
    pub content: ContentRef,
    /// Offset in the file of the first page, a multiple of the page size.
    pub offset: u64,
    /// They are executable.
    pub exec: bool,
}

impl FilePages {
    /// Whether this can be: for a state out of a file. `from` and `to` bound the pages.
    pub fn is_valid(&self, from: u64, to: u64) -> bool {
        from <= self.first
            && self.first < self.end
            && self.end <= to
            && self.offset.is_multiple_of(PAGE_SIZE as u64)
            && self.offset < 1 << 62
    }
}

/// Which pages come from files at a moment.
#[derive(Clone, Debug)]
pub struct MappedFiles(BTreeMap<u64, FileRange>);

/// A program's pages.
pub struct ProgramPages {
    contents: Contents,
    /// What a snapshot or a checkpoint has of them.
    stored: Option<Arc<dyn PageSource>>,
    /// Ranges of pages that are private copies of files, by first page.
    files: RwLock<BTreeMap<u64, FileRange>>,
    /// Where files have code in which instructions are replaced.
    sites: Sites,
}

impl std::fmt::Debug for ProgramPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProgramPages").finish_non_exhaustive()
    }
}

impl ProgramPages {
    /// Pages that come from `stored`, if given, and from files that are mapped later on.
    pub fn new(contents: Contents, stored: Option<Arc<dyn PageSource>>) -> ProgramPages {
        ProgramPages { contents, stored, files: RwLock::default(), sites: Sites::default() }
    }

    /// Whether a page comes from a file, as far as it is absent.
    pub fn is_of_file(&self, page: u64) -> bool {
        self.file_of(page).is_some()
    }

    fn file_of(&self, page: u64) -> Option<(u64, FileRange)> {
        let files = self.files.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (first, range) = files.range(..=page).next_back()?;
        (page < range.end).then(|| (*first, range.clone()))
    }

    /// Reads the content of a file; zeros behind its end.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn read_content(&self, content: ContentRef, offset: u64, out: &mut [u8]) -> FsResult<()> {
        let n = self.contents.read_frozen(content, offset, out)?;
        out[n..].fill(0);
        Ok(())
    }

    /// As [`ProgramPages::read_content`], to look only: what a recording lacks is not asked for.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn peek_content(
        &self,
        content: ContentRef,
        offset: u64,
        out: &mut [u8; PAGE_SIZE],
    ) -> Result<(), PageError> {
        if !self.contents.has_frozen(content, offset) {
            return Err(PageError::File { page: 0, reason: NOT_RECORDED.into() });
        }
        self.read_content(content, offset, out).map_err(|e| e.for_page(0))
    }

    /// Says that pages are a private copy of a file from `offset` on, and whether they are
    /// executable. Pages of the range must not be in another one.
    pub fn map_file(&self, pages: Range<u64>, content: ContentRef, offset: u64, exec: bool) {
        let mut files = self.files.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        files.insert(pages.start, FileRange { end: pages.end, content, offset, exec });
    }

    /// The pages of a range that come from files, as far as they are absent, as runs.
    pub fn of_files(&self, pages: Range<u64>) -> Vec<Range<u64>> {
        let files = self.files.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let inside = files.range(..pages.end).rev().take_while(|(_, range)| range.end > pages.start);
        inside.map(|(first, range)| pages.start.max(*first)..pages.end.min(range.end)).collect()
    }

    /// Says that pages of files in a range are at as many pages from `to` on as well; gives where.
    pub fn copy_files(&self, pages: Range<u64>, to: u64) -> Vec<Range<u64>> {
        let mut files = self.files.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let inside: Vec<(u64, FileRange)> = files
            .range(..pages.end)
            .rev()
            .take_while(|(_, range)| range.end > pages.start)
            .map(|(first, range)| (*first, range.clone()))
            .collect();
        let copies = inside.into_iter().map(|(first, range)| {
            let (start, end) = (first.max(pages.start), range.end.min(pages.end));
            let offset = range.offset + (start - first) * PAGE_SIZE as u64;
            let at = to + (start - pages.start);
            files.insert(at, FileRange { end: at + (end - start), offset, ..range });
            at..at + (end - start)
        });
        copies.collect()
    }

    /// The pages of files that are wanted, as runs.
    pub fn runs_of_files(&self, is_wanted: impl Fn(u64) -> bool) -> Vec<FilePages> {
        // To ask the outside for each page takes other locks.
        let files: Vec<_> = {
            let files = self.files.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            files.iter().map(|(first, range)| (*first, range.clone())).collect()
        };
        let mut runs: Vec<FilePages> = Vec::new();
        for (first, range) in files {
            for page in (first..range.end).filter(|page| is_wanted(*page)) {
                let offset = range.offset + (page - first) * PAGE_SIZE as u64;
                match runs.last_mut() {
                    Some(run) if run.end == page && run.first >= first => run.end += 1,
                    _ => runs.push(FilePages {
                        first: page,
                        end: page + 1,
                        content: range.content,
                        offset,
                        exec: range.exec,
                    }),
                }
            }
        }
        runs
    }

    /// Which pages come from files now.
    pub fn mapped(&self) -> MappedFiles {
        MappedFiles(self.files.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }

    /// The same pages come from files as did then. Other contents than were `there` then are gone.
    pub fn return_to(&self, then: &MappedFiles, there: impl Fn(ContentRef) -> bool) {
        self.sites.return_to(there);
        let mut files = self.files.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *files != then.0 {
            files.clone_from(&then.0);
        }
    }

    /// Forgets that pages of a range come from files.
    pub fn unmap(&self, pages: Range<u64>) {
        let mut files = self.files.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let touched: Vec<u64> = files
            .range(..pages.end)
            .rev()
            .take_while(|(_, range)| range.end > pages.start)
            .map(|(first, _)| *first)
            .collect();
        for first in touched {
            let Some(range) = files.remove(&first) else { continue };
            if first < pages.start {
                files.insert(first, FileRange { end: pages.start, ..range.clone() });
            }
            if range.end > pages.end {
                let offset = range.offset + (pages.end - first) * PAGE_SIZE as u64;
                files.insert(pages.end, FileRange { offset, ..range });
            }
        }
    }
}

impl PageSource for ProgramPages {
    fn has_content(&self, page: u64) -> Result<bool, PageError> {
        if self.file_of(page).is_some() {
            return Ok(true);
        }
        self.stored.as_ref().map_or(Ok(false), |s| s.has_content(page))
    }

    fn have_content(&self, first: u64, have: &mut [bool]) -> Result<(), PageError> {
        match &self.stored {
            Some(stored) => stored.have_content(first, have)?,
            None => have.fill(false),
        }
        let end = first + have.len() as u64;
        let files = self.files.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (start, range) in files.range(..end).rev().take_while(|(_, range)| range.end > first) {
            let file = first.max(*start) - first..end.min(range.end) - first;
            have[file.start as usize..file.end as usize].fill(true);
        }
        Ok(())
    }

    fn group_of(&self, page: u64) -> Result<Option<usize>, PageError> {
        match &self.stored {
            Some(stored) if self.file_of(page).is_none() => stored.group_of(page),
            _ => Ok(None),
        }
    }

    fn fetch_group(&self, group: usize, content: &mut Vec<u8>) -> Result<Vec<u64>, PageError> {
        let Some(stored) = &self.stored else { return Ok(Vec::new()) };
        let fetched = stored.fetch_group(group, content)?;
        // A file was mapped in the place of some, since: the snapshot's are out of date.
        let mut pages = Vec::with_capacity(fetched.len());
        for (i, page) in fetched.into_iter().enumerate().take(content.len() / PAGE_SIZE) {
            if !self.is_of_file(page) {
                content.copy_within(i * PAGE_SIZE..(i + 1) * PAGE_SIZE, pages.len() * PAGE_SIZE);
                pages.push(page);
            }
        }
        Ok(pages)
    }

    fn run_begins(&self, cpus: usize) {
        if let Some(stored) = &self.stored {
            stored.run_begins(cpus);
        }
    }

    fn comes_alone(&self, page: u64) -> Result<bool, PageError> {
        match &self.stored {
            Some(stored) if !self.is_of_file(page) => stored.comes_alone(page),
            _ => Ok(false),
        }
    }

    fn cluster(&self, page: u64) -> Range<u64> {
        let Some((first, range)) = self.file_of(page) else { return page..page + 1 };
        // The pages of the file's block that this page lies in.
        let file_page = range.offset / PAGE_SIZE as u64 + (page - first);
        let start = page - (file_page % BLOCK_PAGES).min(page - first);
        let end = page + (BLOCK_PAGES - file_page % BLOCK_PAGES);
        start..end.min(range.end)
    }

    fn can_fetch(&self, page: u64) -> bool {
        self.file_of(page).is_none_or(|(first, range)| {
            let offset = range.offset + (page - first) * PAGE_SIZE as u64;
            self.contents.has_frozen(range.content, offset)
        })
    }

    fn fetch(&self, first: u64, out: &mut [u8]) -> Result<SourceKind, PageError> {
        let Some((start, range)) = self.file_of(first) else {
            return match &self.stored {
                Some(stored) => stored.fetch(first, out),
                None => {
                    out.fill(0);
                    Ok(SourceKind::Zero)
                }
            };
        };
        let offset = range.offset + (first - start) * PAGE_SIZE as u64;
        let read = self.contents.read_frozen(range.content, offset, out).map_err(|e| e.for_page(first))?;
        out[read..].fill(0);
        if range.exec {
            let replaced = self.sites.replace(&self.contents, range.content, offset, &mut out[..read]);
            replaced.map_err(|e| e.for_page(first))?;
        }
        Ok(SourceKind::File)
    }
}
