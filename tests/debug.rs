//! `dejavm debug`: gdb on recordings, forwards and backwards, also while pages are taken away.

mod common;

use std::path::Path;

use common::tool;

/// Builds the guest, and records a part of it.
fn record(dir: &Path, part: &str, flags: &[&str]) {
    common::native("gdb");
    common::guest(dir, "debugged.c", &[&["-g", "-O0"], flags].concat());
    let recorded = tool(dir, ["record", "-q", "-o", "rec", "--", "./debugged", part]);
    assert!(dir.join("rec").is_dir(), "{recorded:?}");
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
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "heap", &[]);
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
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "signal", &[]);
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            &[
                "break handler",
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
                "print counter",
            ],
        );
        tells(
            &said,
            &["Breakpoint 1, handler (signal=10)", "<signal handler called>", "main", "= 1", "= 10", "= 0"],
        );
        tells(&said, &["Old value = 1", "New value = 0"]);
    }
}

#[test]
fn over_a_fork_and_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "fork", &[]);
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
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "deep", &[]);
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
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "count", &[]);
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
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "heap", &["-static", "-s"]);
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
fn reads_of_memory_are_watched_in_both_directions() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "uses", &[]);
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
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "count", &[]);
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
fn commands_of_its_own() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "count", &[]);
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            &[
                "continue",
                "break count",
                "info symbol $pc",
                "last-write counter",
                "info symbol $pc",
                "print counter",
                "reverse-to-write counter",
                "info symbol $pc",
                "when",
                "print counter",
                "reverse-continue",
                "seek 0",
                "info symbol $pc",
                "seek 100000",
                "seek 1-",
                "when",
            ],
        );
        tells(
            &said,
            &["SIGKILL", "Old value = 30", "New value = 29", "at ", "= 30", "Old value = 30", "= 29"],
        );
        tells(&said, &["Breakpoint 1, count", "_start", "there is no position 100000"]);
        let places = functions(&said);
        assert_eq!(places[0], places[1], "{said}");
        assert_eq!(places[2], "count", "{said}");
        // Where it was last written, by both.
        let at = lines(&said, "at ");
        assert!(at.first().is_some_and(|at| said.contains(&format!("\n{at}\n"))), "{said}");
    }
}

#[test]
fn what_is_called_and_set_happens_in_a_copy() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "count", &[]);
    let dies = "\
python
try:
    gdb.execute('call (int)raise(9)')
except gdb.error as e:
    print('refused:', e)
end";
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            &[
                "break count if i == 45",
                "continue",
                "monitor when",
                "print deep(3)",
                "call count(1)",
                "print counter",
                "set var seen = 77",
                "print seen",
                "print $xmm3.v4_int32[0] = 5",
                "print $xmm3.v4_int32[0]",
                "set var $ignored = ((int (*)(const char *))puts)(\"from the copy\")",
                "set var $ignored = ((int (*)(void *))fflush)(0)",
                dies,
                "print counter",
                "set var counter = 70",
                "print counter",
                "monitor when",
                "stepi",
                "reverse-stepi",
                "print counter",
                "set var $rsp = 8",
                "reverse-stepi",
                "stepi",
                "backtrace",
                "delete",
                "continue",
                "print counter",
                "print seen",
            ],
        );
        tells(&said, &["count (i=45)", "$1 = 3", "$2 = 23", "$3 = 77", "$4 = 5", "$5 = 5", "refused: "]);
        tells(&said, &["$6 = 22", "$7 = 70", "$8 = 22", "main", "SIGKILL", "$9 = 30", "$10 = 0"]);
        // On standard error.
        tells(&said, &["bottom", "from the copy", "given up"]);
        let places: Vec<&str> =
            said.lines().filter(|line| line.contains('+') && !line.contains(' ')).collect();
        assert!(matches!(places[..], [before, behind] if before == behind), "{said}");
    }
}

/// gdb waits for a long time, and is answered again when it has given up.
#[test]
fn commands_may_take_long_and_be_given_up() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "compute", &[]);
    // Between the exits are more steps than anybody counts.
    let impatient = "\
python
import os, subprocess
subprocess.Popen(['sh', '-c', 'sleep 3; kill -INT $0', str(os.getpid())])
try:
    gdb.execute('monitor when')
except KeyboardInterrupt:
    print('given up')
end";
    let said = gdb(
        dir.path(),
        &[],
        &["break write if counter", "continue", impatient, "print counter", "backtrace"],
    );
    tells(&said, &["given up", "= 599999999", "write", "main"]);
    assert!(!said.contains("acket error") && !said.contains("imeout"), "{said}");
}

#[test]
fn other_processes_are_stopped_if_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "fork", &[]);
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

/// Commands by which gdb is sent SIGINT soon after it has let the program go on.
const INTERRUPT: &str = "\
python
import os, subprocess
def interrupt(event):
    subprocess.Popen(['sh', '-c', 'sleep 0.1; kill -INT $0', str(os.getpid())])
gdb.events.cont.connect(interrupt)
end";

#[test]
fn an_interrupt_is_obeyed_in_both_directions() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "compute", &[]);
    // Forwards, it is behind the last exit then, where the computation begins: not at its end.
    let said = gdb(dir.path(), &[], &[INTERRUPT, "continue", "print counter"]);
    tells(&said, &["SIGINT", "$1 = 0"]);
    // Backwards, it is where it was: also where that is known only by the way there.
    for way in [&["break write if counter", "continue"][..], &[]] {
        let commands =
            [way, &["delete", INTERRUPT, "reverse-continue", "print counter", "backtrace"]].concat();
        let options: &[&str] = if way.is_empty() { &["--end"] } else { &[] };
        tells(&gdb(dir.path(), options, &commands), &["SIGINT", "$1 = 599999999", "main"]);
    }
}

#[test]
fn what_cannot_be_debugged_is_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    record(dir.path(), "signal", &[]);
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
    tells(&gdb(dir.path(), &["--memory", "3G"], &["break handler", "continue"]), &["handler (signal=10)"]);
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
