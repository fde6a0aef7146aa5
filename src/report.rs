//! What came of a run.

use std::collections::BTreeMap;

use dejavm_replay::Summary;
use dejavm_sandbox::program::machine::{Death, RunEnd};
use dejavm_sandbox::program::process::End;
use dejavm_sandbox::stats::Stats;
use serde::{Deserialize, Serialize};

/// How a run came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// The guest ended with this status.
    Exited(u8),
    /// The guest was ended by this signal.
    Signalled(u32),
    /// Its time was over.
    Deadline,
    /// It was stopped by its handle.
    Stopped,
    /// It came to the point where it was to pause: it can be run on.
    Paused,
    /// It waits for something that can never come.
    Stuck,
    /// A recording that was interrupted ends here.
    LogEnds,
}

impl Outcome {
    /// The status that a shell would give for a guest that ended: its own, or 128 plus the
    /// signal's number.
    pub fn code(self) -> Option<u8> {
        match self {
            Outcome::Exited(status) => Some(status),
            Outcome::Signalled(signal) => Some(End::Signalled(signal).code()),
            _ => None,
        }
    }

    /// Whether the guest can be run on from here.
    pub fn goes_on(self) -> bool {
        matches!(self, Outcome::Paused)
    }
}

impl From<RunEnd> for Outcome {
    fn from(end: RunEnd) -> Outcome {
        match end {
            RunEnd::Ended(End::Exited(status)) => Outcome::Exited(status),
            RunEnd::Ended(End::Signalled(signal)) => Outcome::Signalled(signal),
            RunEnd::Deadline => Outcome::Deadline,
            RunEnd::Stopped => Outcome::Stopped,
            RunEnd::Paused => Outcome::Paused,
            RunEnd::Stuck => Outcome::Stuck,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// How it came back.
    pub outcome: Outcome,
    /// What the guest wrote to its standard output since the last report, if it was captured.
    pub stdout: Vec<u8>,
    /// The same of its standard error.
    pub stderr: Vec<u8>,
    /// Compared exits since the guest's start, before a snapshot included.
    pub exits: u64,
    /// What the guest died of, when a signal ended it.
    pub death: Option<Death>,
    /// Whether the run was ended, by its deadline or stop handle, while an interval timer was armed
    /// and the guest had made no exit for 100 ms or more: it may be spinning until the timer goes
    /// off, and virtual time stands still between exits. [`Program::timer_step`] lets it pass.
    ///
    /// [`Program::timer_step`]: crate::Program::timer_step
    pub spinning: bool,
    /// System calls that are not implemented, by number: how often the guest made them. It got
    /// `ENOSYS`.
    pub unknown_calls: BTreeMap<u64, u64>,
    /// Counts and times of this sandbox.
    pub stats: Stats,
    /// The recording, once it is sealed.
    pub recording: Option<Summary>,
}
