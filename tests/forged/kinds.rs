//! What is no snapshot and no recording at all, and what cannot be given to one.

use std::path::Path;

use crate::common::{self, Finished, tool};

#[track_caller]
fn says(done: &Finished, words: &[&str]) {
    assert_eq!(done.status, 125, "{done:?}");
    let said = String::from_utf8_lossy(&done.stderr);
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
fn other_things_are_named() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::write(dir.join("text"), "#!/bin/sh\necho hello\n").expect("a file");
    std::fs::write(dir.join("empty"), "").expect("a file");
    std::fs::create_dir(dir.join("dir")).expect("a directory");
    for command in ["restore", "inspect", "warm"] {
        says(&tool(dir, [command, "text"]), &["text", "not a dejavm snapshot"]);
        says(&tool(dir, [command, "empty"]), &["empty", "not a dejavm snapshot", "it is empty"]);
        says(&tool(dir, [command, "none"]), &["none", "No such file"]);
    }
    says(&tool(dir, ["restore", "dir"]), &["dir", "directory"]);
    for command in ["replay", "log"] {
        says(&tool(dir, [command, "text"]), &["text", "not a recording"]);
        says(&tool(dir, [command, "dir"]), &["dir", "no recording"]);
    }
    std::fs::write(dir.join("dir/manifest.json"), "{\"format\": 2}").expect("a file");
    says(&tool(dir, ["replay", "dir"]), &["manifest.json", "not a recording's manifest"]);

    // Of another version.
    let made = tool(
        dir,
        ["snapshot", "-q", "-o", "s.dvm", "--at", "first-read", "--", "sh", "-c", "read x; exit 0"],
    );
    assert_eq!(made.status, 0, "{made:?}");
    let whole = std::fs::read(dir.join("s.dvm")).expect("a snapshot");
    for (version, word) in [(0, "older"), (99, "newer dejavm")] {
        let mut other = whole.clone();
        other[8] = version;
        std::fs::write(dir.join("other.dvm"), other).expect("a file");
        says(&tool(dir, ["restore", "other.dvm"]), &["other.dvm", "version", word]);
    }
}

#[test]
fn what_cannot_be_given_to_a_snapshot_is_an_error() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::create_dir(dir.join("new")).expect("a directory");
    let made = tool(
        dir,
        ["snapshot", "-q", "-o", "s.dvm", "--at", "first-read", "--", "sh", "-c", "read x; exit 0"],
    );
    assert_eq!(made.status, 0, "{made:?}");
    says(&tool(dir, ["restore", "s.dvm", "--ro", "new:/new"]), &["s.dvm", "/new", "inspect"]);
    says(&tool(dir, ["restore", "s.dvm", "--root", "new"]), &["s.dvm", "shown nothing at /"]);
    says(&tool(dir, ["restore", "s.dvm", "--ro", "s.dvm:/usr"]), &["/usr", "cannot be shown a file"]);
    says(&tool(dir, ["restore", "s.dvm", "--env", "A=1"]), &["environment variables", "loaded already"]);
    says(&tool(dir, ["restore", "s.dvm", "--arg", "x"]), &["arguments", "loaded already"]);
    assert_eq!(tool(dir, ["restore", "s.dvm", "--ro", "new:/usr/"]).status, 0);
}

/// The start of a recording is a snapshot whose program is yet to be loaded.
#[test]
fn a_program_that_is_yet_to_be_loaded_can_be_given_more() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let record = ["record", "-q", "-o", "rec", "--env", "A=1", "--", "sh", "-c", "echo $A $B $0", "zero"];
    assert_eq!(tool(dir, record).text(), "1 zero\n");
    let start = Path::new("rec/start.dvm").to_str().expect("UTF-8");
    let restored = tool(dir, ["restore", start, "--env", "A=2", "--env", "B=3", "--arg", "more"]);
    assert_eq!(restored.text(), "2 3 zero\n");
}
