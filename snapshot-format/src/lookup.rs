//! Index entries, read a block at a time.

use crate::error::Result;
use crate::index::{ENTRY_LEN, Entry};
use crate::layer::Layer;

/// Entries in a block: one page of the file, so that one `pread` serves the neighbours of a page too.
pub(crate) const BLOCK_ENTRIES: u64 = 128;

/// Blocks kept at most, 1 MiB: a working set's pages lie all over the index, in the order in which they
/// were wanted.
const KEPT: usize = 256;

/// The index blocks of a chain's files that were read last, each in the one place that it may have.
/// Entries are checked one by one, each time they are looked at.
pub(crate) struct Lookup {
    blocks: Vec<Block>,
}

/// Some entries of one file, unchecked.
#[derive(Clone)]
struct Block {
    /// The file's number in the chain.
    layer: usize,
    first: u64,
    /// Empty: nothing was read yet.
    bytes: Vec<u8>,
}

impl Lookup {
    /// Nothing is read yet.
    pub(crate) fn new() -> Self {
        Self { blocks: vec![Block { layer: 0, first: 0, bytes: Vec::new() }; KEPT] }
    }

    /// The entry of `page`, which `layer` must have; `layer` is file `number` of the chain.
    pub(crate) fn entry(&mut self, number: usize, layer: &Layer, page: u64) -> Result<Entry> {
        let first = page - page % BLOCK_ENTRIES;
        let place = (first / BLOCK_ENTRIES).wrapping_add(number as u64) % KEPT as u64;
        let block = &mut self.blocks[place as usize];
        if block.bytes.is_empty() || (block.layer, block.first) != (number, first) {
            // A failed read leaves no block.
            let mut bytes = std::mem::take(&mut block.bytes);
            layer.read_entries(first, BLOCK_ENTRIES, &mut bytes)?;
            *block = Block { layer: number, first, bytes };
        }
        let at = (page - first) as usize;
        layer.decode_entry(&block.bytes.as_chunks::<ENTRY_LEN>().0[at], page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, ContentsError, PAGE_SIZE, PageContents, PageReader, Snapshot, WriteOptions, write};

    const PAGES: u64 = 2 * KEPT as u64 * BLOCK_ENTRIES;

    /// One page with content in each block, which tells its number.
    struct OneABlock;

    impl PageContents for OneABlock {
        fn page_count(&self) -> u64 {
            PAGES
        }

        fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
            out.fill(1);
            out[..8].copy_from_slice(&page.to_le_bytes());
            Ok(Content::Data)
        }

        fn next_data(&mut self, from: u64) -> Option<u64> {
            Some(from.next_multiple_of(BLOCK_ENTRIES)).filter(|page| *page < PAGES)
        }
    }

    #[test]
    fn blocks_with_one_place_take_turns() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s.dvm");
        write(&path, &WriteOptions::default(), b"", &mut OneABlock, &mut |_, _| {}).expect("a snapshot");
        let mut reader = PageReader::new(Snapshot::open(&path).expect("a snapshot")).expect("a reader");
        let apart = KEPT as u64 * BLOCK_ENTRIES;
        let mut out = [0; PAGE_SIZE];
        for page in [0, apart, 0, BLOCK_ENTRIES, apart + BLOCK_ENTRIES, apart, 0] {
            reader.read(page, &mut out).expect("a page");
            assert_eq!(out[..8], page.to_le_bytes());
            reader.read(page + 1, &mut out).expect("a page of zeros");
            assert_eq!(out, [0; PAGE_SIZE]);
        }
    }
}
