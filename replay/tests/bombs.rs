//! Logs of some kilobytes that claim gigabytes, with all checksums right: an error, and memory in
//! proportion to the file. The 308 KB log with which a replay once held 16.5 GB is among them.

mod common;

use std::path::Path;
use std::process::Command;

use common::*;
use dejavm_replay::{
    Answer, BlobId, BlobKind, Error, KeyedRecord, MAX_BLOCK, MAX_RECORDS, Recorder, Recording, Replayer,
};
use dejavm_sandbox::world::{HostPath, Response};
use dejavm_snapshot::codec;
use xxhash_rust::xxh3::xxh3_64;

/// Most memory that reading one of these logs may take, besides what the test itself has.
const MOST: u64 = 160 << 20;

/// Blocks of keyed answers, each as long as it may be: more than a log of their length can have.
const BLOCKS: u32 = 24;

const RECORDS: u8 = 1;
const BLOB: u8 = 2;
const KEYED: u8 = 3;
const END: u8 = 4;

/// A block with right checksums.
fn block(kind: u8, number: u64, id: [u8; 16], raw: &[u8]) -> Vec<u8> {
    let stored = zstd::bulk::compress(raw, 1).expect("zstd");
    let mut header = vec![0; 72];
    header[0..4].copy_from_slice(b"DVMB");
    header[4] = kind;
    header[5] = 1;
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..20].copy_from_slice(&(raw.len() as u32).to_le_bytes());
    header[20..24].copy_from_slice(&(stored.len() as u32).to_le_bytes());
    header[40..56].copy_from_slice(&id);
    header[56..64].copy_from_slice(&xxh3_64(&stored).to_le_bytes());
    let sum = xxh3_64(&header[..64]);
    header[64..72].copy_from_slice(&sum.to_le_bytes());
    [header, stored].concat()
}

/// A recording whose log has these blocks and no end.
fn recording_of(blocks: impl IntoIterator<Item = (u8, [u8; 16], Vec<u8>)>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    drop(Recorder::create(dir.path(), manifest()).expect("a recorder"));
    let path = dir.path().join("log");
    let mut log = std::fs::read(&path).expect("a log");
    log.truncate(32);
    let digest = dejavm_replay::RunDigest::new().bytes();
    let mut packed = std::collections::HashMap::new();
    for (number, (kind, id, raw)) in (0u64..).zip(blocks) {
        let id = if kind == BLOB { id } else { digest };
        // The same payload is compressed once.
        let block = packed.entry((kind, raw.clone())).or_insert_with(|| block(kind, 0, id, &raw)).clone();
        let mut block = block;
        block[8..16].copy_from_slice(&number.to_le_bytes());
        let sum = xxh3_64(&block[..64]);
        block[64..72].copy_from_slice(&sum.to_le_bytes());
        log.extend_from_slice(&block);
    }
    std::fs::write(&path, log).expect("room");
    dir
}

/// Encoded keyed answers of about so many bytes, none with the key of another.
fn keyed(bytes: usize, name: &str, answer: impl Fn(u64) -> Answer) -> Vec<u8> {
    let record = |block| KeyedRecord {
        path: HostPath { grant: 0, path: name.as_bytes().to_vec() },
        block,
        answer: answer(block),
    };
    let one = codec::encode(&record(0)).expect("encodes").len();
    let records: Vec<KeyedRecord> = (0..(bytes / one) as u64 - 1).map(record).collect();
    codec::encode(&records).expect("encodes")
}

fn empty(_: u64) -> Answer {
    Answer::Inline(Response::Block(Ok(Vec::new().into())))
}

/// The logs, by name.
fn bomb(name: &str) -> tempfile::TempDir {
    match name {
        // What held 16.5 GB: blocks of keyed answers as long as blocks may be.
        "long-keyed" => recording_of([(KEYED, [0; 16], keyed(MAX_BLOCK, "f", empty))]),
        "many-keyed" => {
            recording_of((0..BLOCKS).map(|n| (KEYED, [0; 16], keyed(MAX_RECORDS, &format!("f{n}"), empty))))
        }
        "inline" => {
            let long = |_| Answer::Inline(Response::Block(Ok(vec![0; 60_000].into())));
            recording_of((0..BLOCKS).map(|n| (KEYED, [0; 16], keyed(MAX_RECORDS, &format!("f{n}"), long))))
        }
        "long-records" => recording_of([(RECORDS, [0; 16], vec![0; MAX_BLOCK])]),
        // The number of entries, then nothing.
        "counts" => recording_of([(RECORDS, [0; 16], vec![0xff; 8]), (KEYED, [0; 16], vec![0xff; 8])]),
        "faults" => {
            // Faults: the most records for their bytes.
            let count = (MAX_RECORDS - 8) / 20;
            let mut raw = (count as u64).to_le_bytes().to_vec();
            for _ in 0..count {
                raw.extend_from_slice(&[1, 0, 0, 0]);
                raw.extend_from_slice(&[0; 16]);
            }
            recording_of((0..8).map(|_| (RECORDS, [0; 16], raw.clone())))
        }
        "contents" => {
            // One content of the greatest length, of which many answers speak.
            let content = vec![7; MAX_BLOCK];
            let id = BlobId::of(&content);
            let block = |_| Answer::Blob { kind: BlobKind::Block, id, len: MAX_BLOCK as u32 };
            recording_of([(BLOB, id.0, content), (KEYED, [0; 16], keyed(1 << 20, "f", block))])
        }
        "many-contents" => recording_of((0..12u32).map(|n| {
            let content = n.to_le_bytes().repeat(MAX_BLOCK / 4);
            (BLOB, BlobId::of(&content).0, content)
        })),
        "end" => recording_of([(END, [0; 16], vec![0; MAX_BLOCK])]),
        other => panic!("{other}?"),
    }
}

const BOMBS: [&str; 9] = [
    "long-keyed",
    "many-keyed",
    "inline",
    "long-records",
    "counts",
    "faults",
    "contents",
    "many-contents",
    "end",
];

/// Reads all of a log in every way. A process of its own, so that its peak is known.
fn read(dir: &Path) {
    let Ok(recording) = Recording::open(dir) else { return };
    let _ = (recording.info(), recording.digest(), recording.verify());
    let _ = recording.records().map_while(Result::ok).count();
    let Ok(replayer) = Replayer::new(recording) else { return };
    let mut replayed = replayer.observer();
    let _ = drive(&sample(20), &mut *replayer.world(dejavm_replay::Outputs::sink()), &mut *replayed);
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

/// Reads the log that the environment names, as a process of its own.
#[test]
fn reader() {
    let Some(dir) = std::env::var_os("DEJAVM_TEST_BOMB") else { return };
    let before = peak();
    read(Path::new(&dir));
    println!("PEAK {}", peak() - before);
}

#[test]
fn memory_is_in_proportion_to_the_file() {
    for name in BOMBS {
        let dir = bomb(name);
        let size = std::fs::metadata(dir.path().join("log")).expect("a log").len();
        let mut reader = Command::new(std::env::current_exe().expect("this test"));
        reader.args(["--exact", "reader", "--nocapture"]).env("DEJAVM_TEST_BOMB", dir.path());
        let done = reader.output().expect("it runs");
        let text = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{name}: {text}");
        let peak = text.split("PEAK ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let peak: u64 = peak.expect("a peak").parse().expect("a number");
        println!("{name}: {size} bytes, peak {} KiB", peak >> 10);
        assert!(peak < MOST, "{name}: a log of {size} bytes takes {} MiB", peak >> 20);
    }
}

#[test]
fn each_has_an_error_with_a_name() {
    let corrupt = |result: Result<(), Error>, name: &str| {
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{name}: {result:?}");
    };
    for name in ["long-keyed", "long-records", "counts", "contents", "end"] {
        let dir = bomb(name);
        let recording = Recording::open(dir.path()).expect("its header is sound");
        let damaged = matches!(recording.ending(), dejavm_replay::Ending::Damaged { .. });
        match damaged {
            true => {}
            false => corrupt(recording.verify(), name),
        }
    }
    for name in ["many-keyed", "inline"] {
        let dir = bomb(name);
        corrupt(Replayer::open(dir.path()).map(drop), name);
    }
}
