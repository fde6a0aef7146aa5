//! Recordings of format version 2 stay readable.

mod common;

use std::path::PathBuf;

use common::*;
use dejavm_replay::{Outputs, Recording, Replayer};

const EXITS: u64 = 24;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2")
}

#[test]
fn version_2() {
    let recording = Recording::open(golden()).unwrap();
    recording.verify().unwrap();
    let steps = sample(EXITS);
    assert_eq!(log_outline(&records(&recording)), outline(&steps));
    assert_eq!(recording.manifest().command, ["prog", "arg"]);
    assert_eq!(recording.end(), Some(&ended()));
    let expected = drive(&steps, &mut FakeWorld::default(), &mut *dejavm_replay::RunDigest::watch().1).0;
    let replayer = Replayer::new(recording).unwrap();
    let (answers, result) = drive(&steps, &mut *replayer.world(Outputs::sink()), &mut *replayer.observer());
    result.unwrap();
    assert_eq!(answers, expected);
}

/// Writes it again. Only before a version is released: afterwards a change of format is a new
/// version, and this one stays.
#[test]
#[ignore = "writes into the source tree"]
fn write_version_2() {
    let _ = std::fs::remove_dir_all(golden());
    record(&golden(), &sample(EXITS), small_blocks(), Some(ended()));
}
