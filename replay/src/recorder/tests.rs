//! The recorder against disks that fail and disks that are slow.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dejavm_sandbox::exit::{Exit, ExitKind, Fault, Rung, SourceKind};
use dejavm_sandbox::world::{Request, Response, WorldError};

use super::*;
use crate::reader::{Ending, Recording};
use dejavm_snapshot::ContentId;

/// A file that takes some bytes, slowly, and counts them.
struct Disk {
    file: std::fs::File,
    room: usize,
    pause: Duration,
    written: Arc<AtomicUsize>,
    broken_sync: bool,
}

impl Sink for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        std::thread::sleep(self.pause);
        let fits = bytes.len().min(self.room);
        // A full disk takes what fits.
        self.file.append(&bytes[..fits])?;
        self.room -= fits;
        self.written.fetch_add(fits, Ordering::SeqCst);
        if fits < bytes.len() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.broken_sync { Err(io::Error::other("sync failed")) } else { self.file.sync() }
    }
}

fn disk(dir: &Path) -> Disk {
    Disk {
        file: std::fs::File::create(dir.join(LOG_FILE)).unwrap(),
        room: usize::MAX,
        pause: Duration::ZERO,
        written: Arc::default(),
        broken_sync: false,
    }
}

fn start(dir: &Path, disk: Disk, flush_after: Duration) -> Recorder {
    let options = RecorderOptions { block_bytes: 4096, flush_after, ..Default::default() };
    let manifest = Manifest::new(ContentId::from_bytes([0; 32]));
    manifest.write(dir, Durable::Now).unwrap();
    Recorder::start(dir, manifest, Box::new(disk), &options).unwrap()
}

fn exit(number: u64) -> Exit {
    let kind = ExitKind::Syscall { number: 1, args: [number.wrapping_mul(0x9e37_79b9_7f4a_7c15); 6] };
    Exit { number, task: 2, kind, rip: number, result: 0, effects: number * number, clock: number }
}

const LONG: Duration = Duration::from_secs(1000);

struct Blocks;

impl World for Blocks {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        match request {
            Request::ReadBlock { block, .. } => Ok(Response::Block(Ok(vec![block as u8; 60_000].into()))),
            _ => Ok(Response::Input(Ok(Vec::new()))),
        }
    }
}

#[test]
fn a_full_disk_ends_the_run_and_leaves_a_readable_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut full = disk(dir.path());
    full.room = 3000;
    let recorder = start(dir.path(), full, LONG);
    let mut observer = recorder.observer();
    let mut world = recorder.world(Box::new(Blocks));
    let error = (1..100_000).find_map(|n| observer.exit(&exit(n)).err()).unwrap();
    assert!(matches!(&error, WorldError::Recorder(why) if !why.is_empty()), "{error:?}");
    // Faults cannot fail, and must not wait for ever either.
    for page in 0..10_000 {
        observer.fault(&Fault { page, rung: Rung::Monitor, source: SourceKind::Zero });
    }
    assert!(matches!(world.input(1, true), Err(WorldError::Recorder(_))));
    let error = recorder.finish(RunEnd::Ended { status: 0 }).unwrap_err();
    assert!(matches!(error, Error::Recorder { .. }), "{error}");

    let recording = Recording::open(dir.path()).unwrap();
    assert!(!recording.manifest().complete);
    assert!(matches!(recording.ending(), Ending::Interrupted { .. }));
    let exits: Vec<Exit> = recording.exits().collect::<Result<_, _>>().unwrap();
    assert!(!exits.is_empty());
    assert!(exits.iter().zip(1..).all(|(e, n)| *e == exit(n)));
}

#[test]
fn a_failing_sync_is_told_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut broken = disk(dir.path());
    broken.broken_sync = true;
    let recorder = start(dir.path(), broken, LONG);
    recorder.observer().exit(&exit(1)).unwrap();
    let error = recorder.finish(RunEnd::Ended { status: 0 }).unwrap_err();
    assert!(error.to_string().contains("sync failed"), "{error}");
    assert!(!Recording::open(dir.path()).unwrap().manifest().complete);
}

#[test]
fn a_slow_disk_holds_the_run_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut slow = disk(dir.path());
    slow.pause = Duration::from_millis(2);
    let recorder = start(dir.path(), slow, Duration::from_millis(1));
    let mut observer = recorder.observer();
    let mut world = recorder.world(Box::new(Blocks));
    let path = dejavm_sandbox::world::HostPath { grant: 0, path: Vec::new() };
    for n in 1..=5000 {
        observer.exit(&exit(n)).unwrap();
        if n % 100 == 0 {
            world.read_block(&path, n).unwrap().unwrap();
        }
    }
    let summary = recorder.finish(RunEnd::Ended { status: 0 }).unwrap();
    assert_eq!(summary.exits, 5000);
    let recording = Recording::open(dir.path()).unwrap();
    recording.verify().unwrap();
    assert_eq!(recording.exit_count(), 5000);
}

#[test]
fn memory_is_bounded_while_the_disk_stands_still() {
    /// Does not return from a write until the gate opens.
    struct Gate(Arc<Mutex<()>>);
    impl Sink for Gate {
        fn append(&mut self, _: &[u8]) -> io::Result<()> {
            drop(self.0.lock());
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Mutex::new(()));
    let manifest = Manifest::new(ContentId::from_bytes([0; 32]));
    let options = RecorderOptions { block_bytes: 4096, flush_after: LONG, ..Default::default() };
    let recorder = Recorder::start(dir.path(), manifest, Box::new(Gate(gate.clone())), &options).unwrap();
    let closed = gate.lock().unwrap();
    let mut observer = recorder.observer();
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let run = std::thread::spawn(move || {
        for n in 1..=10_000 {
            observer.exit(&exit(n)).unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    // It must come to a stop: no more is taken for a while, and not all was.
    let mut before = usize::MAX;
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = taken.load(Ordering::SeqCst);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(before < 1000, "{before} exits of 100 bytes wait for a disk that takes none");
    drop(closed);
    run.join().unwrap();
    assert_eq!(recorder.finish(RunEnd::Ended { status: 0 }).unwrap().exits, 10_000);
}

#[test]
fn an_old_record_is_written_without_another() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(dir.path());
    let written = disk.written.clone();
    let recorder = start(dir.path(), disk, Duration::from_millis(1));
    let header = written.load(Ordering::SeqCst);
    recorder.observer().exit(&exit(1)).unwrap();
    // Nothing else happens in this run; it hangs here if the record stays in memory.
    while written.load(Ordering::SeqCst) == header {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(Recording::open(dir.path()).unwrap().exit_count(), 1);
    drop(recorder);
    assert!(matches!(Recording::open(dir.path()).unwrap().ending(), Ending::Interrupted { .. }));
}

#[test]
fn a_panic_of_the_writing_thread_is_an_error() {
    struct Panics;
    impl Sink for Panics {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            assert!(bytes.starts_with(b"DEJAVLOG"), "a test's panic");
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let options = RecorderOptions { block_bytes: 4096, flush_after: LONG, ..Default::default() };
    let recorder = Recorder::start(
        dir.path(),
        Manifest::new(ContentId::from_bytes([0; 32])),
        Box::new(Panics),
        &options,
    )
    .unwrap();
    let mut observer = recorder.observer();
    let error = (1..1_000_000).find_map(|n| observer.exit(&exit(n)).err()).unwrap();
    assert!(matches!(error, WorldError::Recorder(_)));
    assert!(matches!(recorder.finish(RunEnd::Ended { status: 0 }), Err(Error::Recorder { .. })));
}

#[test]
fn a_wrong_kind_of_answer_is_not_logged() {
    struct Confused;
    impl World for Confused {
        fn ask(&mut self, _: Request<'_>) -> Result<Response, WorldError> {
            Ok(Response::Input(Ok(Vec::new())))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let recorder = start(dir.path(), disk(dir.path()), LONG);
    let mut world = recorder.world(Box::new(Confused));
    assert!(matches!(world.clock(), Err(WorldError::Mismatch { asked: "clock", got: "input" })));
    recorder.finish(RunEnd::Ended { status: 0 }).unwrap();
    assert_eq!(Recording::open(dir.path()).unwrap().records().count(), 0);
}

#[test]
fn a_log_that_comes_to_its_limit_is_sealed_and_replays() {
    let dir = tempfile::tempdir().unwrap();
    let options = RecorderOptions {
        block_bytes: 4096,
        flush_after: Duration::from_millis(1),
        max_log: Some(20_000),
        ..Default::default()
    };
    let recorder =
        Recorder::create_with(dir.path(), Manifest::new(ContentId::from_bytes([0; 32])), options).unwrap();
    let mut observer = recorder.observer();
    let mut full = None;
    for number in 1..1_000_000 {
        let mut exit = exit(number);
        // Not to be compressed.
        exit.effects = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        exit.result = exit.effects.rotate_left(17).wrapping_mul(exit.effects);
        if let Err(e) = observer.exit(&exit) {
            full = Some((number, e));
            break;
        }
    }
    let (stopped_at, error) = full.expect("an end");
    assert!(matches!(error, WorldError::LogFull { limit: 20_000 }), "{error}");
    let summary = recorder.finish(RunEnd::Ended { status: 0 }).unwrap();
    assert!(summary.full && summary.exits > 100 && summary.exits < stopped_at, "{summary:?}");
    let length = std::fs::metadata(dir.path().join("log")).unwrap().len();
    assert!(length <= 20_000 && length == summary.log_bytes, "{length}");

    let recording = crate::Recording::open(dir.path()).unwrap();
    recording.verify().unwrap();
    assert_eq!(recording.exit_count(), summary.exits);
    let end = RunEnd::Stopped { why: crate::LOG_FULL.into() };
    assert_eq!((recording.end(), recording.manifest().end.as_ref()), (Some(&end), Some(&end)));
}

#[test]
fn a_recording_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new/recording");
    let recorder = Recorder::create(&dir, Manifest::new(ContentId::from_bytes([0; 32]))).unwrap();
    recorder.finish(RunEnd::Ended { status: 0 }).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in ["log", "manifest.json"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
}
