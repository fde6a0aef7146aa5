//! How inodes come and go, and the names that hold them.

use super::Fs;
use super::anon::Anon;
use super::content::Content;
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::{Attr, Body, Dir, Entry, Inode, InodeId, Listing, Loaded, Place, Way};
use super::known::entry_cost;
use super::proc::ProcNode;
use super::resolve::PATH_MAX;
use crate::errno::Errno;
use crate::program::credentials::cap;

/// What an inode takes of the quota.
pub(super) const INODE_COST: u64 = 640;

/// What a name takes of the quota.
pub(super) fn name_cost(name: &[u8]) -> u64 {
    128 + name.len() as u64
}

impl Fs {
    pub(super) fn new_id(&mut self) -> InodeId {
        let id = InodeId(self.next_inode);
        self.next_inode += 1;
        id
    }

    /// A new inode without a name, of the caller's. In a directory with the set-group-ID bit it takes
    /// the directory's group.
    pub(super) fn make(
        &mut self,
        env: &mut Env<'_>,
        parent: InodeId,
        mode: u32,
        body: Body,
    ) -> FsResult<InodeId> {
        let extra = match &body {
            Body::Link(super::inode::Link::Target(target)) => target.len() as u64,
            _ => 0,
        };
        let charge = INODE_COST + extra;
        let (place, group) = {
            let parent = self.inode(parent)?;
            (parent.place, (parent.attr.mode & 0o2000 != 0).then_some(parent.attr.gid))
        };
        self.chunks.charge(charge)?;
        if matches!(body, Body::Pipe(_))
            && let Err(e) = self.count_pipe()
        {
            self.chunks.refund(charge);
            return Err(e);
        }
        let mut attr = Attr::of(env.caller.credentials(), mode, env.caller.now());
        if let Some(gid) = group {
            attr.gid = gid;
            let who = env.caller.credentials();
            if matches!(body, Body::Dir(_)) {
                attr.mode |= 0o2000;
            } else if attr.mode & 0o2010 == 0o2010 && !who.in_group(gid) && !who.can(cap::FSETID) {
                // As `mode_strip_sgid`: nobody makes a program that runs with a group that is not theirs.
                attr.mode &= !0o2000;
            }
        }
        Ok(self.insert_inode(parent, place, attr, body, charge))
    }

    pub(super) fn insert_inode(
        &mut self,
        parent: InodeId,
        place: Place,
        attr: Attr,
        body: Body,
        charge: u64,
    ) -> InodeId {
        let id = self.new_id();
        let inode = Inode {
            attr,
            body,
            place,
            loaded: Loaded::Yes,
            nlink: 0,
            holds: 0,
            parent,
            name: Vec::new(),
            pinned: false,
            mapped: None,
            nameless: false,
            charge,
            known: 0,
            xattrs: Default::default(),
            // A file of tmpfs has the seal that forbids seals, unless it is made by `memfd_create`.
            seals: if place == Place::Shm { super::seal::SEAL_SEAL } else { 0 },
        };
        self.inodes.insert(id, inode);
        id
    }

    /// A new inode that never has a name, held once: a pipe, or what the rest of the monitor
    /// implements.
    pub(super) fn make_anonymous(&mut self, env: &mut Env<'_>, body: Body) -> InodeId {
        let attr = Attr::of(env.caller.credentials(), 0o600, env.caller.now());
        let id = self.insert_inode(self.root, Place::Pipes, attr, body, 0);
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.holds = 1;
        }
        id
    }

    /// Makes a new inode and gives it its first name.
    pub(super) fn make_named(
        &mut self,
        env: &mut Env<'_>,
        dir: InodeId,
        name: &[u8],
        mode: u32,
        body: Body,
    ) -> FsResult<InodeId> {
        let id = self.make(env, dir, mode, body)?;
        if let Err(e) = self.add_name(env, dir, name, id) {
            self.drop_if_unused(env, id)?;
            return Err(e);
        }
        Ok(id)
    }

    /// Gives an inode a name that the directory does not have.
    pub(super) fn add_name(
        &mut self,
        env: &mut Env<'_>,
        dir: InodeId,
        name: &[u8],
        id: InodeId,
    ) -> FsResult<()> {
        self.chunks.charge(name_cost(name))?;
        let now = env.caller.now();
        let is_dir = self.is_dir(id);
        let parent = self.inode_mut(dir)?;
        parent.attr.modified(now);
        if let Body::Dir(d) = &mut parent.body {
            d.count(is_dir.into());
            let covers = match d.entries.get(name) {
                Some(Entry::Node { covers, .. }) => *covers,
                Some(Entry::Listed { .. } | Entry::Whiteout) => true,
                Some(Entry::Absent) => {
                    if let Some(lower) = &mut d.lower {
                        lower.absent = lower.absent.saturating_sub(1);
                    }
                    false
                }
                None => false,
            };
            self.set_entry(dir, name, Some(Entry::Node { id, covers, charged: true }))?;
        }
        let inode = self.inode_mut(id)?;
        inode.nlink += 1;
        inode.parent = dir;
        inode.name = name.to_vec();
        inode.nameless = false;
        inode.attr.ctime = now;
        Ok(())
    }

    /// Takes a name out of a directory. The inode stays until [`Fs::drop_if_unused`].
    pub(super) fn take_name(&mut self, env: &mut Env<'_>, dir: InodeId, name: &[u8]) -> FsResult<InodeId> {
        let now = env.caller.now();
        let parent = self.inode_mut(dir)?;
        parent.attr.modified(now);
        let Body::Dir(d) = &mut parent.body else {
            return fail(Errno::ENOTDIR);
        };
        let Some(Entry::Node { id, covers, charged }) = d.entries.get(name).cloned() else {
            return fail(Errno::ENOENT);
        };
        let ask = d.lower.as_ref().is_some_and(|lower| lower.listing == Listing::Unknown);
        if charged {
            // What takes its place costs no more.
            self.chunks.refund(name_cost(name));
        }
        if covers {
            self.set_entry(dir, name, Some(Entry::Whiteout))?;
        } else {
            self.set_entry(dir, name, None)?;
            // That the host lacks it was asked before; it need not be asked again.
            if ask {
                self.add_absent(dir, name)?;
            }
        }
        if self.is_dir(id)
            && let Body::Dir(d) = &mut self.inode_mut(dir)?.body
        {
            d.count(-1);
        }
        let inode = self.inode_mut(id)?;
        inode.nlink = inode.nlink.saturating_sub(1);
        inode.attr.ctime = now;
        Ok(id)
    }

    /// Whether an inode is there to be used.
    pub(crate) fn exists(&self, id: InodeId) -> bool {
        ProcNode::of(id).is_some() || self.inodes.contains_key(&id)
    }

    /// Holds an inode: it stays usable without a name until [`Fs::release`].
    pub fn hold(&mut self, id: InodeId) {
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.holds = inode.holds.saturating_add(1);
        }
    }

    /// Gives a hold back.
    ///
    /// # Errors
    /// When content in guest memory cannot be freed.
    pub fn release(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<()> {
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.holds = inode.holds.saturating_sub(1);
        }
        self.drop_if_unused(env, id)
    }

    /// Removes an inode that has neither names nor holds.
    pub(super) fn drop_if_unused(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<()> {
        let unused = |inode: &Inode| inode.nlink == 0 && inode.holds == 0;
        if !self.inodes.get(&id).is_some_and(unused) {
            return Ok(());
        }
        let Some(inode) = self.inodes.remove(&id) else {
            return Ok(());
        };
        self.chunks.refund(inode.charge);
        let names = match &inode.body {
            Body::Dir(dir) => dir.entries.iter().map(|(name, entry)| entry_cost(name, entry)).sum(),
            _ => 0,
        };
        self.refund_known(inode.known + names);
        match inode.body {
            Body::File(Content::Blocks(mut blocks)) => blocks.clear(&mut self.chunks),
            Body::Pipe(pipe) => self.drop_pipe(&pipe),
            Body::Anon(anon) => self.drop_anon(env, id, &anon)?,
            Body::File(Content::Shared { object, below, .. }) => {
                below.into_iter().for_each(|content| self.release_frozen(content));
                env.caller.drop_shared(object)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The path of an inode, as `/proc/self/fd` and `getcwd` show it: where it was last given a
    /// name, with ` (deleted)` after it if it has none any more.
    pub fn path_of(&self, id: InodeId) -> Vec<u8> {
        if let Some(node) = ProcNode::of(id) {
            return node.path().into_bytes();
        }
        let Ok(inode) = self.inode(id) else {
            return b"(deleted)".to_vec();
        };
        match &inode.body {
            Body::Pipe(pipe) if !pipe.named => return format!("pipe:[{}]", id.0).into_bytes(),
            Body::Stream(stream) if stream.tty => return b"/dev/pts/0".to_vec(),
            Body::Stream(stream) => {
                // As if they were pipes, the last two the same one if they are.
                let merged = self.streams.stdio.merged && stream.way == Way::Stderr;
                let id = if merged { self.streams.inodes.get(1).copied() } else { None };
                return format!("pipe:[{}]", id.map_or(inode.parent.0, |id| id.0)).into_bytes();
            }
            // Its name on the host is not the guest's to know.
            Body::File(_) | Body::Output(_) if self.standard_file(id).is_some() => {
                let streams = [&b"/dev/stdin"[..], b"/dev/stdout", b"/dev/stderr"];
                let own = self.streams.inodes.iter().zip(streams).find(|(inode, _)| **inode == id);
                return own.map_or(Vec::new(), |(_, name)| name.to_vec());
            }
            Body::Anon(Anon::Socket) => return format!("socket:[{}]", id.0).into_bytes(),
            Body::Anon(anon) => return format!("anon_inode:{}", anon.label()).into_bytes(),
            _ => {}
        }
        let mut path = self.names_up(id);
        if inode.nlink == 0 {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }

    fn names_up(&self, id: InodeId) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut len = 0;
        let mut at = id;
        while at != self.root
            && let Ok(inode) = self.inode(at)
        {
            names.push(&inode.name);
            len += inode.name.len() + 1;
            // Longer paths are of no use to anyone.
            if at == inode.parent || len > PATH_MAX {
                break;
            }
            at = inode.parent;
        }
        if names.is_empty() {
            return b"/".to_vec();
        }
        names.iter().rev().flat_map(|name| [b"/", *name]).flatten().copied().collect()
    }

    /// The path of a directory for `getcwd`.
    ///
    /// # Errors
    /// `ENOENT` for one that was removed, `ENAMETOOLONG`.
    pub fn getcwd(&self, id: InodeId) -> FsResult<Vec<u8>> {
        self.expect_dir(id)?;
        if ProcNode::of(id).is_none() && self.inode(id)?.nlink == 0 {
            return fail(Errno::ENOENT);
        }
        let path = self.path_of(id);
        if path.len() >= PATH_MAX { fail(Errno::ENAMETOOLONG) } else { Ok(path) }
    }

    /// Refuses to change a directory's names where they are fixed.
    pub(super) fn expect_changeable(&self, dir: InodeId) -> FsResult<()> {
        if ProcNode::of(dir).is_some() {
            return fail(Errno::ENOENT);
        }
        let inode = self.inode(dir)?;
        match &inode.body {
            Body::Dir(Dir { fixed: true, .. }) if inode.place == Place::Proc => fail(Errno::ENOENT),
            Body::Dir(Dir { fixed: true, .. }) => fail(Errno::EPERM),
            Body::Dir(_) if inode.nlink == 0 => fail(Errno::ENOENT),
            Body::Dir(_) => Ok(()),
            _ => fail(Errno::ENOTDIR),
        }
    }
}
