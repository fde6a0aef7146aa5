//! The memory that every variant starts from: a snapshot file of an interpreter's pages.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dejavm_snapshot::{PAGE_SIZE, Snapshot, WriteOptions, add_working_set, write};

use super::Result;

/// What the interpreter does before its memory is read: it imports what a small server would.
const PROGRAM: &str = "import json, re, decimal, http.client, asyncio, sqlite3, hashlib, datetime, sys\n\
                       print('ready', flush=True)\n\
                       sys.stdin.read()";

/// A memory image, with a snapshot file for each order in which its pages may be touched.
pub struct Image {
    /// The pages, none of them zero.
    pub bytes: Vec<u8>,
    /// Where they come from, for people.
    pub origin: String,
    /// Bytes of the pages for each byte that they take in the file.
    pub ratio: f64,
    sequential: Arc<Snapshot>,
    random: Arc<Snapshot>,
    _directory: tempfile::TempDir,
}

/// In which order pages are touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after the other.
    Sequential,
    /// All over the place, each once.
    Random,
}

impl Order {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Order::Sequential => "sequential",
            Order::Random => "random",
        }
    }
}

impl Image {
    /// Takes `pages` pages of an interpreter that has just imported its modules, or of this
    /// executable where there is no interpreter.
    pub fn new(pages: u64) -> Result<Image> {
        let wanted = pages as usize * PAGE_SIZE;
        let (mut bytes, origin) = match interpreter(wanted) {
            Ok(bytes) if !bytes.is_empty() => {
                (bytes, "memory of a python3 with its imports done".to_string())
            }
            _ => (without_zeros(&std::fs::read(std::env::current_exe()?)?), "this executable".to_string()),
        };
        let found = bytes.len() / PAGE_SIZE;
        if found == 0 {
            return Err("no memory image to be had".into());
        }
        // Repeated where there is too little: each copy differs in its first word, so that none is
        // stored by reference.
        let mut copy = 1u64;
        while bytes.len() < wanted {
            let at = bytes.len() % (found * PAGE_SIZE);
            let mut page = bytes[at..at + PAGE_SIZE].to_vec();
            page[..8].copy_from_slice(&(copy << 32 | at as u64 | 1).to_le_bytes());
            bytes.extend(page);
            copy += 1;
        }
        bytes.truncate(wanted);

        let directory = tempfile::tempdir()?;
        let mut ratio = 0.0;
        let mut file = |order: Order| -> Result<Arc<Snapshot>> {
            let path: PathBuf = directory.path().join(order.name());
            let summary = write(&path, &WriteOptions::default(), b"", &mut &bytes[..], &mut |_, _| {})?;
            ratio = bytes.len() as f64 / summary.frames_bytes as f64;
            add_working_set(&path, &order_of(order, 0..pages), &[])?;
            Ok(Snapshot::open(&path)?)
        };
        let (sequential, random) = (file(Order::Sequential)?, file(Order::Random)?);
        Ok(Image { bytes, origin, ratio, sequential, random, _directory: directory })
    }

    /// The snapshot whose working set is the image's pages in this order.
    pub fn snapshot(&self, order: Order) -> &Arc<Snapshot> {
        match order {
            Order::Sequential => &self.sequential,
            Order::Random => &self.random,
        }
    }

    /// The first word of a page.
    pub fn first_word(&self, page: u64) -> u64 {
        let at = page as usize * PAGE_SIZE;
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }
}

/// The pages of a range in an order that is the same in every run.
pub fn order_of(order: Order, pages: std::ops::Range<u64>) -> Vec<u64> {
    let mut pages: Vec<u64> = pages.collect();
    if order == Order::Random {
        // Fisher and Yates, with a linear congruential generator (Knuth's MMIX).
        let mut state = 1u64;
        for i in (1..pages.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            pages.swap(i, (state >> 33) as usize % (i + 1));
        }
    }
    pages
}

fn without_zeros(bytes: &[u8]) -> Vec<u8> {
    let pages = bytes.chunks_exact(PAGE_SIZE);
    pages.filter(|page| page.iter().any(|b| *b != 0)).flatten().copied().collect()
}

/// `wanted` bytes of an interpreter's memory, or fewer where there is less: what it has mapped but
/// for pages of zeros, as a snapshot of it would hold it.
fn interpreter(wanted: usize) -> Result<Vec<u8>> {
    let mut child = Command::new("python3")
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut ready = [0u8; 5];
    let memory = match child.stdout.as_mut() {
        Some(out) => {
            out.read_exact(&mut ready).map_err(Into::into).and_then(|()| memory_of(child.id(), wanted))
        }
        None => Err("no output".into()),
    };
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(b"\n");
    }
    let _ = child.kill();
    child.wait()?;
    memory
}

fn memory_of(process: u32, wanted: usize) -> Result<Vec<u8>> {
    let directory = Path::new("/proc").join(process.to_string());
    let maps = std::fs::read_to_string(directory.join("maps"))?;
    let mut memory = std::fs::File::open(directory.join("mem"))?;
    let mut all = Vec::new();
    for (start, end) in maps.lines().filter_map(readable) {
        let mut bytes = vec![0u8; (end - start) as usize];
        memory.seek(SeekFrom::Start(start))?;
        // The kernel's own mappings cannot be read.
        if memory.read_exact(&mut bytes).is_ok() {
            all.extend(without_zeros(&bytes));
        }
    }
    // A sample of all kinds of pages: code, tables, heap.
    let (found, wanted) = (all.len() / PAGE_SIZE, wanted / PAGE_SIZE);
    let page = |i: usize| &all[i * PAGE_SIZE..(i + 1) * PAGE_SIZE];
    if found <= wanted {
        return Ok(all);
    }
    Ok((0..wanted).flat_map(|i| page(i * found / wanted)).copied().collect())
}

/// The start and end of a line of `maps`, if it can be read.
fn readable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let read = words.next()?.starts_with('r');
    let number = |text| u64::from_str_radix(text, 16).ok();
    // Of the locales' archive hardly a page is ever touched.
    (read && !line.ends_with("locale-archive")).then_some((number(start)?, number(end)?))
}
