//! A program machine: which room answers which exit.

mod access;
mod as_handler;
mod branches;
mod call;
mod calls;
mod change;
mod circle;
mod conditions;
mod debug;
mod delivery;
mod error;
mod exceptions;
mod files;
mod instructions;
mod invalid;
mod legacy;
mod live;
mod looking;
mod ports;
mod reset;
mod schedule;
mod sites;
mod stepping;
mod taking;

use std::time::Duration;

use kvm_bindings::kvm_sregs;

use super::current::Current;
use super::entry::{self, Entry};
use super::horizon::Told;
use super::kernel::Kernel;
use super::signal::Info;
use super::task::Task;
use crate::entry::{BREAKPOINT_PORT, EXCEPTION_PORT, SYSCALL_PORT};
use crate::exit::{self, ExitKind, Rung, SourceKind};
use crate::fault::{Finding, Place, Then, fetch};
use crate::host::program_table;
use crate::host::thread::{BlockedSignals, monotonic_ns};
use crate::machine::{Core, Guest, PauseAt, RunEnd, RunError, RunOptions};
use crate::vcpu::Exit;
use crate::vcpu::registers::UserRegisters;
use crate::world::WorldError;
use crate::x86::flags::rflags::{RESUME_FLAG, TRAP_FLAG};
use crate::x86::vector;
pub use access::AccessWatch;
use branches::Branches;
pub use calls::Calls;
use circle::{Search, Watch};
pub use debug::{Debug, Halt};
pub use delivery::Death;
use delivery::Resume;
pub use reset::ResetPoint;
use stepping::Stepper;

/// A guest whose timer is armed and that has made no compared exit for so long may spin until it.
const SPINNING_NS: u64 = 100_000_000;

/// How often it is looked whether the guest still makes exits.
const WATCHDOG: Duration = Duration::from_millis(10);

/// A program machine.
pub struct Machine {
    /// Before the memory, as [`Core`] says.
    pub core: Core,
    /// The kernel that it is to programs.
    pub kernel: Kernel,
    /// What the program died of.
    pub death: Option<Death>,
    /// Whether the last run was ended in a stretch of 100 ms or more without a compared exit, while
    /// an interval timer was armed that no exit and no step can bring about: the program may be
    /// waiting for it in a loop. For advice only, since it depends on the host's time.
    pub spinning: bool,
    /// The task whose floating-point state and segment bases the vCPU has.
    on_vcpu: u32,
    loaded_bases: (u64, u64),
    stale: (u64, u32),
    stepper: Stepper,
    watch: Watch,
    /// The running task is followed, to see whether it runs in a circle.
    search: Option<Box<Search>>,
    /// What a debugger wants.
    pub debug: Debug,
    branches: Branches,
    told: Told,
    first_read_done: bool,
    /// What a program that is stuck waits for, in words.
    pub waits_for: Option<String>,
    /// The task that ran when the last run was ended, and had made no exit for 100 ms or more while others
    /// could have run, and where it was, in words.
    pub spins: Option<String>,
    /// RIP of the last compared exit.
    exit_rip: u64,
    /// When it was, or the run began, nanoseconds.
    exited_at: u64,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("exits", &self.core.exits).finish_non_exhaustive()
    }
}

impl Machine {
    /// Puts a vCPU and a program together. The process's registers are what the guest starts with.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn new(mut core: Core, mut kernel: Kernel) -> Result<Machine, RunError> {
        let Core { vcpu, host, .. } = &mut core;
        vcpu.set_cpuid(&program_table(kernel.cpu, host.fsgsbase))?;
        vcpu.set_msrs(&entry::LAYOUT.syscall_msrs())?;
        let mut sregs = vcpu.sregs()?;
        let regs = kernel.task.regs;
        entry::set_user_mode(&mut sregs, host, kernel.space.root(), (regs.fs_base, regs.gs_base));
        vcpu.set_sregs(&sregs)?;
        // Less than the processor has, where another CPU is tried.
        vcpu.set_xcr0(kernel.cpu.xcr0() & host.xcr0)?;
        if let Some(fp) = kernel.task.fp.take() {
            vcpu.set_extended_state(&fp)?;
        }
        vcpu.trap_tsc_by_thread(host.tsc_by_thread);
        *vcpu.regs_mut() = (&regs.general).into();
        let mut told = Told::at_start(kernel.space.id());
        kernel.set_horizon(&mut told)?;
        Ok(Machine {
            core,
            told,
            on_vcpu: kernel.tid(),
            kernel,
            death: None,
            spinning: false,
            loaded_bases: (regs.fs_base, regs.gs_base),
            stale: (0, 0),
            stepper: Stepper::default(),
            watch: Watch::new(),
            search: None,
            debug: Debug::default(),
            branches: Branches::default(),
            first_read_done: false,
            waits_for: None,
            spins: None,
            exit_rip: regs.general.rip,
            exited_at: 0,
        })
    }

    /// All tasks, with what the vCPU has of the running one.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn tasks(&mut self) -> Result<Current<Task>, RunError> {
        self.refresh_bases()?;
        let mut tasks = self.kernel.task.clone();
        if tasks.fp.is_none() {
            tasks.fp = Some(Box::new(self.extended_state()?));
        }
        Ok(tasks)
    }

    /// Takes the segment bases from the vCPU: a program may have set them itself.
    pub fn refresh_bases(&mut self) -> Result<(), RunError> {
        let sregs = self.core.vcpu.sregs()?;
        self.kernel.task.regs.fs_base = sregs.fs.base;
        self.kernel.task.regs.gs_base = sregs.gs.base;
        self.loaded_bases = (sregs.fs.base, sregs.gs.base);
        Ok(())
    }

    /// Attaches the regions that the first instructions touch.
    pub fn warm_up(&mut self) -> Result<(), RunError> {
        let Kernel { memory, space, task, .. } = &mut self.kernel;
        let regs = task.regs;
        for address in [regs.general.rip, regs.general.rsp.saturating_sub(1)] {
            if space.walk(memory, address).is_none() {
                space.warm(memory, address)?;
            }
        }
        Ok(())
    }

    /// Whether the program has made no exit for as long as who debugs it waits.
    fn is_quiet(&self) -> bool {
        let quiet = monotonic_ns().saturating_sub(self.exited_at);
        self.debug.patience.is_some_and(|patience| u128::from(quiet) >= patience.as_nanos())
    }

    /// Whether a guest that has been quiet for so long may wait for a timer that cannot go off.
    fn may_spin(&self, quiet_ns: u64) -> bool {
        let Kernel { process, clock, .. } = &self.kernel;
        process.timers.any_armed() && clock.timer_step.is_none() && quiet_ns >= SPINNING_NS
    }

    /// Which task runs, and where.
    fn where_it_spins(&self) -> String {
        let rip = match self.core.vcpu.regs().rip {
            rip if Entry::is_in_handler(rip) => self.kernel.entry.interrupted(&self.kernel.memory).rip,
            rip => self.program_rip(rip),
        };
        format!("task {} at {}", self.kernel.tid(), self.place_in_words(rip))
    }

    /// An address, and what lies there.
    fn place_in_words(&self, rip: u64) -> String {
        let place = match self.kernel.space.find(rip) {
            Some((start, vma)) => {
                let name = String::from_utf8_lossy(&vma.name).escape_debug().to_string();
                let name = if name.is_empty() { "an anonymous mapping".to_string() } else { name };
                format!("{name} + {:#x}", rip - start + vma.backing.offset().unwrap_or(0))
            }
            None => "not mapped".to_string(),
        };
        format!("RIP {rip:#x} ({place})")
    }

    fn answer_exit(
        &mut self,
        exit: Exit,
        options: &mut RunOptions<'_>,
        signals: &BlockedSignals,
    ) -> Result<Option<RunEnd>, RunError> {
        self.leave_copy(&exit);
        self.leave_copies(&exit)?;
        // The frequent exits first.
        match &exit {
            Exit::Out { port: SYSCALL_PORT, .. } if Entry::is_syscall_stub(self.core.vcpu.regs().rip) => {
                return self.syscall(options);
            }
            Exit::Out { port: EXCEPTION_PORT, .. } => {
                if let Some(vector) = Entry::vector_at(self.core.vcpu.regs().rip) {
                    return self.exception(vector, options);
                }
            }
            Exit::Out { port: BREAKPOINT_PORT, .. } if Entry::is_handler(self.core.vcpu.regs().rip) => {
                return self.breakpoint(options);
            }
            _ => {}
        }
        if matches!(exit, Exit::Out { .. } | Exit::In { .. }) {
            return self.port_access(&exit, signals, options);
        }
        let translate =
            |address, _: &mut dyn FnMut(u64)| self.kernel.space.walk(&self.kernel.memory, address);
        let mut regs = self.kernel.task.regs;
        regs.general = self.core.vcpu.regs().into();
        match self.core.ladder.find(exit, &regs, signals, &self.kernel.memory.ram, &translate) {
            Finding::Wanted { pages, rung, then } => {
                self.fault(&pages, rung, &then, options)?;
                Ok(None)
            }
            Finding::Unknown => {
                self.core.vcpu.settle();
                let settled = self.core.ladder.populate(regs.general.rip, &self.kernel.memory.ram)?;
                self.core.count_fault(settled.page, Rung::Populate, settled.source, settled.brought, options);
                Ok(None)
            }
            Finding::Kick => {
                // It may be for a handler of the process that we are part of, which may read a clock.
                self.core.vcpu.settle();
                if self.is_quiet() {
                    self.debug.halt = Some(Halt::Quiet);
                    return Ok(Some(RunEnd::Paused));
                }
                if self.debug.soon {
                    self.halt_soon()?;
                } else {
                    self.look_for_circle()?;
                }
                Ok(None)
            }
            Finding::Other(exit) => Err(self.crash("an exit that no program can cause", exit)),
        }
    }

    fn fault(
        &mut self,
        pages: &[u64],
        rung: Rung,
        then: &Then,
        options: &mut RunOptions<'_>,
    ) -> Result<(), RunError> {
        let Core { ladder, vcpu, .. } = &mut self.core;
        let settled = ladder.settle(pages, rung, then, vcpu, &self.kernel.memory.ram)?;
        // An emulated store is through, and KVM forgets the trap behind it. RF is set within a repeated one.
        let traps = vcpu.regs().rflags & (TRAP_FLAG | RESUME_FLAG) == TRAP_FLAG;
        if matches!(then, Then::ApplyWrite { .. }) && traps {
            vcpu.inject_exception(vector::DEBUG)?;
        }
        self.core.count_fault(settled.page, rung, settled.source, settled.brought, options);
        Ok(())
    }

    fn ended(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        let Some(end) = self.kernel.end else { return Ok(None) };
        let rip = self.kernel.task.regs.general.rip;
        self.record(ExitKind::End { status: end.status() }, rip, 0, options)?;
        Ok(Some(RunEnd::Ended(end)))
    }

    /// Counts a compared exit and tells who watches.
    fn record(
        &mut self,
        kind: ExitKind,
        rip: u64,
        result: u64,
        options: &mut RunOptions<'_>,
    ) -> Result<(), RunError> {
        self.stepper.steps = 0;
        self.debug.exit();
        self.branches.exit();
        self.exit_rip = rip;
        if self.debug.patience.is_some() {
            self.exited_at = monotonic_ns();
        }
        if !matches!(kind, ExitKind::Circle { .. }) {
            self.leave_circles();
        }
        let effects = self.kernel.effects.take();
        let (task, clock) = (self.kernel.tid(), self.kernel.clock.realtime());
        let mut exit = exit::Exit { number: 0, task, kind, rip, result, effects, clock };
        let told = self.core.record(&mut exit, options);
        // The last exit of a recording was as recorded, too.
        if matches!(told, Ok(()) | Err(RunError::World(WorldError::EndOfLog))) {
            self.tell_answered(&exit, options)?;
        }
        told
    }

    /// Whether the run is to pause behind the exit that was answered last.
    fn reached(&mut self, options: &RunOptions<'_>) -> bool {
        self.shows_signal() || matches!(options.pause, PauseAt::Exit(number) if self.core.exits >= number)
    }

    /// Attaches everything that is mapped and brings all of it in.
    pub fn bring_in_everything(&mut self) -> Result<(), RunError> {
        let Kernel { memory, space, .. } = &mut self.kernel;
        let regions: Vec<u64> = space.state.regions.keys().copied().collect();
        for region in regions {
            space.attach(memory, region)?;
        }
        let brought = memory.ram.populate()?;
        self.core.stats.count_fault(Rung::Populate, SourceKind::Snapshot, brought);
        Ok(())
    }

    /// Bytes of guest memory in use on the host.
    pub fn resident_bytes(&self) -> Result<u64, RunError> {
        Ok(self.kernel.memory.ram.resident_bytes()?)
    }

    /// Pages of guest RAM that a snapshot must cover.
    pub fn used_pages(&self) -> u64 {
        self.kernel.memory.state.used_pages()
    }
}

impl Guest for Machine {
    fn core(&self) -> &Core {
        &self.core
    }

    fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    fn begin(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        if let Some(end) = self.kernel.end {
            return Ok(Some(RunEnd::Ended(end)));
        }
        self.kernel.effects.watch(options.observer.is_some());
        self.debug.halt = None;
        self.exited_at = monotonic_ns();
        // What a debugger's step begins at has been stopped at already.
        self.debug.passes = self.debug.steps.map(|_| self.kernel.task.regs.general.rip);
        if self.begins_to_step() {
            // A restored program whose timer is armed, or one that a debugger steps.
            self.resume(Resume::Full)?;
        }
        self.spinning = false;
        self.waits_for = None;
        self.spins = None;
        if let Some(end) = self.between_exits(options)? {
            return Ok(Some(end));
        }
        let uncounted = self.kernel.sched.take_uncounted();
        // A task that waited when the run came back.
        if self.kernel.resumed().is_some() || self.kernel.task.dead {
            return self.schedule(options);
        }
        self.go_on_behind_pause(uncounted, options)
    }

    fn answer(
        &mut self,
        exit: Exit,
        options: &mut RunOptions<'_>,
        signals: &BlockedSignals,
    ) -> Result<Option<RunEnd>, RunError> {
        self.answer_exit(exit, options, signals)
    }

    /// A signal that ends the program does so wherever it is. Where that is depends on the host, and
    /// nothing of what the program did since its last exit can be seen: it ends as of that exit. A debugger that
    /// is told of signals sees it, so that they come at exits then.
    fn between_exits(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        // Of several tasks only some end: they take signals at exits.
        if !self.kernel.outside.world().may_have_signal() || !self.kernel.is_alone() || self.debug.signals {
            return Ok(None);
        }
        let fatal = self.kernel.signals().fatal();
        let Some(signal) = self.kernel.outside.world().signal(Some(fatal))? else { return Ok(None) };
        self.kernel.task.regs.general.rip = self.exit_rip;
        self.die(&Info::by_kernel(signal), options)?;
        self.ended(options)
    }

    fn watchdog(&self) -> Option<Duration> {
        Some(WATCHDOG)
    }

    fn begin_entry(&mut self) -> Result<Option<RunEnd>, RunError> {
        let end = self.begin_entry()?;
        if end.is_none() {
            self.enter_copies()?;
            // Behind that, which may have brought code in.
            self.put_breakpoints()?;
        }
        Ok(end)
    }

    fn end_entry(&mut self) -> Result<(), RunError> {
        self.left_copies();
        self.end_entry()
    }

    fn evict(&mut self, choose: &mut dyn FnMut(u64) -> bool) -> Result<u64, RunError> {
        Ok(self.kernel.memory.ram.evict(choose)?)
    }

    fn code_at_rip(&self, _sregs: &kvm_sregs) -> (Place, Vec<u8>) {
        let Kernel { space, memory, task, .. } = &self.kernel;
        let general = self.core.vcpu.regs().into();
        let place = Place::from(&UserRegisters { general, ..task.regs });
        let code = fetch(place.linear_rip(), &memory.ram, &|address, _| space.walk(memory, address));
        (place, code.to_vec())
    }

    fn ended_after(&mut self, quiet_ns: u64) {
        if let Err(e) = self.leave_copies(&Exit::Signal) {
            tracing::warn!("where the program is: {e}");
        }
        self.spinning = self.may_spin(quiet_ns);
        self.spins =
            (quiet_ns >= SPINNING_NS && self.kernel.sched.any_ready()).then(|| self.where_it_spins());
    }
}
