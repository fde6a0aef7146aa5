//! `splice`, `vmsplice` and `tee`, as Linux has them.

mod common;

use common::parts;

#[track_caller]
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    parts::same(&common::guest(dir.path(), "splices.c", &[]), part);
}

#[test]
fn errors() {
    same("errors");
}

#[test]
fn what_is_moved() {
    same("moves");
}

#[test]
fn waits() {
    same("waits");
}

#[test]
fn out_of_sockets() {
    same("sockets");
}

#[test]
fn memory_to_a_pipe_and_back() {
    same("memory");
}
