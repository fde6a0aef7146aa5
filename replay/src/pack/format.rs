//! The first bytes of a pack: `docs/pack-format.md`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::codec;
use crate::error::Error;
use crate::format::{u32_at, u64_at};

/// The version of packs that this crate writes, and the newest that it reads.
pub const PACK_VERSION: u32 = 1;

/// Bytes of the header: the table starts here.
pub(super) const HEADER: usize = 64;

/// Members start at multiples of this many bytes, as the sections of a snapshot do.
pub(super) const ALIGNMENT: u64 = 64;

/// The first bytes. The high bit, the line ends and the end-of-file character show a transfer that took it
/// for text.
const MAGIC: [u8; 8] = *b"\x89DVR\r\n\x1a\n";

/// Feature bits that this version knows: none yet.
const KNOWN_FEATURES: u32 = 0;

/// Members that a pack has at most: the manifest, the log, a chain of snapshots; programs, libraries, and their
/// debug files.
const MAX_MEMBERS: usize = 40 + 512;

/// Longest name of a member, bytes: that of a file.
const MAX_NAME: usize = 255;

/// Longest table, bytes: each member takes its name and four numbers.
const MAX_TABLE: usize = 8 + MAX_MEMBERS * (MAX_NAME + 32);

/// Whether a file that starts with these bytes is meant to be a pack.
pub(super) fn is_pack(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

/// A pack's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the table: at most [`MAX_TABLE`].
    pub table_len: u32,
    /// Bytes of the whole file.
    pub file_len: u64,
    /// xxh3-64 of the table.
    pub table_checksum: u64,
}

impl Header {
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&PACK_VERSION.to_le_bytes());
        out[16..20].copy_from_slice(&self.table_len.to_le_bytes());
        out[24..32].copy_from_slice(&self.file_len.to_le_bytes());
        out[32..40].copy_from_slice(&self.table_checksum.to_le_bytes());
        let sum = xxh3_64(&out[..56]);
        out[56..64].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the header of a file that [`is_pack`].
    pub fn parse(path: &Path, bytes: &[u8; HEADER]) -> Result<Header, Error> {
        if xxh3_64(&bytes[..56]) != u64_at(bytes, 56) {
            return Err(Error::pack(path, 0, "the header's checksum does not match"));
        }
        let (path_buf, supported) = (path.to_owned(), PACK_VERSION);
        match u32_at(bytes, 8) {
            PACK_VERSION => {}
            found if found > PACK_VERSION => {
                return Err(Error::NewerVersion { path: path_buf, found, supported });
            }
            found => return Err(Error::OlderVersion { path: path_buf, found, supported }),
        }
        let flags = u32_at(bytes, 12) & !KNOWN_FEATURES;
        if flags != 0 {
            return Err(Error::UnknownFeatures { path: path_buf, flags });
        }
        if bytes[20..24] != [0; 4] || bytes[40..56] != [0; 16] {
            return Err(Error::pack(path, 20, "reserved bytes of the header are not zero"));
        }
        let header = Header {
            table_len: u32_at(bytes, 16),
            file_len: u64_at(bytes, 24),
            table_checksum: u64_at(bytes, 32),
        };
        if header.table_len as usize > MAX_TABLE {
            return Err(Error::pack(path, 16, "a table longer than any may be"));
        }
        Ok(header)
    }
}

/// A file in a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// A plain file name.
    pub name: Vec<u8>,
    /// Bytes from the pack's start.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// xxh3-64 of its bytes.
    pub checksum: u64,
}

impl Member {
    /// Where it ends. No overflow: that was checked, or written.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// The name for people.
    pub fn shown(&self) -> String {
        self.name.escape_ascii().to_string()
    }
}

/// The table's bytes. How many there are depends on the names alone.
pub(super) fn encode_table(members: &[Member]) -> Result<Vec<u8>, String> {
    check_names(members)?;
    codec::encode(members).map_err(|e| e.to_string())
}

/// Reads the table of a pack of `file_len` bytes. The members then lie one after another behind the table, with
/// nothing but padding between them, up to the end of the file.
pub(super) fn decode_table(bytes: &[u8], file_len: u64) -> Result<Vec<Member>, String> {
    let members: Vec<Member> = codec::decode(bytes).map_err(|e| e.to_string())?;
    check_names(&members)?;
    let mut end = HEADER as u64 + bytes.len() as u64;
    for member in &members {
        if align(end) != Some(member.offset) {
            return Err(format!("member {} is out of place", member.shown()));
        }
        end = member
            .offset
            .checked_add(member.length)
            .filter(|end| *end <= file_len)
            .ok_or_else(|| format!("member {} reaches beyond the end of the file", member.shown()))?;
    }
    if end != file_len {
        return Err("there are bytes behind the last member".into());
    }
    Ok(members)
}

/// The next place where a member may start.
pub(super) fn align(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(ALIGNMENT)
}

fn check_names(members: &[Member]) -> Result<(), String> {
    if members.len() > MAX_MEMBERS {
        return Err(format!("{} members, and a pack has at most {MAX_MEMBERS}", members.len()));
    }
    for (at, member) in members.iter().enumerate() {
        let name = &member.name[..];
        let plain = !name.iter().any(|byte| byte.is_ascii_control() || *byte == b'/');
        if !(1..=MAX_NAME).contains(&name.len()) || !plain || name == b"." || name == b".." {
            return Err(format!("{} is not a plain file name", member.shown()));
        }
        if members[..at].iter().any(|other| other.name == name) {
            return Err(format!("two members have the name {}", member.shown()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<Member>, u64) {
        let member = |name: &str, offset, length| Member {
            name: name.as_bytes().to_vec(),
            offset,
            length,
            checksum: 7,
        };
        // The table takes 8 + 2 * 32 + 3 + 1 bytes.
        (vec![member("log", 192, 100), member("x", 320, 0)], 320)
    }

    fn decode(members: &[Member], file_len: u64) -> Result<Vec<Member>, String> {
        decode_table(&codec::encode(members).unwrap(), file_len)
    }

    #[test]
    fn round_trip() {
        let (members, len) = sample();
        assert_eq!(decode_table(&encode_table(&members).unwrap(), len), Ok(members));
        let header = Header { table_len: 76, file_len: 320, table_checksum: 9 };
        assert_eq!(Header::parse(Path::new("p"), &header.to_bytes()).unwrap(), header);
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_seen() {
        let bytes = Header { table_len: 76, file_len: 320, table_checksum: 9 }.to_bytes();
        for bit in 0..HEADER * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_pack(&bad) || Header::parse(Path::new("p"), &bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn headers_from_the_future_have_their_own_errors() {
        let check = |at: usize, value: u8| {
            let mut bytes = Header { table_len: 76, file_len: 320, table_checksum: 9 }.to_bytes();
            bytes[at] = value;
            let sum = xxh3_64(&bytes[..56]);
            bytes[56..64].copy_from_slice(&sum.to_le_bytes());
            Header::parse(Path::new("p"), &bytes)
        };
        assert!(matches!(check(8, 2), Err(Error::NewerVersion { found: 2, supported: 1, .. })));
        assert!(matches!(check(8, 0), Err(Error::OlderVersion { found: 0, supported: 1, .. })));
        assert!(matches!(check(12, 4), Err(Error::UnknownFeatures { flags: 4, .. })));
        for reserved in [20, 23, 40, 55] {
            assert!(matches!(check(reserved, 1), Err(Error::Pack { .. })), "byte {reserved}");
        }
        assert!(matches!(check(19, 1), Err(Error::Pack { .. })));
    }

    #[test]
    fn members_that_overlap_or_leave_the_file_are_refused() {
        let (good, len) = sample();
        for (at, offset, length) in [
            (0, 191, 100),
            (0, 256, 64),
            (0, 0, 320),
            (1, 192, 0),
            (1, 384, 0),
            (1, 320, 1),
            (0, 192, u64::MAX),
            (1, u64::MAX - 63, 64),
            (1, 320, u64::MAX),
        ] {
            let mut members = good.clone();
            (members[at].offset, members[at].length) = (offset, length);
            assert!(decode(&members, len).is_err(), "{length} at {offset}");
        }
        for other in [len - 1, len + 1, 0, u64::MAX] {
            assert!(decode(&good, other).is_err(), "{other}");
        }
    }

    #[test]
    fn names_are_plain_and_each_comes_once() {
        let (good, len) = sample();
        let named = |name: &[u8]| {
            let mut members = good.clone();
            members[1].name = name.to_vec();
            members
        };
        assert!(decode(&named(b"y"), len).is_ok());
        for name in [&b""[..], b".", b"..", b"a/b", b"\n", b"log", &[b'n'; 256]] {
            assert!(decode(&named(name), len).is_err(), "{}", name.escape_ascii());
            assert!(encode_table(&named(name)).is_err(), "{}", name.escape_ascii());
        }
        assert!(decode(&vec![good[0].clone(); MAX_MEMBERS + 1], len).is_err());
    }
}
