//! One probe for each row of `docs/determinism.md` that is eliminated or recorded: a program prints
//! what it can learn from that source, in 20 runs (6 of them by default, all with `DEJAVM_TEST_FULL=1`) that
//! differ in everything that a run must not depend on. All must print the same.

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs of each probe: in all, and in the sample.
const RUNS: (usize, usize) = (20, 4);

/// The rows, as `tests/guests/probe.c` names them.
const ROWS: [&str; 20] = [
    "clock",
    "tsc",
    "random",
    "layout",
    "identity",
    "auxv",
    "environment",
    "machine",
    "directory",
    "stat",
    "usage",
    "residency",
    "timer",
    "descriptors",
    "fpu",
    "cpuid",
    "hardware-random",
    "xgetbv",
    "stdin",
    "file",
];

fn runs() -> usize {
    if common::full() { RUNS.0 } else { RUNS.1 }
}

/// One run, in a directory, environment and parent that depend on `run`.
fn run(program: &Path, args: &[&str], run: usize) -> Vec<u8> {
    let cwd = tempfile::tempdir().expect("a temporary directory");
    for i in 0..run {
        std::fs::write(cwd.path().join(format!("file{i}")), "x").expect("a file");
    }
    let dir = program.parent().expect("the program lies in a directory");
    let name = program.file_name().expect("a name");
    let mut child = Command::new(env!("CARGO_BIN_EXE_dejavm"))
        .args(["run", "-q", "--seed", "7", "--deadline", "60s", "--ro"])
        .arg(format!("{}:/probe", dir.display()))
        .arg("--")
        .arg(Path::new("/probe").join(name))
        .args(args)
        .current_dir(cwd.path())
        .env("JUNK", "x".repeat(run * 7))
        .env("TZ", if run.is_multiple_of(2) { "UTC" } else { "Asia/Tokyo" })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dejavm starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"hello\n").expect("input");
    drop(stdin);
    let output = child.wait_with_output().expect("dejavm ends");
    assert!(
        output.status.success(),
        "dejavm failed (is /dev/kvm there?): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!output.stdout.is_empty());
    output.stdout
}

#[test]
fn every_source_is_the_same_in_every_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "probe.c", &[]);
    common::for_each(&ROWS, |row| {
        let seen: BTreeSet<Vec<u8>> = (0..runs()).map(|n| run(&program, &[row], n)).collect();
        if seen.len() == 1 {
            return Ok(());
        }
        let texts: Vec<_> = seen.iter().take(2).map(|s| String::from_utf8_lossy(s)).collect();
        Err(format!("{row} came to {} ends in {} runs, as {texts:#?}", seen.len(), runs()))
    });
}

/// What asks the CPU for random numbers gets them from the seed; the same bytes elsewhere stay.
#[test]
fn hardware_random_numbers_follow_the_seed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    common::guest(dir.path(), "probe.c", &[]);
    let with_seed = |seed: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_dejavm"))
            .args(["run", "--stats=json", "--seed", seed, "--deadline", "60s", "--ro"])
            .arg(format!("{}:/probe", dir.path().display()))
            .args(["--", "/probe/probe", "hardware-random"])
            .output()
            .expect("dejavm runs");
        let stats: serde_json::Value = serde_json::from_slice(&output.stderr).expect("statistics");
        (String::from_utf8_lossy(&output.stdout).into_owned(), stats)
    };
    let ((first, stats), (second, _)) = (with_seed("1"), with_seed("2"));
    assert_eq!(with_seed("1").0, first);
    let lines: Vec<&str> = first.lines().collect();
    assert_eq!((lines.len(), lines[0]), (5, "0x72f0c70f"), "{first}");
    let numbers: BTreeSet<&str> = lines[1..].iter().flat_map(|line| line.split(' ')).collect();
    assert_eq!(numbers.len(), 20, "{first}");
    // Only the low 16 bits of one of them are random.
    assert!(lines[1..].iter().all(|line| line.contains(" 0x112233445566")), "{first}");
    assert!(first.lines().skip(1).zip(second.lines().skip(1)).all(|(a, b)| a != b), "{first}{second}");
    let answered = stats["exits"]["instructions"].as_u64().expect("a count");
    assert!(answered >= 20, "{stats}");
}

#[test]
fn registers_at_the_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "registers.S", &["-nostdlib", "-static"]);
    let seen: BTreeSet<Vec<u8>> = (0..runs()).map(|n| run(&program, &[], n)).collect();
    assert_eq!(seen.len(), 1, "one state in all runs");
    let bytes = seen.first().expect("there was a run");
    let (xmm, rest) = bytes.split_at(64);
    assert!(xmm.iter().all(|b| *b == 0), "vector registers start as zeros");
    assert!(rest[8..].iter().all(|b| *b == 0), "general registers start as zeros");
}
