//! What came of a run.

use std::collections::BTreeMap;

use dejavm_replay::Summary;
use dejavm_sandbox::errno::Errno;
use dejavm_sandbox::kernel::state::KernelState;
use dejavm_sandbox::kernel::unrepeatable::{Places, Unrepeatable};
use dejavm_sandbox::machine::{End, RunEnd};
use dejavm_sandbox::program::machine::Death;
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
    /// A bare-metal guest reset the machine.
    Reset,
    /// A bare-metal guest met an exception that it could not take.
    TripleFault,
    /// A bare-metal guest halted, and nothing can wake it.
    Halted,
    /// Its time was over.
    Deadline,
    /// It was stopped by its handle.
    Stopped,
    /// It came to the point where it was to pause: it can be run on.
    Paused,
    /// It waits for something that can never come: see [`Report::waits_for`].
    Stuck,
    /// A recording that was interrupted ends here.
    LogEnds,
    /// The recording came to the limit of its log, and the run was ended: see
    /// [`Program::max_log`](crate::Program::max_log). What was recorded until then can be replayed.
    LogFull,
}

impl Outcome {
    /// How the guest ended, if it did.
    pub fn end(self) -> Option<End> {
        Some(match self {
            Outcome::Exited(status) => End::Exited(status),
            Outcome::Signalled(signal) => End::Signalled(signal),
            Outcome::Reset => End::Reset,
            Outcome::TripleFault => End::TripleFault,
            Outcome::Halted => End::Halted,
            Outcome::Deadline
            | Outcome::Stopped
            | Outcome::Paused
            | Outcome::Stuck
            | Outcome::LogEnds
            | Outcome::LogFull => {
                return None;
            }
        })
    }

    /// The status that a shell would give for a guest that ended: its own, or 128 plus the
    /// signal's number; 0 for a reset. `None` for a bare-metal guest that halted or died.
    pub fn code(self) -> Option<u8> {
        self.end().and_then(End::code)
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
            RunEnd::Ended(End::Reset) => Outcome::Reset,
            RunEnd::Ended(End::TripleFault) => Outcome::TripleFault,
            RunEnd::Ended(End::Halted) => Outcome::Halted,
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
    /// What a guest that is [stuck](Outcome::Stuck) waits for, in words; not in a replay, whose log ends
    /// before.
    pub waits_for: Option<String>,
    /// The first error in writing a replay's output. It does not change the replay, but what was written
    /// is not complete.
    pub output_error: Option<Errno>,
    /// What the guest died of, when a signal ended it.
    pub death: Option<Death>,
    /// Which task of the guest ran when the run was ended by its deadline or stop handle, and where, in words, if
    /// it had made no exit for 100 ms or more while others could have run: nothing takes a task off the CPU
    /// that makes none.
    pub spins: Option<String>,
    /// Whether the run was ended, by its deadline or stop handle, while an interval timer was armed
    /// and the guest had made no exit for 100 ms or more: it may be spinning until the timer goes
    /// off, and virtual time stands still between exits. [`Program::timer_step`] lets it pass.
    ///
    /// [`Program::timer_step`]: crate::Program::timer_step
    pub spinning: bool,
    /// System calls that are not implemented, by number: how often the guest made them. It got
    /// `ENOSYS`.
    pub unknown_calls: BTreeMap<u64, u64>,
    /// Ports that a bare-metal guest used and that no device has: how many bytes it read or wrote
    /// there. Reads gave ones.
    pub unknown_ports: BTreeMap<u16, u64>,
    /// Addresses beyond its memory that a bare-metal guest used, by page: how often. Reads gave ones.
    pub unknown_memory: BTreeMap<u64, u64>,
    /// Why another run may differ, although its start and its input are the same; empty for programs.
    pub not_deterministic: Vec<NotDeterministic>,
    /// Which of its limits the guest came to.
    pub limits: LimitsHit,
    /// Counts and times of this sandbox.
    pub stats: Stats,
    /// The recording, once it is sealed.
    pub recording: Option<Summary>,
}

/// Which of its limits a guest came to since its sandbox was made: what it did before a snapshot does not
/// count. A guest may well go on after it was refused something, and succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LimitsHit {
    /// It was refused memory, or ended for it ([`Program::memory`](crate::Program::memory)). Limits that it
    /// has set itself (`setrlimit`) do not count.
    pub memory: bool,
    /// It was refused room for what it writes to files ([`Program::disk`](crate::Program::disk)).
    pub disk: bool,
    /// It wrote more than is captured ([`Program::capture_limit`](crate::Program::capture_limit)): output
    /// is cut off there, and the guest was told. In a replay, by what the replay captures.
    pub output: bool,
    /// Its time was over ([`Program::deadline`](crate::Program::deadline)).
    pub deadline: bool,
}

impl LimitsHit {
    /// The names of those that were hit.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let LimitsHit { memory, disk, output, deadline } = *self;
        let all = [("memory", memory), ("disk", disk), ("output", output), ("deadline", deadline)];
        all.into_iter().filter_map(|(name, hit)| hit.then_some(name))
    }

    /// Whether any was hit.
    pub fn any(&self) -> bool {
        self.names().next().is_some()
    }
}

/// Why a bare-metal guest's run may not be repeated. What is told is that the code has it: whether it
/// ran cannot be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotDeterministic {
    /// Its code has an instruction that cannot be made to trap at CPL 0.
    Instruction {
        /// The instruction.
        what: Unrepeatable,
        /// Where the image has it.
        places: Places,
    },
    /// It unpacked itself, so that its code is not known.
    UnpacksItself,
}

impl NotDeterministic {
    /// All that is known of a bare-metal guest.
    pub(crate) fn of(state: &KernelState) -> Vec<NotDeterministic> {
        let found = state.unrepeatable.iter();
        let found =
            found.map(|(what, places)| NotDeterministic::Instruction { what: *what, places: *places });
        found.chain(state.unpacks_itself.then_some(NotDeterministic::UnpacksItself)).collect()
    }
}

impl std::fmt::Display for NotDeterministic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotDeterministic::Instruction { what, places: Places { count, first } } => {
                let (what, plural) = (what.text(), if *count == 1 { "" } else { "s" });
                write!(f, "{what} at {count} place{plural} in its code, the first at {first:#x}")
            }
            NotDeterministic::UnpacksItself => {
                f.write_str("code that it unpacks itself, which may read the time stamp counter")
            }
        }
    }
}
