//! The bytes that the overlay holds, in blocks that files and frozen copies share, against a quota.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::check::Inconsistent;
use crate::errno::Errno;
use crate::world::BLOCK_SIZE;

/// What of the quota is taken at once.
const GRAIN: u64 = 4096;

/// Names a block of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ChunkId(u64);

/// The blocks, and how much of the quota is used.
///
/// Blocks are shared by number and counted here, so that the quota says the same after a snapshot
/// was restored, and a block that two share is stored once. That the bytes are behind an `Arc`,
/// too, only makes a clone of the whole cheap.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Chunks {
    map: BTreeMap<ChunkId, Chunk>,
    next: u64,
    used: u64,
    quota: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Chunk {
    refs: u32,
    /// At most [`BLOCK_SIZE`]; bytes after the last one are zero.
    bytes: Bytes,
}

/// What a block of `len` bytes takes of the quota; an empty one too, since it takes memory.
fn cost(len: usize) -> u64 {
    (len as u64).max(1).next_multiple_of(GRAIN)
}

impl Chunks {
    pub fn new(quota: u64) -> Chunks {
        Chunks { map: BTreeMap::new(), next: 0, used: 0, quota }
    }

    pub fn used(&self) -> u64 {
        self.used
    }

    pub fn quota(&self) -> u64 {
        self.quota
    }

    pub fn free(&self) -> u64 {
        self.quota.saturating_sub(self.used)
    }

    /// Takes `n` bytes of the quota for something that is not a block.
    pub fn charge(&mut self, n: u64) -> Result<(), Errno> {
        if n > self.free() {
            return Err(Errno::ENOSPC);
        }
        self.used += n;
        Ok(())
    }

    /// Gives `n` bytes of the quota back.
    pub fn refund(&mut self, n: u64) {
        debug_assert!(n <= self.used);
        self.used = self.used.saturating_sub(n);
    }

    /// Checks what was decoded against the references that there are, and gives what all blocks
    /// take of the quota.
    pub fn check(&self, references: &BTreeMap<ChunkId, u32>) -> Result<u64, Inconsistent> {
        let counted = self.map.iter().map(|(id, chunk)| (id, &chunk.refs));
        let sound = |(id, chunk): (&ChunkId, &Chunk)| id.0 < self.next && chunk.bytes.len() <= BLOCK_SIZE;
        if !counted.eq(references) || !self.map.iter().all(sound) || self.next > 1 << 48 {
            return Err(Inconsistent("a block"));
        }
        Ok(self.map.values().map(|chunk| cost(chunk.bytes.len())).sum())
    }

    /// Whether a block of `len` bytes could be added.
    pub fn expect_room(&self, len: usize) -> Result<(), Errno> {
        if cost(len) > self.free() { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// A new block.
    pub fn add(&mut self, bytes: Vec<u8>) -> Result<ChunkId, Errno> {
        debug_assert!(bytes.len() <= BLOCK_SIZE);
        self.charge(cost(bytes.len()))?;
        let id = ChunkId(self.next);
        self.next += 1;
        self.map.insert(id, Chunk { refs: 1, bytes: Bytes::new(bytes) });
        Ok(id)
    }

    /// One more uses the block.
    pub fn share(&mut self, id: ChunkId) {
        if let Some(chunk) = self.map.get_mut(&id) {
            chunk.refs = chunk.refs.saturating_add(1);
        }
    }

    /// One less uses the block.
    pub fn drop(&mut self, id: ChunkId) {
        let Some(chunk) = self.map.get_mut(&id) else {
            return;
        };
        chunk.refs = chunk.refs.saturating_sub(1);
        if chunk.refs == 0 {
            let len = chunk.bytes.len();
            self.map.remove(&id);
            self.refund(cost(len));
        }
    }

    pub fn bytes(&self, id: ChunkId) -> &[u8] {
        self.map.get(&id).map_or(&[], |chunk| &chunk.bytes)
    }

    fn is_shared(&self, id: ChunkId) -> bool {
        self.map.get(&id).is_none_or(|chunk| chunk.refs > 1)
    }

    /// Makes the block at least `len` bytes long (zeros) and its owner's alone, and lets `change`
    /// write to it. The number changes if the block was shared.
    pub fn update(
        &mut self,
        id: &mut ChunkId,
        len: usize,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<(), Errno> {
        let old = self.bytes(*id).len();
        let new = old.max(len);
        if self.is_shared(*id) {
            self.expect_room(new)?;
            let mut bytes = Vec::with_capacity(new);
            bytes.extend_from_slice(self.bytes(*id));
            bytes.resize(new, 0);
            change(&mut bytes);
            let copy = self.add(bytes)?;
            self.drop(*id);
            *id = copy;
            return Ok(());
        }
        self.charge(cost(new) - cost(old))?;
        if let Some(chunk) = self.map.get_mut(id) {
            let bytes = chunk.bytes.to_mut();
            bytes.resize(new, 0);
            change(bytes);
        }
        Ok(())
    }

    /// Cuts the block to `len` bytes, for its owner alone.
    pub fn cut(&mut self, id: &mut ChunkId, len: usize) -> Result<(), Errno> {
        let old = self.bytes(*id).len();
        if old <= len {
            return Ok(());
        }
        if self.is_shared(*id) {
            let copy = self.add(self.bytes(*id)[..len].to_vec())?;
            self.drop(*id);
            *id = copy;
            return Ok(());
        }
        if let Some(chunk) = self.map.get_mut(id) {
            chunk.bytes.to_mut().truncate(len);
        }
        self.refund(cost(old) - cost(len));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_blocks_are_counted_once_and_copied_on_write() {
        let mut c = Chunks::new(3 * GRAIN);
        let mut a = c.add(b"hello".to_vec()).unwrap();
        let b = a;
        c.share(a);
        assert_eq!(c.used(), GRAIN);
        c.update(&mut a, 6, |bytes| bytes[0] = b'j').unwrap();
        assert_ne!(a, b);
        assert_eq!((c.bytes(a), c.bytes(b)), (&b"jello\0"[..], &b"hello"[..]));
        assert_eq!(c.used(), 2 * GRAIN);
        assert_eq!(c.update(&mut a, 10_000, |_| ()), Err(Errno::ENOSPC));
        assert_eq!(c.bytes(a), b"jello\0");
        c.cut(&mut a, 2).unwrap();
        assert_eq!(c.bytes(a), b"je");
        c.drop(a);
        c.drop(b);
        assert_eq!(c.used(), 0);
    }
}
