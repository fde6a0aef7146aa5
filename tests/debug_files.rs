//! `dejavm pack --debug-files`: names and lines where nothing of the program is left.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::tool;
use dejavm::replay::Frame;
use dejavm::{Host, Replay};

fn run(dir: &Path, command: &str, words: &[&str]) -> String {
    let done = Command::new(common::native(command)).args(words).current_dir(dir).output();
    let done = done.unwrap_or_else(|e| panic!("{command}: {e}"));
    assert!(done.status.success(), "{command} {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Takes what has names and lines out of a file, into a directory of debug files.
fn split(dir: &Path, file: &str) -> PathBuf {
    let notes = run(dir, "readelf", &["-n", file]);
    let id =
        notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).expect("a build ID").to_owned();
    let to = dir.join("debug/.build-id").join(&id[..2]);
    std::fs::create_dir_all(&to).expect("a directory");
    let to = to.join(format!("{}.debug", &id[2..]));
    run(dir, "objcopy", &["--only-keep-debug", file, to.to_str().expect("a path")]);
    run(dir, "strip", &[file]);
    to
}

/// A program and its library, recorded until they crash, with their debug files apart and nothing else left.
fn record(dir: &Path) {
    build(dir, 0);
    let recorded = tool(dir, ["record", "-q", "-o", "rec", "--", "./program"]);
    assert_eq!(recorded.status, 128 + 11, "{recorded:?}");
    remove(dir);
}

fn remove(dir: &Path) {
    for file in ["program", "libpoke.so", "program.c", "lib.c"] {
        std::fs::remove_file(dir.join(file)).expect("removed");
    }
}

/// The program, which makes so many calls before it crashes.
fn build(dir: &Path, calls: u32) {
    common::require_kvm();
    let lib = "void poke(int *where) {\n  *where = 7;\n}\n";
    let program = "int getppid(void); void poke(int *where);\nstatic int *where(void) {\n  return 0;\n}\n\
        int main(void) { for (int i = 0; i < CALLS; i++) getppid();\n  poke(where());\n  return 0;\n}\n";
    std::fs::write(dir.join("lib.c"), lib).expect("written");
    std::fs::write(dir.join("program.c"), program).expect("written");
    let flags = ["-g", "-O0", "-Wl,--build-id", "-o"];
    run(dir, "gcc", &[&flags[..], &["libpoke.so", "-shared", "-fPIC", "lib.c"]].concat());
    let calls = format!("-DCALLS={calls}");
    let link = ["program", "program.c", &calls, "-L.", "-lpoke", "-Wl,-rpath,$ORIGIN"];
    run(dir, "gcc", &[&flags[..], &link].concat());
    split(dir, "program");
    split(dir, "libpoke.so");
}

fn backtrace(recording: &Path) -> Vec<Frame> {
    let host = Host::probe().expect("KVM");
    let timeline = Replay::open(recording).and_then(|replay| replay.timeline(&host));
    let mut timeline = timeline.expect("a timeline");
    timeline.seek_end().expect("the end");
    timeline.backtrace()
}

fn names(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.function.as_ref().map_or("?", |(name, _)| name)).collect()
}

#[test]
fn a_pack_has_the_debug_files() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path();
    record(at);
    // The library's function has a name for others; lines are nowhere.
    let before = backtrace(&at.join("rec"));
    assert_eq!(names(&before)[..2], ["poke", "?"], "{before:#?}");
    assert!(before[..2].iter().all(|frame| frame.source.is_none()), "{before:#?}");

    let packed = tool(at, ["pack", "rec", "-o", "with.dvr", "--debug-files", "--debug-dir", "debug"]);
    assert!(String::from_utf8_lossy(&packed.stderr).contains(" files of its programs"), "{packed:?}");
    tool(at, ["pack", "-q", "rec", "-o", "without.dvr"]).text();
    std::fs::remove_dir_all(at.join("debug")).expect("removed");
    assert_eq!(names(&backtrace(&at.join("without.dvr")))[..2], ["poke", "?"]);

    let check = |recording: &str| {
        let frames = backtrace(&at.join(recording));
        assert_eq!(names(&frames)[..2], ["poke", "main"], "{recording}: {frames:#?}");
        let lines: Vec<_> = frames[..2].iter().map(|frame| frame.source.clone().expect("a line")).collect();
        assert!(lines[0].0.ends_with("lib.c") && lines[1].0.ends_with("program.c"), "{lines:?}");
        assert_eq!((lines[0].1, lines[1].1), (2, 6));
    };
    check("with.dvr");
    // It stays with it: packed again, unpacked, and packed from there.
    tool(at, ["pack", "-q", "with.dvr", "-o", "again.dvr"]).text();
    check("again.dvr");
    tool(at, ["unpack", "-q", "again.dvr", "-o", "dir"]).text();
    check("dir");
    tool(at, ["pack", "-q", "dir", "-o", "third.dvr"]).text();
    check("third.dvr");
    tool(at, ["inspect", "--verify", "third.dvr"]).text();
    assert_eq!(tool(at, ["replay", "-q", "third.dvr"]).status, 128 + 11);
    let page = tool(at, ["report", "with.dvr", "-o", "page.html"]);
    assert_eq!(page.status, 0, "{page:?}");
    assert!(std::fs::read_to_string(at.join("page.html")).expect("a page").contains("program.c:6"));

    // A debugger finds them, too.
    let gdb = tool(at, ["debug", "--end", "with.dvr", "--", "-nx", "-batch", "-ex", "backtrace"]);
    let said = String::from_utf8_lossy(&gdb.stdout);
    assert!(said.contains("lib.c:2") && said.contains("program.c:6"), "{gdb:?}");
}

/// A program that is larger than a block, and has its symbols at its end.
fn larger(at: &Path) -> PathBuf {
    let program = common::guest(at, "backtraces.c", &["-O0", "-g", "-static", "-Wl,--build-id"]);
    assert!(program.metadata().expect("a file").len() > 500_000);
    program
}

/// What is not the system's is made anew, and may be gone: all of it is recorded.
#[test]
fn programs_of_the_users_are_recorded_as_a_whole() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path();
    let program = larger(at);
    let done = tool(at, ["record", "-q", "-o", "rec", "--", "./backtraces", "store"]);
    assert_eq!(done.status, 128 + 11, "{done:?}");
    std::fs::remove_file(&program).expect("removed");
    tool(at, ["pack", "-q", "rec", "-o", "rec.dvr"]).text();
    for recording in ["rec", "rec.dvr"] {
        let frames = backtrace(&at.join(recording));
        assert_eq!(names(&frames)[..2], ["store", "main"], "{frames:#?}");
        assert!(frames[1].source.is_some(), "{frames:#?}");
        let gdb = tool(at, ["debug", "--end", recording, "--", "-nx", "-batch", "-ex", "backtrace"]);
        let said = String::from_utf8_lossy(&gdb.stdout);
        assert!(said.contains("store ") && said.contains("backtraces.c:"), "{gdb:?}");
    }
}

/// Where a recording has no room for that, the program's directory has it, though it was seen as /work.
#[test]
fn a_program_that_was_seen_in_work_is_found() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path();
    let program = larger(at);
    let record = ["record", "-q", "--max-log", "2M", "-o", "rec", "--", "./backtraces", "store"];
    assert_eq!(tool(at, record).status, 128 + 11);
    let frames = backtrace(&at.join("rec"));
    assert_eq!(names(&frames)[..2], ["store", "main"], "{frames:#?}");
    tool(at, ["pack", "-q", "rec", "-o", "with.dvr", "--debug-files"]).text();
    std::fs::remove_file(&program).expect("removed");
    assert_eq!(names(&backtrace(&at.join("rec")))[..2], ["?", "?"]);
    assert_eq!(names(&backtrace(&at.join("with.dvr")))[..2], ["store", "main"]);
}

/// Of a larger program such a recording has what was read of it; the pack has all, if it is still the same.
#[test]
fn a_pack_has_whole_files() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path();
    let program = larger(at);
    let (shown, path) = (at.to_str().expect("a path"), program.to_str().expect("a path"));
    let record = ["record", "-q", "--max-log", "2M", "-o", "rec", "--ro", shown, "--", path, "store"];
    assert_eq!(tool(at, record).status, 128 + 11);
    tool(at, ["pack", "-q", "rec", "-o", "with.dvr", "--debug-files"]).text();
    // One that is not the same any more.
    let mut other = std::fs::read(&program).expect("read");
    other.push(0);
    std::fs::write(&program, other).expect("written");
    tool(at, ["pack", "-q", "rec", "-o", "other.dvr", "--debug-files"]).text();
    std::fs::remove_file(&program).expect("removed");
    let frames = backtrace(&at.join("with.dvr"));
    assert_eq!(names(&frames)[..2], ["store", "main"], "{frames:#?}");
    assert!(frames[1].source.is_some(), "{frames:#?}");
    let frames = backtrace(&at.join("other.dvr"));
    assert_eq!(names(&frames)[..2], ["?", "?"], "{frames:#?}");
}

/// What was loaded before the part of a run that a ring keeps.
#[test]
fn a_ring_has_the_debug_files_of_what_was_loaded_before() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path();
    build(at, 20000);
    let recorded = tool(at, ["record", "-q", "--ring", "64K", "-o", "rec", "--", "./program"]);
    assert_eq!(recorded.status, 128 + 11, "{recorded:?}");
    let recording = dejavm::replay::Recording::open(at.join("rec")).expect("a recording");
    assert!(recording.manifest().dropped > 0, "it begins where the program was loaded already");
    tool(at, ["pack", "-q", "rec", "-o", "with.dvr", "--debug-files", "--debug-dir", "debug"]).text();
    remove(at);
    let frames = backtrace(&at.join("rec"));
    assert_eq!(names(&frames)[..2], ["?", "?"], "nobody has read their names: {frames:#?}");
    let frames = backtrace(&at.join("with.dvr"));
    assert_eq!(names(&frames)[..2], ["poke", "main"], "{frames:#?}");
    assert!(frames[..2].iter().all(|frame| frame.source.is_some()), "{frames:#?}");
}

#[test]
fn another_file_of_that_name_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path();
    record(at);
    // Of another build, and no ELF file at all.
    let debug: Vec<PathBuf> = std::fs::read_dir(at.join("debug/.build-id"))
        .expect("a directory")
        .flat_map(|entry| std::fs::read_dir(entry.expect("an entry").path()).expect("a directory"))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    std::fs::copy("/bin/true", &debug[0]).expect("copied");
    std::fs::write(&debug[1], "no program").expect("written");
    tool(at, ["pack", "-q", "rec", "-o", "with.dvr", "--debug-files", "--debug-dir", "debug"]).text();
    let frames = backtrace(&at.join("with.dvr"));
    assert_eq!(names(&frames)[..2], ["poke", "?"], "{frames:#?}");
    assert!(frames[..2].iter().all(|frame| frame.source.is_none()), "{frames:#?}");
    let alone = tool(at, ["pack", "rec", "-o", "x.dvr", "--debug-dir", "debug"]);
    assert_eq!(alone.status, 125, "it is of --debug-files: {alone:?}");
}
