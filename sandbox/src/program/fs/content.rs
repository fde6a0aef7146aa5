//! The bytes of a regular file: blocks of the overlay above blocks of the host's file, or an
//! object in guest memory.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::cache::HostBlocks;
use super::check::Inconsistent;
use super::chunks::{ChunkId, Chunks};
use super::error::{FsError, FsResult};
use super::frozen::ContentRef;
use super::hidden::HiddenBlocks;
use super::inode::Lower;
use super::kept::KeptFiles;
use crate::world::{BLOCK_SIZE, Fingerprint, HostPath, World};

const BLOCK: u64 = BLOCK_SIZE as u64;

/// The longest file: what ext4 allows with blocks of 4 KiB.
pub const MAX_FILE: u64 = (1 << 44) - 4096;

/// Where a regular file's bytes are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Content {
    /// In the overlay and on the host.
    Blocks(Blocks),
    /// In guest memory, since the file is mapped shared.
    Shared {
        object: u64,
        len: u64,
        /// What shows where the object has no memory: the content of a file of the host's as it was
        /// before. It is the object's alone.
        below: Option<ContentRef>,
    },
}

impl Content {
    pub fn len(&self) -> u64 {
        match self {
            Content::Blocks(blocks) => blocks.len,
            Content::Shared { len, .. } => *len,
        }
    }
}

/// A file's bytes by blocks: the overlay's where it has one, else the host's, else zeros.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Blocks {
    pub len: u64,
    base: Option<Base>,
    /// The overlay's blocks: one here hides the host's as a whole.
    chunks: BTreeMap<u64, ChunkId>,
}

/// The host's file beneath.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Base {
    file: Lower,
    /// Its size.
    size: u64,
    /// When it was last modified: with the size, what tells that it is still the same.
    mtime: i64,
    /// How much of it can be seen: less than the size once the file was cut.
    visible: u64,
    /// Blocks of it that were zeroed as a whole.
    hidden: HiddenBlocks,
}

impl Base {
    /// The first block from `block` on that shows.
    fn next_shown(&self, block: u64) -> Option<u64> {
        let at = self.hidden.end_at(block);
        (at < self.blocks()).then_some(at)
    }

    /// Whether a block shows.
    fn shows(&self, block: u64) -> bool {
        self.next_shown(block) == Some(block)
    }

    /// Blocks that it reaches into, as far as it can be seen.
    fn blocks(&self) -> u64 {
        self.visible.div_ceil(BLOCK)
    }
}

impl Blocks {
    /// A host file of `size` bytes, last modified at `mtime`.
    pub fn lower(file: Lower, size: u64, mtime: i64) -> Blocks {
        let base = Base { file, size, mtime, visible: size, hidden: HiddenBlocks::default() };
        Blocks { len: size, base: Some(base), chunks: BTreeMap::new() }
    }

    /// Whether the bytes are others than the host's.
    pub fn is_changed(&self) -> bool {
        !self.chunks.is_empty()
            || self.base.as_ref().is_none_or(|base| {
                self.len != base.size || base.visible != base.size || !base.hidden.is_empty()
            })
    }

    /// Reads from `offset`; short only at the end.
    pub fn read(
        &self,
        chunks: &Chunks,
        host: &mut dyn HostBlocks,
        offset: u64,
        buf: &mut [u8],
    ) -> FsResult<usize> {
        let n = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < n {
            let at = offset + done as u64;
            let start = (at % BLOCK) as usize;
            let part = (n - done).min(BLOCK_SIZE - start);
            self.read_part(chunks, host, at / BLOCK, start, &mut buf[done..done + part])?;
            done += part;
        }
        Ok(n)
    }

    /// Reads from within one block.
    fn read_part(
        &self,
        chunks: &Chunks,
        host: &mut dyn HostBlocks,
        block: u64,
        start: usize,
        out: &mut [u8],
    ) -> FsResult<()> {
        let copied = if let Some(id) = self.chunks.get(&block) {
            chunks.read(*id, start, out)?
        } else if let Some(base) = self.base.as_ref().filter(|base| base.shows(block)) {
            let bytes = host.block(&base.file, base.size, block)?;
            let seen = (base.visible - block * BLOCK).min(bytes.len() as u64) as usize;
            copy_from(&bytes[..seen], start, out)
        } else {
            0
        };
        out[copied..].fill(0);
        Ok(())
    }

    /// Whether a block can be read: all can but the host's that this outside does not have.
    pub fn has_block(&self, kept: &KeptFiles, world: &dyn World, block: u64) -> bool {
        let base = self.base.as_ref().filter(|base| base.shows(block));
        let has = |path: &HostPath| kept.has(path) || world.has_block(path, block);
        self.chunks.contains_key(&block) || base.is_none_or(|base| has(base.file.path()))
    }

    /// Writes at `offset`, which with `data` stays below [`MAX_FILE`]. Short when the quota ends
    /// in the middle.
    pub fn write(
        &mut self,
        chunks: &mut Chunks,
        host: &mut dyn HostBlocks,
        offset: u64,
        data: &[u8],
    ) -> FsResult<usize> {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let start = (at % BLOCK) as usize;
            let part = (data.len() - done).min(BLOCK_SIZE - start);
            let piece = &data[done..done + part];
            match self.write_part(chunks, host, at / BLOCK, start, piece) {
                Ok(()) => {}
                Err(FsError::Errno(_)) if done > 0 => break,
                Err(e) => return Err(e),
            }
            done += part;
            self.len = self.len.max(at + part as u64);
        }
        Ok(done)
    }

    fn write_part(
        &mut self,
        chunks: &mut Chunks,
        host: &mut dyn HostBlocks,
        block: u64,
        start: usize,
        data: &[u8],
    ) -> FsResult<()> {
        let end = start + data.len();
        if let Some(id) = self.chunks.get_mut(&block) {
            chunks.update(id, end, |bytes| bytes[start..end].copy_from_slice(data))?;
            return Ok(());
        }
        let below = self
            .base
            .as_ref()
            .filter(|base| base.shows(block))
            .map_or(0, |base| base.visible.saturating_sub(block * BLOCK).min(BLOCK) as usize);
        let len = below.max(end);
        // The host is not asked for what there is no room for.
        chunks.expect_room(len)?;
        let mut bytes = vec![0; len];
        if below > 0 && (start > 0 || end < below) {
            self.read_part(chunks, host, block, 0, &mut bytes[..below])?;
        }
        bytes[start..end].copy_from_slice(data);
        self.chunks.insert(block, chunks.add(bytes)?);
        Ok(())
    }

    /// Cuts or extends (with zeros).
    pub fn resize(&mut self, chunks: &mut Chunks, len: u64) -> FsResult<()> {
        if len < self.len {
            self.cut(chunks, len)?;
        }
        self.len = len;
        Ok(())
    }

    fn cut(&mut self, chunks: &mut Chunks, len: u64) -> FsResult<()> {
        // The block that is cut in the middle comes first, since it alone can fail: when a frozen
        // copy shares it.
        let inside = (len % BLOCK) as usize;
        if inside > 0
            && let Some(id) = self.chunks.get_mut(&(len / BLOCK))
        {
            chunks.cut(id, inside)?;
        }
        for id in self.chunks.split_off(&len.div_ceil(BLOCK)).into_values() {
            chunks.drop(id);
        }
        if let Some(base) = &mut self.base {
            base.visible = base.visible.min(len);
            let before = base.hidden.cost();
            base.hidden.cut(base.visible.div_ceil(BLOCK));
            chunks.refund(before - base.hidden.cost());
            if base.visible == 0 {
                self.base = None;
            }
        }
        Ok(())
    }

    /// Gives the blocks back.
    pub fn clear(&mut self, chunks: &mut Chunks) {
        for id in std::mem::take(&mut self.chunks).into_values() {
            chunks.drop(id);
        }
        if let Some(base) = self.base.take() {
            chunks.refund(base.hidden.cost());
        }
        self.len = 0;
    }

    /// A copy that shares the blocks.
    ///
    /// # Errors
    /// `ENOSPC`
    pub fn share(&self, chunks: &mut Chunks) -> FsResult<Blocks> {
        chunks.charge(self.hidden_cost())?;
        for id in self.chunks.values() {
            chunks.share(*id);
        }
        Ok(self.clone())
    }

    /// What the hidden blocks take of the quota.
    fn hidden_cost(&self) -> u64 {
        self.base.as_ref().map_or(0, |base| base.hidden.cost())
    }

    /// Checks what was decoded, counts the blocks that it uses, and gives what it takes of the quota
    /// besides them.
    pub fn check(&self, references: &mut BTreeMap<ChunkId, u32>) -> Result<u64, Inconsistent> {
        let base = self.base.as_ref();
        let sound = base.is_none_or(|b| {
            let Base { file: _, size, mtime: _, visible, hidden } = b;
            visible <= size && *size <= MAX_FILE && hidden.is_sound(b.blocks())
        });
        let last = self.chunks.last_key_value().map_or(0, |(block, _)| *block);
        if self.len > MAX_FILE || !sound || last > MAX_FILE / BLOCK {
            return Err(Inconsistent("a file's length"));
        }
        for id in self.chunks.values() {
            *references.entry(*id).or_insert(0) += 1;
        }
        Ok(self.hidden_cost())
    }

    /// Where the last block ends that may hold something else than zeros.
    pub fn data_end(&self) -> u64 {
        let chunks = self.chunks.last_key_value().map_or(0, |(block, _)| (block + 1) * BLOCK);
        self.base.as_ref().map_or(0, |base| base.visible).max(chunks).min(self.len)
    }

    /// The host's file beneath, if there is one, and what tells that it is still the same.
    pub fn known_file(&self) -> Option<(&Lower, Fingerprint)> {
        let fingerprint = |base: &Base| Fingerprint { size: base.size, mtime: base.mtime };
        self.base.as_ref().map(|base| (&base.file, fingerprint(base)))
    }

    /// The host's file beneath, if there is one.
    pub fn lower_file(&self) -> Option<&Lower> {
        self.base.as_ref().map(|base| &base.file)
    }

    /// How many blocks of the overlay it uses.
    pub fn chunk_count(&self) -> u64 {
        self.chunks.len() as u64
    }

    /// Zeroes a range within the file.
    pub fn zero(
        &mut self,
        chunks: &mut Chunks,
        host: &mut dyn HostBlocks,
        offset: u64,
        len: u64,
    ) -> FsResult<()> {
        let end = offset.saturating_add(len).min(self.len);
        if offset >= end {
            return Ok(());
        }
        let whole = offset.div_ceil(BLOCK)..end / BLOCK;
        if whole.start > whole.end {
            return self.zero_part(chunks, host, offset..end);
        }
        self.zero_blocks(chunks, whole.clone())?;
        self.zero_part(chunks, host, offset..whole.start * BLOCK)?;
        self.zero_part(chunks, host, whole.end * BLOCK..end)
    }

    /// Zeroes a part of one block.
    fn zero_part(
        &mut self,
        chunks: &mut Chunks,
        host: &mut dyn HostBlocks,
        part: Range<u64>,
    ) -> FsResult<()> {
        static ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];
        let block = part.start / BLOCK;
        if part.is_empty() || self.next_data(block) != Some(block) {
            return Ok(());
        }
        let zeros = &ZEROS[..(part.end - part.start) as usize];
        self.write_part(chunks, host, block, (part.start % BLOCK) as usize, zeros)
    }

    /// Zeroes whole blocks: gives the overlay's back, and hides the host's.
    fn zero_blocks(&mut self, chunks: &mut Chunks, blocks: Range<u64>) -> FsResult<()> {
        if let Some(base) = &mut self.base {
            let shown = blocks.start..blocks.end.min(base.blocks());
            let before = base.hidden.cost();
            // At most one run more: room for that is made sure of first.
            chunks.expect(HiddenBlocks::RUN_COST, 0)?;
            base.hidden.add(shown);
            let after = base.hidden.cost();
            chunks.charge(after.saturating_sub(before))?;
            chunks.refund(before.saturating_sub(after));
        }
        let mut above = self.chunks.split_off(&blocks.start);
        self.chunks.append(&mut above.split_off(&blocks.end.max(blocks.start)));
        above.into_values().for_each(|id| chunks.drop(id));
        Ok(())
    }

    /// The first block from `block` on that may hold something else than zeros.
    fn next_data(&self, block: u64) -> Option<u64> {
        let below = self.base.as_ref().and_then(|base| base.next_shown(block));
        let above = self.chunks.range(block..).next().map(|(block, _)| *block);
        below.into_iter().chain(above).min()
    }

    /// The first block from `block` on that holds zeros, as far as is known.
    fn next_hole(&self, mut block: u64) -> u64 {
        loop {
            let below = self.base.as_ref().filter(|base| base.shows(block));
            block = match below {
                Some(base) => base.hidden.next_from(block).unwrap_or(u64::MAX).min(base.blocks()),
                None if self.chunks.contains_key(&block) => block + 1,
                None => return block,
            };
        }
    }

    /// The first offset from `offset` on where there is data (or, with `hole`, where there is
    /// none), by blocks. The end of the file counts as a hole.
    pub fn seek(&self, offset: u64, hole: bool) -> Option<u64> {
        if offset >= self.len {
            return None;
        }
        let first = offset / BLOCK;
        let found = if hole { self.next_hole(first) } else { self.next_data(first)? };
        let at = found.saturating_mul(BLOCK).max(offset);
        if hole { Some(at.min(self.len)) } else { Some(at).filter(|at| *at < self.len) }
    }
}

/// Copies what `from` has after `start`; gives how many bytes that was.
fn copy_from(from: &[u8], start: usize, out: &mut [u8]) -> usize {
    let n = from.len().saturating_sub(start).min(out.len());
    if n > 0 {
        out[..n].copy_from_slice(&from[start..start + n]);
    }
    n
}
