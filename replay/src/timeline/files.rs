//! The files of the program at a moment, as it saw them.
//!
//! They are looked at in a machine of their own, which is a copy of the timeline's: what is looked up there, the
//! program never learns. Its outside has what the recording holds of the host's files, and nothing more.

use std::sync::{Arc, Mutex, PoisonError};

use dejavm_sandbox::errno::Errno;
use dejavm_sandbox::guest::{Checkpoint, Machine};
use dejavm_sandbox::machine::MachineOptions;
use dejavm_sandbox::program::fs::{FsError, FsResult, InodeId, S_IFDIR, S_IFREG, Stat};
use dejavm_sandbox::program::machine::Machine as Program;
use dejavm_sandbox::world::{BLOCK_SIZE, HostPath, Request, Response, World, WorldError};

use super::{Timeline, TimelineError};
use crate::reader::Recording;
use crate::reader::content::Keyed;

/// Why a file of the program could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is no such file: it never was, or not yet, or it was removed.
    #[error("{}: no such file at this moment of the run", shown(.path))]
    NotFound {
        /// The path.
        path: Vec<u8>,
    },
    /// A path that leads nowhere, or what cannot be read.
    #[error("{}: {}", shown(.path), .errno.text())]
    Refused {
        /// The path.
        path: Vec<u8>,
        /// Why.
        errno: Errno,
    },
    /// A pipe, a socket or a device: it has no content of its own.
    #[error("{}: neither a regular file nor a directory", shown(.path))]
    NoContent {
        /// The path.
        path: Vec<u8>,
    },
    /// A file of the host's that the program had not looked at by this moment: what it was, the recording does not
    /// say.
    #[error("{}: the program had not looked at it by this moment, so that the recording does not hold it", shown(.path))]
    NotSeen {
        /// The path.
        path: Vec<u8>,
    },
    /// A directory of the host's that the program had not listed by this moment.
    #[error("{}: the program had not listed this directory by this moment, so that the recording does not hold its names", shown(.path))]
    NotListed {
        /// The path.
        path: Vec<u8>,
    },
    /// Content of a host's file that the program never read.
    #[error("{}: the program never read the {len} bytes at offset {offset}, so that the recording does not hold them", shown(.path))]
    NotRead {
        /// The path.
        path: Vec<u8>,
        /// Where what is lacking begins, bytes from the file's start.
        offset: u64,
        /// Bytes, up to the end of the block or of the file.
        len: u64,
    },
    /// The recording is damaged.
    #[error(transparent)]
    Recording(Box<crate::Error>),
    /// The monitor failed.
    #[error("{}: {why}", shown(.path))]
    Failed {
        /// The path.
        path: Vec<u8>,
        /// Why.
        why: String,
    },
    /// A bare-metal guest has no files.
    #[error("a bare-metal guest has no files")]
    BareMetal,
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundKind {
    /// Regular, or a text of `/proc`.
    Regular,
    /// A directory.
    Directory,
}

/// A file that was found.
#[derive(Clone, Debug)]
pub struct Found {
    path: Vec<u8>,
    id: InodeId,
    kind: FoundKind,
    /// Bytes. A text of `/proc` says 0.
    size: u64,
}

impl Found {
    /// What it is.
    pub fn kind(&self) -> FoundKind {
        self.kind
    }

    /// Bytes that it says it has; 0 of what is made when it is read.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// What the outside was asked for and does not have.
pub(super) enum Lack {
    /// What a file is.
    File,
    /// The names in a directory.
    Names,
    /// A block of a file.
    Block(u64),
    /// What the recording has there cannot be read.
    Damaged(Box<crate::Error>),
}

pub(super) type Lacks = Arc<Mutex<Option<Lack>>>;

/// What the recording holds of the host's files.
pub(super) struct Held {
    recording: Recording,
    keyed: Keyed,
    lacks: Lacks,
}

impl Held {
    pub(super) fn new(recording: Recording, lacks: Lacks) -> Result<Held, TimelineError> {
        Ok(Held { keyed: recording.keyed()?, recording, lacks })
    }
}

impl World for Held {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        let lack = match request {
            Request::Signal { .. } => return Ok(Response::Signal(None)),
            Request::ReadBlock { path, block } => match self.keyed.get(path, block) {
                Some(answer) => match self.recording.response(answer) {
                    Ok(response) => return Ok(response),
                    Err(e) => Lack::Damaged(Box::new(e)),
                },
                None => Lack::Block(block),
            },
            Request::ReadDir { .. } => Lack::Names,
            _ => Lack::File,
        };
        *self.lacks.lock().unwrap_or_else(PoisonError::into_inner) = Some(lack);
        Err(WorldError::EndOfLog)
    }

    fn has_block(&self, path: &HostPath, block: u64) -> bool {
        self.keyed.get(path, block).is_some()
    }
}

/// The files of the program at one moment, as the task that runs then sees them: from its working directory.
pub struct Files {
    machine: Machine,
    lacks: Lacks,
}

impl Timeline {
    /// The program's files at this position.
    ///
    /// # Errors
    /// When there is no machine to be had, or the recording is damaged.
    pub fn files(&mut self) -> Result<Files, TimelineError> {
        let Checkpoint { state, memory } = self.machine_mut().checkpoint()?;
        let lacks = Lacks::default();
        let held = Held::new(self.recording.clone(), lacks.clone())?;
        let options = MachineOptions { prefetch: false, evict: None, ..self.options.machine.clone() };
        let machine =
            Machine::start(state, memory, Box::new(held), self.host.clone(), self.stop.clone(), &options)?;
        Ok(Files { machine, lacks })
    }
}

impl Files {
    /// Finds what a path names, links followed.
    ///
    /// # Errors
    /// [`FileError`]; also for what is neither regular nor a directory.
    pub fn find(&mut self, path: &[u8]) -> Result<Found, FileError> {
        let (id, stat) = self.ask(path, 0, |program| program.look_up_file(path))?;
        let kind = match Stat::kind(&stat) {
            S_IFREG => FoundKind::Regular,
            S_IFDIR => FoundKind::Directory,
            _ => return Err(FileError::NoContent { path: path.to_vec() }),
        };
        Ok(Found { path: path.to_vec(), id, kind, size: stat.size })
    }

    /// Reads on in a regular file; 0 at its end. It may be less than what there is room for.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(&mut self, file: &Found, offset: u64, out: &mut [u8]) -> Result<usize, FileError> {
        // Not beyond the block, so that what is there before one that is lacking can be had.
        let block = BLOCK_SIZE - (offset % BLOCK_SIZE as u64) as usize;
        let n = out.len().min(block);
        let read =
            self.ask(&file.path, file.size, |program| program.read_file(file.id, offset, &mut out[..n]));
        match read {
            // Where output goes to a file, the host has what is in it.
            Err(FileError::Refused { errno: Errno::EINVAL, path }) => Err(FileError::NoContent { path }),
            read => read,
        }
    }

    /// The names in a directory but `.` and `..`, in order.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn list(&mut self, directory: &Found) -> Result<Vec<Vec<u8>>, FileError> {
        self.ask(&directory.path, 0, |program| program.list_directory(directory.id))
    }

    /// Asks the machine; errors are about the file at this path, of so many bytes.
    fn ask<T>(
        &mut self,
        path: &[u8],
        size: u64,
        act: impl FnOnce(&mut Program) -> FsResult<T>,
    ) -> Result<T, FileError> {
        let program = self.machine.program_mut().ok_or(FileError::BareMetal)?;
        let failed = match act(program) {
            Ok(result) => return Ok(result),
            Err(failed) => failed,
        };
        let path = path.to_vec();
        let lack = self.lacks.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(match (lack, failed) {
            (Some(Lack::File), _) => FileError::NotSeen { path },
            (Some(Lack::Names), _) => FileError::NotListed { path },
            (Some(Lack::Block(block)), _) => {
                let offset = block.saturating_mul(BLOCK_SIZE as u64);
                let len = size.saturating_sub(offset).min(BLOCK_SIZE as u64);
                FileError::NotRead { path, offset, len }
            }
            (Some(Lack::Damaged(error)), _) => FileError::Recording(error),
            (None, FsError::Errno(Errno::ENOENT)) => FileError::NotFound { path },
            (None, FsError::Errno(errno)) => FileError::Refused { path, errno },
            (None, failed) => FileError::Failed { path, why: failed.to_string() },
        })
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("machine", &self.machine).finish_non_exhaustive()
    }
}
