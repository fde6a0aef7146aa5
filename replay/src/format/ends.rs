//! The first and the last bytes of a log.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::{FORMAT_VERSION, u32_at, u64_at};
use crate::error::Error;

/// Bytes of the file header: the first block starts here.
pub(crate) const FILE_HEADER: usize = 32;

/// Bytes of the trailer of a sealed log.
pub(crate) const TRAILER: usize = 32;

const MAGIC: [u8; 8] = *b"DEJAVLOG";
const END_MAGIC: [u8; 8] = *b"DEJAVEND";

/// Feature bits that this version knows: none yet.
const KNOWN_FEATURES: u32 = 0;

/// The file header of a new log.
pub(crate) fn file_header() -> [u8; FILE_HEADER] {
    let mut out = [0; FILE_HEADER];
    out[0..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let sum = xxh3_64(&out[..24]);
    out[24..32].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Checks a file header.
pub(crate) fn check_file_header(path: &Path, bytes: &[u8; FILE_HEADER]) -> Result<(), Error> {
    if bytes[0..8] != MAGIC {
        return Err(Error::NotALog { path: path.to_owned() });
    }
    if xxh3_64(&bytes[..24]) != u64_at(bytes, 24) {
        return Err(Error::corrupt(path, 0, "the file header's checksum does not match"));
    }
    let found = u32_at(bytes, 8);
    if found > FORMAT_VERSION {
        return Err(Error::NewerVersion { path: path.to_owned(), found, supported: FORMAT_VERSION });
    }
    if found < FORMAT_VERSION {
        return Err(Error::OlderVersion { path: path.to_owned(), found, supported: FORMAT_VERSION });
    }
    let flags = u32_at(bytes, 12) & !KNOWN_FEATURES;
    if flags != 0 {
        return Err(Error::UnknownFeatures { path: path.to_owned(), flags });
    }
    if bytes[16..24] != [0; 8] {
        return Err(Error::corrupt(path, 16, "reserved bytes of the file header are not zero"));
    }
    Ok(())
}

/// The trailer of a log whose end block is at `end_block`.
pub(crate) fn trailer(end_block: u64) -> [u8; TRAILER] {
    let mut out = [0; TRAILER];
    out[0..8].copy_from_slice(&END_MAGIC);
    out[8..16].copy_from_slice(&end_block.to_le_bytes());
    let sum = xxh3_64(&out[..24]);
    out[24..32].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Where the end block is, if these are a trailer's bytes.
pub(crate) fn parse_trailer(bytes: &[u8; TRAILER]) -> Option<u64> {
    let whole =
        bytes[0..8] == END_MAGIC && bytes[16..24] == [0; 8] && xxh3_64(&bytes[..24]) == u64_at(bytes, 24);
    whole.then(|| u64_at(bytes, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut [u8; FILE_HEADER])) -> Result<(), Error> {
        let mut bytes = file_header();
        change(&mut bytes);
        let sum = xxh3_64(&bytes[..24]);
        bytes[24..32].copy_from_slice(&sum.to_le_bytes());
        check_file_header(Path::new("log"), &bytes)
    }

    #[test]
    fn headers_from_the_future_have_their_own_errors() {
        assert!(check(|_| ()).is_ok());
        assert!(matches!(check(|b| b[8] = 3), Err(Error::NewerVersion { found: 3, supported: 2, .. })));
        assert!(matches!(check(|b| b[12] = 4), Err(Error::UnknownFeatures { flags: 4, .. })));
        assert!(matches!(check(|b| b[8] = 0), Err(Error::OlderVersion { found: 0, supported: 2, .. })));
        assert!(matches!(check(|b| b[16] = 1), Err(Error::Corrupt { .. })));
        assert!(matches!(check(|b| b[0] = 0), Err(Error::NotALog { .. })));
    }

    #[test]
    fn trailer_round_trip() {
        assert_eq!(parse_trailer(&trailer(123)), Some(123));
        for bit in 0..TRAILER * 8 {
            let mut bad = trailer(123);
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_trailer(&bad), None);
        }
    }
}
