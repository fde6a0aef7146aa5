//! One entry of the page index.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::bytes::{put, u16_at, u32_at, u64_at};
use crate::limits::PAGE_SIZE;

/// Length of an entry in bytes.
pub(crate) const ENTRY_LEN: usize = 32;

// Places of an entry's fields.
const KIND_AT: usize = 0;
const RESERVED_BYTE_AT: usize = 1;
const LENGTH_AT: usize = 2;
const RESERVED_AT: usize = 4;
const OFFSET_AT: usize = 8;
const CHECKSUM_AT: usize = 16;
const CHECK_AT: usize = 24;

// The kinds. None is zero, so that a hole in the file is never an entry.
const KIND_ZERO: u8 = 1;
const KIND_PARENT: u8 = 2;
const KIND_FRAME: u8 = 3;
const KIND_RAW: u8 = 4;

/// What the index says about one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// All bytes are zero.
    Zero,
    /// Same as in the parent.
    Parent,
    /// Stored in this file.
    Stored(Stored),
}

/// Where and how a page is stored in this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    /// How the bytes are encoded.
    pub(crate) encoding: Encoding,
    /// Bytes from the start of the frames section. Relative, so that the
    /// index need not change when a section before it does.
    pub(crate) offset: u64,
    /// Stored length in bytes, 1 to [`PAGE_SIZE`].
    pub(crate) length: u16,
    /// xxh3-64 of the page's content.
    pub(crate) checksum: u64,
}

/// How the bytes of a page are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As one zstd frame.
    Zstd,
    /// As they are, because compressing them saves too little.
    Raw,
}

impl Entry {
    /// The entry's bytes, for its place in the index of a certain snapshot.
    pub(crate) fn encode(&self, page: u64, salt: u64) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[KIND_AT] = match self {
            Self::Zero => KIND_ZERO,
            Self::Parent => KIND_PARENT,
            Self::Stored(stored) => {
                put(&mut bytes, LENGTH_AT, &stored.length.to_le_bytes());
                put(&mut bytes, OFFSET_AT, &stored.offset.to_le_bytes());
                put(&mut bytes, CHECKSUM_AT, &stored.checksum.to_le_bytes());
                match stored.encoding {
                    Encoding::Zstd => KIND_FRAME,
                    Encoding::Raw => KIND_RAW,
                }
            }
        };
        let check = check_value(&bytes, page, salt);
        put(&mut bytes, CHECK_AT, &check.to_le_bytes());
        bytes
    }

    /// Reads an entry; on failure says what is wrong. A stored page's bytes
    /// then lie within a frames section of `frames_length` bytes.
    pub(crate) fn decode(
        bytes: &[u8; ENTRY_LEN],
        page: u64,
        salt: u64,
        frames_length: u64,
    ) -> Result<Self, &'static str> {
        if u64_at(bytes, CHECK_AT) != check_value(bytes, page, salt) {
            return Err("wrong check value");
        }
        // Fields without a meaning are zero, so that there is one way only to
        // say a thing.
        let reserved = bytes[RESERVED_BYTE_AT] != 0 || u32_at(bytes, RESERVED_AT) != 0;
        let not_stored =
            u16_at(bytes, LENGTH_AT) == 0 && u64_at(bytes, OFFSET_AT) == 0 && u64_at(bytes, CHECKSUM_AT) == 0;
        if reserved {
            return Err("a reserved field is not zero");
        }
        let encoding = match bytes[KIND_AT] {
            KIND_ZERO if not_stored => return Ok(Self::Zero),
            KIND_PARENT if not_stored => return Ok(Self::Parent),
            KIND_ZERO | KIND_PARENT => return Err("a page not stored has a place"),
            KIND_FRAME => Encoding::Zstd,
            KIND_RAW => Encoding::Raw,
            _ => return Err("unknown kind of page"),
        };
        let stored = Stored {
            encoding,
            offset: u64_at(bytes, OFFSET_AT),
            length: u16_at(bytes, LENGTH_AT),
            checksum: u64_at(bytes, CHECKSUM_AT),
        };
        let length = usize::from(stored.length);
        let length_fits = match encoding {
            Encoding::Zstd => (1..PAGE_SIZE).contains(&length),
            Encoding::Raw => length == PAGE_SIZE,
        };
        if !length_fits {
            return Err("wrong stored length");
        }
        let end = stored.offset.checked_add(u64::from(stored.length));
        if end.is_none_or(|end| end > frames_length) {
            return Err("the page is outside the frames section");
        }
        Ok(Self::Stored(stored))
    }
}

/// The check value of an entry: over its other fields and its page number,
/// seeded with a salt from the snapshot's id.
fn check_value(bytes: &[u8; ENTRY_LEN], page: u64, salt: u64) -> u64 {
    let mut input = *bytes;
    put(&mut input, CHECK_AT, &page.to_le_bytes());
    xxh3_64_with_seed(&input, salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x1234_5678_9abc_def0;
    const FRAMES: u64 = 10_000;

    fn samples() -> [Entry; 4] {
        let stored = Stored { encoding: Encoding::Zstd, offset: 77, length: 1000, checksum: 42 };
        [
            Entry::Zero,
            Entry::Parent,
            Entry::Stored(stored),
            Entry::Stored(Stored { encoding: Encoding::Raw, length: PAGE_SIZE as u16, ..stored }),
        ]
    }

    #[test]
    fn round_trip() {
        for entry in samples() {
            let bytes = entry.encode(5, SALT);
            assert_eq!(Entry::decode(&bytes, 5, SALT, FRAMES), Ok(entry));
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for entry in samples() {
            let bytes = entry.encode(5, SALT);
            for bit in 0..ENTRY_LEN * 8 {
                let mut damaged = bytes;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(Entry::decode(&damaged, 5, SALT, FRAMES).is_err());
            }
        }
    }

    #[test]
    fn an_entry_is_valid_only_in_its_place() {
        for entry in samples() {
            let bytes = entry.encode(5, SALT);
            assert!(Entry::decode(&bytes, 6, SALT, FRAMES).is_err());
            assert!(Entry::decode(&bytes, 5, SALT + 1, FRAMES).is_err());
        }
        assert!(Entry::decode(&[0; ENTRY_LEN], 0, 0, FRAMES).is_err());
    }

    #[test]
    fn fields_without_a_meaning_must_be_zero() {
        for entry in samples() {
            for at in [RESERVED_BYTE_AT, LENGTH_AT, RESERVED_AT, OFFSET_AT, CHECKSUM_AT] {
                let has_meaning = ![RESERVED_BYTE_AT, RESERVED_AT].contains(&at);
                if matches!(entry, Entry::Stored(_)) && has_meaning {
                    continue;
                }
                let mut bytes = entry.encode(5, SALT);
                bytes[at] = 1;
                let check = check_value(&bytes, 5, SALT);
                put(&mut bytes, CHECK_AT, &check.to_le_bytes());
                assert!(Entry::decode(&bytes, 5, SALT, FRAMES).is_err());
            }
        }
    }

    #[test]
    fn extents_outside_the_frames_are_refused() {
        for (offset, length, encoding) in [
            (FRAMES, 1, Encoding::Zstd),
            (FRAMES - 999, 1000, Encoding::Zstd),
            (u64::MAX, 1, Encoding::Zstd),
            (u64::MAX - 5, 4096, Encoding::Raw),
            (0, 0, Encoding::Zstd),
            (0, 4096, Encoding::Zstd),
            (0, 4095, Encoding::Raw),
            (0, u16::MAX, Encoding::Raw),
        ] {
            let entry = Entry::Stored(Stored { encoding, offset, length, checksum: 0 });
            let bytes = entry.encode(0, SALT);
            assert!(Entry::decode(&bytes, 0, SALT, FRAMES).is_err());
        }
    }
}
