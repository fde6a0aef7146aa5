//! Where standard output and standard error go.

use std::io::{ErrorKind, Write, stderr, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::PollFlags;

use super::helper::Helper;
use super::interrupt::{Interrupt, Waited, check, wait};
use super::stream::HostStream;
use crate::errno::Errno;
use crate::world::{OutputChange, WorldError};

/// Bytes of output kept in memory, which may be looked at while the guest runs.
#[derive(Clone, Debug, Default)]
pub struct OutputBuffer(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Whether more was written than it may hold.
    full: bool,
}

impl OutputBuffer {
    /// An empty one.
    pub fn new() -> OutputBuffer {
        OutputBuffer::default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Bytes are whole whatever happened to another thread that held them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of what is in it.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Takes what is in it.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().bytes)
    }

    /// Whether a guest has written more to it than it may hold.
    pub fn has_refused(&self) -> bool {
        self.lock().full
    }

    /// How many of `wanted` more bytes it may take.
    fn room(&self, limit: usize, wanted: usize) -> Result<usize, Errno> {
        let mut kept = self.lock();
        let room = limit.saturating_sub(kept.bytes.len());
        kept.full |= wanted > room;
        if room == 0 && wanted > 0 { Err(Errno::ENOSPC) } else { Ok(room.min(wanted)) }
    }

    fn add(&self, data: &[u8]) {
        self.lock().bytes.extend_from_slice(data);
    }
}

/// Where an output stream goes.
#[non_exhaustive]
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
    /// On to another place, and what that took into memory.
    Tee {
        /// The other place.
        to: Box<Output>,
        /// The memory.
        buffer: OutputBuffer,
        /// Bytes that it may hold. A guest that writes more gets `ENOSPC`.
        limit: usize,
    },
    /// To a writer, on a thread of its own. The guest's write is over when the writer's is, flushed.
    /// While it blocks, the run can be ended; the writer is dropped with the sandbox or, if it blocks,
    /// when it comes back.
    Writer(Box<dyn Write + Send>),
    /// To this descriptor: a pipe, a socket, a file, a terminal.
    Fd(OwnedFd),
    /// To the standard output of this process.
    HostStdout,
    /// To the standard error of this process.
    HostStderr,
}

/// An output stream of the host's that never blocks for longer than it may.
pub struct HostOutput(Kind);

enum Kind {
    Null,
    Capture {
        buffer: OutputBuffer,
        limit: usize,
    },
    Tee {
        to: Box<HostOutput>,
        buffer: OutputBuffer,
        limit: usize,
        /// Bytes of a write that was interrupted: it is made again with as many, however much room there
        /// is by then.
        under_way: Option<usize>,
    },
    Writer(WriterThread),
    Host(HostStream),
    /// It could not be opened.
    Broken(Errno),
}

impl HostOutput {
    /// Opens it. What cannot be opened gives `EIO` when it is written to.
    pub fn new(output: Output) -> HostOutput {
        let opened = match output {
            Output::Null => Ok(Kind::Null),
            Output::Capture { buffer, limit } => Ok(Kind::Capture { buffer, limit }),
            Output::Tee { to, buffer, limit } => {
                let to = Box::new(HostOutput::new(*to));
                Ok(Kind::Tee { to, buffer, limit, under_way: None })
            }
            Output::Writer(writer) => WriterThread::new(writer).map(Kind::Writer),
            Output::Fd(fd) => HostStream::writing(fd.as_fd()).map(Kind::Host),
            Output::HostStdout => HostStream::writing(stdout().as_fd()).map(Kind::Host),
            Output::HostStderr => HostStream::writing(stderr().as_fd()).map(Kind::Host),
        };
        HostOutput(opened.unwrap_or(Kind::Broken(Errno::EIO)))
    }

    /// The terminal that it is.
    pub(super) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Kind::Host(stream) if stream.is_terminal() => Some(stream.fd()),
            Kind::Tee { to, .. } => to.terminal(),
            _ => None,
        }
    }

    /// Writes; gives how many bytes were taken, all of them unless something came between: `EINTR` for
    /// a signal before the first.
    ///
    /// # Errors
    /// [`WorldError::Interrupted`] when the run is over and nothing was taken.
    pub fn write(
        &mut self,
        data: &[u8],
        interrupt: &dyn Interrupt,
    ) -> Result<Result<usize, Errno>, WorldError> {
        match &mut self.0 {
            Kind::Null => Ok(Ok(data.len())),
            Kind::Capture { buffer, limit } => Ok(capture(buffer, *limit, data)),
            Kind::Tee { to, buffer, limit, under_way } => {
                let n = match under_way.take() {
                    Some(n) => n.min(data.len()),
                    None => match buffer.room(*limit, data.len()) {
                        Ok(n) => n,
                        Err(errno) => return Ok(Err(errno)),
                    },
                };
                let answer = to.write(&data[..n], interrupt);
                match &answer {
                    Ok(Ok(taken)) => buffer.add(&data[..*taken]),
                    Ok(Err(Errno::EINTR)) | Err(_) => *under_way = Some(n),
                    Ok(Err(_)) => {}
                }
                answer
            }
            Kind::Writer(writer) => {
                check(interrupt)?;
                writer.write(data, interrupt)
            }
            Kind::Host(stream) => write_stream(stream, data, interrupt),
            Kind::Broken(errno) => Ok(Err(*errno)),
        }
    }
}

impl HostOutput {
    /// Changes the regular file that it is.
    pub(super) fn change(&self, change: OutputChange<'_>) -> Result<usize, Errno> {
        match (&self.0, change) {
            (Kind::Host(stream), _) => Ok(stream.change(change)?),
            (Kind::Broken(errno), _) => Err(*errno),
            (_, OutputChange::Write { .. } | OutputChange::Append { .. }) => Err(Errno::ESPIPE),
            (_, OutputChange::Resize { .. } | OutputChange::Sync) => Err(Errno::EINVAL),
        }
    }

    /// Moves the position of the regular file that it is.
    pub(super) fn seek(&self, offset: u64) {
        if let Kind::Host(stream) = &self.0 {
            stream.seek(offset);
        }
    }
}

impl std::fmt::Debug for HostOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Kind::Null => "Null",
            Kind::Capture { .. } => "Capture",
            Kind::Tee { .. } => "Tee",
            Kind::Writer(_) => "Writer",
            Kind::Host(_) => "Host",
            Kind::Broken(_) => "Broken",
        })
    }
}

fn capture(buffer: &OutputBuffer, limit: usize, data: &[u8]) -> Result<usize, Errno> {
    let n = buffer.room(limit, data.len())?;
    buffer.add(&data[..n]);
    Ok(n)
}

/// A writer of the embedder's, on its thread.
struct WriterThread {
    helper: Helper<Arc<[u8]>, Result<usize, Errno>>,
    /// What it was given last.
    given: Arc<[u8]>,
}

impl WriterThread {
    fn new(mut writer: Box<dyn Write + Send>) -> std::io::Result<WriterThread> {
        let helper = Helper::new("dejavm-output", move |data: Arc<[u8]>| write_to(&mut *writer, &data))?;
        Ok(WriterThread { helper, given: Arc::from([]) })
    }

    fn write(&mut self, data: &[u8], interrupt: &dyn Interrupt) -> Result<Result<usize, Errno>, WorldError> {
        // A write that was interrupted is made again when the guest goes on: it is still under way.
        let mut again = self.helper.is_busy() && *self.given == *data;
        loop {
            if !self.helper.is_busy() {
                self.given = data.into();
                self.helper.start(self.given.clone());
                again = true;
            }
            if let Some(answer) = self.helper.answer() {
                if again {
                    return Ok(answer.unwrap_or(Err(Errno::EIO)));
                }
                continue;
            }
            if wait(Some((self.helper.fd(), PollFlags::IN)), None, interrupt)? == Waited::Signal {
                return Ok(Err(Errno::EINTR));
            }
        }
    }
}

fn write_to(writer: &mut dyn Write, data: &[u8]) -> Result<usize, Errno> {
    let errno = |e: std::io::Error| match e.kind() {
        ErrorKind::BrokenPipe => Errno::EPIPE,
        _ => e.raw_os_error().map_or(Errno::EIO, Errno::from_host),
    };
    loop {
        match writer.write(data) {
            Ok(0) if !data.is_empty() => return Err(Errno::EIO),
            // What a guest wrote is out, even if it ends right after.
            Ok(n) => return writer.flush().map(|()| n.min(data.len())).map_err(errno),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(errno(e)),
        }
    }
}

/// Writes to a descriptor, past the buffer of the standard library. What went out is told even where
/// the run is over: it was seen, so it must be known to have been written.
fn write_stream(
    stream: &HostStream,
    data: &[u8],
    interrupt: &dyn Interrupt,
) -> Result<Result<usize, Errno>, WorldError> {
    let mut done = 0;
    while done < data.len() {
        match stream.write(&data[done..]) {
            Ok(0) => break,
            Ok(n) => {
                done += n;
                continue;
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) => {}
            Err(_) if done > 0 => break,
            Err(e) => return Ok(Err(e.into())),
        }
        match wait(Some((stream.fd(), PollFlags::OUT)), None, interrupt) {
            Ok(Waited::Ready | Waited::Time) => {}
            Ok(Waited::Signal) | Err(_) if done > 0 => break,
            Ok(Waited::Signal) => return Ok(Err(Errno::EINTR)),
            Err(e) => return Err(e),
        }
    }
    if done == 0 && !data.is_empty() { Ok(Err(Errno::EIO)) } else { Ok(Ok(done)) }
}
