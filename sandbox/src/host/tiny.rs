//! A tiny guest: tables, stubs and a page of code, for finding out what this host does.
//!
//! Everything lies in one 2 MiB region, so that four table pages map it all. The entry paths are
//! those of [`crate::entry`]: `SYSCALL` and every exception end in an `out` that exits.

use std::sync::Arc;
use std::time::Duration;

use kvm_bindings::{CpuId, kvm_sregs};
use kvm_ioctls::{Kvm, VmFd};

use super::thread::{BlockedSignals, KickTimer, Signal};
use super::{HostError, IoMap, create_vm};
use crate::entry::{
    EXCEPTION_PORT, KERNEL_CS, KERNEL_DS, Layout, STUBS_BYTES, SYSCALL_CODE, SYSCALL_PORT, exception_stubs,
};
use crate::ram::{PAGE_SIZE, SystemArea};
use crate::vcpu::{Exit, Vcpu};
use crate::x86::descriptors::{AVAILABLE_TSS, BUSY_TSS};
use crate::x86::flags::rflags;
use crate::x86::frame::Frame;
use crate::x86::paging::{ACCESSED, DIRTY, LARGE_PAGE, PRESENT, USER, WRITABLE};
use crate::x86::vector::has_error_code;

/// Port by which code of CPL 0 says that it is done.
pub const DONE_PORT: u16 = 0x12;

/// Where page 0 of the guest is mapped; page N follows at N pages behind it.
const WINDOW: u64 = 0x40_0000;
/// Bytes that one table maps: the window's length.
const REGION: u64 = LARGE_PAGE;

// The pages, in the order in which they are taken: guest-physical page N is window page N.
const ROOT: u64 = 0;
const LEVEL3: u64 = 1;
const LEVEL2: u64 = 2;
const LEVEL1: u64 = 3;
const GDT: u64 = 4;
const IDT: u64 = 5;
const STUBS: u64 = 6;
const TSS: u64 = 7;
const STACK: u64 = 8;
const SYSCALL: u64 = 9;
const CODE: u64 = 10;
/// Two pages of data, for the program.
pub const DATA: [u64; 2] = [11, 12];
const PAGES: u64 = 13;

/// Window page where memory that may be absent is mapped.
pub const LAZY: u64 = 256;

const PAGE: u64 = PAGE_SIZE as u64;
/// Offset in the stubs' page of the stub that reloads CR3.
const RELOAD_CR3: u64 = STUBS_BYTES as u64;
/// `mov rax, cr3; mov cr3, rax; iretq`.
const RELOAD_CR3_CODE: [u8; 8] = [0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0x48, 0xcf];

/// Where its tables and stubs are.
const LAYOUT: Layout = Layout {
    syscall_stub: address(SYSCALL),
    stubs: address(STUBS),
    gdt: address(GDT),
    idt: address(IDT),
    tss: address(TSS),
    tss_limit: PAGE as u32 - 1,
    stack_top: address(STACK) + PAGE,
    breakpoint: None,
};

/// How long a guest may stay in `KVM_RUN`: far more than any of them takes. It ends what some hosts
/// do where KVM itself reads an absent page: try again for ever.
const LIMIT: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(100);

/// Privilege level to run at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// CPL 0.
    Kernel,
    /// CPL 3.
    User,
}

/// What the guest came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It executed `SYSCALL`.
    Syscall,
    /// It wrote [`DONE_PORT`].
    Done,
    /// It has got an exception.
    Exception {
        /// The vector.
        vector: u8,
        /// What the CPU pushed.
        frame: Frame,
    },
    /// It touched the poisoned page at this host address.
    Poison(u64),
    /// It stayed in `KVM_RUN` until it was kicked.
    Stuck,
    /// Something else.
    Other(Exit),
}

/// The address of a window page.
pub const fn address(page: u64) -> u64 {
    WINDOW + page * PAGE
}

/// Where the program starts.
pub const START: u64 = address(CODE);

/// The tables and stubs of a tiny guest.
#[derive(Debug)]
pub struct Tables {
    system: SystemArea,
}

impl Tables {
    /// Builds them in a machine.
    ///
    /// # Errors
    /// When the host refuses memory.
    pub fn new(vm: &Arc<VmFd>) -> Result<Tables, HostError> {
        let mut system = SystemArea::new(vm.clone());
        for page in 0..PAGES {
            let gpa = system.take_page()?;
            debug_assert_eq!(gpa, page * PAGE, "the system area starts at 0 and grows page by page");
        }
        let tables = Tables { system };
        tables.write_tables();
        tables.write_descriptors();
        Ok(tables)
    }

    fn write_tables(&self) {
        let link = |table: u64| (table * PAGE) | PRESENT | WRITABLE | USER | ACCESSED;
        self.system.write_u64(ROOT * PAGE, link(LEVEL3));
        self.system.write_u64(LEVEL3 * PAGE, link(LEVEL2));
        self.system.write_u64(LEVEL2 * PAGE + WINDOW / REGION * 8, link(LEVEL1));
        for page in 0..PAGES {
            let user = if page >= SYSCALL { USER } else { 0 };
            self.map(page, page * PAGE, user);
        }
    }

    fn write_descriptors(&self) {
        self.system.write(SYSCALL * PAGE, SYSCALL_CODE);
        self.system.write(STUBS * PAGE, &exception_stubs());
        self.system.write(STUBS * PAGE + RELOAD_CR3, &RELOAD_CR3_CODE);
        let write_words = |at: u64, words: &mut dyn Iterator<Item = u64>| {
            for (at, word) in (at..).step_by(8).zip(words) {
                self.system.write_u64(at, word);
            }
        };
        write_words(IDT * PAGE, &mut LAYOUT.idt_entries());
        write_words(GDT * PAGE, &mut LAYOUT.gdt_entries().into_iter());
        // Only the system-call port is open: where SYSCALL stays at CPL 3, its stub needs it.
        self.system.write(TSS * PAGE, &LAYOUT.tss_bytes(true));
    }

    /// Maps a window page, writable. KVM is not told.
    pub fn map(&self, page: u64, gpa: u64, user: u64) {
        self.system.write_u64(LEVEL1 * PAGE + page * 8, gpa | PRESENT | WRITABLE | ACCESSED | DIRTY | user);
    }

    /// Makes the page at a guest-physical address the table of the region behind the window, and
    /// returns that region's address.
    pub fn link_table(&self, gpa: u64) -> u64 {
        let at = LEVEL2 * PAGE + (WINDOW / REGION + 1) * 8;
        self.system.write_u64(at, gpa | PRESENT | WRITABLE | USER | ACCESSED);
        WINDOW + REGION
    }

    /// Writes the program.
    ///
    /// # Panics
    /// When it does not fit into a page.
    pub fn load(&self, code: &[u8]) {
        assert!(code.len() < PAGE_SIZE);
        self.system.write(CODE * PAGE, code);
    }

    /// Writes to one of the data pages.
    pub fn write_data(&self, page: u64, bytes: &[u8]) {
        self.system.write(page * PAGE, bytes);
    }

    /// Reads from one of the data pages.
    pub fn read_data(&self, page: u64, out: &mut [u8]) {
        self.system.read(page * PAGE, out);
    }

    /// What the guest's GDT register holds: limit and base.
    pub fn gdt(&self) -> (u16, u64) {
        let gdt = LAYOUT.gdt_register();
        (gdt.limit, gdt.base)
    }

    /// The guest-physical address of a page that is never absent.
    pub fn gpa(&self, page: u64) -> u64 {
        page * PAGE
    }

    /// Fills in the system registers.
    pub fn set_sregs(&self, sregs: &mut kvm_sregs, ring: Ring, fsgsbase: bool, trap_tsc: bool) {
        LAYOUT.set_user_mode(sregs, ROOT * PAGE, 0, 0, fsgsbase, trap_tsc);
        if ring == Ring::Kernel {
            (sregs.cs.selector, sregs.cs.dpl) = (KERNEL_CS, 0);
            (sregs.ss.selector, sregs.ss.dpl) = (KERNEL_DS, 0);
        }
    }

    /// A stack pointer: code of CPL 0 gets its exceptions on the stack that it runs on.
    pub fn stack(&self, ring: Ring) -> u64 {
        match ring {
            Ring::Kernel => address(STACK) + PAGE / 2,
            Ring::User => address(DATA[1]) + PAGE,
        }
    }

    /// The exception whose stub the guest is in.
    pub fn exception(&self, rip: u64, rsp: u64) -> Option<(u8, Frame)> {
        let vector = LAYOUT.vector_at(rip)?;
        let skip = if has_error_code(vector) { 8 } else { 0 };
        let at = rsp.checked_sub(address(STACK))? + skip;
        if !at.is_multiple_of(8) || at + Frame::WORDS as u64 * 8 > PAGE {
            return None;
        }
        let word = |i: usize| self.system.read_u64(STACK * PAGE + at + i as u64 * 8);
        Some((vector, Frame::from_words(std::array::from_fn(word))))
    }
}

/// The model-specific registers of a tiny guest.
pub fn msrs() -> [(u32, u64); 3] {
    LAYOUT.syscall_msrs()
}

/// A tiny guest with its vCPU, which is gone before the memory that it maps.
#[derive(Debug)]
pub struct Tiny {
    /// The vCPU.
    pub vcpu: Vcpu,
    /// Its memory.
    pub tables: Tables,
    /// Its machine.
    pub vm: Arc<VmFd>,
    /// The signals that end a run.
    pub signals: BlockedSignals,
    fsgsbase: bool,
}

impl Tiny {
    /// Makes one with a CPUID table and extended-state components.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn new(kvm: &Kvm, cpuid: &CpuId, xcr0: u64, fsgsbase: bool) -> Result<Tiny, HostError> {
        let vm = Arc::new(create_vm(kvm)?);
        let vcpu = Vcpu::new(&vm, 0)?;
        let tables = Tables::new(&vm)?;
        vcpu.set_cpuid(cpuid)?;
        vcpu.set_msrs(&msrs())?;
        let mut tiny = Tiny { vcpu, tables, vm, signals: BlockedSignals::alone(), fsgsbase };
        // CR4.OSXSAVE must be on before XCR0 may be set.
        tiny.set_ring(Ring::User, true)?;
        tiny.vcpu.set_xcr0(xcr0)?;
        Ok(tiny)
    }

    fn set_ring(&mut self, ring: Ring, trap_tsc: bool) -> Result<(), HostError> {
        let mut sregs = self.vcpu.sregs()?;
        self.tables.set_sregs(&mut sregs, ring, self.fsgsbase, trap_tsc);
        Ok(self.vcpu.set_sregs(&sregs)?)
    }

    /// Puts the guest at an address, with all registers zero.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn enter(&mut self, ring: Ring, rip: u64, trap_tsc: bool) -> Result<(), HostError> {
        self.set_ring(ring, trap_tsc)?;
        let rsp = self.tables.stack(ring);
        *self.vcpu.regs_mut() =
            kvm_bindings::kvm_regs { rip, rsp, rflags: rflags::FIXED, ..Default::default() };
        Ok(())
    }

    /// Whether RIP is behind an `OUT` of CPL 0 when it exits.
    ///
    /// # Errors
    /// When it does not exit.
    pub fn out_retires(&mut self) -> Result<bool, HostError> {
        /// `out DONE_PORT, al`.
        const OUT: [u8; 2] = [0xe6, DONE_PORT as u8];
        self.tables.load(&OUT);
        self.enter(Ring::Kernel, START, false)?;
        match (self.run()?, self.vcpu.regs().rip.wrapping_sub(START)) {
            (Event::Done, 0) => Ok(false),
            (Event::Done, 2) => Ok(true),
            (other, rip) => Err(HostError::Guest(format!("OUT at CPL 0 gave {other:?}, {rip} bytes on"))),
        }
    }

    /// Whose ports are opened to CPL 3.
    ///
    /// # Errors
    /// When KVM refuses to run.
    pub fn io_map(&mut self) -> Result<IoMap, HostError> {
        /// `out SYSCALL_PORT, al`.
        const OUT: [u8; 2] = [0xe6, SYSCALL_PORT as u8];
        self.tables.load(&OUT);
        for (io_map, task) in [(IoMap::Busy, BUSY_TSS), (IoMap::Available, AVAILABLE_TSS)] {
            self.enter(Ring::User, START, false)?;
            let mut sregs = self.vcpu.sregs()?;
            sregs.tr.type_ = task;
            self.vcpu.set_sregs(&sregs)?;
            if matches!(self.run()?, Event::Other(Exit::Out { port: SYSCALL_PORT, .. })) {
                return Ok(io_map);
            }
        }
        Ok(IoMap::Ignored)
    }

    /// Makes the guest, which is in the stub of an exception without an error code, reload CR3 and
    /// return. RAX is lost.
    pub fn reload_cr3(&mut self) {
        self.vcpu.regs_mut().rip = address(STUBS) + RELOAD_CR3;
    }

    /// Runs until something happens, or the time limit.
    ///
    /// # Errors
    /// When the kernel has no more timers.
    pub fn run(&mut self) -> Result<Event, HostError> {
        let exit = self.run_exit()?;
        Ok(self.event(exit))
    }

    /// As [`Tiny::run`]; signals are still to be taken.
    ///
    /// # Errors
    /// When the kernel has no more timers.
    pub fn run_exit(&mut self) -> Result<Exit, HostError> {
        while self.signals.take().is_some() {}
        let timer = KickTimer::start(LIMIT, AGAIN).map_err(|e| HostError::Guest(format!("no timer: {e}")))?;
        let exit = self.vcpu.run(&self.signals);
        drop(timer);
        self.vcpu.settle();
        Ok(exit)
    }

    fn event(&self, exit: Exit) -> Event {
        let regs = self.vcpu.regs();
        match exit {
            Exit::Out { port: DONE_PORT, .. } => Event::Done,
            Exit::Out { port: SYSCALL_PORT, .. } if LAYOUT.is_syscall_stub(regs.rip) => Event::Syscall,
            Exit::Out { port: EXCEPTION_PORT, .. } => match self.tables.exception(regs.rip, regs.rsp) {
                Some((vector, frame)) => Event::Exception { vector, frame },
                None => Event::Other(exit),
            },
            Exit::Signal => match self.signals.take() {
                Some(Signal::Poison(address)) => Event::Poison(address),
                _ => Event::Stuck,
            },
            other => Event::Other(other),
        }
    }
}
