//! Random system calls: whatever a program asks, the run ends as a run, and its replay does the same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dejavm::{Evict, Host, Outcome, Program, Replay};

use crate::common;

/// Cases in continuous integration.
const CASES: u64 = 60;
/// Calls a case.
const CALLS: &str = "400";
/// A case waits where a native one would: it is ended by then.
const DEADLINE: Duration = Duration::from_secs(3);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number")))
}

fn build(dir: &Path) -> PathBuf {
    let program = dir.join("fuzz");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/fuzz_syscalls.c");
    let gcc = Command::new("gcc").args(["-O1", "-w", "-static", "-o"]).args([&program, &source]).status();
    assert!(gcc.expect("gcc builds the guest: install it (Debian: gcc, libc6-dev)").success());
    program
}

/// Keeps this thread on one CPU. Where KVM does not trap CPUID, the C library's start keeps the CPU's
/// number in memory, and a random call may write it out.
fn stay_on(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    // With one CPU there is nowhere else to go.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Runs one case, recorded, and replays it.
fn case(host: &Host, dir: &Path, program: &Path, seed: u64) -> Result<Outcome, String> {
    let recording = dir.join(format!("rec-{seed}"));
    let told = |what: &str, e: dejavm::Error| format!("seed {seed}: {what}: {e}");
    let start = Program::new(program)
        .args([seed.to_string(), CALLS.to_string()])
        .show(dir, dir)
        .memory(48 << 20)
        .disk(8 << 20)
        .stdin("some\ninput\n")
        .capture_output()
        .capture_limit(1 << 20)
        .deadline(DEADLINE)
        .record(&recording)
        .start(host);
    let mut sandbox = start.map_err(|e| told("start", e))?;
    let run = sandbox.run().map_err(|e| told("run", e))?;
    drop(sandbox);
    // Fault injection in the replay finds what depends on what is resident.
    let evict = Evict { every: 7, seed };
    let replay = Replay::open(&recording).and_then(|replay| replay.evict(evict).capture_output().start(host));
    let again = replay.and_then(|mut sandbox| sandbox.run()).map_err(|e| told("replay", e))?;
    if (again.outcome, &again.stdout, &again.stderr) != (run.outcome, &run.stdout, &run.stderr) {
        return Err(format!("seed {seed}: {:?}, and replayed {:?}", run.outcome, again.outcome));
    }
    std::fs::remove_dir_all(&recording).map_err(|e| format!("seed {seed}: {e}"))?;
    Ok(run.outcome)
}

#[test]
fn random_system_calls() {
    common::require_kvm();
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path());
    let first = number("DEJAVM_FUZZ_SEED").unwrap_or(1);
    let until = number("DEJAVM_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let next = AtomicU64::new(0);
    let ended = AtomicU64::new(0);
    let threads: Vec<usize> = (0..2).collect();
    common::for_each(&threads, |cpu| {
        stay_on(*cpu);
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let over = until.map_or(n >= CASES, |until| Instant::now() >= until);
            if over {
                return Ok(());
            }
            let outcome = case(&host, dir.path(), &program, first + n)?;
            ended.fetch_add(u64::from(matches!(outcome, Outcome::Exited(_))), Ordering::Relaxed);
        }
    });
    let (cases, ended) = (next.into_inner() - threads.len() as u64, ended.into_inner());
    println!("{cases} cases, {ended} ended by themselves");
    assert!(ended * 4 >= cases, "most cases come to their end: {ended} of {cases}");
}
