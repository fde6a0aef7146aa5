//! What all end-to-end tests need: the tool, a process with an end, a directory of one's own.

// Each test binary uses its part of this.
#![allow(dead_code)]

pub mod linux;
pub mod observer;
pub mod parts;

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The tool under test.
pub const DEJAVM: &str = env!("CARGO_BIN_EXE_dejavm");

/// The most that one process may take: what hangs ends, whatever else the machine does. Nothing takes a tenth
/// of it on an idle machine; of the full tests' programs some take seconds there, and a minute on a loaded one.
fn limit() -> Duration {
    Duration::from_secs(if full() { 900 } else { 60 })
}

/// The environment of a program in the sandbox unless told otherwise; native runs get the same.
pub const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
];

/// Whether all is to be run, and not the sample that fits into continuous integration.
pub fn full() -> bool {
    std::env::var_os("DEJAVM_TEST_FULL").is_some_and(|value| value == "1")
}

/// Fails, and says so, where there is no `/dev/kvm`: a test that is left out looks like one that passed.
pub fn require_kvm() {
    if let Err(e) = File::options().read(true).write(true).open("/dev/kvm") {
        panic!("these tests need /dev/kvm, readable and writable: {e}");
    }
}

/// Builds a guest of `tests/guests`, from C or assembly, into a directory, with these flags for gcc besides.
pub fn guest(dir: &Path, source: &str, flags: &[&str]) -> PathBuf {
    require_kvm();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(source);
    let program = dir.join(source.file_stem().expect("a name"));
    let gcc = Command::new("gcc").args(["-O1", "-w", "-o"]).args([&program, &source]).args(flags).status();
    let gcc = gcc.expect("gcc builds the guest: install it (Debian: gcc, libc6-dev)");
    assert!(gcc.success(), "gcc could not build {}", source.display());
    program
}

/// Where a program lies natively.
pub fn native(name: &str) -> PathBuf {
    if name.contains('/') {
        return PathBuf::from(name);
    }
    let mut places = ENVIRONMENT[0].1.split(':').map(|dir| Path::new(dir).join(name));
    places.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("there is no {name} here; scripts/install-test-programs installs it, or with --all")
    })
}

/// How a process ended, and what it wrote.
#[derive(Clone, PartialEq, Eq)]
pub struct Finished {
    /// Exit status, or 128 and the signal's number.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Standard output as text; fails with all there is if the process did not succeed.
    #[track_caller]
    pub fn text(&self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 1500;
        let show = |bytes: &[u8]| {
            let text = bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string().replace("\\n", "\n    ");
            if bytes.len() > SHOWN { format!("{text}… ({} bytes)", bytes.len()) } else { text }
        };
        writeln!(f, "status {}", self.status)?;
        writeln!(f, "  stdout: {}", show(&self.stdout))?;
        write!(f, "  stderr: {}", show(&self.stderr))
    }
}

/// What a process reads.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A pipe with these bytes.
    Pipe(&'a [u8]),
    /// A file.
    File(&'a Path),
}

/// Runs a command to its end, or kills it and fails.
#[track_caller]
pub fn finish(command: &mut Command, input: Input<'_>) -> Finished {
    let shown = format!("{command:?}");
    let (stdin, bytes) = match input {
        Input::Pipe(bytes) => (Stdio::piped(), bytes.to_vec()),
        Input::File(path) => (File::open(path).expect("input file").into(), Vec::new()),
    };
    let spawned = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|e| panic!("{shown}: {e}"));
    let feed = child.stdin.take().map(|mut pipe| {
        // A program that does not read all of its input closes the pipe early.
        thread::spawn(move || drop(pipe.write_all(&bytes)))
    });
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if start.elapsed() > limit() {
            child.kill().expect("kill");
            child.wait().expect("wait");
            let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
            panic!("{shown} did not end in {:?}: {:?}", limit(), Finished { status: -1, stdout, stderr });
        }
        thread::sleep(Duration::from_millis(2));
    };
    if let Some(feed) = feed {
        feed.join().unwrap();
    }
    let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Finished { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn collect(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut from) = from {
            from.read_to_end(&mut all).expect("read output");
        }
        all
    })
}

/// `dejavm` with these arguments.
pub fn dejavm<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(DEJAVM);
    command.args(args);
    command
}

/// Runs `dejavm` with these arguments and no input, in a directory.
#[track_caller]
pub fn tool<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Finished {
    finish(dejavm(args).current_dir(dir), Input::Pipe(b""))
}

/// The ways in which pages come in, each as options of the tool, that this host has. One without poison
/// markers refuses to use them, and says so.
pub fn possible<'a>(ways: &[&'a [&'a str]]) -> Vec<&'a [&'a str]> {
    if dejavm::Host::probe().expect("KVM").profile().poison {
        return ways.to_vec();
    }
    let refused = tool(Path::new("."), ["run", "--rung", "poison", "--", "true"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status == 125 && said.contains("no poison faults"), "{refused:?}");
    ways.iter().copied().filter(|way| !way.contains(&"poison")).collect()
}

/// Does `work` on each item, on as many threads as there are CPUs, and fails with all complaints.
pub fn for_each<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let complaints = std::sync::Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(item)));
                    let complaint = match result {
                        Ok(Ok(())) => continue,
                        Ok(Err(complaint)) => complaint,
                        Err(panic) => match panic.downcast::<String>() {
                            Ok(text) => *text,
                            Err(_) => "panicked".to_string(),
                        },
                    };
                    complaints.lock().unwrap().push(complaint);
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(
        complaints.is_empty(),
        "{} of {} failed:\n{}",
        complaints.len(),
        items.len(),
        complaints.join("\n")
    );
}
