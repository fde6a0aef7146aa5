//! Signals that come while a guest is being loaded, and deadlines.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common;

/// A snapshot of a program with so much memory, all of which a restore with `--eager` brings in.
fn large(dir: &Path) {
    let program = "import mmap\nm = mmap.mmap(-1, 1 << 30)\n\
                   for n in range(0, 1 << 30, 4096): m[n] = n >> 12 & 127 | 1\n\
                   open('/dev/dejavm', 'w').write('snapshot')";
    let snapshot =
        ["snapshot", "-q", "--memory", "1200M", "-o", "large", "--", "python3", "-S", "-c", program];
    common::tool(dir, snapshot).text();
}

const EAGERLY: [&str; 5] = ["restore", "--memory", "1200M", "--eager", "large"];

fn start(dir: &Path, args: &[&str]) -> Child {
    let mut command: Command = common::dejavm(args);
    command.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

/// How a load ends that is ended after a while, by `end`: its status, and what it says. Earlier and earlier,
/// until it is still under way then.
fn ended(dir: &Path, args: &[&str], whole: Duration, end: impl Fn(&Child)) -> (Option<i32>, String) {
    for part in [8, 16, 32, 64] {
        let child = start(dir, args);
        std::thread::sleep(whole / part);
        end(&child);
        let ended = child.wait_with_output().expect("wait");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        if said.contains("while the guest was loaded") {
            return (ended.status.code(), said);
        }
    }
    panic!("the load was never interrupted");
}

#[test]
fn a_load_ends_by_a_signal_and_by_its_deadline() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    large(dir);
    let began = Instant::now();
    assert!(start(dir, &EAGERLY).wait_with_output().expect("wait").status.success());
    let whole = began.elapsed();
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::QUIT, 131), (Signal::HUP, 129)]
    {
        let kill = |child: &Child| kill_process(Pid::from_child(child), signal).expect("it runs");
        let (seen, said) = ended(dir, &EAGERLY, whole, kill);
        assert_eq!(seen, Some(status), "{signal:?}: {said}");
    }
    // A recording whose guest was not loaded is none.
    let record = [&EAGERLY[..], &["--record", "rec"]].concat();
    let kill = |child: &Child| kill_process(Pid::from_child(child), Signal::INT).expect("it runs");
    let (seen, said) = ended(dir, &record, whole, |child| {
        kill(child);
    });
    assert_eq!(seen, Some(130), "{said}");
    assert!(!dir.join("rec").exists());

    let deadline = format!("{}ms", whole.as_millis() / 4);
    let deadline = [&EAGERLY[..], &["--deadline", &deadline]].concat();
    let (seen, said) = ended(dir, &deadline, Duration::ZERO, |_| ());
    assert_eq!(seen, Some(124), "{said}");
}
