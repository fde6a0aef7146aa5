//! Where standard input comes from.

use std::io::{ErrorKind, Read, stdin};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::PollFlags;

use super::helper::Helper;
use super::interrupt::{Interrupt, Waited, check, wait};
use super::stdin::StdinFile;
use super::stream::HostStream;
use crate::errno::Errno;
use crate::host::tty;
use crate::world::WorldError;

/// Bytes read at once.
const MOST: usize = 1 << 20;

/// Bytes asked of a reader before it is known how many are wanted.
const AHEAD: usize = 64 << 10;

/// Where standard input comes from.
#[non_exhaustive]
pub enum Input {
    /// Nowhere: it is at its end.
    Empty,
    /// From these bytes.
    Bytes(Vec<u8>),
    /// From bytes that whoever has the buffer gives, again and again.
    Buffer(InputBuffer),
    /// From a reader. It is asked when the guest reads, on a thread of its own, and taken to be always
    /// ready: a guest that only looks whether there is input waits for it. While it blocks, the run can
    /// be ended; what it reads then is kept for when the run goes on. It is dropped with the sandbox or,
    /// if it blocks, when it comes back.
    Reader(Box<dyn Read + Send>),
    /// From this descriptor: a pipe, a socket, a file, a terminal.
    Fd(OwnedFd),
    /// From the standard input of this process.
    HostStdin,
}

impl Input {
    /// From this descriptor, such as a pipe, a socket, a file or a terminal.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Input {
        Input::Fd(fd.into())
    }
}

/// Bytes that a guest reads, which may be replaced by others between its runs: for one that is put back to the same
/// moment for each of them. Clones are the same buffer.
#[derive(Clone, Debug, Default)]
pub struct InputBuffer(Arc<Mutex<Rest>>);

/// Bytes, and how many of them were read.
#[derive(Debug, Default)]
struct Rest {
    bytes: Vec<u8>,
    read: usize,
}

impl InputBuffer {
    /// An empty one: input is at its end.
    pub fn new() -> InputBuffer {
        InputBuffer::default()
    }

    /// Replaces what is left by these bytes. Behind them, input is at its end.
    pub fn set(&self, bytes: &[u8]) {
        let mut rest = self.lock();
        rest.bytes.clear();
        rest.bytes.extend_from_slice(bytes);
        rest.read = 0;
    }

    /// How many bytes were not read.
    pub fn left(&self) -> usize {
        let rest = self.lock();
        rest.bytes.len() - rest.read
    }

    fn lock(&self) -> MutexGuard<'_, Rest> {
        // Bytes are whole whatever happened to another thread that held them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, max: usize) -> Vec<u8> {
        let mut rest = self.lock();
        let end = rest.bytes.len().min(rest.read.saturating_add(max));
        let part = rest.bytes[rest.read..end].to_vec();
        rest.read = end;
        part
    }
}

/// Standard input, so far read.
pub(super) enum InputState {
    Empty,
    /// The bytes, and how many were read.
    Bytes(Vec<u8>, usize),
    Buffer(InputBuffer),
    Reader {
        helper: Helper<usize, Result<Vec<u8>, Errno>>,
        /// What it gave beyond what was asked for.
        ahead: Vec<u8>,
    },
    Host(HostStream),
    /// It could not be opened.
    Broken(Errno),
}

impl InputState {
    pub fn new(input: Input) -> InputState {
        let opened = match input {
            Input::Empty => return InputState::Empty,
            Input::Bytes(bytes) => return InputState::Bytes(bytes, 0),
            Input::Buffer(buffer) => return InputState::Buffer(buffer),
            Input::Reader(mut reader) => Helper::new("dejavm-input", move |max| read_from(&mut *reader, max))
                .map(|helper| InputState::Reader { helper, ahead: Vec::new() }),
            Input::Fd(fd) => HostStream::reading(fd.as_fd()).map(InputState::Host),
            Input::HostStdin => HostStream::reading(stdin().as_fd()).map(InputState::Host),
        };
        opened.unwrap_or(InputState::Broken(Errno::EIO))
    }

    /// The terminal that it is.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        match self {
            InputState::Host(stream) if stream.is_terminal() => Some(stream.fd()),
            _ => None,
        }
    }

    /// The regular file that it is.
    pub fn file(&self) -> Option<StdinFile> {
        match self {
            InputState::Host(stream) => StdinFile::of(stream.fd()),
            _ => None,
        }
    }

    /// Reads at most `max` bytes; none at the end.
    pub fn read(
        &mut self,
        max: usize,
        block: bool,
        interrupt: &dyn Interrupt,
    ) -> Result<Result<Vec<u8>, Errno>, WorldError> {
        let max = max.min(MOST);
        match self {
            InputState::Empty => Ok(Ok(Vec::new())),
            InputState::Bytes(bytes, position) => {
                let rest = &bytes[*position..];
                let part = rest[..rest.len().min(max)].to_vec();
                *position += part.len();
                Ok(Ok(part))
            }
            InputState::Buffer(buffer) => Ok(Ok(buffer.read(max))),
            InputState::Reader { helper, ahead } => {
                check(interrupt)?;
                if !ahead.is_empty() {
                    return Ok(Ok(ahead.drain(..max.min(ahead.len())).collect()));
                }
                if !helper.is_busy() {
                    helper.start(max);
                }
                loop {
                    if let Some(answer) = helper.answer() {
                        let mut bytes = match answer.unwrap_or(Err(Errno::EIO)) {
                            Ok(bytes) => bytes,
                            Err(errno) => return Ok(Err(errno)),
                        };
                        *ahead = bytes.split_off(max.min(bytes.len()));
                        return Ok(Ok(bytes));
                    }
                    if wait(Some((helper.fd(), PollFlags::IN)), None, interrupt)? == Waited::Signal {
                        return Ok(Err(Errno::EINTR));
                    }
                }
            }
            InputState::Host(stream) => {
                check(interrupt)?;
                read_stream(stream, max, block, interrupt)
            }
            InputState::Broken(errno) => Ok(Err(*errno)),
        }
    }

    /// What becomes readable when there is input; `None` where there is already.
    pub fn waits_for(&mut self) -> Option<BorrowedFd<'_>> {
        match self {
            InputState::Empty | InputState::Bytes(..) | InputState::Buffer(_) | InputState::Broken(_) => None,
            InputState::Reader { helper, ahead } => {
                if !ahead.is_empty() {
                    return None;
                }
                if !helper.is_busy() {
                    helper.start(AHEAD);
                }
                Some(helper.fd())
            }
            InputState::Host(stream) => Some(stream.fd()),
        }
    }
}

/// Reads a descriptor; with `block`, once there is something.
fn read_stream(
    stream: &HostStream,
    max: usize,
    block: bool,
    interrupt: &dyn Interrupt,
) -> Result<Result<Vec<u8>, Errno>, WorldError> {
    let mut bytes = vec![0; max];
    loop {
        // Past the buffer of the standard library, which `poll` does not see.
        match stream.read(&mut bytes) {
            Ok(n) => {
                bytes.truncate(n);
                return Ok(Ok(bytes));
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) if !block => return Ok(Err(Errno::EAGAIN)),
            Err(rustix::io::Errno::AGAIN) => {}
            Err(e) => return Ok(Err(e.into())),
        }
        let time = stream.is_terminal().then(|| read_time(stream.fd())).flatten();
        match wait(Some((stream.fd(), PollFlags::IN)), time, interrupt)? {
            Waited::Ready => {}
            Waited::Time => return Ok(Ok(Vec::new())),
            Waited::Signal => return Ok(Err(Errno::EINTR)),
        }
    }
}

/// How long a read of a terminal waits at most, in the modes that it is in.
fn read_time(fd: BorrowedFd<'_>) -> Option<Duration> {
    const TENTH: Duration = Duration::from_millis(100);
    tty::modes(fd).ok().and_then(|modes| tty::read_tenths(&modes)).map(|tenths| TENTH * tenths.into())
}

fn read_from(reader: &mut dyn Read, max: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; max];
    loop {
        match reader.read(&mut bytes) {
            Ok(n) => {
                bytes.truncate(n);
                return Ok(bytes);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.raw_os_error().map_or(Errno::EIO, Errno::from_host)),
        }
    }
}
