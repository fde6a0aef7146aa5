//! Descriptors that tell of what happens: `signalfd` and `pidfd_open`, as Linux has them.

mod common;

use std::path::{Path, PathBuf};

use common::parts;

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "notices.c", &["-pthread"])
}

#[track_caller]
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    parts::same(&build(dir.path()), part);
}

#[test]
fn of_signals() {
    same("signals");
}

#[test]
fn of_processes() {
    same("processes");
}

#[test]
fn a_snapshot_has_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    parts::go_on(&program, "signals", &[50, 80]);
    parts::go_on(&program, "processes", &[50, 70]);
}
