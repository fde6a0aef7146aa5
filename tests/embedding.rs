//! What a library's user learns of a run, and how one sandbox's settings make many.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dejavm::{
    Error, Exit, Host, Image, Input, LimitsHit, Observer, Outcome, PauseAt, Program, Replay, Report, Sink,
    WorldError, WriteOptions,
};

const SECOND: Duration = Duration::from_secs(1);

fn host() -> Host {
    Host::probe().expect("KVM")
}

fn python(code: &str) -> Program {
    Program::new("/usr/bin/python3").args(["-S", "-c", code]).deadline(60 * SECOND).capture_output()
}

fn run(program: Program, host: &Host) -> Report {
    program.start(host).and_then(|mut sandbox| sandbox.run()).expect("a run")
}

fn names(limits: LimitsHit) -> Vec<&'static str> {
    limits.names().collect()
}

/// A writer whose clones write into one place.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a lock").extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("a lock").clone()).expect("text")
    }
}

#[test]
fn the_report_names_the_limits_that_were_hit() {
    let host = host();
    let limits = |program: Program| names(run(program, &host).limits);
    assert!(limits(python("print(1)")).is_empty());

    let allocate = "try: bytearray(1 << 30)\nexcept MemoryError: print('refused')";
    assert_eq!(limits(python(allocate).memory(64 << 20)), ["memory"]);
    // Without reservation nothing is refused before it is touched: the guest is killed then.
    let touch = "import mmap\nm = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)\n\
        for i in range(0, 1 << 30, 4096): m[i] = 1";
    let killed = run(python(touch).memory(64 << 20), &host);
    assert_eq!((names(killed.limits), killed.outcome), (vec!["memory"], Outcome::Signalled(9)));
    // A limit that the guest has set itself is none of the sandbox's.
    let own = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))\n\
        try: bytearray(1 << 29)\nexcept MemoryError: pass";
    assert!(limits(python(own)).is_empty());

    let write =
        "try:\n with open('/tmp/f', 'wb') as f:\n  while True: f.write(bytes(1 << 16))\nexcept OSError: pass";
    assert_eq!(limits(python(write).disk(1 << 20)), ["disk"]);
    let allocate = "import os\nf = os.open('/tmp/f', os.O_CREAT | os.O_RDWR)\n\
        try: os.posix_fallocate(f, 0, 1 << 24)\nexcept OSError: pass";
    assert_eq!(limits(python(allocate).disk(1 << 20)), ["disk"]);

    let print = "import os\ntry:\n while True: os.write(1, b'line\\n')\nexcept OSError: pass";
    let report = run(python(print).capture_limit(12), &host);
    assert_eq!((names(report.limits), report.stdout), (vec!["output"], b"line\nline\nli".to_vec()));

    let report = run(python("while True: pass").deadline(SECOND), &host);
    assert_eq!((names(report.limits), report.outcome), (vec!["deadline"], Outcome::Deadline));
}

#[test]
fn limits_are_hit_again_by_a_replay_and_not_by_a_restore() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let (recording, snapshot) = (dir.path().join("r"), dir.path().join("s.dvm"));
    let code = "try: bytearray(1 << 30)\nexcept MemoryError: pass\ninput()\nprint('done')";
    let program = python(code).memory(64 << 20).stdin("x\n");
    assert_eq!(names(run(program.clone().record(&recording), &host).limits), ["memory"]);
    let replayed = Replay::open(&recording).and_then(|replay| replay.start(&host)?.run()).expect("a replay");
    assert_eq!((names(replayed.limits), replayed.outcome), (vec!["memory"], Outcome::Exited(0)));

    let mut sandbox = program.start(&host).expect("a start");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    assert_eq!(names(sandbox.limits_hit()), ["memory"]);
    sandbox.snapshot(&snapshot, &WriteOptions::default()).expect("a snapshot");
    let restore = Image::open(&snapshot).expect("an image").restore().stdin("x\n");
    assert!(names(restore.start(&host).and_then(|mut s| s.run()).expect("a run").limits).is_empty());
}

/// Prints where its memory is: some of its own, a mapped file that it has not touched, and memory that it
/// may not read itself. Then it waits, and prints what it sees of its memory.
const MEMORY: &str = "import ctypes, mmap\n\
    own = ctypes.create_string_buffer(b'x' * 5000 + b'secret', 9000)\n\
    env = open('/usr/bin/env', 'rb')\n\
    file = mmap.mmap(env.fileno(), 0, access=mmap.ACCESS_COPY)\n\
    libc = ctypes.CDLL(None)\n\
    libc.mmap.restype = ctypes.c_void_p\n\
    none = libc.mmap(None, ctypes.c_size_t(1 << 22), 0, 0x22, -1, ctypes.c_size_t(0))\n\
    libc.munmap(ctypes.c_void_p(none + 8192), ctypes.c_size_t(4096))\n\
    print(ctypes.addressof(own), ctypes.addressof(ctypes.c_char.from_buffer(file)), none, flush=True)\n\
    input()\n\
    print(open('/proc/self/statm').read(), open('/proc/meminfo').read(), open('/proc/self/smaps').read())";

#[test]
fn memory_is_read_by_its_addresses() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let looked_at = |sandbox: &mut dejavm::Sandbox, places: &[u64]| {
        let [own, file, none] = places else { panic!("{places:?}") };
        let mut secret = [0; 6];
        sandbox.read_memory(own + 5000, &mut secret).expect("its own");
        assert_eq!(&secret, b"secret");
        let content = std::fs::read("/usr/bin/env").expect("a file");
        let mut mapped = vec![1; content.len()];
        sandbox.read_memory(*file, &mut mapped).expect("a file");
        assert!(mapped == content, "the file's content");
        let mut zeros = [1; 100];
        sandbox.read_memory(none + 8092, &mut zeros).expect("what it may not read");
        assert_eq!(zeros, [0; 100]);
        let first = |sandbox: &mut dejavm::Sandbox, address: u64, len: usize| match sandbox
            .read_memory(address, &mut vec![0; len])
        {
            Err(Error::Memory(dejavm::sandbox::machine::ReadError::Unmapped(first))) => first,
            other => panic!("{other:?}"),
        };
        assert_eq!(first(sandbox, none + 4096, 1 << 16), none + 8192);
        assert_eq!(first(sandbox, 0x10, 1), 0x10);
        assert_eq!(first(sandbox, u64::MAX, 2), u64::MAX);
    };
    let program = python(MEMORY).stdin("x\n");
    let mut reports = Vec::new();
    for look in [false, true] {
        let mut sandbox = program.clone().start(&host).expect("a start");
        assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
        let first = sandbox.report(Outcome::Paused).stdout;
        let text = String::from_utf8(first).expect("text");
        let places: Vec<u64> = text.split_whitespace().map(|n| n.parse().expect("a number")).collect();
        if look {
            looked_at(&mut sandbox, &places);
            sandbox.snapshot(&path, &WriteOptions::default()).expect("a snapshot");
            let image = Image::open(&path).expect("an image");
            let mut restored = image.restore().stdin("x\n").capture_output().start(&host).expect("a restore");
            let before = restored.stats().pages;
            looked_at(&mut restored, &places);
            assert_eq!(restored.stats().pages, before, "no page came in");
            let done = restored.run().expect("a run");
            reports.push((done.exits, done.stdout, done.stats.syscalls));
            restored.read_memory(places[2], &mut [1; 4096]).expect("after the end");
        }
        let done = sandbox.run().expect("a run");
        reports.push((done.exits, done.stdout, done.stats.syscalls));
    }
    assert_eq!(reports[0].1, reports[1].1, "restored and looked at");
    assert_eq!(reports[0], reports[2], "looked at");
}

/// Counts the exits of all that it is told of.
struct Counting(Arc<Mutex<u64>>);

impl Observer for Counting {
    fn exit(&mut self, _exit: &Exit) -> Result<(), WorldError> {
        *self.0.lock().expect("a lock") += 1;
        Ok(())
    }
}

#[test]
fn one_setting_makes_many_sandboxes() {
    let host = host();
    let (written, exits) = (Shared::default(), Arc::new(Mutex::new(0)));
    let program = Program::new("cat")
        .stdin("bytes\n")
        .stdout(Sink::writer(written.clone()))
        .observe(Counting(exits.clone()))
        .deadline(60 * SECOND);
    let two = program.clone();
    let each: Vec<u64> = std::thread::scope(|scope| {
        let threads = [program, two].map(|program| scope.spawn(|| run(program, &host).exits));
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    assert_eq!(written.text(), "bytes\nbytes\n");
    assert_eq!((each[0], *exits.lock().expect("a lock")), (each[1], each[0] + each[1]));

    // What one has read of a reader or a descriptor, the other does not get.
    let (from, mut to) = std::io::pipe().expect("a pipe");
    to.write_all(b"once\n").expect("room");
    drop(to);
    for input in [Input::Reader(Box::new(&b"once\n"[..])), Input::from_fd(from)] {
        let program = Program::new("cat").stdin_from(input).capture_output();
        let first = run(program.clone(), &host).stdout;
        let second = run(program, &host).stdout;
        assert_eq!((first, second), (b"once\n".to_vec(), Vec::new()));
    }
}

#[test]
fn output_is_passed_on_and_captured() {
    let host = host();
    let (out, err) = (Shared::default(), Shared::default());
    let program = Program::new("sh")
        .args(["-c", "echo out; echo err >&2; echo more"])
        .stdout(Sink::writer(out.clone()))
        .stderr(Sink::writer(err.clone()))
        .capture_output();
    let report = run(program.clone(), &host);
    assert_eq!((&report.stdout[..], &report.stderr[..]), (&b"out\nmore\n"[..], &b"err\n"[..]));
    assert_eq!((out.text().as_str(), err.text().as_str()), ("out\nmore\n", "err\n"));
    assert!(!report.limits.any());

    // Neither gets more than what fits.
    let report = run(program.capture_limit(5), &host);
    assert_eq!(report.stdout, b"out\nm");
    assert_eq!(out.text(), "out\nmore\nout\nm");
    assert_eq!(names(report.limits), ["output"]);
}

#[test]
fn a_sink_that_takes_nothing_captures_nothing() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let program = Program::new("sh").args(["-c", "echo x || exit 7"]).stdout(Sink::fd(full)).capture_output();
    let report = run(program, &host());
    assert_eq!((report.outcome, report.stdout, report.limits.any()), (Outcome::Exited(7), Vec::new(), false));
}
