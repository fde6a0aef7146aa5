//! Chunks whose pages several regions have in common since a `fork`, until one of them writes.
//!
//! Where a page of a region lies follows from the region's chunk. A fork leaves the chunk behind for both
//! sides: each gets a chunk of its own for what it writes from then on, and sees the pages that it has not
//! written where they are ([`Lent`]). A page that one region alone still sees may be written where it is,
//! and one that none sees any more is dropped at once: so regions take no more memory than they are charged
//! for.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Memory, SpaceState, chunk_page};
use crate::ram::{CHUNK_PAGES, PageError};

const WORDS: usize = CHUNK_PAGES as usize / 64;

/// A set of the pages of a chunk, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages([u64; WORDS]);

impl Pages {
    /// Whether a page is in the set.
    pub fn has(&self, index: u64) -> bool {
        self.0[(index / 64) as usize] & (1 << (index % 64)) != 0
    }

    /// With more pages.
    #[must_use]
    pub fn with(mut self, indexes: Range<u64>) -> Pages {
        indexes.for_each(|index| self.0[(index / 64) as usize] |= 1 << (index % 64));
        self
    }

    /// With those of `other`, too.
    #[must_use]
    pub fn and(mut self, other: &Pages) -> Pages {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
        self
    }

    /// Takes the pages out that are in `other`, too.
    pub fn remove(&mut self, other: &Pages) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own &= !other);
    }

    /// Those that lie in a range.
    pub fn within(&self, indexes: Range<u64>) -> Pages {
        let mut all = Pages::default().with(indexes);
        all.0.iter_mut().zip(self.0).for_each(|(all, own)| *all &= own);
        all
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether some are in `other`, too.
    pub fn meets(&self, other: &Pages) -> bool {
        self.0.iter().zip(other.0).any(|(own, other)| own & other != 0)
    }

    /// Their indexes, ascending.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        (0..CHUNK_PAGES).filter(move |index| self.has(*index))
    }

    /// The same as runs.
    pub fn runs(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for index in self.iter() {
            match runs.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                _ => runs.push(index..index + 1),
            }
        }
        runs
    }
}

/// What a region sees of a chunk that is not its own. Each page is at the index that it has in the region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// The chunk.
    pub chunk: u32,
    /// The pages that the region sees there.
    pub pages: Pages,
}

/// How many regions see each page of the chunks that are lent. It follows from the regions.
#[derive(Debug, Default)]
pub struct Lending(BTreeMap<u32, Box<[u16; CHUNK_PAGES as usize]>>);

impl Lending {
    /// As regions of these address spaces see them.
    pub fn of<'a>(spaces: impl Iterator<Item = &'a SpaceState>) -> Lending {
        let mut lending = Lending::default();
        let regions = spaces.flat_map(|space| space.regions.values());
        regions.flat_map(|region| &region.lent).for_each(|lent| lending.see(lent));
        lending
    }

    /// One region more sees pages.
    pub fn see(&mut self, lent: &Lent) {
        let viewers = self.0.entry(lent.chunk).or_insert_with(|| Box::new([0; CHUNK_PAGES as usize]));
        lent.pages.iter().for_each(|index| viewers[index as usize] += 1);
    }

    /// One region less sees pages; gives those that none sees now, and whether there are no others.
    fn leave(&mut self, chunk: u32, pages: &Pages) -> (Pages, bool) {
        let mut unseen = Pages::default();
        let Some(viewers) = self.0.get_mut(&chunk) else { return (unseen, false) };
        for index in pages.iter() {
            let count = &mut viewers[index as usize];
            *count = count.saturating_sub(1);
            if *count == 0 {
                unseen = unseen.with(index..index + 1);
            }
        }
        let over = viewers.iter().all(|count| *count == 0);
        if over {
            self.0.remove(&chunk);
        }
        (unseen, over)
    }

    /// Whether several regions see a page.
    pub fn is_shared(&self, chunk: u32, index: u64) -> bool {
        self.0.get(&chunk).is_some_and(|viewers| viewers[index as usize] > 1)
    }

    /// The pages of what a region sees that others see, too.
    pub fn shared(&self, lent: &Lent) -> Pages {
        let Some(viewers) = self.0.get(&lent.chunk) else { return Pages::default() };
        let mut words = [0; WORDS];
        for (word, (counts, pages)) in words.iter_mut().zip(viewers.chunks(64).zip(lent.pages.0)) {
            let several = counts.iter().rev().fold(0, |bits, count| bits << 1 | u64::from(*count > 1));
            *word = several & pages;
        }
        Pages(words)
    }

    /// Whether nobody sees any page of the chunk but one region those that it was lent.
    pub fn is_sole(&self, lent: &Lent) -> bool {
        let seen = |(index, count): (usize, &u16)| *count == u16::from(lent.pages.has(index as u64));
        self.0.get(&lent.chunk).is_some_and(|viewers| viewers.iter().enumerate().all(seen))
    }

    /// A chunk is lent no more: it has become the own one of who alone saw it.
    pub fn end(&mut self, chunk: u32) {
        self.0.remove(&chunk);
    }
}

impl Memory {
    /// A region sees pages of a lent chunk no more: what none sees is dropped, and the chunk with its last
    /// page given back. What KVM derived from the region's page tables is for the caller to invalidate.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn leave_lent(&mut self, chunk: u32, pages: &Pages) -> Result<(), PageError> {
        let (unseen, over) = self.lending.leave(chunk, pages);
        let first = chunk_page(chunk);
        for run in unseen.runs() {
            self.drop_pages(first + run.start..first + run.end)?;
        }
        if over { self.give_back(chunk) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(range: Range<u64>) -> Pages {
        Pages::default().with(range)
    }

    #[test]
    fn sets_of_pages() {
        let set = pages(3..5).with(63..66).with(511..512);
        assert_eq!(set.runs(), [3..5, 63..66, 511..512]);
        assert_eq!((set.count(), set.has(64), set.has(66)), (6, true, false));
        assert_eq!(set.within(4..64).runs(), [4..5, 63..64]);
        let mut rest = set;
        rest.remove(&pages(0..64));
        assert_eq!(rest.runs(), [64..66, 511..512]);
        assert!(set.meets(&rest) && !rest.meets(&pages(0..64)));
    }

    #[test]
    fn a_page_is_dropped_when_nobody_sees_it() {
        let mut lending = Lending::default();
        let (all, some) = (pages(0..8), pages(2..4));
        let lent = |pages| Lent { chunk: 7, pages };
        lending.see(&lent(all));
        assert!(lending.is_sole(&lent(all)) && !lending.is_shared(7, 2));
        lending.see(&lent(some));
        assert!(!lending.is_sole(&lent(all)) && lending.is_shared(7, 2) && !lending.is_shared(7, 4));
        assert_eq!((lending.shared(&lent(all)), lending.shared(&lent(pages(3..8)))), (some, pages(3..4)));
        assert_eq!(lending.leave(7, &all), (pages(0..2).with(4..8), false));
        assert!(lending.is_sole(&lent(some)));
        assert_eq!(lending.leave(7, &some), (some, true));
        assert_eq!(lending.leave(7, &some), (Pages::default(), false));
    }
}
