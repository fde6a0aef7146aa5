//! Replaying: the outside as it was, and a look at each exit.

mod cursor;
mod divergence;
mod outputs;
mod redaction;
mod state;
mod taps;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dejavm_sandbox::exit::Observer;
use dejavm_sandbox::world::{HostPath, World};

pub use divergence::{Divergence, Event, FieldDifference, MAX_FAULTS, MAX_MATCHED, Window};
pub use outputs::{OutputError, Outputs};
pub use redaction::{Redaction, redact};

use crate::error::Error;
use crate::reader::Recording;
use state::State;

/// Replays a recording: its world gives the recorded answers, and its observer compares exits.
///
/// The run must start from the recording's start snapshot (or, after [`Replayer::from_exit`], from
/// the state after the exit before). It ends with
/// * the guest's own end, where the recorded run ended so;
/// * [`WorldError::EndOfLog`](dejavm_sandbox::world::WorldError::EndOfLog) at the last exit of a
///   recording that was interrupted or whose run was stopped, unless it goes on live
///   ([`Replayer::then_live`]);
/// * [`WorldError::Diverged`](dejavm_sandbox::world::WorldError::Diverged) at the first difference:
///   see [`Replayer::divergence`];
/// * [`WorldError::Recorder`](dejavm_sandbox::world::WorldError::Recorder) where the log cannot be
///   read: see [`Replayer::failure`].
pub struct Replayer {
    recording: Recording,
    state: Shared,
    live: Live,
}

/// The world after the log's end. Apart from the state, so that nobody who looks at the state waits
/// while this waits for input.
type Live = Arc<Mutex<Option<Box<dyn World>>>>;

type Shared = Arc<Mutex<State>>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    // A panic elsewhere (in an embedder's writer) leaves the state whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replayer {
    /// Opens the recording in `dir` for a replay from its start.
    ///
    /// # Errors
    /// Those of [`Recording::open`] and of [`Replayer::new`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Replayer, Error> {
        Replayer::new(Recording::open(dir)?)
    }

    /// A replay from the start.
    ///
    /// # Errors
    /// When the log's keyed answers cannot be read.
    pub fn new(recording: Recording) -> Result<Replayer, Error> {
        Replayer::from_exit(recording, 0)
    }

    /// A replay from the state that the run had after exit `exit - 1`: `exit` is the next one.
    ///
    /// # Errors
    /// As [`Replayer::new`].
    pub fn from_exit(recording: Recording, exit: u64) -> Result<Replayer, Error> {
        let state = State::new(recording.clone(), exit)?;
        Ok(Replayer { recording, state: Arc::new(Mutex::new(state)), live: Live::default() })
    }

    /// Where the log of an interrupted or stopped run ends, goes on with `live` instead of ending
    /// the run: later questions go to it, and later exits are not compared. Blocks of host files
    /// that are in the log still come from there, so that a file does not change under the guest.
    /// A recording that has the guest's own end never goes on.
    #[must_use]
    pub fn then_live(self, live: Box<dyn World>) -> Replayer {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live);
        lock(&self.state).go_on();
        self
    }

    /// Gives the run other answers than the recorded ones: with these contents taken out, as [`redact`] does. A
    /// recording that is made of the replay lacks them. What depends on contents is not compared then: what a
    /// system call wrote to memory, its registers, and output but for its length. A run that does something else
    /// without them ends as diverged.
    #[must_use]
    pub fn redacting(self, redaction: Redaction) -> Replayer {
        lock(&self.state).redact(redaction);
        self
    }

    /// The host files whose contents were taken out so far.
    pub fn redacted(&self) -> BTreeSet<HostPath> {
        lock(&self.state).redacted()
    }

    /// The recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The outside for the replayed run. What the guest writes goes to `outputs` as well.
    pub fn world(&self, outputs: Outputs) -> Box<dyn World> {
        Box::new(taps::ReplayWorld::new(self.state.clone(), self.live.clone(), outputs))
    }

    /// The observer for the replayed run.
    pub fn observer(&self) -> Box<dyn Observer> {
        Box::new(taps::ReplayObserver::new(self.state.clone()))
    }

    /// Reads the log ahead of the run from now on, by a thread; until then it is read when the run
    /// comes to it.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn read_ahead(&self) -> Result<(), Error> {
        lock(&self.state).read_ahead()
    }

    /// Whether block `block` of a host file is in the recording. Asking for one that is not is a
    /// divergence: something that brings blocks in before they are wanted asks here first.
    pub fn has_block(&self, path: &HostPath, block: u64) -> bool {
        lock(&self.state).has_block(path, block)
    }

    /// Number of the last exit that was as recorded; 0 before the first.
    pub fn position(&self) -> u64 {
        lock(&self.state).position()
    }

    /// Whether all of the log has been replayed.
    pub fn at_end(&self) -> bool {
        lock(&self.state).at_end()
    }

    /// Whether the run has gone on beyond the log, with the world of [`Replayer::then_live`].
    pub fn is_live(&self) -> bool {
        lock(&self.state).is_live()
    }

    /// The first difference, once the run has ended with one.
    pub fn divergence(&self) -> Option<Divergence> {
        lock(&self.state).divergence().cloned()
    }

    /// What was wrong with the log, once the run has ended for that.
    pub fn failure(&self) -> Option<Arc<Error>> {
        lock(&self.state).failure()
    }
}

impl std::fmt::Debug for Replayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replayer")
            .field("recording", &self.recording)
            .field("state", &*lock(&self.state))
            .finish_non_exhaustive()
    }
}
