//! Machine states that decode, but lie.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dejavm::sandbox::guest::{Machine, MachineState};
use dejavm::sandbox::host::stop::StopHandle;
use dejavm::sandbox::machine::{MachineOptions, Memory, RunOptions};
use dejavm::sandbox::world::HostWorld;
use dejavm::snapshot::codec;
use dejavm::{Host, Outcome, PauseAt, Program, Snapshot, View, WriteOptions};

use crate::common;

/// The longest that one forged state may run.
const DEADLINE: Duration = Duration::from_millis(300);
/// Forged states of each guest in the sample.
const CASES: usize = 250;
/// How many times as many there are in all.
const FULL: usize = 30;

/// A state, as bytes, and the memory that belongs to it.
struct Real {
    state: Vec<u8>,
    snapshot: Arc<Snapshot>,
}

/// Runs a program until it says that it is ready, and takes its state.
fn real(host: &Host, dir: &std::path::Path) -> Real {
    let program = dir.join("guest");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/forged/guest.c");
    let gcc = Command::new("gcc").args(["-O1", "-w", "-static", "-o"]).arg(&program).arg(source).status();
    assert!(gcc.expect("gcc builds the guest: install it (Debian: gcc, libc6-dev)").success());
    let file = dir.join("guest.dvm");
    let view = View::nothing().show("/guest", dejavm::Grant::directory(dir));
    let mut sandbox =
        Program::new("/guest/guest").view(view).memory(256 << 20).start(host).expect("the guest starts");
    assert_eq!(sandbox.run_until(PauseAt::Ready).expect("a run"), Outcome::Paused);
    sandbox.snapshot(&file, &WriteOptions::default()).expect("a snapshot");
    let snapshot = Snapshot::open(&file).expect("a snapshot");
    Real { state: snapshot.state().expect("its state").to_vec(), snapshot }
}

/// How far a state came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    NotDecoded,
    Refused,
    NotStarted,
    Failed,
    Ran,
}

/// Takes a state as `restore` would.
fn take(host: &Host, real: &Real, state: &[u8]) -> Came {
    let Ok(state) = codec::decode::<MachineState>(state) else { return Came::NotDecoded };
    if state.check(real.snapshot.page_count()).is_err() {
        return Came::Refused;
    }
    let stop = StopHandle::new().expect("an eventfd");
    stop.set_deadline(Instant::now().checked_add(DEADLINE));
    let world = HostWorld::builder().interrupt(Box::new(stop.clone())).build().expect("no grants");
    let started = Machine::start(
        state,
        Memory::Snapshot(real.snapshot.clone()),
        Box::new(world),
        host.profile().clone(),
        stop,
        &MachineOptions { prefetch: true, any_cpu: true, ..MachineOptions::default() },
    );
    let Ok(mut machine) = started else { return Came::NotStarted };
    match machine.run(RunOptions::default()) {
        Ok(_) => Came::Ran,
        Err(_) => Came::Failed,
    }
}

/// Numbers that follow from a seed (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Values that break what is not checked.
const VALUES: [u64; 22] = [
    0,
    1,
    2,
    3,
    16,
    0xfff,
    0x1000,
    0x1001,
    0x20_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffdf_f000,
    0x7fff_ffe0_0000,
    0x8000_0000_0000,
    1 << 47,
    1 << 48,
    1 << 60,
    (1 << 63) - 1,
    1 << 63,
    (1 << 63) + 1,
    u64::MAX - 1,
    u64::MAX,
];

/// Changes some bytes. Numbers are fixed-width, so that a changed number is mostly another number.
fn lie(state: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut forged = state.to_vec();
    for _ in 0..1 + numbers.below(3) {
        let at = numbers.below(forged.len() - 8);
        match numbers.below(5) {
            0 => forged[at] ^= 1 << numbers.below(8),
            1 => forged[at] = numbers.next() as u8,
            2 => {
                let value = VALUES[numbers.below(VALUES.len())];
                forged[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            3 => {
                let value = VALUES[numbers.below(VALUES.len())] as u32;
                forged[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            _ => {
                // Another number of the same state, one up or down.
                let from = numbers.below(forged.len() - 8);
                let bytes: [u8; 8] = forged[from..from + 8].try_into().expect("eight bytes");
                let value = u64::from_le_bytes(bytes).wrapping_add(numbers.below(3) as u64).wrapping_sub(1);
                forged[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
    }
    forged
}

#[test]
fn states_that_decode_but_lie() {
    common::require_kvm();
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a directory");
    let real = real(&host, dir.path());
    assert_eq!(take(&host, &real, &real.state), Came::Ran, "the true state runs");
    let cases = if common::full() { CASES * FULL } else { CASES };
    let mut came = std::collections::BTreeMap::new();
    let mut slowest = Duration::ZERO;
    // States that do not decode are cheap, and say nothing: they do not count.
    let (mut tried, mut number) = (0, 0);
    let first = std::env::var("DEJAVM_TEST_CASE").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    while tried < cases {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (first + number) << 20 | 1);
        numbers.next();
        let forged = lie(&real.state, &mut numbers);
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| take(&host, &real, &forged)));
        let Ok(result) = result else {
            panic!("case {} panics: DEJAVM_TEST_CASE={} runs it first", first + number, first + number);
        };
        slowest = slowest.max(start.elapsed());
        assert!(start.elapsed() < DEADLINE + Duration::from_secs(10), "case {} hangs", first + number);
        *came.entry(result).or_insert(0) += 1;
        tried += usize::from(result > Came::NotDecoded);
        number += 1;
    }
    println!("{number} forged states: {came:?}; the slowest took {slowest:?}");
    assert!(came[&Came::Refused] > 0 && came[&Came::Ran] > 0, "{came:?}");
}
