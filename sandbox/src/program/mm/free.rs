//! Finding free addresses.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{AddressSpace, PAGE, USER_MIN, tables};

/// What earlier searches found: above an address no gap is as large as so many bytes. Spares a program
/// with many mappings from having all of them looked at again and again; it changes no answer.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Where all searches began.
    top: u64,
    /// By length, where a search for that much may begin, downwards.
    ceilings: BTreeMap<u64, u64>,
    /// The same for gaps that start at a multiple of 2 MiB.
    aligned: BTreeMap<u64, u64>,
}

/// The most lengths that are remembered.
const REMEMBERED: usize = 64;

impl Gaps {
    fn ceiling(&mut self, len: u64, aligned: bool, top: u64) -> u64 {
        if self.top != top {
            *self = Gaps { top, ..Gaps::default() };
        }
        let of = |map: &BTreeMap<u64, u64>| map.range(..=len).map(|(_, at)| *at).min().unwrap_or(top);
        let any = of(&self.ceilings).min(top);
        if aligned { any.min(of(&self.aligned)) } else { any }
    }

    fn remember(&mut self, len: u64, aligned: bool, ceiling: u64) {
        let map = if aligned { &mut self.aligned } else { &mut self.ceilings };
        if map.len() >= REMEMBERED && !map.contains_key(&len) {
            map.clear();
        }
        map.insert(len, ceiling);
    }

    /// A gap that ends at `end` has become larger.
    pub fn grown(&mut self, end: u64) {
        for at in self.ceilings.values_mut().chain(self.aligned.values_mut()) {
            *at = end.max(*at);
        }
    }
}

impl AddressSpace {
    /// Finds a free range of `len` bytes, as high as possible below the top; `phase` is its offset
    /// from a 2 MiB boundary, if that matters.
    pub fn find_free(&mut self, len: u64, phase: Option<u64>) -> Option<u64> {
        let aligned = phase == Some(0);
        let mut ceiling = self.gaps.ceiling(len, aligned, self.state.mmap_top);
        let below = |ceiling: u64| {
            let mut start = ceiling.checked_sub(len)? / PAGE * PAGE;
            if let Some(phase) = phase {
                let region = tables::region_start(1);
                start = start.checked_sub((start % region + region - phase % region) % region)?;
            }
            (start >= USER_MIN).then_some(start)
        };
        let mut found = None;
        while let Some(start) = below(ceiling) {
            match self.in_the_way(&(start..start + len)) {
                Some(below) => ceiling = below,
                None => {
                    found = Some(start);
                    break;
                }
            }
        }
        if phase.is_none() || aligned {
            self.gaps.remember(len, aligned, ceiling);
        }
        found
    }

    /// Whether nothing is mapped in a range.
    pub fn is_free(&self, range: &Range<u64>) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// Notes that a range was unmapped.
    pub(super) fn freed(&mut self, range: &Range<u64>) {
        let next = self.state.vmas.range(range.end..).next();
        self.gaps.grown(next.map_or(self.state.mmap_top, |(at, _)| *at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_search_helps_a_longer_one() {
        let mut gaps = Gaps { top: 1000, ..Gaps::default() };
        gaps.remember(8, false, 100);
        assert_eq!(gaps.ceiling(7, false, 1000), 1000);
        assert_eq!(gaps.ceiling(9, false, 1000), 100);
        gaps.remember(16, true, 50);
        assert_eq!((gaps.ceiling(20, true, 1000), gaps.ceiling(20, false, 1000)), (50, 100));
        gaps.grown(200);
        assert_eq!((gaps.ceiling(20, true, 1000), gaps.ceiling(20, false, 1000)), (200, 200));
    }
}
