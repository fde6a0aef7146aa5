//! `copy_file_range` and `sendfile`: reading and writing without the program in between.

use super::FdTable;
use crate::errno::Errno;
use crate::program::fs::{Env, Fs, FsResult, IoOutcome, Nature, OpenFlags, fail};

/// Bytes that one call moves at most; programs go on where it stopped.
pub(super) const MOST: usize = 1 << 20;

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes.
    pub bytes: usize,
    /// The input's offset after that, if it was given.
    pub input_offset: Option<i64>,
    /// The output's offset after that, if it was given.
    pub output_offset: Option<i64>,
}

impl Copied {
    /// Nothing, from these offsets on.
    pub(super) fn nothing(input_offset: Option<i64>, output_offset: Option<i64>) -> Copied {
        Copied { bytes: 0, input_offset, output_offset }
    }
}

impl FdTable {
    /// Copies between two regular files, at given offsets or at their positions.
    ///
    /// # Errors
    /// As `copy_file_range(2)`.
    pub fn copy_file_range(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        (input, input_offset): (i32, Option<i64>),
        (output, output_offset): (i32, Option<i64>),
        len: u64,
    ) -> FsResult<Copied> {
        let (from, to) = (self.get_open(input)?, self.get_open(output)?);
        let append = to.flags.has(OpenFlags::APPEND);
        if !from.flags.reads() || !to.flags.writes() || append {
            return fail(Errno::EBADF);
        }
        for inode in [from.inode, to.inode] {
            if fs.is_dir(inode) {
                return fail(Errno::EISDIR);
            }
            if fs.is_output_file(inode) {
                // It is on another file system than all else.
                return fail(Errno::EXDEV);
            }
            if !fs.is_regular(inode) {
                return fail(Errno::EINVAL);
            }
        }
        let start = |offset: Option<i64>, position: u64| match offset {
            None => Ok(position),
            Some(offset) => u64::try_from(offset).or_else(|_| fail(Errno::EINVAL)),
        };
        let read = start(input_offset, from.offset)?;
        let write = start(output_offset, to.offset)?;
        let len = len.min(fs.len(from.inode).saturating_sub(read));
        if from.inode == to.inode && read.abs_diff(write) < len {
            return fail(Errno::EINVAL);
        }
        let len = len.min(MOST as u64) as usize;
        self.transfer(fs, env, (input, input_offset), (output, output_offset), len)
    }

    /// Copies from a regular file at an offset, or at its position, to any descriptor.
    ///
    /// # Errors
    /// As `sendfile(2)`.
    pub fn sendfile(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        output: i32,
        (input, offset): (i32, Option<i64>),
        len: u64,
    ) -> FsResult<Copied> {
        let (from, to) = (self.get_open(input)?, self.get_open(output)?);
        if !from.flags.reads() || !to.flags.writes() {
            return fail(Errno::EBADF);
        }
        if fs.sockets().has(from.inode) && fs.nature(to.inode) == Nature::Pipe {
            if offset.is_some() {
                return fail(Errno::ESPIPE);
            }
            let nonblock = to.nonblock();
            let ends = (output, from.inode, to.inode);
            return self.splice_in(fs, env, (input, None), ends, len.min(MOST as u64) as usize, nonblock);
        }
        let device = matches!(fs.nature(from.inode), Nature::File | Nature::Device);
        // The kernel has no `splice` for it.
        let memory = [from, to].iter().any(|description| fs.is_memory(description.inode));
        if !device || memory || to.flags.has(OpenFlags::APPEND) {
            return fail(Errno::EINVAL);
        }
        let len = len.min(MOST as u64) as usize;
        self.transfer(fs, env, (input, offset), (output, None), len)
    }

    fn transfer(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        (input, mut input_offset): (i32, Option<i64>),
        (output, mut output_offset): (i32, Option<i64>),
        len: usize,
    ) -> FsResult<Copied> {
        let mut buf = vec![0; len];
        // Read without moving: only what is written counts as read.
        let position = self.get(input)?.offset;
        let from = match input_offset {
            Some(offset) => offset,
            None => i64::try_from(position).unwrap_or(i64::MAX),
        };
        let n = self.pread(fs, env, input, &mut buf, from)?;
        let outcome = match output_offset {
            Some(offset) => self.pwrite(fs, env, output, &buf[..n], offset)?,
            None => self.write(fs, env, output, &buf[..n])?,
        };
        let bytes = match outcome {
            IoOutcome::Done(n) | IoOutcome::Partial(n) => n,
            IoOutcome::Control(_) => return fail(Errno::EINVAL),
        };
        // No offset passes 2^63: the longest file is much shorter.
        let moved = bytes as i64;
        match &mut input_offset {
            Some(offset) => *offset = offset.saturating_add(moved),
            None => self.move_to(fs, env, input, position.saturating_add(bytes as u64))?,
        }
        if let Some(offset) = &mut output_offset {
            *offset = offset.saturating_add(moved);
        }
        Ok(Copied { bytes, input_offset, output_offset })
    }
}
