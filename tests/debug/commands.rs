//! Commands of its own, interrupts, and calls of functions.

use super::{WAYS, functions, gdb, lines, record, tells};

#[test]
fn commands_of_its_own() {
    let dir = record("count", &[]);
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
                "seek 0+2300",
                "reverse-stepi",
                "when",
                // Before the first exit, where no checkpoints are.
                "seek 2",
                "when",
            ],
        );
        tells(
            &said,
            &["SIGKILL", "Old value = 30", "New value = 29", "at ", "= 30", "Old value = 30", "= 29"],
        );
        tells(&said, &["Breakpoint 1, count", "_start", "0+2299", "\n2\n"]);
        tells(&said, &["there is no position 100000"]);
        let places = functions(&said);
        assert_eq!(places[0], places[1], "{said}");
        assert_eq!(places[2], "count", "{said}");
        // Where it was last written, by both.
        let at = lines(&said, "at ");
        assert!(at.first().is_some_and(|at| said.contains(&format!("\n{at}\n"))), "{said}");
    }
}

/// What there is to ask besides where it is.
#[test]
fn monitor_commands_tell_of_the_moment() {
    let dir = record("uses", &[]);
    for way in WAYS {
        let ask = ["monitor files", "monitor syscalls 3", "monitor checkpoint", "monitor checkpoints"];
        let there = ["break load", "continue", "continue"];
        let back = ["monitor exit 3", "monitor syscalls", "monitor nonsense"];
        let said = gdb(dir.path(), way, &[&there[..], &ask, &back].concat());
        tells(&said, &["  0  pipe:[", "  1  pipe:[", "  3  pipe:[", "  4  pipe:[", "cwd  /work\n"]);
        let calls = ["pipe2(", "write(4, ", "read(3, ", "at ", " checkpoints, ", "at 3\n"];
        tells(&said, &[&calls[..], &["brk(", "monitor syscalls [N]"]].concat());
        let between = said.split("at 3\n").next().expect("the first");
        assert!(!between.contains("brk("), "three of them:\n{said}");
    }
}

/// Over from the beginning, as often as one likes; and past signals, where it is a write that is looked for.
#[test]
fn it_is_run_again() {
    let dir = record("signal", &[]);
    for way in WAYS {
        let again = ["continue", "start", "when", "run", "break handler", "r", "continue", "print counter"];
        let back = ["last-write counter", "reverse-to-write counter", "run 3", "when", "run 100000"];
        let said = gdb(dir.path(), way, &[&again[..], &back].concat());
        tells(&said, &["received signal SIGUSR1", "main (", "received signal SIGUSR1"]);
        tells(&said, &["Breakpoint", "received signal SIGUSR1", "handler (signal=10)", "= 1"]);
        tells(&said, &["Old value = 1", "New value = 0", "at ", "Old value = 1", "New value = 0", "\n3\n"]);
        tells(&said, &["there is no position 100000"]);
    }
}

#[test]
fn what_is_called_and_set_happens_in_a_copy() {
    let dir = record("count", &[]);
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
    let dir = record("compute", &[]);
    // Between the exits are more steps than anybody makes one by one.
    let impatient = "\
python
import os, subprocess
exit = gdb.execute('monitor when', to_string=True).split(':')[0]
subprocess.Popen(['sh', '-c', 'sleep 3; kill -INT $0', str(os.getpid())])
try:
    gdb.execute(f'monitor seek {exit}+1000000000')
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
    let dir = record("compute", &[]);
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
