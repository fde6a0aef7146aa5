//! Sockets of the UNIX domain, as Linux has them: what Linux has is found out by running the same program
//! natively.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Finished, Input, finish, tool};

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "sockets.c", &["-pthread"])
}

fn sandboxed(program: &Path, verb: &[&str], args: &[&str]) -> Finished {
    let mut command = common::dejavm(verb);
    let dir = program.parent().expect("the program lies in a directory");
    command.arg("--ro").arg(dir).arg("--").arg(program).args(args);
    finish(&mut command, Input::Pipe(b""))
}

fn native(program: &Path, part: &str) -> Finished {
    // The second argument: it is to leave no files behind.
    let native = finish(Command::new(program).args([part, "clean"]), Input::Pipe(b""));
    assert!(native.text().ends_with("to the end\n"), "{native:?}");
    native
}

/// Natively and in the sandbox the same; then recorded and replayed, and behind snapshots in the middle.
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let native = native(&program, part);
    let seen = sandboxed(&program, &["run", "-q", "--deadline", "600s"], &[part]);
    assert_eq!(seen, native, "{part}");
    let recording = dir.path().join("recording");
    let to = recording.to_str().expect("a path in UTF-8");
    assert_eq!(sandboxed(&program, &["record", "-q", "-o", to], &[part]), native, "{part}, recorded");
    assert_eq!(tool(dir.path(), ["replay", "-q", to]), native, "{part}, replayed");
    let file = dir.path().join("snapshot.dvm");
    let to = file.to_str().expect("a path in UTF-8");
    for at in [60, 100, 150] {
        let point = format!("exit:{at}");
        let first = sandboxed(&program, &["snapshot", "-q", "--at", &point, "-o", to], &[part]);
        let rest = tool(dir.path(), ["restore", "-q", to]);
        assert_eq!(format!("{}{}", first.text(), rest.text()), native.text(), "{part} at exit {at}");
    }
}

#[test]
fn a_server_answers_its_clients() {
    same("echo");
}

#[test]
fn names_of_files_and_others() {
    same("names");
}

#[test]
fn what_is_refused() {
    same("errors");
}

#[test]
fn options_and_buffers() {
    same("options");
}

#[test]
fn datagrams_and_their_senders() {
    same("datagrams");
}

#[test]
fn descriptors_are_passed() {
    same("passing");
}

#[test]
fn credentials_are_told() {
    same("credentials");
}

#[test]
fn threads_wait_for_each_other() {
    same("waiting");
}

#[test]
fn an_end_goes_away() {
    same("closing");
}

#[test]
fn what_is_ready() {
    same("polling");
}

/// What a program makes grow is bounded, and nothing that it leaves behind stays.
#[test]
fn hostile_programs_meet_their_limits() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let few = ["run", "-q", "--deadline", "600s", "--disk", "64M"];
    let seen = sandboxed(&program, &few, &["hostile"]);
    let expected = "cycles\nchain\n4001 connections, EAGAIN\nfull: bounded\npassed: bounded\nto the end\n";
    assert_eq!(seen.text(), expected, "{seen:?}");
}

/// A program that can never go on ends, and says what it waits for.
#[test]
fn a_deadlock_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let seen = sandboxed(&program, &["run"], &["deadlock"]);
    let said = String::from_utf8_lossy(&seen.stderr).into_owned();
    assert_eq!(seen.status, 123, "{seen:?}");
    assert!(said.contains("to accept a connection on descriptor"), "{said}");
}
