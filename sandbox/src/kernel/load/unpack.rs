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
/// The most that a byte of it unpacks to: one of a long match's length.
const LZ4_RATIO: usize = 255;
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
        Compression::Lz4 => lz4(payload, MAX_UNPACKED)?,
        Compression::Zstd => zstd(payload, MAX_UNPACKED)?,
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

/// Blocks, each behind its packed size: at most `max` bytes of them.
fn lz4(payload: &[u8], max: usize) -> Result<Vec<u8>, LoadError> {
    let mut image = Vec::new();
    let mut rest = payload;
    let damaged = |rest: &[u8], what: String| {
        let at = payload.len() - rest.len();
        LoadError::PayloadDamaged {
            compression: Compression::Lz4,
            reason: format!("at its byte {at:#x}: {what}"),
        }
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
        if start > max {
            return Err(LoadError::UnpackedLarge { max });
        }
        // Not always the most, since there may be millions of tiny blocks.
        image.resize(start + LZ4_BLOCK.min((size + 1) * LZ4_RATIO), 0);
        let unpacked = lz4_flex::block::decompress_into(block, &mut image[start..])
            .map_err(|error| damaged(rest, error.to_string()))?;
        image.truncate(start + unpacked);
        rest = behind.get(size..).unwrap_or_default();
    }
    check_unpacked(image, rest, max)
}

/// One frame, of at most `max` bytes.
fn zstd(payload: &[u8], max: usize) -> Result<Vec<u8>, LoadError> {
    let damaged = |error: std::io::Error| LoadError::PayloadDamaged {
        compression: Compression::Zstd,
        reason: error.to_string(),
    };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload).map_err(damaged)?.single_frame();
    let mut image = Vec::new();
    (&mut decoder).take(max as u64 + 1).read_to_end(&mut image).map_err(damaged)?;
    check_unpacked(image, decoder.finish(), max)
}

/// Checks the length of `image` by what `rest`, behind the packed data, says of it.
fn check_unpacked(image: Vec<u8>, rest: &[u8], max: usize) -> Result<Vec<u8>, LoadError> {
    if image.len() > max {
        return Err(LoadError::UnpackedLarge { max });
    }
    if let Ok(claimed) = <[u8; SIZE_BYTES]>::try_from(rest) {
        let (claimed, size) = (u64::from(u32::from_le_bytes(claimed)), image.len() as u64);
        if claimed != size {
            return Err(LoadError::UnpackedSize { claimed, size });
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::load::testing::{self, BzImageFile, small_elf};

    fn unpacked(file: &BzImageFile) -> Result<Vec<u8>, LoadError> {
        unpack(&BzImage::parse(&file.build()).unwrap())
    }

    fn unpacked_payload(payload: &[u8]) -> Result<Vec<u8>, LoadError> {
        unpacked(&BzImageFile::packed(payload))
    }

    #[test]
    fn both_compressions() {
        let image = small_elf();
        for packed in [testing::lz4_legacy(&image), testing::zstd(&image)] {
            assert_eq!(unpacked_payload(&packed).unwrap(), image);
            // Without its size behind it.
            assert_eq!(unpacked_payload(&packed[..packed.len() - 4]).unwrap(), image);
        }
    }

    #[test]
    fn several_blocks() {
        let mut image = small_elf();
        image.resize(LZ4_BLOCK * 2 + 5, 0);
        let packed = testing::lz4_legacy(&image);
        assert!(packed.len() < 1 << 18);
        assert!(unpacked_payload(&packed).unwrap() == image);
    }

    #[test]
    fn other_compressions_are_named() {
        for (magic, name) in [(&b"\x1f\x8b\x08\0"[..], "gzip"), (b"\xfd7zXZ\0", "xz"), (b"BZh9", "bzip2")] {
            let error = unpacked_payload(magic).unwrap_err();
            assert!(matches!(error, LoadError::Compression { .. }), "{error}");
            assert!(error.to_string().contains(name) && error.to_string().contains("extract-vmlinux"));
        }
        let error = unpacked_payload(&[1, 2, 3, 4]).unwrap_err();
        assert!(matches!(error, LoadError::CompressionUnknown { first } if first == [1, 2, 3, 4]));
    }

    #[test]
    fn payloads_that_are_not_there() {
        assert!(matches!(unpacked(&BzImageFile::small()), Err(LoadError::NoPayload)));
        let file = BzImageFile::packed(&testing::zstd(&small_elf()));
        for (payload_offset, payload_length) in [(0x300, 1 << 20), (u32::MAX, u32::MAX), (1 << 20, 4)] {
            let file = BzImageFile { payload_offset, payload_length, ..file.clone() };
            assert!(matches!(
                unpacked(&file),
                Err(LoadError::Payload { offset, len, .. })
                    if offset == u64::from(payload_offset) && len == u64::from(payload_length)
            ));
        }
        assert!(matches!(unpacked(&BzImageFile { payload_length: 0, ..file }), Err(LoadError::NoPayload)));
    }

    #[test]
    fn what_is_inside_must_be_elf() {
        for packed in [testing::lz4_legacy(b"something"), testing::zstd(b"something")] {
            let error = unpacked_payload(&packed).unwrap_err();
            assert!(matches!(error, LoadError::UnpackedNotElf { first } if first == b"somethin"));
        }
        let empty = testing::lz4_legacy(&[]);
        assert!(
            matches!(unpacked_payload(&empty), Err(LoadError::UnpackedNotElf { first }) if first.is_empty())
        );
    }

    #[test]
    fn another_size_than_said() {
        let image = small_elf();
        let size = image.len() as u64;
        for mut packed in [testing::lz4_legacy(&image), testing::zstd(&image)] {
            let len = packed.len();
            packed[len - 4..].copy_from_slice(&(size as u32 + 1).to_le_bytes());
            assert!(matches!(
                unpacked_payload(&packed),
                Err(LoadError::UnpackedSize { claimed, size: s }) if claimed == size + 1 && s == size
            ));
        }
    }

    #[test]
    fn damage() {
        let image = small_elf();
        let lz4 = testing::lz4_legacy(&image);
        for size in [0, 1 << 24, u32::MAX] {
            let packed = testing::with(lz4.clone(), 4, &size.to_le_bytes());
            let error = unpacked_payload(&packed).unwrap_err();
            assert!(matches!(error, LoadError::PayloadDamaged { .. }));
            assert!(error.to_string().contains("at its byte 0x4: a block of"), "{error}");
        }
        assert!(matches!(unpacked_payload(&lz4[..100]), Err(LoadError::PayloadDamaged { .. })));
        let zstd = testing::zstd(&image);
        assert!(matches!(unpacked_payload(&zstd[..100]), Err(LoadError::PayloadDamaged { .. })));
    }

    #[test]
    fn bombs() {
        // A match of one byte that goes on and on: 8 MiB less a few bytes from 32 KiB.
        let mut block = vec![0x1f, 0, 1, 0];
        block.extend(vec![0xff; LZ4_BLOCK / 255 - 1]);
        // Ends with five literals.
        block.extend([0, 0x50, 1, 2, 3, 4, 5]);
        let mut packed = LZ4_MAGIC.to_vec();
        for _ in 0..4 {
            packed.extend((block.len() as u32).to_le_bytes());
            packed.extend(&block);
        }
        let unpacked = lz4(&packed, MAX_UNPACKED).unwrap().len();
        assert!(unpacked > 3 * LZ4_BLOCK);
        lz4(&packed, unpacked).unwrap();
        assert!(matches!(
            lz4(&packed, unpacked - 1),
            Err(LoadError::UnpackedLarge { max }) if max == unpacked - 1
        ));
        let packed = zstd::bulk::compress(&vec![0; LZ4_BLOCK], 1).unwrap();
        zstd(&packed, LZ4_BLOCK).unwrap();
        assert!(matches!(zstd(&packed, LZ4_BLOCK - 1), Err(LoadError::UnpackedLarge { .. })));
    }

    #[test]
    fn millions_of_tiny_blocks() {
        let mut packed = LZ4_MAGIC.to_vec();
        for _ in 0..1_000_000 {
            // One literal.
            packed.extend([2, 0, 0, 0, 0x10, 7]);
        }
        assert!(matches!(unpacked_payload(&packed), Err(LoadError::UnpackedNotElf { .. })));
    }
}
