//! The guest: a few instructions at CPL 3 that touch the pages of a list, on every vCPU of one
//! virtual machine.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use dejavm_sandbox::entry::SYSCALL_PORT;
use dejavm_sandbox::fault::{Finding, Ladder, Then};
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::host::thread::{BlockedSignals, KickTimer};
use dejavm_sandbox::host::{HostProfile, open_kvm};
use dejavm_sandbox::program::entry::{self, Entry};
use dejavm_sandbox::program::fs::Fs;
use dejavm_sandbox::program::mm::source::ProgramPages;
use dejavm_sandbox::program::mm::{AddressSpace, Memory, MemoryState, SpaceState};
use dejavm_sandbox::program::outside::Outside;
use dejavm_sandbox::ram::{PAGE_SIZE, Ram, SystemArea};
use dejavm_sandbox::vcpu::registers::UserRegisters;
use dejavm_sandbox::vcpu::{Exit, Vcpu};
use dejavm_sandbox::world::{Request, Response, World, WorldError};
use dejavm_sandbox::x86::paging::{NO_EXEC, USER, WRITABLE};
use iced_x86::code_asm::{CodeAssembler, registers as reg};
use kvm_ioctls::VmFd;

use super::Result;

/// Guest-physical address of page 0: above everything that KVM keeps for itself.
pub const RAM_BASE: u64 = 1 << 32;
/// Where the guest's code lies.
const CODE: u64 = 0x40_0000;
/// Where the guest sees page 0 of its memory.
const DATA: u64 = 0x10_0000_0000;
/// Where the lists of addresses lie, one behind the other.
const LISTS: u64 = 0x20_0000_0000;
/// No run may take longer: then something is stuck.
const LIMIT: Duration = Duration::from_secs(60);

/// What the guest does to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Loads its first word.
    Load,
    /// Stores its second word, then loads the first.
    Store,
}

impl Touch {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Touch::Load => "load",
            Touch::Store => "store",
        }
    }
}

/// Exits R8 times, adds up the first words of RDI pages whose addresses stand at RSI, and exits.
fn code(touch: Touch) -> Result<Vec<u8>> {
    let mut a = CodeAssembler::new(64)?;
    let (mut call, mut again) = (a.create_label(), a.create_label());
    a.set_label(&mut call)?;
    a.syscall()?;
    a.dec(reg::r8)?;
    a.jnz(call)?;
    a.set_label(&mut again)?;
    a.mov(reg::rdx, iced_x86::code_asm::qword_ptr(reg::rsi))?;
    if touch == Touch::Store {
        a.mov(iced_x86::code_asm::qword_ptr(reg::rdx + 8), reg::rdx)?;
    }
    a.add(reg::rax, iced_x86::code_asm::qword_ptr(reg::rdx))?;
    a.add(reg::rsi, 8)?;
    a.dec(reg::rdi)?;
    a.jnz(again)?;
    a.syscall()?;
    Ok(a.assemble(CODE)?)
}

/// An outside that is never asked anything.
struct Nobody;

impl World for Nobody {
    fn ask(&mut self, request: Request<'_>) -> std::result::Result<Response, WorldError> {
        Err(WorldError::Mismatch { asked: request.name(), got: "nothing" })
    }
}

/// A virtual machine whose guest memory is mapped and whose lists are written.
pub struct Guest {
    profile: Arc<HostProfile>,
    /// For more memory slots, and for vCPUs.
    pub vm: Arc<VmFd>,
    /// RAM and system area.
    pub memory: Memory,
    space: AddressSpace,
    lists: Vec<(u64, u64)>,
}

/// What one vCPU did.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The sum of the first words that it loaded.
    pub sum: u64,
    begun: Instant,
    ended: Instant,
}

impl Guest {
    /// A machine over the RAM that `ram` makes, in which vCPU `i` touches the pages `lists[i]`.
    pub fn new(
        profile: &Arc<HostProfile>,
        touch: Touch,
        lists: &[Vec<u64>],
        ram: impl FnOnce(&Arc<VmFd>) -> Result<Ram>,
    ) -> Result<Guest> {
        let vm = Arc::new(open_kvm()?.create_vm()?);
        let outside = Outside::new(Fs::new(Default::default())?, Box::new(Nobody));
        let mut memory = Memory {
            ram: ram(&vm)?,
            system: SystemArea::new(vm.clone()),
            pages: Arc::new(ProgramPages::new(outside.contents(), None)),
            state: MemoryState::default(),
            lending: Default::default(),
            stop: StopHandle::new()?,
        };
        let mut space = AddressSpace::new(&mut memory, SpaceState::default())?;
        Entry::new(&mut memory, profile, profile.level)?.map(&mut memory, &mut space)?;
        // In RAM, so that it can be decoded; in its last page, which no list names.
        let page = memory.ram.base() + (memory.ram.pages() - 1) * PAGE_SIZE as u64;
        memory.ram.write(page, &code(touch)?)?;
        space.map_system(&mut memory, CODE, page, USER)?;

        let mut next = LISTS;
        let mut placed = Vec::new();
        for list in lists {
            placed.push((next, list.len() as u64));
            for page in list {
                let gpa = RAM_BASE + page * PAGE_SIZE as u64;
                space.map_system(&mut memory, address_of(*page), gpa, USER | WRITABLE | NO_EXEC)?;
            }
            for part in list.chunks(PAGE_SIZE / 8) {
                let gpa = memory.system.take_page()?;
                let bytes: Vec<u8> = part.iter().flat_map(|page| address_of(*page).to_le_bytes()).collect();
                memory.system.write(gpa, &bytes);
                space.map_system(&mut memory, next, gpa, USER | NO_EXEC)?;
                next += PAGE_SIZE as u64;
            }
        }
        Ok(Guest { profile: profile.clone(), vm, memory, space, lists: placed })
    }

    /// Runs every vCPU to its end, each on a thread of its own on which `place` is called first.
    /// Returns the time from the first one's start to the last one's end.
    pub fn run(&self, place: impl Fn(usize) + Sync) -> Result<(Duration, Vec<Done>)> {
        let barrier = Barrier::new(self.lists.len());
        let done: Result<Vec<Done>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.lists.len())
                .map(|id| {
                    let (barrier, place) = (&barrier, &place);
                    scope.spawn(move || {
                        place(id);
                        let ready = Running::new(self, id, 1);
                        barrier.wait();
                        // As text, since errors need not be fit for other threads.
                        ready.and_then(Running::touch_all).map_err(|e| e.to_string())
                    })
                })
                .collect();
            let ended = threads.into_iter().map(|t| t.join().expect("a vCPU thread does not panic"));
            ended.map(|done| done.map_err(Into::into)).collect()
        });
        let done = done?;
        let begun = done.iter().map(|d| d.begun).min().ok_or("no vCPU")?;
        let ended = done.iter().map(|d| d.ended).max().ok_or("no vCPU")?;
        Ok((ended - begun, done))
    }
}

/// Where the guest sees a page.
fn address_of(page: u64) -> u64 {
    DATA + page * PAGE_SIZE as u64
}

/// A vCPU that stands before its loop.
pub struct Running<'a> {
    guest: &'a Guest,
    /// The vCPU.
    pub vcpu: Vcpu,
    /// Its thread's signals.
    pub signals: BlockedSignals,
    /// What one of its first exits took, until the next.
    pub call: Duration,
    ladder: Ladder,
    limit: Instant,
    _timer: KickTimer,
}

impl<'a> Running<'a> {
    /// Makes vCPU `id` on this thread, and runs it through its `calls` first exits, so that nothing
    /// is done for the first time once the clock runs.
    pub fn new(guest: &'a Guest, id: usize, calls: u32) -> Result<Running<'a>> {
        let profile = &guest.profile;
        let mut vcpu = Vcpu::new(&guest.vm, id as u64)?;
        vcpu.set_cpuid(&profile.cpuid)?;
        vcpu.set_msrs(&entry::LAYOUT.syscall_msrs())?;
        let mut sregs = vcpu.sregs()?;
        entry::LAYOUT.set_user_mode(&mut sregs, guest.space.root(), 0, 0, profile.fsgsbase, false);
        vcpu.set_sregs(&sregs)?;
        let regs = vcpu.regs_mut();
        (regs.rip, regs.rflags) = (CODE, 2);
        (regs.rsi, regs.rdi) = guest.lists[id];
        regs.r8 = u64::from(calls);
        let signals = BlockedSignals::new();
        let timer = KickTimer::start(LIMIT, Duration::from_secs(1))?;
        let limit = Instant::now() + LIMIT;
        let call = Duration::ZERO;
        let mut this =
            Running { guest, vcpu, signals, call, ladder: Ladder::default(), limit, _timer: timer };
        let begun = Instant::now();
        for _ in 0..calls {
            match this.vcpu.run(&this.signals) {
                Exit::Out { port: SYSCALL_PORT, .. } => {}
                exit => return Err(format!("the guest's first exits are {exit:?}").into()),
            }
            // Where `SYSCALL` does not change CS, returning from it is the monitor's job.
            if profile.syscall_stays_user {
                let back = this.vcpu.regs().rcx;
                this.vcpu.regs_mut().rip = back;
            }
        }
        this.call = begun.elapsed() / calls.max(1);
        Ok(this)
    }

    /// Touches all pages of the list.
    fn touch_all(mut self) -> Result<Done> {
        let begun = Instant::now();
        while !self.step()? {}
        Ok(Done { sum: self.vcpu.regs().rax, begun, ended: Instant::now() })
    }

    /// Runs up to the next exit and settles it, as the product does. Whether it was the last.
    fn step(&mut self) -> Result<bool> {
        let exit = self.vcpu.run(&self.signals);
        if matches!(exit, Exit::Out { port: SYSCALL_PORT, .. }) {
            return Ok(true);
        }
        match self.find(exit) {
            Finding::Wanted { pages, rung, then } => {
                self.settle(&pages, rung, &then)?;
                Ok(false)
            }
            Finding::Kick if Instant::now() < self.limit => Ok(false),
            other => Err(format!("the guest stopped: {other:?}").into()),
        }
    }

    /// What an exit wants.
    pub fn find(&self, exit: Exit) -> Finding {
        let Guest { memory, space, .. } = self.guest;
        let translate = |address, _: &mut dyn FnMut(u64)| space.walk(memory, address);
        let regs = UserRegisters { general: self.vcpu.regs().into(), fs_base: 0, gs_base: 0 };
        self.ladder.find(exit, &regs, &self.signals, &memory.ram, &translate)
    }

    /// Gives it that.
    pub fn settle(&mut self, pages: &[u64], rung: dejavm_sandbox::exit::Rung, then: &Then) -> Result<()> {
        self.ladder.settle(pages, rung, then, &mut self.vcpu, &self.guest.memory.ram)?;
        Ok(())
    }
}
