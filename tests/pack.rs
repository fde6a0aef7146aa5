//! `dejavm pack`: a recording in one file is that recording, for every command, also where nothing of what it was
//! made from is left.

mod common;

use std::fs;
use std::path::Path;

use common::{Finished, Input, dejavm, finish, tool};
use tempfile::TempDir;

/// Records, and packs, at a level that takes less time than the default; the directory is kept.
fn packed(dir: &Path, program: &[&str], input: &[u8]) -> Finished {
    common::require_kvm();
    let args = [&["record", "-q", "-o", "rec.dir", "--"], program].concat();
    let recorded = finish(dejavm(args).current_dir(dir), Input::Pipe(input));
    assert_eq!(tool(dir, ["pack", "-q", "--level", "3", "rec.dir", "-o", "rec.dvr"]).text(), "");
    recorded
}

/// What a command says of a recording, with the recording's name taken out. The name stands for each `REC`.
fn said(dir: &Path, command: &[&str], name: &str) -> Finished {
    let mut finished = tool(dir, command.iter().map(|word| if *word == "REC" { name } else { word }));
    let text = String::from_utf8_lossy(&finished.stderr).replace(name, "REC");
    finished.stderr = text.into_bytes();
    finished
}

fn length(path: &Path) -> u64 {
    match path.is_dir() {
        true => fs::read_dir(path).expect("a directory").map(|e| length(&e.expect("an entry").path())).sum(),
        false => fs::metadata(path).expect("a file").len(),
    }
}

/// Each with something to be read from its standard input.
const PROGRAMS: [&[&str]; 3] = [
    &["python3", "-c", "import json, sys\nprint(json.dumps(sys.stdin.read()))\nsys.exit(3)"],
    &["sh", "-c", "read a; echo $a | tr a-z A-Z | sort; echo no >&2; kill -TERM $$"],
    &["busybox", "wc"],
];

#[test]
fn every_command_takes_a_pack_for_its_recording() {
    let dir = TempDir::new().expect("a temporary directory");
    let dir = dir.path();
    packed(dir, PROGRAMS[1], b"some words\n");
    for command in [
        &["replay", "REC"][..],
        &["log", "REC"],
        &["log", "--raw", "REC"],
        &["log", "--digest", "REC"],
        &["log", "-c", "REC"],
        &["ps", "REC"],
        &["stdout", "REC"],
        &["stdout", "--stderr", "REC"],
        &["find", "REC", "exec"],
        &["where", "REC", "/etc/**"],
        &["cat", "REC", "/proc/self/cmdline"],
        &["trace", "REC", "-o", "-"],
        &["report", "REC", "-o", "-"],
    ] {
        let (one, other) = (said(dir, command, "rec.dir"), said(dir, command, "rec.dvr"));
        assert_ne!(one.status, 125, "{command:?}: {one:?}");
        assert_eq!(one, other, "{command:?}");
    }
}

#[test]
fn a_pack_is_smaller_and_goes_there_and_back() {
    for program in PROGRAMS {
        let dir = TempDir::new().expect("a temporary directory");
        let dir = dir.path();
        let recorded = packed(dir, program, b"some words\n");
        let (before, after) = (length(&dir.join("rec.dir")), length(&dir.join("rec.dvr")));
        assert!(after < before, "{program:?}: {after} bytes of {before}");
        assert_eq!(said(dir, &["replay", "-q", "REC"], "rec.dvr"), recorded);
        assert_eq!(tool(dir, ["diff", "-q", "rec.dir", "rec.dvr"]).text(), "");
        assert!(tool(dir, ["inspect", "--verify", "rec.dvr"]).text().contains("verified     everything"));
        tool(dir, ["unpack", "rec.dvr", "-o", "back"]).text();
        fs::remove_dir_all(dir.join("rec.dir")).expect("removed");
        assert_eq!(said(dir, &["replay", "-q", "REC"], "back"), recorded);
        assert_eq!(tool(dir, ["unpack", "rec.dvr", "-o", "back"]).status, 125);
        assert_eq!(tool(dir, ["unpack", "back", "-o", "further"]).status, 125);
        assert!(!dir.join("further").exists());
    }
}

#[test]
fn a_pack_needs_neither_the_program_nor_its_place() {
    let dir = TempDir::new().expect("a temporary directory");
    common::guest(dir.path(), "debugged.c", &["-g", "-O0"]);
    let recorded = packed(dir.path(), &["./debugged", "heap"], b"");
    let elsewhere = TempDir::new().expect("a temporary directory");
    let moved = elsewhere.path().join("moved.dvr");
    fs::rename(dir.path().join("rec.dvr"), &moved).expect("moved");
    drop(dir);
    assert_eq!(tool(elsewhere.path(), ["replay", "-q", "moved.dvr"]), recorded);
    common::native("gdb");
    let gdb = ["debug", "moved.dvr", "--", "-nx", "-batch", "-ex", "continue", "-ex", "backtrace"];
    let debugged = tool(elsewhere.path(), gdb);
    let text = debugged.text();
    assert!(text.contains("SIGSEGV") && text.contains("sum ()") && text.contains("main"), "{debugged:?}");
}

#[test]
fn a_recording_of_a_restored_layer_is_packed_with_its_parents() {
    common::require_kvm();
    let dir = TempDir::new().expect("a temporary directory");
    let dir = dir.path();
    let host = dejavm::Host::probe().expect("KVM");
    let script = "read a; echo one $a; read b; echo two $b";
    let (base, layer) = (dir.join("base.dvm"), dir.join("layer.dvm"));
    let mut sandbox =
        dejavm::Program::new("sh").args(["-c", script]).stdin("").start(&host).expect("a shell");
    sandbox.run_until(dejavm::PauseAt::FirstRead).expect("a run");
    sandbox.snapshot(&base, &dejavm::WriteOptions::default()).expect("a snapshot");
    let image = dejavm::Image::open(&base).expect("an image");
    let mut sandbox = image.restore().stdin("x\n").start(&host).expect("a sandbox");
    sandbox.run_until(dejavm::PauseAt::FirstOutput).expect("a run");
    let parent = Some(image.snapshot().clone());
    sandbox.snapshot(&layer, &dejavm::WriteOptions { parent, ..Default::default() }).expect("a layer");
    let mut command = dejavm(["restore", "-q", "layer.dvm", "--record", "rec.dir"]);
    let recorded = finish(command.current_dir(dir), Input::Pipe(b"y\n"));
    tool(dir, ["pack", "-q", "rec.dir", "-o", "rec.dvr"]).text();
    for gone in ["base.dvm", "layer.dvm"] {
        fs::remove_file(dir.join(gone)).expect("removed");
    }
    fs::remove_dir_all(dir.join("rec.dir")).expect("removed");
    assert_eq!(tool(dir, ["replay", "-q", "rec.dvr"]), recorded);
}

/// What the recorder kept to move about faster is not in the pack, and what it was kept for goes without.
#[test]
fn a_pack_has_no_checkpoints() {
    common::require_kvm();
    let dir = TempDir::new().expect("a temporary directory");
    let dir = dir.path();
    let program =
        ["python3", "-S", "-c", "import os\nfor i in range(300): os.getppid()\nprint(os.getppid())"];
    let record = [&["record", "-q", "--checkpoints", "1ms", "-o", "rec.dir", "--"], &program[..]].concat();
    let recorded = tool(dir, record);
    tool(dir, ["pack", "-q", "--level", "3", "rec.dir", "-o", "rec.dvr"]).text();
    let checkpoints = |name: &str| {
        let recording = dejavm::replay::Recording::open(dir.join(name)).expect("a recording");
        recording.manifest().checkpoints.len()
    };
    assert!(checkpoints("rec.dir") > 0);
    assert_eq!(checkpoints("rec.dvr"), 0);
    assert_eq!(said(dir, &["replay", "-q", "REC"], "rec.dvr"), recorded);
    let cat = ["cat", "REC", "/proc/self/maps"];
    let from_end = said(dir, &cat, "rec.dir");
    assert!(!from_end.text().is_empty());
    assert_eq!(said(dir, &cat, "rec.dvr"), from_end);
    tool(dir, ["unpack", "-q", "rec.dvr", "-o", "back"]).text();
    assert_eq!(fs::read_dir(dir.join("back")).expect("a directory").count(), 3);
}

#[test]
fn an_interrupted_recording_stays_one() {
    let dir = TempDir::new().expect("a temporary directory");
    let dir = dir.path();
    packed(dir, PROGRAMS[0], b"words\n");
    // What a kill leaves.
    let log = fs::read(dir.join("rec.dir/log")).expect("a log");
    fs::write(dir.join("rec.dir/log"), &log[..log.len() * 3 / 4]).expect("written");
    let manifest = fs::read_to_string(dir.join("rec.dir/manifest.json")).expect("a manifest");
    fs::write(
        dir.join("rec.dir/manifest.json"),
        manifest.replace("\"complete\": true", "\"complete\": false"),
    )
    .expect("written");
    tool(dir, ["pack", "-q", "--level", "3", "rec.dir", "-o", "rec.dvr"]).text();
    let (one, other) = (said(dir, &["replay", "REC"], "rec.dir"), said(dir, &["replay", "REC"], "rec.dvr"));
    assert_eq!(one.status, 120, "{one:?}");
    assert_eq!(one, other);
    assert_eq!(
        said(dir, &["log", "--digest", "REC"], "rec.dir"),
        said(dir, &["log", "--digest", "REC"], "rec.dvr")
    );
}
