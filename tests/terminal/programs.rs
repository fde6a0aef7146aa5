//! Programs that edit lines and screens.

use crate::common;
use crate::pty::Pty;

fn run(program: &[&str]) -> (tempfile::TempDir, Pty) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("text"), "first line\nsecond line\nlast line\n").expect("a file");
    let pty = Pty::dejavm(dir.path(), [&["run", "--env", "PS1=prompt> ", "--"], program].concat());
    (dir, pty)
}

/// Python of the system, which the sandbox sees.
fn python() -> String {
    common::native("python3").to_string_lossy().into_owned()
}

#[test]
fn a_password_is_not_shown() {
    let ask = "import getpass; print('got', len(getpass.getpass('Password: ')))";
    let (_dir, mut pty) = run(&[&python(), "-c", ask]);
    pty.expect("Password: ");
    pty.expect_echo(false);
    pty.send("secret\r");
    pty.expect("got 6");
    let (status, shown) = pty.end();
    assert_eq!(status, 0, "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn python_edits_lines() {
    let (_dir, mut pty) = run(&[&python(), "-q"]);
    pty.expect(">>> ");
    pty.expect_lines(false);
    // Backspace, and the line before again.
    pty.send("print(6*89\x7f)\r");
    pty.expect("48");
    pty.expect(">>> ");
    pty.send("\x1b[A\r");
    pty.expect("48");
    pty.expect(">>> ");
    pty.send("\x04");
    assert_eq!(pty.end().0, 0);
}

#[test]
fn bash_edits_lines() {
    let (_dir, mut pty) = run(&["bash", "--norc", "-i"]);
    pty.expect("prompt> ");
    pty.expect_lines(false);
    // To the start of the line, and to its end.
    pty.send("$((6*7))\x01echo is-\x05-\r");
    pty.expect("is-42-");
    pty.send("exit 3\r");
    let (status, shown) = pty.end();
    assert_eq!(status, 3, "{shown}");
}

#[test]
fn vi_edits_a_screen() {
    let (_dir, mut pty) = run(&["busybox", "vi", "text"]);
    pty.expect("last line");
    pty.expect_lines(false);
    pty.send("Gonew text\x1b");
    pty.expect("new text");
    pty.send(":q!\r");
    let (status, shown) = pty.end();
    assert_eq!(status, 0, "{shown}");
}

#[test]
fn less_quits() {
    let (_dir, mut pty) = run(&["less", "text"]);
    pty.expect("last line");
    pty.expect_lines(false);
    pty.send("q");
    assert_eq!(pty.end().0, 0);
}

#[test]
fn top_quits() {
    let (_dir, mut pty) = run(&["busybox", "top"]);
    pty.expect("PID");
    pty.send("q");
    assert_eq!(pty.end().0, 0);
}
