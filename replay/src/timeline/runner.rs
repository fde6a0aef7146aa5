//! One machine that replays a recording from a checkpoint on.

use std::collections::BTreeSet;
use std::sync::Arc;

use dejavm_sandbox::exit::Observer;
use dejavm_sandbox::guest::{Checkpoint, Machine};
use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::{MachineOptions, PauseAt, RunEnd, RunError, RunOptions};
use dejavm_sandbox::program::machine::Halt;
use dejavm_sandbox::world::WorldError;

use super::{Position, TimelineError};
use crate::reader::Recording;
use crate::replayer::{Outputs, Replayer};

/// A machine, and the recording that it goes by.
pub(super) struct Runner {
    // Before the replayer, whose world it has.
    machine: Machine,
    observer: Box<dyn Observer>,
    replayer: Replayer,
}

/// How far a machine runs at most.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reach {
    /// Behind this exit.
    Exit(u64),
    /// Before the first instruction behind the exit that it is at.
    Entry,
    /// So many instructions, or behind the next exit.
    Steps(u64),
}

/// Why a machine came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// It is behind an exit.
    Exit,
    /// It is before an instruction.
    Halted(Halt),
    /// The recording has nothing more, or the program is gone. The machine cannot be run on.
    Ended,
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
        let replayer = Replayer::from_exit(recording.clone(), at.exit + 1)?;
        let world = replayer.world(Outputs::sink());
        let started = Machine::start(state, memory, world, host.clone(), stop.clone(), options);
        let mut machine = match (started, replayer.divergence()) {
            (Ok(machine), _) => machine,
            (Err(_), Some(divergence)) => return Err(TimelineError::Diverged(Box::new(divergence))),
            (Err(e), None) => return Err(e.into()),
        };
        if let (Some(program), Some(steps)) = (machine.program_mut(), at.steps.checked_sub(1)) {
            program.set_steps(steps);
        }
        Ok(Runner { machine, observer: replayer.observer(), replayer })
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

    /// Runs on.
    pub fn run(&mut self, reach: Reach, breakpoints: &BTreeSet<u64>) -> Result<Ran, TimelineError> {
        let (exits, made) = (self.exits(), self.steps());
        if let Some(program) = self.machine.program_mut() {
            if program.debug.breakpoints != *breakpoints {
                program.debug.breakpoints.clone_from(breakpoints);
            }
            program.debug.entry = matches!(reach, Reach::Entry);
            program.debug.steps = match reach {
                Reach::Steps(steps) => Some(made + steps),
                _ => None,
            };
        } else if !matches!(reach, Reach::Exit(_)) || !breakpoints.is_empty() {
            return Err(TimelineError::BareMetal);
        }
        let pause = match reach {
            Reach::Exit(exit) => exit,
            _ => exits + 1,
        };
        let options = RunOptions { pause: PauseAt::Exit(pause), observer: Some(&mut *self.observer) };
        let halt = |machine: &Machine| machine.program().and_then(|program| program.debug.halt);
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
