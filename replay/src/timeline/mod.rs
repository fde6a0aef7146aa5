//! Moving in a recording: to any moment of the run, forwards and backwards.
//!
//! A run is replayed forwards only. To go back is to go on from an earlier checkpoint, and those are taken on
//! the way, as memory allows. Between two exits nothing enters the machine, so that whoever comes to a
//! position finds the same registers and memory there.

mod apart;
mod back;
mod backtrace;
mod before;
mod calls;
mod checkpoints;
mod digest;
mod error;
mod files;
mod kept;
mod long;
mod mapped;
mod moves;
mod place;
mod position;
mod runner;
mod scratch;
mod stops;
mod ways;
mod written;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dejavm_sandbox::guest::{Checkpoint, Machine};
use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::MachineOptions;
use dejavm_sandbox::vcpu::registers::{ExtendedState, UserRegisters};

pub use backtrace::{Frame, MOST_FRAMES, loaded_at, source_lines, symbol_address};
pub use error::TimelineError;
pub use files::{FileError, Files, Found, FoundKind};
pub(crate) use mapped::{OpenFile, Sources};
pub use position::{BadPosition, Moment, Position};
pub(crate) use scratch::{Scratch, ScratchStop};
pub use stops::{Stop, Stops};

use crate::looking;
use crate::manifest::{RunEnd, STUCK};
use crate::reader::Recording;
use checkpoints::Checkpoints;
use kept::Kept;
pub(crate) use kept::Mark;
use place::Place;
use runner::Runner;

/// How a timeline is replayed.
#[derive(Clone, Debug)]
pub struct TimelineOptions {
    /// How machines are made.
    pub machine: MachineOptions,
    /// Time of replaying between two checkpoints.
    pub every: Duration,
    /// Bytes that checkpoints may take, about.
    pub budget: u64,
    /// Time after which a stretch without exits is a long one for [`Timeline::run`]: branches are counted in it then, so that
    /// an interrupt leaves the timeline there. By zero, all stretches are.
    pub patience: Duration,
    /// Branches there between two looks whether a checkpoint is due, at least one.
    pub stride: u64,
}

impl Default for TimelineOptions {
    /// A checkpoint each 100 ms, and 1 GiB for all of them; nothing is counted before a position in a long stretch is
    /// wanted, as counting slows a program down. Two million branches take some 10 ms.
    fn default() -> TimelineOptions {
        TimelineOptions {
            machine: MachineOptions { prefetch: true, ..MachineOptions::default() },
            every: Duration::from_millis(100),
            budget: 1 << 30,
            patience: Duration::MAX,
            stride: 2_000_000,
        }
    }
}
/// A recording that one moves in. It is at one position at a time, between two instructions of the program.
pub struct Timeline {
    recording: Recording,
    host: Arc<HostProfile>,
    options: TimelineOptions,
    stop: StopHandle,
    checkpoints: Checkpoints,
    runner: Runner,
    place: Place,
    /// The machine is not where `place` says.
    spoilt: bool,
    /// When the last checkpoint was taken, or gone back to.
    checkpointed: Instant,
    /// Where it was long to come to.
    kept: Option<Kept>,
    /// The last place at which the program is there.
    end: Option<Place>,
    /// The last exit of a run that did not end by itself: what the program would do behind it was not seen.
    last: Option<u64>,
    /// Behind that, its tasks went on until each waited for what could never come.
    ends_stuck: bool,
    /// Time after which the stretch that this move comes to is a long one.
    patience: Duration,
    /// Exits behind which the program makes none for long: branches are counted there.
    long: BTreeSet<u64>,
    /// Writes to pages of what is watched, so far.
    traps: u64,
}

impl Timeline {
    /// Opens a recording, at its first moment: `start` is the machine of its start snapshot. `stop` interrupts
    /// moves.
    ///
    /// # Errors
    /// When there is no machine to be had, or the start is another one than the recording's.
    pub fn open(
        recording: Recording,
        start: Checkpoint,
        host: Arc<HostProfile>,
        options: TimelineOptions,
        stop: StopHandle,
    ) -> Result<Timeline, TimelineError> {
        let checkpoint = start;
        let start = Position::behind(checkpoint.state.exits());
        let ended = matches!(recording.end(), Some(RunEnd::Ended { .. }));
        let last = recording.exit_range().map_or(start.exit, |(_, last)| last);
        let last = (!ended).then_some(last);
        let ends_stuck = matches!(recording.end(), Some(RunEnd::Stopped { why }) if why == STUCK);
        let runner = Runner::start(&checkpoint, start, &recording, &host, &options.machine, &stop)?;
        // There is no exit by which to find the end of its last stretch.
        let long = if ends_stuck { last.into_iter().collect() } else { BTreeSet::new() };
        Ok(Timeline {
            checkpoints: Checkpoints::new(start, checkpoint, options.budget),
            place: start.into(),
            spoilt: false,
            checkpointed: Instant::now(),
            kept: None,
            end: None,
            last,
            ends_stuck,
            patience: Duration::MAX,
            long,
            traps: 0,
            recording,
            host,
            options,
            stop,
            runner,
        })
    }

    /// Takes in a checkpoint that was made behind a compared exit of the recorded run.
    ///
    /// # Errors
    /// [`TimelineError::NoSuchPosition`] where the recording has none such.
    pub fn add_checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), TimelineError> {
        let at = Position::behind(checkpoint.state.exits());
        let start = self.start();
        let end = Position::behind(self.recording.exit_range().map_or(start.exit, |(_, last)| last));
        if at <= start || at > end {
            return Err(TimelineError::NoSuchPosition { wanted: at.into(), start, end });
        }
        self.checkpoints.add(at, checkpoint, None);
        Ok(())
    }

    /// The recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The machine, as it is at this position.
    pub fn machine(&self) -> &Machine {
        self.runner.machine()
    }

    /// The machine, to look at: what changes it spoils the position.
    pub fn machine_mut(&mut self) -> &mut Machine {
        self.runner.machine_mut()
    }

    /// The running task's general registers and segment bases.
    pub fn registers(&self) -> UserRegisters {
        self.machine().registers()
    }

    /// Reads memory of the running task, by its addresses.
    ///
    /// # Errors
    /// [`TimelineError::Memory`] names the first address that could not be read; what is before it in `out`
    /// was.
    pub fn read_memory(&self, address: u64, out: &mut [u8]) -> Result<(), TimelineError> {
        Ok(self.machine().read_memory(address, out)?)
    }

    /// As [`Timeline::read_memory`]; returns how many bytes there were before the first that could not be read.
    pub fn look_at_memory(&self, address: u64, out: &mut [u8]) -> usize {
        looking::memory(self.machine(), address, out)
    }

    /// Sets the time of replaying between two checkpoints from here on: 100 ms at first.
    pub fn set_checkpoint_interval(&mut self, every: Duration) {
        self.options.every = every;
    }

    /// Sets how long a stretch without exits is run before its branches are counted, as [`TimelineOptions::patience`] says,
    /// and the branches there between two looks whether a checkpoint is due, which are not none.
    pub fn set_patience(&mut self, patience: Duration, stride: u64) {
        (self.options.patience, self.options.stride) = (patience, stride);
    }

    /// What stops moves: they fail with [`TimelineError::Interrupted`] as soon as its deadline has passed.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// After a move that failed: goes to the position at which the timeline is then.
    ///
    /// # Errors
    /// Those of moving.
    pub fn settle(&mut self) -> Result<(), TimelineError> {
        let place = self.place.clone();
        self.go(&place)
    }

    /// The tasks of the process that runs, by thread number.
    pub fn tasks(&self) -> Vec<u32> {
        looking::tasks(self.machine())
    }

    /// The registers of a task: general ones and segment bases, and the vector state.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn task(&mut self, tid: u32) -> Result<Option<(UserRegisters, ExtendedState)>, TimelineError> {
        Ok(looking::task(self.runner.machine_mut(), tid)?)
    }

    /// The running program's auxiliary vector, as in `/proc/PID/auxv`.
    pub fn auxv(&self) -> Vec<u8> {
        looking::auxv(self.machine())
    }

    /// The path of the running program's file.
    pub fn executable(&self) -> Option<Vec<u8>> {
        looking::executable(self.machine())
    }

    /// The signal that ends the recorded run, if this is the last moment of one that a signal ends.
    ///
    /// # Errors
    /// Those of moving.
    pub fn fatal_signal(&mut self) -> Result<Option<u8>, TimelineError> {
        let signal = match self.recording.end() {
            Some(RunEnd::Ended { status }) => (status & 0x7f) as u8,
            _ => 0,
        };
        Ok((signal != 0 && self.end_place()? == self.place).then_some(signal))
    }

    /// Whether the recorded run came to where nothing could ever go on.
    pub(crate) fn ends_stuck(&self) -> bool {
        self.ends_stuck
    }

    pub(super) fn rip(&self) -> u64 {
        self.registers().general.rip
    }

    /// Compared exits before this position. Costs nothing, where [`Timeline::position`] may have to count
    /// steps.
    pub fn exit(&self) -> u64 {
        self.place.base.exit
    }

    /// How many checkpoints there are, and the bytes that they take, about.
    pub fn checkpoints(&self) -> (usize, u64) {
        (self.checkpoints.count(), self.checkpoints.bytes())
    }

    /// The first position.
    pub fn start(&self) -> Position {
        self.checkpoints.start()
    }

    /// Whether this is the first position.
    pub fn is_at_start(&self) -> bool {
        self.place == Place::from(self.start())
    }
}

impl std::fmt::Debug for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timeline")
            .field("recording", &self.recording)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
