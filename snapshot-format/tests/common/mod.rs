//! Images to test with, and shorthands.

// Each test file uses a part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dejavm_snapshot::{
    Content, ContentsError, DictionaryMode, Hole, PAGE_SIZE, PageContents, PageReader, Result, Snapshot,
    Summary, WriteOptions, write,
};
use tempfile::TempDir;

/// The machine state in all tests that do not care.
pub const STATE: &[u8] = b"the machine state, opaque to the format";

/// A directory that goes away with the test.
pub fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Numbers that look random and are the same in every run.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (SplitMix64).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A page that does not compress.
pub fn random_page(seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    (0..PAGE_SIZE / 8).flat_map(|_| numbers.next().to_le_bytes()).collect()
}

/// A page that compresses, different for each seed.
pub fn text_page(seed: u64) -> Vec<u8> {
    const WORDS: [&str; 8] = ["page ", "frame ", "index ", "state ", "guest ", "fault ", "clock ", "queue "];
    let mut numbers = Numbers::new(seed);
    let mut page = format!("page {seed}: ").into_bytes();
    while page.len() < PAGE_SIZE {
        page.extend(WORDS[numbers.below(WORDS.len())].bytes());
    }
    page.truncate(PAGE_SIZE);
    page
}

/// A page of zeros.
pub fn zero_page() -> Vec<u8> {
    vec![0; PAGE_SIZE]
}

/// Eight pages with one of each kind: zero, text, random and repeated.
pub fn mixed_image() -> Vec<u8> {
    [
        text_page(1),
        zero_page(),
        random_page(2),
        text_page(1),
        text_page(3),
        zero_page(),
        random_page(2),
        text_page(4),
    ]
    .concat()
}

/// An image big enough for a dictionary to pay.
pub fn large_image() -> Vec<u8> {
    (0..2000).flat_map(text_page).collect()
}

/// Options that leave nothing to the data.
pub fn plain() -> WriteOptions {
    WriteOptions { dictionary: DictionaryMode::Never, threads: 1, ..WriteOptions::default() }
}

/// Writes an image without options.
pub fn write_plain(path: &Path, image: &[u8]) -> Summary {
    write_with(path, &plain(), image)
}

/// Writes an image.
pub fn write_with(path: &Path, options: &WriteOptions, mut image: &[u8]) -> Summary {
    write(path, options, STATE, &mut image, &mut |_, _| {}).unwrap()
}

/// Writes a layer over the snapshot at `parent`.
pub fn write_layer(path: &Path, parent: &Path, image: &[u8]) -> Summary {
    let options = WriteOptions { parent: Some(Snapshot::open(parent).unwrap()), ..plain() };
    write_with(path, &options, image)
}

/// All pages of a snapshot.
pub fn read_all(snapshot: &Arc<Snapshot>) -> Result<Vec<u8>> {
    let mut reader = PageReader::new(Arc::clone(snapshot))?;
    let mut image = Vec::new();
    let mut page = [0xee; PAGE_SIZE];
    for number in 0..snapshot.page_count() {
        reader.read(number, &mut page)?;
        image.extend_from_slice(&page);
    }
    Ok(image)
}

/// Everything that can be read from a file: state, pages, working set.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Everything {
    pub state: Vec<u8>,
    pub image: Vec<u8>,
    pub order: Vec<u64>,
    pub clusters: Vec<(Vec<u64>, Vec<u8>)>,
}

/// Reads everything from a file.
pub fn read_everything(path: &Path) -> Result<Everything> {
    let snapshot = Snapshot::open(path)?;
    let state = snapshot.state()?.to_vec();
    let image = read_all(&snapshot)?;
    let mut order = Vec::new();
    let mut clusters = Vec::new();
    if let Some(set) = snapshot.working_set()? {
        order = set.pages().to_vec();
        let mut reader = PageReader::new(Arc::clone(&snapshot))?;
        for cluster in 0..set.cluster_count() {
            let mut contents = Vec::new();
            let pages = reader.working_set_cluster(cluster, &mut contents)?;
            clusters.push((pages, contents));
        }
    }
    snapshot.info()?;
    Ok(Everything { state, image, order, clusters })
}

/// Uses a file as a careless caller would: after an error goes on with the
/// next thing. Only for finding panics, and for checking what is read without
/// an error against what is right.
pub fn use_regardless(path: &Path, right: &Everything) {
    let Ok(snapshot) = Snapshot::open(path) else {
        return;
    };
    if let Ok(state) = snapshot.state() {
        assert_eq!(state, right.state);
    }
    let _ = snapshot.info();
    let _ = snapshot.verify(|_, _| {});
    let Ok(mut reader) = PageReader::new(Arc::clone(&snapshot)) else {
        return;
    };
    let mut page = [0xee; PAGE_SIZE];
    for (number, right) in (0..snapshot.page_count()).zip(right.image.chunks(PAGE_SIZE)) {
        let _ = snapshot.entry(number);
        if reader.read(number, &mut page).is_ok() {
            assert_eq!(page, right);
        }
    }
    let mut contents = Vec::new();
    if let Ok(Some(set)) = snapshot.working_set() {
        for cluster in 0..set.cluster_count() {
            if let Ok(pages) = reader.working_set_cluster(cluster, &mut contents) {
                for (page, content) in pages.iter().zip(contents.chunks(PAGE_SIZE)) {
                    let start = *page as usize * PAGE_SIZE;
                    assert_eq!(content, &right.image[start..start + PAGE_SIZE]);
                }
            }
        }
    }
}

/// A sparse source: pages by number, holes between.
pub struct Sparse {
    pub page_count: u64,
    pub hole: Hole,
    pub pages: Vec<(u64, Content, Vec<u8>)>,
    /// Which pages were asked for, in order.
    pub asked: Vec<u64>,
}

impl Sparse {
    pub fn new(page_count: u64, hole: Hole, pages: Vec<(u64, Content, Vec<u8>)>) -> Self {
        Self { page_count, hole, pages, asked: Vec::new() }
    }
}

impl PageContents for Sparse {
    fn page_count(&self) -> u64 {
        self.page_count
    }

    fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
        self.asked.push(page);
        let found = self.pages.iter().find(|(number, ..)| *number == page);
        let (_, content, bytes) = found.ok_or("asked for a page in a hole")?;
        if *content == Content::Data {
            out.copy_from_slice(bytes);
        }
        Ok(*content)
    }

    fn next_data(&mut self, from: u64) -> Option<u64> {
        let numbers = self.pages.iter().map(|(number, ..)| *number);
        numbers.filter(|number| *number >= from).min()
    }

    fn hole(&self) -> Hole {
        self.hole
    }
}

/// The files in a directory, sorted.
pub fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
