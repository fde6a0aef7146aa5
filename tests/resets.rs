//! A sandbox that is put back to one moment again and again.

mod common;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use common::guest;
use common::observer::Exits;
use dejavm::{
    Error, Evict, Host, Image, Input, InputBuffer, Outcome, PauseAt, Program, Rung, Sandbox, WriteOptions,
};

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

/// Puts one sandbox back for each input, twice round, and compares with runs that begin anew.
fn check(before: &str, inputs: &[&str]) {
    check_with(before, inputs, |program| program);
}

/// The same of a program that `change` has changed.
fn check_with(before: &str, inputs: &[&str], change: impl Fn(Program) -> Program) {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = guest(dir.path(), "resets.c", &["-lpthread"]);
    let exits = Exits::default();
    let program = change(program(&path, before, &exits));
    let expected: Vec<Run> = inputs.iter().map(|input| alone(&host, &program, &exits, input)).collect();

    let input = InputBuffer::new();
    let mut sandbox = program.stdin_from(Input::Buffer(input.clone())).start(&host).expect("a sandbox");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    sandbox.report(Outcome::Paused);
    put_back(&mut sandbox, &input, &exits, before, inputs, &expected);
}

fn put_back(
    sandbox: &mut Sandbox,
    input: &InputBuffer,
    exits: &Exits,
    before: &str,
    inputs: &[&str],
    expected: &[Run],
) {
    let mut point = sandbox.reset_point().expect("a moment");
    sandbox.verify_reset(&point).expect("nothing has changed");
    for round in 0..2 {
        for (bytes, expected) in inputs.iter().zip(expected) {
            let what = format!("{before:?}, then {bytes:?}, round {round}");
            input.set(bytes.as_bytes());
            exits.take();
            let report = sandbox.run().expect(&what);
            let run = (report.outcome, String::from_utf8_lossy(&report.stdout).into_owned(), exits.take());
            let differs = run.2.iter().zip(&expected.2).find(|(is, was)| is != was);
            assert_eq!((run.0, &run.1, differs), (expected.0, &expected.1, None), "{what}");
            assert_eq!(run.2.len(), expected.2.len(), "{what}");
            sandbox.reset_to(&mut point).expect(&what);
            sandbox.verify_reset(&point).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(sandbox.exits(), point.exits());
        }
    }
}

const MEMORY: [&str; 13] = ["", "m", "mmf", "b", "M", "MU", "MPDM", "MR", "SSF", "mFMUDmf", "c", "C", "cC"];
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

/// What one run has written is not paid for by all others, in time or in memory.
#[test]
fn a_large_run_is_forgotten() {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = guest(dir.path(), "resets.c", &["-lpthread"]);
    let input = InputBuffer::new();
    let program = program(&path, "m", &Exits::default()).stdin_from(Input::Buffer(input.clone()));
    let mut sandbox = program.start(&host).expect("a sandbox");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    let mut point = sandbox.reset_point().expect("a moment");
    let mut run = |bytes: &[u8]| {
        input.set(bytes);
        assert_eq!(sandbox.run().expect("a run").outcome.code(), Some(bytes.len() as u8));
        sandbox.reset_to(&mut point).expect("a reset");
        (point.hot_pages(), sandbox.stats().resident_bytes)
    };
    let (_, before) = run(b"m");
    let (hot, resident) = run(b"L");
    assert!(hot > 25_000 && resident > before + (90 << 20), "{hot} pages, {resident} bytes");
    for _ in 0..50 {
        run(b"");
    }
    run(b"m");
    let (hot, resident) = run(b"m");
    assert!(hot < 500 && resident < before + (4 << 20), "{hot} pages, {resident} bytes of {before}");
    sandbox.verify_reset(&point).expect("all is as it was");
}

#[test]
fn pages_that_were_taken_away_come_back() {
    check_with("mMF", &["", "mMUDf", "wS", "kMk", "tx"], |p| p.evict(Evict { every: 3, seed: 1 }));
}

#[test]
fn on_each_rung_of_the_ladder() {
    for rung in [Rung::Poison, Rung::Decode, Rung::Populate] {
        check_with("mMF", &["", "mMUDf", "wS", "kx"], |program| program.rung(rung));
    }
}

#[test]
fn time_slices_begin_where_they_began() {
    let slice = NonZeroU64::new(2000);
    check_with("mT", &["tmt", "kMk", "", "xx"], |p| p.time_slice(slice.expect("not 0")));
    check_with("T", &["tkt", "kMk"], |program| program.chaos(7));
    // With a timer, all is counted, in copies of the code, of which some is written anew.
    check_with("AJ", &["J", "jJ", "J", "mjJ", "kJ", "J"], |p| p.time_slice(slice.expect("not 0")));
}

/// A snapshot's pages come in once, and stay.
#[test]
fn a_restored_sandbox_is_put_back() {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = guest(dir.path(), "resets.c", &["-lpthread"]);
    let (exits, inputs) = (Exits::default(), ["mMUf", "wWdoS", "kMK", "x", "gzF"]);
    let program = program(&path, "mMFw", &exits);
    let expected: Vec<Run> = inputs.iter().map(|input| alone(&host, &program, &exits, input)).collect();
    let again = program.clone();
    let mut sandbox = program.start(&host).expect("a sandbox");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    let snapshot = dir.path().join("s.dvm");
    sandbox.snapshot(&snapshot, &WriteOptions::default()).expect("a snapshot");
    for prefetch in [false, true] {
        let input = InputBuffer::new();
        let restore = Image::open(&snapshot).expect("an image").restore().show("/guest", dir.path());
        let restore = restore.stdin_from(Input::Buffer(input.clone())).capture_output().prefetch(prefetch);
        let mut sandbox = restore.observe(exits.clone()).start(&host).expect("a sandbox");
        put_back(&mut sandbox, &input, &exits, "restored", &inputs, &expected);
        let plain = [alone(&host, &again, &exits, "mS")];
        put_back(&mut sandbox, &input, &exits, "restored", &["mS"], &plain);
        let pages = sandbox.stats().pages;
        put_back(&mut sandbox, &input, &exits, "restored", &["mS"], &plain);
        assert_eq!(sandbox.stats().pages, pages, "those that came in stay");
    }
}

/// Wherever a run is ended, nothing of it is left.
#[test]
fn a_run_that_was_ended_in_between_is_forgotten() {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = guest(dir.path(), "resets.c", &["-lpthread"]);
    let exits = Exits::default();
    for slice in [None, NonZeroU64::new(3000)] {
        let mut program = program(&path, "mMT", &exits);
        if let Some(slice) = slice {
            program = program.time_slice(slice);
        }
        let expected = [alone(&host, &program, &exits, "mkS")];
        let input = InputBuffer::new();
        let mut sandbox = program.stdin_from(Input::Buffer(input.clone())).start(&host).expect("a sandbox");
        assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
        let mut point = sandbox.reset_point().expect("a moment");
        for n in 0..30 {
            input.set(b"mMkUSkh");
            sandbox.set_deadline(Some(Duration::from_micros(300 + 150 * n)));
            let outcome = sandbox.run_until(PauseAt::Never).expect("a run");
            assert_eq!(outcome, Outcome::Deadline);
            sandbox.set_deadline(None);
            sandbox.reset_to(&mut point).expect("a reset");
            sandbox.verify_reset(&point).unwrap_or_else(|e| panic!("{n}: {e}"));
        }
        sandbox.report(Outcome::Paused);
        put_back(&mut sandbox, &input, &exits, "mMT", &["mkS"], &expected);
    }
}

#[test]
fn what_cannot_be_put_back_says_so() {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut ended = Program::new("true").start(&host).expect("a sandbox");
    ended.run().expect("a run");
    let mut recorded = Program::new("true").record(dir.path().join("r")).start(&host).expect("a sandbox");
    for sandbox in [&mut ended, &mut recorded] {
        assert!(matches!(sandbox.reset_point(), Err(Error::NoReset { .. })));
    }
    assert_eq!(recorded.run().expect("it goes on").outcome, Outcome::Exited(0));
    let mut sandboxes = [0, 1].map(|_| Program::new("cat").start(&host).expect("a sandbox"));
    let mut points = sandboxes.each_mut().map(|sandbox| sandbox.reset_point().expect("a moment"));
    let [first, second] = &mut points;
    assert!(matches!(sandboxes[0].reset_to(second), Err(Error::NoReset { .. })), "another sandbox's");
    sandboxes[0].run().expect("a run");
    sandboxes[0].reset_to(first).expect("its own");
    sandboxes[0].reset_point().expect("a later one");
    assert!(matches!(sandboxes[0].reset_to(first), Err(Error::NoReset { .. })), "not the last one");
    let mut later = sandboxes[0].reset_point().expect("a moment");
    sandboxes[0].machine().ram().log_written(true).expect("a log for somebody else");
    assert!(matches!(sandboxes[0].reset_to(&mut later), Err(Error::NoReset { .. })), "its notes are lost");
    assert_eq!(sandboxes[0].run().expect("it can be used").outcome, Outcome::Exited(0));
}

/// Programs that read their input once they are ready, each with inputs that it does different things for: they write
/// files, fork, have threads, map and unmap, wait for timers, and compute.
const PROGRAMS: [(&str, &[&str], &[&str]); 6] = [
    (
        "sqlite3",
        &["/tmp/x.db"],
        &[
            "create table t(x); insert into t values (1), (2); select sum(x) from t;",
            "select 1 +;",
            "pragma journal_mode = wal; create table u(a, b); insert into u select 1, randomblob(9000);",
            ".tables\n.quit\n",
            "create temp table t as select value as v from json_each('[3,1,2]') order by v; select * from t;",
        ],
    ),
    (
        "sh",
        &[],
        &[
            "echo a | cat",
            "(exit 3) || echo $?",
            "kill -9 $$",
            "sleep 1 & wait; date",
            "cd /tmp; echo x > y; cat y z",
        ],
    ),
    ("python3", &["-S", "-c", THREADS], &["1", "5", "17", "none", ""]),
    ("python3", &["-S", "-c", MAPPINGS], &["1", "100", "3 7 1", "-1", "2 2 2 2 2 2 2 2"]),
    ("perl", &["-e", TIMERS], &["1", "3", "0", "x", ""]),
    (
        "awk",
        &["{ for (i = 0; i < $1 + 0; i++) s = s i; n[$1]++ } END { print length(s), length(n), rand() }"],
        &["1\n", "300\n2\n", "", "1000\n1\n1\n", "one\n"],
    ),
];

const THREADS: &str = "
import sys, threading
lock, done = threading.Lock(), []
def work(n):
    with lock: done.append(n * n)
data = sys.stdin.read()
threads = [threading.Thread(target=work, args=(n,)) for n in range(int(data or 2))]
for t in threads: t.start()
for t in threads: t.join()
print(sorted(done))";

const MAPPINGS: &str = "
import sys, mmap
kept = []
for n in map(int, sys.stdin.read().split()):
    m = mmap.mmap(-1, n * 100000)
    m[5000 * n:5000 * n + 3] = b'abc'
    kept.append(m if n % 2 else m.close())
    kept.append(bytearray(n * 50000))
print(len(kept), kept[0][5000:5003] if kept and kept[0] else None)";

const TIMERS: &str = "
$SIG{ALRM} = sub { print 'late '; die };
my $n = <STDIN> // die 'nothing';
eval { alarm 2; select undef, undef, undef, $n; print 'in time '; alarm 0 };
print time, qq(\\n)";

/// What each does for an input is what it did the first time, and nothing of it is left; with DEJAVM_TEST_FULL=1 over
/// ten thousand inputs each.
#[test]
fn programs_are_what_they_were() {
    let host = Host::probe().expect("KVM");
    let count = if common::full() { 10_000 } else { 20 };
    common::for_each(&PROGRAMS, |(name, words, inputs)| {
        let (exits, input) = (Exits::default(), InputBuffer::new());
        let program = Program::new(common::native(name)).args(*words).observe(exits.clone());
        let program = program.stdin_from(Input::Buffer(input.clone())).capture_output();
        let mut sandbox = program.start(&host).expect("a sandbox");
        assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
        let mut point = sandbox.reset_point().expect("a moment");
        let mut seen: BTreeMap<&str, Run> = BTreeMap::new();
        for n in 0..count {
            // Each behind each other one, in no order.
            let bytes = inputs[(u64::wrapping_mul(n, 0x9e37_79b9_7f4a_7c15) >> 40) as usize % inputs.len()];
            let what = format!("{name}, input {n}: {bytes:?}");
            input.set(bytes.as_bytes());
            exits.take();
            let report = sandbox.run().expect(&what);
            let output = [report.stdout, report.stderr].concat();
            let run = (report.outcome, String::from_utf8_lossy(&output).into_owned(), exits.take());
            assert!(!matches!(run.0, Outcome::Stuck), "{what}: {}", run.1);
            assert!(*seen.entry(bytes).or_insert_with(|| run.clone()) == run, "{what}: {}", run.1);
            sandbox.reset_to(&mut point).expect(&what);
            sandbox.verify_reset(&point).unwrap_or_else(|e| panic!("{what}: {e}"));
        }
        println!("{name}: {} runs, {} pages are copied back", count, point.hot_pages());
        Ok(())
    });
}
