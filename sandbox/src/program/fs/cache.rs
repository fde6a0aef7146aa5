//! Blocks of host files: asked of the outside, the last ones kept.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::error::{FsResult, fail};
use super::inode::Lower;
use super::kept::KeptFiles;
use crate::errno::Errno;
use crate::world::{BLOCK_SIZE, World};

/// Blocks kept at first: 256 KiB. More would save a program that reads its files once nothing, and costs every
/// sandbox memory that is touched for the first time.
const FIRST: usize = 256 * 1024 / BLOCK_SIZE;
/// Blocks kept at most, where they are read again and again, as of a C library that one program after the
/// other maps: 4 MiB.
const MOST: usize = 4 * 1024 * 1024 / BLOCK_SIZE;

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
    /// Those that were given up last, the last one at the end: one that is wanted again was given up too
    /// soon.
    gone: VecDeque<Key>,
    /// Blocks kept beyond [`FIRST`], one for each that was.
    more: usize,
}

impl BlockCache {
    /// Gives all blocks up, as if others had been read since.
    pub fn clear(&mut self) {
        self.blocks.clear();
        self.order.clear();
    }

    fn get(&mut self, key: &Key) -> Option<Arc<[u8]>> {
        let (bytes, stamp) = self.blocks.get_mut(key)?;
        self.order.remove(stamp);
        self.clock += 1;
        *stamp = self.clock;
        self.order.insert(self.clock, key.clone());
        Some(bytes.clone())
    }

    fn put(&mut self, key: Key, bytes: Arc<[u8]>) {
        if let Some(at) = self.gone.iter().position(|gone| *gone == key) {
            self.gone.remove(at);
            self.more = (self.more + 1).min(MOST - FIRST);
        }
        if self.blocks.len() >= FIRST + self.more
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.blocks.remove(&oldest);
            if self.gone.len() == MOST {
                self.gone.pop_front();
            }
            self.gone.push_back(oldest);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for blocks in turn, each as often as there are rounds; gives how many were at hand.
    fn rounds(blocks: u64, rounds: usize) -> (usize, BlockCache) {
        let mut cache = BlockCache::default();
        let file = Lower::new(0, b"lib".to_vec());
        let mut at_hand = 0;
        for block in (0..rounds).flat_map(|_| 0..blocks) {
            let key = (file.clone(), block);
            match cache.get(&key) {
                Some(_) => at_hand += 1,
                None => cache.put(key, Arc::from([0u8; 1])),
            }
        }
        (at_hand, cache)
    }

    #[test]
    fn what_is_read_again_and_again_is_kept() {
        let (at_hand, cache) = rounds(30, 100);
        assert!(at_hand > 90 * 30 && cache.blocks.len() == 30, "{at_hand}: {cache:?}");
    }

    #[test]
    fn what_is_read_once_takes_no_more() {
        let (at_hand, cache) = rounds(1000, 1);
        assert!(at_hand == 0 && cache.blocks.len() == FIRST && cache.gone.len() == MOST);
        // More than could ever be kept.
        let (at_hand, cache) = rounds(1000, 3);
        assert!(at_hand == 0 && cache.blocks.len() == FIRST, "{at_hand}: {cache:?}");
        let (_, cache) = rounds(2 * MOST as u64, 20);
        assert!(cache.blocks.len() <= MOST && cache.order.len() == cache.blocks.len());
    }
}
