//! Random system calls of several processes and threads on shared objects: the run ends as a run, its replay
//! does the same, and so does one that goes on from a snapshot in its midst, and one that is put back there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dejavm::{
    Error, Evict, Host, Image, Input, InputBuffer, Outcome, PauseAt, Program, Replay, Report, Sandbox,
    WriteOptions,
};

use crate::harness::{Draw, Fuzzer, build, kind_of, stay_on_one_cpu};

/// Calls that all tasks of a case make together.
const CALLS: &str = "600";
/// A case comes to its end long before.
const DEADLINE: Duration = Duration::from_secs(5);
const MEMORY: u64 = 48 << 20;
const DISK: u64 = 8 << 20;
/// What is read from standard input.
const INPUT: &str = "some\ninput\n";
/// Runs of a case at most: the recorded one, its replay, one that is left in its midst and restored, and one that is put
/// back four times.
const RUNS: u32 = 9;

/// What a case is run with, all of it from its seed.
struct Case<'a> {
    host: &'a Host,
    dir: &'a Path,
    program: &'a Path,
    seed: u64,
    /// Tries to break the program by the order of its tasks.
    chaos: Option<u64>,
}

/// What a run shows.
#[derive(PartialEq)]
struct Seen {
    outcome: Outcome,
    stdout: Vec<u8>,
    waits_for: Option<String>,
}

impl Seen {
    fn of(before: &[u8], run: Report) -> Seen {
        let stdout = [before, &run.stdout].concat();
        Seen { outcome: run.outcome, stdout, waits_for: run.waits_for }
    }

    /// The first line in which another run differs. Where the deadline ends one is the host's affair.
    fn difference(&self, other: &Seen) -> Option<String> {
        let cut = [self, other].iter().any(|seen| seen.outcome == Outcome::Deadline);
        let lines =
            |seen: &Seen| -> Vec<Vec<u8>> { seen.stdout.split(|b| *b == b'\n').map(Vec::from).collect() };
        let (ours, others) = (lines(self), lines(other));
        let differs = ours.iter().zip(&others).position(|(a, b)| a != b);
        match differs {
            _ if cut => differs.filter(|line| line + 1 < ours.len().min(others.len())),
            None if self != other => Some(ours.len().min(others.len())),
            line => line,
        }
        .map(|line| {
            let ends = [self, other].map(|seen| (seen.outcome, &seen.waits_for));
            format!("line {line} differs: {ends:?}")
        })
    }
}

/// What of the input was not read.
fn rest(input: &InputBuffer) -> &'static [u8] {
    &INPUT.as_bytes()[INPUT.len() - input.left()..]
}

fn told(what: &str) -> impl Fn(Error) -> String + '_ {
    move |e| format!("{what}: {e}")
}

impl Case<'_> {
    fn start(&self) -> Program {
        let program = Program::new(self.program).args([self.seed.to_string(), CALLS.to_string()]);
        let program = program.show(self.dir, self.dir).memory(MEMORY).disk(DISK).stdin(INPUT);
        let program = program.capture_output().capture_limit(1 << 20).deadline(DEADLINE);
        self.chaos.into_iter().fold(program, Program::chaos)
    }

    /// Starts it, with an input of which one can see what is left.
    fn start_with_input(&self) -> Result<(Sandbox, InputBuffer), String> {
        let input = InputBuffer::new();
        input.set(INPUT.as_bytes());
        let program = self.start().stdin_from(Input::Buffer(input.clone()));
        Ok((program.start(self.host).map_err(told("start"))?, input))
    }

    /// Runs it, recorded; gives what it showed, and its exits.
    fn record(&self, recording: &Path, evict: Option<Evict>) -> Result<(Seen, u64), String> {
        let program = evict.into_iter().fold(self.start().record(recording), Program::evict);
        let mut sandbox = program.start(self.host).map_err(told("start"))?;
        let run = sandbox.run().map_err(told("run"))?;
        let exits = sandbox.exits();
        Ok((Seen::of(&[], run), exits))
    }

    fn replay(&self, whole: &Seen, recording: &Path, evict: Evict) -> Result<Seen, String> {
        let replay = Replay::open(recording).map_err(told("open"))?;
        let replay = replay.evict(evict).capture_output().start(self.host);
        let run = replay.and_then(|mut sandbox| sandbox.run()).map_err(told("replay"))?;
        // What it waits for is told to whoever makes a recording.
        Ok(Seen { waits_for: whole.waits_for.clone(), ..Seen::of(&[], run) })
    }

    /// Pauses it behind each of some exits for a snapshot, which can be started; gives what it shows when it
    /// goes on itself, and when the last of them is restored. Nothing when the deadline came before.
    fn part(&self, exits: &[u64], snapshot: &Path, evict: Evict) -> Result<Option<[Seen; 2]>, String> {
        let (mut sandbox, input) = self.start_with_input()?;
        let mut before = Vec::new();
        let mut restored = None;
        for exit in exits {
            let paused = sandbox.run_until(PauseAt::Exit(*exit)).map_err(told("pause"))?;
            match paused {
                Outcome::Paused => {}
                Outcome::Deadline => return Ok(None),
                ended => return Err(format!("{ended:?} before exit {exit}")),
            }
            before.extend(sandbox.report(paused).stdout);
            let at = |what: &str, e| format!("{what} at exit {exit}: {e}");
            sandbox.snapshot(snapshot, &WriteOptions::default()).map_err(|e| at("snapshot", e))?;
            let restore = Image::open(snapshot).map_err(|e| at("image", e))?.restore();
            let restore = restore.show(self.dir, self.dir).memory(MEMORY).disk(DISK).stdin(rest(&input));
            let restore = restore.capture_output().capture_limit(1 << 20).deadline(DEADLINE).evict(evict);
            restored = Some(restore.start(self.host).map_err(|e| at("restore", e))?);
        }
        let on = Seen::of(&before, sandbox.run().map_err(told("goes on"))?);
        let restored = restored.ok_or("no exit")?.run().map_err(told("restored"))?;
        Ok(Some([on, Seen::of(&before, restored)]))
    }

    /// Goes on from behind an exit some times, each time to another one, and is put back; gives what it shows when it goes on
    /// to its end at last. Nothing when the deadline came before.
    fn put_back(&self, exit: u64, until: &[u64]) -> Result<Option<Seen>, String> {
        let (mut sandbox, input) = self.start_with_input()?;
        let paused = sandbox.run_until(PauseAt::Exit(exit)).map_err(told("pause"))?;
        if paused != Outcome::Paused {
            return Ok(None);
        }
        let before = sandbox.report(paused).stdout;
        let rest = rest(&input);
        let mut point = sandbox.reset_point().map_err(told("mark"))?;
        for exit in until {
            sandbox.set_deadline(Some(DEADLINE));
            let outcome = sandbox.run_until(PauseAt::Exit(*exit)).map_err(told("goes on"))?;
            sandbox.report(outcome);
            sandbox.reset_to(&mut point).map_err(told("reset"))?;
            sandbox.verify_reset(&point).map_err(told("what was put back"))?;
            input.set(rest);
        }
        sandbox.set_deadline(Some(DEADLINE));
        Ok(Some(Seen::of(&before, sandbox.run().map_err(told("goes on at last"))?)))
    }
}

/// Runs one case in all its ways.
fn case(host: &Host, dir: &Path, program: &Path, seed: u64) -> Result<Outcome, String> {
    let mut draw = Draw::new(seed);
    let chaos = draw.once_in(3).then(|| draw.next());
    let case = Case { host, dir, program, seed, chaos };
    let work = tempfile::tempdir().map_err(|e| e.to_string())?;
    let recording = work.path().join("recording");
    let evict = Evict { every: 5 + draw.below(50) as u64, seed };
    let (whole, exits) = case.record(&recording, draw.once_in(4).then_some(evict))?;
    let replayed = case.replay(&whole, &recording, evict)?;
    if let Some(difference) = whole.difference(&replayed) {
        return Err(format!("the replay: {difference}"));
    }
    if draw.once_in(2) && whole.outcome != Outcome::Deadline {
        let mut at: Vec<u64> =
            (0..3).map(|_| 1 + draw.below((exits as usize).saturating_sub(2)) as u64).collect();
        at.sort_unstable();
        at.dedup();
        let parts = case.part(&at, &work.path().join("part.dvm"), evict)?;
        for (how, part) in ["went on", "was restored"].iter().zip(parts.iter().flatten()) {
            if let Some(difference) = whole.difference(part) {
                return Err(format!("what {how} at exits {at:?} of {exits}: {difference}"));
            }
        }
    }
    if draw.once_in(2) && whole.outcome != Outcome::Deadline {
        let mut exit = |from: u64| from + draw.below((exits - from).max(1) as usize) as u64;
        let at = exit(1);
        let until = [0; 4].map(|_| exit(at) + 1);
        let put_back = case.put_back(at, &until)?;
        if let Some(difference) = put_back.and_then(|seen| whole.difference(&seen)) {
            return Err(format!("put back at exit {at} of {exits}, from {until:?}: {difference}"));
        }
    }
    Ok(whole.outcome)
}

#[test]
fn many_tasks() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = ["-static", "-fno-stack-protector"];
    let program: PathBuf = build(dir.path(), "guests/fuzz_many.c", &flags);
    let host = Host::probe().expect("KVM");
    stay_on_one_cpu();
    let (mut cases, mut ended) = (0, 0);
    let fuzzer = Fuzzer { name: "many_tasks", cases: 12, time: DEADLINE * RUNS, grants: MEMORY + DISK };
    fuzzer.run(|seed| {
        let outcome = case(&host, dir.path(), &program, seed)?;
        cases += 1;
        ended += u32::from(outcome != Outcome::Deadline);
        Ok(kind_of(outcome))
    });
    assert!(cases < 10 || ended * 2 >= cases, "most cases come to their end: {ended} of {cases}");
}
