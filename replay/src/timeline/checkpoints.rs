//! The checkpoints of a timeline: as many as a budget of memory holds, denser near the latest.

use std::collections::BTreeMap;

use dejavm_sandbox::guest::Checkpoint;

use super::Position;
use super::written::Since;
use crate::thinning::spare;

/// Bytes that a checkpoint takes besides its pages, about.
const STATE_BYTES: u64 = 256 << 10;

/// Branches that count as an exit where checkpoints are thinned out.
const BRANCHES: u64 = 1 << 20;

/// A checkpoint.
#[derive(Debug)]
struct Taken {
    checkpoint: Checkpoint,
    /// What was written on the way here, as far as that is known.
    since: Option<Since>,
}

/// Checkpoints by the positions at which they were taken.
#[derive(Debug)]
pub(super) struct Checkpoints {
    taken: BTreeMap<Position, Taken>,
    start: Position,
    /// Bytes that they may take.
    budget: u64,
}

impl Checkpoints {
    /// With the start of the run, which stays.
    pub fn new(start: Position, checkpoint: Checkpoint, budget: u64) -> Checkpoints {
        let taken = BTreeMap::from([(start, Taken { checkpoint, since: None })]);
        Checkpoints { taken, start, budget }
    }

    /// The first position.
    pub fn start(&self) -> Position {
        self.start
    }

    /// The last checkpoint at a position or before it.
    pub fn at(&self, position: Position) -> Option<(Position, &Checkpoint)> {
        self.taken.range(..=position).next_back().map(|(at, taken)| (*at, &taken.checkpoint))
    }

    /// Where the last checkpoint before a position is.
    pub fn before(&self, position: Position) -> Option<Position> {
        self.taken.range(..position).next_back().map(|(at, _)| *at)
    }

    /// What was written on the way to a checkpoint, as far as that is known.
    pub fn since(&self, at: Position) -> Option<&Since> {
        self.taken.get(&at)?.since.as_ref()
    }

    /// Keeps one more.
    pub fn add(&mut self, at: Position, checkpoint: Checkpoint, since: Option<Since>) {
        self.taken.insert(at, Taken { checkpoint, since });
        while self.taken.len() > 2 && self.bytes() > self.budget {
            self.thin_out();
        }
    }

    /// Gives up those between an exit and the next.
    pub fn drop_within(&mut self, exit: u64) {
        let start = self.start;
        self.taken.retain(|at, _| at.exit != exit || *at == Position::behind(exit) || *at == start);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.taken.len()
    }

    /// Bytes that they take, about.
    pub fn bytes(&self) -> u64 {
        let own =
            |checkpoint: &Checkpoint| checkpoint.memory.checkpoint().map_or(0, |pages| pages.own_bytes());
        let written = |taken: &Taken| taken.since.as_ref().map_or(0, Since::bytes);
        self.taken.values().map(|taken| STATE_BYTES + own(&taken.checkpoint) + written(taken)).sum()
    }

    fn thin_out(&mut self) {
        let all: Vec<Position> = self.taken.keys().copied().collect();
        // Within long stretches, a million branches are as good as an exit.
        let mut at = 0;
        let apart: Vec<u64> = std::iter::once(0)
            .chain(all.windows(2).map(|pair| {
                let branches =
                    if pair[0].exit == pair[1].exit { pair[1].branches - pair[0].branches } else { 0 };
                at += pair[1].exit - pair[0].exit + branches / BRANCHES;
                at
            }))
            .collect();
        if let Some(at) = spare(&apart).and_then(|at| all.get(at)) {
            self.remove(*at);
        }
    }

    /// Gives one up. On the way to the next was written what was on both.
    fn remove(&mut self, at: Position) {
        let Some(before) = self.taken.remove(&at).and_then(|taken| taken.since) else { return };
        let next = self.taken.range_mut(at..).next().and_then(|(_, next)| next.since.as_mut());
        if let Some(next) = next.filter(|next| next.from == at) {
            next.from = before.from;
            next.pages.extend(before.pages);
        }
    }
}
