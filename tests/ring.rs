//! `dejavm record --ring`: the last part of a long run, whole at any moment.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Input, dejavm, finish, tool};
use dejavm::replay::Recording;

/// Reads its input in small pieces, whose content nobody can compress, and says so; looks at a file again and
/// again, and at others late.
const SERVICE: &str = "\
import os, sys, zlib
n = 0
while True:
    piece = os.read(0, 8192)
    if not piece: break
    n += 1
    if n % 16 == 0: open('service.py').read()
    if n == 90: import decimal
    print(n, zlib.crc32(piece), flush=True)
    for i in range(10): os.getppid()
print('end')
";

const RING: u64 = 512 << 10;

/// What it reads.
fn input() -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..192 << 10).flat_map(step).collect()
}

fn service(dir: &Path, options: &[&str]) -> std::process::Command {
    fs::write(dir.join("service.py"), SERVICE).expect("a file is written");
    let words = [&["record", "-o", "rec"], options, &["--", "python3", "-S", "service.py"]].concat();
    let mut command = dejavm(words);
    command.current_dir(dir);
    command
}

/// Bytes of the files in a directory; of those that go meanwhile none.
fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

#[test]
fn the_disk_does_not_fill_and_what_is_kept_replays() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rec = dir.path().join("rec");
    let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(bytes_in(&rec), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let said = finish(&mut service(dir.path(), &["--ring", "512K"]), Input::Pipe(&input()));
        done.store(true, Ordering::Relaxed);
        said
    });
    assert_eq!(said.status, 0, "{said:?}");
    // It is said that this is little.
    assert!(String::from_utf8_lossy(&said.stderr).contains("a snapshot of the program takes"), "{said:?}");

    let recording = Recording::open(&rec).expect("a recording");
    let manifest = recording.manifest();
    let log = fs::metadata(rec.join(&manifest.log)).expect("a log").len();
    let snapshot = fs::metadata(rec.join(&manifest.snapshot.file)).expect("a snapshot").len();
    let (first, last) = recording.exit_range().expect("exits");
    assert_eq!(first, manifest.dropped + 1, "exits have the numbers of the whole run");
    assert!(manifest.dropped > 1000 && last - first > 20, "{first} to {last}");
    // What the run is ahead of who writes comes besides.
    let slack = 1 << 20;
    assert!(log > RING / 4 && log < RING + slack, "{log}");
    let most = most.into_inner();
    assert!(most < RING + 2 * snapshot + slack, "{most} bytes of which a snapshot takes {snapshot}");
    let files = 3 + manifest.checkpoints.len();
    assert_eq!(fs::read_dir(&rec).expect("a directory").count(), files, "nothing is left over");

    // As other recordings, as it is and as a pack.
    let whole = String::from_utf8_lossy(&said.stdout).into_owned();
    let replayed = tool(dir.path(), ["replay", "rec"]).text();
    assert!(whole.ends_with(&replayed) && replayed.lines().count() > 1, "{replayed}");
    tool(dir.path(), ["pack", "rec", "-o", "rec.dvr"]).text();
    assert_eq!(tool(dir.path(), ["replay", "rec.dvr"]).text(), replayed);
    assert_eq!(tool(dir.path(), ["diff", "rec", "rec.dvr"]).text(), "");
    tool(dir.path(), ["inspect", "--verify", "rec"]).text();
    let shown = tool(dir.path(), ["inspect", "rec.dvr"]).text();
    assert!(
        shown.contains(&format!("exits {first} to {last}, the {} before were dropped", first - 1)),
        "{shown}"
    );
    let log = tool(dir.path(), ["log", "rec"]).text();
    assert!(log.trim_start().starts_with(&format!("{first} ")), "{}", &log[..200.min(log.len())]);
    assert!(log.contains("exit_group(0)"));
    let processes = tool(dir.path(), ["ps", "rec"]).text();
    assert!(processes.contains("service.py") && processes.contains(&last.to_string()), "{processes}");

    // Debuggers go to its ends.
    let host = dejavm::Host::probe().expect("KVM");
    let replay = dejavm::Replay::open(&rec).expect("a recording");
    let mut timeline = replay.timeline(&host).expect("a timeline");
    timeline.seek_end().expect("the end");
    let digest = timeline.digest().expect("a digest");
    timeline.seek(dejavm::replay::Position::behind(first)).expect("the first exit");
    timeline.seek_end().expect("the end");
    assert_eq!(timeline.digest().expect("a digest"), digest);
}

#[test]
fn checkpoints_are_kept_beside_a_ring() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = ["--ring", "512K", "--checkpoints", "1ms"];
    let said = finish(&mut service(dir.path(), &options), Input::Pipe(&input()[..400_000]));
    assert_eq!(said.status, 0, "{said:?}");
    let rec = dir.path().join("rec");
    let manifest = Recording::open(&rec).expect("a recording").manifest().clone();
    assert!(manifest.dropped > 100 && !manifest.checkpoints.is_empty(), "{manifest:?}");
    assert!(manifest.checkpoints.iter().all(|kept| kept.exit > manifest.dropped), "{manifest:?}");
    let files = fs::read_dir(&rec).expect("a directory").count();
    assert_eq!(files, 3 + manifest.checkpoints.len(), "those before its start are gone");
    let host = dejavm::Host::probe().expect("KVM");
    let timeline = dejavm::Replay::open(&rec).expect("a recording").timeline(&host).expect("a timeline");
    assert_eq!(timeline.checkpoints().0, 1 + manifest.checkpoints.len());
}

/// Killed before the log was cut, while it is, and later: there is a recording, and it replays to its end.
#[test]
fn killed_at_any_moment() {
    common::require_kvm();
    let input = input();
    let whole = {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("service.py"), SERVICE).expect("a file is written");
        let mut native = std::process::Command::new(common::native("python3"));
        native.args(["-S", "service.py"]).current_dir(dir.path());
        finish(&mut native, Input::Pipe(&input)).text()
    };
    let cut = [1, 20, 41, 77, 91, 130, 170].map(|lines| (lines, "512K"));
    let not_yet = [1, 91].map(|lines| (lines, "64M"));
    for (lines, ring) in cut.into_iter().chain(not_yet) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = service(dir.path(), &["--ring", ring]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("dejavm");
        let mut pipe = child.stdin.take().expect("a pipe");
        let piece = input.clone();
        let feed = std::thread::spawn(move || drop(pipe.write_all(&piece)));
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let seen = out.lines().take(lines).count();
        child.kill().expect("a kill");
        child.wait().expect("an end");
        feed.join().expect("a thread");
        assert_eq!(seen, lines);

        let recording = Recording::open(dir.path().join("rec")).expect("a recording");
        recording.verify().expect("a sound log");
        assert_eq!(recording.manifest().dropped > 0, ring == "512K", "after {lines} lines");
        let replayed = tool(dir.path(), ["-q", "replay", "rec"]);
        assert_eq!(replayed.status, 120, "after {lines} lines: {replayed:?}");
        let text = String::from_utf8(replayed.stdout).expect("text");
        assert!(whole.contains(&text), "after {lines} lines: {text}");
    }
}

#[test]
fn a_ring_of_nothing_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let said = tool(dir.path(), ["record", "-o", "rec", "--ring", "1K", "--", "true"]);
    assert!(said.status == 125 && String::from_utf8_lossy(&said.stderr).contains("64K"), "{said:?}");
    for other in [&["--max-log", "1M"][..], &["--kernel", "image"]] {
        let words = [&["record", "-o", "rec", "--ring", "1M"], other].concat();
        assert_eq!(tool(dir.path(), words).status, 125, "{other:?}");
    }
}
