//! Packs with flipped bytes and cut packs: an error, or fewer records, or the same ones; never others.

mod common;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::damaged::*;
use common::{manifest, records};
use dejavm_replay::{
    CheckpointRef, Ending, Error, MANIFEST_FILE, Manifest, PackOptions, Recording, SnapshotRef,
};
use dejavm_snapshot::{PAGE_SIZE, WriteOptions};
use proptest::prelude::*;

/// A recording with a start snapshot, and its pack beside it.
fn packed(sealed: bool) -> (Good, PathBuf) {
    let good = good(sealed);
    let dir = good.dir.path();
    let pages: Vec<u8> = (0..3 * PAGE_SIZE).map(|n| (n / 7) as u8).collect();
    let options = WriteOptions { durable: false, ..WriteOptions::default() };
    let written =
        dejavm_snapshot::write(dir.join("start.dvm"), &options, b"state", &mut &pages[..], &mut |_, _| {});
    // The recorder was told of another.
    let text = std::fs::read_to_string(dir.join(MANIFEST_FILE)).unwrap();
    let text = text.replace(&manifest().snapshot.id.to_string(), &written.unwrap().id.to_string());
    std::fs::write(dir.join(MANIFEST_FILE), text).unwrap();
    let path = dir.join("rec.dvr");
    Recording::open(dir).unwrap().pack(&path, &PackOptions::default(), &mut |_, _| {}).unwrap();
    (good, path)
}

/// A copy to be damaged.
fn copy(pack: &Path) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy.dvr");
    std::fs::copy(pack, &path).unwrap();
    (dir, path)
}

/// Whether anything is seen to be wrong with it.
fn wrong(pack: &Path) -> bool {
    let recording = match Recording::open(pack) {
        Ok(recording) => recording,
        Err(_) => return true,
    };
    let snapshot = recording.open_snapshot().and_then(|snapshot| snapshot.verify(|_, _| {}));
    let damaged = matches!(recording.ending(), Ending::Damaged { .. });
    recording.verify().is_err() || damaged || snapshot.is_err()
}

#[test]
fn a_pack_has_all_of_its_recording() {
    for sealed in [true, false] {
        let (good, path) = packed(sealed);
        let (dir, copied) = copy(&path);
        let recording = Recording::open(&copied).unwrap();
        // Blocks of host files may come before the exits with which they were written.
        let by_kind = |records: &[dejavm_replay::Record]| {
            let keyed = |record: &&dejavm_replay::Record| matches!(record, dejavm_replay::Record::Keyed(_));
            let (a, b): (Vec<_>, Vec<_>) = records.iter().partition(keyed);
            (format!("{a:?}"), format!("{b:?}"))
        };
        assert_eq!(by_kind(&records(&recording)), by_kind(&good.records));
        assert_eq!(recording.manifest(), &Manifest::read(good.dir.path()).unwrap());
        let was = Recording::open(good.dir.path()).unwrap();
        assert_eq!(recording.digest().unwrap(), was.digest().unwrap());
        assert_eq!(recording.end(), was.end());
        assert_eq!(matches!(recording.ending(), Ending::Interrupted { .. }), !sealed);
        assert!(!wrong(&copied));
        replay(&good, &copied);
        let unpacked = dir.path().join("unpacked");
        std::fs::create_dir(&unpacked).unwrap();
        recording.unpack(&unpacked, &mut |_, _| {}).unwrap();
        let again = Recording::open(&unpacked).unwrap();
        assert_eq!(records(&again), records(&recording));
        assert_eq!(again.open_snapshot().unwrap().id(), was.open_snapshot().unwrap().id());
        assert!(matches!(again.unpack(&unpacked, &mut |_, _| {}), Err(Error::NotAPack { .. })));
        // A pack is a recording, too. Its blocks are others: contents come in the order of its records.
        let twice = dir.path().join("twice.dvr");
        recording.pack(&twice, &PackOptions::default(), &mut |_, _| {}).unwrap();
        let of_pack = Recording::open(&twice).unwrap();
        assert_eq!(by_kind(&records(&of_pack)), by_kind(&good.records));
        assert_eq!(of_pack.digest().unwrap(), was.digest().unwrap());
        assert!(!wrong(&twice));
        replay(&good, &twice);
        // The same recording packs to the same bytes.
        was.pack(&twice, &PackOptions::default(), &mut |_, _| {}).unwrap();
        assert_eq!(std::fs::read(&twice).unwrap(), std::fs::read(&path).unwrap());
    }
}

/// A replay needs none, so their files need not even be there.
#[test]
fn checkpoints_are_left_out() {
    let (good, path) = packed(true);
    let without = std::fs::read(&path).unwrap();
    let manifest_path = good.dir.path().join(MANIFEST_FILE);
    let mut with = Manifest::read(good.dir.path()).unwrap();
    let snapshot = SnapshotRef { file: "checkpoint-2.dvm".into(), id: with.snapshot.id };
    with.checkpoints.push(CheckpointRef { exit: 2, snapshot });
    std::fs::write(&manifest_path, serde_json::to_vec(&with).unwrap()).unwrap();
    let recording = Recording::open(good.dir.path()).unwrap();
    assert_eq!(recording.manifest(), &with);
    assert!(recording.open_checkpoint(&with.checkpoints[0]).is_err());
    recording.pack(&path, &PackOptions::default(), &mut |_, _| {}).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), without);
    assert!(Manifest::read(&path).unwrap().checkpoints.is_empty());
}

#[test]
fn what_is_damaged_is_not_packed() {
    let (good, path) = packed(true);
    let dir = good.dir.path();
    let before = std::fs::read(&path).unwrap();
    let pack = || Recording::open(dir).and_then(|r| r.pack(&path, &PackOptions::default(), &mut |_, _| {}));
    for file in ["log", "start.dvm"] {
        let bytes = std::fs::read(dir.join(file)).unwrap();
        let mut bad = bytes.clone();
        bad[bytes.len() / 2] ^= 1;
        std::fs::write(dir.join(file), bad).unwrap();
        assert!(pack().is_err(), "{file}");
        std::fs::write(dir.join(file), bytes).unwrap();
    }
    std::fs::remove_file(dir.join("start.dvm")).unwrap();
    assert!(matches!(pack(), Err(Error::Snapshot(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // Nothing is left behind.
    let names = std::fs::read_dir(dir).unwrap().count();
    assert_eq!(names, 3, "the manifest, the log and the pack");
}

#[test]
fn each_flipped_byte_is_found() {
    for sealed in [true, false] {
        let (good, path) = packed(sealed);
        let good = Good { records: records(&Recording::open(&path).unwrap()), ..good };
        let good =
            Good { answers: answers(&Recording::open(&path).unwrap(), &good.records).unwrap(), ..good };
        let bytes = std::fs::read(&path).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for (at, byte) in bytes.iter().enumerate() {
            file.write_all_at(&[byte ^ (1 << (at % 8))], at as u64).unwrap();
            assert!(wrong(&path), "byte {at}");
            read(&good, &path);
            replay(&good, &path);
            file.write_all_at(&[*byte], at as u64).unwrap();
        }
        assert!(!wrong(&path));
    }
}

#[test]
fn a_pack_cut_anywhere_is_refused() {
    let (_good, path) = packed(true);
    let (_dir, path) = copy(&path);
    let length = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for len in (0..length).rev() {
        file.set_len(len).unwrap();
        let error = Recording::open(&path).unwrap_err();
        match len {
            0..8 => assert!(matches!(error, Error::NotARecording { .. }), "{error}"),
            _ => assert!(matches!(error, Error::PackCut { found, .. } if found == len), "{error}"),
        }
    }
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let (_good, path) = packed(true);
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length + 1).unwrap();
    assert!(matches!(Recording::open(&path), Err(Error::Pack { offset, .. }) if offset == length));
}

#[test]
fn a_pack_that_is_cut_while_it_is_open() {
    let (good, path) = packed(true);
    let recording = Recording::open(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert!(recording.verify().is_err());
    assert!(recording.records().any(|record| record.is_err()));
    assert!(recording.open_snapshot().is_err());
    drop(good);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whole stretches of anything, the header's and the table's more often than others.
    #[test]
    fn overwritten_stretches(
        start: bool,
        at in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 1..300),
    ) {
        let (good, path) = packed(true);
        let good = Good { records: records(&Recording::open(&path).unwrap()), ..good };
        let good = Good { answers: answers(&Recording::open(&path).unwrap(), &good.records).unwrap(), ..good };
        let mut pack = std::fs::read(&path).unwrap();
        let at = at.index(if start { 256 } else { pack.len() });
        for (to, from) in pack[at..].iter_mut().zip(&bytes) {
            *to = *from;
        }
        std::fs::write(&path, pack).unwrap();
        wrong(&path);
        read(&good, &path);
        replay(&good, &path);
    }
}
