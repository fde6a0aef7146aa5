//! Standard streams that are regular files: the same as natively, in what the program sees, in what is in
//! the files afterwards, and in where their positions are.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{self, DEJAVM, ENVIRONMENT, Finished, Input};

/// What each file is at the start.
const INPUT: &str = "line one\nline two\nline three\nline four\n";
const BEFORE: &str = "before\n";

/// What prints what is known of a stream.
const STAT: &str = "$RUN python3 -S -c 'import os; s = os.fstat(0); print(s.st_size, oct(s.st_mode), s.st_nlink, s.st_mtime_ns, os.lseek(0, 0, 1))'";

/// Shell scripts. `$RUN` is nothing natively.
const CASES: &[&str] = &[
    STAT,
    "$RUN python3 -S -c 'import sys; sys.stdin.seek(5); print(sys.stdin.read())'",
    "$RUN python3 -S -c 'import mmap; print(mmap.mmap(0, 0, prot=mmap.PROT_READ)[:])'",
    "$RUN python3 -S -c 'import mmap; print(mmap.mmap(0, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)[3:])'",
    "$RUN python3 -S -c 'import array, fcntl; n = array.array(\"i\", [0]); fcntl.ioctl(0, 0x541b, n); print(n)'",
    "$RUN python3 -S -c 'import os; print(os.pread(0, 4, 2), os.lseek(0, 0, 3), os.lseek(0, 0, 4), os.read(os.open(\"/dev/stdin\", 0), 3))'",
    "$RUN python3 -S -c 'import os; os.lseek(0, -4, 2); print(os.read(0, 2))'",
    "$RUN python3 -S -c 'import os; r, w = os.pipe(); print(os.sendfile(w, 0, None, 7), os.read(r, 7))'",
    "$RUN python3 -S -c 'import os; d = os.dup(0); os.close(0); print(os.read(d, 4))'",
    "$RUN python3 -S -c 'import os; print(os.isatty(0), os.read(0, 0), os.write(1, b\"\"))'",
    "$RUN python3 -S -c 'import select; print(select.select([0], [], [], 9)[0], select.select([], [1], [], 9)[1])'",
    "$RUN tail -c 5",
    "$RUN tail -n 2",
    "$RUN wc -c",
    "$RUN head -n 1",
    "$RUN sort -r",
    "$RUN grep -c two",
    "$RUN cat - f",
    "$RUN sed 2q",
    "read line; echo $line; $RUN cat",
    "read line; $RUN wc -c",
    "$RUN true",
    "$RUN cat >g",
    "$RUN cat >>g",
    "$RUN sort -r >g",
    "$RUN dd bs=5 count=1 seek=1 conv=notrunc of=/dev/stdout status=none >g",
    "{ echo first; $RUN cat; echo last; } >g",
    "{ $RUN head -n 1; $RUN head -n 1; echo last; } >>g",
    "$RUN sh -c 'echo one; echo two >/dev/stderr; echo three' >g 2>&1",
    "$RUN sh -c 'echo one; echo two >>/dev/stderr; echo three >&2' >g 2>h",
    "$RUN sh -c 'echo one >/dev/stdout; echo 2 >/dev/stdout' >g",
    "$RUN python3 -S -c 'import os, resource as r, sys; r.setrlimit(r.RLIMIT_FSIZE, (9, 9)); print(os.write(1, b\"x\" * 12), file=sys.stderr); os.write(1, b\"x\")' >g 2>h",
    "$RUN cat 1<>g",
    "$RUN cat <>f",
    "$RUN python3 -S output.py >g 2>h",
    "$RUN python3 -S output.py 1<>g 2>h",
    "{ echo first; $RUN python3 -S output.py; echo last; } >>g 2>h",
];

/// Runs a script, with the input's file on standard input, and gives what came of it: its end, its output,
/// what was left of its input, and the files.
fn run(script: &str, run: &str, dir: &Path) -> (Finished, Vec<String>) {
    fs::write(dir.join("f"), INPUT).expect("a file");
    for name in ["g", "h"] {
        fs::write(dir.join(name), BEFORE).expect("a file");
    }
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_500_000_000, 987_654_321);
    fs::File::options().append(true).open(dir.join("f")).expect("a file").set_modified(time).expect("a time");
    fs::write(dir.join("output.py"), include_str!("output.py")).expect("a file");
    let script = format!("({script}; echo \"status $?\"; echo left; cat)");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env_clear().envs(ENVIRONMENT).env("RUN", run).current_dir(dir);
    let finished = common::finish(&mut shell, Input::File(&dir.join("f")));
    let read = |name| String::from_utf8_lossy(&fs::read(dir.join(name)).expect("a file")).into_owned();
    (finished, ["f", "g", "h"].map(read).to_vec())
}

/// As natively.
fn same(script: &str, command: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a directory");
    let native = run(script, "", dir.path());
    let here = run(script, command, dir.path());
    if native == here { Ok(()) } else { Err(format!("{script}\nnatively {native:?}\nhere {here:?}")) }
}

#[test]
fn are_files_to_the_program() {
    common::require_kvm();
    let command = format!("{DEJAVM} run --deadline 60s --");
    common::for_each(CASES, |script| same(script, &command));
}

/// Pages go away again and again, what is mapped included.
#[test]
fn are_files_when_pages_are_evicted() {
    common::require_kvm();
    let command = format!("{DEJAVM} run --deadline 60s --evict every=3,seed=1 --");
    common::for_each(&CASES[..6], |script| same(script, &command));
}

/// A recording has all of it: the file is not there any more.
#[test]
fn are_replayed_without_the_files() {
    common::require_kvm();
    common::for_each(&["$RUN sort -r >g", STAT, CASES[2], "$RUN python3 -S output.py >g 2>h"], |script| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        same_recorded(script, path)
    });
}

fn same_recorded(script: &str, dir: &Path) -> Result<(), String> {
    let native = run(script, "", dir);
    let command = format!("{DEJAVM} record -o rec --deadline 60s --");
    let recorded = run(script, &command, dir);
    if native != recorded {
        return Err(format!("{script}\nnatively {native:?}\nrecorded {recorded:?}"));
    }
    fs::remove_file(dir.join("f")).expect("a file");
    let replayed = common::tool(dir, ["replay", "rec"]);
    // `g` has the output, but what was seeked over is in the replay as it was written.
    let expected = if script.contains("output.py") { None } else { Some(recorded) };
    let sound = replayed.status == 0
        && expected.is_none_or(|(finished, files)| {
            let text = String::from_utf8_lossy(&finished.stdout).into_owned();
            let printed =
                text.split("status").next().unwrap_or_default().to_owned() + &files[1].replace(BEFORE, "");
            String::from_utf8_lossy(&replayed.stdout) == printed
        });
    if sound { Ok(()) } else { Err(format!("{script}\nreplayed {replayed:?}")) }
}

/// What was in a file before is not the guest's to change.
#[test]
fn what_was_there_before_stays() {
    common::require_kvm();
    let command = format!("{DEJAVM} run --deadline 60s --");
    for (script, g) in [
        ("$RUN truncate -s 3 /dev/stdout >>g", "before\n"),
        ("{ echo mine; $RUN truncate -s 0 /dev/stdout; } >g", "mine\n"),
        (
            "{ echo mine; $RUN python3 -S -c 'import os; os.lseek(1, 2, 0); os.write(1, b\"x\")'; } >g",
            "mine\n",
        ),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let (finished, files) = run(script, &command, dir.path());
        assert_eq!(files[1], g, "{script}: {finished:?}");
        let stderr = String::from_utf8_lossy(&finished.stderr).into_owned();
        assert!(stderr.contains("not permitted"), "{script}: {finished:?}");
    }
}

/// Opened anew, such a file is cut to what is not the program's, and appended to: as logs are by scripts that
/// write to `/dev/stderr`.
#[test]
fn a_file_with_something_in_it_is_appended_to() {
    common::require_kvm();
    let command = format!("{DEJAVM} run --deadline 60s --");
    for (script, g) in [
        ("$RUN sh -c 'echo one >/dev/stderr; echo two >&2' 2>>g", "before\none\ntwo\n"),
        ("$RUN sh -c 'echo one >&2; echo two >/dev/stderr' 2>>g", "before\ntwo\n"),
        ("$RUN dd bs=1 count=3 of=/dev/stdout conv=notrunc <f >>g", "before\nlin"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let (finished, files) = run(script, &command, dir.path());
        assert_eq!(files[1], g, "{script}: {finished:?}");
    }
}

/// A log that grows meanwhile can be read as far as it went at the start.
#[test]
fn a_growing_file_has_the_length_that_it_had() {
    common::require_kvm();
    let command = format!("{DEJAVM} run --deadline 60s --");
    let dir = tempfile::tempdir().expect("a directory");
    let script = "$RUN python3 -S -c 'import os; print(os.read(0, 9)); os.write(1, b\"x\" * 9); print(os.lseek(0, 0, 2))' >>f";
    let (finished, files) = run(script, &command, dir.path());
    assert!(files[0].starts_with(INPUT) && files[0].contains("39"), "{files:?} {finished:?}");
}
