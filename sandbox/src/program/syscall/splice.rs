//! `splice`, `vmsplice` and `tee`.

use super::Args;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::files::peek;
use crate::program::fs::{FsError, InodeId, IoOutcome, fail};
use crate::program::kernel::Kernel;
use crate::program::wait::{Key, Wait};
use crate::ram::PAGE_SIZE;

/// `SPLICE_F_*` (`include/linux/splice.h`): hints, and not to wait for a pipe.
const ALL: u64 = 0xf;
const NONBLOCK: u64 = 2;
/// Bytes that one call moves at most out of a pipe to memory.
const VMSPLICE_MOST: u64 = 1 << 20;

/// Bytes of ranges of memory that lie in so many pages: each takes a place of its own in a pipe.
fn pages_that_fit(segments: &[(u64, u64)], pages: usize) -> usize {
    let (mut left, mut bytes) = (pages as u64, 0);
    for (address, len) in segments.iter().filter(|(_, len)| *len > 0) {
        let odd = address % PAGE_SIZE as u64;
        let fits = (left * PAGE_SIZE as u64).saturating_sub(odd).min(*len);
        bytes += fits;
        left -= (odd + fits).div_ceil(PAGE_SIZE as u64).min(left);
        if left == 0 {
            break;
        }
    }
    bytes as usize
}

impl Kernel {
    pub(super) fn sys_splice(&mut self, a: Args) -> SysResult {
        let [input, input_at, output, output_at, len, flags] = a;
        let flags = u64::from(flags as u32);
        if len == 0 {
            return Ok(0);
        }
        if flags & !ALL != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.with_files(|_, files, _, _| {
            files.get_open(input as i32).and_then(|_| files.get_open(output as i32)).map(drop)
        })?;
        let mut start = |address: u64| -> Result<Option<i64>, SysError> {
            if address == 0 {
                return Ok(None);
            }
            let offset = self.read_u64(address)? as i64;
            if offset < 0 { Err(Errno::EINVAL.into()) } else { Ok(Some(offset)) }
        };
        let ends = ((input as i32, start(input_at)?), (output as i32, start(output_at)?));
        let moved =
            self.with_files(|fs, files, env, _| files.splice(fs, env, ends, len, flags & NONBLOCK != 0));
        let timeout = match moved {
            Err(FsError::Block(id)) => self.timeout_of(id, input, output),
            _ => None,
        };
        let moved = self.or_wait(moved, timeout, 0);
        let moved = self.broken_pipe(moved, true)?;
        for (address, next) in [(input_at, moved.input_offset), (output_at, moved.output_offset)] {
            if let Some(next) = next.filter(|_| address != 0) {
                self.write_words(address, &[next as u64])?;
            }
        }
        Ok(moved.bytes as u64)
    }

    /// How long a call waits that moves between a pipe and a socket, of which this inode is one that it waits for.
    fn timeout_of(&mut self, waits_for: InodeId, input: u64, output: u64) -> Option<u64> {
        let of_input = self.socket(input).ok().map(|socket| socket.inode);
        let of_output = self.socket(output).ok().map(|socket| socket.inode);
        self.with_files(|fs, _, _, _| match (of_input, of_output) {
            _ if fs.pipe(waits_for).is_some() => None,
            (Some(inode), _) => fs.sockets().timeouts(inode).1,
            (_, Some(inode)) => fs.sockets().timeouts(inode).0,
            _ => None,
        })
    }

    /// A pipe, a vector of memory and its length, flags: moves memory to a pipe's end that is written, or from
    /// the other one. What is moved is copied at once: what the memory has later does not show in the pipe.
    pub(super) fn sys_vmsplice(&mut self, a: Args) -> SysResult {
        let [fd, vector, count, flags, ..] = a;
        let flags = u64::from(flags as u32);
        if flags & !ALL != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.with_files(|_, files, _, _| files.expect_open(fd as i32))?;
        let segments = self.ranges(vector, count)?;
        if segments.iter().all(|(_, len)| *len == 0) {
            return Ok(0);
        }
        let (pipe, writes) = self.with_files(|fs, files, _, _| files.vmsplice_end(fs, fd as i32))?;
        let nonblock = flags & NONBLOCK != 0;
        if writes {
            let moved = self.vmsplice_to_pipe(pipe, &segments, nonblock);
            return self.broken_pipe(moved, true);
        }
        let len = segments.iter().map(|(_, len)| *len).sum::<u64>().min(VMSPLICE_MOST);
        let taken = self.with_files(|fs, _, _, _| peek(fs, pipe, len as usize, nonblock))?;
        let Some(data) = taken else { return Ok(0) };
        let parts = self.writable(&segments, 0, data.len())?;
        self.scatter(&parts, &data)?;
        let bytes = parts.iter().map(|(_, len)| len).sum::<usize>().min(data.len());
        self.with_files(|fs, _, _, _| fs.take_from_pipe(pipe, bytes));
        Ok(bytes as u64)
    }

    fn vmsplice_to_pipe(&mut self, pipe: InodeId, segments: &[(u64, u64)], nonblock: bool) -> SysResult {
        let room = self.with_files(|fs, _, _, _| match fs.pipe(pipe) {
            Some(found) if found.readers == 0 => fail(Errno::EPIPE),
            Some(found) => Ok(found.room()),
            None => fail(Errno::EBADF),
        })?;
        if room == 0 {
            return Err(if nonblock {
                Errno::EAGAIN.into()
            } else {
                SysError::Wait(Wait::on(Key::File(pipe)))
            });
        }
        let data = self.gather(segments, 0, pages_that_fit(segments, room / PAGE_SIZE))?;
        self.effects.add(0, &data);
        let written = self.with_files(|fs, _, _, _| fs.write_pipe(pipe, &data, true, false))?;
        match written {
            IoOutcome::Done(n) | IoOutcome::Partial(n) => Ok(n as u64),
            IoOutcome::Control(_) => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn sys_tee(&mut self, a: Args) -> SysResult {
        let [input, output, len, flags, ..] = a;
        let flags = u64::from(flags as u32);
        if flags & !ALL != 0 {
            return Err(Errno::EINVAL.into());
        }
        if len == 0 {
            return Ok(0);
        }
        let ends = (input as i32, output as i32);
        let copied = self.with_files(|fs, files, _, _| files.tee(fs, ends, len, flags & NONBLOCK != 0));
        Ok(self.broken_pipe(copied.map_err(SysError::from), true)? as u64)
    }
}
