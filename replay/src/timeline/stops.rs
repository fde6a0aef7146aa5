//! What moves stop at, and why they end.

use std::collections::BTreeSet;
use std::ops::Range;

use dejavm_sandbox::program::process::PROGRAM_PID;

/// What moves stop at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stops {
    /// The process that all of it is in, by its number; by default the one that the recording starts with.
    pub process: u32,
    /// Addresses of instructions.
    pub breakpoints: BTreeSet<u64>,
    /// Memory: where it changes.
    pub writes: Vec<Range<u64>>,
}

impl Default for Stops {
    fn default() -> Stops {
        Stops { process: PROGRAM_PID, breakpoints: BTreeSet::new(), writes: Vec::new() }
    }
}

impl Stops {
    /// Breakpoints alone.
    pub fn at(breakpoints: impl IntoIterator<Item = u64>) -> Stops {
        Stops { breakpoints: breakpoints.into_iter().collect(), ..Stops::default() }
    }

    /// Whether there is nothing to stop at.
    pub fn is_empty(&self) -> bool {
        self.breakpoints.is_empty() && self.writes.is_empty()
    }
}

/// Why a move came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is where it was to go.
    Arrived,
    /// The instruction at this address is about to run, and there is a breakpoint on it.
    Breakpoint(u64),
    /// What is watched at these addresses was changed: forwards, by the instruction or the exit before; backwards,
    /// by the one that comes next.
    Written(Range<u64>),
    /// This is the last moment of the recording at which the program is there.
    End,
    /// This is the first moment of the recording.
    Start,
}
