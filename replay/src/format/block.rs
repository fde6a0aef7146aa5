//! Payloads: compression and its checks.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::{Compressor, Decompressor};

use super::MAX_BLOCK;
use super::header::BlockHeader;

/// A payload as it goes into the file.
pub(crate) struct Packed {
    pub bytes: Vec<u8>,
    pub compressed: bool,
    pub raw_len: u32,
    pub checksum: u64,
}

/// Compresses `raw`, or keeps it as it is where that is no gain.
///
/// # Errors
/// When `raw` is longer than a block may be, or zstd fails.
pub(crate) fn pack(zstd: &mut Compressor<'_>, raw: &[u8]) -> std::io::Result<Packed> {
    let raw_len = match u32::try_from(raw.len()) {
        Ok(len) if raw.len() <= MAX_BLOCK => len,
        _ => {
            let why = format!("{} bytes are more than the log can hold in one block", raw.len());
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why));
        }
    };
    let packed = zstd.compress(raw)?;
    let (bytes, compressed) = if packed.len() < raw.len() { (packed, true) } else { (raw.to_vec(), false) };
    let checksum = xxh3_64(&bytes);
    Ok(Packed { bytes, compressed, raw_len, checksum })
}

/// Checks the payload that stands behind `header` and gives it back uncompressed, or says what is
/// wrong with it. Allocates at most [`MAX_BLOCK`], since the header was checked.
pub(crate) fn unpack(
    zstd: &mut Decompressor<'_>,
    header: &BlockHeader,
    stored: Arc<[u8]>,
) -> Result<Arc<[u8]>, String> {
    if xxh3_64(&stored) != header.checksum {
        return Err("the block's checksum does not match".into());
    }
    if !header.compressed {
        return Ok(stored);
    }
    let mut raw = zeros(header.raw_len as usize);
    let out = Arc::get_mut(&mut raw).expect("nobody else has it yet");
    let len =
        zstd.decompress_to_buffer(&stored, out).map_err(|e| format!("the block does not decompress: {e}"))?;
    if len != raw.len() {
        return Err("the block's uncompressed length does not match".into());
    }
    Ok(raw)
}

/// So many zeros, to be written over.
pub(crate) fn zeros(len: usize) -> Arc<[u8]> {
    std::iter::repeat_n(0, len).collect()
}
