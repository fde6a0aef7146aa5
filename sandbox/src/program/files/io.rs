//! Reading and writing.

use super::FdTable;
use crate::errno::Errno;
use crate::program::fs::{Env, Fs, FsResult, InodeId, IoOutcome, Nature, OpenFlags, fail};

/// What a read or write needs of a description.
struct Open {
    inode: InodeId,
    offset: u64,
    nonblock: bool,
    append: bool,
    nature: Nature,
}

impl FdTable {
    fn for_reading(&self, fs: &Fs, fd: i32) -> FsResult<Open> {
        let open = self.opened(fs, fd)?;
        if !self.get(fd)?.flags.reads() {
            return fail(Errno::EBADF);
        }
        match open.nature {
            Nature::Dir => fail(Errno::EISDIR),
            Nature::Anon | Nature::Closed => fail(Errno::EINVAL),
            _ => Ok(open),
        }
    }

    fn for_writing(&self, fs: &Fs, fd: i32) -> FsResult<Open> {
        let open = self.opened(fs, fd)?;
        if !self.get(fd)?.flags.writes() {
            return fail(Errno::EBADF);
        }
        match open.nature {
            Nature::Dir | Nature::Anon | Nature::Closed => fail(Errno::EINVAL),
            _ => Ok(open),
        }
    }

    fn opened(&self, fs: &Fs, fd: i32) -> FsResult<Open> {
        let description = self.get_open(fd)?;
        Ok(Open {
            inode: description.inode,
            offset: description.offset,
            nonblock: description.nonblock(),
            append: description.flags.has(OpenFlags::APPEND),
            nature: fs.nature(description.inode),
        })
    }

    /// Reads at the description's position, and moves it.
    ///
    /// # Errors
    /// As `read(2)`; [`FsError::Block`](crate::program::fs::FsError::Block) for an empty pipe.
    pub fn read(&mut self, fs: &mut Fs, env: &mut Env<'_>, fd: i32, buf: &mut [u8]) -> FsResult<usize> {
        let open = self.for_reading(fs, fd)?;
        let n = match fs.told_descriptor(open.inode) {
            Some(told) => self.read_info(told, open.offset, buf)?,
            None => fs.read(env, open.inode, open.offset, buf, open.nonblock)?,
        };
        if open.nature == Nature::File {
            self.get_mut(fd)?.offset = open.offset.saturating_add(n as u64);
        }
        Ok(n)
    }

    /// Reads `/proc/self/fdinfo/<fd>`.
    fn read_info(&self, fd: u32, offset: u64, buf: &mut [u8]) -> FsResult<usize> {
        /// The mount that `/proc/self/mountinfo` calls by this number.
        const ROOT_MOUNT: u32 = 20;
        let fd = i32::try_from(fd).unwrap_or(-1);
        let description = self.get(fd)?;
        let cloexec = if self.cloexec(fd)? { OpenFlags::CLOEXEC.0 } else { 0 };
        let text = format!(
            "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{ROOT_MOUNT}\nino:\t{}\n",
            description.offset,
            description.flags.0 | cloexec,
            description.inode.number()
        );
        let rest = text.as_bytes().get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    /// Writes at the description's position, or at the end with `O_APPEND`, and moves it.
    ///
    /// # Errors
    /// As `write(2)`; [`FsError::Block`](crate::program::fs::FsError::Block) for a full pipe. With
    /// `EPIPE` the caller raises `SIGPIPE`.
    pub fn write(&mut self, fs: &mut Fs, env: &mut Env<'_>, fd: i32, data: &[u8]) -> FsResult<IoOutcome> {
        let open = self.for_writing(fs, fd)?;
        let offset = if open.append { fs.len(open.inode) } else { open.offset };
        let outcome = fs.write(env, open.inode, offset, data, open.nonblock)?;
        if let (Nature::File, IoOutcome::Done(n)) = (open.nature, &outcome) {
            self.get_mut(fd)?.offset = offset.saturating_add(*n as u64);
        }
        Ok(outcome)
    }

    /// Reads at an offset.
    ///
    /// # Errors
    /// As `pread(2)`: `ESPIPE` for what has no offsets, `EINVAL` for one below 0.
    pub fn pread(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        fd: i32,
        buf: &mut [u8],
        offset: i64,
    ) -> FsResult<usize> {
        let Ok(offset) = u64::try_from(offset) else {
            return fail(Errno::EINVAL);
        };
        self.expect_offsets(fs, fd)?;
        let open = self.for_reading(fs, fd)?;
        match fs.told_descriptor(open.inode) {
            Some(told) => self.read_info(told, offset, buf),
            None => fs.read(env, open.inode, offset, buf, open.nonblock),
        }
    }

    /// Writes at an offset; with `O_APPEND` at the end all the same, as Linux does.
    ///
    /// # Errors
    /// As `pwrite(2)`.
    pub fn pwrite(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        fd: i32,
        data: &[u8],
        offset: i64,
    ) -> FsResult<IoOutcome> {
        let Ok(offset) = u64::try_from(offset) else {
            return fail(Errno::EINVAL);
        };
        self.expect_offsets(fs, fd)?;
        let open = self.for_writing(fs, fd)?;
        let offset = if open.append { fs.len(open.inode) } else { offset };
        fs.write(env, open.inode, offset, data, open.nonblock)
    }

    fn expect_offsets(&self, fs: &Fs, fd: i32) -> FsResult<()> {
        match fs.nature(self.get_open(fd)?.inode) {
            Nature::Stream | Nature::Pipe | Nature::Anon => fail(Errno::ESPIPE),
            _ => Ok(()),
        }
    }
}
