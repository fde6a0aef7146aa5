//! Traces for Perfetto against what `dejavm log` says of the same recording. With DEJAVM_TEST_FULL=1 they are read by
//! Perfetto's own definitions, else by a list of those that are used.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Input, finish, tool};
use serde_json::Value;

/// Python with the `perfetto` package.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-python/bin/python");
    let mut imports = Command::new(&python);
    imports.args(["-c", "import perfetto.protos.perfetto.trace.perfetto_trace_pb2"]);
    let there = imports.status().is_ok_and(|status| status.success());
    assert!(
        there,
        "there is no perfetto in {}; scripts/install-test-programs --all puts it there",
        python.display()
    );
    python
}

/// What is in a trace.
fn read(trace: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trace/read.py");
    let mut command = match common::full() {
        true => Command::new(python()),
        false => Command::new(common::native("python3")),
    };
    command.arg(script).args(common::full().then_some("--definitions"));
    let read = finish(&mut command, Input::File(trace)).text();
    serde_json::from_str(&read).expect("JSON")
}

/// How often something happened in each task.
type Counts = BTreeMap<u64, u64>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    calls: Counts,
    faults: Counts,
    exceptions: Counts,
    /// The tasks whose turn it was.
    turns: Vec<u64>,
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// What the log has.
fn of_log(dir: &Path) -> Seen {
    let mut seen = Seen::default();
    let mut faults = 0;
    for line in tool(dir, ["log", "rec", "--json", "--raw", "--faults"]).text().lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        if record["type"] == "fault" {
            faults += 1;
            continue;
        }
        let task = number(&record["task"]);
        match record["kind"].as_str() {
            Some("syscall") => *seen.calls.entry(task).or_default() += 1,
            Some("exception") => *seen.exceptions.entry(task).or_default() += 1,
            _ => {}
        }
        if faults > 0 {
            *seen.faults.entry(task).or_default() += std::mem::take(&mut faults);
        }
        if seen.turns.last() != Some(&task) {
            seen.turns.push(task);
        }
    }
    // Behind the last exit, they are the last task's.
    if let (1.., Some(last)) = (faults, seen.turns.last()) {
        *seen.faults.entry(*last).or_default() += faults;
    }
    seen
}

/// Everything that is on the tracks of tasks: number of the task, and what happened.
fn happened<'a>(trace: &'a Value, track: &'a str) -> impl Iterator<Item = (u64, &'a Value)> {
    let tasks = trace["tasks"].as_array().expect("tasks").iter();
    tasks.flat_map(move |task| {
        task[track].as_array().expect("a track").iter().map(|what| (number(&task["tid"]), what))
    })
}

/// What the trace has.
fn of_trace(trace: &Value) -> Seen {
    let mut seen = Seen::default();
    for (task, what) in happened(trace, "calls") {
        match what[0].as_str() {
            Some("syscall") if what[4].get("unfinished").is_none() => {
                *seen.calls.entry(task).or_default() += 1
            }
            Some("exception") => *seen.exceptions.entry(task).or_default() += 1,
            _ => {}
        }
    }
    let mut running = Vec::new();
    for (task, what) in happened(trace, "state") {
        match what[0].as_str() {
            Some("fault") => *seen.faults.entry(task).or_default() += 1,
            Some("running") => running.push((number(&what[2]), number(&what[3]), task)),
            _ => {}
        }
    }
    running.sort();
    seen.turns = running.into_iter().map(|(_, _, task)| task).collect();
    seen.turns.dedup();
    seen
}

/// Records a program, and reads the trace, which has what the log has.
fn traced(dir: &Path, status: i32, program: &[&str]) -> Value {
    let done = tool(dir, [&["record", "-q", "-o", "rec", "--"], program].concat());
    assert_eq!(done.status, status, "{done:?}");
    let done = tool(dir, ["trace", "rec", "-o", "trace"]);
    assert_eq!((done.text().as_str(), done.stderr.as_slice()), ("", &b""[..]));
    let trace = read(&dir.join("trace"));
    assert_eq!(trace["wrong"], Value::Array(Vec::new()));
    let (log, seen) = (of_log(dir), of_trace(&trace));
    assert_eq!(seen.calls, log.calls);
    assert_eq!(seen.exceptions, log.exceptions);
    assert_eq!(seen.faults, log.faults);
    assert_eq!(seen.turns, log.turns, "whose turn it was");
    // Tasks run one at a time.
    let mut spans: Vec<_> = happened(&trace, "state")
        .filter(|(_, what)| what[0] == "running")
        .map(|(task, what)| (number(&what[2]), number(&what[3]), task))
        .collect();
    spans.sort();
    for pair in spans.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{pair:?} are at once");
    }
    trace
}

/// The first of a kind and name on the tracks of tasks.
fn find<'a>(trace: &'a Value, track: &'a str, category: &str, name: &str) -> (u64, &'a Value) {
    happened(trace, track)
        .find(|(_, what)| what[0] == category && what[1] == name)
        .unwrap_or_else(|| panic!("there is no {category} {name}"))
}

#[test]
fn a_pipeline_is_traced() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let script = r#"echo three "short" words | tr a-z A-Z | wc -w; sleep 1"#;
    let trace = traced(dir.path(), 0, &["sh", "-c", script]);
    let commands: Vec<_> = trace["processes"].as_array().expect("processes").iter().collect();
    let of = |name: &str| commands.iter().find(|process| process["command"][0] == name).expect("a process");
    assert_eq!(of("tr")["command"], serde_json::json!(["tr", "a-z", "A-Z"]));
    assert_eq!((&of("sh")["pid"], &of("sh")["command"][2]), (&2.into(), &script.into()));
    // Arguments and results, in words.
    let calls = || happened(&trace, "calls").filter(|(_, what)| what[0] == "syscall");
    let written = calls().find(|(_, what)| what[1] == "write" && what[4]["argument 2"] == r#""3\n""#);
    let (task, written) = written.expect("what wc writes");
    assert_eq!((number(&of("wc")["pid"]), &written[4]["result"]), (task, &Value::from("2")));
    assert_eq!(written[4]["argument 3"], "2");
    // The second in which nothing happens is slept by one and waited for by the other.
    let slept = |what: &&Value| number(&what[3]) - number(&what[2]) >= 1_000_000_000;
    let waiting = happened(&trace, "state").filter(|(_, what)| what[0] == "waiting" && slept(what));
    let waiting: BTreeMap<_, _> =
        waiting.map(|(task, what)| (task, what[1].as_str().expect("a name"))).collect();
    assert_eq!(waiting.get(&2), Some(&"wait4"), "{waiting:?}");
    assert_eq!(waiting.get(&number(&of("sleep")["pid"])), Some(&"clock_nanosleep"), "{waiting:?}");
    // What a process holds, until it holds nothing.
    for process in &commands {
        let counter = |name: &str| process["counters"][name].as_array().expect("a counter");
        let values = |name: &str| counter(name).iter().map(|count| number(&count[1])).collect::<Vec<_>>();
        assert!(values("mapped memory").iter().max() > Some(&(1 << 20)), "{process}");
        assert!(values("open descriptors").iter().max() >= Some(&3), "{process}");
        assert_eq!((values("mapped memory").last(), values("open descriptors").last()), (Some(&0), Some(&0)));
    }
    let (task, signal) = find(&trace, "calls", "end", "end");
    assert_eq!((task, &signal[4]["what"]), (2, &Value::from("+++ exited with 0 +++")));
}

#[test]
fn threads_are_traced() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let script = "import threading, os, signal\n\
                  signal.signal(signal.SIGUSR1, lambda *_: None)\n\
                  lock = threading.Lock(); lock.acquire()\n\
                  threads = [threading.Thread(target=lambda: lock.acquire() and lock.release()) for _ in range(4)]\n\
                  [thread.start() for thread in threads]\n\
                  os.kill(os.getpid(), signal.SIGUSR1)\n\
                  lock.release()\n\
                  [thread.join() for thread in threads]";
    let trace = traced(dir.path(), 0, &["python3", "-c", script]);
    assert_eq!(trace["processes"].as_array().map(Vec::len), Some(1));
    let tasks = trace["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), 5);
    assert!(tasks.iter().all(|task| task["pid"] == 2 && task["name"] == "python3"), "{tasks:?}");
    let waits = happened(&trace, "state").filter(|(_, what)| what[0] == "waiting" && what[1] == "futex");
    assert!(waits.filter(|(task, _)| *task != 2).count() >= 4, "all wait for the lock");
    let (_, signal) = find(&trace, "calls", "signal", "SIGUSR1");
    assert!(number(&signal[4]["handler"]) > 0, "{signal}");
}

#[test]
fn a_crash_is_traced() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    common::guest(dir.path(), "debugged.c", &[]);
    let trace = traced(dir.path(), 128 + 11, &["./debugged", "heap"]);
    // To standard output, too, and the same each time.
    let piped = tool(dir.path(), ["trace", "rec", "-o", "-"]);
    let written = std::fs::read(dir.path().join("trace")).expect("a trace");
    assert!(piped.status == 0 && piped.stdout == written);
    let (task, exception) = find(&trace, "calls", "exception", "#PF");
    let (died, signal) = find(&trace, "calls", "signal", "SIGSEGV");
    assert_eq!((task, died, &signal[4]["effect"]), (2, 2, &Value::from("ends the process")));
    assert!(number(&exception[2]) <= number(&signal[2]));
    assert_eq!(find(&trace, "calls", "end", "end").1[4]["what"], "+++ killed by SIGSEGV +++");
}

/// Without a replay there is what the log has, and standard error says why.
#[test]
fn what_cannot_be_replayed_is_traced_from_the_log() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let done = tool(dir, ["record", "-q", "-o", "rec", "--", "sh", "-c", "(echo one; exit 3); sleep inf"]);
    assert_eq!(done.status, 123, "{done:?}");
    tool(dir, ["trace", "rec", "-o", "trace"]).text();
    let whole = read(&dir.join("trace"));
    let unfinished = |what: &&Value| what[4].get("unfinished").is_some();
    let unfinished: Vec<_> = happened(&whole, "calls").map(|(_, what)| what).filter(unfinished).collect();
    assert!(unfinished.iter().any(|what| what[1] == "wait4"), "{unfinished:?}");
    std::fs::rename(dir.join("rec/start.dvm"), dir.join("rec/elsewhere.dvm")).expect("renamed");
    let done = tool(dir, ["trace", "rec", "-o", "short"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status == 0 && said.contains("only what the log has is traced"), "{done:?}");
    let short = read(&dir.join("short"));
    assert_eq!(short["wrong"], Value::Array(Vec::new()));
    let (short, log) = (of_trace(&short), of_log(dir));
    assert_eq!(short, log);
    assert_eq!(of_trace(&whole), log);
}

#[test]
fn no_trace_is_left_of_what_failed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    tool(dir, ["record", "-q", "-o", "rec", "--", "true"]).text();
    let done = tool(dir, ["trace", "rec", "-o", "no/such/directory"]);
    assert_eq!(done.status, 125, "{done:?}");
    let done = tool(dir, ["trace", "nothing", "-o", "trace"]);
    assert_eq!((done.status, dir.join("trace").exists()), (125, false), "{done:?}");
    let full = tool(dir, ["trace", "rec", "-o", "/dev/full"]);
    assert!(full.status == 125 && String::from_utf8_lossy(&full.stderr).contains("/dev/full"), "{full:?}");
    assert_eq!(std::fs::read_dir(dir).expect("a directory").count(), 1, "the recording alone");
}
