//! Content apart from inodes: frozen copies for mappings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Fs;
use super::cache::Cached;
use super::check::Inconsistent;
use super::chunks::ChunkId;
use super::content::{Blocks, Content};
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::{Body, InodeId, Lower};
use super::proc::ProcNode;
use crate::errno::Errno;
use crate::world::{BLOCK_SIZE, World};

/// What each block that a frozen copy refers to takes of the quota, besides the block itself.
const REFERENCE_COST: u64 = 64;

/// Names a file's content as it was at one moment. Later writes to the file, and its removal, do
/// not show in it. It lives while it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentRef(u64);

impl ContentRef {
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Frozen {
    pub blocks: Blocks,
    holds: u32,
    charge: u64,
    /// The file that has this content still, and tells when that changes ([`Fs::map_content`]).
    pub of: Option<InodeId>,
}

/// The content of a file, to be mapped.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// The content, held once more.
    pub content: ContentRef,
    /// Bytes of it.
    pub len: u64,
    /// It is the host's, which the guest has not changed.
    pub of_host: bool,
}

impl Frozen {
    /// The host's file beneath, if there is one, and what tells that it is still the same.
    pub fn known_file(&self) -> Option<(&Lower, crate::world::Fingerprint)> {
        self.blocks.known_file()
    }

    /// The host's file beneath, if there is one.
    pub fn lower(&self) -> Option<&Lower> {
        self.blocks.lower_file()
    }

    /// Checks what was decoded, and gives what it takes of the quota.
    pub fn check(&self, references: &mut BTreeMap<ChunkId, u32>) -> Result<u64, Inconsistent> {
        // Which file it is of is checked with the files.
        let Frozen { blocks, holds, charge, of: _ } = self;
        let hidden = blocks.check(references)?;
        if *holds == 0 {
            return Err(Inconsistent("a frozen copy that nobody holds"));
        }
        Ok(charge.saturating_add(hidden))
    }

    /// The file that has this content still.
    pub fn of(&self) -> Option<InodeId> {
        self.of
    }
}

impl Fs {
    /// A copy of a file's content as it is now, held once. Cheap: blocks are shared until the file
    /// is written.
    ///
    /// # Errors
    /// `ENODEV` for what is no regular file; `ENOSPC`.
    pub fn freeze(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<ContentRef> {
        if ProcNode::of(id).is_some() {
            return fail(Errno::ENODEV);
        }
        self.ensure(env, id)?;
        let (inode, chunks, _) = self.parts(env.world, id)?;
        let (blocks, charge) = match &inode.body {
            Body::File(Content::Blocks(blocks)) => {
                let charge = (1 + blocks.chunk_count()) * REFERENCE_COST;
                chunks.charge(charge)?;
                match blocks.share(chunks) {
                    Ok(shared) => (shared, charge),
                    Err(e) => {
                        chunks.refund(charge);
                        return Err(e);
                    }
                }
            }
            Body::File(Content::Shared { object, len, below }) => {
                let (object, len, below) = (*object, *len, *below);
                let mut blocks = self.read_object(env, object, len, below)?;
                let charge = (1 + blocks.chunk_count()) * REFERENCE_COST;
                if let Err(errno) = self.chunks.charge(charge) {
                    blocks.clear(&mut self.chunks);
                    return fail(errno);
                }
                (blocks, charge)
            }
            _ => return fail(Errno::ENODEV),
        };
        Ok(self.add_frozen(blocks, charge))
    }

    /// Adds content that is held once.
    pub(super) fn add_frozen(&mut self, blocks: Blocks, charge: u64) -> ContentRef {
        let id = ContentRef(self.next_frozen);
        self.next_frozen += 1;
        self.frozen.insert(id, Frozen { blocks, holds: 1, charge, of: None });
        id
    }

    /// A file's content as a mapping that follows the file's changes needs it: frozen until the first
    /// change, before which the content moves to guest memory ([`Fs::make_shared`]) and
    /// [`Caller::content_moved`](super::Caller::content_moved) is told. Mappings of one file get the
    /// same number.
    ///
    /// # Errors
    /// As [`Fs::freeze`].
    pub fn map_content(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<Mapped> {
        let known = self.inode(id).ok().and_then(|inode| inode.mapped);
        let content = match known {
            Some(content) => {
                self.hold_frozen(content);
                content
            }
            None => {
                let content = self.freeze(env, id)?;
                self.inode_mut(id)?.mapped = Some(content);
                if let Some(frozen) = self.frozen.get_mut(&content) {
                    frozen.of = Some(id);
                }
                content
            }
        };
        let blocks = self.frozen.get(&content).map(|frozen| &frozen.blocks);
        let of_host = blocks.is_some_and(|blocks| !blocks.is_changed());
        Ok(Mapped { content, len: self.frozen_len(content), of_host })
    }

    /// Moves a file's content to where its mappings see it change, if it has any that do not yet.
    ///
    /// # Errors
    /// As [`Fs::make_shared`].
    pub(super) fn before_change(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<()> {
        match self.inode(id)?.mapped {
            Some(_) => self.make_shared(env, id).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Whether this number was given to content, which may be gone. None is given again.
    pub fn has_given(&self, content: ContentRef) -> bool {
        content.number() < self.next_frozen
    }

    /// Reads frozen content; short only at the end.
    ///
    /// # Errors
    /// `EIO` when the host's file changed, or the content is held no more.
    pub fn read_frozen(
        &mut self,
        env: &mut Env<'_>,
        content: ContentRef,
        offset: u64,
        buf: &mut [u8],
    ) -> FsResult<usize> {
        let Some(frozen) = self.frozen.get(&content) else {
            return fail(Errno::EIO);
        };
        let mut host = Cached { cache: &mut self.cache, kept: &self.kept, world: env.world };
        frozen.blocks.read(&self.chunks, &mut host, offset, buf)
    }

    /// Whether frozen content at an offset can be read, as far as the outside goes:
    /// [`World::has_block`].
    pub fn has_frozen(&self, world: &dyn World, content: ContentRef, offset: u64) -> bool {
        let block = offset / BLOCK_SIZE as u64;
        self.frozen.get(&content).is_none_or(|frozen| frozen.blocks.has_block(&self.kept, world, block))
    }

    /// Bytes of frozen content.
    pub fn frozen_len(&self, content: ContentRef) -> u64 {
        self.frozen.get(&content).map_or(0, |frozen| frozen.blocks.len)
    }

    /// Holds frozen content once more.
    pub fn hold_frozen(&mut self, content: ContentRef) {
        if let Some(frozen) = self.frozen.get_mut(&content) {
            frozen.holds = frozen.holds.saturating_add(1);
        }
    }

    /// Gives a hold on frozen content back.
    pub fn release_frozen(&mut self, content: ContentRef) {
        let Some(frozen) = self.frozen.get_mut(&content) else {
            return;
        };
        frozen.holds = frozen.holds.saturating_sub(1);
        if frozen.holds == 0
            && let Some(mut frozen) = self.frozen.remove(&content)
        {
            frozen.blocks.clear(&mut self.chunks);
            self.chunks.refund(frozen.charge);
            if let Some(inode) = frozen.of.and_then(|id| self.inodes.get_mut(&id)) {
                inode.mapped = None;
            }
        }
    }
}
