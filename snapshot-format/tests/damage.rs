//! Damaged and hostile files: an error or the right content, never a panic.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use dejavm_snapshot::{
    DictionaryMode, Error, FORMAT_VERSION, PAGE_SIZE, PageReader, Section, Snapshot, WriteOptions,
    add_working_set,
};
use proptest::prelude::*;
use tempfile::TempDir;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

// Places in the format, from its description.
const HEADER_LEN: usize = 576;
const FOOTER_LEN: usize = 32;
const ENTRY_LEN: usize = 32;
const VERSION_AT: usize = 8;
const FEATURES_AT: usize = 16;
const PARENT_ID_AT: usize = 72;
const ID_AT: usize = 40;
const SECTIONS_AT: usize = 128;
const HEADER_CHECKSUM_AT: usize = 568;

/// The sections in the order of the section table.
const SECTIONS: [Section; 6] = [
    Section::State,
    Section::Dictionary,
    Section::Frames,
    Section::Index,
    Section::Clusters,
    Section::WorkingSet,
];

/// A small snapshot with every section but a dictionary, to be damaged.
struct Sample {
    directory: TempDir,
    bytes: Vec<u8>,
    right: Everything,
}

impl Sample {
    fn new() -> Self {
        let image = [
            text_page(1),
            zero_page(),
            text_page(2),
            text_page(1),
            random_page(3)[..PAGE_SIZE / 2].repeat(2),
        ]
        .concat();
        Self::of(&image, DictionaryMode::Never)
    }

    fn of(image: &[u8], dictionary: DictionaryMode) -> Self {
        let directory = directory();
        let path = directory.path().join("sample.djv");
        let options = WriteOptions { dictionary, ..plain() };
        write_with(&path, &options, image);
        add_working_set(&path, &[2, 1, 0], &[]).unwrap();
        Self { bytes: fs::read(&path).unwrap(), right: read_everything(&path).unwrap(), directory }
    }

    /// Puts bytes in a file.
    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join("damaged.djv");
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Where a section starts and ends.
    fn section(&self, section: Section) -> std::ops::Range<usize> {
        let number = SECTIONS.iter().position(|s| *s == section).unwrap();
        let at = SECTIONS_AT + number * 24;
        let start = read_u64(&self.bytes, at) as usize;
        start..start + read_u64(&self.bytes, at + 8) as usize
    }
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// Makes all checksums right again that have no secret, as a forger would.
fn repair(bytes: &mut [u8]) {
    for number in 0..SECTIONS.len() {
        let at = SECTIONS_AT + number * 24;
        let start = read_u64(bytes, at) as usize;
        let end = start.saturating_add(read_u64(bytes, at + 8) as usize);
        if let Some(section) = bytes.get(start..end) {
            let checksum = xxh3_64(section);
            put(bytes, at + 16, &checksum.to_le_bytes());
        }
    }
    let checksum = xxh3_64(&bytes[..HEADER_CHECKSUM_AT]).to_le_bytes();
    put(bytes, HEADER_CHECKSUM_AT, &checksum);
    let footer = bytes.len() - FOOTER_LEN;
    put(bytes, footer + 16, &checksum);
    let checksum = xxh3_64(&bytes[footer..footer + 24]);
    put(bytes, footer + 24, &checksum.to_le_bytes());
}

/// Makes the check value of an index entry right.
fn repair_entry(bytes: &mut [u8], at: usize, page: u64) {
    let salt = read_u64(bytes, ID_AT);
    let mut input: [u8; ENTRY_LEN] = bytes[at..at + ENTRY_LEN].try_into().unwrap();
    put(&mut input, 24, &page.to_le_bytes());
    let check = xxh3_64_with_seed(&input, salt);
    put(bytes, at + 24, &check.to_le_bytes());
}

/// Whether a file reads as it should, or gives an error.
fn check(path: &Path, right: &Everything) -> bool {
    use_regardless(path, right);
    match read_everything(path) {
        Ok(found) => {
            assert!(&found == right);
            true
        }
        Err(_) => false,
    }
}

#[test]
fn every_flipped_byte_gives_an_error_or_the_right_content() {
    let sample = Sample::new();
    for at in 0..sample.bytes.len() {
        for mask in [0x01, 0xff] {
            let mut bytes = sample.bytes.clone();
            bytes[at] ^= mask;
            let path = sample.file(&bytes);
            let reads_right = check(&path, &sample.right);
            // Nothing at all escapes a full check.
            let verified = Snapshot::open(&path).and_then(|s| s.verify(|_, _| {}));
            assert!(verified.is_err(), "byte {at}");
            if at < HEADER_LEN || at >= bytes.len() - FOOTER_LEN {
                assert!(Snapshot::open(&path).is_err(), "byte {at}");
            }
            let checked_at_use = [Section::State, Section::Index, Section::WorkingSet, Section::Clusters];
            if checked_at_use.iter().any(|section| sample.section(*section).contains(&at)) {
                assert!(!reads_right, "byte {at}");
            }
        }
    }
}

#[test]
fn a_damaged_index_entry_harms_only_its_page() {
    let sample = Sample::new();
    let index = sample.section(Section::Index);
    for page in 0..5 {
        for byte in 0..ENTRY_LEN {
            let mut bytes = sample.bytes.clone();
            bytes[index.start + page * ENTRY_LEN + byte] ^= 0x20;
            let path = sample.file(&bytes);
            let snapshot = Snapshot::open(&path).unwrap();
            for other in 0..5 {
                let entry = snapshot.entry(other as u64);
                if other == page {
                    assert!(matches!(entry, Err(Error::Corrupt { section: Section::Index, .. })));
                } else {
                    entry.unwrap();
                }
            }
        }
    }
}

#[test]
fn damage_names_its_place() {
    let sample = Sample::new();
    for section in SECTIONS {
        let range = sample.section(section);
        if range.is_empty() {
            continue;
        }
        let mut bytes = sample.bytes.clone();
        bytes[range.start] ^= 1;
        let path = sample.file(&bytes);
        let snapshot = Snapshot::open(&path).unwrap();
        match snapshot.verify(|_, _| {}) {
            Err(Error::Corrupt { section: found, offset, .. }) => {
                assert_eq!(found, section);
                assert_eq!(offset, range.start as u64);
            }
            other => panic!("{section}: {other:?}"),
        }
    }
}

#[test]
fn a_damaged_page_gives_zeros_and_an_error() {
    let sample = Sample::new();
    let frames = sample.section(Section::Frames);
    for at in frames.step_by(7) {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 0x55;
        let path = sample.file(&bytes);
        let mut reader = PageReader::new(Snapshot::open(&path).unwrap()).unwrap();
        for page in 0..5 {
            let mut out = [0; PAGE_SIZE];
            match reader.read(page, &mut out) {
                Ok(()) => {}
                Err(Error::CorruptPage { page: found, .. }) => {
                    assert_eq!(found, page);
                    assert_eq!(out, [0; PAGE_SIZE]);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn every_shorter_file_is_refused() {
    let sample = Sample::new();
    for length in 0..sample.bytes.len() {
        let path = sample.file(&sample.bytes[..length]);
        match Snapshot::open(&path) {
            Err(Error::NotASnapshot { reason: "it is empty", .. }) if length == 0 => {}
            Err(Error::Truncated { expected, found, .. }) => {
                assert_eq!(found, length as u64);
                assert!(expected > found);
            }
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn a_longer_file_is_refused() {
    let sample = Sample::new();
    let mut bytes = sample.bytes.clone();
    bytes.push(0);
    assert!(matches!(
        Snapshot::open(sample.file(&bytes)),
        Err(Error::Corrupt { section: Section::Footer, .. })
    ));
}

#[test]
fn a_file_cut_while_open_is_found() {
    let sample = Sample::new();
    let path = sample.file(&sample.bytes);
    let snapshot = Snapshot::open(&path).unwrap();
    let mut reader = PageReader::new(Arc::clone(&snapshot)).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(sample.bytes.len() as u64 - 1).unwrap();
    let is_truncated = |result| matches!(result, Err(Error::Truncated { .. }));
    // What is still there can be read, and is right.
    reader.read(0, &mut [0; PAGE_SIZE]).unwrap();
    assert!(is_truncated(snapshot.verify(|_, _| {}).map(drop)));
    file.set_len(HEADER_LEN as u64).unwrap();
    let mut reader = PageReader::new(Arc::clone(&snapshot)).unwrap();
    assert!(is_truncated(reader.read(0, &mut [0; PAGE_SIZE])));
    assert!(is_truncated(snapshot.entry(1).map(drop)));
    assert!(is_truncated(snapshot.info().map(drop)));
    assert!(is_truncated(snapshot.verify(|_, _| {}).map(drop)));
    let snapshot = {
        fs::write(&path, &sample.bytes).unwrap();
        Snapshot::open(&path).unwrap()
    };
    file.set_len(HEADER_LEN as u64).unwrap();
    let mut reader = PageReader::new(Arc::clone(&snapshot)).unwrap();
    assert!(is_truncated(snapshot.state().map(drop)));
    assert!(is_truncated(snapshot.working_set().map(drop)));
    assert!(is_truncated(reader.working_set_cluster(0, &mut Vec::new()).map(drop)));
}

/// A file that another process cuts, fills again and overwrites, all the time that it is read. It was
/// mapped once, and the process that read it died of SIGBUS.
#[test]
fn a_file_that_changes_all_the_time_gives_right_pages_or_errors() {
    let sample = Sample::of(&text_page(7).repeat(64), DictionaryMode::Never);
    let path = sample.file(&sample.bytes);
    let done = std::sync::atomic::AtomicBool::new(false);
    let (mut right, mut wrong) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::options().write(true).open(&path).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for length in [0, 600, sample.bytes.len() - 4000] {
                    file.set_len(length as u64).unwrap();
                    std::os::unix::fs::FileExt::write_all_at(&file, &sample.bytes, 0).unwrap();
                }
                std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 4000], 700).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, &sample.bytes, 0).unwrap();
            }
        });
        while right < 200 || (wrong < 50 && right < 20_000) {
            match read_everything(&path) {
                Ok(found) => {
                    assert!(found == sample.right);
                    right += 1;
                }
                Err(_) => wrong += 1,
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(wrong > 0, "it was never seen in the middle of a change");
}

#[test]
fn other_files_and_versions_are_told_apart() {
    let sample = Sample::new();
    let with = |at, field: &[u8]| {
        let mut bytes = sample.bytes.clone();
        put(&mut bytes, at, field);
        repair(&mut bytes);
        Snapshot::open(sample.file(&bytes)).unwrap_err()
    };
    assert!(matches!(with(0, b"\x7fELF"), Error::NotASnapshot { .. }));
    let newer = with(VERSION_AT, &(FORMAT_VERSION + 1).to_le_bytes());
    assert!(
        matches!(newer, Error::NewerVersion { found, supported: FORMAT_VERSION, .. } if found > FORMAT_VERSION)
    );
    assert!(newer.to_string().contains("use a newer dejavm"));
    let older = with(VERSION_AT, &1_u32.to_le_bytes());
    assert!(matches!(older, Error::OlderVersion { found: 1, supported: FORMAT_VERSION, .. }));
    assert!(matches!(with(FEATURES_AT, &4_u32.to_le_bytes()), Error::UnsupportedFeature { unknown: 4, .. }));
    assert!(matches!(Snapshot::open(sample.file(&vec![0; 10_000])), Err(Error::NotASnapshot { .. })));
}

#[test]
fn a_file_that_says_it_is_its_own_parent_is_refused() {
    let sample = Sample::new();
    let mut bytes = sample.bytes.clone();
    let id = bytes[ID_AT..ID_AT + 32].to_vec();
    put(&mut bytes, PARENT_ID_AT, &id);
    put(&mut bytes, 272, b"damaged.djv");
    repair(&mut bytes);
    assert!(matches!(Snapshot::open(sample.file(&bytes)), Err(Error::LayerCycle { .. })));
}

#[test]
fn forged_lengths_are_refused_without_allocating_them() {
    let sample = Sample::new();
    for number in 0..SECTIONS.len() {
        for field in 0..2 {
            for value in [0, 1, 1 << 20, 1 << 40, u64::MAX / 2, u64::MAX] {
                let mut bytes = sample.bytes.clone();
                let at = SECTIONS_AT + number * 24 + field * 8;
                put(&mut bytes, at, &u64::to_le_bytes(value));
                repair(&mut bytes);
                // A shorter state with a right checksum is a right state, so
                // only panics and allocations count.
                let _ = read_everything(&sample.file(&bytes));
            }
        }
    }
}

#[test]
fn forged_index_entries_give_errors() {
    let sample = Sample::new();
    let index = sample.section(Section::Index).start;
    let mut numbers = Numbers::new(11);
    for _ in 0..2000 {
        let mut bytes = sample.bytes.clone();
        let page = numbers.below(5);
        let at = index + page * ENTRY_LEN;
        // The kind, the length or the offset, but not the checksum, which a
        // forger could make right for any content.
        match numbers.below(3) {
            0 => bytes[at] = numbers.below(6) as u8,
            1 => put(&mut bytes, at + 2, &(numbers.next() as u16).to_le_bytes()),
            _ => {
                let offset = numbers.next() >> numbers.below(64);
                put(&mut bytes, at + 8, &offset.to_le_bytes());
            }
        }
        repair_entry(&mut bytes, at, page as u64);
        repair(&mut bytes);
        let path = sample.file(&bytes);
        let Ok(snapshot) = Snapshot::open(&path) else {
            continue;
        };
        let _ = read_all(&snapshot);
        let verified = snapshot.verify(|_, _| {});
        assert!(verified.is_err() || bytes == sample.bytes);
    }
}

#[test]
fn forged_frames_never_write_past_a_page() {
    // Frames that decompress to more than a page, or to less.
    let sample = Sample::new();
    let frames = sample.section(Section::Frames);
    let index = sample.section(Section::Index).start;
    for size in [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, 100 * PAGE_SIZE, 1 << 24] {
        let frame = zstd::bulk::compress(&vec![7; size], 3).unwrap();
        // Frames in the file have no magic number.
        let frame = &frame[4..];
        let mut bytes = sample.bytes.clone();
        let room = frame.len().min(frames.len());
        put(&mut bytes, frames.start, &frame[..room]);
        put(&mut bytes, index + 2, &(room as u16).to_le_bytes());
        repair_entry(&mut bytes, index, 0);
        repair(&mut bytes);
        let mut reader = PageReader::new(Snapshot::open(sample.file(&bytes)).unwrap()).unwrap();
        assert!(matches!(reader.read(0, &mut [0; PAGE_SIZE]), Err(Error::CorruptPage { page: 0, .. })));
    }
}

#[test]
fn mutations_in_many_places_are_survived() {
    let sample = Sample::new();
    let mut numbers = Numbers::new(5);
    for round in 0..3000 {
        let mut bytes = sample.bytes.clone();
        for _ in 0..=numbers.below(8) {
            let at = numbers.below(bytes.len());
            let length = 1 + numbers.below(16.min(bytes.len() - at));
            match numbers.below(4) {
                // Random bytes, extreme bytes, bytes from elsewhere, a cut.
                0 => bytes[at..at + length].fill_with(|| numbers.next() as u8),
                1 => bytes[at..at + length].fill([0, 0xff, 0x7f][numbers.below(3)]),
                2 => {
                    let from = numbers.below(bytes.len() - length + 1);
                    bytes.copy_within(from..from + length, at);
                }
                _ if bytes.len() - length >= HEADER_LEN + FOOTER_LEN => {
                    bytes.drain(at..at + length);
                }
                _ => {}
            }
        }
        // Half of them as damage, half as forgery. Forged pages may differ
        // where the checksums were made to fit, so only panics count there.
        if round % 2 == 0 {
            use_regardless(&sample.file(&bytes), &sample.right);
        } else {
            repair(&mut bytes);
            let _ = read_everything(&sample.file(&bytes));
        }
    }
}

#[test]
fn a_damaged_dictionary_is_found_before_any_page_is_read() {
    let sample = Sample::of(&large_image(), DictionaryMode::Always);
    let dictionary = sample.section(Section::Dictionary);
    assert!(!dictionary.is_empty());
    for at in dictionary.step_by(997) {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 1;
        let snapshot = Snapshot::open(sample.file(&bytes)).unwrap();
        assert!(matches!(
            PageReader::new(snapshot),
            Err(Error::Corrupt { section: Section::Dictionary, .. })
        ));
    }
}

#[test]
fn forged_dictionaries_are_survived() {
    let sample = Sample::of(&large_image(), DictionaryMode::Always);
    let dictionary = sample.section(Section::Dictionary);
    let mut numbers = Numbers::new(21);
    for _ in 0..40 {
        let mut bytes = sample.bytes.clone();
        for _ in 0..20 {
            // Mostly in the entropy tables at the front.
            let range = if numbers.below(4) == 0 { dictionary.len() } else { 300 };
            bytes[dictionary.start + numbers.below(range)] = numbers.next() as u8;
        }
        repair(&mut bytes);
        let snapshot = Snapshot::open(sample.file(&bytes)).unwrap();
        let Ok(mut reader) = PageReader::new(snapshot) else {
            continue;
        };
        let mut page = [0; PAGE_SIZE];
        for (number, right) in (0..50).zip(sample.right.image.chunks(PAGE_SIZE)) {
            if reader.read(number, &mut page).is_ok() {
                assert_eq!(page, right);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_are_no_snapshot(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let directory = directory();
        let path = directory.path().join("random.djv");
        fs::write(&path, bytes).unwrap();
        prop_assert!(Snapshot::open(&path).is_err());
    }

    #[test]
    fn random_header_fields_are_survived(
        fields in proptest::collection::vec((FEATURES_AT..HEADER_CHECKSUM_AT - 8, any::<u64>()), 1..4),
        shift in 0..64_u32,
    ) {
        let sample = Sample::new();
        let mut bytes = sample.bytes.clone();
        for (at, value) in fields {
            put(&mut bytes, at, &(value >> shift).to_le_bytes());
        }
        repair(&mut bytes);
        let _ = read_everything(&sample.file(&bytes));
    }
}
