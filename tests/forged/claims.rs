//! What a snapshot may claim of the host, and a host file that changes beside its restore.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dejavm::{Error, Host, Image, Outcome, PauseAt, Program, Restore, WriteOptions};

use crate::common::{self, Finished, tool};

/// A snapshot of a shell that waits for its input, with these limits.
fn snapshot(dir: &Path, limits: &[&str]) -> Finished {
    let words = ["snapshot", "-q", "-o", "s.dvm", "--at", "first-read"];
    tool(dir, words.iter().chain(limits).chain(&["--", "sh", "-c", "read x; echo $x"]))
}

#[track_caller]
fn refused(done: &Finished, words: &[&str]) {
    assert_eq!((done.status, done.stdout.len()), (125, 0), "{done:?}");
    let said = String::from_utf8_lossy(&done.stderr);
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
fn a_snapshot_is_given_what_it_is_allowed_at_most() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    assert_eq!(snapshot(dir, &["--memory", "60G"]).status, 0);
    let claims = ["s.dvm", "60G", "1G", "--memory 60G"];
    refused(&tool(dir, ["restore", "s.dvm"]), &claims);
    refused(&tool(dir, ["warm", "s.dvm"]), &claims);
    refused(&tool(dir, ["restore", "s.dvm", "--memory", "2G"]), &["60G", "2G are allowed"]);
    assert_eq!(tool(dir, ["restore", "s.dvm", "--memory", "60G"]).status, 0);

    assert_eq!(snapshot(dir, &["--disk", "3T"]).status, 0);
    refused(&tool(dir, ["restore", "s.dvm"]), &["s.dvm", "3072G", "--disk 3072G"]);
    assert_eq!(tool(dir, ["restore", "s.dvm", "--disk", "4T"]).status, 0);

    let recorded = ["record", "-q", "-o", "rec", "--memory", "3G", "--", "true"];
    assert_eq!(tool(dir, recorded).status, 0);
    refused(&tool(dir, ["replay", "rec"]), &["start.dvm", "3G", "--memory 3G"]);
    assert_eq!(tool(dir, ["replay", "rec", "--memory", "3G"]).status, 0);
}

#[test]
fn the_library_has_the_same_ceilings() {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let mut sandbox = Program::new("sh")
        .args(["-c", "read x"])
        .memory(64 << 20)
        .disk(1 << 20)
        .start(&host)
        .expect("a shell");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    sandbox.snapshot(&path, &WriteOptions::default()).expect("a snapshot");
    let claimed = |restore: Restore| match restore.start(&host).map(drop) {
        Err(Error::Ceiling { what, claimed, allowed, .. }) => Some((what, claimed, allowed)),
        Err(e) => panic!("{e}"),
        Ok(()) => None,
    };
    let image = Image::open(&path).expect("an image");
    assert_eq!(claimed(image.restore().memory(63 << 20)), Some(("memory", 64 << 20, 63 << 20)));
    assert_eq!(claimed(image.restore().disk(0)), Some(("disk", 1 << 20, 0)));
    assert_eq!(claimed(image.restore().memory(64 << 20).disk(1 << 20)), None);
}

/// How long a snapshot is cut and written over beside restores.
const CHANGING: Duration = Duration::from_secs(6);

/// Another process may do to a snapshot what it likes while a guest runs from it: the guest goes on, or
/// its run ends with an error that names the file. It ended the process by SIGBUS once.
#[test]
fn a_snapshot_that_is_cut_and_written_over_beside_its_restores() {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let mut sandbox = Program::new("python3")
        .args(["-c", "import json, sys; sys.stdin.read(); import re, decimal"])
        .start(&host)
        .expect("python3");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    sandbox.snapshot(&path, &WriteOptions::default()).expect("a snapshot");
    let whole = std::fs::read(&path).expect("a snapshot");
    let done = AtomicBool::new(false);
    let (mut ran, mut failed) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = std::fs::File::options().write(true).open(&path).expect("the snapshot");
            let mut cut = whole.len() as u64;
            while !done.load(Ordering::Relaxed) {
                cut = if cut < 10_000 { whole.len() as u64 } else { cut * 7 / 8 };
                file.set_len(cut).expect("cut");
                std::thread::sleep(Duration::from_micros(500));
                file.write_all_at(&whole, 0).expect("written");
                // Long enough for a restore, now and then.
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let start = Instant::now();
        while start.elapsed() < CHANGING {
            let restore = Image::open(&path).map(|image| image.restore().deadline(Duration::from_secs(10)));
            match restore.and_then(|restore| restore.start(&host)?.run()) {
                Ok(report) => {
                    assert_eq!(report.outcome, Outcome::Exited(0));
                    ran += 1;
                }
                Err(e) => {
                    assert!(e.to_string().contains("s.dvm"), "{e}");
                    failed += 1;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{ran} restores ran, {failed} ended with an error");
    assert!(ran + failed > 0);
}
