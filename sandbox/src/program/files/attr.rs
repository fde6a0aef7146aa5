//! What is known of open files, changes to it, and reading on in directories.

use super::FdTable;
use crate::errno::Errno;
use crate::program::fs::{At, DirCursor, DirFormat, Env, Fs, FsResult, InodeId, Stat, fail};

impl FdTable {
    /// What is known of an open file.
    ///
    /// # Errors
    /// `EBADF`
    pub fn stat(&self, fs: &mut Fs, env: &mut Env<'_>, fd: i32) -> FsResult<Stat> {
        self.stat_inode(fs, env, self.get(fd)?.inode)
    }

    /// What is known of a file. The links in `/proc/<pid>/fd` tell how their descriptors are open.
    ///
    /// # Errors
    /// As [`Fs::stat`].
    pub fn stat_inode(&self, fs: &mut Fs, env: &mut Env<'_>, inode: InodeId) -> FsResult<Stat> {
        let stat = fs.stat(env, inode)?;
        let open = fs.linked_descriptor(inode).and_then(|fd| self.get(i32::try_from(fd).ok()?).ok());
        let Some(flags) = open.map(|description| description.flags) else { return Ok(stat) };
        let read = if flags.reads() { 0o500 } else { 0 };
        let write = if flags.writes() { 0o300 } else { 0 };
        Ok(Stat { mode: stat.mode & !0o777 | read | write, ..stat })
    }

    /// Cuts or extends an open file.
    ///
    /// # Errors
    /// `EBADF`; `EINVAL` when it is not open for writing, and as [`Fs::truncate`].
    pub fn truncate(&self, fs: &mut Fs, env: &mut Env<'_>, fd: i32, len: i64) -> FsResult<()> {
        let description = self.get_open(fd)?;
        if !description.flags.writes() {
            return fail(Errno::EINVAL);
        }
        fs.truncate(env, description.inode, len)
    }

    /// [`Fs::fallocate`] of an open file.
    ///
    /// # Errors
    /// `EBADF` also when it is not open for writing, and as [`Fs::fallocate`].
    pub fn fallocate(
        &self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        fd: i32,
        mode: u32,
        (offset, len): (i64, i64),
    ) -> FsResult<()> {
        let description = self.get_open(fd)?;
        if !description.flags.writes() {
            return fail(Errno::EBADF);
        }
        fs.fallocate(env, description.inode, mode, offset, len)
    }

    /// Reads on in an open directory: records for `getdents64` of at most `max` bytes.
    ///
    /// # Errors
    /// `EBADF`, and as [`Fs::getdents`].
    pub fn getdents(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        fd: i32,
        (max, format): (usize, DirFormat),
    ) -> FsResult<Vec<u8>> {
        let description = self.get_open(fd)?;
        let (inode, mut cursor): (_, DirCursor) = (description.inode, description.cursor.clone());
        let bytes = fs.getdents(env, At { base: inode, fds: self }, inode, &mut cursor, (max, format))?;
        self.get_mut(fd)?.cursor = cursor;
        Ok(bytes)
    }
}
