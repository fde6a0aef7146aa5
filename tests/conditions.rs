//! Breakpoints with conditions, forwards and backwards: they stop where they hold and nowhere else, at the same
//! positions as those without, and a run in which none holds is the recorded one.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::tool;
use dejavm::replay::{Condition, Position, Stop, Stops, Timeline, TimelineError};
use dejavm::{Evict, Host, Replay};

/// Opcodes of gdb's agent.
const REF64: u8 = 0x1a;
const CONST32: u8 = 0x24;
const EQUAL: u8 = 0x13;
const REG: u8 = 0x26;
const END: u8 = 0x27;
/// gdb's number of RDI, which has the number of the round.
const RDI: u8 = 5;

/// The sites in `conditions.c`, each another kind of instruction.
const SITES: [&str; 9] = [
    "site_push",
    "site_mov",
    "site_load",
    "site_rip",
    "site_add",
    "site_cmp",
    "site_jump",
    "site_call",
    "site_ret",
];

/// `rdi == number`.
fn is_round(number: u32) -> Condition {
    let code = [&[REG, 0, RDI, CONST32][..], &number.to_be_bytes(), &[EQUAL, END]].concat();
    Condition::new(&code).expect("a condition")
}

/// `*(long *) address == number`.
fn word_is(address: u64, number: u32) -> Condition {
    let address = u32::try_from(address).expect("an address of a static program");
    let code =
        [&[CONST32][..], &address.to_be_bytes(), &[REF64, CONST32], &number.to_be_bytes(), &[EQUAL, END]];
    Condition::new(&code.concat()).expect("a condition")
}

struct Recorded {
    dir: Rc<tempfile::TempDir>,
    symbols: BTreeMap<String, u64>,
    /// Whether branches are counted everywhere, so that the program runs in copies.
    counted: bool,
}

impl Recorded {
    fn new(part: &str, rounds: u32) -> Recorded {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let program = common::guest(dir.path(), "conditions.c", &["-static", "-pthread"]);
        let rounds = rounds.to_string();
        tool(dir.path(), ["record", "-q", "-o", "rec", "--", "./conditions", part, &rounds]);
        Recorded { symbols: symbols(&program), dir: Rc::new(dir), counted: false }
    }

    /// For timelines that count branches everywhere, and for such that count none.
    fn both(part: &str, rounds: u32) -> [Recorded; 2] {
        let Recorded { dir, symbols, .. } = Recorded::new(part, rounds);
        [true, false].map(|counted| Recorded { dir: dir.clone(), symbols: symbols.clone(), counted })
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("rec")
    }

    fn timeline(&self, evict: Option<Evict>) -> Timeline {
        let host = Host::probe().expect("a host");
        let mut replay = Replay::open(self.path()).expect("a recording");
        if let Some(evict) = evict {
            replay = replay.evict(evict);
        }
        let mut timeline = replay.timeline(&host).expect("a timeline");
        let patience = if self.counted { Duration::ZERO } else { Duration::MAX };
        timeline.set_patience(patience, 1 << 20);
        timeline
    }

    /// Stops at a site, if one of these holds.
    fn stops(&self, site: &str, conditions: &[Condition]) -> Stops {
        let mut stops = Stops::at([self.symbols[site]]);
        stops.conditions.insert(self.symbols[site], conditions.to_vec());
        stops
    }
}

/// The symbols of a program.
fn symbols(program: &Path) -> BTreeMap<String, u64> {
    let nm = Command::new("nm").arg(program).output().expect("nm is there: install it (Debian: binutils)");
    let lines = String::from_utf8(nm.stdout).expect("text");
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((words.nth(1)?.to_string(), address))
    };
    lines.lines().filter_map(parse).collect()
}

fn round(timeline: &Timeline) -> u64 {
    timeline.registers().general.rdi
}

/// Where a run stops without conditions at the given round, and the digest there.
fn without_conditions(recorded: &Recorded, site: &str, number: u64) -> (Position, u64) {
    let mut timeline = recorded.timeline(None);
    let stops = Stops::at([recorded.symbols[site]]);
    while timeline.run(&stops).expect("a run") != Stop::End {
        if round(&timeline) == number {
            return look(&mut timeline);
        }
    }
    panic!("{site} is not passed in round {number}");
}

fn look(timeline: &mut Timeline) -> (Position, u64) {
    (timeline.position().expect("a position"), timeline.digest().expect("a digest"))
}

#[test]
fn it_stops_where_it_holds_forwards_and_backwards() {
    common::require_kvm();
    let both = Recorded::both("loop", 60);
    for (recorded, site) in both.iter().flat_map(|recorded| SITES.map(|site| (recorded, site))) {
        let expected = without_conditions(recorded, site, 41);
        let stops = recorded.stops(site, &[is_round(41), is_round(17)]);
        let stop = Stop::Breakpoint(recorded.symbols[site]);
        for evict in [None, Some(Evict { every: 2, seed: 5 })] {
            let mut timeline = recorded.timeline(evict);
            assert_eq!(timeline.run(&stops).expect("a run"), stop, "{site}");
            assert_eq!(round(&timeline), 17, "{site}");
            assert_eq!(timeline.run(&stops).expect("a run"), stop, "{site}");
            assert_eq!(round(&timeline), 41, "{site}");
            assert_eq!(look(&mut timeline), expected, "{site}, forwards");
            assert_eq!(timeline.run(&stops).expect("a run"), Stop::End, "{site}");
            let end = look(&mut timeline);
            assert_eq!(timeline.reverse_run(&stops).expect("a run back"), stop, "{site}");
            assert_eq!(look(&mut timeline), expected, "{site}, backwards");
            assert_eq!(timeline.reverse_run(&stops).expect("a run back"), stop, "{site}");
            assert_eq!(round(&timeline), 17, "{site}");
            // Without counting steps, from where no position is known.
            assert_eq!(timeline.run(&stops).expect("a run"), stop, "{site}");
            assert_eq!(timeline.reverse_run(&stops).expect("a run back"), stop, "{site}");
            assert_eq!(round(&timeline), 17, "{site}");
            assert_eq!(timeline.reverse_run(&stops).expect("a run back"), Stop::Start, "{site}");
            timeline.seek(end.0).expect("the end");
            assert_eq!(look(&mut timeline), end, "{site}, the end");
        }
    }
}

/// A breakpoint where nothing holds changes nothing of the run, and single steps go by it.
#[test]
fn where_nothing_holds_the_run_is_the_recorded_one() {
    common::require_kvm();
    for recorded in ["loop", "threads"].into_iter().flat_map(|part| Recorded::both(part, 30)) {
        let mut plain = recorded.timeline(None);
        assert_eq!(plain.run(&Stops::default()).expect("a run"), Stop::End);
        let end = look(&mut plain);
        let mut stops = Stops::default();
        for site in SITES {
            let at = recorded.symbols[site];
            stops.breakpoints.insert(at);
            stops.conditions.insert(at, vec![is_round(1 << 30)]);
        }
        for evict in [None, Some(Evict { every: 3, seed: 1 })] {
            let mut timeline = recorded.timeline(evict);
            let ran = timeline.run(&stops);
            assert!(matches!(ran, Ok(Stop::End)), "{evict:?}: {ran:?}");
            assert_eq!(look(&mut timeline), end);
            assert_eq!(timeline.reverse_run(&stops).expect("a run back"), Stop::Start);
        }
    }
}

/// Threads pass the same site; which comes when is as recorded.
#[test]
fn threads_stop_each_where_it_holds() {
    common::require_kvm();
    for recorded in Recorded::both("threads", 30) {
        let stop = Stop::Breakpoint(recorded.symbols["site_load"]);
        let stops = recorded.stops("site_load", &[is_round(20)]);
        let mut timeline = recorded.timeline(None);
        let mut forwards = Vec::new();
        while timeline.run(&stops).expect("a run") != Stop::End {
            assert_eq!(round(&timeline), 20);
            forwards.push(look(&mut timeline));
        }
        assert_eq!(forwards.len(), 2, "one of each thread");
        let mut backwards = Vec::new();
        loop {
            match timeline.reverse_run(&stops).expect("a run back") {
                Stop::Start => break,
                other => assert_eq!(other, stop),
            }
            backwards.insert(0, look(&mut timeline));
        }
        assert_eq!(backwards, forwards);
    }
}

/// Memory of the program, and such as is not there: then it stops, for somebody to see.
#[test]
fn it_reads_memory_and_stops_where_there_is_none() {
    common::require_kvm();
    for recorded in Recorded::both("loop", 40) {
        let counter = recorded.symbols["counter"];
        let mut timeline = recorded.timeline(None);
        let stops = recorded.stops("site_rip", &[word_is(counter, 25)]);
        assert_eq!(timeline.run(&stops).expect("a run"), Stop::Breakpoint(recorded.symbols["site_rip"]));
        assert_eq!(round(&timeline), 25);
        let stops = recorded.stops("site_rip", &[word_is(0x1000, 0)]);
        timeline.seek(timeline.start()).expect("the start");
        for expected in 0..3 {
            assert_ne!(timeline.run(&stops).expect("a run"), Stop::End);
            assert_eq!(round(&timeline), expected);
        }
        assert_ne!(timeline.reverse_run(&stops).expect("a run back"), Stop::Start);
        assert_eq!(round(&timeline), 1);
    }
}

/// From where one breakpoint was reached several times, backwards to another that lies in between, and not to
/// where the run is already.
#[test]
fn backwards_from_a_breakpoint_to_another() {
    common::require_kvm();
    for recorded in Recorded::both("loop", 20) {
        let mut timeline = recorded.timeline(None);
        let (first, second) = (recorded.symbols["site_mov"], recorded.symbols["site_add"]);
        for _ in 0..5 {
            assert_eq!(timeline.run(&Stops::at([first])).expect("a run"), Stop::Breakpoint(first));
        }
        let mut both = Stops::at([first, second]);
        both.conditions.insert(second, vec![is_round(2)]);
        let rounds: Vec<(u64, bool)> = (0..4)
            .map(|_| {
                let stop = timeline.reverse_run(&both).expect("a run back");
                (round(&timeline), stop == Stop::Breakpoint(first))
            })
            .collect();
        assert_eq!(rounds, [(3, true), (2, false), (2, true), (1, true)]);
    }
}

/// All operations give the same inside the guest as in the monitor, which takes what the guest cannot tell.
#[test]
fn operations_are_the_same_in_the_guest() {
    common::require_kvm();
    for recorded in Recorded::both("loop", 12) {
        let site = "site_mov";
        let number = |number: i64| [&[0x25][..], &number.to_be_bytes()].concat();
        let of = |op: u8, a: i64, b: i64| [number(a), number(b), vec![op]].concat();
        let counter = recorded.symbols["counter"] as i64;
        // What is computed, and what comes out.
        let cases: Vec<(Vec<u8>, i64)> = vec![
            (of(0x02, 5, -7), -2),
            (of(0x03, 5, 7), -2),
            (of(0x04, -5, 7), -35),
            (of(0x05, -7, 2), -3),
            (of(0x06, -1, 2), i64::MAX),
            (of(0x07, -7, 2), -1),
            (of(0x08, 7, 4), 3),
            (of(0x09, 3, 62), 3 << 62),
            (of(0x0a, -8, 2), -2),
            (of(0x0b, -1, 60), 15),
            ([number(0), vec![0x0e]].concat(), 1),
            ([number(9), vec![0x0e]].concat(), 0),
            (of(0x0f, 6, 3), 2),
            (of(0x10, 6, 3), 7),
            (of(0x11, 6, 3), 5),
            ([number(5), vec![0x12]].concat(), -6),
            (of(0x13, 5, 5), 1),
            (of(0x13, 5, 6), 0),
            (of(0x14, -1, 0), 1),
            (of(0x15, -1, 0), 0),
            ([number(0x1ff), vec![0x16, 8]].concat(), -1),
            ([number(-1), vec![0x2a, 12]].concat(), 0xfff),
            ([number(1), number(2), vec![0x28, 0x02, 0x02]].concat(), 5),
            ([number(1), number(2), vec![0x29]].concat(), 1),
            ([number(1), number(2), vec![0x2b, 0x03]].concat(), 1),
            ([number(1), number(2), number(3), vec![0x33, 0x03, 0x03]].concat(), 4),
            ([number(7), number(2), number(3), vec![0x32, 2]].concat(), 7),
            // `a ? 5 : 6`, which starts at byte 0.
            ([vec![0x22, 1, 0x20, 0, 10, 0x22, 6, 0x21, 0, 12, 0x22, 5]].concat(), 5),
            (vec![REG, 0, 18], 0x33),
            (vec![REG, 0, 16], recorded.symbols[site] as i64),
            // RSP - RSP, RDI - RDI.
            (vec![REG, 0, 7, REG, 0, 7, 0x03], 0),
            (vec![REG, 0, 5, REG, 0, 5, 0x03], 0),
            // The counter is the round's number; so are its parts.
            ([number(counter), vec![0x1a, REG, 0, 5, 0x03]].concat(), 0),
            ([number(counter), vec![0x19, REG, 0, 5, 0x03]].concat(), 0),
            ([number(counter), vec![0x18, REG, 0, 5, 0x03]].concat(), 0),
            ([number(counter), vec![0x17, REG, 0, 5, 0x03]].concat(), 0),
        ];
        let mut timeline = recorded.timeline(None);
        for (code, expected) in cases {
            let differs = [&code[..], &number(expected), &[EQUAL, 0x0e, END]].concat();
            let stops = recorded.stops(site, &[Condition::new(&differs).expect("a condition")]);
            timeline.seek(timeline.start()).expect("the start");
            assert_eq!(timeline.run(&stops).expect("a run"), Stop::End, "{code:x?}");
            let equals = [&code[..], &number(expected), &[EQUAL, END]].concat();
            let stops = recorded.stops(site, &[Condition::new(&equals).expect("a condition")]);
            timeline.seek(timeline.start()).expect("the start");
            assert_ne!(timeline.run(&stops).expect("a run"), Stop::End, "{code:x?}");
            assert_eq!(round(&timeline), 0, "{code:x?}");
        }
        // What the CPU does otherwise, or not at all.
        for (code, holds) in [(of(0x09, 1, 64), false), (of(0x0a, -1, 64), true), (of(0x05, 1, 0), true)] {
            let stops =
                recorded.stops(site, &[Condition::new(&[&code[..], &[END]].concat()).expect("a condition")]);
            timeline.seek(timeline.start()).expect("the start");
            assert_eq!(timeline.run(&stops).expect("a run") != Stop::End, holds, "{code:x?}");
        }
    }
}

/// Where a condition does not hold, the monitor has nothing to do with it.
#[test]
fn what_does_not_hold_makes_no_exit() {
    common::require_kvm();
    let both = Recorded::both("loop", 3000);
    for (recorded, site) in both.iter().flat_map(|recorded| SITES.map(|site| (recorded, site))) {
        let mut timeline = recorded.timeline(None);
        assert_eq!(timeline.run(&Stops::default()).expect("a run"), Stop::End);
        timeline.seek(timeline.start()).expect("the start");
        let stops = recorded.stops(site, &[is_round(2990)]);
        assert_ne!(timeline.run(&stops).expect("a run"), Stop::End, "{site}");
        assert_eq!(round(&timeline), 2990);
        let judged = timeline.machine().program().expect("a program").debug.judged;
        // Those at which the code was not in memory yet, and the last.
        assert!(judged < 20, "{site}: {judged}");
    }
}

/// Wherever in a condition's code the program is interrupted, it is the one of the recording.
#[test]
fn interrupts_change_nothing() {
    common::require_kvm();
    let rounds = if common::full() { 1_000_000 } else { 60_000 };
    let recorded = Recorded { counted: true, ..Recorded::new("loop", rounds) };
    let timeline = || {
        let mut timeline = recorded.timeline(None);
        timeline.set_patience(Duration::ZERO, 4_000);
        timeline
    };
    let last = recorded.stops("site_ret", &[is_round(rounds - 10)]);
    let mut plain = timeline();
    assert_ne!(plain.run(&last).expect("a run"), Stop::End);
    let expected = look(&mut plain);
    let mut stops = last;
    for site in SITES {
        stops.breakpoints.insert(recorded.symbols[site]);
        stops.conditions.entry(recorded.symbols[site]).or_insert(vec![is_round(1 << 30), is_round(1 << 29)]);
    }
    let mut timeline = timeline();
    let handle = timeline.stop_handle();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // A kick that is taken back, mostly before it is seen.
            while !done.load(Ordering::Relaxed) {
                handle.interrupt();
                handle.end_interrupt();
                thread::sleep(Duration::from_micros(100));
            }
        });
        let stop = loop {
            match timeline.run(&stops) {
                Err(TimelineError::Interrupted) => {}
                other => break other,
            }
        };
        done.store(true, Ordering::Relaxed);
        assert_ne!(stop.expect("a run"), Stop::End);
    });
    assert_eq!(look(&mut timeline), expected);
}

/// Prints what a million passes cost: `cargo test --release --test conditions -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn a_million_passes() {
    common::require_kvm();
    let recorded = Recorded::new("loop", 1_000_000);
    // As a debugger has it: what takes long is counted.
    let timeline = || {
        let mut timeline = recorded.timeline(None);
        timeline.set_patience(Duration::from_millis(100), 1 << 21);
        timeline
    };
    for site in ["site_mov", "site_rip", "site_call"] {
        let stops = recorded.stops(site, &[is_round(500_000)]);
        let mut timeline = timeline();
        let start = Instant::now();
        assert_ne!(timeline.run(&stops).expect("a run"), Stop::End);
        println!("{site}: forwards to the 500,000th in {:.2?}", start.elapsed());
        assert_eq!(round(&timeline), 500_000);
        timeline.seek_end().expect("the end");
        let start = Instant::now();
        assert_ne!(timeline.reverse_run(&stops).expect("a run back"), Stop::Start);
        println!("{site}: backwards from the end in {:.2?}", start.elapsed());
        assert_eq!(round(&timeline), 500_000);
    }
}
