//! The ELF image inside a bzImage.
//!
//! A kernel that is unpacked here need not do it in the guest, and brings its PVH entry along.

use std::io::Read;

use super::LoadError;
use super::bzimage::BzImage;
use super::image::{Compression, Kind, identify};

/// The most bytes of an unpacked kernel: a bound on what a small file can make of the host's memory.
pub const MAX_UNPACKED: usize = 512 << 20;

/// First bytes of LZ4's legacy format (`lz4_Frame_format.md` of LZ4, "Legacy frame"; `lz4 -l`), which
/// the kernel uses.
const LZ4_MAGIC: [u8; 4] = 0x184c_2102u32.to_le_bytes();
/// The most that a block of it unpacks to.
const LZ4_BLOCK: usize = 8 << 20;
/// The most bytes of a packed block: `LZ4_COMPRESSBOUND` of it.
const LZ4_PACKED_BLOCK: usize = LZ4_BLOCK + LZ4_BLOCK / 255 + 16;
/// Bytes of the unpacked size that the kernel's build puts behind the data (`size_append` in
/// `scripts/Makefile.lib`).
const SIZE_BYTES: usize = 4;

/// Unpacks the ELF image inside `kernel`.
///
/// # Errors
/// No payload, another compression than LZ4 and zstd, damage, more than [`MAX_UNPACKED`] bytes, and
/// what is no ELF image then.
pub fn unpack(kernel: &BzImage<'_>) -> Result<Vec<u8>, LoadError> {
    let payload = payload(kernel)?;
    let compression = Compression::of(payload)
        .ok_or_else(|| LoadError::CompressionUnknown { first: first_bytes(payload) })?;
    let image = match compression {
        Compression::Lz4 => lz4(payload)?,
        Compression::Zstd => zstd(payload)?,
        compression => return Err(LoadError::Compression { compression }),
    };
    match identify(&image) {
        Ok(Kind::Elf) => Ok(image),
        _ => Err(LoadError::UnpackedNotElf { first: first_bytes(&image) }),
    }
}

fn payload<'a>(kernel: &'a BzImage<'_>) -> Result<&'a [u8], LoadError> {
    let (offset, len) = (u64::from(kernel.header.payload_offset), u64::from(kernel.header.payload_length));
    if offset == 0 || len == 0 {
        return Err(LoadError::NoPayload);
    }
    let bytes = kernel.kernel();
    let payload = bytes.get(offset as usize..).and_then(|from| from.get(..len as usize));
    payload.ok_or(LoadError::Payload { offset, len, size: bytes.len() as u64 })
}

fn first_bytes(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(8)].to_vec()
}

/// Blocks, each behind its packed size.
fn lz4(payload: &[u8]) -> Result<Vec<u8>, LoadError> {
    let mut image = Vec::new();
    let mut rest = payload;
    let damaged = |rest: &[u8], reason: String| LoadError::PayloadDamaged {
        compression: Compression::Lz4,
        at: payload.len() - rest.len(),
        reason,
    };
    while rest.len() > SIZE_BYTES {
        // Before the first block, and between streams that were put one behind the other.
        if let Some(behind) = rest.strip_prefix(&LZ4_MAGIC) {
            rest = behind;
            continue;
        }
        let Some((size, behind)) = rest.split_first_chunk() else { break };
        let size = u32::from_le_bytes(*size) as usize;
        let block = behind.get(..size).filter(|_| (1..=LZ4_PACKED_BLOCK).contains(&size));
        let block = block.ok_or_else(|| damaged(rest, format!("a block of {size:#x} bytes")))?;
        let start = image.len();
        // One block more than that may be had for a moment.
        if start > MAX_UNPACKED {
            return Err(LoadError::UnpackedLarge { max: MAX_UNPACKED });
        }
        image.resize(start + LZ4_BLOCK, 0);
        let unpacked = lz4_flex::block::decompress_into(block, &mut image[start..])
            .map_err(|error| damaged(rest, error.to_string()))?;
        image.truncate(start + unpacked);
        rest = behind.get(size..).unwrap_or_default();
    }
    check_unpacked(image, rest)
}

/// One frame.
fn zstd(payload: &[u8]) -> Result<Vec<u8>, LoadError> {
    let damaged = |error: std::io::Error| LoadError::PayloadDamaged {
        compression: Compression::Zstd,
        at: 0,
        reason: error.to_string(),
    };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload).map_err(damaged)?.single_frame();
    let mut image = Vec::new();
    (&mut decoder).take(MAX_UNPACKED as u64 + 1).read_to_end(&mut image).map_err(damaged)?;
    check_unpacked(image, decoder.finish())
}

/// Checks the length of `image` by what `rest`, behind the packed data, says of it.
fn check_unpacked(image: Vec<u8>, rest: &[u8]) -> Result<Vec<u8>, LoadError> {
    if image.len() > MAX_UNPACKED {
        return Err(LoadError::UnpackedLarge { max: MAX_UNPACKED });
    }
    if let Ok(claimed) = <[u8; SIZE_BYTES]>::try_from(rest) {
        let (claimed, size) = (u64::from(u32::from_le_bytes(claimed)), image.len() as u64);
        if claimed != size {
            return Err(LoadError::UnpackedSize { claimed, size });
        }
    }
    Ok(image)
}
