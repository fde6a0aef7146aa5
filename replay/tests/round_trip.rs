//! What was recorded is read and replayed.

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use common::*;
use dejavm_replay::{Ending, Error, Outputs, Record, Recorder, Recording, Replayer, RunDigest, RunEnd};
use dejavm_sandbox::world::{Response, Stream, World, WorldError};

#[test]
fn records_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let steps = sample(300);
    let summary = record(dir.path(), &steps, small_blocks(), Some(ended())).unwrap();
    let recording = Recording::open(dir.path()).unwrap();
    assert_eq!(log_outline(&records(&recording)), outline(&steps));
    recording.verify().unwrap();
    assert_eq!(recording.exit_range(), Some((1, 300)));
    assert_eq!((summary.exits, recording.exit_count()), (300, 300));
    assert_eq!(recording.digest().unwrap(), summary.digest);
    assert_eq!(recording.end(), Some(&ended()));
    assert_eq!(recording.exits_from(299).map(|e| e.unwrap().number).collect::<Vec<_>>(), [299, 300]);
    let manifest = recording.manifest();
    assert!(manifest.complete);
    assert_eq!((manifest.seed, manifest.exits), (42, Some(300)));
    assert_eq!(manifest.digest, Some(summary.digest.to_string()));
}

#[test]
fn every_answer_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let steps = sample(200);
    let recorder = Recorder::create(dir.path(), manifest()).unwrap();
    let mut world = recorder.world(Box::new(FakeWorld::default()));
    let (answers, result) = drive(&steps, &mut *world, &mut *recorder.observer());
    result.unwrap();
    recorder.finish(ended()).unwrap();

    let replayer = Replayer::open(dir.path()).unwrap();
    let (stdout, stderr) = (Shared::default(), Shared::default());
    let outputs = Outputs::new(Box::new(stdout.clone()), Box::new(stderr.clone()));
    let (again, result) = drive(&steps, &mut *replayer.world(outputs), &mut *replayer.observer());
    result.unwrap();
    assert_eq!(again, answers);
    assert!(replayer.at_end() && !replayer.is_live());
    assert_eq!(replayer.position(), 200);
    assert_eq!(replayer.divergence(), None);

    // The replay shows what the outside took, no more.
    let mut expected = (Vec::new(), Vec::new());
    let asked = steps.iter().filter(|s| s.request().is_some());
    for (step, answer) in asked.zip(&answers) {
        if let (Step::Output(stream, data), Response::Output(Ok(taken))) = (step, answer) {
            let to = if *stream == Stream::Stdout { &mut expected.0 } else { &mut expected.1 };
            to.extend_from_slice(&data[..*taken]);
        }
    }
    assert!(!expected.0.is_empty() && !expected.1.is_empty());
    assert_eq!((stdout.bytes(), stderr.bytes()), expected);
}

#[test]
fn contents_are_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    // Two thirds of these inputs are the same bytes; the block is read twice.
    let mut steps = vec![Step::Block(path("a"), 0), Step::Block(path("a"), 0)];
    for n in 1..=60 {
        steps.extend([Step::Input(3000), syscall(n, 0)]);
    }
    let summary = record(dir.path(), &steps, small_blocks(), Some(ended())).unwrap();
    let recording = Recording::open(dir.path()).unwrap();
    let info = recording.info().unwrap();
    assert!(info.blobs <= 4, "{info:?}");
    assert_eq!(info.blobs, summary.blobs);
    assert_eq!(info.blob_bytes, summary.blob_bytes);
    assert_eq!(info.answers_by_kind["read-block"], 1);
    assert_eq!(info.answers_by_kind["input"], 60);
    assert!(info.log_bytes < 24_000, "of 180,000 bytes of input: {info:?}");
}

#[test]
fn info_counts() {
    let dir = tempfile::tempdir().unwrap();
    let steps = sample(100);
    record(dir.path(), &steps, small_blocks(), Some(ended())).unwrap();
    let info = Recording::open(dir.path()).unwrap().info().unwrap();
    assert_eq!(info.exits, 100);
    assert_eq!(info.exits_by_kind.values().sum::<u64>(), 100);
    assert_eq!(info.exits_by_kind["end"], 1);
    assert_eq!(info.exits_by_kind["rdtsc"], 19);
    let faults = steps.iter().filter(|s| matches!(s, Step::Fault(_))).count() as u64;
    assert_eq!(info.faults_by_rung["annotated"], faults);
    assert!(info.complete && info.blocks > 3 && info.bytes_per_exit > 0.0);
    assert_eq!(info.ending, "complete: the guest ended with status 3");
    assert_eq!(info.log_bytes, std::fs::metadata(dir.path().join("log")).unwrap().len());
}

#[test]
fn the_digest_is_of_exits_alone() {
    let one = tempfile::tempdir().unwrap();
    let two = tempfile::tempdir().unwrap();
    let steps = sample(100);
    let exits: Vec<Step> = steps.iter().filter(|s| matches!(s, Step::Exit(_))).cloned().collect();
    let first = record(one.path(), &steps, small_blocks(), Some(ended())).unwrap();
    let second = record(two.path(), &exits, Default::default(), Some(ended())).unwrap();
    assert_eq!(first.digest, second.digest);

    let (handle, mut observer) = RunDigest::watch();
    drive(&exits, &mut FakeWorld::default(), &mut *observer).1.unwrap();
    assert_eq!(handle.value(), first.digest);
    assert_eq!(RunDigest::from_hex(&first.digest.to_string()), Some(first.digest));
    assert_eq!(RunDigest::from_hex("+0000000000000000000000000000000"), None);

    // Each field counts.
    for change in 0..6 {
        let mut digest = RunDigest::new();
        for step in &exits {
            let Step::Exit(mut exit) = step.clone() else {
                continue;
            };
            if exit.number == 50 {
                match change {
                    0 => exit.number += 1,
                    1 => exit.kind = dejavm_sandbox::exit::ExitKind::End { status: 0 },
                    2 => exit.rip += 1,
                    3 => exit.result += 1,
                    4 => exit.effects += 1,
                    _ => exit.clock += 1,
                }
            }
            digest.add(&exit);
        }
        assert_ne!(digest, first.digest, "field {change}");
    }
}

/// The digest is part of the interface: it is compared between versions.
#[test]
fn the_digest_stays_what_it_is() {
    let mut digest = RunDigest::new();
    assert_eq!(digest.to_string(), "00000000000000000000000000000000");
    for step in sample(10) {
        if let Step::Exit(exit) = step {
            digest.add(&exit);
        }
    }
    assert_eq!(digest.to_string(), "740b774e2c5b9efb1615e57890a33b3b");
}

#[test]
fn seeking_finds_what_scanning_finds() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &sample(400), small_blocks(), Some(ended())).unwrap();
    let recording = Recording::open(dir.path()).unwrap();
    let all = records(&recording);
    for exit in [0, 1, 2, 17, 39, 40, 41, 200, 399, 400, 401] {
        let at = all.iter().position(|r| matches!(r, Record::Exit(e) if e.number + 1 == exit));
        let scanned = &all[at.map_or(0, |at| at + 1)..];
        let sought: Vec<Record> = recording.records_from(exit).collect::<Result<_, _>>().unwrap();
        assert_eq!(sought, scanned, "exit {exit}");
    }
    assert_eq!(recording.records_from(402).count(), 0);
    assert_eq!(recording.records_from(u64::MAX).count(), 0);
}

#[test]
fn replay_from_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let steps = sample(100);
    record(dir.path(), &steps, small_blocks(), Some(ended())).unwrap();
    let at = steps.iter().position(|s| matches!(s, Step::Exit(e) if e.number == 60)).unwrap();
    let replayer = Replayer::from_exit(Recording::open(dir.path()).unwrap(), 61).unwrap();
    assert_eq!(replayer.position(), 60);
    let (_, result) =
        drive(&steps[at + 1..], &mut *replayer.world(Outputs::sink()), &mut *replayer.observer());
    result.unwrap();
    assert_eq!(replayer.position(), 100);
}

#[test]
fn an_interrupted_log_ends_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let steps = sample(100);
    let cut = steps.iter().position(|s| matches!(s, Step::Exit(e) if e.number == 60)).unwrap() + 1;
    record(dir.path(), &steps[..cut], small_blocks(), None);
    let recording = Recording::open(dir.path()).unwrap();
    assert!(matches!(recording.ending(), Ending::Interrupted { .. }));
    assert_eq!(recording.end(), None);
    assert_eq!(log_outline(&records(&recording)), outline(&steps[..cut]));

    let replayer = Replayer::new(recording.clone()).unwrap();
    let mut observer = replayer.observer();
    let (_, result) = drive(&steps, &mut *replayer.world(Outputs::sink()), &mut *observer);
    assert!(matches!(result, Err(WorldError::EndOfLog)));
    // At its last exit, not at the next.
    assert_eq!(replayer.position(), 60);
    assert!(replayer.at_end());
    let Step::Exit(last) = &steps[cut - 1] else { unreachable!() };
    assert!(matches!(observer.exit(last), Err(WorldError::EndOfLog)), "and stays there");

    // Or goes on.
    let asked = steps[..cut].iter().filter(|s| !matches!(s, Step::Block(..)) && s.request().is_some());
    let live = FakeWorld::after(asked.count() as u64);
    let whole = drive(&steps, &mut FakeWorld::default(), &mut *RunDigest::watch().1).0;
    let replayer = Replayer::new(recording).unwrap().then_live(Box::new(live));
    let (answers, result) = drive(&steps, &mut *replayer.world(Outputs::sink()), &mut *replayer.observer());
    result.unwrap();
    assert!(replayer.is_live() && replayer.at_end());
    assert_eq!(answers, whole);
    assert_eq!(replayer.position(), 60);
}

#[test]
fn a_stopped_run_stops_again() {
    let dir = tempfile::tempdir().unwrap();
    let steps = &sample(50)[..30];
    let end = RunEnd::Stopped { why: "deadline".into() };
    record(dir.path(), steps, small_blocks(), Some(end)).unwrap();
    let replayer = Replayer::open(dir.path()).unwrap();
    assert_eq!(replayer.recording().ending().to_string(), "complete: the run was stopped: deadline");
    let (_, result) = drive(&sample(50), &mut *replayer.world(Outputs::sink()), &mut *replayer.observer());
    assert!(matches!(result, Err(WorldError::EndOfLog)));
}

#[test]
fn a_recording_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("start.dvm"), b"snapshot").unwrap();
    record(dir.path(), &sample(5), small_blocks(), Some(ended())).unwrap();
    let again = Recorder::create(dir.path(), manifest());
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    assert_eq!(Recording::open(dir.path()).unwrap().exit_count(), 5);
}

#[test]
fn it_can_be_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a"), dir.path().join("b"));
    record(&from, &sample(5), small_blocks(), Some(ended())).unwrap();
    std::fs::rename(&from, &to).unwrap();
    let recording = Recording::open(&to).unwrap();
    assert_eq!(recording.start().path(), to.join("start.dvm"));
    recording.verify().unwrap();
}

#[test]
fn manifests_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &sample(5), small_blocks(), Some(ended())).unwrap();
    let file = dir.path().join("manifest.json");
    let good = std::fs::read_to_string(&file).unwrap();
    let open = |text: String| {
        std::fs::write(&file, text).unwrap();
        Recording::open(dir.path()).map(drop).unwrap_err()
    };
    assert!(matches!(open(good.replace("start.dvm", "../start.dvm")), Error::Manifest { .. }));
    assert!(matches!(open(good.replace("start.dvm", "")), Error::Manifest { .. }));
    assert!(matches!(open(good.replace("\"exits\": 5", "\"exits\": 6")), Error::Manifest { .. }));
    assert!(matches!(open(good.replace("\"format\": 2", "\"format\": 0")), Error::OlderVersion { .. }));
    assert!(matches!(open(String::new()), Error::Manifest { .. }));
    assert!(matches!(open("x".repeat(2 << 20)), Error::Manifest { .. }));
    // Whatever else a newer one holds.
    assert!(matches!(open("{\"format\": 3}".into()), Error::NewerVersion { found: 3, .. }));
    // The log counts: a recorder may be killed between sealing the log and saying so.
    std::fs::write(&file, good.replace("\"complete\": true", "\"complete\": false")).unwrap();
    assert_eq!(Recording::open(dir.path()).unwrap().end(), Some(&ended()));
    let mut bad = manifest();
    bad.snapshot.file = "/etc/passwd".into();
    assert!(matches!(Recorder::create(dir.path().join("x"), bad), Err(Error::Manifest { .. })));
}

#[test]
fn errors_of_the_outside_pass_unlogged() {
    struct Stops;
    impl World for Stops {
        fn ask(&mut self, _: dejavm_sandbox::world::Request<'_>) -> Result<Response, WorldError> {
            Err(WorldError::Interrupted)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(dir.path(), manifest()).unwrap();
    let mut world = recorder.world(Box::new(Stops));
    assert!(matches!(world.clock(), Err(WorldError::Interrupted)));
    recorder.finish(RunEnd::Stopped { why: String::new() }).unwrap();
    assert_eq!(Recording::open(dir.path()).unwrap().records().count(), 0);
    assert!(matches!(recorder_gone(&mut *world), WorldError::Interrupted));
}

fn recorder_gone(world: &mut dyn World) -> WorldError {
    world.clock().unwrap_err()
}

#[test]
fn nothing_is_taken_after_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(dir.path(), manifest()).unwrap();
    let mut world = recorder.world(Box::new(FakeWorld::default()));
    recorder.finish(RunEnd::Stopped { why: String::new() }).unwrap();
    assert!(matches!(recorder_gone(&mut *world), WorldError::Recorder(_)));
}

#[test]
fn exits_must_be_numbered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(dir.path(), manifest()).unwrap();
    // From any first number: a checkpoint's recording.
    let steps = [syscall(10, 1), syscall(11, 1), syscall(13, 1)];
    let mut world = recorder.world(Box::new(FakeWorld::default()));
    let (_, result) = drive(&steps, &mut *world, &mut *recorder.observer());
    assert!(matches!(result, Err(WorldError::Recorder(_))), "{result:?}");
    recorder.finish(RunEnd::Stopped { why: String::new() }).unwrap();
    let recording = Recording::open(dir.path()).unwrap();
    assert_eq!(recording.exit_range(), Some((10, 11)));
    assert_eq!(recording.exits_from(11).count(), 1);
    assert_eq!(recording.exits_from(3).count(), 2);
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Changes of the file that output goes to: what is written comes out in its order.
#[test]
fn output_to_a_file_is_replayed() {
    let steps = || {
        vec![
            Step::WriteAt(7, b"abcdef".to_vec()),
            Step::Resize(3),
            Step::WriteAt(1 << 40, noise(1, 5000)),
            Step::Output(Stream::Stdout, b"end".to_vec()),
            syscall(1, 1),
        ]
    };
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &steps(), small_blocks(), Some(ended())).unwrap();
    let expected = drive(&steps(), &mut FakeWorld::default(), &mut *RunDigest::watch().1).0;

    let replayer = Replayer::open(dir.path()).unwrap();
    let stdout = Shared::default();
    let outputs = Outputs::new(Box::new(stdout.clone()), Box::new(Shared::default()));
    let (answers, result) = drive(&steps(), &mut *replayer.world(outputs), &mut *replayer.observer());
    result.unwrap();
    assert_eq!(answers, expected);
    let shown = stdout.0.lock().unwrap().clone();
    assert!(shown.starts_with(b"abc") && shown.ends_with(b"end"), "{}", shown.escape_ascii());

    for (step, other) in [(0, Step::WriteAt(8, b"abcdef".to_vec())), (1, Step::Resize(4))] {
        let mut others = steps();
        others[step] = other;
        let replayer = Replayer::open(dir.path()).unwrap();
        let mut world = replayer.world(Outputs::sink());
        let (_, result) = drive(&others, &mut *world, &mut *replayer.observer());
        assert!(matches!(result, Err(WorldError::Diverged(_))), "{result:?}");
    }
}
