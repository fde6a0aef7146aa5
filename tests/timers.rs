//! Timers that programs make: `timer_create` and its kin, as Linux has them.

mod common;

use std::path::{Path, PathBuf};

use common::parts;

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "timers.c", &["-pthread"])
}

#[track_caller]
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    parts::same(&build(dir.path()), part);
}

#[test]
fn errors() {
    same("errors");
}

#[test]
fn signals_and_what_was_missed() {
    same("signals");
}

/// Not as natively: older kernels than 6.13 have it otherwise, and slow ones miss more.
#[test]
fn what_is_pending_of_an_older_setting_does_not_come() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let seen = parts::sandboxed(&build(dir.path()), &["run", "-q"], &["stale"]);
    let one = |overruns| format!("signal 34 code -2 timer 0 overruns {overruns} value 0xffffffffffffffff");
    let expected = [&one(1), &one(0), "signal 34: EAGAIN", &one(0), "signal 34: EAGAIN", "to the end", ""];
    assert_eq!(seen.text(), expected.join("\n"));
}

#[test]
fn one_that_is_ignored_stands_still() {
    same("ignored");
}

#[test]
fn cpu_time() {
    same("cpu");
}

#[test]
fn sleeping_on_cpu_time() {
    same("sleeps");
}

#[test]
fn threads_are_told() {
    same("threads");
}

#[test]
fn they_do_not_outlive_the_program() {
    same("processes");
}

#[test]
fn many() {
    same("limits");
}

#[test]
fn a_snapshot_has_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    parts::go_on(&program, "signals", &[45, 60]);
    parts::go_on(&program, "threads", &[60]);
}
