//! Moving in recordings: whoever comes to a position finds the same there, however he came.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use common::tool;
use dejavm::replay::{Position, Stop, Stops, Timeline, TimelineError};
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

/// Moves about at random.
fn walk(recording: &Path, evict: Option<Evict>, seed: u64, moves: u64) {
    let mut timeline = timeline(recording, evict);
    let mut random = Random(seed | 1);
    let mut seen = Seen::default();
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
        let stops = Stops { writes, ..Stops::at(breakpoints) };
        let how = match random.below(7) {
            0 | 1 => {
                let exit = random.below(last + 1);
                let steps = random.below(40);
                match timeline.seek(Position { exit, steps }) {
                    Ok(()) | Err(TimelineError::NoSuchPosition { .. }) => {}
                    Err(e) => panic!("seek {exit}+{steps}: {e}"),
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

#[test]
fn a_position_is_the_same_however_it_was_reached() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let recording = record(dir.path(), &[], &["/bin/sh", "-c", "echo a | cat; (exit 3); echo $?"]);
    for seed in 1..=3 {
        walk(&recording, None, seed, 40);
        walk(&recording, Some(Evict { every: 2, seed }), seed, 40);
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
