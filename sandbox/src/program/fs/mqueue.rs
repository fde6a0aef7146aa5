//! POSIX message queues as inodes without a name.

use super::Fs;
use super::anon::Anon;
use super::env::Env;
use super::error::{FsError, FsResult};
use super::inode::{Body, InodeId};
use crate::errno::Errno;
use crate::program::ipc::mqueue::Queue;

impl Fs {
    /// Makes a queue of the caller's, held once.
    ///
    /// # Errors
    /// `ENOMEM` without room.
    pub(crate) fn make_queue(&mut self, env: &mut Env<'_>, queue: Queue, mode: u32) -> FsResult<InodeId> {
        let made = self.make_anon(env, Anon::Queue(Box::new(queue)));
        let id = made.map_err(|e| match e {
            FsError::Errno(_) => FsError::Errno(Errno::ENOMEM),
            e => e,
        })?;
        self.inode_mut(id)?.attr.mode = mode & 0o7777;
        Ok(id)
    }

    /// The queue that an inode is, if it is one.
    pub(crate) fn queue(&self, id: InodeId) -> Option<&Queue> {
        match self.anon(id) {
            Some(Anon::Queue(queue)) => Some(queue),
            _ => None,
        }
    }

    /// The same to change: whoever makes it ready for more says so by [`Fs::wake`].
    pub(crate) fn queue_mut(&mut self, id: InodeId) -> Option<&mut Queue> {
        match self.anon_mut(id) {
            Some(Anon::Queue(queue)) => Some(queue),
            _ => None,
        }
    }

    /// All queues.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (InodeId, &Queue)> {
        self.inodes.iter().filter_map(|(id, inode)| match &inode.body {
            Body::Anon(Anon::Queue(queue)) => Some((*id, &**queue)),
            _ => None,
        })
    }
}
