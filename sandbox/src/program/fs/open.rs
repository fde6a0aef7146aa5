//! `open`: from a path and flags to an inode that is held.

use serde::{Deserialize, Serialize};

use super::Fs;
use super::env::Env;
use super::error::{FsError, FsResult, fail};
use super::inode::{Body, Device, InodeId};
use super::permission::{R_OK, W_OK};
use super::proc::ProcNode;
use super::resolve::{At, Last, Scope};
use crate::errno::Errno;

/// Flags of `open`, as x86-64 Linux numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFlags(pub u32);

#[allow(missing_docs)]
impl OpenFlags {
    pub const RDONLY: OpenFlags = OpenFlags(0);
    pub const WRONLY: OpenFlags = OpenFlags(1);
    pub const RDWR: OpenFlags = OpenFlags(2);
    pub const CREAT: OpenFlags = OpenFlags(0o100);
    pub const EXCL: OpenFlags = OpenFlags(0o200);
    pub const NOCTTY: OpenFlags = OpenFlags(0o400);
    pub const TRUNC: OpenFlags = OpenFlags(0o1000);
    pub const APPEND: OpenFlags = OpenFlags(0o2000);
    pub const NONBLOCK: OpenFlags = OpenFlags(0o4000);
    pub const DSYNC: OpenFlags = OpenFlags(0o10000);
    pub const ASYNC: OpenFlags = OpenFlags(0o20000);
    pub const DIRECT: OpenFlags = OpenFlags(0o40000);
    pub const LARGEFILE: OpenFlags = OpenFlags(0o100_000);
    pub const DIRECTORY: OpenFlags = OpenFlags(0o200_000);
    pub const NOFOLLOW: OpenFlags = OpenFlags(0o400_000);
    pub const NOATIME: OpenFlags = OpenFlags(0o1_000_000);
    pub const CLOEXEC: OpenFlags = OpenFlags(0o2_000_000);
    pub const PATH: OpenFlags = OpenFlags(0o10_000_000);
    /// The bit of `O_TMPFILE` that is its own.
    pub const TMPFILE: OpenFlags = OpenFlags(0o20_000_000);
}

impl OpenFlags {
    /// Whether all bits of `flags` are set.
    pub fn has(self, flags: OpenFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether it may be read.
    pub fn reads(self) -> bool {
        !self.has(OpenFlags::PATH) && matches!(self.0 & 3, 0 | 2)
    }

    /// Whether the access mode asks for the right to write: also the mode 3, which gives a descriptor
    /// that is neither read nor written.
    pub(super) fn changes(self) -> bool {
        !self.has(OpenFlags::PATH) && self.0 & 3 != 0
    }

    /// Whether it may be written.
    pub fn writes(self) -> bool {
        !self.has(OpenFlags::PATH) && matches!(self.0 & 3, 1 | 2)
    }
}

impl std::ops::BitOr for OpenFlags {
    type Output = OpenFlags;

    fn bitor(self, other: OpenFlags) -> OpenFlags {
        OpenFlags(self.0 | other.0)
    }
}

impl Fs {
    fn lookup_within(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        path: &[u8],
        follow: bool,
        scope: Scope,
    ) -> FsResult<InodeId> {
        match self.resolve_within(env, at, path, (follow, false), scope)?.id {
            Some(id) => Ok(id),
            None => fail(Errno::ENOENT),
        }
    }

    /// Opens what a path names, creating it if the flags say so with `mode`, which is what `umask`
    /// left. The inode is held once for the caller; a FIFO counts a reader or writer more.
    ///
    /// # Errors
    /// As `open(2)`; [`FsError::Block`] for a FIFO without another end.
    pub fn open(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
    ) -> FsResult<InodeId> {
        self.open_within(env, at, path, (flags, mode), Scope::default())
    }

    /// The same within a scope.
    ///
    /// # Errors
    /// As `openat2(2)`.
    pub fn open_within(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        path: &[u8],
        (flags, mode): (OpenFlags, u32),
        scope: Scope,
    ) -> FsResult<InodeId> {
        let follow = !flags.has(OpenFlags::NOFOLLOW);
        if flags.has(OpenFlags::PATH) {
            let id = self.lookup_within(env, at, path, follow, scope)?;
            if flags.has(OpenFlags::DIRECTORY) {
                self.expect_dir(id)?;
            }
            self.hold(id);
            return Ok(id);
        }
        if flags.has(OpenFlags::TMPFILE) {
            return self.open_nameless(env, at, path, (flags, mode), scope);
        }
        if flags.has(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
            return fail(Errno::EINVAL);
        }
        let (id, made) = if flags.has(OpenFlags::CREAT) {
            self.find_or_make(env, at, path, (flags, mode), scope)?
        } else {
            (self.lookup_within(env, at, path, follow, scope)?, false)
        };
        self.open_inode(env, id, flags, made)?;
        Ok(id)
    }

    fn open_nameless(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        path: &[u8],
        (flags, mode): (OpenFlags, u32),
        scope: Scope,
    ) -> FsResult<InodeId> {
        if !flags.has(OpenFlags::DIRECTORY) || !flags.changes() || flags.has(OpenFlags::CREAT) {
            return fail(Errno::EINVAL);
        }
        let dir = self.lookup_within(env, at, path, !flags.has(OpenFlags::NOFOLLOW), scope)?;
        self.expect_dir(dir)?;
        let id = self.make_nameless(env, dir, mode, !flags.has(OpenFlags::EXCL))?;
        self.hold(id);
        Ok(id)
    }

    /// What is there, or a new file; the flag says which.
    fn find_or_make(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        path: &[u8],
        (flags, mode): (OpenFlags, u32),
        scope: Scope,
    ) -> FsResult<(InodeId, bool)> {
        let exclusive = flags.has(OpenFlags::EXCL);
        let follow = !exclusive && !flags.has(OpenFlags::NOFOLLOW);
        let found = self.resolve_within(env, at, path, (follow, true), scope)?;
        match (found.id, found.parent.last) {
            (Some(_), _) if exclusive => fail(Errno::EEXIST),
            (Some(id), _) if self.is_dir(id) => fail(Errno::EISDIR),
            (Some(id), _) => Ok((id, false)),
            (None, Last::Name(name)) => Ok((self.make_file(env, found.parent.dir, &name, mode)?, true)),
            (None, _) => fail(Errno::ENOENT),
        }
    }

    /// Opens an inode and holds it.
    pub(crate) fn open_inode(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        flags: OpenFlags,
        made: bool,
    ) -> FsResult<()> {
        let dir = self.is_dir(id);
        if flags.has(OpenFlags::DIRECTORY) && !dir {
            return fail(Errno::ENOTDIR);
        }
        if self.is_link(id) {
            return fail(Errno::ELOOP);
        }
        if dir && (flags.changes() || flags.has(OpenFlags::TRUNC)) {
            return fail(Errno::EISDIR);
        }
        if !made {
            self.expect_may_open(env, id, flags)?;
        }
        if ProcNode::of(id).is_none() {
            let has_tty = self.has_tty();
            match &self.inode(id)?.body {
                // Only what has blocks can be read past a cache.
                Body::Device(_) | Body::Pipe(_) | Body::Stream(_) if flags.has(OpenFlags::DIRECT) => {
                    return fail(Errno::EINVAL);
                }
                Body::Socket | Body::Foreign | Body::Anon(_) => return fail(Errno::ENXIO),
                Body::Device(Device::Tty) if !has_tty => return fail(Errno::ENXIO),
                Body::Pipe(_) => self.open_pipe(env.caller.tid(), id, flags)?,
                // What is in it stays outside.
                Body::Output(_) if flags.reads() => return fail(Errno::EACCES),
                Body::Output(file) if flags.has(OpenFlags::TRUNC) => {
                    // As scripts do that write to `/dev/stderr`.
                    let others = file.others();
                    self.resize(env, id, others)?;
                }
                Body::File(_) if flags.has(OpenFlags::TRUNC) && !made => self.resize(env, id, 0)?,
                _ => {}
            }
        }
        self.hold(id);
        Ok(())
    }

    /// Refuses what the caller may not open so.
    fn expect_may_open(&mut self, env: &mut Env<'_>, id: InodeId, flags: OpenFlags) -> FsResult<()> {
        let mut want = if flags.reads() { R_OK } else { 0 };
        if flags.writes() || flags.has(OpenFlags::TRUNC) {
            want |= W_OK;
        }
        self.expect_permission(env, id, want)?;
        if want & W_OK != 0 {
            self.expect_not_running(env, id)?;
            // The system's settings are as they are; `/proc/<pid>` is in no table.
            if ProcNode::of(id).is_none() && matches!(self.inode(id)?.body, Body::Text(_)) {
                return fail(Errno::EROFS);
            }
        }
        if flags.has(OpenFlags::NOATIME) && !self.owns(env, id)? {
            return fail(Errno::EPERM);
        }
        Ok(())
    }

    /// Counts an end of a pipe more.
    fn open_pipe(&mut self, task: u32, id: InodeId, flags: OpenFlags) -> FsResult<()> {
        let (reads, writes) = (flags.reads(), flags.writes());
        let Some(pipe) = self.pipe(id) else {
            return Ok(());
        };
        if !reads && !writes {
            return fail(Errno::EINVAL);
        }
        match pipe.open(task, reads, writes, flags.has(OpenFlags::NONBLOCK))? {
            None => Err(FsError::Block(id)),
            Some(awaited) => {
                if awaited {
                    self.wake(id);
                }
                Ok(())
            }
        }
    }

    /// Counts an end of a pipe less, and gives the hold back.
    pub(crate) fn close_inode(&mut self, env: &mut Env<'_>, id: InodeId, flags: OpenFlags) -> FsResult<()> {
        if let Some(pipe) = self.pipe(id) {
            pipe.close(flags.reads(), flags.writes());
            self.wake(id);
        }
        self.release(env, id)
    }
}
