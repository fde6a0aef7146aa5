//! The library as an embedder uses it.

#[path = "library/snapshots.rs"]
mod snapshots;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dejavm::{
    Error, Exit, Host, Image, Input, Observer, Outcome, PauseAt, Program, Replay, Sink, WorldError,
    WriteOptions,
};

fn host() -> Host {
    Host::probe().expect("KVM")
}

fn shell(code: &str) -> Program {
    Program::new("sh").args(["-c", code]).deadline(Duration::from_secs(30)).capture_output()
}

/// Ends the run at an exit.
struct Ending(u64, Arc<AtomicU64>);

impl Observer for Ending {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        self.1.store(exit.number, Ordering::Relaxed);
        if exit.number >= self.0 { Err(WorldError::Diverged("the observer says so".into())) } else { Ok(()) }
    }
}

#[test]
fn input_output_and_limits() {
    let host = host();
    let done =
        shell("read x; echo $x; echo error >&2; exit 3").stdin("in\n").start(&host).and_then(|mut s| s.run());
    let done = done.expect("a run");
    assert_eq!(
        (done.outcome, done.stdout, done.stderr),
        (Outcome::Exited(3), b"in\n".into(), b"error\n".into())
    );
    assert!(done.stats.exits.syscalls > 10 && done.exits > done.stats.exits.syscalls);

    let limited = shell("while echo x; do :; done 2>/dev/null; exit 9").capture_limit(10).start(&host);
    let done = limited.and_then(|mut s| s.run()).expect("a run");
    assert_eq!((done.outcome, done.stdout.len()), (Outcome::Exited(9), 10));

    let written = Arc::new(Mutex::new(Vec::new()));
    struct Writer(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Writer {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("a lock").extend_from_slice(data);
            Ok(data.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut sandbox =
        Program::new("echo").arg("hi").stdout(Sink::writer(Writer(written.clone()))).start(&host);
    sandbox.as_mut().expect("a start").run().expect("a run");
    assert_eq!(*written.lock().expect("a lock"), b"hi\n");
}

#[test]
fn a_run_is_stopped_from_another_thread() {
    // Spinning, and reading without an end.
    let spinning = shell("while :; do :; done");
    for program in [spinning, Program::new("cat").stdin_from(Input::Reader(Box::new(Slow)))] {
        let mut sandbox = program.start(&host()).expect("a start");
        let stop = sandbox.stop_handle();
        let stopper = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            stop.stop();
        });
        let began = Instant::now();
        assert_eq!(sandbox.run().expect("a run").outcome, Outcome::Stopped);
        assert!(began.elapsed() < Duration::from_secs(10));
        stopper.join().expect("a thread");
    }
}

/// A reader that has a little, now and then, for ever.
struct Slow;

impl std::io::Read for Slow {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        thread::sleep(Duration::from_millis(20));
        out[0] = b'x';
        Ok(1)
    }
}

#[test]
fn after_an_error_a_sandbox_says_that_it_is_over() {
    let seen = Arc::new(AtomicU64::new(0));
    let mut sandbox = shell("echo x").observe(Ending(5, seen.clone())).start(&host()).expect("a start");
    let error = sandbox.run().expect_err("the observer ends it");
    assert!(matches!(error, Error::Run(_)), "{error}");
    assert_eq!(seen.load(Ordering::Relaxed), 5);
    let dir = tempfile::tempdir().expect("a directory");
    for error in [
        sandbox.run().map(drop).expect_err("it is over"),
        sandbox.snapshot(dir.path().join("s"), &WriteOptions::default()).map(drop).expect_err("it is over"),
    ] {
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("the observer says so"), "{error}");
    }
}

#[test]
fn a_run_that_fails_leaves_a_recording_up_to_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let recording = dir.path().join("rec");
    let seen = Arc::new(AtomicU64::new(0));
    let mut sandbox =
        shell("echo x").observe(Ending(12, seen)).record(&recording).start(&host()).expect("a start");
    sandbox.run().expect_err("the observer ends it");
    let done = Replay::open(&recording).and_then(|r| r.start(&host())).and_then(|mut s| s.run());
    let done = done.expect("a replay");
    assert_eq!((done.outcome, done.exits), (Outcome::LogEnds, 12));
}

/// Files go in as bytes and come out as bytes, of a new program and of a restored one.
#[test]
fn files_in_and_out() {
    let host = dejavm::Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let script = "import os; os.mkdir('/tmp/out'); x = input(); os.symlink('/etc', '/tmp/out/etc')\n\
        open('/tmp/out/ab', 'w').write(open('/in/a').read() + open('/in/deep/b').read())\n\
        open('/tmp/out/x', 'w').write(x + '\\n')";
    let mut sandbox = dejavm::Program::new("/usr/bin/python3")
        .args(["-c", script])
        .files_in("/in", [("a", &b"first "[..]), ("deep/b", &b"run\n"[..])])
        .start(&host)
        .expect("python3");
    assert!(sandbox.take_files("/tmp/out", 0).expect("no such path yet").is_empty());
    assert_eq!(sandbox.run_until(dejavm::PauseAt::FirstRead).expect("a run"), dejavm::Outcome::Paused);
    sandbox.snapshot(&path, &dejavm::WriteOptions::default()).expect("a snapshot");

    for word in ["one", "two"] {
        let files = [("a", word.as_bytes().to_vec()), ("deep/b", b"!\n".to_vec())];
        let restore = dejavm::Restore::open(&path).expect("an image").stdin(format!("{word}\n"));
        let mut restored = restore.files_in("/in", files).capture_output().start(&host).expect("a sandbox");
        let report = restored.run().expect("a run");
        assert_eq!(report.outcome.code(), Some(0), "{}", String::from_utf8_lossy(&report.stderr));
        let files = restored.take_files("/tmp/out", 100).expect("files");
        let expected = [("/tmp/out/ab", format!("{word}!\n")), ("/tmp/out/x", format!("{word}\n"))];
        assert_eq!(files.len(), 2, "{files:?}");
        for (path, content) in expected {
            assert_eq!(files[std::path::Path::new(path)], content.as_bytes(), "{path}");
        }
        let error = restored.take_files("/tmp", 3).expect_err("more than 3 bytes");
        assert!(error.to_string().contains("/tmp"), "{error}");
    }
}

#[test]
fn files_with_impossible_paths_are_refused() {
    let host = dejavm::Host::probe().expect("KVM");
    let start = |path: &str| {
        dejavm::Program::new("/bin/true").files_in("/in", [(path, b"x".to_vec())]).start(&host).map(drop)
    };
    let error = start("../escape").expect_err("a path outside").to_string();
    assert!(error.contains("../escape"), "{error}");
}

/// What a program could not be given is an error that names it.
#[test]
fn texts_that_no_program_can_be_given() {
    let host = host();
    let message = |program: Program| program.start(&host).expect_err("refused").to_string();
    let echo = || Program::new("/bin/echo");
    assert!(message(echo().arg("a\0b")).contains("argument 1 (a\\x00b)"));
    assert!(message(echo().env("A", "b\0")).contains("variable A"));
    assert!(message(echo().env("A\0", "b")).contains("variable A\\x00"));
    assert!(message(echo().workdir("tmp")).contains("working directory (tmp)"));
    assert!(message(Program::new("/bin/ec\0ho")).contains("argument 0"));
}

/// Says when it is used, and then blocks until it is told not to.
struct Stalled(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>);

impl Stalled {
    fn new() -> (Stalled, std::sync::mpsc::Receiver<()>, std::sync::mpsc::Sender<()>) {
        let (used, is_used) = std::sync::mpsc::channel();
        let (go, goes) = std::sync::mpsc::channel();
        (Stalled(used, goes), is_used, go)
    }

    fn wait(&mut self) {
        let _ = self.0.send(());
        let _ = self.1.recv();
    }
}

impl std::io::Read for Stalled {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.wait();
        out[..3].copy_from_slice(b"in\n");
        Ok(3)
    }
}

impl std::io::Write for Stalled {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.wait();
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn readers_and_writers_that_block_are_left() {
    let host = host();
    let (reader, _reads, _go) = Stalled::new();
    let reads = Program::new("cat").stdin_from(Input::Reader(Box::new(reader)));
    let (writer, _writes, _go) = Stalled::new();
    let writes = Program::new("echo").arg("x").stdout(Sink::writer(writer));
    for program in [reads, writes] {
        let began = Instant::now();
        let mut sandbox = program.deadline(Duration::from_millis(500)).start(&host).expect("a start");
        assert_eq!(sandbox.run().expect("a run").outcome, Outcome::Deadline);
        assert!(began.elapsed() < Duration::from_secs(10));
        drop(sandbox);
        assert!(began.elapsed() < Duration::from_secs(10), "a blocked thread is not waited for");
    }
}

#[test]
fn what_a_reader_or_writer_did_meanwhile_is_kept() {
    let (reader, reads, go_read) = Stalled::new();
    let (writer, writes, go_write) = Stalled::new();
    let program = Program::new("head").args(["-n", "1"]).stdin_from(Input::Reader(Box::new(reader)));
    let mut sandbox = program.stdout(Sink::writer(writer)).start(&host()).expect("a start");
    for (is_used, go) in [(reads, go_read), (writes, go_write)] {
        // Until it has come so far.
        while is_used.try_recv().is_err() {
            sandbox.set_deadline(Some(Duration::from_millis(300)));
            assert_eq!(sandbox.run_until(PauseAt::Never).expect("a run"), Outcome::Deadline);
        }
        go.send(()).expect("it waits");
        // Once: another use of it would wait for ever.
        drop(go);
        sandbox.set_deadline(None);
    }
    assert_eq!(sandbox.run().expect("a run").outcome, Outcome::Exited(0));
}

/// A call that the deadline left is made in what is restored, by a program alone and by one of several.
#[test]
fn what_waits_at_the_deadline_is_in_a_snapshot() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    for code in ["read x; echo got $x", "sleep 1000 & read x; echo got $x"] {
        let (stalled, _input) = std::io::pipe().expect("a pipe");
        let program = shell(code).stdin_from(Input::from_fd(stalled));
        let mut sandbox = program.deadline(Duration::from_millis(500)).start(&host).expect("a start");
        assert_eq!(sandbox.run_until(PauseAt::Never).expect("a run"), Outcome::Deadline, "{code}");
        let file = dir.path().join("waits.dvm");
        sandbox.snapshot(&file, &WriteOptions::default()).expect("a snapshot");
        let image = Image::open(&file).expect("an image");
        let restore = image.restore().stdin("in\n").capture_output().deadline(Duration::from_secs(60));
        let report = restore.start(&host).expect("a restore").run().expect("a run");
        assert_eq!((report.outcome, &report.stdout[..]), (Outcome::Exited(0), &b"got in\n"[..]), "{code}");
    }
}

#[test]
fn streams_are_descriptors() {
    let (output, to) = std::io::pipe().expect("a pipe");
    let (from, mut input) = std::io::pipe().expect("a pipe");
    std::io::Write::write_all(&mut input, b"through\n").expect("room");
    drop(input);
    let cat = Program::new("cat").stdin_from(Input::from_fd(from)).stdout(Sink::fd(to));
    let mut sandbox = cat.start(&host()).expect("a start");
    assert_eq!(sandbox.run().expect("a run").outcome, Outcome::Exited(0));
    drop(sandbox);
    assert_eq!(std::io::read_to_string(output).expect("text"), "through\n");
}

#[test]
fn signals_come_from_outside() {
    // Its handler, where it waits; its end, where it does not look.
    for (text, end) in [
        ("trap 'echo caught; exit 3' TERM; echo ready; read x", Outcome::Exited(3)),
        ("echo ready; while :; do :; done", Outcome::Signalled(15)),
    ] {
        let (stalled, _input) = std::io::pipe().expect("a pipe");
        let (output, to) = std::io::pipe().expect("a pipe");
        let program = Program::new("sh").args(["-c", text]);
        let program = program.stdin_from(Input::from_fd(stalled)).stdout(Sink::fd(to));
        let mut sandbox = program.start(&host()).expect("a start");
        let handle = sandbox.stop_handle();
        let killer = thread::spawn(move || {
            let mut output = std::io::BufReader::new(output);
            std::io::BufRead::read_line(&mut output, &mut String::new()).expect("it is ready");
            handle.signal(15);
            output
        });
        assert_eq!(sandbox.run().expect("a run").outcome, end, "{text}");
        drop(killer.join().expect("a thread"));
    }
}

#[test]
fn a_program_that_is_stuck_says_what_it_waits_for() {
    let python = |text: &str| Program::new("python3").args(["-c", text]);
    for (program, words) in [
        (python("import os; r, w = os.pipe(); os.read(r, 1)"), "to read from descriptor 3 (pipe:"),
        (python("import signal; signal.pause()"), "for a signal"),
        (
            python("import os, select; r, w = os.pipe(); select.select([r], [], [])"),
            "for one of its descriptors",
        ),
    ] {
        let report = program.start(&host()).expect("a start").run().expect("a run");
        assert_eq!(report.outcome, Outcome::Stuck);
        let said = report.waits_for.expect("words");
        assert!(said.starts_with(words), "{said}");
    }
}
