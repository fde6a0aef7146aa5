//! Tasks that lose the CPU behind a number of branches: what they print does not depend on where, whatever
//! instructions they run and however these fault; and where it is follows from the run alone.
//!
//! `DEJAVM_TEST_FULL=1` compares twenty runs of each instead of three, and tries more lengths.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::parts::sandboxed;
use common::{Finished, Input, finish, tool};

/// What a guest prints natively.
fn native(program: &Path, part: &str) -> Finished {
    let native = finish(Command::new(program).arg(part), Input::Pipe(b""));
    assert_eq!(native.status, 0, "{native:?}");
    native
}

/// In slices of these lengths the same as natively; then recorded and replayed, also with pages taken away.
#[track_caller]
fn same(part: &str, slices: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "slices.c", &["-pthread"]);
    let native = native(&program, part);
    for slice in slices {
        let run = ["run", "-q", "--deadline", "600s", "--time-slice", slice];
        assert_eq!(sandboxed(&program, &run, &[part]), native, "{part}, {slice}");
    }
    let recording = dir.path().join("recording");
    let to = recording.to_str().expect("a path in UTF-8");
    let slice = slices[0];
    let record = ["record", "-q", "--time-slice", slice, "--evict", "every=7,seed=3", "-o", to];
    assert_eq!(sandboxed(&program, &record, &[part]), native, "{part}, recorded");
    assert_eq!(tool(dir.path(), ["replay", "-q", to]), native, "{part}, replayed");
    let evicting = tool(dir.path(), ["replay", "-q", "--evict", "every=3,seed=1", to]);
    assert_eq!(evicting, native, "{part}, replayed with evictions");
}

#[test]
fn tasks_that_wait_for_one_another_in_loops() {
    same("turns", &["37", "1000"]);
}

#[test]
fn instructions_of_all_kinds() {
    same("instructions", &["37", "1", "5000"]);
}

#[test]
fn faults_of_all_kinds() {
    same("faults", &["3", "1", "5000"]);
}

#[test]
fn code_that_the_program_makes() {
    same("generated", &["37", "5000"]);
}

#[test]
fn processes() {
    same("processes", &["37", "5000"]);
}

#[test]
fn a_program_that_steps_itself() {
    same("stepped", &["1", "37"]);
}

#[test]
fn time_passes_while_a_program_computes() {
    same("interrupts", &["100000"]);
}

/// Each child of it does its worst with what is there of the monitor's; the run ends as if none had.
#[test]
fn who_meddles_with_the_copies_harms_itself() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "slices.c", &["-pthread"]);
    for slice in ["20", "5000"] {
        let seen =
            sandboxed(&program, &["run", "-q", "--deadline", "600s", "--time-slice", slice], &["hostile"]);
        assert_eq!((seen.status, seen.text()), (0, "to the end\n".into()), "{seen:?}");
    }
}

/// Code that is brought in late, or by other ways, changes nothing.
#[test]
fn where_a_slice_ends_follows_from_the_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "slices.c", &["-pthread"]);
    for (part, slice) in [("turns", "100"), ("instructions", "50"), ("faults", "20"), ("processes", "200")] {
        let digest = |n: usize| {
            let recording = dir.path().join(format!("{part}-{n}"));
            let to = recording.to_str().expect("a path in UTF-8");
            let evict = format!("every={},seed={n}", 1 + n % 3);
            let mut record = vec!["record", "-q", "--seed", "5", "--time-slice", slice, "-o", to];
            if n > 0 {
                record.extend(["--evict", &evict, "--no-prefetch"]);
            }
            sandboxed(&program, &record, &[part]);
            tool(dir.path(), ["log", to, "--digest"]).text()
        };
        let digests: BTreeSet<String> = (0..if common::full() { 20 } else { 3 }).map(digest).collect();
        assert_eq!(digests.len(), 1, "{part}: {digests:?}");
    }
}

/// A snapshot in the middle goes on.
#[test]
fn a_run_goes_on_from_within() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "slices.c", &["-pthread"]);
    let native = native(&program, "turns");
    let file = dir.path().join("snapshot.dvm");
    let to = file.to_str().expect("a path in UTF-8");
    for at in ["exit:60", "exit:301"] {
        let first =
            sandboxed(&program, &["snapshot", "-q", "--at", at, "--time-slice", "50", "-o", to], &["turns"]);
        assert_eq!(first.status, 0, "{first:?}");
        let rest = tool(dir.path(), ["restore", "-q", to]);
        assert_eq!(format!("{}{}", first.text(), rest.text()), native.text(), "at {at}");
    }
}

/// A snapshot of a run without time slices goes on with some, and what is recorded of that replays.
#[test]
fn a_restored_run_gets_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "slices.c", &["-pthread"]);
    let native = native(&program, "turns");
    let [file, recording] = ["at.dvm", "rec"].map(|name| dir.path().join(name).display().to_string());
    let first = sandboxed(&program, &["snapshot", "-q", "--at", "exit:5", "-o", &file], &["turns"]);
    assert_eq!(first.status, 0, "{first:?}");
    let run = |words: &[&str]| tool(dir.path(), words);
    let rest = run(&["restore", "-q", &file, "--time-slice", "50", "--record", &recording]);
    assert_eq!(rest.text(), native.text());
    assert_eq!(run(&["replay", "-q", &recording]).text(), native.text());
    let none = run(&["restore", "-q", &file, "--time-slice", "0"]);
    assert_eq!(none.status, 125, "{none:?}");
}

/// Of a shell, of Python with threads, and of what they are made with, nothing is different beside a loop that never
/// ends.
#[test]
fn programs_beside_one_that_never_waits() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let beside =
        |command: &str| format!("(while :; do :; done) & p=$!; {command}; kill $p; wait $p; echo $?");
    let python = "python3 -c 'import json, threading, hashlib, math\n\
         def work(n): return sum(math.sin(i) * len(json.dumps({\"a\": i})) for i in range(n))\n\
         made = []\n\
         threads = [threading.Thread(target=lambda: made.append(work(500))) for _ in range(3)]\n\
         [t.start() for t in threads]; [t.join() for t in threads]\n\
         print(made, hashlib.sha256(b\"x\" * 10000).hexdigest())'";
    for command in ["seq 1 500 | sort -r | md5sum; echo $((6 * 7))", python] {
        let native = finish(Command::new("bash").arg("-c").arg(beside(command)), Input::Pipe(b""));
        let mut run = common::dejavm(["run", "-q", "--deadline", "600s", "--time-slice", "20000"]);
        run.current_dir(dir.path()).arg("--ro").arg("/").arg("--").arg("bash").arg("-c").arg(beside(command));
        let seen = finish(&mut run, Input::Pipe(b""));
        assert_eq!((seen.status, seen.text()), (native.status, native.text()), "{command}");
    }
}
