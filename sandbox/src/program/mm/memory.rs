//! The physical side of program memory: RAM, the system area, and chunks that are given out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Account;
use super::source::{FilePages, ProgramPages};
use crate::errno::Errno;
use crate::program::fs::{FsError, FsResult};
use crate::ram::{CHUNK_PAGES, PAGE_SIZE, PageError, PageState, Ram, SystemArea};

/// Which chunks of memory are taken. Part of the machine's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// Chunks that were ever taken: 0 to this.
    used: u32,
    /// Of those, the ones that were given back. Their pages are zeros.
    free: Vec<u32>,
}

impl Chunks {
    /// Chunks that were ever taken.
    pub fn used(&self) -> u32 {
        self.used
    }

    fn take(&mut self, limit: u32) -> Option<u32> {
        if let Some(chunk) = self.free.pop() {
            return Some(chunk);
        }
        (self.used < limit).then(|| {
            self.used += 1;
            self.used - 1
        })
    }

    /// The chunks that were given back.
    pub(super) fn free(&self) -> impl Iterator<Item = u32> {
        self.free.iter().copied()
    }
}

/// A shared object: pages that several mappings, or a file and a mapping, have in common.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Object {
    /// Bytes.
    pub len: u64,
    /// One chunk for each 2 MiB begun.
    pub chunks: Vec<u32>,
}

/// The part of [`Memory`] that a snapshot keeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MemoryState {
    /// The account of the sandbox's memory.
    pub account: Account,
    /// Chunks taken.
    pub chunks: Chunks,
    /// Shared objects by number.
    pub objects: BTreeMap<u64, Object>,
    /// How many objects without a file there were.
    pub next_object: u64,
    /// Pages of RAM that the snapshot holds; behind them are those of files that the guest wrote.
    pub stored_pages: u64,
    /// Pages that the snapshot lacks, ascending: the replay that it was made in did not have them,
    /// since the recorded guest never touched them. They still come from their files.
    pub withheld: Vec<FilePages>,
}

impl MemoryState {
    /// Whether there may be an object of this number: a file's, or one that was made.
    pub(super) fn may_have_object(&self, object: u64) -> bool {
        !is_anonymous_object(object) || object - ANONYMOUS_OBJECTS < self.next_object
    }

    /// Pages of RAM that a new snapshot must cover.
    pub fn used_pages(&self) -> u64 {
        u64::from(self.chunks.used()) * CHUNK_PAGES
    }
}

/// Physical memory of a program machine.
#[derive(Debug)]
pub struct Memory {
    /// Guest RAM.
    pub ram: Ram,
    /// Page tables and entry stubs.
    pub system: SystemArea,
    /// Where absent pages come from.
    pub pages: Arc<ProgramPages>,
    /// What is taken.
    pub state: MemoryState,
}

/// Objects from this number on belong to no file; below it, they have their inode's number.
const ANONYMOUS_OBJECTS: u64 = 1 << 63;

/// Whether an object belongs to no file.
pub fn is_anonymous_object(object: u64) -> bool {
    object >= ANONYMOUS_OBJECTS
}

/// First page of a chunk.
pub fn chunk_page(chunk: u32) -> u64 {
    u64::from(chunk) * CHUNK_PAGES
}

/// Bytes in a chunk.
pub const CHUNK_BYTES: u64 = CHUNK_PAGES * PAGE_SIZE as u64;

impl Memory {
    /// Takes a chunk of zeros.
    ///
    /// # Errors
    /// `None` inside when the machine has no more.
    pub fn take_chunk(&mut self) -> Option<u32> {
        let limit = u32::try_from(self.ram.pages() / CHUNK_PAGES).unwrap_or(u32::MAX);
        self.state.chunks.take(limit)
    }

    /// Gives a chunk back; what it held is dropped.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn free_chunk(&mut self, chunk: u32) -> Result<(), PageError> {
        let pages = chunk_page(chunk)..chunk_page(chunk) + CHUNK_PAGES;
        self.pages.unmap(pages.clone());
        self.ram.reset(pages)?;
        self.state.chunks.free.push(chunk);
        Ok(())
    }

    /// The pages of a range but those that still come from a file, as runs.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn own_runs(&self, pages: Range<u64>) -> Result<Vec<Range<u64>>, PageError> {
        let mut runs = Vec::new();
        let mut from = pages.start;
        for (page, state) in self.ram.contents(pages.clone())? {
            if matches!(state, PageState::Fresh | PageState::Absent) && self.pages.is_of_file(page) {
                runs.push(from..page);
                from = page + 1;
            }
        }
        runs.push(from..pages.end);
        runs.retain(|run| !run.is_empty());
        Ok(runs)
    }

    /// Makes an empty shared object.
    pub fn new_object(&mut self) -> u64 {
        let number = ANONYMOUS_OBJECTS + self.state.next_object;
        self.state.next_object += 1;
        self.state.objects.insert(number, Object::default());
        number
    }

    /// Changes the length of a shared object, making it if need be; new bytes are zeros.
    ///
    /// # Errors
    /// `ENOSPC` when memory is used up.
    pub fn resize_object(&mut self, object: u64, len: u64) -> FsResult<()> {
        let mut entry = self.state.objects.remove(&object).unwrap_or_default();
        let wanted = len.div_ceil(CHUNK_BYTES);
        let mut result = Ok(());
        while (entry.chunks.len() as u64) < wanted {
            match self.take_chunk() {
                Some(chunk) => entry.chunks.push(chunk),
                None => {
                    result = Err(FsError::Errno(Errno::ENOSPC));
                    break;
                }
            }
        }
        if result.is_ok() {
            if len < entry.len {
                self.zero_tail(&entry, len)?;
            }
            while entry.chunks.len() as u64 > wanted {
                if let Some(chunk) = entry.chunks.pop() {
                    self.free_chunk(chunk).map_err(machine)?;
                }
            }
            entry.len = len;
        }
        self.state.objects.insert(object, entry);
        result
    }

    /// Clears what lies behind the new end, so that it is zeros when the object grows again.
    fn zero_tail(&mut self, object: &Object, len: u64) -> FsResult<()> {
        let mut at = len;
        while at < object.len {
            let n = (PAGE_SIZE as u64 - at % PAGE_SIZE as u64).min(object.len - at);
            if let Some(gpa) = self.object_gpa(object, at) {
                if n == PAGE_SIZE as u64 {
                    let page = (gpa - self.ram.base()) / PAGE_SIZE as u64;
                    self.ram.reset(page..page + 1).map_err(machine)?;
                } else {
                    self.ram.fill(gpa, n as usize, 0).map_err(machine)?;
                }
            }
            at += n;
        }
        Ok(())
    }

    /// Frees a shared object.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn drop_object(&mut self, object: u64) -> Result<(), PageError> {
        if let Some(object) = self.state.objects.remove(&object) {
            for chunk in object.chunks {
                self.free_chunk(chunk)?;
            }
        }
        Ok(())
    }

    fn object_gpa(&self, object: &Object, offset: u64) -> Option<u64> {
        let chunk = *object.chunks.get(usize::try_from(offset / CHUNK_BYTES).ok()?)?;
        Some(self.ram.base() + chunk_page(chunk) * PAGE_SIZE as u64 + offset % CHUNK_BYTES)
    }

    /// The page of RAM at an offset of a shared object; `None` behind its end.
    pub fn object_page(&self, object: u64, offset: u64) -> Option<u64> {
        let object = self.state.objects.get(&object)?;
        if offset >= object.len {
            return None;
        }
        self.object_gpa(object, offset).map(|gpa| (gpa - self.ram.base()) / PAGE_SIZE as u64)
    }

    /// Splits an access to an object at chunk borders.
    fn object_pieces(&self, object: u64, offset: u64, len: usize) -> FsResult<Vec<(u64, Range<usize>)>> {
        let entry = self.state.objects.get(&object).ok_or(FsError::Errno(Errno::EIO))?;
        let mut pieces = Vec::new();
        let mut done = 0usize;
        while done < len {
            let at = offset + done as u64;
            let n = usize::try_from(CHUNK_BYTES - at % CHUNK_BYTES).unwrap_or(usize::MAX).min(len - done);
            let gpa = self.object_gpa(entry, at).ok_or(FsError::Errno(Errno::EIO))?;
            pieces.push((gpa, done..done + n));
            done += n;
        }
        Ok(pieces)
    }

    /// Reads bytes of a shared object.
    ///
    /// # Errors
    /// `EIO` behind its end.
    pub fn read_object(&self, object: u64, offset: u64, out: &mut [u8]) -> FsResult<()> {
        for (gpa, range) in self.object_pieces(object, offset, out.len())? {
            self.ram.read(gpa, &mut out[range]).map_err(machine)?;
        }
        Ok(())
    }

    /// Writes bytes of a shared object.
    ///
    /// # Errors
    /// `EIO` behind its end.
    pub fn write_object(&self, object: u64, offset: u64, data: &[u8]) -> FsResult<()> {
        for (gpa, range) in self.object_pieces(object, offset, data.len())? {
            self.ram.write(gpa, &data[range]).map_err(machine)?;
        }
        Ok(())
    }
}

fn machine(e: PageError) -> FsError {
    FsError::Machine(Box::new(e))
}
