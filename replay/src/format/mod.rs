//! Bytes on disk: `docs/log-format.md`.
//!
//! A log is a file header, blocks one after another, and, when it was sealed, an end block and a
//! trailer. All numbers are little-endian.

pub(crate) mod block;
pub(crate) mod budget;
pub(crate) mod ends;
pub(crate) mod header;
pub(crate) mod stored;

/// The version of the log and of the manifest that this crate writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 2;

/// Most bytes in a block, both as stored and uncompressed. A reader never allocates more for one.
pub const MAX_BLOCK: usize = 16 << 20;

/// Most bytes in a block of records or keyed answers, uncompressed. Decoded, they take some times as
/// much, and a reader holds a few blocks at once.
pub const MAX_RECORDS: usize = 2 << 20;

/// Answers of more bytes than this are kept by content, once.
pub const INLINE_LIMIT: usize = 256;

/// The little-endian number at `at`; the caller has checked that it is there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// The little-endian number at `at`; the caller has checked that it is there.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// The `N` bytes at `at`; the caller has checked that they are there.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
