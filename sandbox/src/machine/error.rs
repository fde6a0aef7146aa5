//! What ends a run with an error.

use super::Crash;
use crate::fault::FaultError;
use crate::ram::PageError;
use crate::vcpu::VcpuError;
use crate::world::WorldError;

/// What ends a run with an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A fault could not be settled.
    #[error(transparent)]
    Fault(FaultError),
    /// A page could not be had.
    #[error(transparent)]
    Page(PageError),
    /// The outside ended the run: a divergence, the end of a recording, a recorder that fails.
    #[error(transparent)]
    World(WorldError),
    /// KVM refused something.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// The guest came to an exit that has no meaning, or that KVM cannot get past.
    #[error(transparent)]
    Crash(Box<Crash>),
    /// The host refused a timer.
    #[error("the host gives no timer: {0}")]
    Timer(#[source] std::io::Error),
    /// A copy of the program's code could not be made.
    #[error("translating the code at {rip:#x}: {reason}")]
    Translation {
        /// Where the block begins.
        rip: u64,
        /// What the encoder says.
        reason: String,
    },
    /// The monitor failed.
    #[error("{0}")]
    Machine(String),
}

impl From<WorldError> for RunError {
    fn from(e: WorldError) -> RunError {
        RunError::World(e)
    }
}

impl From<PageError> for RunError {
    fn from(e: PageError) -> RunError {
        match e {
            PageError::World(e) => RunError::World(e),
            e => RunError::Page(e),
        }
    }
}

impl From<FaultError> for RunError {
    fn from(e: FaultError) -> RunError {
        match e {
            FaultError::Page(e) => e.into(),
            e => RunError::Fault(e),
        }
    }
}
