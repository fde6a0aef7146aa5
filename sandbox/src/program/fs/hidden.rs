//! Blocks of a host file that were zeroed as a whole, as runs: a hole may be of any length.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A set of blocks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct HiddenBlocks {
    /// First block, and the one behind the last, of runs that do not touch.
    runs: BTreeMap<u64, u64>,
}

impl HiddenBlocks {
    /// What a run takes of the quota.
    pub const RUN_COST: u64 = 64;

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// What it takes of the quota.
    pub fn cost(&self) -> u64 {
        self.runs.len() as u64 * Self::RUN_COST
    }

    /// Where the run ends that a block is in; the block itself if it is in none.
    pub fn end_at(&self, block: u64) -> u64 {
        let run = self.runs.range(..=block).next_back();
        run.map_or(block, |(_, end)| block.max(*end))
    }

    /// The first block of the set from `block` on.
    pub fn next_from(&self, block: u64) -> Option<u64> {
        if self.end_at(block) > block {
            return Some(block);
        }
        self.runs.range(block..).next().map(|(start, _)| *start)
    }

    /// Adds blocks.
    pub fn add(&mut self, blocks: Range<u64>) {
        if blocks.is_empty() {
            return;
        }
        let Range { mut start, mut end } = blocks;
        while let Some((from, to)) = self.runs.range(..=end).next_back().map(|(from, to)| (*from, *to))
            && to >= start
        {
            self.runs.remove(&from);
            start = start.min(from);
            end = end.max(to);
        }
        self.runs.insert(start, end);
    }

    /// Removes the blocks from `end` on.
    pub fn cut(&mut self, end: u64) {
        self.runs.split_off(&end);
        if let Some(mut last) = self.runs.last_entry() {
            *last.get_mut() = end.min(*last.get());
        }
    }

    /// Whether the runs are ones below `blocks`: for a state out of a file.
    pub fn is_sound(&self, blocks: u64) -> bool {
        let mut free = 0;
        self.runs.iter().all(|(start, end)| {
            let sound = (free == 0 || *start > free) && start < end && *end <= blocks;
            free = *end;
            sound
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(runs: &[(u64, u64)]) -> HiddenBlocks {
        HiddenBlocks { runs: runs.iter().copied().collect() }
    }

    #[test]
    fn runs_join_and_end() {
        let mut hidden = HiddenBlocks::default();
        for (start, end) in [(10, 20), (30, 40), (5, 5), (20, 21), (50, 60), (35, 55)] {
            hidden.add(start..end);
            assert!(hidden.is_sound(60));
        }
        assert_eq!(hidden.runs, set(&[(10, 21), (30, 60)]).runs);
        hidden.add(0..100);
        assert_eq!(hidden.runs, set(&[(0, 100)]).runs);
        let mut hidden = set(&[(10, 21), (30, 60)]);
        let ends: Vec<u64> = [9, 10, 20, 21, 45, 60].map(|block| hidden.end_at(block)).to_vec();
        assert_eq!(ends, [9, 21, 21, 21, 60, 60]);
        let next: Vec<Option<u64>> = [0, 15, 21, 59, 60].map(|block| hidden.next_from(block)).to_vec();
        assert_eq!(next, [Some(10), Some(15), Some(30), Some(59), None]);
        hidden.cut(40);
        assert_eq!(hidden.runs, set(&[(10, 21), (30, 40)]).runs);
        hidden.cut(30);
        assert_eq!(hidden.runs, set(&[(10, 21)]).runs);
    }

    #[test]
    fn forged_runs_are_refused() {
        for runs in [&[(5, 5)][..], &[(5, 4)], &[(0, 10), (10, 20)], &[(0, 11), (10, 20)], &[(0, 101)]] {
            assert!(!set(runs).is_sound(100), "{runs:?}");
        }
        assert!(set(&[(0, 10), (11, 100)]).is_sound(100));
    }
}
