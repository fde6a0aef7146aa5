//! Blocks of host files: asked of the outside, the last ones kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::error::{FsResult, fail};
use super::inode::Lower;
use super::kept::KeptFiles;
use crate::errno::Errno;
use crate::world::{BLOCK_SIZE, World};

/// Blocks kept at most: 256 KiB. More would save little, since the host keeps its files in memory too, and
/// costs every sandbox as much, in memory that is touched for the first time.
const LIMIT: usize = 256 * 1024 / BLOCK_SIZE;

/// Where blocks of host files come from.
pub(super) trait HostBlocks {
    /// Block `block` of a file of `size` bytes.
    fn block(&mut self, file: &Lower, size: u64, block: u64) -> FsResult<Arc<[u8]>>;
}

/// From the cache, else from the snapshot where it has the file, else from the outside.
pub(super) struct Cached<'a> {
    pub cache: &'a mut BlockCache,
    pub kept: &'a KeptFiles,
    pub world: &'a mut dyn World,
}

impl HostBlocks for Cached<'_> {
    fn block(&mut self, file: &Lower, size: u64, block: u64) -> FsResult<Arc<[u8]>> {
        let key = (file.clone(), block);
        if let Some(bytes) = self.cache.get(&key) {
            return Ok(bytes);
        }
        let bytes = match self.kept.block(file.path(), block)? {
            Some(bytes) => bytes,
            None => match self.world.read_block(file.path(), block)? {
                Ok(bytes) => bytes,
                Err(errno) => return fail(errno),
            },
        };
        // The length is known from the metadata: another one means that the file changed.
        let start = block.saturating_mul(BLOCK_SIZE as u64);
        if bytes.len() as u64 != size.saturating_sub(start).min(BLOCK_SIZE as u64) {
            return fail(Errno::EIO);
        }
        self.cache.put(key, bytes.clone());
        Ok(bytes)
    }
}

type Key = (Lower, u64);

/// The blocks of host files that were read last. It holds nothing that the outside would not give
/// again, so it is no part of a snapshot.
#[derive(Clone, Default)]
pub(super) struct BlockCache {
    blocks: HashMap<Key, (Arc<[u8]>, u64)>,
    /// By time of last use.
    order: BTreeMap<u64, Key>,
    clock: u64,
}

impl BlockCache {
    fn get(&mut self, key: &Key) -> Option<Arc<[u8]>> {
        let (bytes, stamp) = self.blocks.get_mut(key)?;
        self.order.remove(stamp);
        self.clock += 1;
        *stamp = self.clock;
        self.order.insert(self.clock, key.clone());
        Some(bytes.clone())
    }

    fn put(&mut self, key: Key, bytes: Arc<[u8]>) {
        if self.blocks.len() >= LIMIT
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.blocks.remove(&oldest);
        }
        self.clock += 1;
        self.order.insert(self.clock, key.clone());
        self.blocks.insert(key, (bytes, self.clock));
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({} blocks)", self.blocks.len())
    }
}
