//! A descriptor of the host's that is read or written without ever blocking.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, fcntl_getfl, fstat, fsync, ftruncate, major, open, seek};
use rustix::io::{Errno, ReadWriteFlags, fcntl_dupfd_cloexec, preadv2, pwritev2};
use rustix::termios::isatty;

use super::interrupt::is_ready;
use crate::world::OutputChange;

/// Bytes that go into a pipe at once without blocking, once `poll` says that it is ready (`PIPE_BUF`).
const PIPE_BUF: usize = 4096;
/// The major number of the devices that never block: `/dev/null` and its like.
const MEMORY_DEVICES: u32 = 1;
/// At the file's own position, for `preadv2` and `pwritev2`.
const POSITION: u64 = u64::MAX;

/// How it is kept from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It never does.
    Never,
    /// By `O_NONBLOCK`, of an open file description of our own: the one that was given may be shared
    /// with others, such as the shell that started this process.
    OwnDescription,
    /// By a flag of each call.
    EachCall,
    /// By asking `poll` first, and writing no more than is sure to go in.
    Poll,
}

/// A descriptor of the host's that is read or written without ever blocking.
#[derive(Debug)]
pub(super) struct HostStream {
    /// What was given: `poll` looks at this one, which knows whether a pipe's other end was ever there.
    given: OwnedFd,
    /// The same file, opened again.
    own: Option<OwnedFd>,
    way: Way,
    tty: bool,
}

impl HostStream {
    /// To be read.
    ///
    /// # Errors
    /// When the descriptor is closed, or there are no more.
    pub fn reading(fd: BorrowedFd<'_>) -> io::Result<HostStream> {
        HostStream::new(fd, OFlags::RDONLY)
    }

    /// To be written.
    ///
    /// # Errors
    /// As [`HostStream::reading`].
    pub fn writing(fd: BorrowedFd<'_>) -> io::Result<HostStream> {
        HostStream::new(fd, OFlags::WRONLY)
    }

    fn new(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<HostStream> {
        /// Above the standard streams, which are not always open.
        const LOWEST: i32 = 3;
        let given = fcntl_dupfd_cloexec(fd, LOWEST)?;
        let stat = fstat(&given)?;
        let tty = isatty(&given);
        let mut own = None;
        let way = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory | FileType::BlockDevice => Way::Never,
            FileType::CharacterDevice if major(stat.st_rdev) == MEMORY_DEVICES => Way::Never,
            FileType::Socket => Way::EachCall,
            FileType::Fifo | FileType::CharacterDevice => match again(given.as_fd(), access) {
                Some(fd) => {
                    own = Some(fd);
                    Way::OwnDescription
                }
                None => Way::Poll,
            },
            _ => Way::Poll,
        };
        Ok(HostStream { given, own, way, tty })
    }

    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.tty
    }

    /// For `poll`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.given.as_fd()
    }

    fn io(&self) -> BorrowedFd<'_> {
        self.own.as_ref().unwrap_or(&self.given).as_fd()
    }

    /// Reads what is there: `EAGAIN` where there is nothing yet, no bytes at the end.
    pub fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        match self.way {
            Way::EachCall => {
                let flags = ReadWriteFlags::NOWAIT;
                let mut vector = [io::IoSliceMut::new(buf)];
                preadv2(self.io(), &mut vector, POSITION, flags)
            }
            Way::Poll if !is_ready(self.fd(), PollFlags::IN) => Err(Errno::AGAIN),
            _ => rustix::io::read(self.io(), buf),
        }
    }

    /// Writes what goes in: `EAGAIN` where nothing does.
    pub fn write(&self, data: &[u8]) -> Result<usize, Errno> {
        match self.way {
            Way::EachCall => {
                let flags = ReadWriteFlags::NOWAIT;
                pwritev2(self.io(), &[io::IoSlice::new(data)], POSITION, flags)
            }
            Way::Poll if !is_ready(self.fd(), PollFlags::OUT) => Err(Errno::AGAIN),
            Way::Poll => rustix::io::write(self.io(), &data[..data.len().min(PIPE_BUF)]),
            _ => rustix::io::write(self.io(), data),
        }
    }
}

impl HostStream {
    /// Changes the regular file that it is.
    pub fn change(&self, change: OutputChange<'_>) -> Result<usize, Errno> {
        // RWF_NOAPPEND, of Linux 6.9: at the offset whatever the descriptor's flags are.
        const AT_OFFSET: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x20);
        let all = |data: &[u8], offset, flags| {
            let mut done = 0;
            while done < data.len() {
                // With RWF_APPEND, an offset only says that the position stays.
                match pwritev2(self.io(), &[io::IoSlice::new(&data[done..])], offset + done as u64, flags) {
                    Ok(0) => break,
                    Ok(n) => done += n,
                    Err(Errno::INTR) => {}
                    Err(_) if done > 0 => break,
                    Err(e) => return Err(e),
                }
            }
            Ok(done)
        };
        match change {
            OutputChange::Write { offset, data } => {
                let append = fcntl_getfl(self.io())?.contains(OFlags::APPEND);
                all(data, offset, if append { AT_OFFSET } else { ReadWriteFlags::empty() })
            }
            OutputChange::Append { data } => all(data, 0, ReadWriteFlags::APPEND),
            OutputChange::Resize { len } => ftruncate(self.io(), len).map(|()| 0),
            OutputChange::Sync => fsync(self.io()).map(|()| 0),
        }
    }

    /// Moves the position of the regular file that it is.
    pub fn seek(&self, offset: u64) {
        if self.way == Way::Never {
            let _ = seek(self.io(), SeekFrom::Start(offset));
        }
    }
}

/// Opens a pipe or terminal again, so that it has a description of its own.
pub(super) fn again(fd: BorrowedFd<'_>, access: OFlags) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let own = open(path, flags, Mode::empty()).ok()?;
    let (there, here) = (fstat(fd).ok()?, fstat(&own).ok()?);
    ((there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)).then_some(own)
}
