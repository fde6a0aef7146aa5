//! Threads that end while they hold what other processes wait for, as on Linux: by their process's end, by a
//! program that another thread executes, and by themselves.

mod common;

use common::parts;

#[track_caller]
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "owners.c", &["-pthread"]);
    parts::same(&program, part);
}

#[test]
fn of_a_process_that_ends() {
    same("exit");
}

#[test]
fn of_a_process_that_is_killed() {
    same("signal");
}

#[test]
fn of_a_process_that_executes_a_program() {
    same("exec");
}

#[test]
fn its_end_is_told_in_shared_memory() {
    same("told");
}
