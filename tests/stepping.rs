//! `--timer-step`: a program that is stepped while a timer is armed behaves as one that is not, and
//! the same in every run, however its pages come.

mod common;

use std::path::{Path, PathBuf};

use common::tool;

/// What of the guest's output is the same natively.
const FIXED: &str = "\
stored: 0 0 0 0
syscall behind mov ss: 0
own: 7 traps, 100 0, in the frame 100
own around a call: 4 traps, 100
breakpoints: 1 traps
iretq: 5 traps, 0
repeats: 0 b4f3b5a7
faults: 1
edges: 0, 1 behind the end
frames 0, handlers 0
";

const STEP: [&str; 4] = ["--seed", "7", "--timer-step", "100us"];

fn guest(dir: &Path) -> PathBuf {
    // Its assembly pushes.
    common::guest(dir, "stepping.c", &["-mno-red-zone"])
}

/// Records a run in `dir`: its output, and its exits as text.
fn record(dir: &Path, options: &[&str]) -> (String, String) {
    let _ = std::fs::remove_dir_all(dir.join("rec"));
    let words = [&["record", "-q", "-o", "rec"], &STEP[..], options, &["--", "./stepping"]].concat();
    let output = tool(dir, words).text();
    (output, tool(dir, ["log", "rec"]).text())
}

#[test]
fn the_flag_is_not_seen_and_every_run_is_the_same() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    guest(dir.path());
    let (output, log) = record(dir.path(), &[]);
    let fixed: String = FIXED.repeat(2);
    assert!(output.starts_with(&fixed), "{output}");
    for line in ["ticks: 5 ", "from a frame: 1 traps\n", "blocked: 0\nunblocked: 1\nframes 0, handlers 0, "] {
        assert!(output.contains(line), "{line}: {output}");
    }
    assert!(log.contains("--- timer, behind "), "{log}");
    assert_eq!(tool(dir.path(), ["replay", "-q", "rec"]).text(), output);

    let variants: [&[&str]; 8] = [
        &[],
        &["--evict", "every=1,seed=1"],
        &["--evict", "every=2,seed=3"],
        &["--evict", "every=3,seed=2"],
        &["--rung", "poison"],
        &["--rung", "decode"],
        &["--rung", "populate"],
        &["--eager"],
    ];
    // By default one of those that take pages away, which take long.
    let left_out = ["every=1,seed=1", "every=3,seed=2"];
    let chosen = |way: &&&[&str]| common::full() || !way.iter().any(|word| left_out.contains(word));
    for options in common::possible(&variants).iter().filter(chosen) {
        let (seen, seen_log) = record(dir.path(), options);
        assert_eq!(seen, output, "{options:?}");
        assert!(seen_log == log, "{options:?}: another log");
    }
}

/// A snapshot keeps the step, the armed timer, and where in between the program is.
#[test]
fn a_restored_program_is_stepped_on() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    guest(dir.path());
    let (output, log) = record(dir.path(), &[]);
    let exits: Vec<&str> = log.lines().collect();
    let number = |line: &str| line.split_whitespace().next().expect("a number").to_owned();
    let timers: Vec<usize> = (0..exits.len()).filter(|at| exits[*at].contains("--- timer")).collect();
    // Right behind a timer, and behind the return from its handler.
    for at in [timers[1], timers[1] + 1, timers[timers.len() - 2] + 1] {
        let point = format!("exit:{}", number(exits[at]));
        let words = [&["snapshot", "-q", "-o", "snap", "--at", &point], &STEP[..], &["--", "./stepping"]];
        let before = tool(dir.path(), words.concat()).text();
        let _ = std::fs::remove_dir_all(dir.path().join("rest"));
        let behind = tool(dir.path(), ["restore", "-q", "snap", "--record", "rest"]).text();
        assert_eq!(before + &behind, output, "{point}");
        let rest = tool(dir.path(), ["log", "rest"]).text();
        assert_eq!(rest.lines().collect::<Vec<_>>(), exits[at + 1..], "{point}");
    }
}

#[test]
fn a_program_that_spins_until_its_timer() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let spin = ["--", "perl", "-e", "alarm 1; 1 while 1"];
    // It runs in a circle: time passes all the same. Not where it counts.
    let ends = tool(dir.path(), [&["run", "--deadline", "600s"], &spin[..]].concat());
    assert_eq!(ends.status, 128 + 14, "{ends:?}");
    let counts = ["--", "perl", "-e", "alarm 1; $n++ while 1"];
    let stands = tool(dir.path(), [&["run", "--deadline", "3s"], &counts[..]].concat());
    assert_eq!(stands.status, 124, "{stands:?}");
    let advice = String::from_utf8_lossy(&stands.stderr).into_owned();
    assert!(advice.contains("try --timer-step 100us"), "{advice}");

    // Without a timer, there is nothing to say.
    let busy = tool(dir.path(), ["run", "--deadline", "500ms", "--", "perl", "-e", "1 while 1"]);
    assert_eq!(busy.status, 124, "{busy:?}");
    assert!(!String::from_utf8_lossy(&busy.stderr).contains("--timer-step"), "{busy:?}");

    let stats = ["run", "--stats=json", "--timer-step", "1ms"];
    let stepped = tool(dir.path(), [&stats[..], &spin[..]].concat());
    assert_eq!(stepped.status, 128 + 14, "{stepped:?}");
    let text = String::from_utf8_lossy(&stepped.stderr).into_owned();
    let json: serde_json::Value =
        serde_json::from_str(text.lines().last().expect("a line")).expect("statistics as JSON");
    assert_eq!(json["exits"]["timers"], 1);
    let steps = json["steps"].as_u64().expect("a number");
    assert!((900..=1000).contains(&steps), "{steps} steps of 1 ms in a second");
}
