//! What a snapshot, a fork, a checkpoint and the head of a recording have in common: everything
//! about a machine but the contents of its memory, as one value.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::kernel::state::KernelState;
use crate::machine::BadState;
use crate::program::state::ProgramState;

/// A machine at one moment of its run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MachineState {
    /// A Linux program's.
    Program(Box<ProgramState>),
    /// A bare-metal guest's.
    Kernel(Box<KernelState>),
}

/// What a run starts anew, instead of going on with what its start snapshot has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anew {
    /// Random bytes, from this seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Scheduling that tries to break programs, from this seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chaos: Option<u64>,
    /// Time slices, of so many branches about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_slice: Option<NonZeroU64>,
}

impl Anew {
    /// Whether the run goes on with all that its snapshot has.
    pub fn is_nothing(&self) -> bool {
        *self == Anew::default()
    }
}

/// What a machine may use of the host at most, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Memory.
    pub memory: u64,
    /// What it may write to files, which are kept in memory.
    pub disk: u64,
}

impl MachineState {
    /// What the machine may use at most.
    pub fn claims(&self) -> Claims {
        match self {
            MachineState::Program(state) => {
                Claims { memory: state.memory.account.limit(), disk: state.fs.overlay_quota() }
            }
            MachineState::Kernel(state) => Claims { memory: state.memory, disk: 0 },
        }
    }

    /// Checks what a file claims, as far as the monitor relies on it. The snapshot that it came with
    /// has `snapshot_pages` pages, 0 if there is none.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self, snapshot_pages: u64) -> Result<(), BadState> {
        match self {
            MachineState::Program(state) => state.check(snapshot_pages),
            MachineState::Kernel(state) => state.check(snapshot_pages),
        }
    }

    /// The processor that it needs, for people: that of programs by its level, that of a bare-metal guest as
    /// the CPU says of itself.
    pub fn cpu(&self) -> String {
        match self {
            MachineState::Program(state) => state.cpu.to_string(),
            MachineState::Kernel(state) => state.cpu.to_string(),
        }
    }

    /// Compared exits so far.
    pub fn exits(&self) -> u64 {
        match self {
            MachineState::Program(state) => state.exits,
            MachineState::Kernel(state) => state.exits,
        }
    }

    /// The run's seed.
    pub fn seed(&self) -> u64 {
        match self {
            MachineState::Program(state) => state.seed,
            MachineState::Kernel(state) => state.seed,
        }
    }

    /// Starts some things anew. Of a bare-metal guest nobody schedules tasks.
    pub fn begin_anew(&mut self, anew: &Anew) {
        let Anew { seed, chaos, time_slice } = *anew;
        match (self, seed) {
            (MachineState::Program(state), _) => {
                seed.into_iter().for_each(|seed| state.reseed(seed));
                chaos.into_iter().for_each(|seed| state.sched.set_chaos(Some(seed)));
                time_slice.into_iter().for_each(|branches| state.sched.set_slice(Some(branches)));
            }
            (MachineState::Kernel(state), Some(seed)) => state.seed = seed,
            (MachineState::Kernel(_), None) => {}
        }
    }

    /// The guest's command line: of a program its arguments, of a bare-metal guest its image's name
    /// and its command line.
    pub fn command(&self) -> Vec<Vec<u8>> {
        match self {
            MachineState::Program(state) => match &state.pending {
                Some(command) => command.args.clone(),
                None => state.space.image.args.clone(),
            },
            MachineState::Kernel(state) => {
                [&state.name, &state.cmdline].into_iter().filter(|word| !word.is_empty()).cloned().collect()
            }
        }
    }

    /// The state, if it is a program's.
    pub fn program(&self) -> Option<&ProgramState> {
        match self {
            MachineState::Program(state) => Some(state),
            MachineState::Kernel(_) => None,
        }
    }

    /// The state, if it is a bare-metal guest's.
    pub fn kernel(&self) -> Option<&KernelState> {
        match self {
            MachineState::Kernel(state) => Some(state),
            MachineState::Program(_) => None,
        }
    }
}
