//! Pipes: bytes between readers and writers, in a bounded number of buffers of a page (`fs/pipe.c`).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Fs;
use super::env::Env;
use super::error::{FsError, FsResult, fail};
use super::inode::{Body, InodeId};
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::state::MAX_TASKS;

/// Bytes of a buffer.
const BUFFER: usize = 4096;

/// Bytes that a new pipe holds.
pub(crate) const PIPE_SIZE: usize = BUFFERS as usize * BUFFER;

/// Buffers of a new pipe.
const BUFFERS: u32 = 16;

/// Bytes that who is not privileged may make a pipe hold (`/proc/sys/fs/pipe-max-size`).
pub(super) const PIPE_MAX_SIZE: u64 = 1 << 20;

/// Buffers at most: what describes them is one allocation of the kernel's, of 4 MiB.
const BUFFERS_MAX: u32 = 1 << 16;

/// A pipe or FIFO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pipe {
    queue: VecDeque<u8>,
    /// What the bytes in the queue are in, in order.
    buffers: VecDeque<Buffer>,
    /// Buffers that there may be: a power of two.
    limit: u32,
    /// Open descriptions that read.
    pub readers: u32,
    /// Open descriptions that write.
    pub writers: u32,
    /// Tasks that wait in `open` for the other end.
    opening: Vec<Opening>,
    /// Made by `mknod`, not by `pipe2`.
    pub named: bool,
}

/// A task that waits in `open` for the other end of a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Opening {
    task: u32,
    /// It is to write, not to read.
    writes: bool,
    /// The other end was opened: this one counts as open from then on, whenever the task has its turn.
    met: bool,
}

/// A buffer with something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Buffer {
    /// Bytes in it that were read.
    read: u16,
    /// Bytes in it that were not.
    len: u16,
    /// It is a packet: nothing is added to it, and a read takes it alone, and whole.
    packet: bool,
}

impl Default for Pipe {
    fn default() -> Pipe {
        Pipe {
            queue: VecDeque::new(),
            buffers: VecDeque::new(),
            limit: BUFFERS,
            readers: 0,
            writers: 0,
            opening: Vec::new(),
            named: false,
        }
    }
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
        let Pipe { queue, buffers, limit, readers, writers, opening, named: _ } = self;
        let met = |writes| opening.iter().filter(|task| task.met && task.writes == writes).count();
        let sound = |buffer: &Buffer| {
            let Buffer { read, len, packet: _ } = *buffer;
            len > 0 && usize::from(read) + usize::from(len) <= BUFFER
        };
        limit.is_power_of_two()
            && *limit <= BUFFERS_MAX
            && buffers.len() <= *limit as usize
            && buffers.iter().all(sound)
            && buffers.iter().map(|buffer| usize::from(buffer.len)).sum::<usize>() == queue.len()
            && *readers < 1 << 24
            && *writers < 1 << 24
            && opening.len() <= MAX_TASKS
            && met(false) <= *readers as usize
            && met(true) <= *writers as usize
    }

    /// A task opens it. `None` when it must wait for the other end: it is noted, so that the other end's open
    /// finds it, and opens it again when the pipe has changed. Else whether others waited for this end.
    ///
    /// # Errors
    /// `ENXIO` for a writer that does not wait.
    pub fn open(&mut self, task: u32, reads: bool, writes: bool, nonblock: bool) -> FsResult<Option<bool>> {
        // Only a FIFO waits for its other end.
        if self.named && reads != writes {
            let noted = self.opening.iter().position(|other| (other.task, other.writes) == (task, writes));
            if noted.is_some_and(|place| self.opening.remove(place).met) {
                return Ok(Some(false));
            }
            let ends = if reads { self.writers } else { self.readers };
            let awaited = self.opening.iter().any(|other| !other.met && other.writes == reads);
            match (ends == 0 && !awaited, nonblock) {
                (true, false) => {
                    self.opening.push(Opening { task, writes, met: false });
                    return Ok(None);
                }
                (true, true) if writes => return fail(Errno::ENXIO),
                _ => {}
            }
        }
        self.readers += u32::from(reads);
        self.writers += u32::from(writes);
        let mut awaited = false;
        for other in &mut self.opening {
            if !other.met && (if other.writes { reads } else { writes }) {
                (other.met, awaited) = (true, true);
                *(if other.writes { &mut self.writers } else { &mut self.readers }) += 1;
            }
        }
        Ok(Some(awaited))
    }

    /// A task does not wait in `open` any more. Whether it counted as there.
    fn leave(&mut self, task: u32) -> bool {
        let Some(place) = self.opening.iter().position(|opening| opening.task == task) else { return false };
        let Opening { writes, met, .. } = self.opening.remove(place);
        if met {
            self.close(!writes, writes);
        }
        met
    }

    /// Counts an end less. With the last one, what is in it is gone.
    pub fn close(&mut self, reads: bool, writes: bool) {
        self.readers = self.readers.saturating_sub(reads.into());
        self.writers = self.writers.saturating_sub(writes.into());
        if self.readers == 0 && self.writers == 0 {
            self.reset();
        }
    }

    /// Bytes that can be read.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that it holds.
    pub fn size(&self) -> u64 {
        u64::from(self.limit) * BUFFER as u64
    }

    /// Whether a write of a whole buffer goes in.
    pub fn is_writable(&self) -> bool {
        self.buffers.len() < self.limit as usize
    }

    /// Bytes that go in whatever their length.
    pub fn room(&self) -> usize {
        (self.limit as usize).saturating_sub(self.buffers.len()) * BUFFER
    }

    /// At most so many bytes of what can be read, no more than the first packet, which stay there.
    pub fn peek(&self, most: usize) -> Vec<u8> {
        let packet =
            self.buffers.front().filter(|buffer| buffer.packet).map(|buffer| usize::from(buffer.len));
        self.queue.iter().take(most.min(packet.unwrap_or(most))).copied().collect()
    }

    /// Reads; 0 at the end, which is when there are no writers.
    ///
    /// # Errors
    /// `EAGAIN` when there is nothing yet.
    pub fn read(&mut self, buf: &mut [u8]) -> FsResult<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.queue.is_empty() {
            return if self.writers == 0 { Ok(0) } else { fail(Errno::EAGAIN) };
        }
        let mut n = 0;
        while n < buf.len()
            && let Some(buffer) = self.buffers.front_mut()
        {
            let part = usize::from(buffer.len).min(buf.len() - n);
            let taken = if buffer.packet { usize::from(buffer.len) } else { part };
            let end = n + part;
            // Of a packet the rest is lost.
            for (at, byte) in self.queue.drain(..taken).enumerate() {
                if let Some(to) = buf[..end].get_mut(n + at) {
                    *to = byte;
                }
            }
            n = end;
            // A buffer has at most a page.
            buffer.read += taken as u16;
            buffer.len -= taken as u16;
            let packet = buffer.packet;
            if buffer.len == 0 {
                self.buffers.pop_front();
            }
            if packet {
                break;
            }
        }
        Ok(n)
    }

    /// Writes what there is room for; with `packets` as packets.
    ///
    /// # Errors
    /// `EAGAIN` when there is no room, `EPIPE` when there are no readers.
    pub fn write(&mut self, data: &[u8], packets: bool) -> FsResult<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        if self.readers == 0 {
            return fail(Errno::EPIPE);
        }
        let mut done = 0;
        // What is no whole number of buffers starts in the last one, if all of it fits there.
        let odd = data.len() % BUFFER;
        if let Some(last) = self.buffers.back_mut()
            && odd > 0
            && !last.packet
            && usize::from(last.read) + usize::from(last.len) + odd <= BUFFER
        {
            last.len += odd as u16;
            done = odd;
        }
        while done < data.len() && self.is_writable() {
            let len = (data.len() - done).min(BUFFER);
            self.buffers.push_back(Buffer { read: 0, len: len as u16, packet: packets });
            done += len;
        }
        self.queue.extend(&data[..done]);
        if done > 0 { Ok(done) } else { fail(Errno::EAGAIN) }
    }

    fn reset(&mut self) {
        (self.queue, self.buffers) = (VecDeque::new(), VecDeque::new());
    }
}

impl Fs {
    /// Makes a pipe hold so many bytes, rounded up; gives how many those are (`pipe_set_size`). What is
    /// more than a new pipe holds counts against the quota, full or empty.
    ///
    /// # Errors
    /// `EINVAL`; `EPERM` for more than who is not privileged may have; `EBUSY` when there is more in it;
    /// `ENOMEM` without room.
    pub(crate) fn set_pipe_size(&mut self, env: &Env<'_>, id: InodeId, size: u64) -> FsResult<u64> {
        /// Bytes at most.
        const MOST: u32 = 1 << 31;
        // The kernel looks at 32 bits.
        let size = (size as u32).max(BUFFER as u32);
        if size > MOST {
            return fail(Errno::EINVAL);
        }
        let size = u64::from(size.next_power_of_two());
        let limit = (size / BUFFER as u64) as u32;
        let privileged = env.caller.credentials().can(cap::SYS_RESOURCE);
        let Some(pipe) = self.pipe(id) else { return fail(Errno::EBADF) };
        if limit > pipe.limit && size > PIPE_MAX_SIZE && !privileged {
            return fail(Errno::EPERM);
        }
        if limit > BUFFERS_MAX {
            return fail(Errno::ENOMEM);
        }
        if pipe.buffers.len() > limit as usize {
            return fail(Errno::EBUSY);
        }
        let (before, after) = (extra_of(pipe.size()), extra_of(size));
        if after > before {
            self.chunks.charge(after - before).map_err(|_| FsError::Errno(Errno::ENOMEM))?;
        } else {
            self.chunks.refund(before - after);
        }
        if let Some(pipe) = self.pipe(id) {
            pipe.limit = limit;
        }
        Ok(size)
    }

    /// Reads from a pipe.
    pub(super) fn read_pipe(&mut self, id: InodeId, buf: &mut [u8], nonblock: bool) -> FsResult<usize> {
        let Some(pipe) = self.pipe(id) else { return fail(Errno::EBADF) };
        let n = or_block(id, nonblock, pipe.read(buf))?;
        if n > 0 {
            self.wake(id);
        }
        Ok(n)
    }

    /// Takes out of a pipe what was moved from there.
    pub(crate) fn take_from_pipe(&mut self, id: InodeId, bytes: usize) {
        if let Some(pipe) = self.pipe(id)
            && bytes > 0
        {
            // It was there a moment ago.
            let _ = pipe.read(&mut vec![0; bytes]);
            self.wake(id);
        }
    }

    /// A task's call that may have waited for a FIFO's other end is over.
    pub(in crate::program) fn leave_fifo(&mut self, id: InodeId, task: u32) {
        if self.pipe(id).is_some_and(|pipe| pipe.leave(task)) {
            self.wake(id);
        }
    }

    /// Notes that what tasks may wait for of a file has changed.
    pub(in crate::program) fn wake(&mut self, id: InodeId) {
        self.woken.push(id);
    }

    /// The files of which something has changed since the last call that tasks may wait for.
    pub fn take_woken(&mut self) -> Vec<InodeId> {
        std::mem::take(&mut self.woken)
    }

    /// Writes to a pipe.
    pub(crate) fn write_pipe(
        &mut self,
        id: InodeId,
        data: &[u8],
        nonblock: bool,
        packets: bool,
    ) -> FsResult<super::IoOutcome> {
        let Some(pipe) = self.pipe(id) else { return fail(Errno::EBADF) };
        let n = or_block(id, nonblock, pipe.write(data, packets))?;
        self.wake(id);
        let partial = n < data.len() && !nonblock;
        Ok(if partial { super::IoOutcome::Partial(n) } else { super::IoOutcome::Done(n) })
    }

    /// Bytes of the quota that pipes take which hold more than a new one.
    pub(super) fn pipe_extras(&self) -> u64 {
        let pipes = self.inodes.values().filter_map(|inode| match &inode.body {
            Body::Pipe(pipe) => Some(extra_of(pipe.size())),
            _ => None,
        });
        pipes.fold(0, u64::saturating_add)
    }

    /// Gives back what a pipe takes of the quota.
    pub(super) fn drop_pipe(&mut self, pipe: &Pipe) {
        self.chunks.refund(extra_of(pipe.size()));
        self.refund_pipe();
    }
}

/// An operation of a descriptor that blocks waits instead of failing with `EAGAIN`.
fn or_block<T>(id: InodeId, nonblock: bool, result: FsResult<T>) -> FsResult<T> {
    match result {
        Err(FsError::Errno(Errno::EAGAIN)) if !nonblock => Err(FsError::Block(id)),
        other => other,
    }
}

/// What a pipe of this size takes of the quota beyond a new one.
fn extra_of(size: u64) -> u64 {
    size.saturating_sub(PIPE_SIZE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_end_and_blocking() {
        let mut p = Pipe::with_ends();
        let mut buf = [0; 4];
        assert!(matches!(p.read(&mut buf), Err(FsError::Errno(Errno::EAGAIN))));
        assert_eq!(p.write(b"abcdef", false).unwrap(), 6);
        assert_eq!(p.read(&mut buf).unwrap(), 4);
        assert_eq!(&buf, b"abcd");
        p.writers = 0;
        assert_eq!(p.read(&mut buf).unwrap(), 2);
        assert_eq!(p.read(&mut buf).unwrap(), 0);
        p.readers = 0;
        assert!(matches!(p.write(b"x", false), Err(FsError::Errno(Errno::EPIPE))));
    }

    #[test]
    fn who_waits_for_the_other_end_has_it_once_it_was_there() {
        let mut p = Pipe::named();
        assert_eq!(p.open(1, true, false, false).unwrap(), None);
        assert_eq!(p.open(1, true, false, false).unwrap(), None, "nobody came");
        assert_eq!(p.opening.len(), 1);
        assert_eq!(p.open(2, false, true, false).unwrap(), Some(true));
        assert_eq!(p.write(b"x", false).unwrap(), 1, "there is a reader");
        p.close(false, true);
        assert!(p.is_sound() && (p.len(), p.readers) == (1, 1));
        assert_eq!(p.open(1, true, false, false).unwrap(), Some(false));
        assert_eq!((p.readers, p.writers), (1, 0));
        p.close(true, false);
        assert_eq!(p.len(), 0);
        // Who is killed waits no more.
        assert_eq!(p.open(1, true, false, false).unwrap(), None);
        assert!(!p.leave(1));
        assert!(matches!(p.open(2, false, true, true), Err(FsError::Errno(Errno::ENXIO))));
        assert_eq!(p.open(1, false, true, false).unwrap(), None);
        assert_eq!(p.open(2, true, false, true).unwrap(), Some(true));
        assert!(p.leave(1) && (p.readers, p.writers) == (1, 0));
    }

    #[test]
    fn small_writes_are_whole() {
        let mut p = Pipe::with_ends();
        assert_eq!(p.write(&vec![1; PIPE_SIZE - 10], false).unwrap(), PIPE_SIZE - 10);
        assert!(matches!(p.write(&[2; 11], false), Err(FsError::Errno(Errno::EAGAIN))));
        assert_eq!(p.write(&[2; 10], false).unwrap(), 10);
        assert!(p.is_sound() && !p.is_writable());
        let mut big = vec![0; PIPE_SIZE];
        assert_eq!(p.read(&mut big).unwrap(), PIPE_SIZE);
        // A large write goes in as far as there is room.
        assert_eq!(p.write(&vec![3; PIPE_SIZE + 1], false).unwrap(), PIPE_SIZE);
        assert!(!p.is_writable() && p.is_sound());
    }

    #[test]
    fn packets_are_read_one_by_one() {
        let mut p = Pipe::with_ends();
        for packet in [&b"first"[..], b"second", &[7; 5000]] {
            assert_eq!(p.write(packet, true).unwrap(), packet.len());
        }
        assert_eq!(p.write(b"bytes", false).unwrap(), 5);
        let mut buf = [0; 4096];
        assert_eq!(p.read(&mut buf[..3]).unwrap(), 3);
        assert_eq!((&buf[..3], p.len()), (&b"fir"[..], 6 + 5000 + 5));
        assert_eq!(p.read(&mut buf).unwrap(), 6);
        // A long write is several.
        assert_eq!(p.read(&mut buf).unwrap(), 4096);
        assert_eq!(p.read(&mut buf).unwrap(), 904);
        assert!(p.is_sound());
        assert_eq!(p.read(&mut buf).unwrap(), 5);
        assert!(p.buffers.is_empty());
    }
}
