//! Several vCPUs of one machine that touch the same absent pages at once.

use std::ops::Range;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use dejavm_sandbox::entry::SYSCALL_PORT;
use dejavm_sandbox::exit::{Rung, SourceKind};
use dejavm_sandbox::fault::{FaultError, Finding, Ladder, Then};
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::host::thread::{BlockedSignals, KickTimer};
use dejavm_sandbox::host::{HostProfile, open_kvm};
use dejavm_sandbox::program::entry::{self, Entry};
use dejavm_sandbox::program::fs::Fs;
use dejavm_sandbox::program::mm::source::ProgramPages;
use dejavm_sandbox::program::mm::{AddressSpace, Memory, MemoryState, SpaceState};
use dejavm_sandbox::program::outside::Outside;
use dejavm_sandbox::ram::{Marking, PAGE_SIZE, PageError, PageSource, Ram, SystemArea};
use dejavm_sandbox::vcpu::registers::UserRegisters;
use dejavm_sandbox::vcpu::{Exit, Vcpu};
use dejavm_sandbox::world::{Request, Response, World, WorldError};
use dejavm_sandbox::x86::paging::{NO_EXEC, USER, WRITABLE};

const RAM_BASE: u64 = 1 << 32;
/// Addresses that the guest sees: its code, its pages, and the lists of addresses.
const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x10_0000_0000;
const LISTS: u64 = 0x20_0000_0000;

const VCPUS: usize = 4;
/// Pages that are touched, and as many again that nobody touches.
const TOUCHED: u64 = 384;
const PAGES: u64 = 2 * TOUCHED;
/// Pages that the monitor reads meanwhile.
const MONITORED: usize = TOUCHED as usize / 16;
/// One page in so many holds zeros.
const ZEROS: u64 = 7;
const WORDS: u64 = (PAGE_SIZE / 8) as u64;

/// Longer than any run takes.
const LIMIT: Duration = Duration::from_secs(60);

/// ```text
///         syscall
/// page:   mov  rdx, [rsi]
///         mov  ecx, 512
/// word:   add  rax, [rdx+rcx*8-8]
///         dec  ecx
///         jnz  word
///         mov  [rdx+r9], r9
///         add  rsi, 8
///         dec  rdi
///         jnz  page
///         syscall
/// ```
const PROGRAM: [u8; 36] = [
    0x0f, 0x05, 0x48, 0x8b, 0x16, 0xb9, 0x00, 0x02, 0x00, 0x00, 0x48, 0x03, 0x44, 0xca, 0xf8, 0xff, 0xc9,
    0x75, 0xf7, 0x4e, 0x89, 0x0c, 0x0a, 0x48, 0x83, 0xc6, 0x08, 0x48, 0xff, 0xcf, 0x75, 0xe2, 0x0f, 0x05,
    0x90, 0x90,
];

/// The word of a page's content: never zero, never small enough to be an offset in a page, and 0 in
/// the places where vCPUs leave their marks.
fn word(page: u64, index: u64) -> u64 {
    if page.is_multiple_of(ZEROS) || index <= VCPUS as u64 {
        0
    } else {
        (page + 1) << 32 | (index + 1) << 16 | 0x8001
    }
}

/// Pages whose words are [`word`], in clusters.
struct Words {
    cluster: u64,
}

impl PageSource for Words {
    fn has_content(&self, page: u64) -> Result<bool, PageError> {
        Ok(page < PAGES && !page.is_multiple_of(ZEROS))
    }

    fn cluster(&self, page: u64) -> Range<u64> {
        // None reaches from the pages that are touched to the others.
        let start = page / self.cluster * self.cluster;
        let end = start + self.cluster;
        if page < TOUCHED { start..end.min(TOUCHED) } else { start.max(TOUCHED)..end }
    }

    fn fetch(&self, first: u64, out: &mut [u8]) -> Result<SourceKind, PageError> {
        for (page, out) in (first..).zip(out.chunks_exact_mut(PAGE_SIZE)) {
            for (index, out) in (0..).zip(out.chunks_exact_mut(8)) {
                out.copy_from_slice(&word(page, index).to_le_bytes());
            }
        }
        Ok(SourceKind::Snapshot)
    }
}

struct Nobody;

impl World for Nobody {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        Err(WorldError::Mismatch { asked: request.name(), got: "nothing" })
    }
}

struct Machine {
    profile: Arc<HostProfile>,
    vm: Arc<kvm_ioctls::VmFd>,
    memory: Memory,
    space: AddressSpace,
    /// Each vCPU's list.
    lists: Vec<u64>,
}

/// The touched pages, shuffled by a seed (Fisher and Yates; Knuth's MMIX generator).
fn shuffled(seed: u64) -> Vec<u64> {
    let mut pages: Vec<u64> = (0..TOUCHED).collect();
    let mut state = seed;
    for i in (1..pages.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        pages.swap(i, (state >> 33) as usize % (i + 1));
    }
    pages
}

impl Machine {
    fn new(marking: Marking, cluster: u64, seed: impl Fn(usize) -> u64) -> Machine {
        let profile = HostProfile::probe().unwrap();
        let vm = Arc::new(open_kvm().unwrap().create_vm().unwrap());
        let outside = Outside::new(Fs::new(Default::default()).unwrap(), Box::new(Nobody));
        let source = Arc::new(Words { cluster });
        let mut memory = Memory {
            ram: Ram::new(vm.clone(), RAM_BASE, PAGES + 1, marking, source).unwrap(),
            system: SystemArea::new(vm.clone()),
            pages: Arc::new(ProgramPages::new(outside.contents(), None)),
            state: MemoryState::default(),
            lending: Default::default(),
            stop: StopHandle::new().unwrap(),
        };
        let mut space = AddressSpace::new(&mut memory, SpaceState::default()).unwrap();
        Entry::new(&mut memory, &profile, profile.level).unwrap().map(&mut memory, &mut space).unwrap();
        // In RAM, so that it can be decoded.
        let code = RAM_BASE + PAGES * PAGE_SIZE as u64;
        memory.ram.write(code, &PROGRAM).unwrap();
        space.map_system(&mut memory, CODE, code, USER).unwrap();
        for page in 0..TOUCHED {
            let offset = page * PAGE_SIZE as u64;
            space
                .map_system(&mut memory, DATA + offset, RAM_BASE + offset, USER | WRITABLE | NO_EXEC)
                .unwrap();
        }
        let mut lists = Vec::new();
        for vcpu in 0..VCPUS {
            let list = LISTS + (vcpu * PAGE_SIZE) as u64;
            let gpa = memory.system.take_page().unwrap();
            let addresses = shuffled(seed(vcpu)).into_iter().map(|page| DATA + page * PAGE_SIZE as u64);
            let bytes: Vec<u8> = addresses.flat_map(u64::to_le_bytes).collect();
            memory.system.write(gpa, &bytes);
            space.map_system(&mut memory, list, gpa, USER | NO_EXEC).unwrap();
            lists.push(list);
        }
        memory.ram.attach(0..PAGES).unwrap();
        Machine { profile, vm, memory, space, lists }
    }

    /// Runs one vCPU to its end; the sum of what it read, and the rungs by which pages were found.
    fn run(&self, id: usize, start: &Barrier) -> (u64, Vec<Rung>) {
        let mut vcpu = Vcpu::new(&self.vm, id as u64).unwrap();
        vcpu.set_cpuid(&self.profile.cpuid).unwrap();
        vcpu.set_msrs(&entry::LAYOUT.syscall_msrs()).unwrap();
        let mut sregs = vcpu.sregs().unwrap();
        entry::LAYOUT.set_user_mode(&mut sregs, self.space.root(), 0, 0, self.profile.fsgsbase, false);
        vcpu.set_sregs(&sregs).unwrap();
        let regs = vcpu.regs_mut();
        (regs.rip, regs.rflags, regs.rsi, regs.rdi) = (CODE, 2, self.lists[id], TOUCHED);
        regs.r9 = mark(id);

        let signals = BlockedSignals::new();
        let _timer = KickTimer::start(LIMIT, Duration::from_secs(1)).unwrap();
        let limit = Instant::now() + LIMIT;
        let first = vcpu.run(&signals);
        // Nobody may wait for a vCPU that failed.
        start.wait();
        assert!(matches!(first, Exit::Out { port: SYSCALL_PORT, .. }), "{first:?}");
        if self.profile.syscall_stays_user {
            vcpu.regs_mut().rip = vcpu.regs().rcx;
        }
        let mut ladder = Ladder::default();
        let mut rungs = Vec::new();
        loop {
            assert!(Instant::now() < limit, "vCPU {id} does not come to its end");
            let exit = vcpu.run(&signals);
            if matches!(exit, Exit::Out { port: SYSCALL_PORT, .. }) {
                return (vcpu.regs().rax, rungs);
            }
            let translate = |address, _: &mut dyn FnMut(u64)| self.space.walk(&self.memory, address);
            let regs = UserRegisters { general: vcpu.regs().into(), fs_base: 0, gs_base: 0 };
            match ladder.find(exit, &regs, &signals, &self.memory.ram, &translate) {
                Finding::Wanted { pages, rung, then } => {
                    ladder.settle(&pages, rung, &then, &mut vcpu, &self.memory.ram).unwrap();
                    rungs.push(rung);
                }
                Finding::Kick => {}
                other => panic!("vCPU {id}: {other:?}"),
            }
        }
    }
}

/// What a vCPU stores in each page, and the offset at which it does.
fn mark(vcpu: usize) -> u64 {
    8 * (vcpu as u64 + 1)
}

/// The sum of a page's words before anything is stored.
fn sum_of(page: u64) -> u64 {
    (0..WORDS).fold(0, |sum, index| sum.wrapping_add(word(page, index)))
}

/// Runs all vCPUs, with a thread of the monitor that reads pages meanwhile, and checks everything.
fn stress(marking: Marking, cluster: u64, seed: impl Fn(usize) -> u64) {
    let machine = Machine::new(marking, cluster, seed);
    let start = Barrier::new(VCPUS + 1);
    let done: Vec<(u64, Vec<Rung>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..VCPUS)
            .map(|id| {
                let (machine, start) = (&machine, &start);
                scope.spawn(move || machine.run(id, start))
            })
            .collect();
        start.wait();
        // Few, since it is faster than any guest.
        for page in shuffled(99).into_iter().take(MONITORED) {
            let mut last = [0u8; 8];
            let at = RAM_BASE + (page + 1) * PAGE_SIZE as u64 - 8;
            machine.memory.ram.read(at, &mut last).unwrap();
            assert_eq!(u64::from_le_bytes(last), word(page, WORDS - 1), "page {page}, read by the monitor");
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    let content = (0..TOUCHED).fold(0u64, |sum, page| sum.wrapping_add(sum_of(page)));
    for (id, (sum, rungs)) in done.iter().enumerate() {
        // Marks that others have left by then are small, and whole: all content is above them.
        let marks = sum.wrapping_sub(content);
        let most = TOUCHED * (0..VCPUS).filter(|other| *other != id).map(mark).sum::<u64>();
        assert!(marks <= most && marks % 8 == 0, "vCPU {id} read other content: {marks:#x} off");
        let wanted = if marking == Marking::Poison { Rung::Poison } else { Rung::Decode };
        assert!(rungs.iter().all(|rung| matches!(rung, Rung::Annotated) || *rung == wanted), "{rungs:?}");
    }
    for page in 0..TOUCHED {
        let mut bytes = [0u8; PAGE_SIZE];
        machine.memory.ram.read(RAM_BASE + page * PAGE_SIZE as u64, &mut bytes).unwrap();
        for (index, bytes) in (0..).zip(bytes.as_chunks::<8>().0) {
            // No store is lost to a second installation of the page.
            let marked = (1..=VCPUS as u64).contains(&index);
            let expected = if marked { 8 * index } else { word(page, index) };
            assert_eq!(u64::from_le_bytes(*bytes), expected, "page {page}, word {index}");
        }
    }
    // A vCPU that often comes second must not make the ladder bring in everything.
    let absent = (TOUCHED..PAGES).filter(|page| !page.is_multiple_of(ZEROS));
    assert!(absent.clone().all(|page| !machine.memory.ram.is_there(page)), "pages came that nobody wanted");
    assert!(done.iter().any(|(_, rungs)| !rungs.is_empty()), "nothing was absent");
}

/// Whether this host has poison markers. Where it has none, memory that would be marked so is refused.
fn has_poison() -> bool {
    if HostProfile::probe().unwrap().poison {
        return true;
    }
    let vm = Arc::new(open_kvm().unwrap().create_vm().unwrap());
    let refused = Ram::new(vm, RAM_BASE, PAGES + 1, Marking::Poison, Arc::new(Words { cluster: 1 }));
    assert!(matches!(refused, Err(PageError::Host { what: "userfaultfd", .. })), "{refused:?}");
    false
}

/// All vCPUs in the same order: most faults are lost races.
fn together(marking: Marking) {
    for (round, cluster) in [1, 8, 1, 8].into_iter().enumerate() {
        stress(marking, cluster, |_| round as u64);
    }
}

/// Each in an order of its own.
fn apart(marking: Marking) {
    for (round, cluster) in [1, 8, 1, 8].into_iter().enumerate() {
        stress(marking, cluster, |vcpu| (round * VCPUS + vcpu) as u64);
    }
}

#[test]
fn poisoned_pages_in_the_same_order() {
    if has_poison() {
        together(Marking::Poison);
    }
}

#[test]
fn poisoned_pages_in_orders_of_their_own() {
    if has_poison() {
        apart(Marking::Poison);
    }
}

#[test]
fn missing_pages_in_the_same_order() {
    together(Marking::Missing);
}

#[test]
fn missing_pages_in_orders_of_their_own() {
    apart(Marking::Missing);
}

/// Faults on pages that others have brought in are no sign of a fault that comes back; one that does
/// come back brings in everything, and is an error in the end.
#[test]
fn only_the_same_fault_again_is_no_progress() {
    let machine = Machine::new(Marking::Missing, 1, |_| 0);
    let ram = &machine.memory.ram;
    let mut vcpu = Vcpu::new(&machine.vm, 0).unwrap();
    let mut ladder = Ladder::default();
    let mut settle = |page| ladder.settle(&[page], Rung::Decode, &Then::Retry, &mut vcpu, ram);
    let content: Vec<u64> = (0..TOUCHED).filter(|page| !page.is_multiple_of(ZEROS)).collect();
    for page in &content {
        ram.bring_in(*page).unwrap();
        assert_eq!(settle(*page).unwrap().brought, 0);
    }
    let spare = TOUCHED + 2;
    assert!(!ram.is_there(spare));
    let mut faults = 0;
    let error = loop {
        match settle(content[0]) {
            Ok(settled) => assert_eq!(settled.brought, 0),
            Err(error) => break error,
        }
        faults += 1;
        assert!(faults < 100, "the same fault is settled for ever");
    };
    assert!(matches!(error, FaultError::NoProgress { .. }), "{error}");
    assert!(ram.is_there(spare), "nothing but the error came of it");
}
