//! Whether a file system that came out of a file can be one.
//!
//! A snapshot may come from anywhere. What it says is used as if it were this code's own, so that
//! what the code relies on is checked once, after decoding.

use std::collections::BTreeMap;

use super::Fs;
use super::chunks::ChunkId;
use super::content::{Content, MAX_FILE};
use super::frozen::{ContentRef, Frozen};
use super::inode::{Body, Dir, Entry, Inode, InodeId, Link, Loaded, Lower, LowerDir, is_name};
use super::known::entry_cost;
use super::life::name_cost;
use super::mount::{Mount, MountSource};
use super::proc::ProcNode;
use super::resolve::PATH_MAX;
use super::seal::SEALS;
use super::xattr::xattrs_are_sound;
use crate::program::mm::Below;
use crate::world::{Fingerprint, HostPath, KnownFile, STDIN_GRANT};

/// What of a decoded file system cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of the guest's file system is inconsistent: {0}")]
pub struct Inconsistent(pub(crate) &'static str);

pub(super) fn expect(holds: bool, what: &'static str) -> Result<(), Inconsistent> {
    if holds { Ok(()) } else { Err(Inconsistent(what)) }
}

/// Bytes that what an inode knows of the host takes.
fn known_of(inode: &Inode) -> u64 {
    let names = match &inode.body {
        Body::Dir(dir) => dir.entries.iter().map(|(name, entry)| entry_cost(name, entry)).sum(),
        _ => 0,
    };
    inode.known.saturating_add(names)
}

impl Fs {
    /// Checks what was decoded, before it is used.
    ///
    /// # Errors
    /// What cannot be.
    pub fn check(&self) -> Result<(), Inconsistent> {
        let Fs {
            inodes,
            next_inode,
            root,
            chunks,
            frozen,
            next_frozen,
            streams,
            pipes,
            known,
            // Any time may be set.
            born: _,
            mounts,
            // Empty after decoding.
            // Where it is in the snapshot is checked with the pages.
            kept: _,
            timers: _,
            notices: _,
            sockets: _,
            woken: _,
            cache: _,
        } = self;
        expect(self.dir(*root).is_ok(), "the root")?;
        // Numbers are given out one by one from 1: none comes near the end.
        expect(*next_inode < 1 << 48 && *next_frozen < 1 << 48, "a counter")?;
        self.check_mounts(mounts)?;
        let mut references = BTreeMap::new();
        let mut names = BTreeMap::new();
        let mut used = 0u64;
        let mut known_now = 0u64;
        for (id, inode) in inodes.iter() {
            expect(ProcNode::of(*id).is_none() && id.0 < *next_inode, "an inode's number")?;
            used = used.saturating_add(self.check_inode(*id, inode, &mut references, &mut names)?);
            known_now = known_now.saturating_add(known_of(inode));
        }
        for (id, frozen) in frozen.iter() {
            expect(id.number() < *next_frozen, "a frozen copy's number")?;
            self.check_grant(frozen.lower())?;
            let file = frozen.of().map(|file| inodes.get(&file).map(|inode| inode.mapped));
            expect(file.flatten().is_none_or(|mapped| mapped == Some(*id)), "a mapped content's file")?;
            used = used.saturating_add(frozen.check(&mut references)?);
        }
        used = used.saturating_add(chunks.check(&references)?);
        expect(self.timers_are_sound(), "the timers")?;
        expect(self.notices_are_sound(), "descriptors of signals and processes")?;
        expect(self.sockets_are_sound(), "the sockets")?;
        expect(known_now == *known, "what is known of the host")?;
        expect(*pipes < 1 << 24, "the pipes")?;
        expect(used.checked_add(self.side_charges()) == Some(chunks.used()), "the quota")?;
        let pipe = |inode: &&Inode| matches!(inode.body, Body::Pipe(_));
        expect(inodes.values().filter(pipe).count() == *pipes as usize, "the pipes")?;
        self.check_tree(&names)?;
        streams.check(|id| inodes.contains_key(&id))
    }

    /// Checks that the mounts' grants are those that a list of mounts has.
    fn check_mounts(&self, mounts: &[Mount]) -> Result<(), Inconsistent> {
        for Mount { path, source } in mounts {
            expect(path.first() == Some(&b'/') && path.len() < PATH_MAX && !path.contains(&0), "a mount")?;
            match source {
                MountSource::Directory { grant } | MountSource::File { grant } => {
                    expect((*grant as usize) < mounts.len(), "a mount's grant")?;
                }
                MountSource::Symlink { target } => expect(target.len() < PATH_MAX, "a mounted link")?,
                MountSource::Empty { mode } => expect(mode & !0o7777 == 0, "a mount's mode")?,
            }
        }
        Ok(())
    }

    /// Checks that a host path lies in one of the grants.
    fn check_grant(&self, lower: Option<&Lower>) -> Result<(), Inconsistent> {
        let known = |lower: &Lower| {
            let HostPath { grant, path } = lower.path();
            (*grant as usize) < self.mounts.len() || *grant == STDIN_GRANT && path.is_empty()
        };
        expect(lower.is_none_or(known), "a file of the host's")
    }

    /// Checks that what is used is held at least so often: `uses` counts, by inode, who would be left
    /// with nothing if it went.
    ///
    /// # Errors
    /// What cannot be.
    pub fn check_holds(&self, uses: &BTreeMap<InodeId, u32>) -> Result<(), Inconsistent> {
        let mut uses = uses.clone();
        self.sockets.count_held(&mut uses);
        for (id, uses) in &uses {
            let held = self.inodes.get(id).is_none_or(|inode| inode.holds >= *uses);
            expect(held, "what holds a file")?;
        }
        Ok(())
    }

    /// Checks that the files whose content is in guest memory are those that `known` knows objects
    /// for: as long, and with the same below them.
    ///
    /// # Errors
    /// What cannot be.
    pub fn check_shared(
        &self,
        known: impl Fn(u64) -> Option<(u64, Option<Below>)>,
    ) -> Result<(), Inconsistent> {
        for inode in self.inodes.values() {
            if let Body::File(Content::Shared { object, len, below }) = &inode.body {
                let below = below.map(|content| Below { content, len: self.frozen_len(content) });
                expect(known(*object) == Some((*len, below)), "a file in guest memory")?;
            }
        }
        Ok(())
    }

    /// Whether a file's content is in the object of this number.
    pub fn has_object(&self, object: u64) -> bool {
        self.object_of(InodeId(object)) == Some(object)
    }

    /// Whether the guest was refused room for what it writes since this sandbox was made.
    pub fn has_refused(&self) -> bool {
        self.chunks.has_refused()
    }

    /// The host files whose content the guest may still ask for, and what they were when it first saw
    /// them: for a world that is to find out whether they changed.
    pub fn known_files(&self) -> impl Iterator<Item = (HostPath, KnownFile)> {
        let asked_for = self.known_lower().filter(|(lower, ..)| !self.kept.has(lower.path()));
        asked_for.map(|(lower, fingerprint, mapped)| {
            let path = lower.path().clone();
            let name = self.guest_path(&path);
            (path, KnownFile { name, fingerprint, mapped })
        })
    }

    /// The host files that the guest knows and may ask for content of, what they were when it first saw
    /// them, and whether they are mapped.
    pub(super) fn known_lower(&self) -> impl Iterator<Item = (&Lower, Fingerprint, bool)> {
        let inodes = self.inodes.values().filter_map(|inode| match (&inode.body, &inode.loaded) {
            (Body::File(Content::Blocks(blocks)), Loaded::Yes) => blocks.known_file(),
            _ => None,
        });
        // These come last, so that they count where a file is mapped.
        let frozen = self.frozen.values().filter_map(Frozen::known_file);
        let known = |mapped| move |(lower, fingerprint)| (lower, fingerprint, mapped);
        inodes.map(known(false)).chain(frozen.map(known(true)))
    }

    /// Where the guest sees a host file.
    fn guest_path(&self, path: &HostPath) -> Vec<u8> {
        if path.grant == STDIN_GRANT {
            return b"/dev/stdin".to_vec();
        }
        let shows = |mount: &&Mount| match mount.source {
            MountSource::Directory { grant } | MountSource::File { grant } => grant == path.grant,
            MountSource::Symlink { .. } | MountSource::Empty { .. } => false,
        };
        let mut name = self.mounts.iter().find(shows).map_or(Vec::new(), |mount| mount.path.clone());
        if !path.path.is_empty() {
            if name.last() != Some(&b'/') {
                name.push(b'/');
            }
            name.extend_from_slice(&path.path);
        }
        name
    }

    /// The object that a file's content is in, if it is in guest memory.
    pub fn object_of(&self, id: InodeId) -> Option<u64> {
        match self.inode(id).map(|inode| &inode.body) {
            Ok(Body::File(Content::Shared { object, .. })) => Some(*object),
            _ => None,
        }
    }

    /// Whether there is such a frozen content.
    pub fn has_frozen_content(&self, content: ContentRef) -> bool {
        self.frozen.contains_key(&content)
    }

    /// Checks an inode by itself, counts what it refers to, and gives what it takes of the quota.
    fn check_inode(
        &self,
        id: InodeId,
        inode: &Inode,
        references: &mut BTreeMap<ChunkId, u32>,
        names: &mut BTreeMap<InodeId, u32>,
    ) -> Result<u64, Inconsistent> {
        let Inode {
            attr,
            body,
            place: _,
            loaded,
            // Names, and who is where: with the tree. Holds: with those who hold.
            nlink: _,
            holds: _,
            parent: _,
            name: _,
            // These two only say what is refused.
            pinned: _,
            nameless: _,
            mapped,
            charge,
            // With the sum of them all.
            known: _,
            xattrs: _,
            seals,
        } = inode;
        // Owners and times may be set to anything.
        expect(attr.mode & !0o7777 == 0, "a file's mode")?;
        let known = |content| self.frozen.get(&content).is_some_and(|frozen| frozen.of() == Some(id));
        expect(mapped.is_none_or(known), "a mapped file's content")?;
        let mut used = *charge;
        match body {
            Body::File(Content::Blocks(blocks)) => {
                used = used.saturating_add(blocks.check(references)?);
                self.check_grant(blocks.lower_file())?;
            }
            Body::File(Content::Shared { object, len, below }) => {
                expect(*object == id.0 && *len <= MAX_FILE, "a file in guest memory")?;
                let own = |content| self.frozen.get(&content).is_some_and(|f| f.of().is_none());
                expect(below.is_none_or(own), "what lies below a file in guest memory")?;
            }
            Body::Pipe(pipe) => expect(pipe.is_sound(), "a pipe")?,
            Body::Link(Link::Target(target)) => expect(target.len() <= PATH_MAX, "a link")?,
            Body::Link(Link::Lower { path, size: _ }) => self.check_grant(Some(path))?,
            Body::Dir(dir) => {
                let Dir { entries, lower, subdirs, fixed: _, processes: _ } = dir;
                expect(*subdirs >= -1, "a directory's links")?;
                if let Some(LowerDir { path, listing: _, absent: _ }) = lower {
                    self.check_grant(Some(path))?;
                }
                for (name, entry) in entries {
                    expect(is_name(name), "a name")?;
                    match entry {
                        Entry::Node { id, charged, .. } => {
                            expect(self.inodes.contains_key(id), "a name of nothing")?;
                            *names.entry(*id).or_insert(0) += 1;
                            used = used.saturating_add(if *charged { name_cost(name) } else { 0 });
                        }
                        Entry::Listed { id, .. } => {
                            let vacant = !self.inodes.contains_key(id) && id.0 < self.next_inode;
                            expect(vacant && lower.is_some(), "a name of the host's")?;
                        }
                        Entry::Whiteout | Entry::Absent => {}
                    }
                }
            }
            Body::Anon(anon) => expect(anon.is_sound(), "what has no name")?,
            Body::Link(Link::ProcSelf | Link::ProcThreadSelf)
            | Body::Device(_)
            | Body::Stream(_)
            | Body::Text(_)
            | Body::Socket
            | Body::Foreign => {}
            Body::Output(file) => expect(file.is_sound(), "a file that output goes to")?,
        }
        match loaded {
            Loaded::Yes => {}
            Loaded::Mount(lower) | Loaded::Assumed(lower) => {
                let lazy = matches!(body, Body::Dir(_) | Body::File(_));
                expect(lazy, "a mount")?;
                self.check_grant(Some(lower))?;
            }
        }
        expect(xattrs_are_sound(inode) && seals & !SEALS == 0, "attributes")?;
        Ok(used)
    }

    /// Checks that names are counted, and that all directories hang on the root.
    fn check_tree(&self, names: &BTreeMap<InodeId, u32>) -> Result<(), Inconsistent> {
        for (id, inode) in self.inodes.iter() {
            let dir = matches!(inode.body, Body::Dir(_));
            // The root and the streams have no name, and count as if they had one.
            let counted = names.get(id).copied().unwrap_or(0);
            let nameless = counted == 0 && inode.parent == *id;
            expect(nameless || counted == inode.nlink, "a count of names")?;
            expect(!dir || counted <= 1, "a directory with two names")?;
            if dir && inode.nlink > 0 && *id != self.root {
                let known = |name: &Entry| matches!(name, Entry::Node { id: it, .. } if it == id);
                let parent = self.dir(inode.parent);
                let named = parent.is_ok_and(|p| p.entries.get(&inode.name).is_some_and(known));
                expect(named && inode.parent != *id, "a directory's place")?;
            }
        }
        self.check_ways_up()
    }

    /// Checks that from every directory the way up ends, be it at the root or at a directory that
    /// was removed.
    fn check_ways_up(&self) -> Result<(), Inconsistent> {
        let mut sound = std::collections::BTreeSet::from([self.root]);
        for (id, inode) in self.inodes.iter() {
            if !matches!(inode.body, Body::Dir(_)) {
                continue;
            }
            let mut way = Vec::new();
            let mut at = *id;
            while let Some(inode) = self.inodes.get(&at)
                && !sound.contains(&at)
            {
                expect(way.len() <= self.inodes.len(), "a directory inside itself")?;
                way.push(at);
                at = inode.parent;
            }
            sound.extend(way);
        }
        Ok(())
    }
}
