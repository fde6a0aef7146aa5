//! Why a system call gave no result.

use super::fs::FsError;
use super::mm::MemError;
use super::wait::{Key, Wait};
use crate::errno::Errno;
use crate::ram::PageError;
use crate::world::WorldError;

/// Why a system call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// The program gets this.
    #[error("{0}")]
    Errno(Errno),
    /// The call waits, and is made again when that is over.
    #[error("the call waits")]
    Wait(Wait),
    /// A signal from outside came while the call waited: it is taken, and interrupts the call, or the
    /// call is made again.
    #[error("a signal came")]
    Signal,
    /// A page could not be brought in: the run ends.
    #[error(transparent)]
    Page(PageError),
    /// The outside gave no answer: the run ends.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The monitor failed: the run ends.
    #[error("{0}")]
    Machine(String),
}

impl From<Errno> for SysError {
    fn from(errno: Errno) -> SysError {
        SysError::Errno(errno)
    }
}

impl From<PageError> for SysError {
    fn from(e: PageError) -> SysError {
        match e {
            PageError::World(e) => SysError::World(e),
            e => SysError::Page(e),
        }
    }
}

impl From<MemError> for SysError {
    fn from(e: MemError) -> SysError {
        match e {
            MemError::BadAddress(_) => SysError::Errno(Errno::EFAULT),
            MemError::Page(e) => e.into(),
        }
    }
}

impl From<FsError> for SysError {
    fn from(e: FsError) -> SysError {
        match e {
            FsError::Errno(errno) => SysError::Errno(errno),
            FsError::World(e) => SysError::World(e),
            FsError::Block(inode) => SysError::Wait(Wait::on(Key::File(inode))),
            FsError::Signal => SysError::Signal,
            FsError::Input(source) => SysError::Wait(Wait::on(Key::input(source))),
            FsError::Machine(e) => match e.downcast::<PageError>() {
                Ok(e) => (*e).into(),
                Err(e) => SysError::Machine(e.to_string()),
            },
        }
    }
}

impl From<super::mm::MapError> for SysError {
    fn from(e: super::mm::MapError) -> SysError {
        match e {
            super::mm::MapError::Errno(errno) => SysError::Errno(errno),
            super::mm::MapError::Page(e) => e.into(),
        }
    }
}

/// What system calls give: RAX.
pub type SysResult = Result<u64, SysError>;
