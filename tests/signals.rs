//! Signals, their masks, stacks and contexts, and exceptions: as Linux has them. What Linux has is found
//! out by running the same program natively.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Finished, Input, finish, linux};

fn build(dir: &Path, name: &str) -> PathBuf {
    common::guest(dir, &format!("{name}.c"), &["-mfsgsbase"])
}

fn native(program: &Path, args: &[&str]) -> Finished {
    finish(Command::new(program).args(args), Input::Pipe(b""))
}

fn sandboxed(program: &Path, options: &[&str], args: &[&str]) -> Finished {
    let mut command = common::dejavm(["run", "-q", "--deadline", "60s"]);
    let dir = program.parent().expect("the program lies in a directory");
    command.args(options).arg("--ro").arg(dir).arg("--").arg(program).args(args);
    finish(&mut command, Input::Pipe(b""))
}

/// Whether two lines differ as they may: QEMU's CPU takes bits of MXCSR that are reserved; SVM's KVM emulates
/// `SYSEXIT`, which is no instruction to an AMD CPU, and finds it forbidden.
fn known(native: Option<&String>, sandboxed: Option<&String>) -> bool {
    let (Some(native), Some(sandboxed)) = (native, sandboxed) else { return false };
    let sysexit = ("signal 4 code 2 at rip trap 6 error 0", "signal 11 code 128 at null trap 13 error 0");
    let is_sysexit = (native.trim(), sandboxed.trim()) == sysexit;
    linux::emulated() && native.contains("mxcsr 0xffc0") || linux::has_svm() && is_sysexit
}

/// Fails with the lines that differ, and what stands before them.
#[track_caller]
fn assert_same(expected: &Finished, seen: &Finished, what: &str) {
    let lines = |finished: &Finished| -> Vec<String> {
        String::from_utf8_lossy(&finished.stdout).lines().map(str::to_string).collect()
    };
    let (expected_lines, seen_lines) = (lines(expected), lines(seen));
    let mut different = Vec::new();
    for at in 0..expected_lines.len().max(seen_lines.len()) {
        let (native, sandboxed) = (expected_lines.get(at), seen_lines.get(at));
        if native != sandboxed && !known(native, sandboxed) {
            different.push((at.checked_sub(1).and_then(|n| expected_lines.get(n)), native, sandboxed));
        }
    }
    different.truncate(20);
    assert!(different.is_empty(), "{what}: (before, native, sandboxed): {different:#?}\n{seen:?}");
    assert_eq!(seen.status, expected.status, "{what}: {seen:?}");
}

fn compare(part: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path(), "signals");
    let expected = native(&program, &[part]);
    assert!(expected.stdout.len() > 100, "the guest has something to say: {expected:?}");
    assert_same(&expected, &sandboxed(&program, &[], &[part]), part);
}

/// `siginfo` and context of every exception that a program can bring about.
#[test]
fn exceptions() {
    compare("exceptions");
}

/// Waits with masks of their own, and signals that are pending.
#[test]
fn masks() {
    compare("masks");
}

/// What some KVMs emulate, with all pages there and with pages that are absent again and again.
#[test]
fn emulated_instructions() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path(), "emulated");
    let expected = native(&program, &[]);
    assert!(expected.status == 0 && expected.stdout.len() > 100, "{expected:?}");
    for options in [&[][..], &["--evict", "every=3"], &["--evict", "every=1"]] {
        assert_same(&expected, &sandboxed(&program, options, &[]), &format!("{options:?}"));
    }
}

/// Where KVM emulates a store and makes it as a whole, an absent page does not make a trap more.
#[test]
fn traps_of_whole_stores() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path(), "emulated");
    let expected = sandboxed(&program, &[], &["stores"]);
    assert!(expected.status == 0 && expected.stdout.starts_with(b"195 traps, 196608 bytes"), "{expected:?}");
    for options in [&["--evict", "every=3"], &["--evict", "every=1"]] {
        assert_same(&expected, &sandboxed(&program, options, &["stores"]), &format!("{options:?}"));
    }
}

#[test]
fn order() {
    compare("order");
}

#[test]
fn alternate_stacks() {
    compare("stacks");
}

/// `rt_sigreturn` with frames that the CPU or the kernel refuses.
#[test]
fn changed_frames() {
    compare("returns");
}

/// `int 0x80` and the vsyscall page.
#[test]
fn old_ways_into_the_kernel() {
    compare("old-ways");
}

/// Handlers that cannot be entered.
#[test]
fn bad_handlers() {
    compare("no-stack");
}

/// Random bytes as code. Nothing that a program runs is a failure of dejavm, whose status is 125; nearly
/// all of it comes out as it does natively, but for what KVM's emulator makes of instructions that do not
/// exist.
#[test]
fn random_instructions() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path(), "instructions");
    let (seeds, tries): (&[u64], &str) =
        if common::full() { (&[1, 100_001, 200_001, 300_001], "10000") } else { (&[1], "400") };
    for seed in seeds {
        let seen = sandboxed(&program, &[], &[&seed.to_string(), tries]);
        assert_eq!(seen.status, 0, "from {seed}: {seen:?}");
        let expected = native(&program, &[&seed.to_string(), tries]);
        if linux::emulated() && expected.status == 128 + 9 {
            // The kernel there failed, and ended the program.
            continue;
        }
        let lines = |finished: &Finished| -> Vec<String> {
            String::from_utf8_lossy(&finished.stdout).lines().map(str::to_string).collect()
        };
        let (expected, seen) = (lines(&expected), lines(&seen));
        assert_eq!(seen.len(), expected.len(), "from {seed}: all were tried");
        let different = expected.iter().zip(&seen).filter(|(expected, seen)| expected != seen).count();
        assert!(different * 10 < seen.len(), "from {seed}: {different} of {} differ", seen.len());
    }
}
