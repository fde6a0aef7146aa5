//! Futexes beyond what a mutex takes: waiting for many, and moving to one that inherits priorities.

mod common;

use common::parts;

#[track_caller]
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "futexes.c", &["-pthread"]);
    parts::same(&program, part);
    parts::go_on(&program, part, &[50, 80, 110]);
}

#[test]
fn waiting_for_many() {
    same("many");
}

#[test]
fn moving_to_one_that_inherits() {
    same("move");
}

#[test]
fn interrupted() {
    same("interrupt");
}
