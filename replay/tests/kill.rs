//! A recorder that is killed leaves a log that reads back, as far as it goes.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use dejavm_replay::{Ending, Outputs, Recorder, Recording, Replayer};
use dejavm_sandbox::world::WorldError;

const DIR: &str = "DEJAVM_TEST_RECORD_INTO";

/// Exits of the run that is killed: more than it has time for.
const EXITS: u64 = 200_000;

/// Not a test by itself: the process that is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let mut options = small_blocks();
    options.flush_after = Duration::from_millis(5);
    let recorder = Recorder::create_with(Path::new(&dir), manifest(), options).unwrap();
    let mut world = recorder.world(Box::new(FakeWorld::default()));
    drive(&sample(EXITS), &mut *world, &mut *recorder.observer()).1.unwrap();
    // Killed before, or while it waits here; not for ever, should the parent be gone.
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn killed_at_any_moment() {
    let steps = sample(EXITS);
    let whole = outline(&steps);
    let mut lengths = Vec::new();
    for round in 0..12u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(DIR, dir.path().join("rec"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From before its first write to the middle of the run; when exactly is chance, and must
        // not matter.
        let log = dir.path().join("rec/log");
        while round > 0 && std::fs::metadata(&log).map_or(0, |m| m.len()) <= (round - 1) * 3000 {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::sleep(Duration::from_micros(100));
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let Ok(recording) = Recording::open(dir.path().join("rec")) else {
            assert!(std::fs::metadata(&log).map_or(0, |m| m.len()) < 32, "round {round}");
            continue;
        };
        assert!(!recording.manifest().complete);
        assert!(matches!(recording.ending(), Ending::Interrupted { .. }), "{}", recording.ending());
        recording.verify().unwrap();
        let read = log_outline(&records(&recording));
        assert!(whole.starts_with(&read), "round {round}");
        lengths.push(read.len());

        // Content is never missing, and the replay goes to the last exit.
        let replayer = Replayer::new(recording).unwrap();
        let (_, result) = drive(&steps, &mut *replayer.world(Outputs::sink()), &mut *replayer.observer());
        assert!(matches!(result, Err(WorldError::EndOfLog)), "{result:?}");
        assert!(replayer.at_end());
    }
    assert!(lengths.iter().any(|&len| len > 100), "{lengths:?}");
}
