//! Host files that change between a snapshot and its restore: named, before the guest sees a mixture.

use std::path::Path;

use dejavm::{Host, Image, Restore, WriteOptions};

use crate::common::{self, Finished, tool};

/// Opens a file, reads its start, maps another, then waits; afterwards reads on in both.
const PROGRAM: &str = "
import sys, mmap, os
read = open('/data/read', 'rb', buffering=0)
first = read.read(4)
mapped = open('/data/mapped', 'rb')
view = mmap.mmap(mapped.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE)
view[0]
seen = os.stat('/data/seen').st_size
sys.stdin.readline()
print(first.decode(), read.read(4).decode(), view[100000:100004].decode(), open('/data/seen').read(4))
";

fn write(dir: &Path, name: &str, fill: &str) {
    std::fs::write(dir.join("data").join(name), fill.repeat(50_000)).expect("a file");
}

/// A directory with a snapshot that knows three host files.
fn made() -> tempfile::TempDir {
    made_with(&[])
}

/// The same, with options.
fn made_with(options: &[&str]) -> tempfile::TempDir {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("data")).expect("a directory");
    for name in ["read", "mapped", "seen"] {
        write(dir.path(), name, "old,");
    }
    let words = ["snapshot", "-q", "-o", "s.dvm", "--at", "first-read", "--ro", "data:/data", "--"];
    let (words, dashes) = words.split_at(words.len() - 1);
    let words = words.iter().chain(options).chain(dashes);
    let done = tool(dir.path(), words.chain(&["python3", "-c", PROGRAM]));
    assert_eq!(done.status, 0, "{done:?}");
    dir
}

fn restore(dir: &Path, options: &[&str]) -> Finished {
    tool(dir, ["restore", "s.dvm", "--ro", "data:/data"].iter().chain(options))
}

#[track_caller]
fn named(done: &Finished, file: &str) {
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!((done.status, done.stdout.len()), (125, 0), "{done:?}");
    for word in [file, "changed on the host since the snapshot", "--files host"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn files_that_are_as_they_were() {
    let dir = made();
    assert_eq!(restore(dir.path(), &[]).text(), "old, old, old, old,\n");
}

#[test]
fn a_changed_file_is_named() {
    for name in ["read", "seen"] {
        let dir = made();
        write(dir.path(), name, "new;");
        named(&restore(dir.path(), &[]), &format!("/data/{name}"));
        // What the host has now is given if that is asked for.
        let done = restore(dir.path(), &["--files", "host"]).text();
        assert!(done.contains("new;") && done.contains("old,"), "{done}");
    }
}

#[test]
fn a_shorter_and_a_missing_file_are_named() {
    let dir = made();
    std::fs::write(dir.path().join("data/read"), "short").expect("a file");
    named(&restore(dir.path(), &[]), "/data/read");
    let dir = made();
    std::fs::remove_file(dir.path().join("data/seen")).expect("removed");
    let done = restore(dir.path(), &[]);
    named(&done, "/data/seen");
    assert!(String::from_utf8_lossy(&done.stderr).contains("nothing there"), "{done:?}");
}

/// A snapshot that holds the files is restored where there are none, recorded, and replayed.
#[test]
fn a_snapshot_with_its_files_needs_none_of_the_host() {
    let dir = made_with(&["--with-files"]);
    let nothing = ["restore", "s.dvm", "--record", "rec"];
    std::fs::remove_dir_all(dir.path().join("data")).expect("removed");
    let done = tool(dir.path(), nothing);
    assert_eq!(done.text(), "old, old, old, old,\n");
    assert_eq!(tool(dir.path(), ["replay", "rec"]).text(), "old, old, old, old,\n");
    let host = ["restore", "s.dvm", "--files", "unchanged"];
    named(&tool(dir.path(), host), "/data/read");
}

/// What the snapshot holds counts, whatever the host has by then, unless the host is asked for.
#[test]
fn files_in_a_snapshot_go_before_those_of_the_host() {
    let dir = made_with(&["--with-files"]);
    for name in ["read", "mapped", "seen"] {
        write(dir.path(), name, "new;");
    }
    assert_eq!(restore(dir.path(), &[]).text(), "old, old, old, old,\n");
    named(&restore(dir.path(), &["--files", "unchanged"]), "/data/read");
}

/// The next snapshot, whole or a layer, holds what the first one held.
#[test]
fn snapshots_of_what_was_restored_hold_the_files_too() {
    let dir = made_with(&["--with-files"]);
    std::fs::remove_dir_all(dir.path().join("data")).expect("removed");
    let host = Host::probe().expect("KVM");
    let image = Image::open(dir.path().join("s.dvm")).expect("a snapshot");
    for parent in [None, Some(image.snapshot().clone())] {
        let mut sandbox = image.restore().start(&host).expect("a sandbox");
        let path = dir.path().join("t.dvm");
        let options = WriteOptions { parent, ..WriteOptions::default() };
        let pages = sandbox.snapshot(&path, &options).expect("a snapshot").pages;
        let changed = pages.stored();
        assert!(options.parent.is_none() || changed < 50, "a layer holds only what changed: {changed} pages");
        let done = Restore::open(&path).expect("a snapshot").capture_output().start(&host);
        let done = done.expect("a sandbox").run().expect("a run");
        assert_eq!(done.stdout, b"old, old, old, old,\n");
    }
}

/// A recording of a restored run holds what was read; it needs no host files at all.
#[test]
fn a_recording_does_not_look_at_the_host() {
    let dir = made();
    let recorded = restore(dir.path(), &["--record", "rec"]).text();
    write(dir.path(), "read", "new;");
    std::fs::remove_file(dir.path().join("data/seen")).expect("removed");
    assert_eq!(tool(dir.path(), ["replay", "rec"]).text(), recorded);
}
