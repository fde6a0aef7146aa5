//! Where standard output and standard error go.

use std::io::{ErrorKind, Write, stderr, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::PollFlags;
use rustix::fs::{FileType, fstat};

use super::interrupt::{Interrupt, check, wait};
use crate::errno::Errno;
use crate::world::WorldError;

/// Bytes that go into a pipe at once without blocking, once `poll` says that it is ready
/// (`PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// Bytes of output kept in memory, which may be looked at while the guest runs.
#[derive(Clone, Debug, Default)]
pub struct OutputBuffer(Arc<Mutex<Vec<u8>>>);

impl OutputBuffer {
    /// An empty one.
    pub fn new() -> OutputBuffer {
        OutputBuffer::default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        // Bytes are whole whatever happened to another thread that held them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of what is in it.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().clone()
    }

    /// Takes what is in it.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock())
    }
}

/// Where an output stream goes.
pub enum Output {
    /// Nowhere.
    Null,
    /// Into memory.
    Capture {
        /// The memory; streams may share one.
        buffer: OutputBuffer,
        /// Bytes that it may hold. A guest that writes more gets `ENOSPC`.
        limit: usize,
    },
    /// To a writer. Where it blocks, the sandbox does, and cannot be interrupted.
    Writer(Box<dyn Write + Send>),
    /// To the standard output of this process.
    HostStdout,
    /// To the standard error of this process.
    HostStderr,
}

/// An output stream.
pub(super) struct OutputState {
    output: Output,
    /// Bytes that can be written at once after a `poll`, for a stream of the host's.
    piece: usize,
}

impl OutputState {
    pub fn new(output: Output) -> OutputState {
        let kind = |fd: BorrowedFd<'_>| fstat(fd).map(|s| FileType::from_raw_mode(s.st_mode));
        let kind = match output {
            Output::HostStdout => kind(stdout().as_fd()),
            Output::HostStderr => kind(stderr().as_fd()),
            _ => Ok(FileType::RegularFile),
        };
        // A file takes everything at once.
        let file = matches!(kind, Ok(FileType::RegularFile));
        OutputState { output, piece: if file { usize::MAX } else { PIPE_BUF } }
    }

    /// Writes; gives how many bytes were taken.
    pub fn write(
        &mut self,
        data: &[u8],
        interrupt: &dyn Interrupt,
    ) -> Result<Result<usize, Errno>, WorldError> {
        match &mut self.output {
            Output::Null => Ok(Ok(data.len())),
            Output::Capture { buffer, limit } => Ok(capture(buffer, *limit, data)),
            Output::Writer(writer) => {
                check(interrupt)?;
                Ok(write_to(writer, data))
            }
            Output::HostStdout => write_fd(stdout().as_fd(), self.piece, data, interrupt),
            Output::HostStderr => write_fd(stderr().as_fd(), self.piece, data, interrupt),
        }
    }
}

fn capture(buffer: &OutputBuffer, limit: usize, data: &[u8]) -> Result<usize, Errno> {
    let mut bytes = buffer.lock();
    let n = limit.saturating_sub(bytes.len()).min(data.len());
    if n == 0 && !data.is_empty() {
        return Err(Errno::ENOSPC);
    }
    bytes.extend_from_slice(&data[..n]);
    Ok(n)
}

fn write_to(writer: &mut dyn Write, data: &[u8]) -> Result<usize, Errno> {
    let errno = |e: std::io::Error| e.raw_os_error().map_or(Errno::EIO, Errno::from_host);
    loop {
        match writer.write(data) {
            Ok(0) if !data.is_empty() => return Err(Errno::EIO),
            // What a guest wrote is out, even if it ends right after.
            Ok(n) => return writer.flush().map(|()| n.min(data.len())).map_err(errno),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::BrokenPipe => return Err(Errno::EPIPE),
            Err(e) => return Err(errno(e)),
        }
    }
}

/// Writes to a descriptor, past the buffer of the standard library, in pieces that do not block
/// once it is ready, so that a reader that stalls does not keep the sandbox from being stopped.
pub(super) fn write_fd(
    fd: BorrowedFd<'_>,
    piece: usize,
    data: &[u8],
    interrupt: &dyn Interrupt,
) -> Result<Result<usize, Errno>, WorldError> {
    let mut done = 0;
    while done < data.len() {
        wait(&fd, PollFlags::OUT, interrupt)?;
        let end = data.len().min(done.saturating_add(piece));
        match rustix::io::write(fd, &data[done..end]) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) if done > 0 => break,
            Err(e) => return Ok(Err(e.into())),
        }
    }
    Ok(Ok(done))
}
