//! What the host says of its files: asked once, then kept.

use std::collections::btree_map::Entry::Vacant;
use std::collections::{BTreeMap, BTreeSet};

use super::content::{Blocks, Content, MAX_FILE};
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::{
    Attr, Body, Dir, Entry, Inode, InodeId, Link, Listing, Loaded, Lower, LowerDir, Place, is_name,
};
use super::known::{HOST_INODE_COST, entry_cost};
use super::life::name_cost;
use super::resolve::PATH_MAX;
use super::{Fs, proc};
use crate::errno::Errno;
use crate::world::{FileKind, Metadata};

/// Names that the host lacks which a directory keeps one by one. After that many it asks for the
/// host's listing, which answers for all other names, so that a guest cannot make it grow.
const ABSENT_MAX: u32 = 64;

/// The work of listing a name, as that of copying so many bytes.
const NAME_WORK: usize = 1024;

pub(super) fn attr_of(meta: &Metadata) -> Attr {
    Attr {
        mode: meta.mode & 0o7777,
        uid: meta.uid,
        gid: meta.gid,
        atime: meta.mtime,
        mtime: meta.mtime,
        ctime: meta.mtime,
        btime: meta.mtime,
    }
}

fn body_of(lower: Lower, meta: &Metadata) -> FsResult<Body> {
    if meta.size > MAX_FILE && meta.kind == FileKind::Regular {
        return fail(Errno::EOVERFLOW);
    }
    Ok(match meta.kind {
        FileKind::Regular => Body::File(Content::Blocks(Blocks::lower(lower, meta.size, meta.mtime))),
        FileKind::Directory => {
            let subdirs = subdirs_of(meta);
            Body::Dir(Dir { lower: Some(LowerDir::new(lower)), subdirs, ..Dir::default() })
        }
        FileKind::Symlink => Body::Link(Link::Lower { path: lower, size: meta.size }),
        FileKind::Other => Body::Foreign,
    })
}

/// A directory's links beyond two.
fn subdirs_of(meta: &Metadata) -> i32 {
    i32::try_from(meta.nlink).map_or(-1, |links| links - 2)
}

/// What becomes of a look-up.
enum Known {
    Node(InodeId),
    Ask { id: Option<InodeId>, lower: Lower, kind: Option<FileKind> },
    No,
}

impl Fs {
    /// Asks the host for the metadata of a mount point that was not looked at yet.
    pub(super) fn ensure(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<()> {
        if proc::ProcNode::of(id).is_some() {
            return Ok(());
        }
        let (lower, assumed) = match &self.inode(id)?.loaded {
            Loaded::Yes => return Ok(()),
            Loaded::Mount(lower) => (lower.clone(), false),
            Loaded::Assumed(lower) => (lower.clone(), true),
        };
        let answer = env.world.metadata(lower.path())?;
        let inode = self.inode_mut(id)?;
        match (answer, &mut inode.body) {
            (Ok(meta), Body::Dir(dir)) if meta.kind == FileKind::Directory => {
                // What is mounted in it may have no counterpart there.
                let counted = subdirs_of(&meta);
                dir.subdirs = if counted < 0 { counted } else { counted.max(dir.subdirs) };
                inode.attr = attr_of(&meta);
            }
            (Ok(meta), body @ Body::File(_)) if meta.kind == FileKind::Regular => {
                *body = body_of(lower, &meta)?;
                inode.attr = attr_of(&meta);
            }
            // The host has no directory there: the one that was made up stays.
            (_, Body::Dir(dir)) if assumed => dir.lower = None,
            (Ok(_), _) => return fail(Errno::EIO),
            (Err(errno), _) => return fail(errno),
        }
        inode.loaded = Loaded::Yes;
        Ok(())
    }

    /// Looks a name up in a directory that is in the table.
    pub(super) fn table_child(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        name: &[u8],
    ) -> FsResult<Option<InodeId>> {
        self.ensure(env, id)?;
        if self
            .dir(id)?
            .lower
            .as_ref()
            .is_some_and(|lower| lower.absent >= ABSENT_MAX && lower.listing == Listing::Unknown)
            && !self.dir(id)?.entries.contains_key(name)
        {
            // A refusal to list is no reason to refuse the look-up.
            match self.list_lower(env, id) {
                Err(super::FsError::Errno(_)) | Ok(()) => {}
                Err(e) => return Err(e),
            }
        }
        let dir = self.dir(id)?;
        let known = match (dir.entries.get(name), &dir.lower) {
            (Some(Entry::Node { id, .. }), _) => Known::Node(*id),
            (Some(Entry::Listed { id, kind }), Some(lower)) => {
                Known::Ask { id: Some(*id), lower: lower.path.child(name), kind: Some(*kind) }
            }
            (Some(_), _) | (None, None) => Known::No,
            (None, Some(lower)) if lower.listing == Listing::Known => Known::No,
            (None, Some(lower)) => Known::Ask { id: None, lower: lower.path.child(name), kind: None },
        };
        match known {
            Known::No => Ok(None),
            Known::Node(child) => {
                self.ensure(env, child)?;
                Ok(Some(child))
            }
            Known::Ask { id: child, lower, kind } => self.ask_child(env, id, name, child, lower, kind),
        }
    }

    fn ask_child(
        &mut self,
        env: &mut Env<'_>,
        parent: InodeId,
        name: &[u8],
        child: Option<InodeId>,
        lower: Lower,
        kind: Option<FileKind>,
    ) -> FsResult<Option<InodeId>> {
        let meta = match env.world.metadata(lower.path())? {
            Ok(meta) => meta,
            Err(Errno::ENOENT) => {
                if child.is_none() {
                    self.add_absent(parent, name)?;
                }
                return Ok(None);
            }
            Err(errno) => return fail(errno),
        };
        if kind.is_some_and(|kind| kind != meta.kind) {
            return fail(Errno::EIO);
        }
        let target = if meta.kind == FileKind::Symlink { meta.size.min(PATH_MAX as u64) } else { 0 };
        let known = HOST_INODE_COST + lower.path().path.len() as u64 + target;
        let body = body_of(lower, &meta)?;
        self.charge_known(known)?;
        let id = child.unwrap_or_else(|| self.new_id());
        if let Err(e) = self.set_entry(parent, name, Some(Entry::Node { id, covers: true, charged: false })) {
            self.refund_known(known);
            return Err(e);
        }
        self.inodes.insert(
            id,
            Inode {
                attr: attr_of(&meta),
                body,
                place: Place::Tree,
                loaded: Loaded::Yes,
                nlink: 1,
                holds: 0,
                parent,
                name: name.to_vec(),
                pinned: false,
                mapped: None,
                nameless: false,
                charge: 0,
                known,
                xattrs: Default::default(),
                seals: 0,
            },
        );
        Ok(Some(id))
    }

    /// Keeps in mind that the host lacks a name, if there is room; else it is asked again.
    pub(super) fn add_absent(&mut self, dir: InodeId, name: &[u8]) -> FsResult<()> {
        let room = |lower: &&mut LowerDir| lower.listing == Listing::Unknown && lower.absent < ABSENT_MAX;
        if self.dir_mut(dir)?.lower.as_mut().filter(room).is_none()
            || self.set_entry(dir, name, Some(Entry::Absent)).is_err()
        {
            return Ok(());
        }
        if let Some(lower) = &mut self.dir_mut(dir)?.lower {
            lower.absent += 1;
        }
        Ok(())
    }

    /// Asks for the host's names in a directory, if that was not done yet.
    pub(super) fn list_lower(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<()> {
        self.ensure(env, id)?;
        let lower = match &self.dir(id)?.lower {
            None => return Ok(()),
            Some(lower) => match lower.listing {
                Listing::Known => return Ok(()),
                Listing::Refused(errno) => return fail(errno),
                Listing::Unknown => lower.path.clone(),
            },
        };
        let names = match env.world.read_dir(lower.path())? {
            Ok(names) => names,
            Err(errno) => {
                if let Some(lower) = &mut self.dir_mut(id)?.lower {
                    lower.listing = Listing::Refused(errno);
                }
                return fail(errno);
            }
        };
        let mut next = self.next_inode;
        let mut cost = 0;
        let dir = self.dir(id)?;
        // Names that came to be on the host after it was found to lack them stay absent.
        let mut covered = BTreeSet::new();
        let mut listed = BTreeMap::new();
        let mut pace = env.caller.pace();
        for entry in names {
            if let Some(pace) = &mut pace {
                pace.bytes(NAME_WORK)?;
            }
            // A replayed answer is no more to be trusted than a guest's path.
            if !is_name(&entry.name) {
                continue;
            }
            match dir.entries.get(&entry.name) {
                None => {
                    if let Vacant(new) = listed.entry(entry.name) {
                        cost += name_cost(new.key());
                        new.insert(Entry::Listed { id: InodeId(next), kind: entry.kind });
                        next += 1;
                    }
                }
                Some(Entry::Absent) => {
                    covered.insert(entry.name);
                }
                Some(_) => {}
            }
        }
        self.charge_known(cost)?;
        let dir = self.dir_mut(id)?;
        dir.entries.append(&mut listed);
        let mut forgotten = 0;
        dir.entries.retain(|name, entry| {
            let stays = *entry != Entry::Absent || covered.contains(name);
            forgotten += if stays { 0 } else { entry_cost(name, entry) };
            stays
        });
        if let Some(lower) = &mut dir.lower {
            lower.listing = Listing::Known;
            lower.absent = 0;
        }
        self.next_inode = next;
        self.refund_known(forgotten);
        Ok(())
    }

    /// The target of a link, asked for if it is the host's.
    pub(super) fn target(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<Vec<u8>> {
        let lower = match &self.inode(id)?.body {
            Body::Link(Link::Target(target)) => return Ok(target.clone()),
            Body::Link(Link::Lower { path, .. }) => path.clone(),
            Body::Link(Link::ProcSelf) => return Ok(env.caller.pid().to_string().into_bytes()),
            Body::Link(Link::ProcThreadSelf) => {
                return Ok(format!("{}/task/{}", env.caller.pid(), env.caller.tid()).into_bytes());
            }
            _ => return fail(Errno::EINVAL),
        };
        let target = match env.world.read_link(lower.path())? {
            Ok(target) => target,
            Err(errno) => return fail(errno),
        };
        if target.is_empty() || target.len() >= PATH_MAX || target.contains(&0) {
            return fail(Errno::EIO);
        }
        self.inode_mut(id)?.body = Body::Link(Link::Target(target.clone()));
        Ok(target)
    }
}
