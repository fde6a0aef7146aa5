//! Content ids: what a snapshot holds, in 32 bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::Error;

/// Length of a content id in bytes.
const ID_LEN: usize = 32;

/// The identity of a snapshot's content: a BLAKE3 hash (32 bytes).
///
/// It covers the machine state, the page size and count, the content of every
/// page the file holds itself, and the parent's id. It does not cover how the
/// pages are compressed, nor the working set: rewriting those keeps the id.
///
/// Shown and parsed as 64 hexadecimal digits. With serde it is that text in
/// human-readable formats, and 32 plain bytes in the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId([u8; ID_LEN]);

impl ContentId {
    /// An id from its bytes.
    pub const fn from_bytes(bytes: [u8; ID_LEN]) -> Self {
        Self(bytes)
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }

    /// What the entry checks of this snapshot's index are seeded with, so that
    /// an entry copied from another snapshot is found out.
    pub(crate) fn index_salt(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl FromStr for ContentId {
    type Err = Error;

    /// Parses 64 hexadecimal digits, of either case.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() != 2 * ID_LEN {
            return Err(Error::InvalidId { reason: "wrong length" });
        }
        let mut bytes = [0; ID_LEN];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

/// The value of one hexadecimal digit.
fn digit(digit: u8) -> Result<u8, Error> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(Error::InvalidId { reason: "not a hexadecimal digit" }),
    }
}

impl Serialize for ContentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            <[u8; ID_LEN]>::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn text_round_trip() {
        let id = ContentId::from_bytes(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(id.to_string().len(), 2 * ID_LEN);
        assert_eq!(id.to_string().parse::<ContentId>().unwrap(), id);
        assert_eq!(id.to_string().to_uppercase().parse::<ContentId>().unwrap(), id);
    }

    #[test]
    fn bad_text() {
        assert!("".parse::<ContentId>().is_err());
        assert!("0".repeat(63).parse::<ContentId>().is_err());
        assert!("g".repeat(64).parse::<ContentId>().is_err());
        // 64 bytes, but not 64 digits: must not split a character.
        assert!("é".repeat(32).parse::<ContentId>().is_err());
    }

    #[test]
    fn binary_serde_is_the_plain_bytes() {
        let id = ContentId::from_bytes([9; ID_LEN]);
        let bytes = codec::encode(&id).unwrap();
        assert_eq!(bytes, [9; ID_LEN]);
        assert_eq!(codec::decode::<ContentId>(&bytes).unwrap(), id);
    }
}
