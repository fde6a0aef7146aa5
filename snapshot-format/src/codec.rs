//! The encoding of structured data kept in a snapshot: bincode, little-endian,
//! fixed-width integers, with a size limit.
//!
//! The bytes are a function of the value alone as long as its types are: use
//! `BTreeMap` rather than `HashMap` where the bytes must not vary. Do not
//! decode recursive types from files that are not trusted: the depth of the
//! recursion has no limit here.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::limits::MAX_STATE_BYTES;

/// Most bytes a value may take, encoded: [`MAX_STATE_BYTES`].
const LIMIT: usize = MAX_STATE_BYTES as usize;

/// The encoding; written out so that it cannot change with a default.
const CONFIG: Configuration<LittleEndian, Fixint, Limit<LIMIT>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<LIMIT>();

/// Encodes a value.
///
/// # Errors
///
/// [`Error::TooLarge`] when the result is more than [`MAX_STATE_BYTES`] long;
/// [`Error::Codec`] when a type in the value cannot be encoded (such as a
/// sequence of unknown length).
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let bytes = bincode::serde::encode_to_vec(value, CONFIG)
        .map_err(|error| Error::Codec { action: "encode", reason: error.to_string() })?;
    check_size(bytes.len())?;
    Ok(bytes)
}

/// Decodes a value from exactly these bytes.
///
/// # Errors
///
/// [`Error::Codec`] when the bytes are not such a value, or when some are left
/// over; [`Error::TooLarge`] when there are more than [`MAX_STATE_BYTES`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    check_size(bytes.len())?;
    let failed = |reason| Error::Codec { action: "decode", reason };
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, CONFIG).map_err(|error| failed(error.to_string()))?;
    if used != bytes.len() {
        return Err(failed(format!("{} bytes are left over after the value", bytes.len() - used)));
    }
    Ok(value)
}

/// Refuses more than [`MAX_STATE_BYTES`].
fn check_size(bytes: usize) -> Result<()> {
    if bytes > LIMIT {
        return Err(Error::TooLarge {
            what: "an encoded value (bytes)",
            found: bytes as u64,
            limit: MAX_STATE_BYTES,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        number: u32,
        text: String,
        list: Vec<Option<i64>>,
    }

    fn sample() -> Sample {
        Sample { number: 7, text: "text".into(), list: vec![None, Some(-1)] }
    }

    #[test]
    fn round_trip() {
        let bytes = encode(&sample()).unwrap();
        assert_eq!(decode::<Sample>(&bytes).unwrap(), sample());
    }

    #[test]
    fn integers_are_little_endian_and_fixed_width() {
        assert_eq!(encode(&1_u32).unwrap(), [1, 0, 0, 0]);
        assert_eq!(encode(&0x0102_u64).unwrap(), [2, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let mut bytes = encode(&sample()).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<Sample>(&bytes), Err(Error::Codec { action: "decode", .. })));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = encode(&sample()).unwrap();
        for length in 0..bytes.len() {
            assert!(decode::<Sample>(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn a_huge_length_prefix_is_refused() {
        let bytes = encode(&u64::MAX).unwrap();
        assert!(decode::<Vec<u8>>(&bytes).is_err());
        assert!(decode::<Vec<[u64; 32]>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
    }

    #[test]
    fn sizes_past_the_limit_are_refused() {
        let value = vec![0_u8; LIMIT];
        assert!(encode(&value).is_err());
        assert!(matches!(decode::<Vec<u8>>(&vec![0; LIMIT + 1]), Err(Error::TooLarge { .. })));
    }
}
