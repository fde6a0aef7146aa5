//! Random walks in recordings: every position that is reached twice is the same, however it was reached.

use std::path::Path;
use std::time::Duration;

use dejavm::Evict;
use dejavm::replay::{AccessWatch, Calls, Position, Stop, Stops, TimelineError};

use crate::{Random, Seen, common, record, timeline};

/// Moves about at random.
fn walk(recording: &Path, evict: Option<Evict>, seed: u64, moves: u64, seen: &mut Seen) {
    let mut timeline = timeline(recording, evict);
    if seed % 3 == 2 {
        // At each stop.
        timeline.set_checkpoint_interval(Duration::ZERO);
    }
    if seed % 3 == 1 {
        // Branches are counted everywhere.
        timeline.set_patience(Duration::ZERO, 20);
    }
    if seed.is_multiple_of(3) {
        // Any stretch may turn out to be long, when half of it is done.
        timeline.set_patience(Duration::from_nanos(1), 20);
    }
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    timeline.seek_end().expect("an end");
    let last = timeline.exit();
    let (mut addresses, mut stacks) = (Vec::new(), Vec::new());
    for n in 0..moves {
        let mut pick = |n: usize| -> Vec<u64> {
            (0..n)
                .filter_map(|_| addresses.get(random.below(addresses.len() as u64) as usize))
                .copied()
                .collect()
        };
        let breakpoints = pick(2);
        // What is near the stack's top is written often.
        let near = stacks.get(random.below(stacks.len() as u64) as usize).map(|rsp: &u64| rsp - 8..rsp + 8);
        let writes = near.into_iter().filter(|_| random.below(2) == 0).collect();
        let used = stacks.get(random.below(stacks.len() as u64) as usize).map(|rsp: &u64| rsp - 8..rsp + 8);
        let watch = |addresses| AccessWatch { addresses, writes: seed.is_multiple_of(2) };
        let accesses = used.into_iter().filter(|_| random.below(3) == 0).map(watch).collect();
        let calls = match random.below(6) {
            0 => Calls::All,
            1 => Calls::These([0, 1, 9].into()),
            _ => Calls::None,
        };
        let signals = (1..=64).filter(|_| random.below(128) < 43).collect();
        let stops = Stops { writes, accesses, calls, signals, ..Stops::at(breakpoints) };
        let how = match random.below(7) {
            0 | 1 => {
                let exit = random.below(last + 1);
                let steps = random.below(40);
                match timeline.seek(Position::stepped(exit, steps)) {
                    Ok(()) | Err(TimelineError::NoSuchPosition { .. }) => {}
                    Err(e) => panic!("move {n} of seed {seed}: seek {exit}+{steps}: {e}"),
                }
                format!("seek {exit}+{steps}")
            }
            2 => {
                for _ in 0..random.below(5) {
                    timeline.step().expect("a step");
                }
                "step".into()
            }
            3 | 4 => {
                for _ in 0..random.below(5) {
                    timeline.reverse_step().expect("a step back");
                }
                "reverse step".into()
            }
            5 => format!("run to {stops:x?}: {:?}", timeline.run(&stops).expect("a run")),
            _ => {
                let stop = timeline.reverse_run(&stops).expect("a run back");
                if let Stop::Breakpoint(address) = stop {
                    assert_eq!(timeline.registers().general.rip, address);
                }
                format!("run back to {stops:x?}: {stop:?}")
            }
        };
        addresses.push(timeline.registers().general.rip);
        stacks.push(timeline.registers().general.rsp);
        seen.look(&mut timeline, &format!("move {n} of seed {seed}: {how}"));
    }
}

/// Runs to move in: a name, a source in `tests/guests` if it is not installed, and the words.
const RUNS: [(&str, Option<&str>, &[&str]); 13] = [
    ("pipeline", None, &["/bin/sh", "-c", "echo a | cat; (exit 3); echo $?"]),
    ("crash", Some("debugged.c"), &["./debugged", "heap"]),
    ("threads", Some("races.c"), &["./races", "none"]),
    ("signals", None, &["/bin/sh", "-c", "trap 'echo caught' USR1; kill -USR1 $$; kill -TERM $$"]),
    (
        "files",
        None,
        &["/bin/sh", "-c", "printf 'b\\na\\n' > /tmp/x; sort /tmp/x -o /tmp/y; cat /tmp/y; rm /tmp/x"],
    ),
    ("perl", None, &["perl", "-e", "my $p = fork // die; exit 3 if !$p; wait; print $? >> 8, qq(\\n)"]),
    ("awk", None, &["awk", "BEGIN { for (i = 0; i < 20; i++) s = s i; print s }"]),
    ("gzip", None, &["/bin/sh", "-c", "echo text | gzip | gunzip"]),
    ("time", None, &["timeout", "1", "sleep", "5"]),
    (
        "sqlite",
        None,
        &["sqlite3", ":memory:", "create table t(x); insert into t values (1),(2); select sum(x) from t"],
    ),
    ("python", None, &["python3", "-S", "-c", "print(sum(range(100)))"]),
    ("exec", None, &["env", "A=1", "/bin/sh", "-c", "exec env -u A true"]),
    ("stuck", Some("locked.c"), &["./locked", "100"]),
];

/// A sample of them, or, with DEJAVM_TEST_FULL=1, a thousand walks in all.
#[test]
fn a_position_is_the_same_however_it_was_reached() {
    common::require_kvm();
    let (runs, walks, moves) = if common::full() { (RUNS.len(), 84, 20) } else { (2, 3, 20) };
    common::for_each(&RUNS[..runs], |(name, source, words)| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        match source {
            Some(source) => drop(common::guest(dir.path(), source, &["-pthread", "-g"])),
            None => drop(common::native(words[0].trim_start_matches("/bin/"))),
        }
        let recording = record(dir.path(), &[], words);
        let mut seen = Seen::default();
        for seed in 0..walks {
            let evict = (seed % 2 == 1).then_some(Evict { every: 2, seed });
            walk(&recording, evict, seed, moves, &mut seen);
        }
        println!("{name}: {} positions", seen.0.len());
        Ok(())
    });
}
