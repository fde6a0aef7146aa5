//! System V IPC and POSIX message queues, as Linux has them: what Linux has is found out by running the same
//! program natively, which removes what it makes.

mod common;

use std::path::{Path, PathBuf};

use common::parts::{Part, sandboxed};

/// What the programs read: two of the places at which one is stopped.
const INPUT: &[u8] = b"go\n";

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "ipc.c", &["-pthread", "-lrt"])
}

fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    Part::new(&build(dir.path()), part, INPUT, &[]).is_the_same();
}

#[test]
fn a_counter_in_shared_memory_with_a_semaphore() {
    same("counter");
}

#[test]
fn attachments_are_counted() {
    same("shared");
}

#[test]
fn operations_on_semaphores_wait_in_order() {
    same("semaphores");
}

#[test]
fn what_a_process_did_to_semaphores_is_undone() {
    same("undo");
}

#[test]
fn messages_of_system_v() {
    same("messages");
}

#[test]
fn posix_queues() {
    same("posix");
}

#[test]
fn errors_are_those_of_linux() {
    same("errors");
}

/// Who waits in what, segments and messages are part of a snapshot.
#[test]
fn a_talk_goes_on_behind_a_snapshot() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let talk = Part::new(&program, "talk", INPUT, &[]);
    talk.is_the_same();
    talk.goes_on(&["first-read", "exit:390", "exit:690", "exit:1490", "exit:1491"]);
}

/// A program that makes as many of everything as it can is refused, and its sandbox goes on.
#[test]
fn as_many_as_there_can_be() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let done = sandboxed(&program, &["run", "-q", "--memory", "512MiB", "--deadline", "60s"], &["greedy"]);
    let said = done.text();
    assert!(said.ends_with("given back: 1\nto the end\n"), "{said}");
    for line in said.lines().take(6) {
        let refused = ["ENOSPC", "ENOMEM", "EMFILE"].iter().any(|errno| line.ends_with(errno));
        assert!(refused, "{line}");
    }
}
