//! Chunks of memory in use, and how much of them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::chunk_page;
use super::lending::Lent;
use crate::ram::{CHUNK_PAGES, PAGE_SIZE};

/// Pages in a block.
const BLOCK_PAGES: u64 = 16;
/// Blocks in a chunk.
const BLOCKS: u32 = (CHUNK_PAGES / BLOCK_PAGES) as u32;
/// Bytes in a block: what memory without reservation is charged by, once it is touched.
pub const BLOCK_BYTES: u64 = BLOCK_PAGES * PAGE_SIZE as u64;

/// What stands behind a 2 MiB piece of a shared object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The chunk.
    pub chunk: u32,
    /// Its blocks in use, as far as they were not charged beforehand.
    pub blocks: Blocks,
}

/// What stands behind a 2 MiB region of an address space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its own chunk.
    pub chunk: u32,
    /// Its blocks in use, as far as they were not charged beforehand.
    pub blocks: Blocks,
    /// What it sees of other chunks since a `fork`; no page twice. In its own chunk there is nothing there.
    pub lent: Vec<Lent>,
}

impl Region {
    /// With a chunk of zeros.
    pub fn new(chunk: u32) -> Region {
        Region { chunk, blocks: Blocks::default(), lent: Vec::new() }
    }

    /// The chunks that its pages lie in.
    pub fn chunks(&self) -> impl Iterator<Item = u32> {
        self.lent.iter().map(|lent| lent.chunk).chain([self.chunk])
    }

    /// The page of RAM that the region has at an index.
    pub fn page(&self, index: u64) -> u64 {
        let lent = self.lent.iter().find(|lent| lent.pages.has(index));
        chunk_page(lent.map_or(self.chunk, |lent| lent.chunk)) + index
    }

    /// The pages of RAM at a range of indexes: the first index and the pages of each run.
    pub fn runs(&self, indexes: Range<u64>) -> Vec<(u64, Range<u64>)> {
        if self.lent.is_empty() {
            let first = chunk_page(self.chunk);
            return vec![(indexes.start, first + indexes.start..first + indexes.end)];
        }
        let mut runs: Vec<(u64, Range<u64>)> = Vec::new();
        for index in indexes {
            let page = self.page(index);
            match runs.last_mut() {
                Some((_, run)) if run.end == page => run.end += 1,
                _ => runs.push((index, page..page + 1)),
            }
        }
        runs
    }
}

/// A set of the 32 blocks of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks(u32);

impl Blocks {
    /// All of them.
    pub const ALL: Blocks = Blocks(u32::MAX);

    /// How many.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether the block of a page of the chunk is in the set.
    pub fn has(self, page: u64) -> bool {
        self.0 & (1 << (page / BLOCK_PAGES)) != 0
    }

    /// With the blocks of `other`, too.
    pub fn and(self, other: Blocks) -> Blocks {
        Blocks(self.0 | other.0)
    }

    /// Without the blocks of `other`.
    pub fn but(self, other: Blocks) -> Blocks {
        Blocks(self.0 & !other.0)
    }

    /// The blocks that lie in a range of pages of the chunk with all of their pages.
    pub fn inside(pages: &Range<u64>) -> Blocks {
        Blocks::between(pages.start.div_ceil(BLOCK_PAGES), pages.end / BLOCK_PAGES)
    }

    /// The block of a page.
    pub fn of(page: u64) -> Blocks {
        Blocks::between(page / BLOCK_PAGES, page / BLOCK_PAGES + 1)
    }

    fn between(first: u64, end: u64) -> Blocks {
        Blocks((first..end).fold(0, |set, block| set | 1 << block))
    }

    /// The blocks to use for a touch of a page, where these are in use: that of the page, and as many
    /// more in the same direction as are in use in a row before it. So a guest that goes through a chunk
    /// takes ever larger steps, and one that touches memory here and there is charged for little.
    pub fn wanted(self, page: u64) -> Blocks {
        let block = (page / BLOCK_PAGES) as u32;
        let below = (self.0 << (BLOCKS - 1 - block) << 1).leading_ones();
        let above = self.0.checked_shr(block + 1).unwrap_or(0).trailing_ones();
        let block = u64::from(block);
        match below >= above {
            true => Blocks::between(block, (block + u64::from(below.max(1))).min(BLOCKS.into())),
            false => Blocks::between((block + 1).saturating_sub(above.into()), block + 1),
        }
    }

    /// The pages of a range of the chunk that lie in these blocks, as runs.
    pub fn runs(self, pages: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut at = pages.start;
        std::iter::from_fn(move || {
            while at < pages.end && !self.has(at) {
                at = (at / BLOCK_PAGES + 1) * BLOCK_PAGES;
            }
            let start = at;
            while at < pages.end && self.has(at) {
                at = (at / BLOCK_PAGES + 1) * BLOCK_PAGES;
            }
            at = at.min(pages.end);
            (start < at).then_some(start..at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::lending::Pages;
    use super::*;

    fn blocks(list: &[u64]) -> Blocks {
        list.iter().fold(Blocks::default(), |set, block| set.and(Blocks::of(block * BLOCK_PAGES)))
    }

    #[test]
    fn runs_and_borders() {
        let set = blocks(&[0, 1, 5, 31]);
        assert_eq!(set.runs(0..512).collect::<Vec<_>>(), [0..32, 80..96, 496..512]);
        assert_eq!(set.runs(3..90).collect::<Vec<_>>(), [3..32, 80..90]);
        assert_eq!(set.runs(32..80).count(), 0);
        assert_eq!(Blocks::inside(&(1..49)), blocks(&[1, 2]));
        assert_eq!(Blocks::inside(&(0..512)), Blocks::ALL);
        assert_eq!(set.but(blocks(&[1, 2])), blocks(&[0, 5, 31]));
    }

    #[test]
    fn pages_lie_in_the_own_chunk_but_those_that_were_lent() {
        let lent = |chunk, pages| Lent { chunk, pages: Pages::default().with(pages) };
        let region = Region { lent: vec![lent(5, 4..8), lent(9, 8..9)], ..Region::new(2) };
        let at = |chunk| chunk_page(chunk);
        assert_eq!(region.page(3), at(2) + 3);
        assert_eq!((region.page(4), region.page(8)), (at(5) + 4, at(9) + 8));
        let runs = [(2, at(2) + 2..at(2) + 4), (4, at(5) + 4..at(5) + 8), (8, at(9) + 8..at(9) + 9)];
        assert_eq!(region.runs(2..9), runs);
        assert_eq!(Region::new(2).runs(2..9), [(2, at(2) + 2..at(2) + 9)]);
    }

    #[test]
    fn a_guest_that_goes_on_takes_larger_steps() {
        let none = Blocks::default();
        assert_eq!(none.wanted(100), blocks(&[6]));
        assert_eq!(blocks(&[6]).wanted(7 * 16), blocks(&[7]));
        assert_eq!(blocks(&[6, 7]).wanted(8 * 16), blocks(&[8, 9]));
        // Downwards, as a stack goes.
        assert_eq!(blocks(&[31]).wanted(30 * 16), blocks(&[30]));
        assert_eq!(blocks(&[30, 31]).wanted(29 * 16), blocks(&[28, 29]));
        assert_eq!(Blocks::ALL.but(blocks(&[31])).wanted(511), blocks(&[31]));
    }
}
