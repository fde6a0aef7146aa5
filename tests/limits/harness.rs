//! Runs hostile programs, and measures what they take of the host.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common;

/// What dejavm may take besides `--memory` and `--disk`.
pub const OWN: u64 = 64 << 20;
/// How much later than its deadline a run may end on a machine that does other things too.
const BUSY: Duration = Duration::from_secs(5);
/// How much later on an idle one.
const IDLE: Duration = Duration::from_millis(100);
/// A run that takes longer than this is killed.
const PATIENCE: Duration = Duration::from_secs(90);

/// A hostile program, built, in a directory of its own.
pub struct Hostile {
    dir: tempfile::TempDir,
}

/// What came of a run.
#[derive(Debug)]
pub struct Ended {
    /// Exit status, or 128 and the signal's number.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    /// The most host memory that was resident, bytes.
    pub peak: u64,
    pub took: Duration,
}

/// Builds a C program. It need not include what most need.
pub fn hostile(source: &str) -> Hostile {
    hostile_with(source, &[])
}

/// The same with more options for the compiler.
pub fn hostile_with(source: &str, options: &[&str]) -> Hostile {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let text = format!("#define _GNU_SOURCE\n{INCLUDES}\n#line 1 \"hostile.c\"\n{source}\n");
    std::fs::write(dir.path().join("hostile.c"), text).expect("the source");
    let gcc = Command::new("gcc")
        .args(["-O1", "-w", "-o", "hostile", "hostile.c"])
        .args(options)
        .current_dir(dir.path())
        .status()
        .expect("gcc builds the guest: install it (Debian: gcc, libc6-dev)");
    assert!(gcc.success(), "gcc could not build the guest");
    Hostile { dir }
}

const INCLUDES: &str = "\
#include <errno.h>\n#include <fcntl.h>\n#include <poll.h>\n#include <signal.h>\n#include <stdint.h>\n\
#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/mman.h>\n\
#include <sys/resource.h>\n#include <sys/stat.h>\n#include <sys/syscall.h>\n#include <sys/time.h>\n\
#include <sys/uio.h>\n#include <time.h>\n#include <unistd.h>";

impl Hostile {
    /// The built program.
    pub fn program(&self) -> PathBuf {
        self.dir.path().join("hostile")
    }

    /// Natively.
    pub fn native(&self) -> Ended {
        watch(Command::new(self.program()).current_dir(self.dir.path()).stdin(Stdio::null()))
    }

    /// In the sandbox, with these options of `dejavm run`.
    pub fn run(&self, options: &[&str]) -> Ended {
        let mut command = common::dejavm(["run", "-q"]);
        command.args(options).arg("--ro").arg(self.dir.path()).arg("--").arg(self.program());
        watch(command.stdin(Stdio::null()))
    }

    /// In the sandbox, until its deadline: which must end it, in time.
    #[track_caller]
    pub fn run_until_deadline(&self, deadline: Duration, options: &[&str]) -> Ended {
        let text = format!("{}ms", deadline.as_millis());
        let ended = self.run(&[&["--deadline", &text], options].concat());
        assert_eq!(ended.status, 124, "the deadline ends it: {ended:?}");
        let late = ended.took.saturating_sub(deadline);
        assert!(late <= if common::full() { IDLE } else { BUSY }, "{late:?} late: {ended:?}");
        ended
    }
}

impl Ended {
    /// Fails if the host gave more memory than this and what dejavm takes for itself.
    #[track_caller]
    pub fn within(self, granted: u64) -> Ended {
        assert!(self.peak <= granted + OWN, "{} MiB of {} MiB: {self:?}", self.peak >> 20, granted >> 20);
        self
    }
}

fn watch(command: &mut Command) -> Ended {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let (stdout, stderr) = (text_of(child.stdout.take()), text_of(child.stderr.take()));
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait().expect("wait") {
            break ended;
        }
        peak = peak.max(high_water(&status));
        if start.elapsed() > PATIENCE {
            child.kill().expect("kill");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let took = start.elapsed();
    let status = ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap_or(0));
    Ended { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap(), peak, took }
}

fn text_of(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut all = Vec::new();
        from.expect("a pipe").read_to_end(&mut all).expect("output");
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// The most memory of a process that was ever resident, bytes; 0 once it is gone.
fn high_water(status: &Path) -> u64 {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
