//! Processes and threads in a ring hand on a number, each by another way to wait, while some are interrupted and
//! stopped: it comes to its end, or a wake-up was lost. The replay does the same.

use std::path::Path;
use std::time::Duration;

use dejavm::{Evict, Host, Outcome, Program, Replay};

use crate::harness::{Draw, Fuzzer, build, kind_of, stay_on_one_cpu};

/// How often the number is handed on.
const TURNS: &str = "30";
/// Much more than a case takes, unless many of its instructions are stepped.
const DEADLINE: Duration = Duration::from_secs(25);
const MEMORY: u64 = 1 << 30;

/// Runs one case, recorded, and replays it.
fn case(host: &Host, dir: &Path, program: &Path, seed: u64) -> Result<Outcome, String> {
    let mut draw = Draw::new(seed);
    let work = tempfile::tempdir().map_err(|e| e.to_string())?;
    let recording = work.path().join("recording");
    let start = Program::new(program).args([seed.to_string(), TURNS.to_string()]).show(dir, dir);
    let start = start.memory(MEMORY).deadline(DEADLINE).capture_output().seed(seed).record(&recording);
    let chaos = draw.once_in(6).then(|| draw.next());
    let start = chaos.into_iter().fold(start, Program::chaos).start(host);
    let run = start.and_then(|mut sandbox| sandbox.run()).map_err(|e| format!("run: {e}"))?;
    if chaos.is_some() && run.outcome == Outcome::Deadline {
        return Ok(run.outcome);
    }
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let came_round = text.lines().count() == 2 && text.ends_with("\nto the end\n") && run.stderr.is_empty();
    if run.outcome != Outcome::Exited(0) || !came_round {
        let why = run.waits_for.unwrap_or_else(|| String::from_utf8_lossy(&run.stderr).into_owned());
        return Err(format!("{:?}: {text}{why}", run.outcome));
    }
    let evict = Evict { every: 5 + draw.below(50) as u64, seed };
    let replay = Replay::open(&recording).and_then(|replay| replay.evict(evict).capture_output().start(host));
    let again = replay.and_then(|mut sandbox| sandbox.run()).map_err(|e| format!("replay: {e}"))?;
    if (again.outcome, &again.stdout) != (run.outcome, &run.stdout) {
        return Err(format!("replayed {:?}", again.outcome));
    }
    Ok(run.outcome)
}

#[test]
fn rings() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path(), "guests/fuzz_rings.c", &["-pthread"]);
    let host = Host::probe().expect("KVM");
    stay_on_one_cpu();
    let fuzzer = Fuzzer { name: "rings", cases: 12, time: DEADLINE * 2, grants: MEMORY };
    fuzzer.run(|seed| case(&host, dir.path(), &program, seed).map(kind_of));
}
