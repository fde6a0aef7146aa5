//! What is known of files, and changes to it: `stat`, `chmod`, `chown`, `utimensat`, `truncate`
//! and the like.

use super::content::{Content, MAX_FILE};
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::{Body, InodeId, Link, Place, Text};
use super::permission::W_OK;
use super::proc::ProcNode;
use super::resolve::At;
use super::seal::{SEAL_EXEC, SEAL_FUTURE_WRITE, SEAL_WRITE};
use super::stat::{S_IFDIR, S_IFREG, Stat, StatFs, makedev};
use super::{Fs, Nature};
use crate::errno::Errno;
use crate::program::credentials::cap;

/// `FALLOC_FL_KEEP_SIZE`
pub const FALLOC_KEEP_SIZE: u32 = 1;
/// `FALLOC_FL_PUNCH_HOLE`
pub const FALLOC_PUNCH_HOLE: u32 = 2;
/// `FALLOC_FL_ZERO_RANGE`
pub const FALLOC_ZERO_RANGE: u32 = 0x10;

/// A time for [`Fs::set_times`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// `UTIME_NOW`
    Now,
    /// `UTIME_OMIT`
    Omit,
    /// Nanoseconds since the Unix epoch.
    At(i64),
}

impl SetTime {
    /// From a `struct timespec`, with the special values of `tv_nsec`.
    ///
    /// # Errors
    /// `EINVAL` for other values beyond a second.
    pub fn from_timespec(sec: i64, nsec: i64) -> FsResult<SetTime> {
        match nsec {
            0x3fff_ffff => Ok(SetTime::Now),
            0x3fff_fffe => Ok(SetTime::Omit),
            0..=999_999_999 => Ok(SetTime::At(sec.saturating_mul(1_000_000_000).saturating_add(nsec))),
            _ => fail(Errno::EINVAL),
        }
    }

    fn apply(self, time: &mut i64, now: i64) {
        match self {
            SetTime::Now => *time = now,
            SetTime::Omit => {}
            SetTime::At(at) => *time = at,
        }
    }
}

impl Fs {
    /// What is known of an inode.
    ///
    /// # Errors
    /// The host's refusal, for a mount that was not looked at yet.
    pub fn stat(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<Stat> {
        if let Some(node) = ProcNode::of(id) {
            let (uid, gid) = env.caller.owner();
            return Ok(Stat { uid, gid, ..node.stat(self.born) });
        }
        self.ensure(env, id)?;
        let inode = self.inode(id)?;
        let kind = inode.kind();
        let size = match &inode.body {
            Body::File(content) => content.len(),
            Body::Output(file) => file.len(),
            Body::Link(Link::Target(target)) => target.len() as u64,
            Body::Link(Link::Lower { size, .. }) => *size,
            Body::Dir(_) if !matches!(inode.place, Place::Proc | Place::Sys) => 4096,
            Body::Text(Text::Fixed(_)) if inode.place == Place::Sys => 4096,
            _ => 0,
        };
        let rdev = match &inode.body {
            Body::Device(device) => device.rdev(),
            Body::Stream(stream) if stream.tty => makedev(136, 0),
            _ => 0,
        };
        // All descriptors of the terminal are `/dev/pts/0`, so that `ttyname` finds it.
        let ino = match (&inode.body, self.streams.pts) {
            (Body::Stream(stream), Some(pts)) if stream.tty => pts.0,
            _ => id.0,
        };
        let stored = matches!(kind, S_IFREG | S_IFDIR) && inode.place != Place::Sys;
        Ok(Stat {
            dev: inode.place.dev(),
            ino,
            mode: kind | inode.attr.mode,
            nlink: match &inode.body {
                Body::Dir(dir) if inode.nlink > 0 => dir.subdirs.max(-1).saturating_add(2) as u32,
                _ => inode.nlink,
            },
            uid: inode.attr.uid,
            gid: inode.attr.gid,
            rdev,
            size,
            blocks: if stored { size.div_ceil(4096) * 8 } else { 0 },
            atime: inode.attr.atime,
            mtime: inode.attr.mtime,
            ctime: inode.attr.ctime,
            btime: inode.attr.btime,
        })
    }

    /// Device and inode number: what tells files apart.
    pub fn identity(&self, id: InodeId) -> (u64, u64) {
        match ProcNode::of(id) {
            Some(node) => (Place::Proc.dev(), node.stat(0).ino),
            None => (self.inode(id).map_or(0, |inode| inode.place.dev()), id.0),
        }
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` for what is not one.
    pub fn readlink(&mut self, env: &mut Env<'_>, at: At<'_>, id: InodeId) -> FsResult<Vec<u8>> {
        match ProcNode::of(id) {
            Some(node) if node.is_link() => self.proc_link(env, at, node),
            Some(_) => fail(Errno::EINVAL),
            None => self.target(env, id),
        }
    }

    /// Sets the permission bits.
    ///
    /// # Errors
    /// `EPERM` in `/proc` and for who does not own it, `EOPNOTSUPP` for a symbolic link.
    pub fn chmod(&mut self, env: &mut Env<'_>, id: InodeId, mode: u32) -> FsResult<()> {
        self.ensure(env, id)?;
        let owns = self.owns(env, id)?;
        let now = env.caller.now();
        let seals = self.seals(id);
        let inode = self.inode_mut(id)?;
        if matches!(inode.body, Body::Link(_)) {
            return fail(Errno::EOPNOTSUPP);
        }
        let sealed = seals & SEAL_EXEC != 0 && (mode ^ inode.attr.mode) & 0o111 != 0;
        if !owns || sealed {
            return fail(Errno::EPERM);
        }
        inode.attr.mode = mode & 0o7777;
        let who = env.caller.credentials();
        if !who.in_group(inode.attr.gid) && !who.can(cap::FSETID) {
            inode.attr.mode &= !0o2000;
        }
        inode.attr.ctime = now;
        Ok(())
    }

    /// Sets owner and group; `None` leaves one as it is.
    ///
    /// # Errors
    /// `EPERM` in `/proc`, and for who may not: owners may only give a file to a group of theirs.
    pub fn chown(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> FsResult<()> {
        self.ensure(env, id)?;
        let now = env.caller.now();
        let inode = self.inode_mut(id)?;
        let who = env.caller.credentials();
        let owns = who.user.fs == inode.attr.uid;
        let user = uid.is_none_or(|uid| owns && uid == inode.attr.uid);
        let group = gid.is_none_or(|gid| owns && (gid == inode.attr.gid || who.in_group(gid)));
        if !(who.can(cap::CHOWN) || user && group) {
            return fail(Errno::EPERM);
        }
        inode.attr.uid = uid.unwrap_or(inode.attr.uid);
        inode.attr.gid = gid.unwrap_or(inode.attr.gid);
        if matches!(inode.body, Body::File(_) | Body::Output(_)) {
            // A file that changes hands must not keep the right to act as its owner.
            let group_runs = inode.attr.mode & 0o010 != 0;
            inode.attr.mode &= if group_runs { !0o6000 } else { !0o4000 };
        }
        inode.attr.ctime = now;
        Ok(())
    }

    /// Sets the times of access and modification.
    ///
    /// # Errors
    /// `EPERM` in `/proc`.
    pub fn set_times(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        atime: SetTime,
        mtime: SetTime,
    ) -> FsResult<()> {
        self.ensure(env, id)?;
        if (atime, mtime) == (SetTime::Omit, SetTime::Omit) {
            return Ok(());
        }
        if !self.owns(env, id)? {
            if (atime, mtime) != (SetTime::Now, SetTime::Now) {
                return fail(Errno::EPERM);
            }
            self.expect_permission(env, id, W_OK)?;
        }
        let now = env.caller.now();
        let inode = self.inode_mut(id)?;
        atime.apply(&mut inode.attr.atime, now);
        mtime.apply(&mut inode.attr.mtime, now);
        inode.attr.ctime = now;
        Ok(())
    }

    /// Cuts or extends a regular file.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL` for other kinds and lengths below 0, `EFBIG`.
    pub fn truncate(&mut self, env: &mut Env<'_>, id: InodeId, len: i64) -> FsResult<()> {
        let Ok(len) = u64::try_from(len) else {
            return fail(Errno::EINVAL);
        };
        if self.is_dir(id) {
            return fail(Errno::EISDIR);
        }
        self.ensure(env, id)?;
        if !matches!(self.inode_mut(id)?.body, Body::File(_) | Body::Output(_)) {
            return fail(Errno::EINVAL);
        }
        if len > MAX_FILE {
            return fail(Errno::EFBIG);
        }
        if len > self.len(id) {
            self.expect_size(env, len)?;
        }
        self.expect_not_running(env, id)?;
        self.drop_set_id(env, id);
        self.resize(env, id, len)
    }

    /// Cuts or extends a regular file to a length that is allowed, unless it is sealed against that.
    pub(super) fn resize(&mut self, env: &mut Env<'_>, id: InodeId, len: u64) -> FsResult<()> {
        self.expect_resizable(id, len)?;
        self.set_len(env, id, len)
    }

    /// Cuts or extends a regular file, sealed or not.
    pub(crate) fn set_len(&mut self, env: &mut Env<'_>, id: InodeId, len: u64) -> FsResult<()> {
        if self.is_output_file(id) {
            return self.resize_output(env, id, len);
        }
        let now = env.caller.now();
        if len != self.len(id) {
            self.before_change(env, id)?;
        }
        let (inode, chunks, _) = self.parts(env.world, id)?;
        match &mut inode.body {
            Body::File(Content::Blocks(blocks)) => blocks.resize(chunks, len)?,
            Body::File(Content::Shared { .. }) => self.resize_shared(env, id, len)?,
            _ => return fail(Errno::EINVAL),
        }
        self.inode_mut(id)?.attr.modified(now);
        Ok(())
    }

    /// Reserves, zeroes or frees a range. Nothing is reserved in fact: room is checked, and taken
    /// when bytes are written.
    ///
    /// # Errors
    /// As `fallocate(2)`; `EOPNOTSUPP` for modes that move or unshare bytes.
    pub fn fallocate(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        mode: u32,
        offset: i64,
        len: i64,
    ) -> FsResult<()> {
        let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else {
            return fail(Errno::EINVAL);
        };
        if len == 0 {
            return fail(Errno::EINVAL);
        }
        let known = FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE;
        let punch = mode & FALLOC_PUNCH_HOLE != 0;
        let zero = mode & FALLOC_ZERO_RANGE != 0;
        if mode & !known != 0 || (punch && (zero || mode & FALLOC_KEEP_SIZE == 0)) {
            return fail(Errno::EOPNOTSUPP);
        }
        match self.nature(id) {
            // Its bytes are outside, where nothing is reserved or freed.
            Nature::File if self.is_output_file(id) && mode != 0 => return fail(Errno::EOPNOTSUPP),
            Nature::File => {}
            Nature::Dir => return fail(Errno::EISDIR),
            Nature::Pipe => return fail(Errno::ESPIPE),
            _ => return fail(Errno::ENODEV),
        }
        // Both are below 2^63.
        let end = offset + len;
        if end > MAX_FILE {
            return fail(Errno::EFBIG);
        }
        if mode & FALLOC_KEEP_SIZE == 0 && end > self.len(id) {
            self.expect_size(env, end)?;
        }
        if punch || zero {
            if self.seals(id) & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0 {
                return fail(Errno::EPERM);
            }
            self.zero_range(env, id, offset, len)?;
        } else if !self.is_output_file(id) {
            let more = end.saturating_sub(self.len(id));
            self.chunks.expect(more, 0)?;
        }
        if mode & FALLOC_KEEP_SIZE == 0 && end > self.len(id) {
            self.resize(env, id, end)?;
        }
        Ok(())
    }

    fn zero_range(&mut self, env: &mut Env<'_>, id: InodeId, offset: u64, len: u64) -> FsResult<()> {
        let now = env.caller.now();
        self.before_change(env, id)?;
        let (inode, chunks, mut host) = self.parts(env.world, id)?;
        match &mut inode.body {
            Body::File(Content::Blocks(blocks)) => blocks.zero(chunks, &mut host, offset, len)?,
            Body::File(Content::Shared { object, len: size, below }) => {
                let end = offset.saturating_add(len).min(*size);
                let content = (*object, *below);
                if offset < end {
                    self.zero_shared(env, content, offset..end)?;
                }
            }
            _ => return fail(Errno::ENODEV),
        }
        self.inode_mut(id)?.attr.modified(now);
        Ok(())
    }

    /// What is known of the file system that an inode lies on.
    pub fn statfs(&self, id: InodeId) -> StatFs {
        let place = match ProcNode::of(id) {
            Some(_) => Place::Proc,
            None => self.inode(id).map_or(Place::Tree, |inode| inode.place),
        };
        let kind = match place {
            Place::Tree => 0x794c_7630,             // OVERLAYFS_SUPER_MAGIC
            Place::Dev | Place::Shm => 0x0102_1994, // TMPFS_MAGIC
            Place::Pts => 0x1cd1,                   // DEVPTS_SUPER_MAGIC
            Place::Proc => 0x9fa0,                  // PROC_SUPER_MAGIC
            Place::Sys => 0x6265_6572,              // SYSFS_MAGIC
            Place::Pipes => 0x5049_5045,            // PIPEFS_MAGIC
        };
        let real = matches!(place, Place::Tree | Place::Dev | Place::Shm);
        let only = |n: u64| if real { n } else { 0 };
        StatFs {
            kind,
            blocks: only(self.chunks.quota() / 4096),
            free: only(self.chunks.free() / 4096),
            files: only(self.chunks.quota() / 1024),
            files_free: only(self.chunks.free() / 1024),
        }
    }
}
