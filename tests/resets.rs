//! A sandbox that is put back to one moment again and again.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::guest;
use dejavm::{Exit, Host, Input, InputBuffer, Observer, Outcome, PauseAt, Program, WorldError};

/// Notes what every exit says.
#[derive(Clone, Default)]
struct Exits(Arc<Mutex<Vec<String>>>);

impl Observer for Exits {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        self.0.lock().unwrap().push(format!("{exit:?}"));
        Ok(())
    }
}

impl Exits {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// The guest, which has done what `before` says when it first reads.
fn program(path: &Path, before: &str, exits: &Exits) -> Program {
    Program::new(Path::new("/guest").join(path.file_name().expect("a name")))
        .arg(before)
        .show("/guest", path.parent().expect("a directory"))
        .memory(256 << 20)
        .deadline(Duration::from_secs(60))
        .capture_output()
        .observe(exits.clone())
}

/// What a program does with its input behind its first read: outcome, output, and all exits.
type Run = (Outcome, String, Vec<String>);

/// Runs it by itself.
fn alone(host: &Host, program: &Program, exits: &Exits, input: &str) -> Run {
    let mut sandbox = program.clone().stdin(input).start(host).expect("a sandbox");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    sandbox.report(Outcome::Paused);
    exits.take();
    let report = sandbox.run().expect("a run");
    (report.outcome, String::from_utf8_lossy(&report.stdout).into_owned(), exits.take())
}

/// Puts one sandbox back for each input, three times round, and compares with runs that begin anew.
fn check(before: &str, inputs: &[&str]) {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = guest(dir.path(), "resets.c", &["-lpthread"]);
    let exits = Exits::default();
    let program = program(&path, before, &exits);
    let expected: Vec<Run> = inputs.iter().map(|input| alone(&host, &program, &exits, input)).collect();

    let input = InputBuffer::new();
    let mut sandbox = program.stdin_from(Input::Buffer(input.clone())).start(&host).expect("a sandbox");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    let mut point = sandbox.reset_point().expect("a moment");
    sandbox.verify_reset(&point).expect("nothing has changed");
    sandbox.report(Outcome::Paused);
    for round in 0..3 {
        for (bytes, expected) in inputs.iter().zip(&expected) {
            let what = format!("{before:?}, then {bytes:?}, round {round}");
            input.set(bytes.as_bytes());
            exits.take();
            if bytes.contains('h') {
                sandbox.set_deadline(Some(Duration::from_millis(20)));
                assert_eq!(sandbox.run().expect(&what).outcome, Outcome::Deadline, "{what}");
                sandbox.set_deadline(None);
            } else {
                let report = sandbox.run().expect(&what);
                let run =
                    (report.outcome, String::from_utf8_lossy(&report.stdout).into_owned(), exits.take());
                let differs = run.2.iter().zip(&expected.2).find(|(is, was)| is != was);
                assert_eq!((run.0, &run.1, differs), (expected.0, &expected.1, None), "{what}");
                assert_eq!(run.2.len(), expected.2.len(), "{what}");
            }
            sandbox.reset_to(&mut point).expect(&what);
            sandbox.verify_reset(&point).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(sandbox.exits(), point.exits());
        }
    }
}

const MEMORY: [&str; 10] = ["", "m", "mmf", "b", "M", "MU", "MPDM", "MR", "SSF", "mFMUDmf"];
const FILES: [&str; 6] = ["w", "ww", "Wd", "oop", "du", "wWdop"];
const TASKS: [&str; 8] = ["k", "mkM", "MkSk", "Kk", "t", "TtT", "x", "MKx"];
const MOMENTS: [&str; 6] = ["a", "s", "gz", "q", "yv", "sagz"];

#[test]
fn memory_is_what_it_was() {
    check("", &MEMORY);
    check("mMFbS", &MEMORY);
}

#[test]
fn files_are_what_they_were() {
    check("", &FILES);
    check("wo", &FILES);
}

#[test]
fn tasks_are_what_they_were() {
    check("", &TASKS);
    check("mMS", &TASKS);
    check("mMKTk", &TASKS);
}

#[test]
fn time_chance_and_signals_are_what_they_were() {
    check("", &MOMENTS);
    check("gsy", &MOMENTS);
}

#[test]
fn all_of_it_in_any_order() {
    let all: Vec<&str> = MEMORY.iter().chain(&FILES).chain(&TASKS).chain(&MOMENTS).copied().collect();
    check("mMFwosT", &all);
}
