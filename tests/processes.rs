//! Processes, threads and what they wait for, as Linux has them: what Linux has is found out by running the
//! same program natively. Who runs when follows from the seed, and nothing that one program does harms
//! another.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::parts::{self, sandboxed};

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "processes.c", &["-pthread"])
}

/// Natively and in the sandbox the same.
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = parts::same(&build(dir.path()), part);
    assert!(log.contains("[pid 3] "), "the log names the tasks");
}

#[test]
fn children_are_waited_for() {
    same("waits");
}

#[test]
fn children_are_copies() {
    same("copies");
}

#[test]
fn what_is_had_alone() {
    same("shares");
}

#[test]
fn threads_and_their_signals() {
    same("threads");
}

#[test]
fn a_thread_executes_a_program() {
    same("exec");
}

#[test]
fn what_is_ready_and_what_waits() {
    same("readiness");
}

#[test]
fn one_end_of_a_fifo_comes_and_goes_before_the_other_runs() {
    same("fifos");
}

#[test]
fn a_thread_that_a_signal_made_ready_is_woken_all_the_same() {
    same("wake");
}

#[test]
fn a_set_that_changes_wakes_who_waits_for_it() {
    same("watch");
}

/// Time that passes for nobody does not keep a program alive.
#[test]
fn a_timer_that_nobody_reads_ends_no_deadlock() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let seen = sandboxed(&program, &["run", "--deadline", "600s"], &["unread"]);
    assert_eq!(seen.status, 123, "{seen:?}");
}

/// Two threads lose updates across a system call: how many follows from the seed.
#[test]
fn a_race_is_one_for_one_seed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let with = |seed: &str| sandboxed(&program, &["run", "-q", "--seed", seed], &["race"]).text();
    let first = with("1");
    for _ in 0..4 {
        assert_eq!(with("1"), first);
    }
    let outcomes: BTreeSet<String> = (1..=10).map(|seed| with(&seed.to_string())).collect();
    assert!(outcomes.len() >= 2, "{outcomes:?}");
}

/// A program that can never go on ends, and says who waits for what.
#[test]
fn a_deadlock_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    parts::is_stuck(&program, "deadlock", &["task 2 for a futex", "task 3 for a futex"]);
}

/// Tasks, address spaces and their memory end with Linux's errors.
#[test]
fn bombs_meet_their_limits() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let seen = sandboxed(&program, &["run", "-q", "--deadline", "600s"], &["bomb", "fork"]);
    // Whoever asks for the last page is refused, or killed.
    let refused = (seen.status, &seen.stdout[..]) == (0, b"ENOMEM 1\nto the end\n");
    assert!(refused || (seen.status, seen.stdout.len()) == (137, 0), "{seen:?}");
    for (what, error) in [("vfork", "EAGAIN"), ("clone", "EAGAIN")] {
        let seen = sandboxed(&program, &["run", "-q", "--deadline", "600s"], &["bomb", what]);
        assert_eq!((seen.status, seen.text()), (0, format!("{error} 1\nto the end\n")), "{what}: {seen:?}");
    }
    let few = ["run", "-q", "--deadline", "600s", "--memory", "24M"];
    let seen = sandboxed(&program, &few, &["bomb", "clone"]);
    let refused = seen.status == 0 && seen.stdout.starts_with(b"EAGAIN");
    assert!(refused || seen.status == 137, "{seen:?}");
}

/// The deadline ends whatever many tasks do.
#[test]
fn the_deadline_ends_all_tasks() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    for what in ["signals", "exec", "spin"] {
        let seen = sandboxed(&program, &["run", "-q", "--deadline", "2s"], &["bomb", what]);
        assert_eq!(seen.status, 124, "{what}: {seen:?}");
    }
}

/// A sandbox of many tasks in the middle of its run is a snapshot as any other.
#[test]
fn a_snapshot_has_all_tasks() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    parts::go_on(&program, "threads", &[90, 340, 640]);
}
