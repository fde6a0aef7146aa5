//! Index entries, read a block at a time.

use crate::error::Result;
use crate::index::{ENTRY_LEN, Entry};
use crate::layer::Layer;

/// Entries in a block: one page of the file, so that one `pread` serves the neighbours of a page too.
pub(crate) const BLOCK_ENTRIES: u64 = 128;

/// The index block that was read last of each file in a chain. Entries are checked one by one, each
/// time they are looked at.
pub(crate) struct Lookup {
    blocks: Vec<Block>,
}

/// Some entries of one file, unchecked.
struct Block {
    first: u64,
    bytes: Vec<u8>,
}

impl Lookup {
    /// For a chain of this many files. Nothing is read yet.
    pub(crate) fn new(layers: usize) -> Self {
        Self { blocks: (0..layers).map(|_| Block { first: 0, bytes: Vec::new() }).collect() }
    }

    /// The entry of `page`, which `layer` must have; `layer` is file `number` of the chain.
    pub(crate) fn entry(&mut self, number: usize, layer: &Layer, page: u64) -> Result<Entry> {
        let block = &mut self.blocks[number];
        let first = page - page % BLOCK_ENTRIES;
        if block.bytes.is_empty() || block.first != first {
            // A failed read leaves no block.
            let mut bytes = std::mem::take(&mut block.bytes);
            layer.read_entries(first, BLOCK_ENTRIES, &mut bytes)?;
            *block = Block { first, bytes };
        }
        let at = (page - first) as usize;
        layer.decode_entry(&block.bytes.as_chunks::<ENTRY_LEN>().0[at], page)
    }
}
