//! Random system calls: whatever a program asks, the run ends as a run, and its replay does the same.

use std::path::Path;
use std::time::Duration;

use dejavm::{Evict, Host, Outcome, Program, Replay};

use crate::harness::{Fuzzer, build, kind_of, stay_on_one_cpu};

/// Calls a case.
const CALLS: &str = "400";
/// A case waits where a native one would: it is ended by then.
const DEADLINE: Duration = Duration::from_secs(3);
const MEMORY: u64 = 48 << 20;
const DISK: u64 = 8 << 20;

/// Runs one case, recorded, and replays it.
fn case(host: &Host, dir: &Path, program: &Path, seed: u64) -> Result<Outcome, String> {
    let recording = dir.join(format!("rec-{seed}"));
    let told = |what: &str, e: dejavm::Error| format!("{what}: {e}");
    let start = Program::new(program)
        .args([seed.to_string(), CALLS.to_string()])
        .show(dir, dir)
        .memory(MEMORY)
        .disk(DISK)
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
        return Err(format!("{:?}, and replayed {:?}", run.outcome, again.outcome));
    }
    std::fs::remove_dir_all(&recording).map_err(|e| e.to_string())?;
    Ok(run.outcome)
}

#[test]
fn system_calls() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path(), "guests/fuzz_syscalls.c", &["-static"]);
    let host = Host::probe().expect("KVM");
    stay_on_one_cpu();
    let (mut cases, mut ended) = (0, 0);
    let fuzzer = Fuzzer { name: "system_calls", cases: 30, time: DEADLINE * 2, grants: MEMORY + DISK };
    fuzzer.run(|seed| {
        let outcome = case(&host, dir.path(), &program, seed)?;
        cases += 1;
        // Some wait for ever: for a signal, or for a child that does.
        ended += u32::from(matches!(outcome, Outcome::Exited(_) | Outcome::Signalled(_) | Outcome::Stuck));
        Ok(kind_of(outcome))
    });
    assert!(cases < 10 || ended * 4 >= cases, "most cases come to their end: {ended} of {cases}");
}
