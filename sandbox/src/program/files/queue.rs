//! Descriptors of POSIX message queues.

use super::FdTable;
use super::description::Description;
use crate::program::fs::{FsResult, InodeId, OpenFlags};

impl FdTable {
    /// Refuses to open what there is no number for: before anything is made.
    ///
    /// # Errors
    /// `EMFILE`
    pub(crate) fn expect_vacant(&self) -> FsResult<()> {
        self.vacant(0).map(drop)
    }

    /// A descriptor of an inode that is held for it. `execve` closes it.
    ///
    /// # Errors
    /// `EMFILE`
    pub(crate) fn install_held(&mut self, inode: InodeId, flags: OpenFlags) -> FsResult<i32> {
        let fd = self.vacant(0)?;
        let id = self.arena.add(Description::new(inode, flags));
        Ok(self.put(fd, id, true))
    }

    /// Sets whether calls on a descriptor wait.
    ///
    /// # Errors
    /// `EBADF`
    pub(crate) fn set_nonblock(&mut self, fd: i32, nonblock: bool) -> FsResult<()> {
        let flags = &mut self.get_mut(fd)?.flags;
        let bit = OpenFlags::NONBLOCK.0;
        flags.0 = if nonblock { flags.0 | bit } else { flags.0 & !bit };
        Ok(())
    }
}
