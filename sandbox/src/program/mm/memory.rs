//! The physical side of program memory: RAM, the system area, and chunks that are given out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Account;
use super::lending::Lending;
use super::region::{BLOCK_BYTES, Blocks, Piece};
use super::source::{FilePages, ProgramPages};
use crate::errno::Errno;
use crate::host::stop::{Pace, StopHandle};
use crate::program::fs::{ContentRef, FsError, FsResult};
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Bytes.
    pub len: u64,
    /// The whole length is charged; if not, the blocks in use are.
    pub reserved: bool,
    /// The 2 MiB pieces in use, by number.
    pub pieces: BTreeMap<u64, Piece>,
    /// What shows where the object is not in use, if not zeros. Pages that come into use come from it.
    pub below: Option<Below>,
}

/// The content of a file that lies below an object. It is the object's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Below {
    /// The content.
    pub content: ContentRef,
    /// Bytes of it.
    pub len: u64,
}

/// What an object costs, besides its content: what the monitor keeps of it.
const OBJECT_BYTES: u64 = 1024;

impl Object {
    /// Bytes that it is charged with.
    pub fn cost(&self) -> u64 {
        let content = match self.reserved {
            true => self.len.next_multiple_of(PAGE_SIZE as u64),
            false => self.pieces.values().map(|piece| u64::from(piece.blocks.count()) * BLOCK_BYTES).sum(),
        };
        OBJECT_BYTES + content
    }

    /// Whether the numbers are consistent: for a state out of a file.
    pub fn is_valid(&self) -> bool {
        let fits = |piece: &u64| *piece < self.len.div_ceil(CHUNK_BYTES);
        let below = self.below.is_none_or(|below| !self.reserved && below.len <= self.len);
        below && self.len <= MAX_OBJECT && self.pieces.keys().all(fits)
    }

    /// Whether a content lies below it.
    pub fn is_above(&self, content: ContentRef) -> bool {
        self.below.is_some_and(|below| below.content == content)
    }

    /// What lies below an offset.
    fn below(&self, offset: u64) -> Option<ContentRef> {
        self.below.filter(|below| offset < below.len).map(|below| below.content)
    }

    /// The chunk and the page in it at an offset, where that is in use.
    fn place(&self, offset: u64) -> Option<u64> {
        let piece = self.pieces.get(&(offset / CHUNK_BYTES))?;
        let page = offset % CHUNK_BYTES / PAGE_SIZE as u64;
        (self.reserved || piece.blocks.has(page)).then(|| chunk_page(piece.chunk) + page)
    }

    /// The pages of RAM behind a part of the object, where it is in use: offset and pages of each run.
    fn runs(&self, part: Range<u64>) -> Vec<(u64, Range<u64>)> {
        let end = part.end.min(self.len.next_multiple_of(PAGE_SIZE as u64));
        if part.start >= end {
            return Vec::new();
        }
        let mut runs = Vec::new();
        for (number, piece) in self.pieces.range(part.start / CHUNK_BYTES..end.div_ceil(CHUNK_BYTES)) {
            let base = number * CHUNK_BYTES;
            let page = |offset: u64| (offset.max(base) - base).min(CHUNK_BYTES) / PAGE_SIZE as u64;
            let blocks = if self.reserved { Blocks::ALL } else { piece.blocks };
            for run in blocks.runs(page(part.start)..page(end)) {
                let first = chunk_page(piece.chunk);
                runs.push((base + run.start * PAGE_SIZE as u64, first + run.start..first + run.end));
            }
        }
        runs
    }
}

/// The longest object: what fits into the address space of a program.
const MAX_OBJECT: u64 = 1 << 47;

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
    /// Who sees the chunks that forks have left to several address spaces.
    pub lending: Lending,
    /// When the run must be over.
    pub stop: StopHandle,
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
        let chunk = self.state.chunks.take(limit);
        if chunk.is_none() {
            self.state.account.refuse();
        }
        chunk
    }

    /// Gives a chunk back; what it held is dropped.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn free_chunk(&mut self, chunk: u32) -> Result<(), PageError> {
        self.drop_pages(chunk_page(chunk)..chunk_page(chunk) + CHUNK_PAGES)?;
        self.give_back(chunk)
    }

    /// Gives a chunk back whose pages were dropped.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn give_back(&mut self, chunk: u32) -> Result<(), PageError> {
        if self.ram.is_huge(chunk_page(chunk)) {
            self.ram.refuse_huge(chunk_page(chunk))?;
        }
        self.state.chunks.free.push(chunk);
        Ok(())
    }

    /// Drops what private pages hold, and that they come from files: zeros from now on.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn drop_pages(&self, pages: Range<u64>) -> Result<(), PageError> {
        self.pages.unmap(pages.clone());
        self.ram.reset(pages)
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

    /// How many page tables the guest may have at once: beyond that, all are dropped, and the guest's
    /// faults build those that it uses. What they hold follows from the mappings.
    pub fn table_budget(&self) -> usize {
        /// For programs that use a little in many places.
        const SPARE: u64 = 1024;
        const MOST: u64 = 32 * 1024;
        (SPARE + self.state.account.limit() / CHUNK_BYTES * 2).min(MOST) as usize
    }

    /// For a loop whose length the guest decides.
    pub fn pace(&self) -> Pace<'_> {
        Pace::new(&self.stop)
    }

    /// Makes a shared object without a file. If it is `reserved`, its length is charged now, and touching
    /// it cannot fail; if not, what is touched is charged then.
    ///
    /// # Errors
    /// `ENOMEM` when memory is used up.
    pub fn new_object(&mut self, len: u64, reserved: bool) -> Result<u64, Errno> {
        let object = Object { len, reserved, ..Object::default() };
        if !object.is_valid() {
            return Err(Errno::ENOMEM);
        }
        self.state.account.charge(object.cost())?;
        let number = ANONYMOUS_OBJECTS + self.state.next_object;
        self.state.next_object += 1;
        self.state.objects.insert(number, object);
        Ok(number)
    }

    /// Changes the length of a shared object, making it if need be; new bytes are zeros.
    ///
    /// # Errors
    /// `ENOSPC` when memory is used up, `EFBIG`.
    pub fn resize_object(&mut self, object: u64, len: u64) -> FsResult<()> {
        if len > MAX_OBJECT {
            return Err(FsError::Errno(Errno::EFBIG));
        }
        if !self.state.objects.contains_key(&object) {
            self.state.account.charge(OBJECT_BYTES).map_err(|_| Errno::ENOSPC)?;
            self.state.objects.insert(object, Object::default());
        }
        let Some(entry) = self.state.objects.get_mut(&object) else { return Ok(()) };
        let (old, before) = (entry.len, entry.cost());
        entry.len = len;
        if let Some(below) = &mut entry.below {
            below.len = below.len.min(len);
        }
        if len >= old {
            let after = entry.cost();
            if self.state.account.charge(after - before).is_err() {
                entry.len = old;
                return Err(FsError::Errno(Errno::ENOSPC));
            }
            return Ok(());
        }
        let gone = entry.pieces.split_off(&len.div_ceil(CHUNK_BYTES));
        // What lies behind the end is zeros when the object grows again.
        let last = entry.place(len).filter(|_| !len.is_multiple_of(PAGE_SIZE as u64));
        // One that comes from below still has zeros there.
        if let Some(page) = last.filter(|page| !self.comes_from_file(*page)) {
            let at = len % PAGE_SIZE as u64;
            let gpa = self.ram.base() + page * PAGE_SIZE as u64 + at;
            self.ram.fill(gpa, PAGE_SIZE - at as usize, 0).map_err(machine)?;
        }
        self.drop_tail(object, len).map_err(machine)?;
        for piece in gone.into_values() {
            self.free_chunk(piece.chunk).map_err(machine)?;
        }
        let after = self.state.objects.get(&object).map_or(0, Object::cost);
        self.state.account.refund(before.saturating_sub(after));
        Ok(())
    }

    /// Drops the pages behind the end in an object's last piece.
    fn drop_tail(&mut self, object: u64, len: u64) -> Result<(), PageError> {
        let Some(entry) = self.state.objects.get_mut(&object) else { return Ok(()) };
        let Some(piece) = entry.pieces.get_mut(&(len / CHUNK_BYTES)) else { return Ok(()) };
        let pages = (len % CHUNK_BYTES).div_ceil(PAGE_SIZE as u64)..CHUNK_PAGES;
        piece.blocks = piece.blocks.but(Blocks::inside(&pages));
        let first = chunk_page(piece.chunk);
        self.drop_pages(first + pages.start..first + pages.end)
    }

    /// Gives back the memory of a range of a shared object that is zeros, and that no page table points to.
    /// What is charged by the object's length stays.
    ///
    /// # Errors
    /// When the host refuses.
    pub(super) fn unuse_object(&mut self, object: u64, range: Range<u64>) -> Result<(), PageError> {
        let Some(entry) = self.state.objects.get_mut(&object).filter(|entry| !entry.reserved) else {
            return Ok(());
        };
        // The last block may reach beyond the end.
        let end = if range.end < entry.len { range.end } else { entry.len.next_multiple_of(CHUNK_BYTES) };
        let before = entry.cost();
        let mut empty = Vec::new();
        for (number, piece) in entry.pieces.range_mut(range.start / CHUNK_BYTES..end.div_ceil(CHUNK_BYTES)) {
            let base = number * CHUNK_BYTES;
            let first = range.start.saturating_sub(base).div_ceil(PAGE_SIZE as u64);
            let pages = first..(end - base).min(CHUNK_BYTES) / PAGE_SIZE as u64;
            piece.blocks = piece.blocks.but(Blocks::inside(&pages));
            if piece.blocks.count() == 0 {
                empty.push((*number, piece.chunk));
            }
        }
        for (number, _) in &empty {
            entry.pieces.remove(number);
        }
        let after = entry.cost();
        self.state.account.refund(before - after);
        empty.into_iter().try_for_each(|(_, chunk)| self.free_chunk(chunk))
    }

    /// Frees a shared object.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn drop_object(&mut self, object: u64) -> Result<(), PageError> {
        if let Some(object) = self.state.objects.remove(&object) {
            self.state.account.refund(object.cost());
            for piece in object.pieces.values() {
                self.free_chunk(piece.chunk)?;
            }
        }
        Ok(())
    }

    /// Whether an offset lies within a shared object, its last page counted whole.
    pub fn object_has(&self, object: u64, offset: u64) -> bool {
        self.state.objects.get(&object).is_some_and(|o| offset < o.len.next_multiple_of(PAGE_SIZE as u64))
    }

    /// Makes sure that there is memory at an offset of a shared object. `false` when memory is used up,
    /// or behind its end.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn back_object(&mut self, object: u64, offset: u64) -> Result<bool, PageError> {
        let number = offset / CHUNK_BYTES;
        match self.state.objects.get(&object) {
            None => return Ok(false),
            Some(entry) if offset >= entry.len.next_multiple_of(PAGE_SIZE as u64) => return Ok(false),
            Some(entry) if entry.pieces.contains_key(&number) => {}
            Some(_) => {
                let Some(chunk) = self.take_chunk() else { return Ok(false) };
                if let Some(entry) = self.state.objects.get_mut(&object) {
                    entry.pieces.insert(number, Piece { chunk, blocks: Blocks::default() });
                }
            }
        }
        let Some(entry) = self.state.objects.get_mut(&object) else { return Ok(false) };
        let page = offset % CHUNK_BYTES / PAGE_SIZE as u64;
        let below = entry.below;
        let Some(piece) = entry.pieces.get_mut(&number) else { return Ok(false) };
        if entry.reserved || piece.blocks.has(page) {
            return Ok(true);
        }
        let all = self.state.account.is_ample().then_some(Blocks::ALL);
        let wanted = all.unwrap_or_else(|| piece.blocks.wanted(page));
        for wanted in [wanted, Blocks::of(page)] {
            let new = u64::from(wanted.but(piece.blocks).count()) * BLOCK_BYTES;
            if self.state.account.offer(new) {
                let (chunk, new) = (piece.chunk, wanted.but(piece.blocks));
                piece.blocks = piece.blocks.and(wanted);
                if let Some(below) = below {
                    self.show_below(below, number, chunk, new)?;
                }
                return Ok(true);
            }
        }
        self.state.account.refuse();
        Ok(false)
    }

    /// Makes the pages of blocks that come into use what lies below them: they are fetched when they are
    /// touched.
    fn show_below(&self, below: Below, piece: u64, chunk: u32, new: Blocks) -> Result<(), PageError> {
        let base = piece * CHUNK_BYTES;
        let end = below.len.saturating_sub(base).min(CHUNK_BYTES).div_ceil(PAGE_SIZE as u64);
        for run in new.runs(0..end) {
            let pages = chunk_page(chunk) + run.start..chunk_page(chunk) + run.end;
            self.ram.renew(pages.clone())?;
            self.pages.unmap(pages.clone());
            self.pages.map_file(pages, below.content, base + run.start * PAGE_SIZE as u64, false);
        }
        Ok(())
    }

    /// Puts a file's content below an object.
    pub fn put_below(&mut self, object: u64, content: ContentRef, len: u64) {
        if let Some(object) = self.state.objects.get_mut(&object) {
            object.below = Some(Below { content, len });
        }
    }

    /// Whether the page at an offset of a shared object still comes from what lies below.
    pub fn lacks(&self, object: u64, offset: u64) -> bool {
        let Some(object) = self.state.objects.get(&object) else { return false };
        object.below(offset).is_some() && object.place(offset).is_none_or(|page| self.comes_from_file(page))
    }

    /// What lies below an offset of a shared object that is not in use.
    pub(super) fn below(&self, object: u64, offset: u64) -> Option<ContentRef> {
        let object = self.state.objects.get(&object)?;
        object.below(offset).filter(|_| object.place(offset).is_none())
    }

    /// Whether a page was not brought in yet from the file that it comes from.
    pub(super) fn comes_from_file(&self, page: u64) -> bool {
        self.ram.is_absent(page) && self.pages.is_of_file(page)
    }

    /// The page of RAM at an offset of a shared object; `None` where it is not in use.
    pub fn object_page(&self, object: u64, offset: u64) -> Option<u64> {
        self.state.objects.get(&object)?.place(offset)
    }

    /// The pages of RAM behind a part of a shared object, where it is in use: offset and pages of each
    /// run.
    pub fn object_runs(&self, object: u64, part: Range<u64>) -> Vec<(u64, Range<u64>)> {
        self.state.objects.get(&object).map_or_else(Vec::new, |object| object.runs(part))
    }

    /// The first offset of a shared object from `at` on, at which there may be anything but zeros.
    pub fn object_data(&self, object: u64, at: u64) -> Option<u64> {
        let object = self.state.objects.get(&object)?;
        let (first, rest) = (at / CHUNK_BYTES, at % CHUNK_BYTES / PAGE_SIZE as u64);
        object.pieces.range(first..).find_map(|(number, piece)| {
            let blocks = if object.reserved { Blocks::ALL } else { piece.blocks };
            let from = if *number == first { rest } else { 0 };
            let run = blocks.runs(from..CHUNK_PAGES).next()?;
            Some((number * CHUNK_BYTES + run.start * PAGE_SIZE as u64).max(at))
        })
    }

    /// Splits a range of offsets at the borders of pages.
    pub(super) fn pages_of(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
        let mut done = 0usize;
        std::iter::from_fn(move || {
            let at = offset + done as u64;
            let n = (PAGE_SIZE - (at % PAGE_SIZE as u64) as usize).min(len - done);
            done += n;
            (n > 0).then_some((at, done - n..done))
        })
    }

    pub(super) fn gpa(&self, page: u64, offset: u64) -> u64 {
        self.ram.base() + page * PAGE_SIZE as u64 + offset % PAGE_SIZE as u64
    }

    /// Reads bytes of a shared object. Returns the parts that still come from what lies below, which are
    /// not read: the file system has them, and must not be asked meanwhile.
    ///
    /// # Errors
    /// `EIO` behind its end.
    pub fn read_object(&self, object: u64, offset: u64, out: &mut [u8]) -> FsResult<Vec<Range<usize>>> {
        let entry = self.state.objects.get(&object).ok_or(Errno::EIO)?;
        let mut lacking: Vec<Range<usize>> = Vec::new();
        for (at, range) in Self::pages_of(offset, out.len()) {
            if at >= entry.len {
                return Err(Errno::EIO.into());
            }
            match entry.place(at).filter(|page| !self.comes_from_file(*page)) {
                Some(page) => self.ram.read(self.gpa(page, at), &mut out[range]).map_err(machine)?,
                None if entry.below(at).is_none() => out[range].fill(0),
                None => match lacking.last_mut() {
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => lacking.push(range),
                },
            }
        }
        Ok(lacking)
    }

    /// Writes bytes of a shared object. Pages that still come from what lies below are written whole.
    ///
    /// # Errors
    /// `EIO` behind its end, `ENOSPC` when memory is used up.
    pub fn write_object(&mut self, object: u64, offset: u64, data: &[u8]) -> FsResult<()> {
        for (at, range) in Self::pages_of(offset, data.len()) {
            if !self.object_has(object, at) {
                return Err(Errno::EIO.into());
            }
            if !self.back_object(object, at).map_err(machine)? {
                return Err(Errno::ENOSPC.into());
            }
            let page = self.object_page(object, at).ok_or(Errno::EIO)?;
            if self.comes_from_file(page) {
                if range.len() < PAGE_SIZE {
                    return Err(Errno::EIO.into());
                }
                self.drop_pages(page..page + 1).map_err(machine)?;
            }
            self.ram.write(self.gpa(page, at), &data[range]).map_err(machine)?;
        }
        Ok(())
    }
}

fn machine(e: PageError) -> FsError {
    FsError::Machine(Box::new(e))
}
