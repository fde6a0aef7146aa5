//! The bytes are where `docs/snapshot-format.md` says. This reads a file by
//! that description alone.

mod common;

use std::fs;

use common::*;
use dejavm_snapshot::{ContentId, PAGE_SIZE, add_working_set};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A section's bytes; checks its place and checksum.
fn section(bytes: &[u8], number: usize) -> &[u8] {
    let at = 128 + 24 * number;
    let start = u64_at(bytes, at) as usize;
    let section = &bytes[start..start + u64_at(bytes, at + 8) as usize];
    assert_eq!(start % 64, 0);
    assert_eq!(u64_at(bytes, at + 16), xxh3_64(section));
    section
}

/// Decompresses a frame as the format has it: put zstd's magic number back.
fn decompress(frame: &[u8], length: usize) -> Vec<u8> {
    let mut with_magic = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    with_magic.extend_from_slice(frame);
    zstd::bulk::decompress(&with_magic, length).unwrap()
}

#[test]
fn a_file_is_as_described() {
    let directory = directory();
    let base = directory.path().join("base.djv");
    let path = directory.path().join("layer.djv");
    let base_id = write_plain(&base, &[text_page(1), text_page(2)].concat().repeat(3)).id;
    let image =
        [text_page(1), text_page(5), zero_page(), random_page(6), text_page(5), text_page(7)].concat();
    let id = write_layer(&path, &base, &image).id;
    add_working_set(&path, &[3, 2, 1], &[]).unwrap();
    let bytes = fs::read(&path).unwrap();

    // Header.
    assert_eq!(&bytes[..8], b"\x89DJV\r\n\x1a\n");
    assert_eq!(u32_at(&bytes, 8), 9);
    assert_eq!(u32_at(&bytes, 12), 576);
    assert_eq!(u32_at(&bytes, 16), 0);
    assert_eq!(u32_at(&bytes, 20), 0);
    assert_eq!(u32_at(&bytes, 24), 4096);
    assert_eq!(u32_at(&bytes, 28), 3);
    assert_eq!(u64_at(&bytes, 32), 6);
    assert_eq!(&bytes[40..72], id.as_bytes());
    assert_eq!(&bytes[72..104], base_id.as_bytes());
    assert!(bytes[104..128].starts_with(b"dejavm "));
    assert!(bytes[272..528].starts_with(b"base.djv\0"));
    assert!(bytes[528..568].iter().all(|byte| *byte == 0));
    assert_eq!(u64_at(&bytes, 568), xxh3_64(&bytes[..568]));

    // Sections.
    assert_eq!(section(&bytes, 0), STATE);
    assert!(section(&bytes, 1).is_empty());
    let frames = section(&bytes, 2);
    let index = section(&bytes, 3);
    let clusters = section(&bytes, 4);
    let table = section(&bytes, 5);

    // Index.
    const KINDS: [u8; 6] = [2, 3, 1, 4, 3, 3];
    assert_eq!(index.len(), 6 * 32);
    let salt = u64_at(id.as_bytes(), 0);
    for (page, (entry, content)) in (0_u64..).zip(index.chunks(32).zip(image.chunks(PAGE_SIZE))) {
        let mut input = entry[..24].to_vec();
        input.extend(page.to_le_bytes());
        assert_eq!(u64_at(entry, 24), xxh3_64_with_seed(&input, salt));
        let kind = entry[0];
        assert_eq!(kind, KINDS[page as usize]);
        assert_eq!(entry[1], 0);
        assert_eq!(u32_at(entry, 4), 0);
        let length = usize::from(u16::from_le_bytes([entry[2], entry[3]]));
        let start = u64_at(entry, 8) as usize;
        match kind {
            1 | 2 => assert!(entry[1..24].iter().all(|byte| *byte == 0)),
            3 => {
                assert_eq!(u64_at(entry, 16), xxh3_64(content));
                let frame = &frames[start..start + length];
                assert_eq!(decompress(frame, PAGE_SIZE), content);
            }
            _ => {
                assert_eq!(u64_at(entry, 16), xxh3_64(content));
                assert_eq!(&frames[start..start + length], content);
            }
        }
    }
    assert_eq!(index[32..32 + 24], index[4 * 32..4 * 32 + 24], "repeated");

    // Working set.
    assert_eq!(u32_at(table, 0), 3);
    assert_eq!(u32_at(table, 4), 1);
    assert_eq!(u32_at(table, 8), 1, "wanted first");
    assert_eq!(u32_at(table, 12), 0);
    assert_eq!(u64_at(table, 16), 2 | 1 << 63);
    assert_eq!(u64_at(table, 24), 1);
    assert_eq!(u64_at(table, 32), 3);
    assert_eq!(u64_at(table, 40), 0);
    assert_eq!(u32_at(table, 48) as usize, clusters.len());
    assert_eq!(u32_at(table, 52), 2);
    assert_eq!(u64_at(table, 56), xxh3_64(clusters));
    assert_eq!(table.len(), 64);
    assert_eq!(decompress(clusters, 2 * PAGE_SIZE), [text_page(5), random_page(6)].concat());

    // Footer.
    let footer = &bytes[bytes.len() - 32..];
    assert_eq!(&footer[..8], b"\x89DJVEND\n");
    assert_eq!(u64_at(footer, 8), bytes.len() as u64);
    assert_eq!(u64_at(footer, 16), u64_at(&bytes, 568));
    assert_eq!(u64_at(footer, 24), xxh3_64(&footer[..24]));

    // Content id.
    let mut hash = blake3::Hasher::new_derive_key("dejavm snapshot content id, version 1");
    hash.update(&4096_u64.to_le_bytes());
    hash.update(&6_u64.to_le_bytes());
    hash.update(base_id.as_bytes());
    hash.update(&(STATE.len() as u64).to_le_bytes());
    hash.update(STATE);
    for (kind, content) in KINDS.into_iter().zip(image.chunks(PAGE_SIZE)) {
        match kind {
            1 => hash.update(&[0]),
            2 => hash.update(&[1]),
            _ => hash.update(&[2]).update(blake3::hash(content).as_bytes()),
        };
    }
    assert_eq!(id, ContentId::from_bytes(hash.finalize().into()));
}
