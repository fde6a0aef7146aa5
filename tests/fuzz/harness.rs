//! What all fuzzers share: seeds, an end, memory, figures, and what a failure says.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dejavm::{Error, Outcome};

/// A case that takes longer hangs: the process is ended, since nothing else can end it.
const HANGS: Duration = Duration::from_secs(60);
/// How much later than its deadline a case may end on a machine that does other things too.
const BUSY: Duration = Duration::from_secs(10);
/// What dejavm may take besides what a case grants.
const OWN: u64 = 64 << 20;
/// Failures after which a fuzzer gives up.
const ENOUGH: usize = 20;

/// One fuzzer at a time: the memory of a case is measured of the process.
static ONE: Mutex<()> = Mutex::new(());

/// A fuzzer.
pub struct Fuzzer {
    /// Its name.
    pub name: &'static str,
    /// Cases in continuous integration.
    pub cases: u64,
    /// The longest that a case may take, all of its runs together.
    pub time: Duration,
    /// Bytes of memory and disk that a case grants its guest.
    pub grants: u64,
}

impl Fuzzer {
    /// Runs the cases. Each is given its seed, and says how it ended, or what is wrong.
    pub fn run(&self, mut case: impl FnMut(u64) -> Result<String, String>) {
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = number("DEJAVM_FUZZ_SECONDS");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_millis() as u64);
        let default = if seconds.is_some() { now << 20 } else { 1 };
        let first = number("DEJAVM_FUZZ_SEED").unwrap_or(default);
        let most = number("DEJAVM_FUZZ_CASES").or(seconds.map(|_| u64::MAX)).unwrap_or(self.cases);
        let start = Instant::now();
        let until = start + Duration::from_secs(seconds.unwrap_or(u64::from(u32::MAX)));
        println!("{}: from seed {first}", self.name);
        let current = watchdog(self.name);
        let mut seen = Seen::default();
        while seen.cases < most && Instant::now() < until && seen.failures.len() < ENOUGH {
            let seed = first + seen.cases;
            let began = Instant::now();
            *current.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, began));
            let before = forget_peak();
            let end = catch_unwind(AssertUnwindSafe(|| case(seed))).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map_or("", String::as_str);
                let text = panic.downcast_ref::<&str>().copied().unwrap_or(text);
                Err(format!("panics: {text}"))
            });
            let (took, took_memory) = (began.elapsed(), memory("VmHWM:").saturating_sub(before));
            let end = end.and_then(|end| match () {
                () if took > self.time + BUSY => Err(format!("took {took:?} ({end})")),
                () if took_memory > self.grants + OWN => {
                    Err(format!("took {} MiB ({end})", took_memory >> 20))
                }
                () => Ok(end),
            });
            seen.add(self.name, seed, end, took, took_memory);
        }
        *current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        println!("{}: {}", self.name, seen.figures(start.elapsed()));
        assert!(seen.failures.is_empty(), "{} failures:\n{}", seen.failures.len(), seen.failures.join("\n"));
    }
}

/// How the cases ended.
#[derive(Default)]
struct Seen {
    cases: u64,
    ends: BTreeMap<String, u64>,
    failures: Vec<String>,
    slowest: (Duration, u64),
    largest: (u64, u64),
}

impl Seen {
    fn add(&mut self, name: &str, seed: u64, end: Result<String, String>, took: Duration, memory: u64) {
        self.cases += 1;
        self.slowest = self.slowest.max((took, seed));
        self.largest = self.largest.max((memory, seed));
        let end = end.unwrap_or_else(|why| {
            let line = format!("{name}: DEJAVM_FUZZ_SEED={seed} DEJAVM_FUZZ_CASES=1: {why}");
            println!("{line}");
            self.failures.push(line);
            "FAILED".to_string()
        });
        *self.ends.entry(end).or_insert(0) += 1;
    }

    fn figures(&self, took: Duration) -> String {
        let rate = self.cases as f64 / took.as_secs_f64();
        let mut text = format!("{} cases in {:.0} s, {rate:.1} a second", self.cases, took.as_secs_f64());
        let ((slowest, slow), (largest, large)) = (self.slowest, self.largest);
        text += &format!("; the slowest took {slowest:.1?} (seed {slow})");
        text += &format!("; the largest took {} MiB (seed {large})", largest >> 20);
        let mut ends: Vec<_> = self.ends.iter().collect();
        ends.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (end, count) in ends {
            text += &format!("\n{count:8}  {end}");
        }
        text
    }
}

/// The number in a variable of the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number")))
}

type Current = Arc<Mutex<Option<(u64, Instant)>>>;

/// Ends the process, and names the case, when one hangs.
fn watchdog(name: &'static str) -> Current {
    let current: Current = Arc::default();
    let watched = Arc::downgrade(&current);
    std::thread::spawn(move || {
        while let Some(current) = watched.upgrade() {
            let running = *current.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((seed, began)) = running
                && began.elapsed() > HANGS
            {
                eprintln!("{name}: DEJAVM_FUZZ_SEED={seed} DEJAVM_FUZZ_CASES=1 hangs");
                std::process::abort();
            }
            drop(current);
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    current
}

/// Forgets the most memory that the process ever had; gives what it has now, bytes.
fn forget_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be forgotten");
    memory("VmRSS:")
}

/// A line of the process's status, bytes.
fn memory(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

/// Numbers that follow from a seed (splitmix64: Steele, Lea, Flood, Fast splittable pseudorandom number
/// generators).
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A number that breaks what is not checked: an edge, a neighbour of the old one, or any.
    pub fn number(&mut self, old: u64) -> u64 {
        const EDGES: [u64; 24] = [
            0,
            1,
            2,
            3,
            16,
            63,
            64,
            255,
            0xfff,
            0x1000,
            0x1001,
            0xffff,
            0x20_0000,
            0x7fff_ffff,
            0xffff_ffff,
            0x7fff_feff_f000,
            0x7fff_ffff_f000,
            0x8000_0000_0000,
            1 << 48,
            1 << 60,
            (1 << 63) - 1,
            1 << 63,
            u64::MAX - 1,
            u64::MAX,
        ];
        match self.below(8) {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => old ^ 1 << self.below(64),
            3 => old.wrapping_add(0x1000),
            4 => self.next() >> self.below(64),
            5 => old.wrapping_mul(2),
            _ => *self.one_of(&EDGES),
        }
    }

    /// Changes some bytes.
    pub fn spoil(&mut self, bytes: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        for _ in 0..1 + self.below(3) {
            let at = self.below(bytes.len());
            let width = (*self.one_of(&[1, 1, 2, 4, 8])).min(bytes.len() - at);
            let mut old = [0; 8];
            old[..width].copy_from_slice(&bytes[at..at + width]);
            let new = self.number(u64::from_le_bytes(old)).to_le_bytes();
            bytes[at..at + width].copy_from_slice(&new[..width]);
        }
    }
}

/// Builds a program of `tests`, with these flags for gcc.
pub fn build(dir: &Path, source: &str, flags: &[&str]) -> PathBuf {
    crate::common::require_kvm();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let program = dir.join(source.file_stem().expect("a name"));
    let gcc = Command::new("gcc").args(["-O1", "-w", "-o"]).args([&program, &source]).args(flags).status();
    assert!(gcc.expect("gcc builds the guest: install it (Debian: gcc, libc6-dev)").success());
    program
}

/// How a run ended, without the numbers.
pub fn kind_of(outcome: Outcome) -> String {
    match outcome {
        Outcome::Exited(_) => "exited".into(),
        Outcome::Signalled(signal) => format!("signal {signal}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The name of an error, to be counted: its variants, without what they hold.
pub fn name_of(error: &Error) -> String {
    let text = format!("{error:?}");
    let name = text.split(|c: char| !c.is_alphanumeric() && c != '(').next().unwrap_or_default();
    name.trim_end_matches('(').replace('(', " ")
}

/// Keeps this thread on one CPU. Where KVM does not trap CPUID, the C library's start keeps the CPU's
/// number in memory, and a random call may write it out.
pub fn stay_on_one_cpu() {
    let mut set = rustix::thread::CpuSet::new();
    set.set(rustix::thread::sched_getcpu());
    // With one CPU there is nowhere else to go.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}
