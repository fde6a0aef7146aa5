//! The bytes that the overlay holds, in blocks that files and frozen copies share, against a quota.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::check::Inconsistent;
use super::error::{FsResult, fail};
use super::stored::Source;
use crate::errno::Errno;
use crate::program::journal::Journal;
use crate::ram::PAGE_SIZE;
use crate::world::BLOCK_SIZE;

/// What of the quota is taken at once.
const GRAIN: u64 = 4096;

/// Names a block of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ChunkId(u64);

/// The blocks, and how much of the quota is used.
///
/// Blocks are shared by number and counted here, so that the quota says the same after a snapshot
/// was restored, and a block that two share is stored once. That the bytes are behind an `Arc`,
/// too, only makes a clone of the whole cheap.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Chunks {
    map: Journal<ChunkId, Chunk>,
    next: u64,
    used: u64,
    quota: u64,
    /// Whether the quota has refused anything since this sandbox was made. The guest does not see it.
    #[serde(skip)]
    refused: bool,
    /// Where the blocks are that are in a snapshot alone.
    #[serde(skip)]
    pub source: Source,
}

/// A block of bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Chunk {
    refs: u32,
    /// At most [`BLOCK_SIZE`]; bytes after the last one are zero.
    len: u32,
    /// The first of the pages that hold it in the snapshot, one after the other; `None` if the
    /// snapshot does not have it.
    page: Option<u64>,
    /// What it holds; `None` while that is in the snapshot alone.
    #[serde(skip)]
    bytes: Option<Arc<Vec<u8>>>,
}

impl Chunk {
    fn new(bytes: Vec<u8>) -> Chunk {
        Chunk { refs: 1, len: bytes.len() as u32, page: None, bytes: Some(Arc::new(bytes)) }
    }

    fn len(&self) -> usize {
        self.len as usize
    }

    /// Pages that it takes in a snapshot.
    fn pages(&self) -> u64 {
        self.len().div_ceil(PAGE_SIZE) as u64
    }

    /// Reads from `start` on; gives how many bytes that was.
    pub fn read(&self, source: &Source, start: usize, out: &mut [u8]) -> FsResult<usize> {
        let n = self.len().saturating_sub(start).min(out.len());
        if n == 0 {
            return Ok(0);
        }
        match (&self.bytes, self.page) {
            (Some(bytes), _) => out[..n].copy_from_slice(&bytes[start..start + n]),
            (None, Some(page)) => source.read(page, start, &mut out[..n])?,
            (None, None) => return fail(Errno::EIO),
        }
        Ok(n)
    }

    /// Takes what it holds into memory.
    fn load(&mut self, source: &Source) -> FsResult<()> {
        if self.bytes.is_none() {
            let mut bytes = vec![0; self.len()];
            self.read(source, 0, &mut bytes)?;
            self.bytes = Some(Arc::new(bytes));
        }
        Ok(())
    }
}

/// What a block of `len` bytes takes of the quota; an empty one too, since it takes memory.
fn cost(len: usize) -> u64 {
    (len as u64).max(1).next_multiple_of(GRAIN)
}

impl Chunks {
    pub fn new(quota: u64) -> Chunks {
        Chunks { map: Journal::default(), next: 0, used: 0, quota, refused: false, source: Source::default() }
    }

    /// Marks this moment, for [`Chunks::return_to`].
    pub fn mark(&mut self) {
        self.map.mark();
    }

    /// Becomes what it was at the last mark, as which `then` was taken.
    pub fn return_to(&mut self, then: &Chunks) {
        let Chunks { map, next, used, quota, refused, source: _ } = self;
        map.return_to(&then.map);
        (*next, *used, *quota, *refused) = (then.next, then.used, then.quota, then.refused);
    }

    pub fn used(&self) -> u64 {
        self.used
    }

    pub fn quota(&self) -> u64 {
        self.quota
    }

    pub fn free(&self) -> u64 {
        self.quota.saturating_sub(self.used)
    }

    /// Takes `n` bytes of the quota for something that is not a block.
    pub fn charge(&mut self, n: u64) -> Result<(), Errno> {
        self.expect(n, 0)?;
        self.used += n;
        Ok(())
    }

    /// Finds out whether `n` bytes could be taken once `refund` bytes are given back.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn expect(&mut self, n: u64, refund: u64) -> Result<(), Errno> {
        if n <= self.free().saturating_add(refund) {
            return Ok(());
        }
        self.refused = true;
        Err(Errno::ENOSPC)
    }

    /// Whether the quota has refused anything since this sandbox was made.
    pub fn has_refused(&self) -> bool {
        self.refused
    }

    /// Gives `n` bytes of the quota back.
    pub fn refund(&mut self, n: u64) {
        debug_assert!(n <= self.used);
        self.used = self.used.saturating_sub(n);
    }

    /// Checks what was decoded against the references that there are, and gives what all blocks
    /// take of the quota.
    pub fn check(&self, references: &BTreeMap<ChunkId, u32>) -> Result<u64, Inconsistent> {
        let counted = self.map.iter().map(|(id, chunk)| (id, &chunk.refs));
        let sound = |(id, chunk): (&ChunkId, &Chunk)| id.0 < self.next && chunk.len() <= BLOCK_SIZE;
        if !counted.eq(references) || !self.map.iter().all(sound) || self.next > 1 << 48 {
            return Err(Inconsistent("a block"));
        }
        Ok(self.map.values().map(|chunk| cost(chunk.len())).sum())
    }

    /// Whether a block of `len` bytes could be added.
    pub fn expect_room(&mut self, len: usize) -> Result<(), Errno> {
        self.expect(cost(len), 0)
    }

    /// A new block.
    pub fn add(&mut self, bytes: Vec<u8>) -> Result<ChunkId, Errno> {
        debug_assert!(bytes.len() <= BLOCK_SIZE);
        self.charge(cost(bytes.len()))?;
        let id = ChunkId(self.next);
        self.next += 1;
        self.map.insert(id, Chunk::new(bytes));
        Ok(id)
    }

    /// One more uses the block.
    pub fn share(&mut self, id: ChunkId) {
        if let Some(chunk) = self.map.get_mut(&id) {
            chunk.refs = chunk.refs.saturating_add(1);
        }
    }

    /// One less uses the block.
    pub fn drop(&mut self, id: ChunkId) {
        let Some(chunk) = self.map.get_mut(&id) else {
            return;
        };
        chunk.refs = chunk.refs.saturating_sub(1);
        if chunk.refs == 0 {
            let len = chunk.len();
            self.map.remove(&id);
            self.refund(cost(len));
        }
    }

    fn len(&self, id: ChunkId) -> usize {
        self.map.get(&id).map_or(0, Chunk::len)
    }

    /// Reads from within the block; gives how many bytes that was.
    pub fn read(&self, id: ChunkId, start: usize, out: &mut [u8]) -> FsResult<usize> {
        self.map.get(&id).map_or(Ok(0), |chunk| chunk.read(&self.source, start, out))
    }

    fn is_shared(&self, id: ChunkId) -> bool {
        self.map.get(&id).is_none_or(|chunk| chunk.refs > 1)
    }

    /// Makes the block at least `len` bytes long (zeros) and its owner's alone, and lets `change`
    /// write to it. The number changes if the block was shared.
    pub fn update(&mut self, id: &mut ChunkId, len: usize, change: impl FnOnce(&mut [u8])) -> FsResult<()> {
        let old = self.len(*id);
        let new = old.max(len);
        if self.is_shared(*id) {
            self.expect_room(new)?;
            let mut bytes = vec![0; new];
            self.read(*id, 0, &mut bytes[..old])?;
            change(&mut bytes);
            return self.replace(id, bytes);
        }
        if let Some(chunk) = self.map.get_mut(id) {
            chunk.load(&self.source)?;
        }
        self.charge(cost(new) - cost(old))?;
        if let Some(chunk) = self.map.get_mut(id)
            && let Some(bytes) = &mut chunk.bytes
        {
            let bytes = Arc::make_mut(bytes);
            bytes.resize(new, 0);
            change(bytes);
            chunk.len = new as u32;
        }
        Ok(())
    }

    /// Cuts the block to `len` bytes, for its owner alone.
    pub fn cut(&mut self, id: &mut ChunkId, len: usize) -> FsResult<()> {
        let old = self.len(*id);
        if old <= len {
            return Ok(());
        }
        if self.is_shared(*id) {
            self.expect_room(len)?;
            let mut bytes = vec![0; len];
            self.read(*id, 0, &mut bytes)?;
            return self.replace(id, bytes);
        }
        if let Some(chunk) = self.map.get_mut(id) {
            // What the snapshot has behind the new end is not looked at any more.
            if let Some(bytes) = &mut chunk.bytes {
                Arc::make_mut(bytes).truncate(len);
            }
            chunk.len = len as u32;
        }
        self.refund(cost(old) - cost(len));
        Ok(())
    }

    /// Puts a block of its own in the place of a shared one.
    fn replace(&mut self, id: &mut ChunkId, bytes: Vec<u8>) -> FsResult<()> {
        let copy = self.add(bytes)?;
        self.drop(*id);
        *id = copy;
        Ok(())
    }

    /// Checks that what was decoded lies in these pages of a snapshot, each block in its own.
    pub fn check_stored(&self, pages: Range<u64>) -> Result<(), Inconsistent> {
        let mut runs = Vec::new();
        for chunk in self.map.values().filter(|chunk| chunk.bytes.is_none() && chunk.len > 0) {
            let first = chunk.page.ok_or(Inconsistent("a block without pages"))?;
            runs.push((first, first.saturating_add(chunk.pages())));
        }
        runs.sort_unstable();
        let mut free = pages.start;
        for (first, end) in runs {
            if first < free || end > pages.end {
                return Err(Inconsistent("the pages of a block"));
            }
            free = end;
        }
        Ok(())
    }

    /// See [`Fs::place`](super::Fs::place). The blocks as they were, with their new pages, ascending.
    pub fn place(&mut self, from: u64) -> Vec<(Range<u64>, Chunk)> {
        let (placed, homeless) = self.kept_places(from);
        let mut gaps = Vec::new();
        let mut free = from;
        for (pages, _) in &placed {
            gaps.push(free..pages.start);
            free = pages.end;
        }
        gaps.push(free..u64::MAX);
        let mut gaps = gaps.into_iter();
        let mut gap = 0..0;
        let mut all = placed;
        for id in homeless {
            let pages = self.map.get(&id).map_or(0, Chunk::pages);
            while gap.end - gap.start < pages
                && let Some(next) = gaps.next()
            {
                gap = next;
            }
            all.push((gap.start..gap.start + pages, id));
            gap.start += pages;
        }
        all.sort_unstable_by_key(|(pages, _)| pages.start);
        let mut blocks = Vec::with_capacity(all.len());
        for (pages, id) in all {
            if let Some(chunk) = self.map.get_mut(&id) {
                blocks.push((pages.clone(), chunk.clone()));
                chunk.page = Some(pages.start);
            }
        }
        blocks
    }

    /// The blocks that can stay where they are in the snapshot, ascending by page, and the others.
    /// Empty blocks are in no place.
    fn kept_places(&self, from: u64) -> (Vec<(Range<u64>, ChunkId)>, Vec<ChunkId>) {
        let blocks = self.map.iter().filter(|(_, chunk)| chunk.len > 0);
        let mut wishes: Vec<(u64, u64, ChunkId)> = Vec::new();
        let mut homeless = Vec::new();
        for (id, chunk) in blocks {
            match chunk.page {
                Some(page) if page >= from => wishes.push((page, page.saturating_add(chunk.pages()), *id)),
                _ => homeless.push(*id),
            }
        }
        wishes.sort_unstable();
        let mut placed = Vec::new();
        for (n, (first, end, id)) in wishes.iter().enumerate() {
            // One that has grown may reach into the next.
            match wishes.get(n + 1) {
                Some((next, ..)) if end > next => homeless.push(*id),
                _ => placed.push((*first..*end, *id)),
            }
        }
        homeless.sort_unstable();
        (placed, homeless)
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::FsError;
    use super::*;

    fn bytes(chunks: &Chunks, id: ChunkId) -> Vec<u8> {
        let mut out = vec![0; BLOCK_SIZE];
        let n = chunks.read(id, 0, &mut out).unwrap();
        out.truncate(n);
        out
    }

    impl Chunks {
        pub fn forget_places(&mut self) {
            self.map.each_mut(|_, chunk| chunk.page = None);
        }

        fn places(&self) -> Vec<Option<u64>> {
            self.map.values().map(|chunk| chunk.page).collect()
        }
    }

    #[test]
    fn blocks_keep_their_pages_as_long_as_they_can() {
        const PAGE: usize = PAGE_SIZE;
        let mut c = Chunks::new(1 << 30);
        let mut ids: Vec<ChunkId> =
            [1, 2 * PAGE, PAGE + 1, 0, 4 * PAGE].map(|len| c.add(vec![7; len]).unwrap()).to_vec();
        let ends: Vec<_> = c.place(10).into_iter().map(|(pages, _)| pages).collect();
        assert_eq!(ends, [10..11, 11..13, 13..15, 15..19]);
        assert_eq!(c.places(), [Some(10), Some(11), Some(13), None, Some(15)]);
        // One is gone, one has grown, one is new.
        c.drop(ids[1]);
        c.update(&mut ids[2], 3 * PAGE, |_| ()).unwrap();
        c.add(vec![1; PAGE]).unwrap();
        c.place(10);
        assert_eq!(c.places(), [Some(10), Some(11), None, Some(15), Some(14)]);
        // Memory has grown: what was in its place goes elsewhere, the rest stays.
        c.place(14);
        assert_eq!(c.places(), [Some(19), Some(20), None, Some(15), Some(14)]);
        c.check_stored(0..0).unwrap();
        // As a restored machine has them.
        c.map.each_mut(|_, chunk| chunk.bytes = None);
        c.check_stored(14..23).unwrap();
        for forged in [None, Some(13), Some(15), Some(18), Some(22), Some(u64::MAX)] {
            let mut c = c.clone();
            c.map.get_mut(&ids[0]).unwrap().page = forged;
            assert!(c.check_stored(14..23).is_err(), "{forged:?}");
        }
        // Nothing is read from nowhere.
        assert!(matches!(c.read(ids[0], 0, &mut [0]), Err(FsError::Errno(Errno::EIO))));
    }

    #[test]
    fn shared_blocks_are_counted_once_and_copied_on_write() {
        let mut c = Chunks::new(3 * GRAIN);
        let mut a = c.add(b"hello".to_vec()).unwrap();
        let b = a;
        c.share(a);
        assert_eq!(c.used(), GRAIN);
        c.update(&mut a, 6, |bytes| bytes[0] = b'j').unwrap();
        assert_ne!(a, b);
        assert_eq!((bytes(&c, a), bytes(&c, b)), (b"jello\0".to_vec(), b"hello".to_vec()));
        assert_eq!(c.used(), 2 * GRAIN);
        assert!(matches!(c.update(&mut a, 10_000, |_| ()), Err(FsError::Errno(Errno::ENOSPC))));
        assert_eq!(bytes(&c, a), b"jello\0");
        c.cut(&mut a, 2).unwrap();
        assert_eq!(bytes(&c, a), b"je");
        c.drop(a);
        c.drop(b);
        assert_eq!(c.used(), 0);
    }
}
