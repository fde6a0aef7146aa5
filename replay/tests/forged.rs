//! Logs that someone made up, with all checksums right: an error or other records, never a panic, a
//! hang or an answer that was not asked for.

mod common;

use std::path::Path;

use common::damaged::*;
use common::*;
use dejavm_replay::{Error, Outputs, Record, Recorder, Recording, Replayer};
use dejavm_sandbox::world::{Request, Response, Stream, World, WorldError};
use proptest::prelude::*;

/// A log with the payload of its blocks changed by `change` and all checksums right.
fn forge(log: &[u8], mut change: impl FnMut(usize, u8, &mut Vec<u8>)) -> Vec<u8> {
    use xxhash_rust::xxh3::xxh3_64;
    let mut out = log[..32].to_vec();
    let mut at = 32;
    let mut number = 0;
    while at + 72 <= log.len() {
        let mut header = log[at..at + 72].to_vec();
        let len = u32::from_le_bytes(header[20..24].try_into().unwrap()) as usize;
        let stored = &log[at + 72..at + 72 + len];
        let raw_len = u32::from_le_bytes(header[16..20].try_into().unwrap()) as usize;
        let mut raw = match header[5] {
            1 => zstd::bulk::decompress(stored, raw_len).unwrap(),
            _ => stored.to_vec(),
        };
        change(number, header[4], &mut raw);
        header[5] = 0;
        let new_len = (raw.len() as u32).to_le_bytes();
        header[16..20].copy_from_slice(&new_len);
        header[20..24].copy_from_slice(&new_len);
        header[56..64].copy_from_slice(&xxh3_64(&raw).to_le_bytes());
        let sum = xxh3_64(&header[..64]);
        header[64..72].copy_from_slice(&sum.to_le_bytes());
        let end = header[4] == 4;
        let start = out.len() as u64;
        out.extend_from_slice(&header);
        out.extend_from_slice(&raw);
        if end {
            let mut trailer = b"DEJAVEND".to_vec();
            trailer.extend_from_slice(&start.to_le_bytes());
            trailer.extend_from_slice(&[0; 8]);
            let sum = xxh3_64(&trailer);
            trailer.extend_from_slice(&sum.to_le_bytes());
            out.extend_from_slice(&trailer);
            break;
        }
        at += 72 + len;
        number += 1;
    }
    out
}

/// Reads and replays whatever there is, to see that it ends.
fn survive(good: &Good, dir: &Path) {
    let Ok(recording) = Recording::open(dir) else {
        return;
    };
    let read: Vec<Record> = recording.records().map_while(Result::ok).collect();
    let _ = answers(&recording, &read);
    for exit in [0, 1, 5, EXITS, EXITS + 1, u64::MAX] {
        let _ = recording.records_from(exit).count();
    }
    let _ = (recording.verify(), recording.info(), recording.digest(), recording.exit_count());
    for record in &read {
        let _ = (dejavm_replay::text::format_record(record), dejavm_replay::text::json_record(record));
    }
    let Ok(replayer) = Replayer::new(recording) else {
        return;
    };
    let mut world = replayer.world(Outputs::sink());
    let (answers, _) = drive(&good.steps, &mut *world, &mut *replayer.observer());
    for (step, answer) in good.steps.iter().filter(|s| s.request().is_some()).zip(answers) {
        match (step, answer) {
            (Step::Input(max), Response::Input(Ok(bytes))) => assert!(bytes.len() <= *max),
            (Step::Output(_, data), Response::Output(Ok(taken))) => assert!(taken <= data.len()),
            (step, answer) => assert_eq!(step.request().unwrap().name(), answer.name()),
        }
    }
    if let Some(divergence) = replayer.divergence() {
        let _ = divergence.to_string();
    }
}

#[test]
fn an_unchanged_forgery_is_the_same() {
    let good = good(true);
    let mut kinds = [0; 5];
    let log = forge(&good.log, |_, kind, _| kinds[kind as usize] += 1);
    assert!(kinds[1] > 2 && kinds[2] > 2 && kinds[3] > 1 && kinds[4] == 1, "{kinds:?}");
    // The index speaks of places that moved: contents are not where it says.
    assert_eq!(read(&good, put(&good, &log).path()), Seen::Broken(good.records.len()));
    let without_index = forge(&good.log, |_, kind, raw| {
        if kind == 4 {
            // End, status, count, digest; then no index.
            raw.truncate(4 + 4 + 8 + 16);
            raw.push(0);
        }
    });
    assert_eq!(read(&good, put(&good, &without_index).path()), Seen::Whole);
}

#[test]
fn a_content_that_is_not_what_its_name_says() {
    let good = good(true);
    let log = forge(&good.log, |_, kind, raw| {
        if kind == 2 {
            raw[0] ^= 1;
        }
        if kind == 4 {
            raw.truncate(4 + 4 + 8 + 16);
            raw.push(0);
        }
    });
    let dir = put(&good, &log);
    assert_eq!(read(&good, dir.path()), Seen::Broken(good.records.len()));
    replay(&good, dir.path());
    assert!(matches!(Recording::open(dir.path()).unwrap().verify(), Err(Error::Corrupt { .. })));
}

/// Blocks of two runs that differ in one exit, with the same numbers and lengths.
#[test]
fn a_block_of_another_run() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut options = small_blocks();
    options.block_bytes = 600;
    let logs = [0, 1].map(|run| {
        let mut steps: Vec<Step> = (1..60).map(|n| syscall(n, 1)).collect();
        if let Step::Exit(exit) = &mut steps[0] {
            exit.effects = run;
        }
        record(dirs[run as usize].path(), &steps, options.clone(), None);
        forge(&std::fs::read(dirs[run as usize].path().join("log")).unwrap(), |_, _, _| ())
    });
    let first = 32 + 72 + u32::from_le_bytes(logs[0][52..56].try_into().unwrap()) as usize;
    assert_eq!(logs[0].len(), logs[1].len());
    let mixed = [&logs[0][..first], &logs[1][first..]].concat();
    std::fs::write(dirs[0].path().join("log"), mixed).unwrap();
    let recording = Recording::open(dirs[0].path()).unwrap();
    let exits: Vec<_> = recording.exits().collect();
    assert!(exits[..6].iter().all(Result::is_ok));
    assert!(matches!(exits[6], Err(Error::Corrupt { offset, .. }) if offset == first as u64));
    assert_eq!(exits.len(), 7, "nothing comes after an error");
}

/// A log can say anything; what the guest's memory is sized by is the question.
#[test]
fn answers_that_are_more_than_was_asked_for() {
    struct Generous;
    impl World for Generous {
        fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
            Ok(match request {
                Request::Output { .. } => Response::Output(Ok(1000)),
                Request::ReadBlock { .. } => Response::Block(Ok(vec![1; 70_000].into())),
                _ => Response::Input(Ok(vec![1; 1000])),
            })
        }
    }
    let bad = [Step::Output(Stream::Stdout, vec![1; 3]), Step::Input(3), Step::Block(path("a"), 0)];
    for step in bad {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(dir.path(), manifest()).unwrap();
        recorder.world(Box::new(Generous)).ask(step.request().unwrap()).unwrap();
        recorder.finish(ended()).unwrap();
        let replayer = Replayer::open(dir.path()).unwrap();
        let result = replayer.world(Outputs::sink()).ask(step.request().unwrap());
        assert!(matches!(result, Err(WorldError::Recorder(_))), "{step:?}: {result:?}");
        assert!(replayer.failure().is_some() && replayer.divergence().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Hostile payloads under right checksums.
    #[test]
    fn forged_payloads(
        sealed: bool,
        block in 0usize..12,
        at in any::<prop::sample::Index>(),
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..20),
            Just(vec![0xff; 8]),
            (0u8..12).prop_map(|n| vec![n, 0, 0, 0]),
        ],
        cut: bool,
    ) {
        let good = good(sealed);
        let log = forge(&good.log, |number, kind, raw| {
            let wanted = number == block || (block == 11 && kind == 4);
            if wanted && !raw.is_empty() {
                let at = at.index(raw.len());
                for (to, from) in raw[at..].iter_mut().zip(&bytes) {
                    *to = *from;
                }
                if cut {
                    raw.truncate(at + bytes.len());
                }
            }
        });
        survive(&good, put(&good, &log).path());
    }
}
