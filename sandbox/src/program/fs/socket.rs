//! Sockets as inodes, and their names in the tree.

use super::env::Env;
use super::error::{FsError, FsResult, fail};
use super::inode::{Body, InodeId};
use super::permission::W_OK;
use super::resolve::At;
use super::stat::S_IFSOCK;
use super::{Anon, Fs, IoOutcome};
use crate::errno::Errno;
use crate::program::net::{Extras, Kind, Name, Sockets, Take, Ucred};

/// What a socket takes of the quota, besides its inode.
pub(super) const SOCKET_COST: u64 = 768;

impl Fs {
    /// The sockets.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Does something with the sockets: what they hold more counts against the quota, and who waits for
    /// those that change is woken.
    pub(crate) fn with_sockets<T>(&mut self, act: impl FnOnce(&mut Sockets) -> T) -> T {
        let before = self.sockets.used();
        self.sockets.set_room(self.chunks.free());
        let result = act(&mut self.sockets);
        let after = self.sockets.used();
        if after > before {
            // They take no more than the room that they were given.
            let charged = self.chunks.charge(after - before);
            debug_assert!(charged.is_ok());
        } else {
            self.chunks.refund(before - after);
        }
        self.woken.append(&mut self.sockets.take_woken());
        result
    }

    /// Makes a socket, held once.
    ///
    /// # Errors
    /// `ENFILE` without room.
    pub(crate) fn make_socket(&mut self, env: &mut Env<'_>, kind: Kind) -> FsResult<InodeId> {
        let id = self.make_anon(env, Anon::Socket)?;
        self.inode_mut(id)?.attr.mode = 0o777;
        self.sockets.add(id, kind);
        Ok(id)
    }

    /// A socket is gone, and the connections that it has not accepted with it.
    pub(super) fn drop_socket(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<()> {
        let pending = self.with_sockets(|sockets| sockets.remove(id));
        pending.into_iter().try_for_each(|id| self.release(env, id))
    }

    /// Gives a socket a name. That of a file makes the file.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub(crate) fn bind_socket(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        id: InodeId,
        name: Name,
        umask: u32,
    ) -> FsResult<()> {
        let Some(path) = name.path().map(<[u8]>::to_vec) else {
            return self.sockets.bind_abstract(id, name);
        };
        let mode = self.inode(id)?.attr.mode & !umask;
        let file = match self.mknod(env, at, &path, S_IFSOCK | mode) {
            Err(FsError::Errno(Errno::EEXIST)) => return fail(Errno::EADDRINUSE),
            made => made?,
        };
        let bound = self.sockets.bind_file(id, name, file);
        if bound.is_err() {
            self.unlink(env, at, &path)?;
        }
        bound
    }

    /// Finds the socket that a name leads to, for another one.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub(crate) fn find_socket(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        id: InodeId,
        name: &Name,
    ) -> FsResult<InodeId> {
        let Some(path) = name.path() else { return self.sockets.find_abstract(id, name) };
        let file = self.lookup(env, at, path, true)?;
        self.expect_permission(env, file, W_OK)?;
        self.sockets.find_file(id, file)
    }

    /// Connects a socket to a listener.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub(crate) fn connect_socket(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        listener: InodeId,
        who: Ucred,
        nonblock: bool,
    ) -> FsResult<()> {
        let kind = self.sockets.kind(id)?;
        let new = self.make_socket(env, kind)?;
        let connected = self.with_sockets(|sockets| sockets.connect(id, listener, new, who, nonblock));
        if connected.is_err() {
            self.release(env, new)?;
        }
        connected
    }

    /// Writes to a socket, for who moves bytes between descriptors.
    ///
    /// # Errors
    /// As `write(2)`.
    pub(super) fn write_socket(
        &mut self,
        env: &Env<'_>,
        id: InodeId,
        data: &[u8],
        nonblock: bool,
    ) -> FsResult<IoOutcome> {
        let who = env.caller.credentials();
        let sender = Ucred { pid: env.caller.pid(), uid: who.user.real, gid: who.group.real };
        let extras = Extras { sender, creds: None, passed: Vec::new(), limit: 0 };
        let sent = self.with_sockets(|sockets| match sockets.kind(id)? {
            Kind::Stream => sockets.send_bytes(id, data, &extras, nonblock, false, false),
            _ => {
                sockets.start_packet(id, data.len(), nonblock)?;
                sockets.send_packet(id, None, data, &extras, nonblock)
            }
        })?;
        Ok(IoOutcome::Done(sent.bytes))
    }

    /// Reads from a socket, for who moves bytes between descriptors: descriptions that came along are dropped.
    ///
    /// # Errors
    /// As `read(2)`.
    pub(super) fn read_socket(&mut self, id: InodeId, buf: &mut [u8], nonblock: bool) -> FsResult<usize> {
        let take = Take { peek: false, nonblock };
        Ok(self.with_sockets(|sockets| sockets.receive(id, buf, take))?.bytes)
    }

    /// Whether the sockets are those that inodes are: for a state out of a file.
    pub(super) fn sockets_are_sound(&self) -> bool {
        let is_socket = |id: InodeId| {
            self.inodes.get(&id).is_some_and(|inode| matches!(inode.body, Body::Anon(Anon::Socket)))
        };
        let count = self.inodes.keys().filter(|id| is_socket(**id)).count();
        self.sockets.is_sound(count, is_socket, |id| id.0 < self.next_inode)
    }
}
