//! Why a timeline could not go somewhere.

use dejavm_sandbox::machine::{ReadError, RunError, StartError};

use super::{Moment, Position};
use crate::replayer::Divergence;

/// Why a timeline could not go somewhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimelineError {
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(Box<crate::Error>),
    /// There is no machine to replay on.
    #[error(transparent)]
    Start(Box<StartError>),
    /// The run failed.
    #[error(transparent)]
    Run(Box<RunError>),
    /// It went another way than the recorded one.
    #[error("{}", .0.headline())]
    Diverged(Box<Divergence>),
    /// The recording has no such position.
    #[error("there is no position {wanted} in this recording: it has those from {start} to {end}")]
    NoSuchPosition {
        /// What was asked for.
        wanted: Moment,
        /// The first.
        start: Position,
        /// The last.
        end: Position,
    },
    /// It was stopped by its handle.
    #[error("interrupted")]
    Interrupted,
    /// Memory could not be read.
    #[error(transparent)]
    Memory(#[from] ReadError),
    /// A bare-metal guest has no steps and no breakpoints.
    #[error("a bare-metal guest is moved by its exits only: steps and breakpoints are for programs")]
    BareMetal,
}

impl From<crate::Error> for TimelineError {
    fn from(e: crate::Error) -> TimelineError {
        TimelineError::Recording(Box::new(e))
    }
}

impl From<StartError> for TimelineError {
    fn from(e: StartError) -> TimelineError {
        TimelineError::Start(Box::new(e))
    }
}

impl From<RunError> for TimelineError {
    fn from(e: RunError) -> TimelineError {
        TimelineError::Run(Box::new(e))
    }
}
