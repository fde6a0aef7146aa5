//! `dejavm run --gdb`: gdb on programs that run, also while pages are taken away, and while they are stepped.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use common::{Finished, Input, finish, tool};
use tempfile::TempDir;

/// Plainly, while pages are taken away and the scheduler steps, and where branches are counted.
const WAYS: [&[&str]; 3] = [&[], &["--evict", "every=2,seed=1", "--chaos=1"], &["--time-slice", "1000"]];

/// Builds the guest, in a directory of its own.
fn guest() -> TempDir {
    common::native("gdb");
    let dir = tempfile::tempdir().expect("a temporary directory");
    common::guest(dir.path(), "attended.c", &["-g", "-O0", "-pthread"]);
    dir
}

/// What gdb and the program say, a part of which it runs, to these commands.
fn gdb(dir: &Path, options: &[&str], part: &str, commands: &[&str]) -> String {
    let said = gdb_with(dir, options, part, commands, Input::Pipe(b""));
    let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert_eq!(said.status, 0, "{text}");
    text
}

fn gdb_with(dir: &Path, options: &[&str], part: &str, commands: &[&str], input: Input<'_>) -> Finished {
    let script = commands.iter().map(|command| format!("{command}\n")).collect::<String>();
    std::fs::write(dir.join("script"), script).expect("a script is written");
    let own = ["run", "--gdb", "--gdb-arg=-nx", "--gdb-arg=-batch", "--gdb-arg=-x", "--gdb-arg=script"];
    let words = [&own, options, &["--", "./attended", part]].concat();
    finish(common::dejavm(words).current_dir(dir), input)
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

/// A command that must fail, and says so.
fn refused(command: &str) -> String {
    format!(
        "python\ntry:\n    gdb.execute({command:?})\nexcept gdb.error as e:\n    print('refused:', e)\nend"
    )
}

#[test]
fn from_its_first_instruction_to_its_exit_status() {
    let dir = guest();
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            "count",
            &[
                "info symbol $pc",
                "tbreak main",
                "continue",
                "next",
                "break count if i == 45",
                "continue",
                "print counter",
                "next",
                "print counter",
                "print twice(21)",
                "set var counter = 100",
                "finish",
                &refused("reverse-step"),
                &refused("reverse-continue"),
                "continue",
                "print $_exitcode",
            ],
        );
        tells(&said, &["_start", "main (argc=2", "Breakpoint 2, count (i=45)", "= 22", "= 23", "= 42"]);
        tells(&said, &["= 42", "main (argc=2", "does not support", "does not support"]);
        tells(&said, &["counted 107", "exited with code 03", "= 3"]);
    }
}

#[test]
fn what_is_written_and_read_is_watched() {
    let dir = guest();
    let next = ["continue", "info symbol $pc"];
    let end = ["delete", "continue"];
    for way in WAYS {
        let begin = &["tbreak main", "continue"][..];
        let writes = [begin, &["watch watched.value"], &next, &next, &next, &end].concat();
        let said = gdb(dir.path(), way, "uses", &writes);
        tells(&said, &["Old value = 0", "New value = 1", "store", "Old value = 1", "read", "New value = 7"]);
        tells(&said, &["New value = 7", "store", "exited normally"]);
        let reads = [begin, &["rwatch watched.value"], &next, &end].concat();
        tells(&gdb(dir.path(), way, "uses", &reads), &["Value = 1", "load", "exited normally"]);
        let uses = [begin, &["awatch watched.value"], &next, &next, &next, &next, &end].concat();
        tells(
            &gdb(dir.path(), way, "uses", &uses),
            &["New value = 1", "store", "Value = 1", "load", "read", "New value = 7", "store", "exited"],
        );
        // Also by single steps.
        let steps = ["break store", "continue", "watch watched.value", "next"];
        tells(&gdb(dir.path(), way, "uses", &steps), &["store (value=1)", "watchpoint 2", "New value = 1"]);
    }
}

#[test]
fn a_crash_is_shown_and_then_made() {
    let dir = guest();
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            "crash",
            &["continue", "backtrace", "info registers rip", "continue", &refused("continue")],
        );
        tells(&said, &["before", "received signal SIGSEGV", "#0", "main", "rip"]);
        tells(&said, &["Program terminated with signal SIGSEGV", "refused: The program is not being run"]);
    }
}

#[test]
fn signals_are_shown_and_passed_or_not() {
    let dir = guest();
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            "signals",
            &[
                "continue",
                "backtrace 1",
                "break handler",
                "continue",
                "print signal",
                "delete",
                "continue",
                "signal 0",
            ],
        );
        tells(&said, &["received signal SIGUSR1", "#0", "handler (signal=10)", "= 10", "seen 10"]);
        tells(&said, &["received signal SIGTERM", "not ended", "exited normally"]);
        let others = ["continue", "signal SIGCONT", "signal SIGABRT"];
        let said = gdb(dir.path(), way, "signals", &others);
        tells(&said, &["received signal SIGUSR1", "seen 0", "received signal SIGTERM"]);
        tells(&said, &["Program terminated with signal SIGABRT"]);
    }
}

/// Before they are made, and when they have come back, with the signals that came then behind that.
#[test]
fn system_calls_are_caught() {
    let dir = guest();
    for way in WAYS {
        let begin = ["tbreak main", "continue", "catch syscall write read", "break store"];
        let said = gdb(dir.path(), way, "uses", &[&begin[..], &["continue"; 7]].concat());
        tells(&said, &["store (value=1)", "call to syscall write", "returned from syscall write"]);
        tells(&said, &["from syscall write", "call to syscall read", "returned from syscall read"]);
        tells(&said, &["from syscall read", "store (value=7)", "exited normally"]);
        // At the instruction, which a step makes without a word.
        let look = ["delete", "print $rax", "x/i $pc", "stepi", "print $rax", "continue"];
        let words = [&begin[..3], &["continue"], &look].concat();
        let said = gdb(dir.path(), way, "uses", &words);
        tells(&said, &["call to syscall write", "= 1\n", "syscall", "= 8\n", "exited normally"]);
        assert!(!said.contains("returned"), "{said}");
        let catch = ["tbreak main", "continue", "catch syscall tgkill"];
        let said = gdb(dir.path(), way, "signals", &[&catch[..], &["continue"; 6], &["signal 0"]].concat());
        tells(&said, &["call to syscall tgkill", "returned from syscall tgkill", "SIGUSR1", "seen 10"]);
        tells(&said, &["seen 10", "call to syscall tgkill", "returned from syscall tgkill", "SIGTERM"]);
        tells(&said, &["SIGTERM", "not ended", "exited normally"]);
        // Each of two threads waits four times, and the other runs meanwhile.
        let catch = ["tbreak main", "continue", "catch syscall clock_nanosleep"];
        let said = gdb(dir.path(), way, "threads", &[&catch[..], &["continue"; 17]].concat());
        let told = |what: &str| said.matches(&format!("{what} syscall clock_nanosleep")).count();
        assert_eq!((told("call to"), told("returned from")), (8, 8), "{said}");
        tells(&said, &["together 8", "exited normally"]);
    }
    // All of them: at its end the program is told to have made the last.
    let said =
        gdb(dir.path(), &[], "stuck", &["catch syscall", "continue", "continue", "delete", "continue"]);
    tells(&said, &["call to syscall", "returned from syscall", "can never come about"]);
}

#[test]
fn threads_are_seen_and_stepped() {
    let dir = guest();
    for way in WAYS {
        let said = gdb(
            dir.path(),
            way,
            "threads",
            &[
                "break count",
                "continue",
                "info threads",
                "set $thread = $_thread",
                "finish",
                // Past its sleep, in which the others run.
                "disable",
                "next",
                "next",
                "printf \"thread %d of %d\\n\", $_thread, $thread",
                "thread 1",
                "backtrace",
                &refused("print twice(2)"),
                "delete",
                "continue",
            ],
        );
        tells(&said, &["New Thread", "count (i=1)", "Thread 1.2", "* ", "count (i=1)", "work (name=0x0)"]);
        let thread = said.lines().find_map(|line| line.strip_prefix("thread ")).expect("a thread");
        let (a, b) = thread.split_once(" of ").expect("two numbers");
        assert_eq!(a, b, "{said}");
        tells(&said, &["[Switching to thread 1", "main", "refused:", "together 8", "exited normally"]);
    }
}

/// A command by which gdb is sent SIGINT soon after it has let the program go on.
const INTERRUPT: &str = "\
python
import os, subprocess
def interrupt(event):
    subprocess.Popen(['sh', '-c', 'sleep 0.1; kill -INT $0', str(os.getpid())])
    gdb.events.cont.disconnect(interrupt)
gdb.events.cont.connect(interrupt)
end";

#[test]
fn an_interrupt_is_obeyed_in_code_and_in_waits() {
    let dir = guest();
    for way in WAYS {
        let into = |function| [function, "continue", INTERRUPT, "continue"];
        let look = ["print seen > 0", "stepi", "stepi", "print twice(4)", "up", "kill"];
        let said = gdb(dir.path(), way, "spin", &[&into("tbreak spin")[..], &look].concat());
        tells(&said, &["received signal SIGINT", "spin ()", "= 1", "= 8", "main", "killed"]);
        // What waits has registers that cannot be set.
        let asked = ["--clock", "host"];
        let calls = refused("print twice(2)");
        let look = ["backtrace", &calls, "print seen"];
        let commands = [&into("tbreak sleep")[..], &look].concat();
        let said = gdb(dir.path(), &[way, &asked].concat(), "sleep", &commands);
        tells(&said, &["received signal SIGINT", "sleep", "main", "refused:", "register", "= 0"]);
        assert!(!said.contains("slept"), "{said}");
    }
}

#[test]
fn a_program_that_can_never_go_on_is_told() {
    let dir = guest();
    let said = gdb(dir.path(), &[], "stuck", &["continue", "backtrace"]);
    tells(&said, &["Program stopped", "#0", "main"]);
    assert!(said.contains("the program waits to read from descriptor"), "{said}");
}

#[test]
fn input_is_the_programs_and_a_detached_one_goes_on() {
    let dir = guest();
    let said = gdb_with(dir.path(), &[], "read", &["continue"], Input::Pipe(b"twelve bytes"));
    tells(&said.text(), &["read 12", "exited normally"]);
    let said = gdb(dir.path(), &[], "count", &["break count if i == 45", "continue", "detach"]);
    // The program writes while gdb ends.
    tells(&said, &["count (i=45)", "detached"]);
    tells(&said, &["count (i=45)", "counted 30"]);
    let said = gdb(dir.path(), &[], "count", &["break count if i == 45", "continue"]);
    assert!(!said.contains("counted"), "gdb kills it when it goes:\n{said}");
}

#[test]
fn what_cannot_be_debugged_is_told() {
    let dir = guest();
    let none = tool(dir.path(), ["run", "--gdb=no-such-debugger", "--", "./attended", "count"]);
    assert_eq!(none.status, 125);
    assert!(String::from_utf8_lossy(&none.stderr).contains("no-such-debugger cannot be started"), "{none:?}");
    let none = tool(dir.path(), ["run", "--gdb", "--", "./no-such-program"]);
    assert_eq!(none.status, 127, "{none:?}");
    let with = tool(dir.path(), ["run", "--gdb", "--deadline", "1s", "--", "./attended", "count"]);
    assert_eq!(with.status, 125, "{with:?}");
}

/// A debugger that calls on a port: the program's exit status is the tool's.
#[test]
fn a_debugger_may_call() {
    let dir = guest();
    let debugged = |commands: &[&str]| {
        let mut tool = common::dejavm(["run", "--gdb-port", "0", "--", "./attended", "count"]);
        tool.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tool = tool.spawn().expect("the tool starts");
        let mut stderr = BufReader::new(tool.stderr.take().expect("a pipe"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("it says where it waits");
        let target = line.trim_end().split("in gdb: ").nth(1).unwrap_or_else(|| panic!("{line}"));
        let mut gdb = std::process::Command::new("gdb");
        gdb.args(["-nx", "-batch", "-ex", target]);
        gdb.args(commands.iter().flat_map(|command| ["-ex", command]));
        let said = finish(&mut gdb, Input::Pipe(b""));
        let done = tool.wait_with_output().expect("it ends");
        (String::from_utf8_lossy(&said.stdout).into_owned(), done)
    };
    let (said, done) =
        debugged(&["break count if i == 45", "continue", "print counter", "delete", "continue"]);
    tells(&said, &["count (i=45)", "= 22", "exited with code 03"]);
    assert_eq!((done.status.code(), &done.stdout[..]), (Some(3), &b"counted 30\n"[..]));
    let (_, done) = debugged(&["kill"]);
    assert_eq!((done.status.code(), &done.stdout[..]), (Some(137), &b""[..]));
    let (_, done) = debugged(&["detach"]);
    assert_eq!((done.status.code(), &done.stdout[..]), (Some(3), &b"counted 30\n"[..]));
}
