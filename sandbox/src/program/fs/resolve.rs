//! From paths to inodes.

use super::Fs;
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::{Body, InodeId};
use super::proc::ProcNode;
use crate::errno::Errno;

/// Bytes of the longest path, its end included.
pub const PATH_MAX: usize = 4096;

/// Bytes of the longest name.
pub const NAME_MAX: usize = 255;

/// Symbolic links that one path may go through.
const LINKS_MAX: u32 = 40;

/// Where a path starts: the directory for relative ones, and the descriptors that
/// `/proc/self/fd` shows.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The directory.
    pub base: InodeId,
    /// The calling process's descriptors.
    pub fds: &'a dyn FdLinks,
}

/// The descriptors of the calling process, for `/proc/self/fd`.
pub trait FdLinks {
    /// Those that are open, in order.
    fn fds(&self) -> Vec<u32>;

    /// What one is open on.
    fn target(&self, fd: u32) -> Option<InodeId>;
}

/// No descriptors.
pub struct NoFds;

impl FdLinks for NoFds {
    fn fds(&self) -> Vec<u32> {
        Vec::new()
    }

    fn target(&self, _fd: u32) -> Option<InodeId> {
        None
    }
}

/// The last component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// There is none: the path is the root.
    Root,
    Dot,
    DotDot,
    Name(Vec<u8>),
}

/// A path up to its last component.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    pub dir: InodeId,
    pub last: Last,
    /// Slashes follow the last component.
    pub slash: bool,
}

/// A path with all links followed.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub parent: Parent,
    /// What is there, if anything.
    pub id: Option<InodeId>,
}

/// Where a symbolic link leads.
enum Target {
    Path(Vec<u8>),
    /// Straight to an inode, as the links in `/proc/<pid>` do.
    Jump(InodeId),
}

impl Fs {
    /// Finds what a path names. A trailing slash asks for a directory, and is followed even
    /// without `follow`.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP`, `ENAMETOOLONG`, `EINVAL` (a NUL in the path), or the host's
    /// refusal.
    pub fn lookup(&mut self, env: &mut Env<'_>, at: At<'_>, path: &[u8], follow: bool) -> FsResult<InodeId> {
        match self.resolve(env, at, path, follow, false)?.id {
            Some(id) => Ok(id),
            None => fail(Errno::ENOENT),
        }
    }

    /// Like [`Fs::lookup`], but it is no error that the last component does not exist. With
    /// `create` a slash after a name is one, also at the end of a link that is followed: that would
    /// ask to create a directory, which `open` does not.
    pub(super) fn resolve(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        path: &[u8],
        follow: bool,
        create: bool,
    ) -> FsResult<Resolved> {
        let mut links = 0;
        let mut base = at.base;
        let mut slash = false;
        let mut path = path.to_vec();
        loop {
            let mut parent = self.walk(env, at, base, path, &mut links)?;
            if create && parent.slash && matches!(parent.last, Last::Name(_)) {
                return fail(Errno::EISDIR);
            }
            slash |= parent.slash;
            parent.slash = slash;
            let id = match &parent.last {
                Last::Root => Some(parent.dir),
                Last::Dot => {
                    self.expect_dir(parent.dir)?;
                    Some(parent.dir)
                }
                Last::DotDot => Some(self.dotdot(parent.dir)?),
                Last::Name(name) => self.child(env, at, parent.dir, name)?,
            };
            if let Some(link) = id.filter(|id| (follow || slash) && self.is_link(*id)) {
                match self.follow(env, at, link, &mut links)? {
                    Target::Path(target) => {
                        base = parent.dir;
                        path = target;
                        continue;
                    }
                    Target::Jump(id) => {
                        if slash {
                            self.expect_dir(id)?;
                        }
                        return Ok(Resolved { parent, id: Some(id) });
                    }
                }
            }
            if let Some(id) = id.filter(|_| slash) {
                self.expect_dir(id)?;
            }
            return Ok(Resolved { parent, id });
        }
    }

    /// Goes to the directory of a path's last component, without a look at the last component.
    pub(super) fn parent(&mut self, env: &mut Env<'_>, at: At<'_>, path: &[u8]) -> FsResult<Parent> {
        self.walk(env, at, at.base, path.to_vec(), &mut 0)
    }

    fn walk(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        base: InodeId,
        mut path: Vec<u8>,
        links: &mut u32,
    ) -> FsResult<Parent> {
        if path.is_empty() {
            return fail(Errno::ENOENT);
        }
        if path.len() >= PATH_MAX {
            return fail(Errno::ENAMETOOLONG);
        }
        if path.contains(&0) {
            return fail(Errno::EINVAL);
        }
        let mut dir = if path[0] == b'/' { self.root } else { base };
        self.ensure(env, dir)?;
        let mut at_byte = 0;
        loop {
            at_byte = skip(&path, at_byte, |b| b == b'/');
            if at_byte == path.len() {
                return Ok(Parent { dir, last: Last::Root, slash: false });
            }
            self.expect_dir(dir)?;
            self.expect_search(env, dir)?;
            let end = skip(&path, at_byte, |b| b != b'/');
            let next = skip(&path, end, |b| b == b'/');
            let part = &path[at_byte..end];
            if next == path.len() {
                let last = match part {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    name => Last::Name(name.to_vec()),
                };
                return Ok(Parent { dir, last, slash: end < path.len() });
            }
            match part {
                b"." => {}
                b".." => dir = self.dotdot(dir)?,
                name => {
                    let Some(child) = self.child(env, at, dir, name)? else {
                        return fail(Errno::ENOENT);
                    };
                    if self.is_link(child) {
                        match self.follow(env, at, child, links)? {
                            Target::Jump(id) => dir = id,
                            Target::Path(mut target) => {
                                if target[0] == b'/' {
                                    dir = self.root;
                                }
                                target.push(b'/');
                                target.extend_from_slice(&path[next..]);
                                path = target;
                                at_byte = 0;
                                continue;
                            }
                        }
                    } else {
                        dir = child;
                    }
                    // An intermediate component must be a directory, which is found out when the
                    // next one is looked up in it.
                }
            }
            at_byte = next;
        }
    }

    fn follow(&mut self, env: &mut Env<'_>, at: At<'_>, link: InodeId, links: &mut u32) -> FsResult<Target> {
        *links += 1;
        if *links > LINKS_MAX {
            return fail(Errno::ELOOP);
        }
        if let Some(node) = ProcNode::of(link) {
            return match self.proc_jump(env, at, node)? {
                Some(id) => Ok(Target::Jump(id)),
                None => Ok(Target::Path(self.proc_link(env, at, node)?)),
            };
        }
        let target = self.target(env, link)?;
        if target.is_empty() { fail(Errno::ENOENT) } else { Ok(Target::Path(target)) }
    }

    /// Looks a name up in a directory.
    pub(super) fn child(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        dir: InodeId,
        name: &[u8],
    ) -> FsResult<Option<InodeId>> {
        self.expect_dir(dir)?;
        if name.len() > NAME_MAX {
            return fail(Errno::ENAMETOOLONG);
        }
        match self.proc_child(env, at, dir, name) {
            Some(found) => found,
            None => self.table_child(env, dir, name),
        }
    }

    /// The directory that holds a directory. The root holds itself.
    pub(super) fn dotdot(&self, dir: InodeId) -> FsResult<InodeId> {
        self.expect_dir(dir)?;
        if let Some(node) = ProcNode::of(dir) {
            return self.proc_parent(node);
        }
        let parent = self.inode(dir)?.parent;
        // The directory that held a removed one may be gone.
        if self.inodes.contains_key(&parent) { Ok(parent) } else { fail(Errno::ENOENT) }
    }

    pub(crate) fn is_link(&self, id: InodeId) -> bool {
        match ProcNode::of(id) {
            Some(node) => node.is_link(),
            None => matches!(self.inode(id), Ok(inode) if matches!(inode.body, Body::Link(_))),
        }
    }

    pub(super) fn expect_dir(&self, id: InodeId) -> FsResult<()> {
        if self.is_dir(id) { Ok(()) } else { fail(Errno::ENOTDIR) }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self, id: InodeId) -> bool {
        match ProcNode::of(id) {
            Some(node) => node.is_dir(),
            None => matches!(self.inode(id), Ok(inode) if matches!(inode.body, Body::Dir(_))),
        }
    }
}

/// The first byte from `from` on that `pass` does not hold for.
fn skip(path: &[u8], from: usize, pass: impl Fn(u8) -> bool) -> usize {
    path[from..].iter().position(|b| !pass(*b)).map_or(path.len(), |n| from + n)
}
