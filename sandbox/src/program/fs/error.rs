//! Why a file operation did not succeed.

use super::inode::InodeId;
use crate::errno::Errno;
use crate::world::{Source, WorldError};

/// Why a file operation did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsError {
    /// The guest gets this error number.
    #[error("{0}")]
    Errno(Errno),
    /// The outside gave no answer: the run ends.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The file blocks, and only another task can make it ready. Nothing was changed: the same call is
    /// made again when the file has changed ([`Fs::take_woken`](super::Fs::take_woken)).
    #[error("the call must wait for another task")]
    Block(InodeId),
    /// A signal from outside came while the call waited. Nothing was changed: if the task takes the
    /// signal, the call ends with `EINTR`; else it is made again.
    #[error("a signal came")]
    Signal,
    /// There is no input yet, and time may end the wait for it. Nothing was changed: the same call is
    /// made again when there is some.
    #[error("the call must wait for input")]
    Input(Source),
    /// Guest memory could not be read or written for a reason that is not the guest's: the run
    /// ends.
    #[error(transparent)]
    Machine(Box<dyn std::error::Error + Send + Sync>),
}

/// What file operations give.
pub type FsResult<T> = Result<T, FsError>;

impl From<Errno> for FsError {
    fn from(errno: Errno) -> FsError {
        FsError::Errno(errno)
    }
}

/// A failure that the guest sees.
pub(crate) fn fail<T>(errno: Errno) -> FsResult<T> {
    Err(FsError::Errno(errno))
}
