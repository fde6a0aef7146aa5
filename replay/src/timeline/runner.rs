//! One machine that replays a recording from a checkpoint on.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use dejavm_sandbox::exit::Observer;
use dejavm_sandbox::guest::{Checkpoint, Machine};
use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::{MachineOptions, PauseAt, RunEnd, RunError, RunOptions};
use dejavm_sandbox::program::machine::{Halt, Machine as ProgramMachine};
use dejavm_sandbox::world::{HostPath, Request, Response, World, WorldError};

use super::{Position, Stops, TimelineError};
use crate::reader::Recording;
use crate::replayer::{Outputs, Replayer};

/// A machine, and the recording that it goes by.
pub(super) struct Runner {
    // Before the replayer, whose world it has.
    machine: Machine,
    observer: Box<dyn Observer>,
    replayer: Replayer,
    /// From where on it is logged what is written.
    pub(super) logged: Option<Position>,
}

/// How far a machine runs at most: as far as the nearest of these.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    /// Behind this exit; if not given, behind the next.
    pub exit: Option<u64>,
    /// Before the first instruction behind the exit that it is at.
    pub entry: bool,
    /// So many instructions, one by one.
    pub steps: Option<u64>,
    /// Behind so many branches since the last exit.
    pub branches: Option<u64>,
    /// Wherever it is when it has made no exit for so long.
    pub patience: Option<Duration>,
    /// Before the instruction that is the so manieth to use a page in which something is watched in the way that
    /// is.
    pub trap: Option<u64>,
}

/// Why a machine came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// It is behind an exit.
    Exit,
    /// It is before an instruction.
    Halted(Halt),
    /// The recording has nothing more, or the program is gone. The machine cannot be run on.
    Ended,
}

/// The world behind the log's end of a run that was stopped. With it, the program is there behind the last exit
/// still, and not gone.
struct Nothing;

impl World for Nothing {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        match request {
            Request::Signal { .. } => Ok(Response::Signal(None)),
            _ => Err(WorldError::EndOfLog),
        }
    }

    fn has_block(&self, _path: &HostPath, _block: u64) -> bool {
        false
    }
}

impl Runner {
    /// A machine at a checkpoint.
    pub fn start(
        checkpoint: &Checkpoint,
        at: Position,
        recording: &Recording,
        host: &Arc<HostProfile>,
        options: &MachineOptions,
        stop: &StopHandle,
    ) -> Result<Runner, TimelineError> {
        let Checkpoint { state, memory } = checkpoint.clone();
        let replayer = Replayer::from_exit(recording.clone(), at.exit + 1)?.then_live(Box::new(Nothing));
        let world = replayer.world(Outputs::sink());
        let started = Machine::start(state, memory, world, host.clone(), stop.clone(), options);
        let mut machine = match (started, replayer.divergence()) {
            (Ok(machine), _) => machine,
            (Err(_), Some(divergence)) => return Err(TimelineError::Diverged(Box::new(divergence))),
            (Err(e), None) => return Err(e.into()),
        };
        if let Some(program) = machine.program_mut().filter(|_| at != Position::behind(at.exit)) {
            // The first behind an exit is no instruction.
            let steps = if at.branches > 0 { at.steps } else { at.steps - 1 };
            program.set_steps(steps);
            program.set_branches(Some(at.branches), steps);
        }
        Ok(Runner { machine, observer: replayer.observer(), replayer, logged: None })
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The machine, to change.
    pub fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Compared exits so far.
    pub fn exits(&self) -> u64 {
        self.machine.core().exits
    }

    /// Instructions since the last exit, as far as they were stepped.
    pub fn steps(&self) -> u64 {
        self.machine.program().map_or(0, |program| program.steps())
    }

    /// Branches since the last exit, if they were counted, and instructions since the last of them, as far as they were
    /// stepped.
    pub fn branches(&self) -> (Option<u64>, u64) {
        let of = |program: &ProgramMachine| (program.branches(), program.steps_since_branch());
        self.machine.program().map_or((None, 0), of)
    }

    /// Branches between the last two exits, if they were counted.
    pub fn branches_before_exit(&self) -> Option<u64> {
        self.machine.program().and_then(|program| program.branches_before_exit())
    }

    /// Branches are counted from now on, or are not.
    pub fn count(&mut self, counts: bool) {
        if let Some(program) = self.machine.program_mut() {
            program.debug.counts = counts;
        }
    }

    /// There were so many branches, and steps since, as [`Runner::branches`] tells it.
    pub fn set_branches(&mut self, (branches, steps): (Option<u64>, u64)) {
        if let Some(program) = self.machine.program_mut() {
            program.set_branches(branches, steps);
        }
    }

    /// What stops the machine from now on. What is watched is looked at now.
    pub fn want(&mut self, stops: &Stops) -> Result<(), TimelineError> {
        if let Some(program) = self.machine.program_mut() {
            program.debug.signals = !stops.signals.is_empty();
        }
        stops.put(&mut self.machine)
    }

    /// Whether an instruction that is stopped at is about to run, and the conditions hold for that.
    pub fn stands_at(&mut self, stops: &Stops) -> Result<bool, TimelineError> {
        stops.are_met(&mut self.machine)
    }

    /// The signal that is about to be delivered to the running task, if it is of this process.
    pub fn next_signal(&mut self, process: u32) -> Option<u32> {
        let program = self.machine.program_mut()?;
        let runs = program.kernel.pid() == process && !program.kernel.task.dead;
        runs.then(|| program.next_signal()).flatten()
    }

    /// Whether no instruction has run since the last exit.
    pub fn is_behind_exit(&self) -> bool {
        self.machine.program().is_some_and(|program| program.is_behind_exit())
    }

    /// Uses of pages of what is watched since the machine was run last, or since the last exit.
    pub fn traps(&self) -> u64 {
        self.machine.program().map_or(0, |program| program.debug.traps)
    }

    /// What is watched and has changed since it was looked at last.
    pub fn changed(&mut self) -> Option<Range<u64>> {
        self.machine.program_mut().and_then(|program| program.changed())
    }

    /// Runs on.
    pub fn run(&mut self, reach: Reach) -> Result<Ran, TimelineError> {
        let (exits, made) = (self.exits(), self.steps());
        if let Some(program) = self.machine.program_mut() {
            program.debug.traps = 0;
            program.debug.entry = reach.entry;
            program.debug.steps = reach.steps.map(|steps| made.saturating_add(steps));
            program.debug.trap = reach.trap;
            program.debug.branches = reach.branches;
            program.debug.patience = reach.patience;
        } else if reach.entry || reach.steps.is_some() {
            return Err(TimelineError::BareMetal);
        }
        let pause = reach.exit.unwrap_or(exits + 1);
        let options = RunOptions { pause: PauseAt::Exit(pause), observer: Some(&mut *self.observer) };
        let halt = |machine: &Machine| machine.program().and_then(|program| program.debug.halt.clone());
        match self.machine.run(options) {
            Ok(RunEnd::Paused) => Ok(halt(&self.machine).map_or(Ran::Exit, Ran::Halted)),
            Ok(RunEnd::Ended(_) | RunEnd::Stuck) | Err(RunError::World(WorldError::EndOfLog)) => {
                Ok(Ran::Ended)
            }
            Ok(RunEnd::Stopped | RunEnd::Deadline) => Err(TimelineError::Interrupted),
            Err(error) => match self.replayer.divergence() {
                Some(divergence) => Err(TimelineError::Diverged(Box::new(divergence))),
                None => Err(error.into()),
            },
        }
    }
}
