//! Breakpoints with conditions, forwards and backwards: they stop where they hold and nowhere else, at the same
//! positions as those without, and a run in which none holds is the recorded one.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::tool;
use dejavm::replay::{Condition, Position, Stop, Stops, Timeline};
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
    dir: tempfile::TempDir,
    symbols: BTreeMap<String, u64>,
}

impl Recorded {
    fn new(part: &str, rounds: u32) -> Recorded {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let program = common::guest(dir.path(), "conditions.c", &["-static", "-pthread"]);
        let rounds = rounds.to_string();
        tool(dir.path(), ["record", "-q", "-o", "rec", "--", "./conditions", part, &rounds]);
        Recorded { symbols: symbols(&program), dir }
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
        replay.timeline(&host).expect("a timeline")
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
    let recorded = Recorded::new("loop", 60);
    for site in SITES {
        let expected = without_conditions(&recorded, site, 41);
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
    for part in ["loop", "threads"] {
        let recorded = Recorded::new(part, 30);
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
            assert_eq!(timeline.run(&stops).expect("a run"), Stop::End, "{part}");
            assert_eq!(look(&mut timeline), end, "{part}");
            assert_eq!(timeline.reverse_run(&stops).expect("a run back"), Stop::Start, "{part}");
        }
    }
}

/// Threads pass the same site; which comes when is as recorded.
#[test]
fn threads_stop_each_where_it_holds() {
    common::require_kvm();
    let recorded = Recorded::new("threads", 30);
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

/// Memory of the program, and such as is not there: then it stops, for somebody to see.
#[test]
fn it_reads_memory_and_stops_where_there_is_none() {
    common::require_kvm();
    let recorded = Recorded::new("loop", 40);
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

/// From where one breakpoint was reached several times, backwards to another that lies in between, and not to
/// where the run is already.
#[test]
fn backwards_from_a_breakpoint_to_another() {
    common::require_kvm();
    let recorded = Recorded::new("loop", 20);
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
