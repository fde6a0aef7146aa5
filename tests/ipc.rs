//! System V IPC and POSIX message queues, as Linux has them: what Linux has is found out by running the same
//! program natively, which removes what it makes.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Finished, Input, finish, tool};

/// What the programs read: two of the places at which one is stopped.
const INPUT: Input<'_> = Input::Pipe(b"go\n");

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "ipc.c", &["-pthread", "-lrt"])
}

fn sandboxed(program: &Path, verb: &[&str], args: &[&str]) -> Finished {
    let mut command = common::dejavm(verb);
    let dir = program.parent().expect("the program lies in a directory");
    command.arg("--ro").arg(dir).arg("--").arg(program).args(args);
    finish(&mut command, INPUT)
}

fn native(program: &Path, part: &str) -> Finished {
    let native = finish(Command::new(program).arg(part), INPUT);
    assert!(native.text().ends_with("to the end\n"), "{native:?}");
    native
}

/// Natively and in the sandbox the same; then recorded and replayed, also with pages taken away.
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let native = native(&program, part);
    let seen = sandboxed(&program, &["run", "-q", "--deadline", "600s"], &[part]);
    assert_eq!(seen, native, "{part}");
    let evicting = ["run", "-q", "--deadline", "600s", "--evict", "every=7,seed=3"];
    assert_eq!(sandboxed(&program, &evicting, &[part]), native, "{part}, with evictions");
    let recording = dir.path().join("recording");
    let to = recording.to_str().expect("a path in UTF-8");
    assert_eq!(sandboxed(&program, &["record", "-q", "-o", to], &[part]), native, "{part}, recorded");
    assert_eq!(tool(dir.path(), ["replay", "-q", to]), native, "{part}, replayed");
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
    let native = native(&program, "talk").text();
    assert_eq!(sandboxed(&program, &["run", "-q"], &["talk"]).text(), native);
    for at in ["first-read", "exit:400", "exit:700", "exit:1500", "exit:1501"] {
        let file = dir.path().join(format!("{at}.dvm"));
        let to = file.to_str().expect("a path in UTF-8");
        let made = sandboxed(&program, &["snapshot", "-q", "-o", to, "--at", at], &["talk"]);
        let before = made.text();
        let mut restore = common::dejavm(["restore", "-q"]);
        // What it has read already is not read again.
        let input = if at == "first-read" { INPUT } else { Input::Pipe(b"") };
        let after = finish(restore.arg(&file), input).text();
        assert_eq!(before + &after, native, "{at}");
    }
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
