//! Whether a file system that came out of a file can be one.
//!
//! A snapshot may come from anywhere. What it says is used as if it were this code's own, so that
//! what the code relies on is checked once, after decoding.

use std::collections::BTreeMap;

use super::Fs;
use super::chunks::ChunkId;
use super::content::Content;
use super::inode::{Body, Entry, Inode, InodeId, Loaded, is_name};
use super::life::name_cost;
use super::proc::ProcNode;

/// What of a decoded file system cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of the guest's file system is inconsistent: {0}")]
pub struct Inconsistent(pub(crate) &'static str);

fn expect(holds: bool, what: &'static str) -> Result<(), Inconsistent> {
    if holds { Ok(()) } else { Err(Inconsistent(what)) }
}

impl Fs {
    /// Checks what was decoded, before it is used.
    ///
    /// # Errors
    /// What cannot be.
    pub fn check(&self) -> Result<(), Inconsistent> {
        expect(self.dir(self.root).is_ok(), "the root")?;
        // Numbers are given out one by one from 1: none comes near the end.
        expect(self.next_inode < 1 << 48 && self.next_frozen < 1 << 48, "a counter")?;
        let mut references = BTreeMap::new();
        let mut names = BTreeMap::new();
        let mut used = 0u64;
        for (id, inode) in &self.inodes {
            expect(ProcNode::of(*id).is_none() && id.0 < self.next_inode, "an inode's number")?;
            used = used.saturating_add(self.check_inode(inode, &mut references, &mut names)?);
        }
        for (id, frozen) in &self.frozen {
            expect(id.number() < self.next_frozen, "a frozen copy's number")?;
            used = used.saturating_add(frozen.check(&mut references)?);
        }
        used = used.saturating_add(self.chunks.check(&references)?);
        expect(used == self.chunks.used(), "the quota")?;
        let pipe = |inode: &&Inode| matches!(inode.body, Body::Pipe(_));
        expect(self.inodes.values().filter(pipe).count() == self.pipes as usize, "the pipes")?;
        self.check_tree(&names)?;
        self.streams.check(|id| self.inodes.contains_key(&id))
    }

    /// Checks an inode by itself, counts what it refers to, and gives what it takes of the quota.
    fn check_inode(
        &self,
        inode: &Inode,
        references: &mut BTreeMap<ChunkId, u32>,
        names: &mut BTreeMap<InodeId, u32>,
    ) -> Result<u64, Inconsistent> {
        let mut used = inode.charge;
        match &inode.body {
            Body::File(Content::Blocks(blocks)) => blocks.check(references)?,
            Body::Pipe(pipe) => expect(pipe.is_sound(), "a pipe")?,
            Body::Dir(dir) => {
                for (name, entry) in &dir.entries {
                    expect(is_name(name), "a name")?;
                    match entry {
                        Entry::Node { id, charged, .. } => {
                            expect(self.inodes.contains_key(id), "a name of nothing")?;
                            *names.entry(*id).or_insert(0) += 1;
                            used = used.saturating_add(if *charged { name_cost(name) } else { 0 });
                        }
                        Entry::Listed { id, .. } => {
                            let vacant = !self.inodes.contains_key(id) && id.0 < self.next_inode;
                            expect(vacant && dir.lower.is_some(), "a name of the host's")?;
                        }
                        Entry::Whiteout | Entry::Absent => {}
                    }
                }
            }
            _ => {}
        }
        let lazy = matches!(inode.body, Body::Dir(_) | Body::File(_));
        expect(inode.loaded == Loaded::Yes || lazy, "a mount")?;
        Ok(used)
    }

    /// Checks that names are counted, and that all directories hang on the root.
    fn check_tree(&self, names: &BTreeMap<InodeId, u32>) -> Result<(), Inconsistent> {
        for (id, inode) in &self.inodes {
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
        for (id, inode) in &self.inodes {
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
