//! The library as an embedder uses it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dejavm::{
    Error, Exit, Grant, Host, Image, Input, Observer, Outcome, PauseAt, Program, Replay, Sink, View,
    WorldError, WriteOptions,
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

#[test]
fn layers_are_recorded_with_their_parents() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let (base, layer) = (dir.path().join("base.dvm"), dir.path().join("layer.dvm"));
    let code = "read a; echo \"a $a\"; echo snapshot >/dev/dejavm; read b; echo \"$a $b\"";
    let mut first = shell(code).start(&host).expect("a start");
    assert_eq!(first.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    let whole = first.snapshot(&base, &WriteOptions::default()).expect("a snapshot");

    let image = Image::open(&base).expect("an image");
    // One line at a time, as a terminal gives it.
    let mut second = image.restore().stdin("one\n").capture_output().start(&host).expect("a restore");
    assert_eq!(second.run_until(PauseAt::Ready).expect("a run"), Outcome::Paused);
    assert_eq!(second.report(Outcome::Paused).stdout, b"a one\n");
    let options = WriteOptions { parent: Some(image.snapshot().clone()), ..WriteOptions::default() };
    let part = second.snapshot(&layer, &options).expect("a layer");
    assert!(part.pages.parent > 0 && part.frames_bytes < whole.frames_bytes / 2, "{part:?}");

    let recording = dir.path().join("rec");
    let third =
        Image::open(&layer).expect("a layer").restore().stdin("two\n").record(&recording).capture_output();
    let done = third.start(&host).and_then(|mut s| s.run()).expect("a run");
    assert_eq!(done.stdout, b"one two\n");
    let summary = done.recording.expect("a recording");
    std::fs::remove_file(&base).expect("the recording has its own");
    std::fs::remove_file(&layer).expect("the recording has its own");
    let replay = Replay::open(&recording).expect("a recording");
    assert_eq!(replay.recording().digest().expect("a digest"), summary.digest);
    let replayed = replay.capture_output().start(&host).and_then(|mut s| s.run()).expect("a replay");
    assert_eq!((replayed.stdout, replayed.exits), (done.stdout, done.exits));
}

/// Writes so many MiB to a file, pauses, reads them back in pieces of odd length, changes some, pauses
/// again, and reads once more: a line for each digest.
const WRITER: &str = r"
import hashlib, sys
def digest():
    h = hashlib.sha256()
    with open('/tmp/big', 'rb') as f:
        while piece := f.read(100001): h.update(piece)
    print(h.hexdigest(), flush=True)
def ready(): open('/dev/dejavm', 'w').write('snapshot\n')
h = hashlib.sha256()
with open('/tmp/big', 'wb') as f:
    for i in range(int(sys.argv[1]) * 16):
        seed = hashlib.sha256(b'%d' % i).digest()
        block = b''.join(b'%016d' % i + seed[n % 16:] for n in range(2600))[:65536]
        f.write(block)
        h.update(block)
print(h.hexdigest(), flush=True)
ready()
digest()
with open('/tmp/big', 'r+b') as f:
    for at in range(0, 900000, 300001):
        f.seek(at)
        f.write(b'changed')
ready()
digest()
";

fn writer(mib: u32, host: &Host) -> dejavm::Sandbox {
    let program = Program::new("/usr/bin/python3").args(["-c", WRITER, &mib.to_string()]);
    program.capture_output().deadline(Duration::from_secs(50)).start(host).expect("a start")
}

/// Runs to the next pause or the end; the lines that were written.
fn lines(sandbox: &mut dejavm::Sandbox) -> Vec<String> {
    let outcome = sandbox.run_until(PauseAt::Ready).expect("a run");
    assert!(matches!(outcome, Outcome::Paused | Outcome::Exited(0)), "{outcome:?}");
    let out = sandbox.report(outcome).stdout;
    String::from_utf8_lossy(&out).lines().map(str::to_owned).collect()
}

#[test]
fn large_files_of_the_guest_are_in_its_snapshot() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let mut first = writer(150, &host);
    let written = lines(&mut first);
    first.snapshot(&path, &WriteOptions::default()).expect("a snapshot");
    drop(first);
    let image = Image::open(&path).expect("an image");
    assert!(image.snapshot().state().expect("a state").len() < 1 << 20);
    let mut restored = image.restore().capture_output().start(&host).expect("a restore");
    assert_eq!(lines(&mut restored), written);
}

#[test]
fn files_of_the_guest_go_through_layers_recordings_and_many_restores() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let mut first = writer(3, &host);
    let written = lines(&mut first);
    let whole = first.snapshot(path("base.dvm"), &WriteOptions::default()).expect("a snapshot");
    assert_eq!(lines(&mut first), written);
    let changed = lines(&mut first);
    assert_ne!(changed, written);

    // A layer has the blocks that were written since; a snapshot without a parent has all.
    let image = Image::open(path("base.dvm")).expect("an image");
    let mut second = image.restore().capture_output().start(&host).expect("a restore");
    assert_eq!(lines(&mut second), written);
    let parent = Some(image.snapshot().clone());
    let options = WriteOptions { parent, ..WriteOptions::default() };
    let part = second.snapshot(path("layer.dvm"), &options).expect("a layer");
    assert!(part.frames_bytes < whole.frames_bytes / 3, "{part:?} of {whole:?}");
    second.snapshot(path("again.dvm"), &WriteOptions::default()).expect("a snapshot");
    assert_eq!(lines(&mut second), changed);
    for name in ["layer.dvm", "again.dvm"] {
        let image = Image::open(path(name)).expect("an image");
        thread::scope(|scope| {
            for n in 0..6 {
                let (image, host, changed) = (&image, &host, &changed);
                scope.spawn(move || {
                    let restore = image.restore().eager(n % 2 == 1).capture_output();
                    assert_eq!(lines(&mut restore.start(host).expect("a restore")), *changed, "{name}");
                });
            }
        });
    }

    // What is recorded from there is replayed without them.
    let recording = path("rec");
    let restore = image.restore().record(&recording).capture_output();
    let done = restore.start(&host).and_then(|mut s| s.run()).expect("a run");
    for name in ["base.dvm", "layer.dvm", "again.dvm"] {
        std::fs::remove_file(path(name)).expect("remove");
    }
    let replay = Replay::open(&recording).expect("a recording").capture_output().start(&host);
    let replayed = replay.and_then(|mut s| s.run()).expect("a replay");
    assert_eq!((replayed.stdout, replayed.exits), (done.stdout, done.exits));
}

#[test]
fn a_damaged_page_of_a_file_ends_the_run_before_it_is_read() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let mut first = writer(1, &host);
    let written = lines(&mut first);
    first.snapshot(&path, &WriteOptions::default()).expect("a snapshot");
    let image = Image::open(&path).expect("an image");
    let (files, pages) =
        (image.state().program().expect("a program").memory.stored_pages, image.snapshot().page_count());
    assert!(pages >= files + 256, "a MiB of files behind {files} pages of memory: {pages}");
    drop(image);

    // Frames are stored in the order of their pages: the last bytes of the frames are a file's.
    let mut bytes = std::fs::read(&path).expect("read");
    let index = u64::from_le_bytes(bytes[128 + 3 * 24..][..8].try_into().expect("8 bytes"));
    bytes[index as usize - 200] ^= 0x40;
    std::fs::write(&path, bytes).expect("write");
    let image = Image::open(&path).expect("an image");
    let mut restored = image.restore().capture_output().start(&host).expect("a restore");
    let error = restored.run().expect_err("a damaged page").to_string();
    assert!(error.contains("s.dvm") && error.contains("page"), "{error}");
    let out = restored.report(Outcome::Stopped).stdout;
    assert!(out.is_empty(), "{written:?} and {}", String::from_utf8_lossy(&out));
}

#[test]
fn a_snapshot_of_a_replay_has_what_the_recording_has() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let recording = dir.path().join("rec");
    let code = "read a; echo \"a $a\"; read b; echo \"$a $b\"; exit 3";
    let recorded = shell(code).stdin("one\ntwo\n").record(&recording).start(&host);
    let recorded = recorded.and_then(|mut s| s.run()).expect("a run");
    assert_eq!((recorded.outcome, &recorded.stdout[..]), (Outcome::Exited(3), &b"a one\none two\n"[..]));

    let snapshot = dir.path().join("s.dvm");
    let replay = Replay::open(&recording).expect("a recording").capture_output();
    let mut replay = replay.start(&host).expect("a replay");
    assert_eq!(replay.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    replay.snapshot(&snapshot, &WriteOptions::default()).expect("a snapshot");
    // It took nothing from the replay.
    let done = replay.run().expect("a replay");
    assert_eq!((&done.stdout, done.exits), (&recorded.stdout, recorded.exits));

    // What the recorded program never touched comes from the files that the snapshot names.
    let image = Image::open(&snapshot).expect("an image");
    for eager in [false, true] {
        let again = dir.path().join(format!("again-{eager}"));
        let restore = image.restore().stdin("four\nfive\n").eager(eager).capture_output();
        let done = restore.record(&again).start(&host).and_then(|mut s| s.run()).expect("a run");
        assert_eq!((done.outcome, &done.stdout[..]), (Outcome::Exited(3), &b"a four\nfour five\n"[..]));
        let replay = Replay::open(&again).expect("a recording").capture_output().start(&host);
        assert_eq!(replay.and_then(|mut s| s.run()).expect("a replay").stdout, done.stdout);
    }

    // From a live run, a snapshot holds all that is mapped.
    let whole = dir.path().join("whole.dvm");
    let mut live = image.restore().start(&host).expect("a restore");
    live.snapshot(&whole, &WriteOptions::default()).expect("a snapshot");
    let stored = |image: &Image| {
        let pages = 0..image.snapshot().page_count();
        pages.filter(|page| !image.snapshot().is_zero(*page).expect("an entry")).count()
    };
    let whole = Image::open(&whole).expect("an image");
    assert!(stored(&whole) > stored(&image));
    let nothing = whole.restore().view(View::nothing()).stdin("six\nseven\n").capture_output();
    let done = nothing.start(&host).and_then(|mut s| s.run()).expect("a run");
    assert_eq!(done.stdout, b"a six\nsix seven\n");
}

#[test]
fn what_a_run_wanted_comes_in_clusters_in_later_ones() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let code = "import sys\nprint(sys.stdin.read(), flush=True)\nimport random\nprint(random.randint(0, 9))";
    let mut sandbox = Program::new("python3").args(["-c", code]).stdin("").start(&host).expect("a start");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    sandbox.snapshot(&path, &WriteOptions::default()).expect("a snapshot");
    drop(sandbox);

    let (warmed, set) =
        Image::open(&path).and_then(|i| i.restore().stdin("x").capture_output().warm(&host)).expect("a run");
    assert!(set.first_clusters > 0 && set.first_clusters < set.clusters, "{set:?}");
    let image = Image::open(&path).expect("an image");
    let run = |prefetch: bool| {
        let restore = image.restore().stdin("x").prefetch(prefetch).capture_output();
        restore.start(&host).and_then(|mut s| s.run()).expect("a run")
    };
    let (with, without) = (run(true), run(false));
    assert_eq!((&with.stdout, with.exits), (&without.stdout, without.exits));
    assert_eq!((&with.stdout, with.exits), (&warmed.stdout, warmed.exits));
    assert!(with.stats.faults() < without.stats.faults() / 4, "{:?} {:?}", with.stats, without.stats);

    // Up to the first output, only what is wanted first has come.
    let mut sandbox = image.restore().stdin("x").start(&host).expect("a start");
    assert_eq!(sandbox.run_until(PauseAt::FirstOutput).expect("a run"), Outcome::Paused);
    assert!(sandbox.stats().pages < set.pages, "{:?}", sandbox.stats());
    assert!(sandbox.run().expect("a run").outcome.code() == Some(0));
}

#[test]
fn a_restored_guest_sees_what_it_is_shown_then() {
    let host = host();
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    for (dir, content) in dirs.iter().zip(["first", "second"]) {
        std::fs::write(dir.path().join(content), content).expect("a file");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let mut sandbox =
        shell("read x; echo /data/*").show("/data", dirs[0].path()).start(&host).expect("a start");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    sandbox.snapshot(&path, &WriteOptions::default()).expect("a snapshot");
    let image = Image::open(&path).expect("an image");
    let answer = |view: View| {
        let restore = image.restore().view(view).stdin("x\n").capture_output();
        let done = restore.start(&host).and_then(|mut s| s.run()).expect("a run");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    assert_eq!(answer(View::system().show("/data", Grant::directory(dirs[1].path()))), "/data/second\n");
    assert_eq!(answer(View::system()), "/data/*\n", "not shown, not there");
}

#[test]
fn seeds_of_restored_guests() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let code = "import os, sys; sys.stdin.read(); print(os.urandom(8).hex())";
    let mut sandbox = Program::new("python3").args(["-c", code]).stdin("").start(&host).expect("a start");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    sandbox.snapshot(&path, &WriteOptions::default()).expect("a snapshot");
    let image = Image::open(&path).expect("an image");
    let plain = || image.restore().capture_output();
    let run =
        |restore: dejavm::Restore| restore.start(&host).and_then(|mut s| s.run()).expect("a run").stdout;
    assert_eq!(run(plain()), run(plain()));
    assert_ne!(run(plain().seed(1)), run(plain().seed(2)));
    let recording = dir.path().join("rec");
    let recorded = run(plain().seed(3).record(&recording));
    let replay = Replay::open(&recording).expect("a recording").capture_output();
    assert_eq!(replay.start(&host).and_then(|mut s| s.run()).expect("a replay").stdout, recorded);
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
