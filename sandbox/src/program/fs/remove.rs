//! `unlink` and `rmdir`.

use super::Fs;
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::{Entry, InodeId, Place};
use super::proc::ProcNode;
use super::resolve::{At, Last};
use crate::errno::Errno;

impl Fs {
    /// Removes a name of something that is not a directory.
    ///
    /// # Errors
    /// As `unlink(2)`.
    pub fn unlink(&mut self, env: &mut Env<'_>, at: At<'_>, path: &[u8]) -> FsResult<()> {
        let parent = self.parent(env, at, path)?;
        let Last::Name(name) = parent.last else {
            return fail(Errno::EISDIR);
        };
        let Some(id) = self.child(env, at, parent.dir, &name)? else {
            return fail(Errno::ENOENT);
        };
        if parent.slash {
            return fail(if self.is_dir(id) { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        self.expect_may_remove(env, parent.dir, id)?;
        if self.is_dir(id) {
            return fail(Errno::EISDIR);
        }
        self.expect_removable(parent.dir, id)?;
        let id = self.take_name(env, parent.dir, &name)?;
        self.drop_if_unused(env, id)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As `rmdir(2)`.
    pub fn rmdir(&mut self, env: &mut Env<'_>, at: At<'_>, path: &[u8]) -> FsResult<()> {
        let parent = self.parent(env, at, path)?;
        let name = match parent.last {
            Last::Name(name) => name,
            Last::Dot => return fail(Errno::EINVAL),
            Last::DotDot => return fail(Errno::ENOTEMPTY),
            Last::Root => return fail(Errno::EBUSY),
        };
        let Some(id) = self.child(env, at, parent.dir, &name)? else {
            return fail(Errno::ENOENT);
        };
        self.expect_may_remove(env, parent.dir, id)?;
        self.expect_dir(id)?;
        self.expect_removable(parent.dir, id)?;
        self.expect_empty(env, id)?;
        let id = self.take_name(env, parent.dir, &name)?;
        self.drop_if_unused(env, id)
    }

    /// Refuses to take `id` out of `dir` where names are fixed or something is mounted.
    pub(super) fn expect_removable(&self, dir: InodeId, id: InodeId) -> FsResult<()> {
        if ProcNode::of(dir).is_some() || ProcNode::of(id).is_some() || self.dir(dir)?.fixed {
            return fail(Errno::EPERM);
        }
        let inode = self.inode(id)?;
        // A built-in file may go, as on a real `/dev`; a directory or a mount may not.
        if inode.pinned && (self.is_dir(id) || inode.place == Place::Tree) {
            return fail(Errno::EBUSY);
        }
        Ok(())
    }

    pub(super) fn expect_empty(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<()> {
        self.list_lower(env, id)?;
        let dir = self.dir(id)?;
        let used = |entry: &Entry| matches!(entry, Entry::Node { .. } | Entry::Listed { .. });
        if dir.fixed || dir.entries.values().any(used) {
            return fail(Errno::ENOTEMPTY);
        }
        Ok(())
    }
}
