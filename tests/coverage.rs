//! Which ways a program's control flow takes is counted, exactly, and nothing else changes.

mod common;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::observer::Exits;
use common::{guest, require_kvm};
use dejavm::{Edge, Host, Input, InputBuffer, Modules, Outcome, PauseAt, Program, Sandbox, Way};
use tempfile::TempDir;

/// Counts by what they are of, without those that are 0.
type Counts = BTreeMap<Edge, u8>;

fn program(path: &Path) -> Program {
    Program::new(Path::new("/guest").join(path.file_name().expect("a name")))
        .show("/guest", path.parent().expect("a directory"))
        .memory(256 << 20)
        .deadline(Duration::from_secs(60))
        .capture_output()
}

/// A host, and the guest in a directory.
fn built() -> (Host, TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = guest(dir.path(), "coverage.c", &["-lpthread"]);
    (Host::probe().expect("KVM"), dir, path)
}

/// What was counted since the last call.
fn take(sandbox: &mut Sandbox) -> Counts {
    let mut counts = Vec::new();
    sandbox.take_counts(&mut counts);
    sandbox.edges().into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
}

/// A sandbox at its first read, in which ways are counted from there on.
fn covered(host: &Host, program: Program, modules: Modules) -> Sandbox {
    let mut sandbox = program.start(host).expect("a sandbox");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    sandbox.cover(modules).expect("counts");
    sandbox
}

/// What one input brings.
fn alone(host: &Host, program: &Program, modules: Modules, input: &[u8]) -> Counts {
    let mut sandbox = covered(host, program.clone().stdin(input), modules);
    assert_eq!(sandbox.run().expect("a run").outcome, Outcome::Exited(0));
    take(&mut sandbox)
}

/// Ways that were not gone as often in both.
fn differing(one: &Counts, other: &Counts) -> Vec<(Way, u8, u8)> {
    let count = |counts: &Counts, edge: &Edge| counts.get(edge).copied().unwrap_or(0);
    let mut all: Vec<&Edge> = one.keys().chain(other.keys()).collect();
    all.sort();
    all.dedup();
    all.into_iter()
        .map(|edge| (edge.way, count(one, edge), count(other, edge)))
        .filter(|(_, one, other)| one != other)
        .collect()
}

#[test]
fn each_way_is_counted() {
    let (host, _dir, path) = built();
    let program = program(&path);
    let of = |input: &[u8]| alone(&host, &program, Modules::default(), input);

    let few = of(&[5, 0, 0, 0]);
    assert!(few.keys().all(|edge| &*edge.file == "/guest/coverage"), "{few:?}");
    assert_eq!(differing(&few, &of(&[5, 0, 0, 0])), []);
    assert_eq!(differing(&few, &of(&[201, 0, 0, 0])), [(Way::Taken, 4, 200)]);
    assert_eq!(differing(&few, &of(&[0, 0, 0, 0])), [(Way::Taken, 4, 255)], "counts end at 255");
    let functions = differing(&few, &of(&[5, 0, 1, 0]));
    let mut functions: Vec<_> = functions.into_iter().filter(|(way, ..)| *way == Way::Entered).collect();
    functions.sort_by_key(|(_, one, _)| *one);
    assert_eq!(functions, [(Way::Entered, 0, 1), (Way::Entered, 1, 0)], "another function was called");
    let word = differing(&few, &of(&[5, b'w', 0, 0]));
    assert!(word.iter().any(|(way, ..)| *way != Way::Entered), "a condition came out otherwise: {word:?}");

    let threads = of(&[5, 0, 0, b't']);
    assert!(differing(&few, &threads).contains(&(Way::Taken, 4, 16)), "each thread's rounds count");
    let processes = of(&[5, 0, 0, b'p']);
    assert!(differing(&few, &processes).contains(&(Way::Taken, 4, 16)), "each process's rounds count");

    let all = alone(&host, &program, Modules::All, &[5, 0, 0, 0]);
    assert!(
        all.keys().any(|edge| edge.file.contains("libc.so")),
        "the C library's count too, if they are asked for"
    );
    let own: Counts = all.into_iter().filter(|(edge, _)| &*edge.file == "/guest/coverage").collect();
    assert_eq!(differing(&few, &own), []);
    let named = alone(&host, &program, Modules::Named(vec!["nothing.so".into()]), &[5, 0, 0, 0]);
    assert_eq!(named, Counts::new());
}

#[test]
fn resets_leave_no_trace_in_the_counts() {
    let (host, _dir, path) = built();
    let inputs: [&[u8]; 6] =
        [&[5, 0, 0, 0], &[9, b'w', 1, 0], &[3, 0, 2, b't'], &[200, 0, 0, b'p'], &[1, 0, 0, 0], &[]];
    for slice in [None, NonZeroU64::new(50)] {
        let program = match slice {
            Some(branches) => program(&path).time_slice(branches),
            None => program(&path),
        };
        let input = InputBuffer::new();
        let reused = program.clone().stdin_from(Input::Buffer(input.clone()));
        let mut sandbox = covered(&host, reused, Modules::Own);
        let mut ready = sandbox.reset_point().expect("a mark");
        for (number, bytes) in inputs.iter().chain(&inputs).enumerate() {
            input.set(bytes);
            sandbox.run_until(PauseAt::Never).expect("a run");
            let reused = take(&mut sandbox);
            sandbox.reset_to(&mut ready).expect("a reset");
            sandbox.verify_reset(&ready).expect("everything is what it was");
            if number == 5 {
                sandbox.cover(Modules::Named(vec!["nothing.so".into()])).expect("no counts");
                sandbox.cover(Modules::Own).expect("the same counts, anew");
                assert_eq!(take(&mut sandbox), Counts::new());
            }
            let mut anew = covered(&host, program.clone().stdin(*bytes), Modules::Own);
            anew.run().expect("a run");
            assert_eq!(reused, take(&mut anew), "input {number}, slices {slice:?}");
        }
    }
}

#[test]
fn a_program_that_is_stopped_anywhere_counts_the_same() {
    let (host, _dir, path) = built();
    let program = program(&path);
    let input = [200, 0, 1, b'l'];
    let at_once = alone(&host, &program, Modules::All, &input);
    let mut sandbox = covered(&host, program.stdin(input.as_slice()), Modules::All);
    let (mut sum, mut stops) = (BTreeMap::new(), 0);
    loop {
        sandbox.set_deadline(Some(Duration::from_micros(300)));
        let outcome = sandbox.run_until(PauseAt::Never).expect("a run");
        for (edge, count) in take(&mut sandbox) {
            *sum.entry(edge).or_insert(0u32) += u32::from(count);
        }
        match outcome {
            Outcome::Deadline => stops += 1,
            outcome => {
                assert_eq!(outcome, Outcome::Exited(0));
                break;
            }
        }
    }
    assert!(stops > 20, "{stops}");
    for (edge, count) in &at_once {
        let sum = sum.get(edge).copied().unwrap_or(0);
        // What came to the limit between two stops is not known.
        assert!(
            sum == u32::from(*count) || *count == 255 && sum >= 255,
            "{edge:?}: {count} at once, {sum} in parts"
        );
    }
    assert_eq!(sum.len(), at_once.len());
}

#[test]
fn who_waits_in_a_loop_lets_others_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = guest(dir.path(), "spinning.c", &["-pthread", "-mrdpid"]);
    let host = Host::probe().expect("KVM");
    let run = |part: &str| {
        let mut sandbox = program(&path).arg(part).start(&host).expect("a sandbox");
        sandbox.cover(Modules::Own).expect("counts");
        let report = sandbox.run().expect("a run");
        assert!(report.stdout.ends_with(b"to the end\n"), "{part}: {report:?}");
        take(&mut sandbox)
    };
    for part in ["circle", "lock"] {
        assert_eq!(run(part), run(part), "{part}");
    }
}

#[test]
fn nothing_changes_for_the_program() {
    require_kvm();
    let host = Host::probe().expect("KVM");
    let programs: [(&str, &[&str], &str); 4] = [
        ("jq", &["-c", ".a | map(. + 1)"], "{\"a\": [1, 2, 3]}"),
        ("sed", &["s/\\(a*\\)b/<\\1>/g"], "aab ab b\n"),
        ("sh", &["-c", "read line; for i in 1 2 3; do (echo $i $line) | cat; done"], "words\n"),
        ("perl", &["-ne", "print scalar reverse, join ',', sort split //"], "a line\n"),
    ];
    for (name, args, input) in programs {
        let run = |cover: bool| {
            let exits = Exits::default();
            let program = Program::new(name).args(args).stdin(input).memory(256 << 20).capture_output();
            let mut sandbox = program.observe(exits.clone()).start(&host).expect("a sandbox");
            if cover {
                sandbox.cover(Modules::All).expect("counts");
            }
            let report = sandbox.run().expect("a run");
            let exits = exits.take();
            (report.outcome, report.stdout, exits, take(&mut sandbox).len())
        };
        let (plain, covered) = (run(false), run(true));
        assert_eq!(plain.0, Outcome::Exited(0), "{name}");
        assert_eq!((plain.0, plain.1), (covered.0, covered.1), "{name}");
        assert_eq!(plain.2, covered.2, "{name}: its exits");
        assert!(plain.3 == 0 && covered.3 > 1000, "{name}: {} ways", covered.3);
    }
}
