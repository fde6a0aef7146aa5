//! Processes that stop and go on, and who is told, as Linux has it.

mod common;

use std::path::{Path, PathBuf};

use common::parts;

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "jobs.c", &["-pthread"])
}

#[track_caller]
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    parts::same(&build(dir.path()), part);
}

#[test]
fn parents_wait_for_stops() {
    same("waits");
}

#[test]
fn parents_are_told() {
    same("tells");
}

#[test]
fn calls_wait_on_behind_a_stop() {
    same("calls");
}

#[test]
fn signals_of_a_keyboard() {
    same("keyboard");
}

#[test]
fn all_threads_stop() {
    same("threads");
}

#[test]
fn what_others_have_set() {
    same("others");
}

#[test]
fn barriers_are_registered_for() {
    same("barriers");
}

#[test]
fn nobody_lets_the_first_process_go_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    parts::is_stuck(&program, "for-ever", &["task 2 to go on (SIGCONT)"]);
}

#[test]
fn a_snapshot_has_stopped_ones() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    parts::go_on(&program, "waits", &[50, 70, 90]);
    parts::go_on(&program, "threads", &[50, 70]);
}
