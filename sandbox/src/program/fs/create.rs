//! New names: `mkdir`, `mknod`, `symlink`, `link`.

use super::Fs;
use super::content::{Blocks, Content};
use super::env::Env;
use super::error::{FsError, FsResult, fail};
use super::inode::{Body, Dir, InodeId, Link};
use super::pipe::Pipe;
use super::proc::ProcNode;
use super::resolve::{At, Last, PATH_MAX};
use super::stat::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK};
use crate::errno::Errno;

/// Pipes and FIFOs at most, since each may hold 64 KiB.
const PIPES_MAX: u32 = 4096;

/// Names of one file at most, as on ext4.
const LINKS_MAX: u32 = 65_000;

impl Fs {
    /// A place for a new name: the directory, and the name, which it does not have.
    fn vacancy(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        path: &[u8],
        directory: bool,
    ) -> FsResult<(InodeId, Vec<u8>)> {
        let parent = self.parent(env, at, path)?;
        let Last::Name(name) = parent.last else {
            return fail(Errno::EEXIST);
        };
        if self.child(env, at, parent.dir, &name)?.is_some() {
            return fail(Errno::EEXIST);
        }
        // Only a directory can be made by a name with a slash after it.
        if parent.slash && !directory {
            return fail(Errno::ENOENT);
        }
        self.expect_changeable(parent.dir)?;
        self.expect_writable_dir(env, parent.dir)?;
        Ok((parent.dir, name))
    }

    /// Makes a directory. `mode` is what `umask` left.
    ///
    /// # Errors
    /// As `mkdir(2)`.
    pub fn mkdir(&mut self, env: &mut Env<'_>, at: At<'_>, path: &[u8], mode: u32) -> FsResult<InodeId> {
        let (dir, name) = self.vacancy(env, at, path, true)?;
        self.make_named(env, dir, &name, mode & 0o1777, Body::Dir(Dir::default()))
    }

    /// Makes a regular file, FIFO or socket. `mode` is what `umask` left, with the type.
    ///
    /// # Errors
    /// As `mknod(2)`; `EPERM` for devices.
    pub fn mknod(&mut self, env: &mut Env<'_>, at: At<'_>, path: &[u8], mode: u32) -> FsResult<InodeId> {
        let kind = mode & S_IFMT;
        if !matches!(kind, 0 | S_IFREG | S_IFIFO | S_IFSOCK | S_IFCHR | S_IFBLK | S_IFDIR) {
            return fail(Errno::EINVAL);
        }
        if kind == S_IFDIR {
            return fail(Errno::EPERM);
        }
        let (dir, name) = self.vacancy(env, at, path, false)?;
        let body = match kind {
            0 | S_IFREG => Body::File(Content::Blocks(Blocks::default())),
            S_IFIFO => Body::Pipe(Pipe::named()),
            S_IFSOCK => Body::Socket,
            _ => return fail(Errno::EPERM),
        };
        self.make_named(env, dir, &name, mode & 0o7777, body)
    }

    /// Takes room for one more pipe.
    pub(super) fn count_pipe(&mut self) -> FsResult<()> {
        if self.pipes >= PIPES_MAX {
            return fail(Errno::ENFILE);
        }
        Ok(self.charge_pipe()?)
    }

    /// A pipe without a name, held once for each of its two ends.
    pub(crate) fn make_pipe(&mut self, env: &mut Env<'_>) -> FsResult<InodeId> {
        self.count_pipe().map_err(|_| FsError::Errno(Errno::ENFILE))?;
        let id = self.make_anonymous(env, Body::Pipe(Pipe::with_ends()));
        self.hold(id);
        Ok(id)
    }

    /// Makes a symbolic link to `target`.
    ///
    /// # Errors
    /// As `symlink(2)`.
    pub fn symlink(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        path: &[u8],
        target: &[u8],
    ) -> FsResult<InodeId> {
        if target.is_empty() {
            return fail(Errno::ENOENT);
        }
        if target.len() >= PATH_MAX {
            return fail(Errno::ENAMETOOLONG);
        }
        if target.contains(&0) {
            return fail(Errno::EINVAL);
        }
        let (dir, name) = self.vacancy(env, at, path, false)?;
        self.make_named(env, dir, &name, 0o777, Body::Link(Link::Target(target.to_vec())))
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// As `link(2)`.
    pub fn link(&mut self, env: &mut Env<'_>, old: InodeId, at: At<'_>, path: &[u8]) -> FsResult<()> {
        let (dir, name) = self.vacancy(env, at, path, false)?;
        if ProcNode::of(old).is_some() {
            return fail(Errno::EXDEV);
        }
        let inode = self.inode(old)?;
        if inode.place != self.inode(dir)?.place {
            return fail(Errno::EXDEV);
        }
        if matches!(inode.body, Body::Dir(_)) || inode.pinned {
            return fail(Errno::EPERM);
        }
        if inode.nlink == 0 && !inode.nameless {
            return fail(Errno::ENOENT);
        }
        if inode.nlink >= LINKS_MAX {
            return fail(Errno::EMLINK);
        }
        self.add_name(env, dir, &name, old)
    }

    /// Makes an empty regular file for `open`.
    pub(super) fn make_file(
        &mut self,
        env: &mut Env<'_>,
        dir: InodeId,
        name: &[u8],
        mode: u32,
    ) -> FsResult<InodeId> {
        self.expect_changeable(dir)?;
        self.expect_writable_dir(env, dir)?;
        let body = Body::File(Content::Blocks(Blocks::default()));
        self.make_named(env, dir, name, mode & 0o7777, body)
    }

    /// Makes a regular file without a name for `O_TMPFILE`.
    pub(super) fn make_nameless(
        &mut self,
        env: &mut Env<'_>,
        dir: InodeId,
        mode: u32,
        linkable: bool,
    ) -> FsResult<InodeId> {
        self.expect_changeable(dir)?;
        self.expect_writable_dir(env, dir)?;
        let body = Body::File(Content::Blocks(Blocks::default()));
        let id = self.make(env, dir, mode & 0o7777, body)?;
        let inode = self.inode_mut(id)?;
        inode.nameless = linkable;
        inode.name = format!("#{}", id.0).into_bytes();
        Ok(id)
    }
}
