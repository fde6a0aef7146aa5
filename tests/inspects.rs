//! What a program finds out of itself and of others: whether they have something in common, and what `/proc` tells
//! of a process. Linux is asked what is right, by running the same program natively.

mod common;

use std::path::{Path, PathBuf};

use common::parts;

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "inspects.c", &["-pthread"])
}

#[track_caller]
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    parts::same(&build(dir.path()), part);
}

#[test]
fn what_tasks_have_in_common() {
    same("compares");
}

#[test]
fn links_to_what_is_mapped() {
    same("mapped");
}

#[test]
fn calls_that_are_made() {
    same("calls");
}

#[test]
fn resolutions_of_clocks() {
    same("clocks");
}
