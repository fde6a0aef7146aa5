//! Pipes (`tests/guests/pipes.c`): natively and in the sandbox, programs see the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{self, Input};

fn build(dir: &Path) -> PathBuf {
    common::require_kvm();
    let program = dir.join("pipes");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/pipes.c");
    let gcc = Command::new("gcc").args(["-O1", "-w", "-o"]).args([&program, &source]).status();
    assert!(gcc.expect("gcc: install it (Debian: gcc, libc6-dev)").success(), "{}", source.display());
    program
}

fn sandboxed(dir: &Path, act: &str, options: &[&str]) -> String {
    let run = [&["run", "--deadline", "60s"], options, &["--", "./pipes", act]].concat();
    common::tool(dir, run).text()
}

#[test]
fn sizes_and_packets() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path());
    for act in ["sizes", "fifo", "packets"] {
        let native = common::finish(Command::new(&program).arg(act), Input::Pipe(b"")).text();
        assert!(native.ends_with("the end\n"), "{native}");
        assert_eq!(sandboxed(dir.path(), act, &[]), native, "{act}");
    }
}

/// Who has `CAP_SYS_RESOURCE` may have larger ones, as long as there is room.
#[test]
fn sizes_that_need_privilege() {
    let dir = tempfile::tempdir().expect("a directory");
    build(dir.path());
    let seen = sandboxed(dir.path(), "privileged", &[]);
    let expected = "pipe2: 0 \nroot: 4194304 \nwrite: 3145728 \nread: 1048576 \nmost: -1 ENOMEM\nbusy: -1 EBUSY\n\
                    root: 2097152 \nseteuid: 0 \ndown: 2097152 \ndown: -1 EBUSY\nup: 2097152 \nup: -1 EBUSY\nthe end\n";
    assert_eq!(seen, expected);
}

/// What pipes may hold is taken from `--disk`, but for a few small ones.
#[test]
fn pipes_are_charged() {
    let dir = tempfile::tempdir().expect("a directory");
    build(dir.path());
    let seen = sandboxed(dir.path(), "many", &["--disk", "16M"]);
    let numbers: Vec<u64> = seen.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [held, size] = numbers[..] else { panic!("{seen}") };
    assert!(held == size && (17 << 20..=18 << 20).contains(&size), "{seen}");
    assert!(seen.ends_with("ENOMEM\nthe end\n"), "{seen}");
}

/// What is in a pipe, and how it is divided, is kept in a snapshot.
#[test]
fn pipes_are_kept() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let program = "import fcntl, os, sys\nr, w = os.pipe2(os.O_DIRECT)\nfcntl.fcntl(w, 1031, 1 << 18)\n\
                   os.write(w, b'first'); os.write(w, b'second')\nsys.stdin.read()\n\
                   print(os.read(r, 99), os.read(r, 99), fcntl.fcntl(r, 1032))";
    let snapshot = ["snapshot", "-q", "--at", "first-read", "-o", "s", "--", "python3", "-S", "-c", program];
    common::tool(dir.path(), snapshot).text();
    assert_eq!(common::tool(dir.path(), ["restore", "s"]).text(), "b'first' b'second' 262144\n");
}
