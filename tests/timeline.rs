//! Moving in recordings: whoever comes to a position finds the same there, however he came.

mod common;
#[path = "timeline/walks.rs"]
mod walks;

use std::collections::{BTreeMap, HashMap};
use std::iter;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::tool;
use dejavm::replay::{AccessWatch, Calls, Condition, Position, Stop, Stops, Timeline};
use dejavm::{Evict, Host, Replay};

/// Records a program in `dir`.
fn record(dir: &Path, options: &[&str], program: &[&str]) -> PathBuf {
    let _ = std::fs::remove_dir_all(dir.join("rec"));
    tool(dir, [&["record", "-q", "-o", "rec"], options, &["--"], program].concat());
    dir.join("rec")
}

fn timeline(recording: &Path, evict: Option<Evict>) -> Timeline {
    let host = Host::probe().expect("a host");
    let mut replay = Replay::open(recording).expect("a recording");
    if let Some(evict) = evict {
        replay = replay.evict(evict);
    }
    replay.timeline(&host).expect("a timeline")
}

/// Numbers that follow from a seed (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n.max(1)
    }
}

/// What was found at positions.
#[derive(Default)]
struct Seen(HashMap<Position, u64>);

impl Seen {
    /// Fails if something else was found here before.
    fn look(&mut self, timeline: &mut Timeline, how: &str) {
        let position = timeline.position().expect("a position");
        let digest = timeline.digest().expect("a digest");
        let before = *self.0.entry(position).or_insert(digest);
        assert_eq!(digest, before, "{how} leads to {position} as it was not before");
    }
}

/// What a program did that was stopped is not known behind its last exit, and may be nothing but a loop.
#[test]
fn the_end_of_a_stopped_run_is_its_last_exit() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let recording =
        record(dir.path(), &["--deadline", "500ms"], &["/bin/sh", "-c", "echo a; while :; do :; done"]);
    let mut timeline = timeline(&recording, None);
    let (_, last) = timeline.recording().exit_range().expect("exits");
    assert_eq!(timeline.run(&Stops::default()).expect("a run"), Stop::End);
    assert_eq!(timeline.position().expect("a position"), Position::behind(last));
    assert_eq!(timeline.run(&Stops::default()).expect("a run"), Stop::End);
    assert_eq!(timeline.reverse_step().expect("a step back"), Stop::Arrived);
    assert!(timeline.position().expect("a position") < Position::behind(last));
}

/// A symbol of a program.
fn symbol(program: &Path, name: &str) -> u64 {
    let nm = std::process::Command::new("nm").arg(program).output().expect("nm");
    let text = String::from_utf8(nm.stdout).expect("UTF-8");
    let line = text.lines().find(|line| line.ends_with(&format!(" {name}"))).expect("a symbol");
    u64::from_str_radix(&line[..16], 16).expect("an address")
}

/// A word that is watched.
fn written(at: u64) -> Stops {
    Stops { writes: iter::once(at..at + 8).collect(), ..Stops::default() }
}

/// A run counts nothing; where somebody asks for a position that is far from the exit before, or goes back from there, it
/// is found all the same.
#[test]
fn positions_in_stretches_that_were_only_run_through() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    common::guest(dir.path(), "long.c", &["-static", "-g"]);
    let recording = record(dir.path(), &[], &["./long", "3000000"]);
    let rare = symbol(&dir.path().join("long"), "rare");
    let mut seen = Seen::default();
    for evict in [None, Some(Evict { every: 2, seed: 3 })] {
        let mut timeline = timeline(&recording, evict);
        for write in 1..=5 {
            let stop = timeline.run(&written(rare)).expect("a run");
            assert_eq!(stop, Stop::Written(rare..rare + 8), "{write}");
        }
        let digest = timeline.digest().expect("a digest");
        let here = timeline.position().expect("a position");
        assert!(here.branches > 1000, "{here}");
        assert_eq!(timeline.digest().expect("a digest"), digest, "to ask changes nothing");
        seen.look(&mut timeline, "run");
        timeline.reverse_step().expect("a step back");
        seen.look(&mut timeline, "step back");
        timeline.step().expect("a step");
        seen.look(&mut timeline, "step");
        // Behind the stretch, and back into it.
        timeline.seek(Position::behind(here.exit + 1)).expect("a position");
        timeline.reverse_step().expect("a step back");
        assert_eq!(timeline.exit(), here.exit);
        assert!(timeline.position().expect("a position") > here);
        seen.look(&mut timeline, "back into the stretch");
        timeline.seek(here).expect("a position");
        seen.look(&mut timeline, "seek");
        let stop = timeline.reverse_run(&written(rare)).expect("a run back");
        assert_eq!(stop, Stop::Written(rare..rare + 8));
        seen.look(&mut timeline, "run back");
    }
    assert!(seen.0.len() < 8, "{:?}", seen.0.keys());
}

/// Branches are counted where a stretch is long, and not on from there in one that nobody said is.
#[test]
fn a_stretch_behind_a_long_one_is_counted_from_its_own_exit() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "written.c", &["-static", "-g"]);
    let recording = record(dir.path(), &[], &["./written", "3000000"]);
    let late = symbol(&program, "late_data");
    let write = |timeline: &mut Timeline| {
        assert_eq!(timeline.run(&written(late)).expect("a run"), Stop::Written(late..late + 8));
        timeline.position().expect("a position, in no time")
    };
    let expected = write(&mut timeline(&recording, None));
    let mut timeline = timeline(&recording, None);
    timeline.set_patience(Duration::MAX, 50_000);
    // Who goes there by branches says that it is long.
    let mut is_long = |exit: &u64| timeline.seek(Position { branches: 1, ..Position::behind(*exit) }).is_ok();
    (0..expected.exit).rev().find(&mut is_long).expect("a stretch with a branch");
    // To step all the way takes minutes.
    timeline.stop_handle().set_deadline(Some(Instant::now() + Duration::from_secs(60)));
    assert_eq!(write(&mut timeline), expected);
}

/// What is answered in the guest is answered there in a copy, too, wherever that lies; and what is the program's own is not.
#[test]
fn copies_make_the_same_exits() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "answered.c", &["-static"]);
    let recording = record(dir.path(), &[], &["./answered"]);
    let native = std::process::Command::new(&program).output().expect("it runs");
    assert_eq!(native.stdout, b"3 traps\n");
    assert_eq!(tool(dir.path(), ["replay", "-q", "rec"]).text(), "3 traps\n");
    for stride in [1 << 20, 100] {
        let mut timeline = timeline(&recording, None);
        timeline.set_patience(Duration::ZERO, stride);
        assert_eq!(timeline.run(&Stops::default()).expect("the recorded run"), Stop::End);
    }
}

/// A use of memory is met backwards also where a checkpoint lies right behind it.
#[test]
fn what_a_checkpoint_is_behind_is_met_backwards() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "debugged.c", &["-static", "-g"]);
    let recording = record(dir.path(), &[], &["./debugged", "uses"]);
    // Its `value`.
    let watched = symbol(&program, "watched") + 8;
    let addresses = watched..watched + 8;
    let uses = |writes| Stops {
        accesses: vec![AccessWatch { addresses: addresses.clone(), writes }],
        ..Stops::default()
    };
    for (stops, keeps) in
        [(written(watched), true), (uses(false), true), (uses(true), true), (uses(true), false)]
    {
        let mut timeline = timeline(&recording, None);
        if keeps {
            // At each step that is counted.
            timeline.set_checkpoint_interval(Duration::ZERO);
        }
        let mut met = 0;
        while timeline.run(&stops).expect("a run") != Stop::End {
            timeline.position().expect("a position");
            met += 1;
        }
        assert!(met >= 2, "{met} of {stops:x?}");
        let back = iter::from_fn(|| Some(timeline.reverse_run(&stops).expect("a run back")));
        assert_eq!(back.take_while(|stop| *stop != Stop::Start).count(), met, "{stops:x?}, {keeps}");
    }
}

/// So are system calls and signals, each as often as forwards, and at the same positions.
#[test]
fn calls_and_signals_are_met_backwards() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    common::guest(dir.path(), "debugged.c", &["-static", "-g"]);
    for (part, least) in [("signal", 20), ("fork", 20)] {
        let recording = record(dir.path(), &[], &["./debugged", part]);
        let stops = Stops { calls: Calls::All, signals: (1..=64).collect(), ..Stops::default() };
        for keeps in [true, false] {
            let mut timeline = timeline(&recording, None);
            if keeps {
                timeline.set_checkpoint_interval(Duration::ZERO);
            }
            let place = |timeline: &mut Timeline, stop| (stop, timeline.position().expect("a position"));
            let mut met = Vec::new();
            loop {
                match timeline.run(&stops).expect("a run") {
                    Stop::End => break,
                    stop => met.push(place(&mut timeline, stop)),
                }
            }
            assert!(met.len() >= least, "{met:?}");
            let is_signal = |(stop, _): &(Stop, Position)| matches!(stop, Stop::Signal(10 | 17 | 6));
            assert!(met.iter().any(is_signal), "{met:?}");
            // The end is right before the call that ends it, and one does not go back to where one is.
            let end = timeline.position().expect("a position");
            met.retain(|(_, position)| *position != end);
            let mut back = Vec::new();
            loop {
                match timeline.reverse_run(&stops).expect("a run back") {
                    Stop::Start => break,
                    stop => back.insert(0, place(&mut timeline, stop)),
                }
            }
            assert_eq!(back, met, "{part}, {keeps}");
        }
        std::fs::remove_dir_all(&recording).expect("removed");
    }
}

/// So is what a branch used that was counted: a call and a return, where one stands right behind them.
#[test]
fn what_a_branch_used_is_met_backwards() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "debugged.c", &["-static", "-g"]);
    let recording = record(dir.path(), &[], &["./debugged", "count"]);
    for (patience, knows) in [(Duration::ZERO, true), (Duration::ZERO, false), (Duration::MAX, true)] {
        let mut timeline = timeline(&recording, None);
        timeline.set_patience(patience, 7);
        let count = symbol(&program, "count");
        assert_eq!(timeline.run(&Stops::at([count])).expect("a run"), Stop::Breakpoint(count));
        // Where it returns to is stored by each call, and read by each return.
        let stack = timeline.registers().general.rsp;
        let accesses = vec![AccessWatch { addresses: stack..stack + 8, writes: true }];
        let stops = Stops { accesses, ..Stops::default() };
        let mut places = Vec::new();
        for _ in 0..6 {
            assert!(matches!(timeline.run(&stops).expect("a run"), Stop::Accessed(_)));
            if knows {
                timeline.position().expect("a position");
            }
            places.push(timeline.registers().general.rip);
        }
        // They are met before they are made.
        let mut back = Vec::new();
        for _ in 0..6 {
            assert!(matches!(timeline.reverse_run(&stops).expect("a run back"), Stop::Accessed(_)));
            let before = timeline.registers().general.rip;
            timeline.step().expect("a step");
            back.insert(0, timeline.registers().general.rip);
            timeline.reverse_step().expect("a step back");
            assert_eq!(timeline.registers().general.rip, before);
        }
        assert_eq!(back, places, "{patience:?}, {knows}");
    }
}

/// Where branches are counted, breakpoints are met in the same order backwards as forwards: also those to which a branch
/// leads, and those at which one stands.
#[test]
fn counted_breakpoints_are_met_backwards() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "debugged.c", &["-static", "-g"]);
    let recording = record(dir.path(), &[], &["./debugged", "deep"]);
    let deep = symbol(&program, "deep");
    for patience in [Duration::ZERO, Duration::MAX] {
        let mut timeline = timeline(&recording, None);
        timeline.set_patience(patience, 7);
        let depth = |timeline: &Timeline| timeline.registers().general.rdi;
        let at = |timeline: &mut Timeline| (depth(timeline), timeline.position().expect("a position"));
        let mut near = Stops::at([deep]);
        // RDI is 3, in the words of gdb's agent.
        let condition = Condition::new(&[0x26, 0, 5, 0x22, 3, 0x13, 0x27]).expect("a condition");
        near.conditions.insert(deep, vec![condition]);
        assert_eq!(timeline.run(&near).expect("a run"), Stop::Breakpoint(deep));
        let mut forwards = vec![at(&mut timeline)];
        for _ in 0..3 {
            assert_eq!(timeline.run(&Stops::at([deep])).expect("a run"), Stop::Breakpoint(deep));
            forwards.push(at(&mut timeline));
        }
        for _ in 0..3 {
            timeline.step().expect("a step");
        }
        for here in forwards.iter().rev() {
            assert_eq!(timeline.reverse_run(&Stops::at([deep])).expect("a run back"), Stop::Breakpoint(deep));
            assert_eq!(at(&mut timeline), *here);
        }
        // From where the branch has led.
        timeline.seek(forwards[3].1).expect("a position");
        assert_eq!(timeline.reverse_run(&Stops::at([deep])).expect("a run back"), Stop::Breakpoint(deep));
        assert_eq!(at(&mut timeline), forwards[2]);
    }
}

/// In a stretch without exits one comes everywhere, one step back and one forwards, and back to the last time that
/// memory was changed. With `DEJAVM_TEST_FULL=1`, ten seconds of computing; `--nocapture` shows how long moves take.
#[test]
fn long_stretches_have_positions() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    common::guest(dir.path(), "long.c", &["-static", "-g"]);
    let (rounds, moves) = if common::full() { ("4000000000", 100) } else { ("3000000", 12) };
    let recording = record(dir.path(), &[], &["./long", rounds]);
    let symbol = |name: &str| symbol(&dir.path().join("long"), name);
    let mut timeline = timeline(&recording, None);
    if common::full() {
        // As a debugger has it.
        timeline.set_patience(Duration::from_millis(100), 2_000_000);
    } else {
        timeline.set_patience(Duration::from_millis(1), 50_000);
        timeline.set_checkpoint_interval(Duration::from_millis(5));
    }
    // Into the stretch: the last exits are what is printed, and the end.
    assert_eq!(timeline.run(&Stops::default()).expect("a run"), Stop::End);
    let mut random = Random(0x1234_5678_9abc_def1);
    let rare = symbol("rare");
    let stops = written(rare);
    let began = Instant::now();
    assert_eq!(timeline.reverse_run(&stops).expect("back to the last write"), Stop::Written(rare..rare + 8));
    println!("back to the last write: {:?}", began.elapsed());
    let last = timeline.position().expect("a position");
    assert!(last.branches > 1000, "{last}");
    let value = |timeline: &Timeline| {
        let mut bytes = [0; 8];
        timeline.read_memory(rare, &mut bytes).expect("memory");
        u64::from_le_bytes(bytes)
    };
    let before = value(&timeline);
    timeline.step().expect("a step");
    assert_eq!(value(&timeline), before + 1, "one step is the write");
    let often = symbol("often");
    let stops = written(often);
    for _ in 0..3 {
        let before = timeline.position().expect("a position");
        assert_eq!(timeline.reverse_run(&stops).expect("a round back"), Stop::Written(often..often + 8));
        let now = timeline.position().expect("a position");
        assert!(now < before && before.branches - now.branches < 10, "{now} is a round before {before}");
    }
    let mut times = Vec::new();
    for _ in 0..moves {
        let branches = 1 + random.below(last.branches);
        timeline.seek(Position { branches, steps: 0, ..last }).expect("a position in the stretch");
        for _ in 0..random.below(3) {
            timeline.step().expect("a step");
        }
        let here = (timeline.position().expect("a position"), timeline.digest().expect("a digest"));
        let began = Instant::now();
        timeline.reverse_step().expect("a step back");
        times.push(began.elapsed());
        let before = timeline.position().expect("a position");
        assert!(before < here.0, "{before} is before {}", here.0);
        timeline.step().expect("a step");
        assert_eq!((timeline.position().expect("a position"), timeline.digest().expect("a digest")), here);
        // The same from elsewhere.
        timeline.seek(last).expect("the last write");
        timeline.seek(here.0).expect("a position");
        assert_eq!(timeline.digest().expect("a digest"), here.1, "{} by another way", here.0);
    }
    times.sort();
    println!("a step back: {:?} in the middle, {:?} at most", times[times.len() / 2], times[times.len() - 1]);
}

/// A machine that paused behind each exit is as one that did not: also in what it tells a guest that is not entered
/// again, because another process is.
#[test]
fn pauses_leave_no_trace() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let script =
        "my $p = fork // die; if (!$p) { getppid for 1..99; exit 3 } getppid for 1..99; wait; print $?";
    let recording = record(dir.path(), &[], &["perl", "-e", script]);
    let digests = |mut timeline: Timeline, exits: &mut dyn Iterator<Item = u64>| -> BTreeMap<u64, u64> {
        let look = |exit| {
            timeline.seek(Position::behind(exit)).expect("a position");
            (exit, timeline.digest().expect("a digest"))
        };
        exits.map(look).collect()
    };
    let mut pausing = timeline(&recording, None);
    let first = pausing.exit() + 1;
    pausing.seek_end().expect("an end");
    let last = pausing.exit();
    let pausing = timeline(&recording, None);
    let each = digests(pausing, &mut (first..last));
    let mut few = (first..last).rev().step_by(7);
    for (exit, digest) in digests(timeline(&recording, None), &mut few) {
        assert_eq!(digest, each[&exit], "behind exit {exit}");
    }
}

/// A search for changes alone goes past what did not write to their pages; one that looks for something else, too, goes
/// through all of it. They find the same.
#[test]
fn what_is_gone_past_has_no_changes() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "written.c", &["-static", "-g"]);
    let recording = record(dir.path(), &[], &["./written", "3000000"]);
    let symbol = |name: &str| symbol(&program, name);
    let (never, pages) = (symbol("never"), symbol("pages"));
    let evict = Evict { every: 2, seed: 1 };
    for evict in [None, Some(evict)] {
        let mut timeline = timeline(&recording, evict);
        timeline.set_patience(Duration::from_millis(1), 50_000);
        timeline.set_checkpoint_interval(Duration::from_millis(1));
        // Each with the number of its changes in the long stretch.
        for (name, at, changes) in [
            ("toggled", symbol("toggled"), 4),
            ("same", symbol("same"), 0),
            ("late_data", symbol("late_data"), 1),
            ("late_zeros", symbol("late_zeros"), 1),
            ("never_written", symbol("never_written"), 0),
            ("pages", pages + 4090, 1),
            ("beside", symbol("beside"), 1),
            ("shared", 0x1000_0000, 1),
            ("private", 0x1002_0000, 2),
        ] {
            if evict.is_some() && !["toggled", "late_data", "private"].contains(&name) {
                continue;
            }
            let places = |timeline: &mut Timeline, stops: &Stops| -> Vec<(Stop, Position)> {
                timeline.seek_end().expect("the end");
                let mut places = Vec::new();
                loop {
                    let stop = timeline.reverse_run(stops).expect("a run back");
                    let position = timeline.position().expect("a position");
                    // Before the stretch, exits change memory, too.
                    if stop == Stop::Start || position.branches < 100 {
                        return places;
                    }
                    places.push((stop, position));
                }
            };
            let past = places(&mut timeline, &written(at));
            let through = Stops { breakpoints: [never].into(), ..written(at) };
            assert_eq!(past, places(&mut timeline, &through), "{name}");
            assert_eq!(past.len(), changes, "{name}: {past:?}");
        }
    }
}

/// The run is the same with checkpoints; each of them is where the run was; and those that cannot be used are not.
#[test]
fn checkpoints_of_the_recorder_are_moments_of_the_run() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let words: &[&str] =
        &["python3", "-S", "-c", "import os\nfor i in range(1200): os.getppid()\nprint(len(os.environ))"];
    let plain = record(dir.path(), &[], words);
    let digest = |recording: &Path| {
        dejavm::replay::Recording::open(recording).and_then(|recording| recording.digest()).expect("a digest")
    };
    let same_run = digest(&plain);
    let recording = record(dir.path(), &["--checkpoints", "1ms"], words);
    assert_eq!(digest(&recording), same_run, "a run with checkpoints is the same");
    let kept =
        dejavm::replay::Recording::open(&recording).expect("a recording").manifest().checkpoints.clone();
    assert_eq!(kept.len(), 16);
    let files = std::fs::read_dir(&recording).expect("a directory").count();
    assert_eq!(files, 16 + 3, "those that were thinned out are gone");
    // Where they are, and at the end, it is as without.
    let mut with = timeline(&recording, None);
    assert_eq!(with.checkpoints().0, 17);
    let places: Vec<Position> = kept.iter().map(|kept| Position::behind(kept.exit + 1)).collect();
    let looks = |timeline: &mut Timeline| -> Vec<u64> {
        let mut digests: Vec<u64> = Vec::new();
        for place in &places {
            timeline.seek(*place).expect("a position");
            digests.push(timeline.digest().expect("a digest"));
        }
        timeline.seek_end().expect("an end");
        digests.push(timeline.digest().expect("a digest"));
        digests
    };
    let found = looks(&mut with);
    // One is damaged, one is another's, and one is not there.
    let path = |at: usize| recording.join(&kept[at].snapshot.file);
    std::fs::write(path(0), "not a snapshot").expect("a file is written");
    std::fs::copy(path(3), path(2)).expect("a file is copied");
    std::fs::remove_file(path(5)).expect("a file is removed");
    let mut without = timeline(&recording, None);
    assert_eq!(without.checkpoints().0, 14);
    assert_eq!(looks(&mut without), found);
    for checkpoint in kept {
        let _ = std::fs::remove_file(recording.join(checkpoint.snapshot.file));
    }
    let mut without = timeline(&recording, None);
    assert_eq!(without.checkpoints().0, 1);
    assert_eq!(looks(&mut without), found);
}
