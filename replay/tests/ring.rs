//! A log of which only the last part is kept, without a virtual machine.

mod common;

use std::path::Path;

use common::*;
use dejavm_replay::{
    CheckpointRef, Ending, Outputs, Recorder, RecorderOptions, Recording, Replayer, SnapshotRef,
};
use dejavm_sandbox::exit::Exit;
use dejavm_snapshot::ContentId;

const RING: u64 = 64 << 10;

fn options() -> RecorderOptions {
    let mut options = small_blocks();
    options.ring = Some(RING);
    options.start_files = vec!["start.dvm".into(), "parent.dvm".into()];
    options
}

/// A checkpoint that is nothing but a name.
fn checkpoint(dir: &Path, exit: u64) -> CheckpointRef {
    let file = format!("checkpoint-{exit}.dvm");
    std::fs::write(dir.join(&file), "a snapshot").unwrap();
    CheckpointRef { exit, snapshot: SnapshotRef { file, id: ContentId::from_bytes([exit as u8; 32]) } }
}

/// Drives a recorder through the steps, and gives it a checkpoint wherever it wants one. After each exit the
/// log may be no longer than the ring, and some blocks.
fn run(dir: &Path, steps: &[Step]) -> (Recorder, Vec<u64>) {
    std::fs::create_dir(dir).unwrap();
    for file in ["start.dvm", "parent.dvm", "of-others"] {
        std::fs::write(dir.join(file), "a file").unwrap();
    }
    let mut recorder = Recorder::create_with(dir, manifest(), options()).unwrap();
    let mut world = recorder.world(Box::new(FakeWorld::default()));
    let mut observer = recorder.observer();
    let mut starts = Vec::new();
    for step in steps {
        drive(std::slice::from_ref(step), &mut *world, &mut *observer).1.unwrap();
        let Step::Exit(Exit { number, .. }) = step else { continue };
        if recorder.wants_start() {
            recorder.add_start(checkpoint(dir, *number), *number).unwrap();
            starts.push(*number);
        }
    }
    (recorder, starts)
}

/// Checks that what is kept is the end of the run, from one of the starts on; gives how many exits were dropped.
fn check(dir: &Path, steps: &[Step], starts: &[u64]) -> u64 {
    let recording = Recording::open(dir).unwrap();
    recording.verify().unwrap();
    let manifest = recording.manifest().clone();
    let (first, _) = recording.exit_range().unwrap();
    assert_eq!(first, manifest.dropped + 1);
    if manifest.dropped > 0 {
        assert!(starts.contains(&manifest.dropped), "{} of {starts:?}", manifest.dropped);
        assert_eq!(manifest.snapshot.file, format!("checkpoint-{}.dvm", manifest.dropped));
        assert_eq!(manifest.start, manifest.dropped);
    }
    assert!(dir.join(&manifest.snapshot.file).exists());
    let is_start = |step: &Step| matches!(step, Step::Exit(exit) if exit.number == manifest.dropped);
    let from = steps.iter().position(is_start).map_or(0, |at| at + 1);
    let kept = log_outline(&records(&recording));
    assert!(outline(&steps[from..]).starts_with(&kept));

    // A replay from there gets the blocks that the run read before, too.
    let asked =
        steps[..from].iter().filter(|s| s.request().is_some() && !matches!(s, Step::Block(..))).count();
    let (expected, _) = drive(&steps[from..], &mut FakeWorld::after(asked as u64), &mut Nobody);
    let replayer = Replayer::from_exit(recording, manifest.dropped + 1).unwrap();
    let (answers, _) =
        drive(&steps[from..], &mut *replayer.world(Outputs::sink()), &mut *replayer.observer());
    let signals = |answers: Vec<_>| -> Vec<String> { answers.iter().map(|a| format!("{a:?}")).collect() };
    assert!(signals(expected).starts_with(&signals(answers)));
    assert!(replayer.at_end());
    manifest.dropped
}

struct Nobody;

impl dejavm_sandbox::exit::Observer for Nobody {
    fn exit(&mut self, _: &Exit) -> Result<(), dejavm_sandbox::world::WorldError> {
        Ok(())
    }

    fn fault(&mut self, _: &dejavm_sandbox::exit::Fault) {}
}

/// A run that reads the same blocks again and again.
fn steps(exits: u64) -> Vec<Step> {
    let mut steps = sample(exits);
    for at in (0..steps.len()).step_by(50) {
        steps.insert(at, Step::Block(path("bin/prog"), 3));
    }
    steps
}

#[test]
fn what_is_kept_is_the_end_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let rec = dir.path().join("rec");
    let steps = steps(20_000);
    let (recorder, starts) = run(&rec, &steps);
    assert!(starts.len() > 5, "{starts:?}");
    let summary = recorder.finish(ended()).unwrap();
    let dropped = check(&rec, &steps, &starts);
    assert!(dropped > 10_000, "{dropped}");
    assert_eq!(summary.exits, 20_000 - dropped);
    let recording = Recording::open(&rec).unwrap();
    assert!(recording.manifest().complete && matches!(recording.ending(), Ending::Sealed { .. }));
    assert_eq!(recording.digest().unwrap(), summary.digest);
    assert!(summary.log_bytes < RING * 2 && summary.log_bytes > RING / 4, "{summary:?}");
    // The manifest, the log, the start, the checkpoints, and what is none of its own.
    let files = std::fs::read_dir(&rec).unwrap().count();
    assert_eq!(files, 4 + recording.manifest().checkpoints.len());
    assert!(rec.join("of-others").exists() && !rec.join("parent.dvm").exists());
}

#[test]
fn an_unfinished_ring_is_a_recording() {
    let mut cuts = 0;
    for exits in [100, 1500, 3000, 4000, 5000, 8000, 11_000] {
        let dir = tempfile::tempdir().unwrap();
        let rec = dir.path().join("rec");
        let steps = steps(exits);
        let (recorder, starts) = run(&rec, &steps);
        drop(recorder);
        cuts += u32::from(check(&rec, &steps, &starts) > 0);
    }
    assert!((2..=6).contains(&cuts), "{cuts}");
}

#[test]
fn a_log_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &sample(10), small_blocks(), Some(ended()));
    let path = dir.path().join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for name in ["../log", "", "/etc/passwd", "a\\nb", ".."] {
        std::fs::write(&path, text.replacen('{', &format!("{{\"log\": \"{name}\","), 1)).unwrap();
        let error = Recording::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("a log must be a file beside it"), "{error}");
    }
}
