//! From paths to inodes.

use super::Fs;
use super::env::{Env, look};
use super::error::{FsResult, fail};
use super::inode::{Body, InodeId, Place};
use super::proc::ProcNode;
use crate::errno::Errno;

/// Bytes of the longest path, its end included.
pub const PATH_MAX: usize = 4096;

/// Bytes of the longest name.
pub const NAME_MAX: usize = 255;

/// Symbolic links that one path may go through.
const LINKS_MAX: u32 = 40;

/// Components of one path after which the deadline is looked at.
const LOOK: u32 = 256;

/// How far a path may lead: `RESOLVE_*` of `openat2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope(pub u64);

#[allow(missing_docs)]
impl Scope {
    pub const NO_XDEV: u64 = 1;
    pub const NO_MAGICLINKS: u64 = 2;
    pub const NO_SYMLINKS: u64 = 4;
    pub const BENEATH: u64 = 8;
    pub const IN_ROOT: u64 = 0x10;
    pub const CACHED: u64 = 0x20;
    pub const ALL: u64 = 0x3f;
}

impl Scope {
    fn has(self, flags: u64) -> bool {
        self.0 & flags != 0
    }
}

/// A walk along a path: what it may do, and what it did so far.
struct Walk {
    scope: Scope,
    /// Where the path starts.
    start: InodeId,
    links: u32,
    components: u32,
    /// It started at the root.
    rooted: bool,
}

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
        self.resolve_within(env, at, path, (follow, create), Scope::default())
    }

    /// The same within a scope.
    pub(super) fn resolve_within(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        path: &[u8],
        (follow, create): (bool, bool),
        scope: Scope,
    ) -> FsResult<Resolved> {
        let mut walk = Walk { scope, start: at.base, links: 0, components: 0, rooted: false };
        let mut base = at.base;
        let mut slash = false;
        let mut path = path.to_vec();
        loop {
            let mut parent = self.walk(env, at, base, path, &mut walk)?;
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
                Last::DotDot => Some(self.dotdot_within(parent.dir, &walk)?),
                Last::Name(name) => self.child_within(env, at, parent.dir, name, &walk)?,
            };
            if let Some(link) = id.filter(|id| (follow || slash) && self.is_link(*id)) {
                match self.follow(env, at, link, &mut walk)? {
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
        {
            let mut walk =
                Walk { scope: Scope::default(), start: at.base, links: 0, components: 0, rooted: false };
            self.walk(env, at, at.base, path.to_vec(), &mut walk)
        }
    }

    fn walk(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        base: InodeId,
        mut path: Vec<u8>,
        walk: &mut Walk,
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
        let mut dir = if path[0] == b'/' { self.root_within(base, walk)? } else { base };
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
            walk.components += 1;
            if walk.components.is_multiple_of(LOOK) {
                look(env.caller)?;
            }
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
                b".." => dir = self.dotdot_within(dir, walk)?,
                name => {
                    let Some(child) = self.child_within(env, at, dir, name, walk)? else {
                        return fail(Errno::ENOENT);
                    };
                    if self.is_link(child) {
                        match self.follow(env, at, child, walk)? {
                            Target::Jump(id) => dir = id,
                            Target::Path(mut target) => {
                                if target[0] == b'/' {
                                    dir = self.root_within(dir, walk)?;
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

    /// The root, for an absolute path, or an absolute link in `base`.
    fn root_within(&self, base: InodeId, walk: &mut Walk) -> FsResult<InodeId> {
        if walk.scope.has(Scope::BENEATH) {
            return fail(Errno::EXDEV);
        }
        let root = if walk.scope.has(Scope::IN_ROOT) { walk.start } else { self.root };
        if walk.links == 0 {
            // The path itself may start on another file system than the directory.
            walk.rooted = true;
            return Ok(root);
        }
        // Linux knows only the root of a path that started there (`nd_jump_root`).
        if walk.scope.has(Scope::NO_XDEV) && !walk.rooted {
            return fail(Errno::EXDEV);
        }
        self.expect_same_place(base, root, walk)?;
        Ok(root)
    }

    fn dotdot_within(&self, dir: InodeId, walk: &Walk) -> FsResult<InodeId> {
        if walk.scope.has(Scope::BENEATH | Scope::IN_ROOT) && dir == walk.start {
            self.expect_dir(dir)?;
            return if walk.scope.has(Scope::BENEATH) { fail(Errno::EXDEV) } else { Ok(dir) };
        }
        let parent = self.dotdot(dir)?;
        self.expect_same_place(dir, parent, walk)?;
        Ok(parent)
    }

    fn child_within(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        dir: InodeId,
        name: &[u8],
        walk: &Walk,
    ) -> FsResult<Option<InodeId>> {
        let child = self.child(env, at, dir, name)?;
        if let Some(child) = child {
            self.expect_same_place(dir, child, walk)?;
        }
        Ok(child)
    }

    /// Refuses to go from one file system to another where the scope says so.
    fn expect_same_place(&self, from: InodeId, to: InodeId, walk: &Walk) -> FsResult<()> {
        let place = |id| match ProcNode::of(id) {
            Some(_) => Some(Place::Proc),
            None => self.inodes.get(&id).map(|inode| inode.place),
        };
        if walk.scope.has(Scope::NO_XDEV) && place(from) != place(to) { fail(Errno::EXDEV) } else { Ok(()) }
    }

    fn follow(&mut self, env: &mut Env<'_>, at: At<'_>, link: InodeId, walk: &mut Walk) -> FsResult<Target> {
        walk.links += 1;
        if walk.links > LINKS_MAX || walk.scope.has(Scope::NO_SYMLINKS) {
            return fail(Errno::ELOOP);
        }
        if let Some(node) = ProcNode::of(link) {
            if walk.scope.has(Scope::NO_MAGICLINKS) {
                return fail(Errno::ELOOP);
            }
            if walk.scope.has(Scope::BENEATH | Scope::IN_ROOT) {
                return fail(Errno::EXDEV);
            }
            return match self.proc_jump(env, at, node)? {
                Some(id) => {
                    self.expect_same_place(link, id, walk)?;
                    Ok(Target::Jump(id))
                }
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
