//! ^C and other signals from outside, and what is left of a recording.

use std::path::Path;

use crate::common;
use crate::pty::Pty;

fn python() -> String {
    common::native("python3").to_string_lossy().into_owned()
}

fn run(program: &[&str]) -> Pty {
    Pty::dejavm(Path::new("/"), [&["run", "--workdir", "/", "--"], program].concat())
}

/// A shell that spins without a system call, and says when it begins. It has a handler of its own for ^C.
const SPINS: &str = "echo begun; while :; do :; done";
/// The same without a handler.
const PERL_SPINS: &str = "$| = 1; print \"line $_\\n\" for 1..20; print \"begun\\n\"; 1 while 1";

#[test]
fn an_interrupt_ends_a_program_that_reads() {
    let mut pty = run(&["cat"]);
    pty.send("typed\r");
    // By the terminal, and by the program.
    pty.expect("typed\r\n");
    pty.expect("typed\r\n");
    pty.send("\x03");
    assert_eq!(pty.end().0, 130);
}

#[test]
fn an_interrupt_ends_a_program_that_spins() {
    for (key, status) in [("\x03", 130), ("\x1c", 131)] {
        let mut pty = run(&["perl", "-e", PERL_SPINS]);
        pty.expect("begun");
        pty.send(key);
        assert_eq!(pty.end().0, status);
    }
}

#[test]
fn an_interrupt_runs_the_handler() {
    let wait = "import sys\ntry:\n print('ready', flush=True)\n input()\nexcept KeyboardInterrupt:\n print('caught')\n sys.exit(7)";
    let mut pty = run(&[&python(), "-c", wait]);
    pty.expect("ready");
    // CPython looks for signals before it reads and while it reads, and not between the two.
    pty.insist("\x03", "caught");
    assert_eq!(pty.end().0, 7);
}

#[test]
fn a_program_that_waits_for_a_signal_gets_it() {
    let wait = "import os, signal\ncaught = []\nsignal.signal(signal.SIGINT, lambda *_: caught.append(1))\n\
                os.write(1, b'ready\\n')\nwhile not caught: signal.pause()\nprint('caught')\n\
                signal.pthread_sigmask(0, {15})\nprint('again', flush=True)\nprint(signal.sigwait({15}))";
    let mut pty = run(&[&python(), "-c", wait]);
    pty.expect("ready");
    pty.send("\x03");
    pty.expect("caught");
    pty.expect("again");
    pty.kill("TERM");
    pty.expect("15");
    assert_eq!(pty.end().0, 0);
}

#[test]
fn a_program_that_does_not_look_is_ended_by_the_second() {
    let mut pty = run(&["sh", "-c", &format!("trap 'echo trapped' INT; {SPINS}")]);
    pty.expect("begun");
    // The first may still come while it writes.
    assert_eq!(pty.end_by("\x03").0, 130);
}

#[test]
fn a_window_has_its_size_and_its_changes() {
    // By one call: a handler that prints in the midst of printing is refused.
    let show = "import os, signal, sys\ndef show(*_): os.write(1, b'%d %d\\n' % os.get_terminal_size())\n\
                signal.signal(signal.SIGWINCH, show)\nshow()\nsys.stdin.readline()";
    let mut pty = run(&[&python(), "-c", show]);
    pty.expect("80 24");
    pty.resize(50, 132);
    pty.expect("132 50");
    pty.send("\r");
    assert_eq!(pty.end().0, 0);
}

#[test]
fn modes_come_back_after_a_crash_and_a_kill() {
    let raw = "import os, tty\ntty.setraw(0)\nprint('raw', flush=True)\n";
    let mut pty = run(&[&python(), "-c", &format!("{raw}os.abort()")]);
    pty.expect("raw");
    assert_eq!(pty.end().0, 134);
    for (signal, status) in [("TERM", 143), ("HUP", 129)] {
        let mut pty = run(&[&python(), "-c", &format!("{raw}os.read(0, 1)")]);
        pty.expect("raw");
        pty.expect_lines(false);
        pty.kill(signal);
        assert_eq!(pty.end().0, status);
    }
}

#[test]
fn a_stop_gives_the_terminal_back_until_it_is_continued() {
    let code = "import getpass; print('got', len(getpass.getpass('Secret: ')))";
    let mut pty = run(&[&python(), "-c", code]);
    pty.expect("Secret: ");
    pty.expect_echo(false);
    pty.kill("TSTP");
    pty.expect_state('T');
    pty.expect_echo(true);
    pty.kill("CONT");
    pty.expect_echo(false);
    pty.send("four\n");
    pty.expect("got 4");
    assert_eq!(pty.end().0, 0);
}

#[test]
fn an_interrupted_recording_has_what_was_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let programs = [
        ("spinning", ["perl", "-e", PERL_SPINS]),
        ("reading", ["sh", "-c", "echo begun; read x; echo $x; read y"]),
    ];
    for (name, program) in programs {
        let mut pty = Pty::dejavm(dir.path(), [&["record", "-o", name, "--"], &program[..]].concat());
        // With its end, lest what is typed be echoed before that.
        pty.expect("begun\r\n");
        if name == "reading" {
            pty.send("typed\r");
            pty.expect("typed\r\ntyped");
        }
        pty.send("\x03");
        let (status, shown) = pty.end();
        assert_eq!(status, 130, "{shown}");
        let replayed = common::tool(dir.path(), ["replay", "-q", name]);
        assert_eq!(replayed.status, 130, "{replayed:?}");
        let text = String::from_utf8_lossy(&replayed.stdout).into_owned();
        for line in text.lines() {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        assert!(
            text.ends_with(if name == "reading" { "begun\ntyped\n" } else { "line 20\nbegun\n" }),
            "{text}"
        );
    }
}
