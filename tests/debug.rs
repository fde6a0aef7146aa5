//! `dejavm debug`: gdb on recordings, forwards and backwards, also while pages are taken away.

#[path = "debug/commands.rs"]
mod commands;
mod common;
#[path = "debug/stops.rs"]
mod stops;

use std::path::Path;

use common::tool;
use tempfile::TempDir;

/// Builds the guest, and records a part of it, in a directory of its own.
fn record(part: &str, flags: &[&str]) -> TempDir {
    common::native("gdb");
    let dir = tempfile::tempdir().expect("a temporary directory");
    common::guest(dir.path(), "debugged.c", &[&["-g", "-O0"], flags].concat());
    let recorded = tool(dir.path(), ["record", "-q", "-o", "rec", "--", "./debugged", part]);
    assert!(dir.path().join("rec").is_dir(), "{recorded:?}");
    dir
}

/// What gdb says to these commands.
fn gdb(dir: &Path, options: &[&str], commands: &[&str]) -> String {
    let script = commands.iter().map(|command| format!("{command}\n")).collect::<String>();
    std::fs::write(dir.join("script"), script).expect("a script is written");
    let words = [&["debug", "rec"], options, &["--", "-nx", "-batch", "-x", "script"]].concat();
    let said = tool(dir, words);
    let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert_eq!(said.status, 0, "{text}");
    text
}

/// Whether these texts come one after another.
#[track_caller]
fn tells(said: &str, texts: &[&str]) {
    let mut rest = said;
    for text in texts {
        match rest.find(text) {
            Some(at) => rest = &rest[at + text.len()..],
            None => panic!("no {text:?} where it should be in:\n{said}"),
        }
    }
}

/// Plainly, and while pages are taken away.
const WAYS: [&[&str]; 2] = [&[], &["--evict", "every=2,seed=1"]];

#[test]
fn from_a_crash_back_to_the_guilty_store() {
    let dir = record("heap", &[]);
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            &[
                "continue",
                "set $node = head",
                "while $node->next != 0x414141414141",
                "set $node = $node->next",
                "end",
                "watch -l $node->next",
                "reverse-continue",
                "backtrace",
                "up 1",
                "print i",
            ],
        );
        tells(&said, &["SIGSEGV", "in sum ()", "Hardware watchpoint 1", "Old value = ", "0x414141414141"]);
        tells(&said, &["scribble (i=7)", "main", "= 7"]);
    }
    // The end is where it begins, if that is wanted.
    let said = gdb(dir.path(), &["--end"], &["backtrace"]);
    tells(&said, &["#0", "sum ()", "#1", "main"]);
}

#[test]
fn into_a_signal_handler_and_back() {
    let dir = record("signal", &[]);
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            &[
                "break handler",
                "continue",
                "continue",
                "backtrace",
                "print counter",
                "next",
                "next",
                "print seen",
                "reverse-next",
                "reverse-next",
                "print seen",
                "watch counter",
                "reverse-continue",
                "reverse-continue",
                "print counter",
            ],
        );
        tells(
            &said,
            &[
                "received signal SIGUSR1",
                "Breakpoint 1, handler (signal=10)",
                "<signal handler called>",
                "main",
                "= 1",
                "= 10",
                "= 0",
            ],
        );
        tells(&said, &["Old value = 1", "New value = 0"]);
    }
}

#[test]
fn over_a_fork_and_back() {
    let dir = record("fork", &[]);
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            &[
                "continue",
                "backtrace",
                "watch counter",
                "reverse-continue",
                "reverse-continue",
                "tbreak waitpid",
                "continue",
                "monitor tasks",
            ],
        );
        tells(
            &said,
            &["SIGABRT", "abort", "main", "Old value = 2", "New value = 1", "Old value = 1", "New value = 0"],
        );
        tells(&said, &["Temporary breakpoint", "task 2 of process 2"]);
    }
}

#[test]
fn out_of_a_deep_recursion() {
    let dir = record("deep", &[]);
    let said = gdb(
        dir.path(),
        &[],
        &[
            "break write",
            "continue",
            "up",
            "print depth",
            "up 5000",
            "print depth",
            "frame 1",
            "delete",
            "reverse-finish",
            "reverse-finish",
            "print depth",
        ],
    );
    tells(&said, &["in deep (depth=0)", "= 0", "= 5000", "deep (depth=1)", "= 1"]);
}

#[test]
fn conditions_hold_backwards() {
    let dir = record("count", &[]);
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            &[
                "continue",
                "break count if i == 45",
                "reverse-continue",
                "print counter",
                "continue",
                "reverse-continue",
            ],
        );
        tells(&said, &["SIGKILL", "count (i=45)", "= 22", "SIGKILL", "count (i=45)"]);
    }
}

#[test]
fn a_stripped_static_program_by_its_instructions() {
    let dir = record("heap", &["-static", "-s"]);
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            &[
                "stepi 50",
                "printf \"at %lx %lx\\n\", $rip, $rsp",
                "monitor when",
                "stepi 30",
                "reverse-stepi 30",
                "printf \"at %lx %lx\\n\", $rip, $rsp",
                "continue",
                "reverse-stepi 5",
                "stepi 5",
                "x/i $rip",
                "reverse-continue",
                "monitor when",
            ],
        );
        let places: Vec<&str> = said.lines().filter(|line| line.starts_with("at ")).collect();
        assert!(matches!(places[..], [a, b] if a == b), "{said}");
        tells(&said, &["SIGSEGV", "=> 0x", "No more reverse-execution history"]);
        // What `monitor` says comes on standard error.
        tells(&said, &["\n0+51\n0\n"]);
    }
}

/// What the lines say that begin with this.
fn lines<'a>(said: &'a str, begin: &str) -> Vec<&'a str> {
    said.lines().filter_map(|line| line.strip_prefix(begin)).collect()
}

/// In which functions it stops, one after another.
fn functions(said: &str) -> Vec<&str> {
    let symbols = said.lines().filter(|line| line.contains(" in section .text"));
    symbols.filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn what_cannot_be_debugged_is_told() {
    let dir = record("signal", &[]);
    let failed = tool(dir.path(), ["debug", "rec", "--at", "100000"]);
    assert_eq!(failed.status, 125);
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(text.contains("there is no position 100000 in this recording: it has those from 0 to"), "{text}");
    let failed = tool(dir.path(), ["debug", "rec", "--gdb", "no-such-debugger"]);
    assert!(
        String::from_utf8_lossy(&failed.stderr).contains("no-such-debugger cannot be started"),
        "{failed:?}"
    );
    let failed = tool(dir.path(), ["debug", "rec", "--at", "x"]);
    assert!(String::from_utf8_lossy(&failed.stderr).contains("no position"), "{failed:?}");
}

/// A recording may come from anybody, and say that its guest may use all of the host's memory.
#[test]
fn large_recordings_are_debugged_only_if_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    common::guest(dir.path(), "debugged.c", &["-g", "-O0"]);
    tool(dir.path(), ["record", "-q", "--memory", "3G", "-o", "rec", "--", "./debugged", "signal"]);
    let refused = tool(dir.path(), ["debug", "rec", "--", "-nx", "-batch"]);
    assert_eq!(refused.status, 125);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("--memory"), "{text}");
    tells(
        &gdb(dir.path(), &["--memory", "3G"], &["break handler", "continue", "continue"]),
        &["handler (signal=10)"],
    );
}

/// Who sees a program fail under `record` is told what to do next.
#[test]
fn a_recorded_failure_says_how_to_debug_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let says = |options: &[&str], script: &str| {
        let _ = std::fs::remove_dir_all(dir.path().join("rec"));
        let words = [&["record", "-o", "rec"], options, &["--", "/bin/sh", "-c", script]].concat();
        let done = tool(dir.path(), words);
        String::from_utf8_lossy(&done.stderr).contains("dejavm debug --end rec")
    };
    assert!(says(&[], "kill -SEGV $$"), "a crash");
    assert!(says(&["--deadline", "300ms"], "while :; do :; done"), "a hang");
    assert!(!says(&["-q"], "kill -SEGV $$"), "quietly");
    assert!(!says(&[], "exit 3"), "a status of the program's own");
}
