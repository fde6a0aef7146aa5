//! Scheduling that tries to break programs: a function of its seed and the exits, as the ordinary one is.
//!
//! A run is cut into phases of random length, and each phase orders tasks in a style of its own. Strict
//! priorities, drawn anew for each phase, let some tasks starve while others run far ahead, and have every
//! task that becomes ready and ranks higher run at once (as the randomized scheduler of Burckhardt,
//! Kothari, Musuvathi and Nagarakatte does, "A Randomized Scheduler with Probabilistic Guarantees of
//! Finding Bugs", 2010). Others change at every exit. And as many mistakes lie between two system calls,
//! some phases take the CPU away in the middle of a program's code, behind a random number of instructions:
//! the program is single-stepped for so long. Either the tasks then take turns of a few instructions, or one
//! that loses the CPU so gets it back only when all others wait, as at that paper's priority change points.
//! In most of these phases only instructions of the program's own file count, where its mistakes are more
//! often than in the libraries.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// The stream of the seed that all is drawn from.
const CHAOS_STREAM: u64 = 4;
/// Phases of which half are stepped. It is slow: long programs get it less often.
const EARLY: u64 = 32;
/// One in so many phases steps from then on.
const LATER: u64 = 32;
/// Choices in a phase at most, a power of two.
const PHASE_BITS: u64 = 9;
/// Exits that a task goes on for that is favoured.
const UNFAIR: u32 = 4096;
/// Instructions in a row that are counted at most, a power of two: drawn for each phase. Short ones find
/// mistakes of few instructions, long ones let a task come through the other's.
const WINDOW_BITS: std::ops::RangeInclusive<u64> = 4..=12;
/// The same, of the program's own.
const OWN_WINDOW_BITS: std::ops::RangeInclusive<u64> = 2..=11;

/// How a phase orders tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Style {
    /// The highest priority runs, and is looked for at every exit.
    Priorities,
    /// The highest priority runs, for long.
    Unfair,
    /// Any, another one at every exit.
    Switching,
    /// Any, for a few exits, or a number of instructions.
    Stepping,
    /// The highest priority runs, and loses it behind a number of instructions.
    Demoting,
}

/// What a scheduler of this kind keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chaos {
    random: Random,
    style: Style,
    /// Choices until the next phase.
    left: u64,
    /// Phases so far.
    phases: u64,
    /// Instructions that are stepped in a row at most in this phase, a power of two.
    window: u64,
    /// Only those of the program's own file count.
    own: bool,
    /// Who has lost its priority in this phase, first to last.
    demoted: Vec<u32>,
    /// What priorities follow from in this phase.
    priorities: u64,
}

/// A task's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Place in the queue of those that can run.
    pub place: usize,
    /// Exits that it lasts.
    pub exits: u32,
    /// Instructions after which it is over, too; 0 for none.
    pub steps: u64,
    /// Only those of the program's own file count.
    pub own: bool,
}

impl Chaos {
    /// For a seed.
    pub fn new(seed: u64) -> Chaos {
        let random = Random::new(seed, CHAOS_STREAM);
        Chaos {
            random,
            style: Style::Priorities,
            left: 0,
            phases: 0,
            window: 0,
            own: false,
            demoted: Vec::new(),
            priorities: 0,
        }
    }

    /// Chooses among those that can run, which are not none.
    pub fn choose(&mut self, ready: impl ExactSizeIterator<Item = u32>) -> Turn {
        let count = ready.len() as u64;
        let turn = Turn { place: 0, exits: 1, steps: 0, own: self.own };
        if count < 2 {
            return turn;
        }
        if self.left == 0 {
            self.begin_phase();
        }
        self.left -= 1;
        let ranked = ready.enumerate().max_by_key(|(_, tid)| self.rank(*tid));
        let highest = ranked.map_or(0, |(place, _)| place);
        match self.style {
            Style::Priorities => Turn { place: highest, ..turn },
            Style::Unfair => Turn { place: highest, exits: UNFAIR, ..turn },
            Style::Switching => Turn { place: self.random.below(count) as usize, ..turn },
            Style::Stepping => {
                // Who has just run is the last in the queue.
                let place = self.random.below(count - 1) as usize;
                let exits = 1 + self.random.below(8) as u32;
                Turn { place, exits, steps: 1 + self.below_power(self.window), own: self.own }
            }
            Style::Demoting => {
                let steps = match self.random.below(2) {
                    0 => 0,
                    _ => 1 + self.random.below(1 << self.window),
                };
                Turn { place: highest, steps, own: self.own, ..turn }
            }
        }
    }

    /// Branches in a task's turn, of at most so many: short turns are as likely as long ones.
    pub fn branches(&mut self, most: u64) -> u64 {
        let bits = u64::from(most.ilog2());
        let power = self.random.below(bits + 1);
        self.random.below((2u64 << power).max(2)).saturating_add(1).min(most)
    }

    /// A task's turn was over by its steps, or its branches.
    pub fn stepped_out(&mut self, tid: u32) {
        if self.style == Style::Demoting {
            self.demoted.retain(|demoted| *demoted != tid);
            self.demoted.push(tid);
        }
    }

    /// A task's rank among those that can run: the highest runs first.
    fn rank(&self, tid: u32) -> (bool, u64) {
        match self.demoted.iter().position(|demoted| *demoted == tid) {
            Some(place) => (false, u64::MAX - place as u64),
            None => (true, rank(self.priorities, tid)),
        }
    }

    fn begin_phase(&mut self) {
        self.phases += 1;
        self.priorities = self.random.below(u64::MAX);
        self.left = 4 + self.below_power(PHASE_BITS);
        let one_in = if self.phases <= EARLY { 2 } else { LATER };
        self.style = match self.random.below(2 * one_in) {
            0 => Style::Stepping,
            1 => Style::Demoting,
            _ => match self.random.below(3) {
                0 => Style::Priorities,
                1 => Style::Unfair,
                _ => Style::Switching,
            },
        };
        self.own = self.random.below(4) > 0;
        let bits = if self.own { OWN_WINDOW_BITS } else { WINDOW_BITS };
        self.window = bits.start() + self.random.below(1 + bits.end() - bits.start());
        self.demoted.clear();
        if self.style == Style::Unfair {
            // A turn is long.
            self.left = self.left.min(16);
        }
    }

    /// A number of any magnitude up to so many bits.
    fn below_power(&mut self, bits: u64) -> u64 {
        let bits = self.random.below(bits + 1);
        self.random.below(1 << bits)
    }
}

/// A task's priority: xorshift-multiply of its number and what the phase has drawn (the finalizer of
/// SplitMix64).
fn rank(priorities: u64, tid: u32) -> u64 {
    let mut x = priorities ^ u64::from(tid).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_from_the_seed_and_use_every_style() {
        let turns = |seed| {
            let mut chaos = Chaos::new(seed);
            (0..5000).map(|n| (chaos.choose(0..2 + n % 5), chaos.style)).collect::<Vec<_>>()
        };
        assert_eq!(turns(1), turns(1));
        assert_ne!(turns(1), turns(2));
        let all = [Style::Priorities, Style::Unfair, Style::Switching, Style::Stepping, Style::Demoting];
        for style in all {
            assert!(turns(1).iter().any(|turn| turn.1 == style), "{style:?}");
        }
        assert!(
            turns(3)
                .iter()
                .all(|(turn, _)| turn.place < 6 && turn.exits > 0 && turn.steps <= 1 << WINDOW_BITS.end())
        );
    }

    #[test]
    fn alone_nothing_is_drawn() {
        let mut chaos = Chaos::new(7);
        for _ in 0..100 {
            assert_eq!(chaos.choose([5].into_iter()).steps, 0);
        }
        assert_eq!(chaos.phases, 0);
    }
}
