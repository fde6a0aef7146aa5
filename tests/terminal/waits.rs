//! Waiting for what is typed, which may never be.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common;
use crate::pty::Pty;

fn select(seconds: &str) -> Pty {
    let python = common::native("python3").to_string_lossy().into_owned();
    let wait = format!(
        "import select, sys\nprint('ready', flush=True)\nsys.stdin.readline()\n\
         print(select.select([sys.stdin], [], [], {seconds})[0] != [])"
    );
    Pty::dejavm(Path::new("/"), ["run", "--workdir", "/", "--", &python, "-c", &wait])
}

#[test]
fn a_timed_wait_takes_its_time() {
    let mut pty = select("0.3");
    pty.expect("ready");
    let began = Instant::now();
    pty.send("now\r");
    pty.expect("False");
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(pty.end().0, 0);
}

#[test]
fn a_timed_wait_ends_with_what_is_typed() {
    let mut pty = select("3000");
    pty.expect("ready");
    pty.send("now\r");
    pty.expect("now");
    pty.send("x\r");
    pty.expect("True");
    assert_eq!(pty.end().0, 0);
}

#[test]
fn an_alarm_ends_a_read() {
    let python = common::native("python3").to_string_lossy().into_owned();
    let wait = "import signal, sys\n\
                def over(*_): print('over'); sys.exit(5)\n\
                signal.signal(signal.SIGALRM, over)\nsignal.setitimer(signal.ITIMER_REAL, 0.2)\n\
                sys.stdin.readline()";
    let mut pty = Pty::dejavm(Path::new("/"), ["run", "--workdir", "/", "--", &python, "-c", wait]);
    pty.expect("over");
    assert_eq!(pty.end().0, 5);
}
