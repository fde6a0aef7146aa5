//! Runs a guest once, and gathers all that can be seen of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dejavm_sandbox::exit::{Exit, Fault, Observer, Rung};
use dejavm_sandbox::guest;
use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::kernel::devices::DevicesState;
use dejavm_sandbox::kernel::kept::{Cpu, Kept, Why, find};
use dejavm_sandbox::kernel::machine::Machine;
use dejavm_sandbox::kernel::start::search_on;
use dejavm_sandbox::kernel::state::KernelState;
use dejavm_sandbox::kernel::unrepeatable::Found;
use dejavm_sandbox::machine::{End, MachineOptions, Memory, RunEnd, RunError, RunOptions, Search};
use dejavm_sandbox::ram::{PAGE_SIZE, Ram};
use dejavm_sandbox::vcpu::registers::ExtendedState;
use dejavm_sandbox::vcpu::{self, CpuState};
use dejavm_sandbox::world::{Request, Response, World, WorldError};
use xxhash_rust::xxh3::xxh3_64;

use crate::guest::{BUSY_TSS, FREE_TSS, Guest, exit};
use crate::rows::DONE;

/// Far longer than any guest takes, and short enough for those that never end.
pub const DEADLINE: Duration = Duration::from_millis(1000);

/// Which pages are there before the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// All of them.
    All,
    /// All but these.
    AllBut(&'static [u64]),
    /// Those that any guest has: what the search for pages that KVM reads by itself finds.
    Searched,
}

/// What the outside gives: input for the byte channel.
struct Input(bool);

impl World for Input {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        match request {
            Request::Input { max, .. } => {
                let bytes = if std::mem::take(&mut self.0) { (1..=200).collect() } else { Vec::new() };
                assert!(max >= bytes.len());
                Ok(Response::Input(Ok(bytes)))
            }
            Request::Output { data, .. } => Ok(Response::Output(Ok(data.len()))),
            other => Err(WorldError::Mismatch { asked: other.name(), got: "nothing" }),
        }
    }
}

/// Keeps what it is told.
#[derive(Default)]
struct Watch {
    exits: Vec<Exit>,
    faults: Vec<Fault>,
}

impl Observer for Watch {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        self.exits.push(exit.clone());
        Ok(())
    }

    fn fault(&mut self, fault: &Fault) {
        self.faults.push(*fault);
    }
}

/// What a guest has done and become, as far as a guest can tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Final {
    /// Registers of all kinds.
    pub cpu: CpuState,
    /// The digest of each page.
    pub memory: Vec<u64>,
    /// Every port exit.
    pub exits: Vec<Exit>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: Result<RunEnd, RunError>,
    /// Exits of `KVM_RUN` that were taken for faults.
    pub raw: Vec<vcpu::Exit>,
    /// The rungs by which pages came.
    pub rungs: BTreeMap<u64, BTreeSet<Rung>>,
    /// The state at the end. None when the run failed.
    pub state: Option<Final>,
    /// Which pages are in memory at the end.
    pub there: BTreeSet<u64>,
    /// Which pages the search keeps.
    pub kept: Kept,
    /// Accesses of addresses where no memory is, by page.
    pub beyond_memory: BTreeMap<u64, u64>,
    /// Time in `KVM_RUN`.
    pub guest_time: Duration,
}

impl Outcome {
    /// The guest's exit status.
    pub fn status(&self) -> Option<u8> {
        match self.end {
            Ok(RunEnd::Ended(End::Exited(status))) => Some(status),
            _ => None,
        }
    }

    /// All rungs of the run.
    pub fn all_rungs(&self) -> BTreeSet<Rung> {
        self.rungs.values().flatten().copied().collect()
    }
}

/// The extended state without what says nothing: a component that is not in use is as after a reset,
/// whatever lies in its place (Intel SDM volume 1, section 13.6).
fn settled(cpu: CpuState) -> CpuState {
    /// The XSAVE area (Intel SDM volume 1, section 13.4): its parts by the bit in XSTATE_BV.
    const BV: usize = 512;
    const PARTS: [(u8, std::ops::Range<usize>); 4] = [(0, 0..24), (0, 32..160), (1, 160..416), (2, 576..832)];
    let mut image = cpu.extended.image(832);
    let in_use = image[BV];
    for (bit, part) in PARTS {
        if in_use & 1 << bit == 0 {
            image[part].fill(0);
        }
    }
    if in_use & 1 == 0 {
        image[..2].copy_from_slice(&0x37fu16.to_le_bytes());
    }
    // What the CPU can mask says nothing of the guest.
    image[28..32].fill(0);
    image[BV] = 7;
    CpuState { extended: ExtendedState::from_bytes(&image), ..cpu }
}

fn digest(ram: &Ram, page: u64) -> u64 {
    let mut content = [0; PAGE_SIZE];
    ram.peek(page, &mut content).expect("a page of memory");
    xxh3_64(&content)
}

/// The invariant: a `KVM_RUN` that failed is one that the ladder can name, or an error that tells the
/// registers, the exit with its error number, and the bytes at RIP.
fn check_named(error: &RunError) {
    let RunError::Crash(crash) = error else { panic!("KVM_RUN failed, and nothing tells how: {error:?}") };
    let told = crash.registers.rip != 0 && crash.control[2] != 0 && !crash.code.is_empty();
    assert!(told, "an error that does not tell where the guest is: {crash}");
}

/// The kind of the task state in TR. A CPU wants a busy one; the one that QEMU emulates lets code of CPL
/// 3 use ports by a free one alone (`check_io`, target/i386/tcg/seg_helper.c).
fn tss_kind(host: &Arc<HostProfile>) -> u64 {
    static KIND: OnceLock<u64> = OnceLock::new();
    *KIND.get_or_init(|| {
        let outcome = run_as_is(host, Guest::user(|a| exit(a, DONE)), There::All, None);
        if outcome.status() == Some(DONE as u8) { BUSY_TSS } else { FREE_TSS }
    })
}

/// Runs a guest.
pub fn run(host: &Arc<HostProfile>, mut guest: Guest, there: There, rung: Option<Rung>) -> Outcome {
    guest.sregs.tr.type_ = tss_kind(host) as u8;
    run_as_is(host, guest, there, rung)
}

fn run_as_is(host: &Arc<HostProfile>, guest: Guest, there: There, rung: Option<Rung>) -> Outcome {
    let pages = guest.memory.len() / PAGE_SIZE as u64;
    let options = MachineOptions { rung, search: Some(Search::Off), ..Default::default() };
    let search = search_on(host, &MachineOptions::default()).expect("a host that was probed");
    let cpu = Cpu { regs: &guest.regs, sregs: &guest.sregs, msrs: &[] };
    let held = guest.memory.held();
    let kept = find(&cpu, &guest.memory, pages, &held, search);
    let but = |absent: &[u64]| {
        let there = held.iter().filter(|page| !absent.contains(page));
        Kept::of(there.map(|page| (*page, Why::Msr)), pages)
    };
    let present = match there {
        There::All => but(&[]),
        There::AllBut(absent) => but(absent),
        There::Searched => kept.clone(),
    };
    let mut vcpu = CpuState::reset(guest.regs, guest.sregs);
    vcpu.xcr0 = host.xcr0 & 7;
    let state = KernelState {
        cpu: host.cpu.clone(),
        seed: 0,
        name: b"tiny".to_vec(),
        cmdline: Vec::new(),
        memory: guest.memory.len(),
        vcpu,
        devices: DevicesState::default(),
        kept: present,
        unrepeatable: Found::default(),
        unpacks_itself: false,
        exits: 0,
    };
    let memory = Memory::Source(Arc::new(guest.memory));
    let stop = StopHandle::new().expect("a stop handle");
    stop.set_deadline(Some(Instant::now() + DEADLINE));
    let machine = Machine::start(state, memory, Box::new(Input(true)), host.clone(), stop, &options);
    let mut machine = machine.expect("a machine");
    machine.raw = Some(Vec::new());
    let mut watch = Watch::default();
    let mut any = guest::Machine::from(machine);
    let end = any.run(RunOptions { observer: Some(&mut watch), ..Default::default() });
    let guest::Machine::Kernel(mut machine) = any else { unreachable!("it was made from one") };
    if let Err(error) = &end {
        check_named(error);
    }
    let cpu = match end {
        Ok(RunEnd::Ended(_)) => machine.cpu_state().ok().map(settled),
        _ => None,
    };
    let state = cpu.map(|cpu| Final {
        cpu,
        memory: (0..pages).map(|page| digest(&machine.ram, page)).collect(),
        exits: watch.exits,
    });
    let mut rungs = BTreeMap::<u64, BTreeSet<Rung>>::new();
    for fault in watch.faults {
        rungs.entry(fault.page).or_default().insert(fault.rung);
    }
    Outcome {
        end,
        raw: machine.raw.take().unwrap_or_default(),
        rungs,
        state,
        there: (0..pages).filter(|page| machine.ram.is_there(*page)).collect(),
        kept,
        beyond_memory: machine.devices.unknown_memory.clone(),
        guest_time: Duration::from_nanos(machine.core.stats.time.guest_ns),
    }
}
