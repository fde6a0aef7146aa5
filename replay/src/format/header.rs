//! What stands before each block.

use xxhash_rust::xxh3::xxh3_64;

use super::{MAX_BLOCK, MAX_RECORDS, array_at, u32_at, u64_at};

/// Bytes of a block header.
pub(crate) const BLOCK_HEADER: usize = 72;

const MAGIC: [u8; 4] = *b"DVMB";

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// Exits, ordered answers and faults.
    Records,
    /// One content.
    Blob,
    /// Keyed answers.
    Keyed,
    /// How the run ended, and the index.
    End,
}

/// A block header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub kind: BlockKind,
    /// Whether the payload is zstd-compressed.
    pub compressed: bool,
    /// Its number in the log, from 0.
    pub number: u64,
    /// Payload bytes, uncompressed: at most [`MAX_BLOCK`].
    pub raw_len: u32,
    /// Payload bytes in the file: at most [`MAX_BLOCK`].
    pub stored_len: u32,
    /// The number of the next compared exit before this block; 0 before the first exit.
    pub first_exit: u64,
    /// Compared exits in it.
    pub exits: u32,
    /// A blob's id; for the other kinds the digest of all exits before this block.
    pub id: [u8; 16],
    /// xxh3-64 of the payload as stored.
    pub checksum: u64,
}

impl BlockHeader {
    /// Header and payload, bytes.
    pub fn block_len(&self) -> u64 {
        BLOCK_HEADER as u64 + u64::from(self.stored_len)
    }

    pub fn to_bytes(self) -> [u8; BLOCK_HEADER] {
        let mut out = [0; BLOCK_HEADER];
        out[0..4].copy_from_slice(&MAGIC);
        out[4] = match self.kind {
            BlockKind::Records => 1,
            BlockKind::Blob => 2,
            BlockKind::Keyed => 3,
            BlockKind::End => 4,
        };
        out[5] = u8::from(self.compressed);
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..20].copy_from_slice(&self.raw_len.to_le_bytes());
        out[20..24].copy_from_slice(&self.stored_len.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_exit.to_le_bytes());
        out[32..36].copy_from_slice(&self.exits.to_le_bytes());
        out[40..56].copy_from_slice(&self.id);
        out[56..64].copy_from_slice(&self.checksum.to_le_bytes());
        let sum = xxh3_64(&out[..64]);
        out[64..72].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads a header, or says what is wrong with it.
    pub fn parse(bytes: &[u8; BLOCK_HEADER]) -> Result<BlockHeader, &'static str> {
        if bytes[0..4] != MAGIC {
            return Err("no block starts here");
        }
        if xxh3_64(&bytes[..64]) != u64_at(bytes, 64) {
            return Err("the block header's checksum does not match");
        }
        let kind = match bytes[4] {
            1 => BlockKind::Records,
            2 => BlockKind::Blob,
            3 => BlockKind::Keyed,
            4 => BlockKind::End,
            _ => return Err("a block of unknown kind"),
        };
        let compressed = match bytes[5] {
            0 => false,
            1 => true,
            _ => return Err("a block of unknown compression"),
        };
        if bytes[6..8] != [0; 2] || bytes[36..40] != [0; 4] {
            return Err("reserved bytes of the block header are not zero");
        }
        let header = BlockHeader {
            kind,
            compressed,
            number: u64_at(bytes, 8),
            raw_len: u32_at(bytes, 16),
            stored_len: u32_at(bytes, 20),
            first_exit: u64_at(bytes, 24),
            exits: u32_at(bytes, 32),
            id: array_at(bytes, 40),
            checksum: u64_at(bytes, 56),
        };
        let most = match kind {
            BlockKind::Records | BlockKind::Keyed => MAX_RECORDS,
            BlockKind::Blob | BlockKind::End => MAX_BLOCK,
        };
        if header.raw_len as usize > most || header.stored_len as usize > MAX_BLOCK {
            return Err("a block longer than any block may be");
        }
        if !compressed && header.raw_len != header.stored_len {
            return Err("an uncompressed block with two lengths");
        }
        if header.exits > 0 && kind != BlockKind::Records {
            return Err("a block with exits that is not of records");
        }
        if header.first_exit.checked_add(u64::from(header.exits)).is_none() {
            return Err("exit numbers past the end of numbers");
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BlockHeader {
        BlockHeader {
            kind: BlockKind::Records,
            compressed: true,
            number: 7,
            raw_len: 1000,
            stored_len: 100,
            first_exit: 41,
            exits: 3,
            id: [9; 16],
            checksum: 0x1234_5678,
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(BlockHeader::parse(&sample().to_bytes()), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = sample().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockHeader::parse(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn valid_checksum_over_nonsense_is_refused() {
        let cases = [
            BlockHeader { raw_len: u32::MAX, ..sample() },
            BlockHeader { stored_len: MAX_BLOCK as u32 + 1, ..sample() },
            BlockHeader { compressed: false, ..sample() },
            BlockHeader { kind: BlockKind::Blob, ..sample() },
            BlockHeader { first_exit: u64::MAX, ..sample() },
        ];
        for case in cases {
            assert!(BlockHeader::parse(&case.to_bytes()).is_err(), "{case:?}");
        }
    }
}
