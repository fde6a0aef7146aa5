//! Mappings that grow downwards when the memory below them is touched: the main stack, and what is
//! mapped with `MAP_GROWSDOWN`.

use std::ops::Range;

use super::{AddressSpace, MapError, Memory, PAGE, USER_MIN, Vma};
use crate::ram::PageError;

/// Bytes between a mapping that grows and its neighbour below (`stack_guard_gap`).
pub const GUARD_GAP: u64 = 256 * PAGE;
/// What the main stack grows by at a time. Linux grows it page by page; a fault costs more here.
const STEP: u64 = 128 << 10;

impl Vma {
    /// Bytes below the mapping where nothing else is placed unasked.
    fn gap(&self) -> u64 {
        if self.grows_down { GUARD_GAP } else { 0 }
    }
}

impl AddressSpace {
    /// The mapping that would grow down to an address that is not mapped: its start, and what that
    /// would be afterwards.
    pub(super) fn growable(&self, address: u64) -> Option<(u64, u64)> {
        let page = address / PAGE * PAGE;
        let (start, vma) = self.state.vmas.range(address..).next()?;
        let room = |to: u64| {
            let below = self.state.vmas.range(..to).next_back();
            // Room is kept to what could be run into: not to guards, nor to other stacks.
            let gap = below.is_none_or(|(_, below)| {
                below.grows_down || !below.protection.any() || to - below.end >= GUARD_GAP
            });
            to >= USER_MIN && vma.end - to <= self.state.stack_limit && gap
        };
        if !vma.grows_down || !room(page) {
            return None;
        }
        let step = (vma.name[..] == b"[stack]"[..]).then_some(address / STEP * STEP);
        Some((*start, step.filter(|to| room(*to) && self.is_free(&(*to..*start))).unwrap_or(page)))
    }

    /// Lets the mapping above grow down to an address. `false` when there is none that could.
    pub(super) fn grow_to(&mut self, memory: &mut Memory, address: u64) -> Result<bool, PageError> {
        let Some((start, to)) = self.growable(address) else { return Ok(false) };
        let Some(vma) = self.state.vmas.get(&start) else { return Ok(false) };
        let (end, piece) = (vma.end, Vma { end: start, ..vma.clone() });
        match self.map(memory, to, start - to, piece) {
            Ok(()) => {
                self.join(memory, to..end);
                Ok(true)
            }
            Err(MapError::Errno(_)) => Ok(false),
            Err(MapError::Page(e)) => Err(e),
        }
    }

    /// Whether a mapping may be placed at a range without being asked for exactly there.
    pub fn has_room(&self, range: &Range<u64>) -> bool {
        self.in_the_way(range).is_none()
    }

    /// Finds a free range of `len` bytes in a window, as low as possible.
    pub fn find_free_in(&self, len: u64, window: Range<u64>) -> Option<u64> {
        let mut start = window.start;
        while start.checked_add(len)? <= window.end {
            let range = start..start + len;
            match self.overlapping(&range).map(|(_, vma)| vma.end).last() {
                Some(end) => start = end,
                None => match self.in_the_way(&range) {
                    // Behind the mapping that grows into the range.
                    Some(_) => start = self.first_from(range.end)?.1.end,
                    None => return Some(start),
                },
            }
        }
        None
    }

    /// The highest address at which a mapping would have to end that keeps clear of what is in a
    /// range, and of the room below a mapping that grows; `None` when nothing is in the way.
    pub(super) fn in_the_way(&self, range: &Range<u64>) -> Option<u64> {
        let near = self.state.vmas.range(..range.end.saturating_add(GUARD_GAP));
        let (start, vma) = near.rev().find(|(start, vma)| **start < range.end || vma.gap() > 0)?;
        let ceiling = start.saturating_sub(vma.gap());
        (vma.end > range.start && ceiling < range.end).then_some(ceiling)
    }
}
