//! Snapshots, layers and restores, as an embedder uses them.

use std::thread;
use std::time::Duration;

use dejavm::{Grant, Host, Image, Outcome, PauseAt, Program, Replay, View, WriteOptions};

use crate::{host, shell};

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
