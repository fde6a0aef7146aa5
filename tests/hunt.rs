//! A hunt finds mistakes between threads that plain runs do not show, and keeps a run that replays.
//!
//! `DEJAVM_TEST_FULL=1` runs each program natively 1,000 times before, which shows nothing.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Finished, Input, finish, tool};

fn hunt(dir: &Path, options: &[&str], part: &[&str]) -> Finished {
    let program = common::guest(dir, "races.c", &["-pthread"]);
    let mut command = common::dejavm(["hunt", "-o"]);
    command.arg(dir.join("found")).args(options).arg("--ro").arg(dir).arg("--").arg(program).args(part);
    finish(&mut command, Input::Pipe(b""))
}

fn errors(finished: &Finished) -> String {
    String::from_utf8_lossy(&finished.stderr).into_owned()
}

/// It is found in at most 1000 runs, the same one by another hunt, and comes out so again; plain runs are fine.
fn found(part: &str, how: &str, status: i32) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "races.c", &["-pthread"]);
    for run in 0..if common::full() { 1000 } else { 20 } {
        let native = finish(Command::new(&program).arg(part), Input::Pipe(b""));
        assert_eq!((native.status, native.text()), (0, "to the end\n".into()), "native run {run}");
    }
    for seed in ["0", "1", "2", "3", "4"] {
        let mut plain = common::dejavm(["run", "--seed", seed, "--ro"]);
        let plain = finish(plain.arg(dir.path()).arg("--").arg(&program).arg(part), Input::Pipe(b""));
        assert_eq!((plain.status, plain.text()), (0, "to the end\n".into()), "seed {seed} without chaos");
    }
    let first = hunt(dir.path(), &["--chaos", "--deadline", "600s"], &[part]);
    assert_eq!(first.status, 1, "{first:?}");
    let said = errors(&first);
    assert!(said.contains(how) && said.contains("--chaos"), "{said}");
    let mut names: Vec<_> = std::fs::read_dir(dir.path().join("found"))
        .expect("the directory of what was found")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["log", "manifest.json", "start.dvm"], "nothing else is left");
    let replays = [(); 2].map(|()| tool(dir.path(), ["replay", "found"]));
    assert_eq!(replays[0].status, status, "{:?}", replays[0]);
    assert_eq!(replays[0], replays[1]);
    std::fs::rename(dir.path().join("found"), dir.path().join("before")).expect("out of the way");
    let again = hunt(dir.path(), &["--chaos", "--deadline", "600s", "--jobs", "3"], &[part]);
    assert_eq!(again, first, "the same is found however many run at once");
}

#[test]
fn a_lost_wake_up() {
    found("wake-up", "stuck", 123);
}

#[test]
fn a_deadlock_by_the_order_of_locks() {
    found("order", "stuck", 123);
}

#[test]
fn a_double_free() {
    found("free", "SIGABRT", 134);
}

#[test]
fn a_lost_update() {
    found("update", "status 1", 1);
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let none = hunt(dir.path(), &["--chaos", "-n", "20"], &["none"]);
    assert_eq!(none.status, 0, "{none:?}");
    assert!(!dir.path().join("found").exists(), "a directory of nothing");
    let expected = hunt(dir.path(), &["-n", "3", "--expect", "7"], &["none", "7"]);
    assert_eq!(expected.status, 0, "{expected:?}");
    let wrong = hunt(dir.path(), &["-n", "3"], &["none", "7"]);
    assert_eq!(wrong.status, 1, "{wrong:?}");
    assert!(errors(&wrong).contains("run 1 of") && errors(&wrong).contains("status 7"), "{wrong:?}");
    let full = hunt(dir.path(), &["-n", "3"], &["none"]);
    assert_eq!(full.status, 125);
    assert!(errors(&full).contains("not empty"), "{full:?}");
}

#[test]
fn a_program_that_cannot_be_run_ends_the_hunt() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let to = dir.path().join("found");
    let missing = tool(dir.path(), ["hunt", "-o", "found", "--", "no-such-program"]);
    assert_eq!(missing.status, 125, "{missing:?}");
    assert!(errors(&missing).contains("no-such-program"), "{missing:?}");
    assert!(!to.join("run-0").exists(), "no run is left");
}

#[test]
fn a_restored_run_takes_chaos_up_and_replays() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "races.c", &["-pthread"]);
    let path = program.to_str().expect("UTF-8");
    let here = dir.path().to_str().expect("UTF-8");
    let made = tool(dir.path(), ["snapshot", "-o", "s", "--at", "exit:5", "--ro", here, "--", path, "order"]);
    assert_eq!(made.status, 0, "{made:?}");
    for seed in ["0", "3", "4"] {
        let to = format!("rec-{seed}");
        let options = ["--seed", "0", "--chaos", seed, "--deadline", "600s", "--ro", here];
        let run = tool(dir.path(), [&["restore", "-q", "s", "--record", &to][..], &options].concat());
        assert_eq!(tool(dir.path(), ["replay", "-q", &to]), run, "seed {seed}");
    }
}
