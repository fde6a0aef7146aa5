//! `splice` and `tee`: moving between a pipe and something else without the program in between (`fs/splice.c`).

use super::FdTable;
use super::copy::{Copied, MOST};
use super::description::Description;
use super::io::{RwFlags, Where};
use crate::errno::Errno;
use crate::program::fs::{Env, Fs, FsError, FsResult, InodeId, IoOutcome, Nature, OpenFlags, fail};
use crate::program::net::Kind;
use crate::ram::PAGE_SIZE;

/// An end of what is moved: a descriptor, and where, if it is not at its position.
pub type End = (i32, Option<i64>);

impl FdTable {
    /// Moves between a pipe and another file, at given offsets or at their positions.
    ///
    /// # Errors
    /// As `splice(2)`.
    pub fn splice(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        (input, output): (End, End),
        len: u64,
        nonblock: bool,
    ) -> FsResult<Copied> {
        let (from, to) = (self.get_open(input.0)?, self.get_open(output.0)?);
        let is_pipe = |description: &Description| fs.nature(description.inode) == Nature::Pipe;
        let (from_pipe, to_pipe) = (is_pipe(from), is_pipe(to));
        if from_pipe && input.1.is_some() || to_pipe && output.1.is_some() {
            return fail(Errno::ESPIPE);
        }
        if !from.flags.reads() || !to.flags.writes() {
            return fail(Errno::EBADF);
        }
        let pipes = match (from_pipe, to_pipe) {
            (true, true) => [from, to].to_vec(),
            (true, false) => [from].to_vec(),
            (false, true) => [to].to_vec(),
            (false, false) => return fail(Errno::EINVAL),
        };
        let nonblock = nonblock || pipes.iter().any(|pipe| pipe.nonblock());
        let (source, sink) = (from.inode, to.inode);
        let appends = to.flags.has(OpenFlags::APPEND) && !to_pipe;
        let memory = [source, sink].iter().any(|inode| fs.is_memory(*inode));
        let nowhere =
            |end: End, inode| end.1.is_some() && matches!(fs.nature(inode), Nature::Anon | Nature::Stream);
        let nowhere = nowhere(input, source) || nowhere(output, sink);
        if source == sink || appends || memory || nowhere || fs.nature(source) == Nature::Dir {
            return fail(Errno::EINVAL);
        }
        let len = len.min(MOST as u64) as usize;
        if !from_pipe {
            return self.splice_in(fs, env, input, (output.0, source, sink), len, nonblock);
        }
        let Some(data) = peek(fs, source, len, nonblock)? else {
            return Ok(Copied::nothing(input.1, output.1));
        };
        let bytes = match (to_pipe, output.1) {
            (true, _) => put(fs, sink, &data, nonblock)?,
            (false, Some(offset)) => written(self.pwrite(fs, env, output.0, &data, offset)?)?,
            (false, None) => written(self.write(fs, env, output.0, &data)?)?,
        };
        fs.take_from_pipe(source, bytes);
        let output_offset = output.1.map(|offset| offset.saturating_add(bytes as i64));
        Ok(Copied { bytes, input_offset: None, output_offset })
    }

    /// Reads what a pipe has room for.
    pub(super) fn splice_in(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        input: End,
        (output, source, sink): (i32, InodeId, InodeId),
        len: usize,
        nonblock: bool,
    ) -> FsResult<Copied> {
        let room = fs.pipe(sink).map_or(0, |pipe| pipe.room());
        if fs.pipe(sink).is_some_and(|pipe| pipe.readers == 0) {
            return fail(Errno::EPIPE);
        }
        if room == 0 {
            return if nonblock { fail(Errno::EAGAIN) } else { Err(FsError::Block(sink)) };
        }
        // A file's pages are what is put into the pipe: the first may be a part of one.
        let position = input.1.map_or(self.get(input.0)?.offset, |offset| offset as u64);
        let odd = match fs.nature(source) {
            Nature::File => (position % PAGE_SIZE as u64) as usize,
            _ => 0,
        };
        let mut buf = vec![0; len.min(room - odd)];
        let bytes = match (fs.sockets().kind(source), input.1) {
            (Ok(kind), _) => {
                // Only of a stream do the call's flags say whether it waits.
                let calls = nonblock && kind == Kind::Stream;
                let mut transfer = self.start_read(fs, input.0, Where::Position, RwFlags::default())?;
                transfer.nonblock |= calls;
                let bytes = self.read_piece(fs, env, &mut transfer, &mut buf)?;
                self.settle(fs, env)?;
                bytes
            }
            (_, Some(offset)) => self.pread(fs, env, input.0, &mut buf, offset)?,
            (_, None) => self.read(fs, env, input.0, &mut buf)?,
        };
        if bytes > 0 {
            self.write(fs, env, output, &buf[..bytes])?;
        }
        let input_offset = input.1.map(|offset| offset.saturating_add(bytes as i64));
        Ok(Copied { bytes, input_offset, output_offset: None })
    }

    /// A pipe that memory is moved to, if the descriptor writes, or from: its inode, and whether it writes.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn vmsplice_end(&self, fs: &Fs, fd: i32) -> FsResult<(InodeId, bool)> {
        let description = self.get_open(fd)?;
        let inode = description.inode;
        let flags = description.flags;
        if fs.nature(inode) != Nature::Pipe || !flags.reads() && !flags.writes() {
            return fail(Errno::EBADF);
        }
        Ok((inode, flags.writes()))
    }

    /// Copies from a pipe to another one, and leaves it there.
    ///
    /// # Errors
    /// As `tee(2)`.
    pub fn tee(
        &mut self,
        fs: &mut Fs,
        (input, output): (i32, i32),
        len: u64,
        nonblock: bool,
    ) -> FsResult<usize> {
        let (from, to) = (self.get_open(input)?, self.get_open(output)?);
        if !from.flags.reads() || !to.flags.writes() {
            return fail(Errno::EBADF);
        }
        let pipes = [from, to].iter().all(|description| fs.nature(description.inode) == Nature::Pipe);
        if !pipes || from.inode == to.inode {
            return fail(Errno::EINVAL);
        }
        let nonblock = nonblock || from.nonblock() || to.nonblock();
        match peek(fs, from.inode, len.min(MOST as u64) as usize, nonblock)? {
            Some(data) => put(fs, to.inode, &data, nonblock),
            None => Ok(0),
        }
    }
}

/// What a pipe has, at most so much; nothing at its end.
pub(crate) fn peek(fs: &mut Fs, pipe: InodeId, len: usize, nonblock: bool) -> FsResult<Option<Vec<u8>>> {
    let Some(found) = fs.pipe(pipe) else { return fail(Errno::EBADF) };
    match (found.len(), found.writers) {
        (0, 0) => Ok(None),
        (0, _) if nonblock => fail(Errno::EAGAIN),
        (0, _) => Err(FsError::Block(pipe)),
        _ => Ok(Some(found.peek(len))),
    }
}

/// Writes to a pipe what goes in.
fn put(fs: &mut Fs, pipe: InodeId, data: &[u8], nonblock: bool) -> FsResult<usize> {
    let room = fs.pipe(pipe).map_or(0, |pipe| pipe.room());
    let data = if room == 0 { data } else { &data[..data.len().min(room)] };
    written(fs.write_pipe(pipe, data, nonblock, false)?)
}

fn written(outcome: IoOutcome) -> FsResult<usize> {
    match outcome {
        IoOutcome::Done(n) | IoOutcome::Partial(n) => Ok(n),
        IoOutcome::Control(_) => fail(Errno::EINVAL),
    }
}
