//! Mutexes whose waiters lend their priority (`PTHREAD_PRIO_INHERIT`), as Linux has them.

mod common;

use common::parts;

#[track_caller]
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "priorities.c", &["-pthread"]);
    parts::same(&program, part);
}

#[test]
fn one_after_the_other() {
    same("threads");
}

#[test]
fn errors_and_limits() {
    same("errors");
}

#[test]
fn owners_that_end() {
    same("owners");
}
