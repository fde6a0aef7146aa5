//! Recordings: killed at any time they read back and replay to where they end; they can be moved;
//! they hold what was read from standard input; and a replay that goes another way says so.
//!
//! `DEJAVM_TEST_FULL=1` for all of it; by default a sample.

mod common;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::{Finished, Input, dejavm, finish, tool};
use serde_json::Value;
use tempfile::TempDir;

/// Recordings that are killed: in all, and in the sample.
const KILLED: (u32, u32) = (50, 10);

/// Prints without end.
const ENDLESS: &str = "import hashlib\nh = b''\nn = 0\nwhile True:\n    h = hashlib.sha256(h).digest()\n    n += 1\n    \
     print(n, h.hex(), flush=True)\n    if n % 50 == 0: open('/tmp/%d' % (n % 1000), 'wb').write(h * 100)";

/// Status of a replay that went another way.
const DIVERGED: i32 = 122;

fn record(dir: &Path, name: &str, args: &[&str], input: Input<'_>) -> (PathBuf, Finished) {
    let recording = dir.join(name);
    let mut command = dejavm(["record", "-q", "-o"]);
    command.arg(&recording).args(args).current_dir(dir);
    let finished = finish(&mut command, input);
    (recording, finished)
}

fn replay(recording: &Path, options: &[&str]) -> Finished {
    finish(dejavm(["replay"]).args(options).arg(recording).current_dir("/"), Input::Pipe(b""))
}

/// Starts a recording and kills it: so long after its first output, or, with `None`, so long after
/// its start. What it wrote to standard output until then.
fn killed(recording: &Path, after_output: bool, wait: Duration) -> Vec<u8> {
    let mut command = dejavm(["record", "-q", "-o"]);
    command.arg(recording).args(["--", "/usr/bin/python3", "-c", ENDLESS]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("spawn");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut output = Vec::new();
    if after_output {
        let mut first = [0u8; 1];
        stdout.read_exact(&mut first).expect("the program writes");
        output.push(first[0]);
    }
    let reader = std::thread::spawn(move || {
        stdout.read_to_end(&mut output).expect("read");
        output
    });
    std::thread::sleep(wait);
    child.kill().expect("kill");
    child.wait().expect("wait");
    reader.join().expect("the reader")
}

#[test]
fn killed_recordings_replay_to_where_they_end() {
    common::require_kvm();
    let scratch = TempDir::new().expect("temporary directory");
    let count = if common::full() { KILLED.0 } else { KILLED.1 };
    let numbers: Vec<u32> = (0..count).collect();
    common::for_each(&numbers, |n| {
        let recording = scratch.path().join(format!("killed-{n}"));
        // The host's own timing makes the moment random enough.
        let after_output = n % 5 != 0;
        let wait =
            Duration::from_millis(u64::from(if after_output { n * 37 % 500 } else { 40 + n * 13 % 400 }));
        let output = killed(&recording, after_output, wait);
        if !recording.join("log").exists() {
            // It was killed before there was anything to keep.
            return if after_output { Err(format!("{n}: no log")) } else { Ok(()) };
        }
        let log = tool(Path::new("/"), ["log".as_ref(), "--raw".as_ref(), recording.as_os_str()]);
        let inspected = tool(Path::new("/"), ["inspect".as_ref(), "--json".as_ref(), recording.as_os_str()]);
        if log.status != 0 || inspected.status != 0 {
            return Err(format!("{n}: {log:?}\n{inspected:?}"));
        }
        let seen: Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
        let exits = seen["log"]["exits"].as_u64().expect("a number");
        if seen["log"]["complete"] != false
            || exits != log.stdout.iter().filter(|b| **b == b'\n').count() as u64
        {
            return Err(format!("{n}: {seen}"));
        }
        let replayed = replay(&recording, &[]);
        let said = String::from_utf8_lossy(&replayed.stderr).into_owned();
        // A program may have been loaded, and not have made an exit yet.
        let told = said.contains(&format!("at exit {exits} "))
            || exits == 0 && said.contains("before the program ran");
        if replayed.status != 120 || !said.contains("ends here") || !told {
            return Err(format!("{n}: {exits} exits, {replayed:?}"));
        }
        // What was recorded is written again; what came after the last whole block is lost.
        if !output.starts_with(&replayed.stdout) {
            return Err(format!("{n}: {} bytes of output, {replayed:?}", output.len()));
        }
        // It can go on live from there: the same program does the same.
        if *n == 1 {
            let live = replay(&recording, &["--live", "--deadline", "1s", "-q"]);
            let common = live.stdout.len().min(output.len());
            if live.status != 124
                || live.stdout[..common] != output[..common]
                || live.stdout.len() < replayed.stdout.len()
            {
                return Err(format!("{n}: live: {live:?}"));
            }
        }
        fs::remove_dir_all(recording).expect("remove");
        Ok(())
    });
}

#[test]
fn a_recording_cut_anywhere_reads_back_or_is_refused() {
    common::require_kvm();
    let dir = TempDir::new().expect("temporary directory");
    let (recording, whole) =
        record(dir.path(), "whole", &["--", "busybox", "seq", "1", "5"], Input::Pipe(b""));
    let log = fs::read(recording.join("log")).expect("read");
    let step = log.len() / 40 + 1;
    let ends: Vec<usize> = (0..log.len()).step_by(step).chain([log.len() - 1, log.len() - 33]).collect();
    common::for_each(&ends, |end| {
        let cut = dir.path().join(format!("cut-{end}"));
        fs::create_dir(&cut).expect("create");
        for name in ["start.dvm", "manifest.json"] {
            fs::copy(recording.join(name), cut.join(name)).expect("copy");
        }
        fs::write(cut.join("log"), &log[..*end]).expect("write");
        let done = replay(&cut, &["-q"]);
        match done.status {
            0 if whole.stdout.starts_with(&done.stdout) => Ok(()),
            125 if done.stdout.is_empty() && !done.stderr.is_empty() => Ok(()),
            _ => Err(format!("cut at {end}: {done:?}")),
        }
    });
}

#[test]
fn standard_input_is_in_the_recording() {
    common::require_kvm();
    let dir = TempDir::new().expect("temporary directory");
    let text = "line one\nline two\n".repeat(300);
    let file = dir.path().join("input");
    fs::write(&file, &text).expect("write");
    for (name, input) in [("pipe", Input::Pipe(text.as_bytes())), ("file", Input::File(&file))] {
        let args =
            ["--", "sh", "-c", "read -r a; echo got $a; while read -r b; do :; done; echo last $b; exit 3"];
        let (recording, whole) = record(dir.path(), name, &args, input);
        assert_eq!((whole.status, whole.stdout.as_slice()), (3, &b"got line one\nlast\n"[..]));
        let moved = dir.path().join(format!("{name} moved")).join("deeper");
        fs::create_dir_all(moved.parent().unwrap()).expect("create");
        fs::rename(&recording, &moved).expect("rename");
        assert_eq!(replay(&moved, &["-q"]), whole, "{name}");
        // However often.
        assert_eq!(replay(&moved, &["-q"]), whole, "{name}");
    }
}

#[test]
fn a_signal_is_replayed_too() {
    common::require_kvm();
    let dir = TempDir::new().expect("temporary directory");
    for (signal, status) in [("KILL", 137), ("SEGV", 139), ("TERM", 143)] {
        let script = format!("echo before; kill -{signal} $$; echo after");
        let (recording, whole) = record(dir.path(), signal, &["--", "sh", "-c", &script], Input::Pipe(b""));
        assert_eq!((whole.status, whole.stdout.as_slice()), (status, &b"before\n"[..]));
        assert_eq!(replay(&recording, &["-q"]), whole);
    }
}

#[test]
fn another_start_diverges_and_says_where() {
    common::require_kvm();
    let dir = TempDir::new().expect("temporary directory");
    let args = |range| ["--", "shuf", "-i", range];
    let (one, first) = record(dir.path(), "one", &args("1-20"), Input::Pipe(b""));
    let (two, second) = record(dir.path(), "two", &args("1-21"), Input::Pipe(b""));
    assert_ne!(first.stdout, second.stdout);

    // Files of two recordings are not taken for one.
    let mixed = dir.path().join("mixed");
    fs::create_dir(&mixed).expect("create");
    let take = |from: &Path, name: &str| fs::copy(from.join(name), mixed.join(name)).expect("copy");
    take(&one, "log");
    take(&one, "manifest.json");
    take(&two, "start.dvm");
    let refused = replay(&mixed, &[]);
    assert_eq!((refused.status, refused.stdout.len()), (125, 0), "{refused:?}");

    // Made to look like one, the first exit that differs ends it.
    let manifest = |dir: &Path| -> Value {
        serde_json::from_slice(&fs::read(dir.join("manifest.json")).expect("read")).expect("JSON")
    };
    let mut forged = manifest(&one);
    forged["snapshot"]["id"] = manifest(&two)["snapshot"]["id"].clone();
    fs::write(mixed.join("manifest.json"), forged.to_string()).expect("write");
    let diverged = replay(&mixed, &[]);
    assert_eq!((diverged.status, diverged.stdout.len()), (DIVERGED, 0), "{diverged:?}");
    let report = String::from_utf8_lossy(&diverged.stderr).to_lowercase();
    for word in ["diverged at exit", "last match: exit", "getrandom", "recorded:", "replayed:", "rip"] {
        assert!(report.contains(word), "no {word:?} in the report:\n{report}");
    }
}
