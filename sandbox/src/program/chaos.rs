//! Scheduling that tries to break programs: a function of its seed and the exits, as the ordinary one is.
//!
//! A run is cut into phases of random length, and each phase orders tasks in a style of its own. Strict
//! priorities, drawn anew for each phase, let some tasks starve while others run far ahead, and have every
//! task that becomes ready and ranks higher run at once (as the randomized scheduler of Burckhardt,
//! Kothari, Musuvathi and Nagarakatte does, "A Randomized Scheduler with Probabilistic Guarantees of
//! Finding Bugs", 2010). Others change at every exit. And as many mistakes lie between two system calls,
//! some phases take the CPU away in the middle of a program's code, behind a random number of instructions:
//! the program is single-stepped for so long.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// The stream of the seed that all is drawn from.
const CHAOS_STREAM: u64 = 4;
/// Phases in which stepping is as frequent as the other styles. It is slow: long programs get it less often.
const EARLY: u64 = 32;
/// One in so many phases steps from then on.
const LATER: u64 = 32;
/// Choices in a phase at most, a power of two.
const PHASE_BITS: u64 = 9;
/// Exits that a task goes on for that is favoured.
const UNFAIR: u32 = 4096;
/// Instructions in a row that are stepped at most, a power of two.
const WINDOW_BITS: u64 = 12;

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
}

impl Chaos {
    /// For a seed.
    pub fn new(seed: u64) -> Chaos {
        let random = Random::new(seed, CHAOS_STREAM);
        Chaos { random, style: Style::Priorities, left: 0, phases: 0, priorities: 0 }
    }

    /// Chooses among those that can run, which are not none.
    pub fn choose(&mut self, ready: impl ExactSizeIterator<Item = u32>) -> Turn {
        let count = ready.len() as u64;
        if count < 2 {
            return Turn { place: 0, exits: 1, steps: 0 };
        }
        if self.left == 0 {
            self.begin_phase();
        }
        self.left -= 1;
        let priorities = self.priorities;
        let highest = || {
            let ranked = ready.enumerate().max_by_key(|(_, tid)| rank(priorities, *tid));
            ranked.map_or(0, |(place, _)| place)
        };
        match self.style {
            Style::Priorities => Turn { place: highest(), exits: 1, steps: 0 },
            Style::Unfair => Turn { place: highest(), exits: UNFAIR, steps: 0 },
            Style::Switching => Turn { place: self.random.below(count) as usize, exits: 1, steps: 0 },
            Style::Stepping => {
                // Who has just run is the last in the queue.
                let place = self.random.below(count - 1) as usize;
                let exits = 1 + self.random.below(8) as u32;
                let steps = match self.random.below(2) {
                    0 => 0,
                    _ => 1 + self.below_power(WINDOW_BITS),
                };
                Turn { place, exits, steps }
            }
        }
    }

    fn begin_phase(&mut self) {
        self.phases += 1;
        self.priorities = self.random.below(u64::MAX);
        self.left = 4 + self.below_power(PHASE_BITS);
        let steps = self.phases <= EARLY || self.random.below(LATER) == 0;
        self.style = match self.random.below(if steps { 4 } else { 3 }) {
            0 => Style::Priorities,
            1 => Style::Unfair,
            2 => Style::Switching,
            _ => Style::Stepping,
        };
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
        for style in [Style::Priorities, Style::Unfair, Style::Switching, Style::Stepping] {
            assert!(turns(1).iter().any(|turn| turn.1 == style), "{style:?}");
        }
        assert!(turns(3).iter().all(|(turn, _)| turn.place < 6 && turn.exits > 0 && turn.steps <= 1 << 12));
    }

    #[test]
    fn alone_nothing_is_drawn() {
        let mut chaos = Chaos::new(7);
        for _ in 0..100 {
            assert_eq!(chaos.choose([5].into_iter()), Turn { place: 0, exits: 1, steps: 0 });
        }
        assert_eq!(chaos.phases, 0);
    }
}
