//! Replaying a recording.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dejavm_replay::{CheckpointRef, Outputs, Recording, Replayer, Timeline, TimelineOptions};
use dejavm_sandbox::guest::{Checkpoint, Machine, MachineState};
use dejavm_sandbox::machine::Memory;
use dejavm_sandbox::ram::Zeros;
use dejavm_snapshot::Snapshot;

use crate::common::{Ceilings, Common, ceiling_setters, common_setters};
use crate::image::Image;
use crate::recording::{self, LogLimits, Taps};
use crate::tee::both;
use crate::{Error, Host, Redaction, Sandbox, View};

/// A run that does again what a recorded one did: the outside says what it said then, and every
/// exit must be the same.
///
/// ```no_run
/// let host = dejavm::Host::probe()?;
/// let done = dejavm::Replay::open("recording")?.capture_output().start(&host)?.run()?;
/// println!("{:?}, {} exits as recorded", done.outcome, done.exits);
/// # Ok::<(), dejavm::Error>(())
/// ```
#[derive(Clone)]
pub struct Replay {
    recording: Recording,
    live: bool,
    redaction: Option<(Redaction, PathBuf)>,
    common: Common,
}

impl Replay {
    /// Opens a recording: its directory, or its pack.
    ///
    /// # Errors
    /// When it is not a recording, or damaged. One that a killed recorder left is no error.
    pub fn open(path: impl AsRef<Path>) -> Result<Replay, Error> {
        Ok(Replay::of(Recording::open(path)?))
    }

    /// A replay of an open recording.
    pub fn of(recording: Recording) -> Replay {
        Replay { recording, live: false, redaction: None, common: Common::default() }
    }

    /// The recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Goes on live where the log of a run that was stopped or interrupted ends, with this view of
    /// the host and the input and output that are given.
    #[must_use]
    pub fn then_live(mut self, view: View) -> Replay {
        self.live = true;
        self.common.view = view;
        self
    }

    /// Runs on a CPU below the level of the processor that the recorded programs see (of a bare-metal guest: on
    /// another than the recorded run's).
    #[must_use]
    pub fn any_cpu(mut self, any: bool) -> Replay {
        self.common.machine.any_cpu = any;
        self
    }

    /// Takes secrets out, once it is [started](Replay::start): the run is done again without them, and recorded in
    /// this directory, which is made; if it is there, it must be empty. Only a recording of a program from its start
    /// on can be redacted. A run that does something else without what was taken out (another call, another result,
    /// another length of output) ends as [`Error::Diverged`].
    #[must_use]
    pub fn redact(mut self, redaction: Redaction, into: impl Into<PathBuf>) -> Replay {
        self.redaction = Some((redaction, into.into()));
        self
    }

    common_setters!();
    ceiling_setters!();

    /// Where the recorded run starts: what is checked of it here is the same for all who replay it.
    fn start_of_run(&self) -> Result<(MachineState, Arc<Snapshot>), Error> {
        let image = Image::of_start(&self.recording)?;
        let (mut state, snapshot) = (image.state().clone(), image.snapshot().clone());
        let manifest = self.recording.manifest();
        let (expected, found) = (manifest.snapshot.id, snapshot.id());
        if found != expected {
            return Err(Error::WrongSnapshot { path: snapshot.path().to_owned(), expected, found });
        }
        self.common.ceilings.check(snapshot.path(), &state)?;
        state.begin_anew(&manifest.anew);
        Ok((state, snapshot))
    }

    /// Opens the recording to move in it, forwards and backwards. Checkpoints that it has are used. What it writes goes nowhere, and there is no
    /// deadline.
    ///
    /// # Errors
    /// Those of [`Replay::start`], and [`Error::Timeline`].
    pub fn timeline(self, host: &Host) -> Result<Timeline, Error> {
        let (state, snapshot) = self.start_of_run()?;
        let Replay { recording, common, .. } = self;
        let wiring = common.wiring()?;
        let (mut machine, ceilings) = (common.machine, common.ceilings);
        machine.allocator_reads_no_clock = host.allocator_reads_no_clock();
        let options = TimelineOptions { machine, ..TimelineOptions::default() };
        let start = Checkpoint { state, memory: Memory::Snapshot(snapshot) };
        let kept = recording.manifest().checkpoints.clone();
        let mut timeline =
            Timeline::open(recording.clone(), start, host.profile().clone(), options, wiring.stop)?;
        for checkpoint in kept {
            // It can be done without.
            if let Err(e) = kept_state(&recording, &checkpoint, &ceilings)
                .and_then(|checkpoint| Ok(timeline.add_checkpoint(checkpoint)?))
            {
                tracing::warn!(file = checkpoint.snapshot.file, error = %e, "a checkpoint is not used");
            }
        }
        Ok(timeline)
    }

    /// Makes the sandbox.
    ///
    /// # Errors
    /// [`Error::WrongSnapshot`], and as [`Restore::start`](crate::Restore::start).
    pub fn start(self, host: &Host) -> Result<Sandbox, Error> {
        let _span = tracing::info_span!("replay", recording = %self.recording.path().display()).entered();
        let (mut state, snapshot) = self.start_of_run()?;
        let Replay { recording, live, redaction, mut common } = self;
        common.machine.allocator_reads_no_clock = host.allocator_reads_no_clock();
        let mut wiring = common.wiring()?;
        let path = recording.path().to_owned();
        let mut replayer = Replayer::from_exit(recording, state.exits() + 1)?;
        if live {
            wiring.live = true;
            let grants = common.view.shown(host.system()).grants_of(&state);
            let stdin = std::mem::take(&mut common.stdin);
            replayer = replayer.then_live(Box::new(wiring.host_world(
                grants,
                common.host_files.known(&state),
                stdin,
            )?));
        }
        if let Some((redaction, _)) = &redaction {
            let not = |why| Error::NotRedacted { path: path.clone(), why };
            let MachineState::Program(program) = &mut state else {
                return Err(not("its guest is no program"));
            };
            replayer = replayer.redacting(redaction.begin(program).map_err(not)?);
        }
        let interrupt = Box::new(wiring.stop.clone());
        let outputs = Outputs::to(wiring.stdout.output(), wiring.stderr.output(), interrupt);
        wiring.output_error = Some(outputs.error());
        let world = replayer.world(outputs);
        let Taps { world, observer, recording } = match &redaction {
            // As when it was recorded, there is no memory yet.
            Some((_, into)) => recording::of_start(into, &state, &Zeros, 0, world, LogLimits::default())?,
            None => Taps::none(world),
        };
        let machine = Machine::start(
            state,
            Memory::Snapshot(snapshot),
            world,
            host.profile().clone(),
            wiring.stop.clone(),
            &common.machine,
        );
        let observer = both(Some(replayer.observer()), observer);
        Sandbox::assemble(machine, observer, recording, Some(replayer), wiring, common)
    }
}

/// A checkpoint that the recorder kept.
fn kept_state(recording: &Recording, kept: &CheckpointRef, ceilings: &Ceilings) -> Result<Checkpoint, Error> {
    let image = Image::of(recording.open_checkpoint(kept)?)?;
    let (state, snapshot) = (image.state().clone(), image.snapshot().clone());
    let path = snapshot.path();
    let (expected, found) = (kept.snapshot.id, snapshot.id());
    if found != expected || state.exits() != kept.exit {
        return Err(Error::WrongSnapshot { path: path.to_owned(), expected, found });
    }
    ceilings.check(path, &state)?;
    Ok(Checkpoint { state, memory: Memory::Snapshot(snapshot) })
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("recording", &self.recording).finish_non_exhaustive()
    }
}
