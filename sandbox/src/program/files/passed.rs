//! Sockets as descriptors, and descriptors in messages of sockets.

use super::FdTable;
use super::description::{DescId, Description};
use crate::program::fs::{Env, Fs, FsResult, InodeId, OpenFlags};
use crate::program::net::{Kind, Ucred};

impl FdTable {
    /// A descriptor of a new socket.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub(crate) fn socket(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        kind: Kind,
        flags: OpenFlags,
    ) -> FsResult<i32> {
        let fd = self.vacant(0)?;
        let inode = fs.make_socket(env, kind)?;
        Ok(self.install_socket(fd, inode, flags))
    }

    /// Two sockets that are connected.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub(crate) fn socket_pair(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        kind: Kind,
        flags: OpenFlags,
        who: Ucred,
    ) -> FsResult<[i32; 2]> {
        let first = self.vacant(0)?;
        let second = self.vacant(first as u32 + 1)?;
        let one = fs.make_socket(env, kind)?;
        let other = match fs.make_socket(env, kind) {
            Ok(other) => other,
            Err(e) => {
                fs.release(env, one)?;
                return Err(e);
            }
        };
        fs.with_sockets(|sockets| sockets.pair([one, other], who))?;
        Ok([self.install_socket(first, one, flags), self.install_socket(second, other, flags)])
    }

    /// A descriptor of the next connection of a listener; the socket is given as well.
    ///
    /// # Errors
    /// As `accept(2)`.
    pub(crate) fn accept(
        &mut self,
        fs: &mut Fs,
        listener: InodeId,
        flags: OpenFlags,
        nonblock: bool,
    ) -> FsResult<(i32, InodeId)> {
        let fd = self.vacant(0)?;
        let inode = fs.with_sockets(|sockets| sockets.accept(listener, nonblock))?;
        Ok((self.install_socket(fd, inode, flags), inode))
    }

    fn install_socket(&mut self, fd: usize, inode: InodeId, flags: OpenFlags) -> i32 {
        let id = self.arena.add(Description::new(inode, OpenFlags::RDWR | flags));
        self.put(fd, id, flags.has(OpenFlags::CLOEXEC))
    }

    /// The descriptions of descriptors that are to be passed.
    ///
    /// # Errors
    /// `EBADF`
    pub(crate) fn to_pass(&self, fds: &[i32]) -> FsResult<Vec<DescId>> {
        fds.iter().map(|fd| self.description_id(*fd)).collect()
    }

    /// Descriptions are in a message.
    pub(crate) fn pass(&mut self, ids: &[DescId]) {
        ids.iter().for_each(|id| self.arena.pass(*id));
    }

    /// A descriptor of a description that came in a message.
    ///
    /// # Errors
    /// `EMFILE`
    pub(crate) fn install_passed(&mut self, id: DescId, cloexec: bool) -> FsResult<i32> {
        let fd = self.vacant(0)?;
        Ok(self.put(fd, id, cloexec))
    }

    /// Gives up the descriptions of messages that are gone.
    ///
    /// # Errors
    /// When content in guest memory cannot be freed.
    pub(crate) fn settle(&mut self, fs: &mut Fs, env: &mut Env<'_>) -> FsResult<()> {
        self.settle_after(fs, env, false)
    }

    /// The same; with `lost` only messages hold a description from now on.
    pub(super) fn settle_after(&mut self, fs: &mut Fs, env: &mut Env<'_>, lost: bool) -> FsResult<()> {
        let mut lost = u64::from(lost);
        loop {
            while let Some(id) = fs.with_sockets(|sockets| sockets.take_dropped()) {
                self.arena.unpass(id);
                lost += u64::from(self.let_go(fs, env, id)?);
            }
            let descriptions = self.arena.len();
            if !fs.with_sockets(|sockets| sockets.lose(std::mem::take(&mut lost), descriptions)) {
                return Ok(());
            }
            self.drop_unreachable(fs);
        }
    }

    fn drop_unreachable(&self, fs: &mut Fs) {
        let inode_of = |id| self.arena.get(id).map(|description| description.inode);
        fs.with_sockets(|sockets| sockets.collect(self.arena.held(), inode_of));
    }

    /// Gives up what only sockets hold that nobody can reach any more.
    ///
    /// # Errors
    /// When content in guest memory cannot be freed.
    pub(crate) fn collect(&mut self, fs: &mut Fs, env: &mut Env<'_>) -> FsResult<()> {
        self.drop_unreachable(fs);
        self.settle(fs, env)
    }
}
