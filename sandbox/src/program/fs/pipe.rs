//! Pipes: a bounded queue of bytes between readers and writers.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::error::{FsError, FsResult, fail};
use crate::errno::Errno;

/// Bytes that a pipe holds.
pub(crate) const PIPE_SIZE: usize = 64 * 1024;

/// A write of at most so many bytes goes in as a whole or not at all (`PIPE_BUF`).
pub(crate) const PIPE_ATOMIC: usize = 4096;

/// A pipe or FIFO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pipe {
    queue: VecDeque<u8>,
    /// Open descriptions that read.
    pub readers: u32,
    /// Open descriptions that write.
    pub writers: u32,
    /// A task waits in `open` for the other end, and counts as there.
    pub reader_waits: bool,
    pub writer_waits: bool,
    /// Made by `mknod`, not by `pipe2`.
    pub named: bool,
}

impl Pipe {
    /// A FIFO that nobody has open.
    pub fn named() -> Pipe {
        Pipe { named: true, ..Pipe::default() }
    }

    /// A pipe with one reader and one writer.
    pub fn with_ends() -> Pipe {
        Pipe { readers: 1, writers: 1, ..Pipe::default() }
    }

    /// Whether it can be one, after decoding.
    pub fn is_sound(&self) -> bool {
        self.queue.len() <= PIPE_SIZE && self.readers < 1 << 24 && self.writers < 1 << 24
    }

    /// Bytes that can be read.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that can be written.
    pub fn room(&self) -> usize {
        PIPE_SIZE - self.queue.len().min(PIPE_SIZE)
    }

    /// Reads; 0 at the end, which is when there are no writers.
    pub fn read(&mut self, buf: &mut [u8], nonblock: bool) -> FsResult<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.queue.is_empty() {
            return match (self.writers, nonblock) {
                (0, _) => Ok(0),
                (_, true) => fail(Errno::EAGAIN),
                (_, false) => Err(FsError::Block),
            };
        }
        let n = buf.len().min(self.queue.len());
        for (to, from) in buf.iter_mut().zip(self.queue.drain(..n)) {
            *to = from;
        }
        Ok(n)
    }

    /// Writes what there is room for.
    pub fn write(&mut self, data: &[u8], nonblock: bool) -> FsResult<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        if self.readers == 0 {
            return fail(Errno::EPIPE);
        }
        let room = self.room();
        if room == 0 || (data.len() <= PIPE_ATOMIC && data.len() > room) {
            return if nonblock { fail(Errno::EAGAIN) } else { Err(FsError::Block) };
        }
        let n = data.len().min(room);
        self.queue.extend(&data[..n]);
        Ok(n)
    }

    /// Forgets what is in it: the last end was closed.
    pub fn reset(&mut self) {
        self.queue = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_end_and_blocking() {
        let mut p = Pipe::with_ends();
        let mut buf = [0; 4];
        assert!(matches!(p.read(&mut buf, false), Err(FsError::Block)));
        assert!(matches!(p.read(&mut buf, true), Err(FsError::Errno(Errno::EAGAIN))));
        assert_eq!(p.write(b"abcdef", false).unwrap(), 6);
        assert_eq!(p.read(&mut buf, false).unwrap(), 4);
        assert_eq!(&buf, b"abcd");
        p.writers = 0;
        assert_eq!(p.read(&mut buf, false).unwrap(), 2);
        assert_eq!(p.read(&mut buf, false).unwrap(), 0);
        p.readers = 0;
        assert!(matches!(p.write(b"x", false), Err(FsError::Errno(Errno::EPIPE))));
    }

    #[test]
    fn small_writes_are_whole() {
        let mut p = Pipe::with_ends();
        assert_eq!(p.write(&vec![1; PIPE_SIZE - 10], true).unwrap(), PIPE_SIZE - 10);
        assert!(matches!(p.write(&[2; 11], true), Err(FsError::Errno(Errno::EAGAIN))));
        assert!(matches!(p.write(&[2; 11], false), Err(FsError::Block)));
        assert_eq!(p.write(&[2; 10], false).unwrap(), 10);
        let mut big = vec![0; PIPE_SIZE];
        assert_eq!(p.read(&mut big, false).unwrap(), PIPE_SIZE);
        // A large write goes in as far as there is room.
        assert_eq!(p.write(&vec![3; PIPE_SIZE + 1], false).unwrap(), PIPE_SIZE);
        assert_eq!(p.room(), 0);
    }
}
