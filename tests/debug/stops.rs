//! What it stops at, besides what all debuggers do: reads, conditions, other processes.

use super::common::{self, tool};
use super::{WAYS, functions, gdb, lines, record, tells};

#[test]
fn reads_of_memory_are_watched_in_both_directions() {
    let dir = record("uses", &[]);
    let next = ["continue", "info symbol $pc"];
    let last = ["reverse-continue", "info symbol $pc"];
    for way in WAYS {
        let reads = [
            &["rwatch watched.value"][..],
            &next,
            &next,
            &["monitor when", "printf \"at %p %p\\n\", $pc, $sp"],
            &next,
            &last,
            &last,
            &last,
        ]
        .concat();
        let said = gdb(dir.path(), way, &reads);
        tells(
            &said,
            &[
                "Hardware read watchpoint 1: watched.value",
                "Value = 1",
                "load",
                "Value = 1",
                "load",
                "SIGKILL",
            ],
        );
        tells(
            &said,
            &["SIGKILL", "read watchpoint 1", "load", "read watchpoint 1", "load", "No more reverse"],
        );
        assert_eq!(functions(&said).iter().filter(|name| **name == "load").count(), 4, "{said}");
        // It is the position that is come to without.
        let when = said.lines().find(|line| line.contains('+') && !line.contains(' ')).expect("a position");
        let there = gdb(dir.path(), &["--at", when], &["printf \"at %p %p\\n\", $pc, $sp"]);
        assert_eq!(lines(&there, "at "), lines(&said, "at "));
        let uses = [&["awatch watched.value"][..], &next, &next, &next, &next, &next, &next, &next].concat();
        let said = gdb(dir.path(), way, &uses);
        let places = functions(&said);
        assert_eq!([places[0], places[1], places[2]], ["store", "load", "store"], "{said}");
        assert!(places[3].contains("read"), "{said}");
        assert_eq!([places[4], places[5]], ["store", "load"], "{said}");
        tells(
            &said,
            &[
                "access (read/write) watchpoint 1",
                "New value = 1",
                "New value = 2",
                "Old value = 2",
                "Value = 1",
                "Value = 1",
                "SIGKILL",
            ],
        );
    }
}

#[test]
fn conditions_are_not_gdbs_to_evaluate() {
    let dir = record("count", &[]);
    let said = gdb(
        dir.path(),
        &[],
        &[
            "set debug remote 1",
            "break count if i == 45",
            "continue",
            "print counter",
            "continue",
            "reverse-continue",
            "condition 1 i == 20 || i == 21",
            "reverse-continue",
            "reverse-continue",
            "print counter",
            "condition 1",
            "reverse-continue",
            "print i",
        ],
    );
    tells(&said, &["= 22", "SIGKILL", "count (i=45)", "count (i=21)", "count (i=20)", "= 10", "= 19"]);
    // Five of these, two of gdb's own; gdb would have to look at i some hundred times.
    let stops = said.lines().filter(|line| line.contains("T05") && line.contains("swbreak:"));
    assert!(stops.count() < 10, "{said}");
}

#[test]
fn other_processes_are_stopped_if_that_is_asked_for() {
    let dir = record("fork", &[]);
    let said = gdb(
        dir.path(),
        &[],
        &[
            "break execl",
            "continue",
            "monitor process 3",
            "reverse-continue",
            "print counter",
            "monitor tasks",
            "monitor process",
        ],
    );
    tells(&said, &["SIGABRT", "Breakpoint 1", "execl", "= 1", "\n3\n"]);
    tells(&said, &["=> task 3 of process 3"]);
}

/// Whoever begins in another process, such as where that crashes, means that one.
#[test]
fn breakpoints_are_in_the_process_that_it_begins_with() {
    let dir = record("count", &[]);
    std::fs::remove_dir_all(dir.path().join("rec")).expect("removed");
    let recorded =
        tool(dir.path(), ["record", "-q", "-o", "rec", "--", "sh", "-c", "./debugged heap; exit 3"]);
    assert_eq!(recorded.status, 3, "{recorded:?}");
    let crash = tool(dir.path(), ["find", "rec", "signal", "SEGV"]).text();
    let position = crash.split_whitespace().next().expect("a position");
    let look = ["backtrace", "watch -l head->next", "reverse-continue", "backtrace 1", "monitor process"];
    for way in WAYS {
        let said = gdb(dir.path(), &[way, &["--at", position]].concat(), &look);
        tells(&said, &["sum ()", "main (", "Hardware watchpoint", "Old value", "add (value=9)", "\n3\n"]);
    }
}

/// Where they are made and where they come back, in the order of breakpoints and uses of memory, forwards and backwards.
#[test]
fn system_calls_are_caught() {
    let dir = record("uses", &[]);
    let places = [
        "store (value=1)",
        "call to syscall write",
        "returned from syscall write",
        "store (value=2)",
        "call to syscall read",
        "returned from syscall read",
        "store (value=1)",
    ];
    let back: Vec<&str> = places.iter().rev().copied().collect();
    for way in WAYS {
        let begin = ["tbreak main", "continue", "catch syscall write read", "break store"];
        let moves = ["continue"; 8].into_iter().chain(["reverse-continue"; 8]);
        let commands: Vec<&str> = begin.into_iter().chain(moves).collect();
        let said = gdb(dir.path(), way, &commands);
        // The linker's, before `main`.
        tells(&said, &[&places[..], &["SIGKILL"], &back, &["returned from syscall read"]].concat());
        // All, of which the linker makes some, and nothing more.
        let said = gdb(dir.path(), way, &["catch syscall", "continue", "continue", "delete", "continue"]);
        tells(&said, &["call to syscall", "returned from syscall", "SIGKILL"]);
    }
    let dir = record("fork", &[]);
    let commands = ["catch syscall wait4", "continue", "continue", "continue"];
    let said = gdb(dir.path(), &[], &[&commands[..], &["reverse-continue"; 2]].concat());
    tells(&said, &["call to syscall wait4", "returned from syscall wait4", "SIGABRT"]);
    tells(&said, &["SIGABRT", "returned from syscall wait4", "call to syscall wait4"]);
}

/// What gdb reads of Linux's own description of a process.
#[test]
fn the_process_is_described() {
    let dir = record("count", &[]);
    let said = gdb(dir.path(), &[], &["break count", "continue", "info proc mappings", "info proc"]);
    tells(&said, &["r-xp", "/work/debugged", "libc.so.6", "[stack]", "'./debugged count'"]);
    tells(&said, &["cwd = '/work'", "exe = '/work/debugged'"]);
    assert!(!said.contains("unable to"), "{said}");
}

/// Those that have handlers, too, in both directions, unless gdb is told otherwise.
#[test]
fn signals_are_shown_as_they_came() {
    let dir = record("signal", &[]);
    for way in WAYS {
        let commands = ["tbreak main", "continue", "continue", "backtrace", "continue", "reverse-continue"];
        let said = gdb(dir.path(), way, &[&commands[..], &["continue", "reverse-continue"]].concat());
        let shown = ["received signal SIGUSR1", "raise", "main", "No more reverse-execution history"];
        tells(&said, &[&shown[..], &["received signal SIGUSR1"], &shown[3..], &shown[..1]].concat());
        let quiet = ["handle SIGUSR1 nostop noprint", "break handler", "continue", "continue"];
        let said = gdb(dir.path(), way, &[&quiet[..], &["reverse-continue"; 2]].concat());
        tells(&said, &["handler (signal=10)", "No more", "handler (signal=10)", "No more"]);
        assert!(!said.contains("received signal"), "{said}");
    }
    // The one that ends it, too, once each time that it is come to: gdb would go on behind it for ever.
    let dir = record("count", &[]);
    for (handle, told) in [("nostop noprint", 0), ("nostop print", 2), ("stop print", 1)] {
        let handle = format!("handle SIGKILL {handle}");
        let said = gdb(dir.path(), &[], &[&handle, "continue", "continue", "backtrace"]);
        tells(&said, &["No more reverse-execution history", "main"]);
        assert_eq!(said.matches("received signal SIGKILL").count(), told, "{said}");
    }
}

/// What comes behind the last exit of a run that is stuck: its last steps, which make none, few or many.
#[test]
fn a_run_that_is_stuck_is_seen_where_it_is() {
    common::native("gdb");
    for rounds in ["1", "100000"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        common::guest(dir.path(), "locked.c", &["-g", "-O0"]);
        let recorded = tool(dir.path(), ["record", "-q", "-o", "rec", "--", "./locked", rounds]);
        assert_eq!(recorded.status, 123, "{recorded:?}");
        for way in WAYS {
            let look = ["info threads", "thread apply all backtrace"];
            let back =
                ["break work", "reverse-continue", "backtrace", "reverse-continue", "continue", "continue"];
            let at_end = gdb(dir.path(), &[way, &["--end"]].concat(), &["backtrace", "info threads"]);
            tells(&at_end, &["take (number=", "* 1", "(locked)", "(locked, waits in futex)"]);
            let said = gdb(dir.path(), way, &[&["continue"], &look[..], &back].concat());
            assert_eq!(said.matches("lll_lock_wait").count(), 2, "once for each thread:\n{said}");
            tells(&said, &["take (number=", "take (number=", "main (argc="]);
            tells(
                &said,
                &["hit Breakpoint 1, work", "take", "hit Breakpoint 1, work", "hit Breakpoint 1, work"],
            );
            assert_eq!(said.matches("can never come").count(), 2, "each time that it is there:\n{said}");
        }
    }
}
