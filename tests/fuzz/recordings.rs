//! Recordings that lie, with all checksums and digests right: an error with a name, a divergence, or the run
//! that was recorded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dejavm::replay::{KeyedRecord, LOG_FILE, MANIFEST_FILE, Recording, RunDigest, START_FILE, WorldRecord};
use dejavm::snapshot::codec;
use dejavm::{Evict, Exit, ExitKind, Fault, Grant, Host, Outcome, Program, Replay, Report, View};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::harness::{Draw, Fuzzer, build, kind_of, name_of};
use crate::shape::Node;

/// The longest that one may run.
const DEADLINE: Duration = Duration::from_millis(500);
const MEMORY: u64 = 128 << 20;
const DISK: u64 = 16 << 20;

// The log's format: `docs/log-format.md`.
const FILE_HEADER: usize = 32;
const BLOCK_HEADER: usize = 72;
const RECORDS: u8 = 1;
const BLOB: u8 = 2;
const KEYED: u8 = 3;
const END: u8 = 4;

/// An entry of a block of records.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Stored {
    Exit(StoredExit),
    Fault(Fault),
    World(WorldRecord),
}

/// An exit without what its place says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredExit {
    task: u32,
    kind: ExitKind,
    rip: u64,
    result: u64,
    effects: u64,
    clock_delta: u64,
}

/// A block: its header, and what it holds.
#[derive(Clone)]
struct Block {
    header: Vec<u8>,
    raw: Vec<u8>,
}

impl Block {
    fn kind(&self) -> u8 {
        self.header[4]
    }
}

/// A recording, and the run that it is of.
struct Real {
    dir: PathBuf,
    head: Vec<u8>,
    blocks: Vec<Block>,
    manifest: serde_json::Value,
    run: Report,
}

fn blocks_of(log: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut at = FILE_HEADER;
    while let Some(header) = log.get(at..at + BLOCK_HEADER) {
        if &header[..4] != b"DVMB" {
            break;
        }
        let length = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four")) as usize;
        let stored = &log[at + BLOCK_HEADER..][..length(20)];
        let raw = match header[5] {
            1 => zstd::bulk::decompress(stored, length(16)).expect("zstd"),
            _ => stored.to_vec(),
        };
        at += BLOCK_HEADER + length(20);
        blocks.push(Block { header: header.to_vec(), raw });
    }
    blocks
}

impl Real {
    fn make(host: &Host, dir: &Path) -> Real {
        let guest = dir.join("guest");
        std::fs::create_dir(&guest).expect("a directory");
        build(&guest, "guests/fuzz_recorded.c", &["-static"]);
        for number in 0..3 {
            std::fs::write(guest.join(format!("file{number}")), format!("{number} line\n").repeat(30_000))
                .expect("a file");
        }
        let recording = dir.join("recording");
        let run = Program::new("/guest/fuzz_recorded")
            .view(View::nothing().show("/guest", Grant::directory(&guest)))
            .memory(MEMORY)
            .disk(DISK)
            .stdin("some\ninput\n".repeat(100))
            .capture_output()
            .record(&recording)
            .start(host)
            .and_then(|mut sandbox| sandbox.run())
            .expect("a run");
        assert_eq!(run.outcome, Outcome::Exited(7));
        let log = std::fs::read(recording.join(LOG_FILE)).expect("a log");
        let manifest = std::fs::read(recording.join(MANIFEST_FILE)).expect("a manifest");
        let real = Real {
            dir: recording,
            head: log[..FILE_HEADER].to_vec(),
            blocks: blocks_of(&log),
            manifest: serde_json::from_slice(&manifest).expect("JSON"),
            run,
        };
        for kind in [RECORDS, BLOB, KEYED, END] {
            assert!(real.blocks.iter().any(|block| block.kind() == kind), "no block of kind {kind}");
        }
        real
    }

    /// Writes a recording that lies; says which part.
    fn forge(&self, draw: &mut Draw, dir: &Path) -> &'static str {
        let mut blocks = self.blocks.clone();
        let mut manifest = self.manifest.clone();
        let of_kind = |blocks: &[Block], draw: &mut Draw, kind| {
            let all: Vec<usize> = (0..blocks.len()).filter(|n| blocks[*n].kind() == kind).collect();
            *draw.one_of(&all)
        };
        let mut sealed = draw.once_in(3);
        let what = match draw.below(12) {
            0..5 => {
                let at = of_kind(&blocks, draw, RECORDS);
                let records: Vec<Stored> = codec::decode(&blocks[at].raw).expect("records");
                let mut node = Node::of(&records);
                assert_eq!(node.encode(), blocks[at].raw, "the shape is the records'");
                node.lie(draw);
                blocks[at].raw = node.encode();
                "records"
            }
            5 | 6 => {
                let at = of_kind(&blocks, draw, KEYED);
                let records: Vec<KeyedRecord> = codec::decode(&blocks[at].raw).expect("keyed records");
                let mut node = Node::of(&records);
                node.lie(draw);
                blocks[at].raw = node.encode();
                "keyed"
            }
            7 => {
                let at = of_kind(&blocks, draw, BLOB);
                draw.spoil(&mut blocks[at].raw);
                "blob"
            }
            8 => {
                let at = draw.below(blocks.len());
                draw.spoil(&mut blocks[at].header[4..56]);
                "header"
            }
            9 => {
                let (at, to) = (draw.below(blocks.len()), draw.below(blocks.len()));
                match draw.below(3) {
                    0 => drop(blocks.remove(at)),
                    1 => blocks.swap(at, to),
                    _ => {
                        let again = blocks[at].clone();
                        blocks.insert(to, again);
                    }
                }
                "order"
            }
            10 => {
                sealed = true;
                let at = of_kind(&blocks, draw, END);
                draw.spoil(&mut blocks[at].raw);
                "end"
            }
            _ => {
                lie_in_json(&mut manifest, draw);
                "manifest"
            }
        };
        if !sealed {
            blocks.retain(|block| block.kind() != END);
            for field in ["end", "exits", "digest"] {
                manifest.as_object_mut().map(|fields| fields.remove(field));
            }
            manifest["complete"] = false.into();
        }
        let right_digests = what == "records" && !draw.once_in(4);
        if right_digests {
            let (exits, digest) = digest_again(&mut blocks);
            if sealed && manifest["complete"] == true {
                manifest["exits"] = exits.into();
                manifest["digest"] = digest.to_string().into();
                blocks.retain(|block| block.kind() != END);
                manifest["complete"] = false.into();
            }
        }
        std::fs::write(dir.join(LOG_FILE), self.log_of(&blocks, what != "header")).expect("room");
        std::fs::write(dir.join(MANIFEST_FILE), manifest.to_string()).expect("room");
        std::fs::hard_link(self.dir.join(START_FILE), dir.join(START_FILE)).expect("a link");
        what
    }

    /// A log of these blocks, with right checksums, numbers unless a header lies, and places in the index.
    fn log_of(&self, blocks: &[Block], renumber: bool) -> Vec<u8> {
        let mut log = self.head.clone();
        for (number, block) in blocks.iter().enumerate() {
            let start = log.len() as u64;
            let mut header = block.header.clone();
            if renumber {
                header[8..16].copy_from_slice(&(number as u64).to_le_bytes());
                let length = (block.raw.len() as u32).to_le_bytes();
                header[16..20].copy_from_slice(&length);
                header[20..24].copy_from_slice(&length);
            }
            header[5] = 0;
            header[56..64].copy_from_slice(&xxh3_64(&block.raw).to_le_bytes());
            let sum = xxh3_64(&header[..64]);
            header[64..72].copy_from_slice(&sum.to_le_bytes());
            let is_end = block.kind() == END;
            log.extend(header);
            log.extend(&block.raw);
            if is_end {
                let mut trailer = b"DEJAVEND".to_vec();
                trailer.extend(start.to_le_bytes());
                trailer.extend([0; 8]);
                trailer.extend(xxh3_64(&trailer).to_le_bytes());
                log.extend(trailer);
            }
        }
        log
    }

    /// Reads the recording in `dir` in every way, and replays it.
    fn take(&self, host: &Host, draw: &mut Draw, dir: &Path) -> Result<String, String> {
        let recording = match Recording::open(dir) {
            Ok(recording) => recording,
            Err(e) => return Ok(format!("not opened: {}", name_of(&e.into()))),
        };
        if draw.once_in(4) {
            let _ = (recording.info().is_ok(), recording.digest().is_ok(), recording.verify().is_ok());
            let _ = recording.records_from(draw.number(3)).map_while(Result::ok).count();
            for record in recording.records().map_while(Result::ok) {
                let _ = dejavm::replay::text::format_record(&record);
                let _ = dejavm::replay::text::json_record(&record);
            }
        }
        let mut replay = Replay::of(recording).memory(MEMORY).disk(DISK).capture_output().deadline(DEADLINE);
        if draw.once_in(4) {
            replay = replay.evict(Evict { every: 11, seed: draw.next() });
        }
        let mut sandbox = match replay.start(host) {
            Ok(sandbox) => sandbox,
            Err(e) => return Ok(format!("not started: {}", name_of(&e))),
        };
        let run = match sandbox.run() {
            Ok(run) => run,
            Err(e) => return Ok(format!("failed: {}", name_of(&e))),
        };
        let end = kind_of(run.outcome);
        Ok(match run.outcome.end() {
            None => format!("ran: {end}"),
            Some(_) if (run.outcome, &run.stdout) == (self.run.outcome, &self.run.stdout) => "the run".into(),
            // An answer of the outside and everything that comes of it: another run, which could have been.
            Some(_) => format!("another run: {end}"),
        })
    }
}

/// Makes the headers of records blocks say what is in them. Gives the number of exits and their digest.
fn digest_again(blocks: &mut [Block]) -> (u64, RunDigest) {
    let mut digest = RunDigest::new();
    let mut exits = 0;
    let mut started = false;
    for block in blocks {
        if block.kind() != BLOB {
            block.header[40..56].copy_from_slice(&digest.bytes());
        }
        if block.kind() != RECORDS {
            continue;
        }
        let first = u64::from_le_bytes(block.header[24..32].try_into().expect("eight"));
        let next = if started { exits + 1 } else { first.max(1) };
        let Ok(records) = codec::decode::<Vec<Stored>>(&block.raw) else { break };
        let (mut clock, mut count) = (0u64, 0u32);
        for record in records {
            if let Stored::Exit(StoredExit { task, kind, rip, result, effects, clock_delta }) = record {
                clock = clock.wrapping_add(clock_delta);
                let number = next + u64::from(count);
                digest.add(&Exit { number, task, kind, rip, result, effects, clock });
                exits = number;
                count += 1;
                started = true;
            }
        }
        if first > 0 || count > 0 {
            block.header[24..32].copy_from_slice(&next.to_le_bytes());
        }
        block.header[32..36].copy_from_slice(&count.to_le_bytes());
    }
    (exits, digest)
}

/// Changes a value of the manifest.
fn lie_in_json(value: &mut serde_json::Value, draw: &mut Draw) {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            let name = draw.one_of(&names).clone();
            if draw.once_in(8) {
                fields.remove(&name);
            } else {
                lie_in_json(&mut fields[&name], draw);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = draw.below(items.len());
            lie_in_json(&mut items[at], draw);
        }
        Value::Number(number) => *value = draw.number(number.as_u64().unwrap_or(0)).into(),
        Value::String(text) => {
            *text = match draw.below(4) {
                0 => String::new(),
                1 => text.repeat(1 + draw.below(200)),
                2 => "../../../../etc/passwd".into(),
                _ => text.chars().rev().collect(),
            }
        }
        other => {
            *other = draw.one_of(&[Value::Null, true.into(), false.into(), 7.into(), "x".into()]).clone()
        }
    }
}

#[test]
fn recordings() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = Host::probe().expect("KVM");
    let real = Real::make(&host, dir.path());
    let fuzzer = Fuzzer { name: "recordings", cases: 120, time: DEADLINE * 2, grants: MEMORY + DISK };
    fuzzer.run(|seed| {
        let mut draw = Draw::new(seed);
        let at = tempfile::tempdir_in(dir.path()).map_err(|e| e.to_string())?;
        let what = real.forge(&mut draw, at.path());
        Ok(format!("{what:8} {}", real.take(&host, &mut draw, at.path())?))
    });
}
