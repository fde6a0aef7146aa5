//! Which slots memory has: sizes by their number, made one by one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::CHUNK_PAGES;
use super::slot::Slot;

/// Slots grow from 16 MiB to 64 MiB, in chunks: small guests pay little, large ones have few.
const SLOT_CHUNKS: [u64; 3] = [8, 8, 16];
/// Chunks in every slot after the first ones.
const LARGE_SLOT_CHUNKS: u64 = 32;
/// Slots in a group: places of a group are there once one of its slots is, so that a large memory costs
/// nothing to begin with.
const GROUP: usize = 64;

type Group = [OnceLock<Box<Slot>>; GROUP];

/// The slots of a memory.
pub(super) struct Slots {
    groups: Box<[OnceLock<Box<Group>>]>,
    /// Slots behind the last one that was made are not there.
    made: AtomicUsize,
    /// How many slots there are when all are made.
    count: usize,
}

impl Slots {
    /// Of a memory of so many pages; none is made.
    pub fn new(pages: u64) -> Slots {
        let count = if pages == 0 { 0 } else { slot_of(pages - 1).0 + 1 };
        let groups = (0..count.div_ceil(GROUP)).map(|_| OnceLock::new()).collect();
        Slots { groups, made: AtomicUsize::new(0), count }
    }

    fn get(&self, number: usize) -> Option<&Slot> {
        self.groups.get(number / GROUP)?.get()?[number % GROUP].get().map(|slot| &**slot)
    }

    /// The slot that a page lies in and the page's index there, if it is made.
    pub fn of(&self, page: u64) -> Option<(&Slot, u64)> {
        let (number, first, _) = slot_of(page);
        Some((self.get(number)?, page - first))
    }

    /// Those that are made.
    pub fn made(&self) -> impl Iterator<Item = &Slot> {
        let made = self.made.load(Ordering::Acquire);
        (0..made).filter_map(|number| self.get(number))
    }

    /// Whether one is not made.
    pub fn lacks_any(&self) -> bool {
        (0..self.count).any(|number| self.get(number).is_none())
    }

    /// Takes a slot that was made; the caller sees to it that nobody makes the same one meanwhile.
    /// Does nothing for a number behind the last.
    pub fn set(&self, number: usize, slot: Slot) {
        let Some(group) = self.groups.get(number / GROUP) else { return };
        let group = group.get_or_init(|| Box::new([const { OnceLock::new() }; GROUP]));
        if group[number % GROUP].set(Box::new(slot)).is_ok() {
            self.made.fetch_max(number + 1, Ordering::AcqRel);
        }
    }
}

/// Number, first page and page count of the slot that holds a page: a function of the page alone,
/// so that a restored machine cuts its memory as the one before it did.
pub(super) fn slot_of(page: u64) -> (usize, u64, u64) {
    let chunk = page / CHUNK_PAGES;
    let mut first = 0;
    for (number, chunks) in SLOT_CHUNKS.into_iter().enumerate() {
        if chunk < first + chunks {
            return (number, first * CHUNK_PAGES, chunks * CHUNK_PAGES);
        }
        first += chunks;
    }
    let number = (chunk - first) / LARGE_SLOT_CHUNKS;
    (
        SLOT_CHUNKS.len() + number as usize,
        (first + number * LARGE_SLOT_CHUNKS) * CHUNK_PAGES,
        LARGE_SLOT_CHUNKS * CHUNK_PAGES,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_tile_memory() {
        let mut page = 0;
        for expected in 0..20 {
            let (number, first, pages) = slot_of(page);
            assert_eq!((number, first), (expected, page));
            assert_eq!(slot_of(page + pages - 1).0, number);
            page += pages;
        }
    }
}
