//! Private mappings of files, dropped and moved (`tests/guests/discard.c`), and shared ones, written
//! (`shared.c`): natively and in the sandbox, straight on and behind a snapshot, recorded and replayed,
//! they hold the same.

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{Input, dejavm, finish};
use tempfile::TempDir;

/// Ways in which pages come and go.
const WAYS: [&[&str]; 5] =
    [&[], &["--evict", "every=5,seed=3"], &["--rung", "decode"], &["--rung", "populate"], &["--eager"]];

/// What the guest reads where a snapshot may be made.
const INPUT: Input<'_> = Input::Pipe(b"x");

/// The guest, and what it prints natively.
struct Guest {
    dir: TempDir,
    program: String,
    native: String,
}

impl Guest {
    fn new(name: &str) -> Guest {
        let dir = TempDir::new().expect("temporary directory");
        let program = common::guest(dir.path(), &format!("{name}.c"), &[]);
        let mut host = Vec::new();
        for page in 0..1300 {
            host.extend(format!("h{page}").bytes());
            host.resize((page + 1) * 4096, 0);
        }
        host.extend(b"tail");
        std::fs::write(dir.path().join("host"), &host).expect("a file");
        let scratch = TempDir::new().expect("temporary directory");
        std::fs::write(scratch.path().join("host"), &host).expect("a file");
        let native = finish(Command::new(program).current_dir(scratch.path()), INPUT).text();
        assert!(native.lines().count() > 20, "{native}");
        Guest { dir, program: format!("./{name}"), native }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the tool prints, with the guest's files around it.
    #[track_caller]
    fn tool(&self, args: &[&str], more: &[&str]) -> String {
        finish(dejavm(args).args(more).current_dir(self.dir.path()), INPUT).text()
    }

    /// A snapshot before the input, and what the guest printed until then.
    fn snapshot(&self) -> String {
        self.tool(&["snapshot", "-q", "--at", "first-read", "-o", "s.dvm"], &["--", &self.program])
    }
}

#[test]
fn dropped_and_moved() {
    straight_on("discard");
}

#[test]
fn shared_and_written() {
    straight_on("shared");
}

fn straight_on(name: &str) {
    let guest = Guest::new(name);
    for way in WAYS {
        let mut args = vec!["run", "-q"];
        args.extend(way);
        assert_eq!(guest.tool(&args, &["--", &guest.program]), guest.native, "{way:?}");
    }
    guest.tool(&["record", "-q", "-o", "rec"], &["--", &guest.program]);
    std::fs::rename(guest.file("host"), guest.file("away")).expect("rename");
    for way in WAYS {
        assert_eq!(guest.tool(&["replay", "-q", "rec"], way), guest.native, "{way:?}");
    }
}

#[test]
fn dropped_and_moved_behind_a_snapshot() {
    behind_a_snapshot("discard");
}

#[test]
fn shared_and_written_behind_a_snapshot() {
    behind_a_snapshot("shared");
}

/// The content of the host's file that nobody has touched comes from the host, or from the snapshot.
#[test]
fn a_shared_file_that_changes_on_the_host_is_named() {
    let guest = Guest::new("shared");
    let before = guest.snapshot();
    let with_files = ["snapshot", "-q", "--at", "first-read", "--with-files", "-o", "f.dvm"];
    assert_eq!(guest.tool(&with_files, &["--", &guest.program]), before);
    std::fs::write(guest.file("host"), "another").expect("a file");
    let restore = |snapshot| finish(dejavm(["restore", "-q", snapshot]).current_dir(guest.dir.path()), INPUT);
    let refused = restore("s.dvm");
    assert_eq!(refused.status, 125, "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("host"), "{refused:?}");
    std::fs::remove_file(guest.file("host")).expect("remove");
    assert_eq!(before + &restore("f.dvm").text(), guest.native);
}

fn behind_a_snapshot(name: &str) {
    let guest = Guest::new(name);
    let before = guest.snapshot();
    let whole = |after: String| before.clone() + &after;
    for way in WAYS {
        assert_eq!(whole(guest.tool(&["restore", "-q", "s.dvm"], way)), guest.native, "{way:?}");
    }
    guest.tool(&["restore", "-q", "s.dvm", "--record", "rec"], &[]);
    // A page that comes with others of a working set is not what it was when the set was made.
    guest.tool(&["warm", "-q", "s.dvm"], &[]);
    assert_eq!(whole(guest.tool(&["restore", "-q", "s.dvm"], &[])), guest.native, "warm");
    std::fs::rename(guest.file("host"), guest.file("away")).expect("rename");
    for way in WAYS {
        assert_eq!(whole(guest.tool(&["replay", "-q", "rec"], way)), guest.native, "{way:?}");
    }
}
