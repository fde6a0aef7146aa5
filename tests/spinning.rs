//! Tasks that wait in loops, with `PAUSE` or reading the clock, do not keep others from what they wait for; and
//! the instructions that are replaced in code from files say the same on every CPU. What Linux has is found
//! out by running the same program natively.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Finished, Input, finish, tool};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "spinning.c", &["-pthread", "-mrdpid"])
}

fn command(program: &Path, verb: &[&str], part: &str) -> Command {
    let mut command = common::dejavm(verb);
    let dir = program.parent().expect("the program lies in a directory");
    command.arg("--ro").arg(dir).arg("--").arg(program).arg(part);
    command
}

fn sandboxed(program: &Path, verb: &[&str], part: &str) -> Finished {
    finish(&mut command(program, verb, part), Input::Pipe(b""))
}

/// Natively and in the sandbox the same; then recorded and replayed, also with pages taken away.
fn same(parts: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    for part in parts {
        let native = finish(Command::new(&program).arg(part), Input::Pipe(b""));
        assert!(native.text().ends_with("to the end\n"), "{native:?}");
        assert_eq!(sandboxed(&program, &["run", "-q", "--deadline", "600s"], part), native, "{part}");
        let evicting = ["run", "-q", "--deadline", "600s", "--evict", "every=7,seed=3"];
        assert_eq!(sandboxed(&program, &evicting, part), native, "{part}, with evictions");
        let recording = dir.path().join(part);
        let to = recording.to_str().expect("a path in UTF-8");
        assert_eq!(sandboxed(&program, &["record", "-q", "-o", to], part), native, "{part}, recorded");
        assert_eq!(tool(dir.path(), ["replay", "-q", to]), native, "{part}, replayed");
    }
}

#[test]
fn a_lock_that_spins_lets_its_holder_run() {
    same(&["lock", "handoff", "processes"]);
}

#[test]
fn a_loop_waits_for_a_task_that_sleeps() {
    same(&["sleeper", "clock-sleeper", "call-sleeper"]);
}

#[test]
fn a_loop_that_makes_no_exit_lets_others_run() {
    same(&["circle", "circle-mutex", "circle-turns"]);
}

#[test]
fn time_passes_while_all_run_in_circles() {
    same(&["circle-sleeper", "circle-now", "circle-alarm", "circle-cpu", "circles"]);
}

/// When the host lets a task be looked at changes nothing.
#[test]
fn where_a_task_leaves_its_circle_follows_from_the_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    for part in ["circle-mutex", "circles", "circle-turns"] {
        let digest = |n: usize| {
            let recording = dir.path().join(format!("{part}-{n}"));
            let to = recording.to_str().expect("a path in UTF-8");
            let evict = format!("every={},seed={n}", 1 + n % 3);
            sandboxed(&program, &["record", "-q", "--seed", "5", "--evict", &evict, "-o", to], part);
            tool(dir.path(), ["log", to, "--digest"]).text()
        };
        let digests: BTreeSet<String> = (0..6).map(digest).collect();
        assert_eq!(digests.len(), 1, "{part}: {digests:?}");
    }
}

/// No time and no task will ever change it.
#[test]
fn circles_that_nothing_ends_are_the_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let output = sandboxed(&program, &["run", "--deadline", "600s"], "circle-for-ever");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status, 123, "{text}");
    assert!(text.contains("to leave its loop at RIP 0x") && text.contains("spinning + 0x"), "{text}");
}

#[test]
fn a_loop_on_the_clock_lets_others_run() {
    same(&["clock", "limit"]);
}

#[test]
fn timers_go_off_in_loops() {
    same(&["alarm", "alarm-clock"]);
}

#[test]
fn replaced_instructions_trap_behind_themselves() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    // Not against a native run: QEMU's emulator loses the traps behind `PAUSE`.
    for options in [&[][..], &["--evict", "every=7,seed=3"]] {
        let words = [&["run", "-q", "--deadline", "600s"], options].concat();
        assert_eq!(sandboxed(&program, &words, "step").text(), "11\nto the end\n", "{options:?}");
    }
}

/// What only looks like what is replaced, and what stands in its place, in a program's own code.
#[test]
fn other_code_is_as_on_linux() {
    same(&["own", "data"]);
}

fn exits(program: &Path, part: &str) -> u64 {
    let output = sandboxed(program, &["run", "--stats=json", "--deadline", "600s"], part);
    let stats: serde_json::Value = serde_json::from_slice(&output.stderr).expect("statistics");
    stats["exits"]["instructions"].as_u64().expect("a count")
}

#[test]
fn a_pause_makes_no_exit_while_nothing_else_can_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let (alone, none) = (exits(&program, "alone"), exits(&program, "data"));
    assert!(alone <= none + 1, "{alone} exits, {none} without a loop");
}

/// Nothing takes a task off the CPU that makes no exit: who waits for it is told where it is.
#[test]
fn a_bare_loop_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let output = sandboxed(&program, &["run", "--deadline", "2s"], "bare");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status, 124, "{text}");
    let place = format!("({} + 0x", program.display());
    assert!(text.contains("task 2 at RIP 0x") && text.contains(&place), "{text}");
    assert!(text.contains("sched_yield()"), "{text}");
}

/// The CPUs that this process may use.
fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("a set of CPUs");
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Runs a command on one CPU. This thread, whose child it is, is there too then.
fn on_cpu(mut command: Command, cpu: usize) -> Finished {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("a CPU of the set");
    finish(&mut command, Input::Pipe(b""))
}

/// One processor, whichever CPU of the host a run is on; and a recording does not depend on it.
#[test]
fn the_processor_is_the_same_on_every_cpu() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let cpus = cpus();
    let run = |n: usize| {
        let command =
            command(&program, &["run", "-q", "--seed", &format!("{n}"), "--deadline", "600s"], "cpuid");
        on_cpu(command, cpus[n % cpus.len()])
    };
    let seen: BTreeSet<String> = (0..20).map(|n| run(n).text()).collect();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    let text = seen.first().expect("there was a run");
    assert!(text.ends_with("to the end\n"), "{text}");
    // The name, the processor's number in two places, and what `RDPID` gives.
    assert!(text.starts_with("0.0: d 756e6547 6c65746e 49656e69\n"), "{text}");
    assert!(text.contains("\n1.0: 306c3 10800 ") || text.contains("\n1.0: 106a5 10800 "), "{text}");
    assert!(text.contains("\nb.0: 0 1 100 0\n") && text.contains("\n32768 262144 8388608\n"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("0 ") && line.ends_with(" 0")), "{text}");

    let recording = dir.path().join("recording");
    let to = recording.to_str().expect("a path in UTF-8");
    let recorded = on_cpu(command(&program, &["record", "-q", "-o", to], "cpuid"), cpus[0]);
    assert_eq!(&recorded.text(), text);
    let mut replay = common::dejavm(["replay", "-q", to]);
    replay.current_dir(dir.path());
    assert_eq!(on_cpu(replay, cpus[cpus.len() - 1]), recorded);
}
