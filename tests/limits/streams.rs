//! Standard streams that stall: the deadline holds, and nothing that was acknowledged is lost.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common;

const DEADLINE: Duration = Duration::from_millis(500);
/// How much later than its deadline a run may end on a machine that does other things too.
const BUSY: Duration = Duration::from_secs(5);

#[track_caller]
fn in_time(began: Instant) {
    let late = began.elapsed().saturating_sub(DEADLINE);
    assert!(late <= if common::full() { Duration::from_millis(100) } else { BUSY }, "{late:?} late");
}

#[test]
fn output_that_nobody_reads() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    // In small pieces, and in one that is larger than a pipe.
    for (name, text) in
        [("small", "while :; do echo text; done"), ("large", "head -c 300000 /dev/zero; echo x")]
    {
        let mut record =
            common::dejavm(["record", "-q", "--deadline", "500ms", "-o", name, "--", "sh", "-c", text]);
        if name == "large" {
            let program =
                ["-q", "--deadline", "500ms", "-o", name, "--", "head", "-c", "300000", "/dev/zero"];
            record = common::dejavm(["record"].iter().chain(&program));
        }
        let began = Instant::now();
        let mut child = record
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut pipe = child.stdout.take().expect("a pipe");
        assert_eq!(child.wait().expect("wait").code(), Some(124), "{name}");
        in_time(began);
        let mut seen = Vec::new();
        pipe.read_to_end(&mut seen).expect("what was written");
        assert!(seen.len() >= 100, "{name}: {}", seen.len());
        let replayed = common::tool(dir.path(), ["replay", "-q", name]);
        assert_eq!(replayed.status, 124, "{name}: {replayed:?}");
        assert!(replayed.stdout == seen, "{name}: {} of {} bytes", replayed.stdout.len(), seen.len());
    }
}

#[test]
fn input_that_does_not_come() {
    common::require_kvm();
    let programs =
        [vec!["cat"], vec!["python3", "-c", "import select, sys; select.select([sys.stdin], [], [], 30)"]];
    for program in programs {
        let arguments = [&["run", "-q", "--deadline", "500ms", "--"], &program[..]].concat();
        let began = Instant::now();
        let mut child = common::dejavm(arguments).stdin(Stdio::piped()).spawn().expect("it starts");
        let input = child.stdin.take();
        assert_eq!(child.wait().expect("wait").code(), Some(124), "{program:?}");
        in_time(began);
        drop(input);
    }
}

#[test]
fn a_replay_whose_output_nobody_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = ["record", "-q", "-o", "rec", "--", "head", "-c", "300000", "/dev/zero"];
    assert_eq!(common::tool(dir.path(), program).status, 0);
    let began = Instant::now();
    let mut replay = common::dejavm(["replay", "-q", "--deadline", "500ms", "rec"]);
    let replay = replay.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = replay.spawn().expect("it starts");
    let pipe = child.stdout.take();
    assert_eq!(child.wait().expect("wait").code(), Some(124));
    in_time(began);
    drop(pipe);
}

#[test]
fn a_timed_wait_waits_for_input_that_is_certain_to_come() {
    common::require_kvm();
    let wait = "import os, select, sys, time\n\
                r, w = os.pipe()\nbegan = time.monotonic()\n\
                print(select.select([r, sys.stdin], [], [], 30)[0] == [sys.stdin])\n\
                p = select.poll(); p.register(0, select.POLLIN); p.register(r, select.POLLIN)\n\
                print(p.poll(5) == [(0, select.POLLIN)], sys.stdin.readline())\n\
                print(time.monotonic() - began < 0.1)\n\
                print(p.poll(1) in ([(0, 1)], [(0, 16)], [(0, 17)]), os.read(0, 9))\n\
                p.unregister(0); print(p.poll(1))";
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = common::dejavm(["record", "-q", "-o", "rec", "--", "python3", "-c", wait]);
    let command = command.current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    std::thread::sleep(Duration::from_millis(500));
    input.write_all(b"hi\n").expect("it reads");
    std::thread::sleep(Duration::from_millis(300));
    drop(input);
    let mut shown = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut shown).expect("text");
    assert!(child.wait().expect("wait").success());
    assert_eq!(shown, "True\nTrue hi\n\nTrue\nTrue b''\n[]\n");
    assert_eq!(common::tool(dir.path(), ["replay", "-q", "rec"]).text(), shown);
}
