//! Runs of bare-metal guests repeat, are replayed, and say so where they may not.

use std::collections::BTreeSet;

use crate::common::Finished;
use crate::guests::{INPUT, image, kernel, run};

/// Runs that are compared.
const RUNS: usize = 20;

/// 20 recordings, of runs that differ in all that must not matter, have one digest, and each replay
/// makes the same exits without the input.
#[test]
fn twenty_recordings_have_one_digest() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = image("guest");
    let ways: [&[&str]; 5] =
        [&[], &["--eager"], &["--no-prefetch"], &["--rung", "decode"], &["--evict", "every=50,seed=4"]];
    let mut outputs: Vec<Finished> = Vec::new();
    let mut digests = BTreeSet::new();
    for number in 0..RUNS {
        let to = dir.path().join(format!("{number}"));
        let to = to.to_str().expect("a path in UTF-8");
        let words = ["record", "-q", "-o", to, "--memory", "16M", "--cmdline", "exit=3", "--kernel", &image];
        let way = ways[number % ways.len()];
        outputs.push(run(&[&words, way].concat(), INPUT));
        digests.insert(run(&["log", to, "--digest"], b"").text());
        // What is compared at replay does not depend on how pages come in.
        let other = ways[(number + 1) % ways.len()];
        outputs.push(run(&[&["replay", "-q", to], other].concat(), b""));
    }
    assert_eq!(outputs[0].status, 3);
    assert!(outputs.iter().all(|seen| *seen == outputs[0]), "{outputs:?}");
    assert_eq!(digests.len(), 1, "{digests:?}");
}

/// A guest whose output depends on what no recording has: the replay finds it.
#[test]
fn a_replay_that_differs_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let to = dir.path().join("rec");
    let to = to.to_str().expect("a path in UTF-8");
    let image = image("rdtsc");
    let words = ["record", "-q", "-o", to, "--cmdline", "show=1", "--kernel", &image];
    let recorded = run(&words, b"");
    assert!(recorded.text().contains("it was "), "{recorded:?}");
    let replayed = run(&["replay", "-q", to], b"");
    assert_eq!(replayed.status, 122, "{replayed:?}");
    let report = String::from_utf8_lossy(&replayed.stderr).into_owned();
    assert!(report.contains("replayed: asked the outside: output(stdout, 1 bytes"), "{report}");
}

#[test]
fn the_log_names_devices() {
    let dir = tempfile::tempdir().expect("a directory");
    let to = dir.path().join("rec");
    let to = to.to_str().expect("a path in UTF-8");
    let image = image("guest");
    let words = ["record", "-q", "-o", to, "--memory", "16M", "--kernel", &image];
    assert_eq!(run(&words, INPUT).status, 0);
    let log = run(&["log", to], b"").text();
    let parts = [
        "in(channel-state, 1) = 0x1",
        "in(channel, 1) = 0x6f",
        "in(channel, 5) = 0x6564636261",
        "out(serial, 1, 'd')",
        "out(ready, 1, ",
        "out(exit, 1, 0x0)",
        "+++ exited with 0 +++",
    ];
    for part in parts {
        assert!(log.contains(part), "{part:?} is not in the log:\n{log}");
    }
    let json = run(&["log", to, "--json"], b"").text();
    assert!(json.lines().any(|line| line.contains(r#""kind":"in""#) && line.contains(r#""port":"0x5d0""#)));
}

/// A recording that its deadline ended, in a loop and while it waited for input, is replayed as far as
/// it goes.
#[test]
fn interrupted_recordings_are_replayed() {
    let dir = tempfile::tempdir().expect("a directory");
    let to = dir.path().join("rec");
    let to = to.to_str().expect("a path in UTF-8");
    let image = image("guest");
    let words = ["record", "-q", "-o", to, "--memory", "16M", "--deadline", "1s", "--kernel", &image];
    let recorded = run(&[&words[..], &["--cmdline", "end=loop"]].concat(), INPUT);
    assert_eq!(recorded.status, 124, "{recorded:?}");
    let replayed = run(&["replay", "-q", to], b"");
    assert_eq!(replayed, recorded);
}

#[test]
fn what_cannot_be_repeated_is_told() {
    let told = |name: &str, words: &[&str]| {
        let image = image(name);
        let seen = run(&[&["kernel", &image], words].concat(), b"");
        assert_eq!(seen.status, 0, "{seen:?}");
        String::from_utf8_lossy(&seen.stderr).into_owned()
    };
    assert!(told("rdtsc", &[]).contains("not deterministic:"), "{}", told("rdtsc", &[]));
    assert!(told("rdtsc", &[]).contains("RDTSC"));
    assert!(!told("hello", &[]).contains("deterministic"));
    assert!(!told("guest", &[]).contains("deterministic"));
    let json = told("rdtsc", &["-q", "--stats=json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["not_deterministic"].as_array().map(Vec::len), Some(1), "{json}");
    assert!(kernel("rdtsc", &[], b"").stderr.is_empty(), "--quiet says nothing");
}
