//! `execve`: what it refuses, what it keeps, what it gives back; and programs that live by it. What Linux
//! does is found out by running the same program natively.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{ENVIRONMENT, Finished, Input};

/// Builds `tests/guests/exec.c` into a directory.
fn build(dir: &Path) -> PathBuf {
    common::require_kvm();
    let program = dir.join("exec");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/exec.c");
    let gcc = Command::new("gcc").args(["-O1", "-w", "-o"]).args([&program, &source]).status();
    assert!(gcc.expect("gcc: install it (Debian: gcc, libc6-dev)").success(), "{}", source.display());
    program
}

fn native(program: &Path, args: &[&str]) -> Finished {
    let work = tempfile::tempdir().expect("a directory");
    // Whoever runs the tests may ignore signals; a guest starts with none ignored.
    let mut command = Command::new("/usr/bin/env");
    command
        .arg("--default-signal")
        .arg(program)
        .args(args)
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir(work.path());
    common::finish(&mut command, Input::Pipe(b""))
}

fn options(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        ["-q", "--deadline", "60s", "--workdir", "/tmp", "--ro"].map(String::from).into();
    all.push(dir.display().to_string());
    all
}

fn sandboxed(dir: &Path, more: &[&str], program: &Path, args: &[&str]) -> Finished {
    let mut command = common::dejavm(["run"]);
    command.args(options(dir)).args(more).arg("--").arg(program).args(args);
    common::finish(&mut command, Input::Pipe(b""))
}

#[track_caller]
fn same(deed: &[&str]) {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path());
    let expected = native(&program, deed).text();
    assert!(!expected.is_empty());
    assert_eq!(sandboxed(dir.path(), &[], &program, deed).text(), expected);
}

#[test]
fn errors_are_linux_own() {
    same(&["errors"]);
}

#[test]
fn what_stays_and_what_goes() {
    same(&["state"]);
}

#[test]
fn a_program_by_descriptor() {
    same(&["by-descriptor"]);
}

#[test]
fn without_arguments_there_is_an_empty_name() {
    same(&["no-arguments"]);
}

/// Memory, contents and page tables of each program are given back: there is room for two at once, not
/// for four.
#[test]
fn programs_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path());
    let many = if common::full() { "1000" } else { "40" };
    let run = sandboxed(dir.path(), &["--memory", "40M"], &program, &["again", many]);
    assert_eq!(run.text(), "done\n");
}

#[test]
fn the_layout_is_a_function_of_the_seed() {
    let maps = |seed: &str| {
        let dir = tempfile::tempdir().expect("a directory");
        let script = ["-c", "exec cat /proc/self/maps"];
        sandboxed(dir.path(), &["--seed", seed], Path::new("/bin/sh"), &script).text()
    };
    assert_eq!(maps("1"), maps("1"));
    assert_ne!(maps("1"), maps("2"));
}

fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}

/// Scripts as the first program and by `exec`, chains of them up to the limit, and their arguments.
#[test]
fn scripts() {
    let dir = tempfile::tempdir().expect("a directory");
    let exec = build(dir.path());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let text = format!("#!{} args   two words \t\n", exec.display());
    script(dir.path(), "s0", &text);
    for n in 1..6 {
        script(dir.path(), &format!("s{n}"), &format!("#!{} arg{n}\n", at(&format!("s{}", n - 1))));
    }
    script(dir.path(), "python", "#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:], 6 * 7)\n");
    script(dir.path(), "shell", "#!/bin/sh\nexec \"$(dirname \"$0\")\"/s0 \"$@\"\n");
    script(dir.path(), "sh", "#!/bin/sh -e\necho \"$0\" \"$1\"; false; echo no\n");
    for (name, args) in [("s0", &["a", "b"][..]), ("s4", &["x"]), ("python", &["p"]), ("sh", &["1"])] {
        let path = dir.path().join(name);
        let expected = native(&path, args);
        let seen = sandboxed(dir.path(), &[], &path, args);
        assert_eq!((seen.status, &seen.stdout), (expected.status, &expected.stdout), "{name}: {seen:?}");
        assert!(!seen.stdout.is_empty(), "{name}");
    }
    // One script too many.
    let too_many = sandboxed(dir.path(), &[], &dir.path().join("s5"), &[]);
    assert_eq!(too_many.status, 126, "{too_many:?}");
}

/// Real programs that run others in their place.
#[test]
fn programs_that_execute_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let lines: [&[&str]; 9] = [
        &["/usr/bin/env", "-i", "A=b", "/usr/bin/env"],
        &["/usr/bin/nice", "-n", "5", "/usr/bin/nice"],
        &["/bin/sh", "-c", "exec echo one two"],
        &["/bin/bash", "-c", "trap '' INT; exec bash -c 'trap; echo $0 $1' named arg"],
        &["/usr/bin/nohup", "/bin/echo", "still here"],
        &["/bin/busybox", "sh", "-c", "X=1 exec env -u HOME printenv X"],
        &["/usr/bin/perl", "-e", "exec 'python3', '-c', 'print(\"from perl\")'"],
        &["/usr/bin/python3", "-c", "import os; os.execvp('env', ['env', 'echo', 'from python'])"],
        &["/usr/bin/setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "/usr/bin/id", "-u"],
    ];
    for line in lines {
        let (program, args) = (Path::new(line[0]), &line[1..]);
        let expected = native(program, args);
        let seen = sandboxed(dir.path(), &[], program, args);
        assert_eq!((seen.status, &seen.stdout), (expected.status, &expected.stdout), "{line:?}: {seen:?}");
    }
}

/// A recording goes through `exec`, and a snapshot made after it has the new program.
#[test]
fn recorded_replayed_restored_and_evicted() {
    let dir = tempfile::tempdir().expect("a directory");
    let line =
        ["/bin/sh", "-c", "exec perl -e 'print \"ready\\n\"; $| = 1; print int(rand 1e9), \" $$\\n\"'"];
    let mut record = common::dejavm(["record", "-q", "-o", "log", "--"]);
    let recorded = common::finish(record.args(line).current_dir(dir.path()), Input::Pipe(b"")).text();
    assert!(recorded.starts_with("ready\n"));
    let replayed = common::tool(dir.path(), ["replay", "-q", "log"]).text();
    assert_eq!(replayed, recorded);

    let mut evicted = common::dejavm(["run", "-q", "--evict", "every=50,seed=1", "--"]);
    assert_eq!(common::finish(evicted.args(line).current_dir(dir.path()), Input::Pipe(b"")).text(), recorded);

    let read = ["/bin/sh", "-c", "exec python3 -c 'print(\"got\", input())'"];
    let mut snapshot = common::dejavm(["snapshot", "-q", "--at", "first-read", "-o", "s.djvs", "--"]);
    let made = common::finish(snapshot.args(read).current_dir(dir.path()), Input::Pipe(b""));
    assert_eq!(made.status, 0, "{made:?}");
    let mut restore = common::dejavm(["restore", "-q", "s.djvs"]);
    let restored = common::finish(restore.current_dir(dir.path()), Input::Pipe(b"it\n")).text();
    assert_eq!(restored, "got it\n");
}

/// What cannot be run is named, and what to do.
#[test]
fn programs_that_cannot_be_run() {
    let dir = tempfile::tempdir().expect("a directory");
    common::require_kvm();
    let plain = script(dir.path(), "plain", "echo no\n");
    let lost = script(dir.path(), "lost", "#!/no/such/interpreter\n");
    let closed = script(dir.path(), "closed", "#!/bin/sh\n");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o644)).expect("its mode");
    let cases = [
        (plain, 126, "Exec format error"),
        (lost, 127, "/no/such/interpreter, the interpreter of"),
        (closed, 126, "execute bit"),
        (PathBuf::from("/no/such/program"), 127, "No such file"),
    ];
    for (path, status, words) in cases {
        let run = sandboxed(dir.path(), &[], &path, &[]);
        let message = String::from_utf8_lossy(&run.stderr);
        assert!(run.status == status && message.contains(words), "{path:?}: {run:?}");
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
}
