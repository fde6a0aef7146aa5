//! Backtraces of recorded crashes: frames, names and lines, out of the recording.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::tool;
use dejavm::replay::{Frame, MOST_FRAMES};
use dejavm::{Host, Replay};

/// Builds the guest so, and records a part of it, which crashes.
fn record(dir: &Path, part: &str, flags: &[&str]) -> PathBuf {
    record_with(dir, &[], part, flags)
}

fn record_with(dir: &Path, options: &[&str], part: &str, flags: &[&str]) -> PathBuf {
    let program = common::guest(dir, "backtraces.c", &[&["-O0"], flags].concat());
    let (shown, path) = (dir.to_str().expect("a path"), program.to_str().expect("a path"));
    let begin = ["record", "-q", "-o", "rec", "--ro", shown];
    let done = tool(dir, [&begin, options, &["--", path, part]].concat());
    assert_eq!(done.status, 128 + 11, "{done:?}");
    program
}

/// The backtrace of a recording's end.
fn at_end(dir: &Path) -> Vec<Frame> {
    let host = Host::probe().expect("KVM");
    let timeline = Replay::open(dir.join("rec")).and_then(|replay| replay.timeline(&host));
    let mut timeline = timeline.expect("a timeline");
    timeline.seek_end().expect("the end");
    timeline.backtrace()
}

/// The backtrace of a part whose program is no more.
fn backtrace(dir: &Path, part: &str, flags: &[&str]) -> Vec<Frame> {
    std::fs::remove_file(record(dir, part, flags)).expect("deleted");
    at_end(dir)
}

/// The names of functions.
fn names(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.function.as_ref().map_or("?", |(name, _)| name)).collect()
}

/// The line of the first source line with this text.
fn line(text: &str) -> u32 {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/backtraces.c");
    let source = std::fs::read_to_string(source).expect("the source");
    let at = source.lines().position(|line| line.contains(text)).expect("the line");
    u32::try_from(at + 1).expect("a line")
}

#[track_caller]
fn is_at(frame: &Frame, text: &str) {
    let (file, at) = frame.source.as_ref().expect("a source line");
    assert!(file.ends_with("tests/guests/backtraces.c"), "{file}");
    assert_eq!(*at, line(text), "{frame}");
}

#[test]
fn a_crash_has_names_and_lines() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for flags in [&["-g"][..], &["-g", "-no-pie"], &["-g", "-fomit-frame-pointer"]] {
        let frames = backtrace(dir.path(), "store", flags);
        assert_eq!(names(&frames)[..2], ["store", "main"], "{frames:#?}");
        is_at(&frames[0], "*null = value;");
        is_at(&frames[1], r#""store")"#);
        assert!(frames[0].module.as_ref().is_some_and(|path| path.ends_with("/backtraces")), "{frames:#?}");
        assert!(frames.len() >= 3 && frames.len() < 8, "it ends where the program begins: {frames:#?}");
        assert_eq!(names(&frames).last(), Some(&"_start"), "{frames:#?}");
        std::fs::remove_dir_all(dir.path().join("rec")).expect("removed");
    }
}

/// As distributions have them. A section that claims to be more than any can be is none.
#[test]
fn lines_may_be_compressed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for way in ["zlib", "zstd"] {
        let program = common::guest(dir.path(), "backtraces.c", &["-O0", "-g"]);
        let compress = |from: &Path, way| {
            let done = Command::new(common::native("objcopy"))
                .arg(format!("--compress-debug-sections={way}"))
                .args([from, &program])
                .status();
            assert!(done.expect("objcopy runs").success(), "{way}: it takes binutils 2.40");
        };
        let plain = dir.path().join("plain");
        std::fs::rename(&program, &plain).expect("renamed");
        compress(&plain, way);
        let crash = |program: &Path| {
            let (shown, path) = (dir.path().to_str().expect("a path"), program.to_str().expect("a path"));
            let done = tool(dir.path(), ["record", "-q", "-o", "rec", "--ro", shown, "--", path, "store"]);
            assert_eq!(done.status, 128 + 11, "{done:?}");
            let frames = at_end(dir.path());
            std::fs::remove_dir_all(dir.path().join("rec")).expect("removed");
            frames
        };
        let frames = crash(&program);
        assert_eq!(names(&frames)[..2], ["store", "main"], "{way}: {frames:#?}");
        is_at(&frames[0], "*null = value;");
        is_at(&frames[1], r#""store")"#);
        // The headers begin with their kind, and the length of what is compressed.
        let mut bytes = std::fs::read(&program).expect("read");
        let kind: &[u8] = if way == "zlib" { &[1, 0, 0, 0, 0, 0, 0, 0] } else { &[2, 0, 0, 0, 0, 0, 0, 0] };
        let mut found = 0;
        for at in (0..bytes.len() - 24).step_by(4) {
            if &bytes[at..at + 8] == kind && bytes[at + 16..at + 24] == [1, 0, 0, 0, 0, 0, 0, 0] {
                bytes[at + 8..at + 16].copy_from_slice(&(1u64 << 60).to_le_bytes());
                found += 1;
            }
        }
        assert!(found > 0, "{way}: no header is found");
        std::fs::write(&program, bytes).expect("written");
        let frames = crash(&program);
        assert_eq!(names(&frames)[..2], ["store", "main"], "{way}: {frames:#?}");
        assert_eq!(frames[0].source, None, "{way}");
    }
}

/// Of a larger program nobody has read the symbols, and where there is no room they are not recorded: they are in its file,
/// while that is the same one.
#[test]
fn what_is_not_in_the_recording_is_in_the_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = record_with(dir.path(), &["--max-log", "2M"], "store", &["-g", "-static"]);
    let frames = at_end(dir.path());
    assert_eq!(names(&frames)[..2], ["store", "main"], "{frames:#?}");
    is_at(&frames[0], "*null = value;");
    let mut other = std::fs::read(&program).expect("read");
    other.push(0);
    std::fs::write(&program, other).expect("written");
    let frames = at_end(dir.path());
    assert_eq!(names(&frames)[..2], ["?", "?"], "another file: {frames:#?}");
}

#[test]
fn without_debug_information_there_are_names() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let frames = backtrace(dir.path(), "store", &[]);
    assert_eq!(names(&frames)[..2], ["store", "main"], "{frames:#?}");
    assert_eq!(frames[0].source, None);
    let shown = frames[1].to_string();
    assert!(shown.contains(" main+0x") && shown.ends_with("/backtraces"), "{shown}");
}

#[test]
fn a_call_of_nothing_is_traced_to_its_caller() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let frames = backtrace(dir.path(), "call", &["-g"]);
    assert_eq!(
        (frames[0].address, names(&frames)[..3].to_vec()),
        (0, vec!["?", "call", "main"]),
        "{frames:#?}"
    );
    is_at(&frames[1], "nowhere();");
}

#[test]
fn what_a_signal_interrupted_is_behind_its_handler() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let frames = backtrace(dir.path(), "signal", &["-g"]);
    let names = names(&frames);
    assert_eq!(names[..2], ["store", "handler"], "{frames:#?}");
    let at = names.iter().position(|name| *name == "interrupted").expect("the function that raised it");
    is_at(&frames[at], "raise(SIGUSR1);");
    assert_eq!(names[at + 1], "main", "{frames:#?}");
    assert_eq!(frames.iter().filter(|frame| frame.interrupted).count(), 1, "{frames:#?}");
}

#[test]
fn backtraces_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let frames = backtrace(dir.path(), "smash", &["-g", "-fno-stack-protector"]);
    assert_eq!(names(&frames)[..2], ["store", "smash"], "{frames:#?}");
    assert!(frames.len() < 5, "{frames:#?}");
    std::fs::remove_dir_all(dir.path().join("rec")).expect("removed");
    let frames = backtrace(dir.path(), "deep", &["-g"]);
    assert_eq!(frames.len(), MOST_FRAMES);
    assert!(names(&frames)[1..].iter().all(|name| *name == "deep"), "{frames:#?}");
}
