//! A program machine: the run loop, and what each exit means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use iced_x86::{Code, Decoder, DecoderOptions, Instruction};
use serde::{Deserialize, Serialize};

use super::entry::{self, EXCEPTION_PORT, Entry, SYSCALL_PORT};
use super::exception::{self, code, page_fault, vector};
use super::mm::{Access, FaultAnswer, tables};
use super::process::{End, Process, SysError};
use super::signal::number::SIGSEGV;
use super::signal::{self, Context, Delivery, Info};
use super::syscall::{self, After, number};
use crate::exit::{Exit as Record, ExitKind, Fault, Observer, Rung, SourceKind, Trapped};
use crate::fault::{FaultError, Finding, Ladder, Then};
use crate::host::HostProfile;
use crate::host::thread::{BlockedSignals, KickTimer, StopHandle, monotonic_ns};
use crate::ram::{PAGE_SIZE, PageError};
use crate::stats::Stats;
use crate::vcpu::registers::{ExtendedState, General};
use crate::vcpu::{Exit, Vcpu, VcpuError};
use crate::world::WorldError;

/// How often the deadline's timer kicks again, in case a kick was lost.
const KICK_AGAIN: Duration = Duration::from_millis(20);
/// How often a fault may find the tables right without getting anywhere.
const STALE_PATIENCE: u32 = 3;
/// Lowest address that is not canonical.
const CANONICAL_END: u64 = 1 << 47;

/// Why a run came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEnd {
    /// The program ended.
    Ended(End),
    /// The deadline passed.
    Deadline,
    /// It was stopped by its handle.
    Stopped,
    /// It came to the point that it was to pause at; it can be run on.
    Paused,
    /// It waits for something that can never come.
    Stuck,
}

/// Where a run pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PauseAt {
    /// Nowhere.
    #[default]
    Never,
    /// When the program writes `snapshot` to `/dev/dejavm`.
    Ready,
    /// Before its first read of standard input.
    FirstRead,
    /// After this compared exit.
    Exit(u64),
}

/// Fault injection: makes present pages absent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evict {
    /// Every so many compared exits.
    pub every: u64,
    /// Which pages: a random half, from this seed.
    pub seed: u64,
}

/// What ends a run with an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A fault could not be settled.
    #[error(transparent)]
    Fault(FaultError),
    /// A page could not be had.
    #[error(transparent)]
    Page(PageError),
    /// The outside ended the run: a divergence, the end of a recording, a recorder that fails.
    #[error(transparent)]
    World(WorldError),
    /// KVM refused something.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// An exit that has no meaning here.
    #[error(
        "{what} at RIP {rip:#x} ({exit}); the sandbox cannot go on; `dejavm doctor` shows what this host does"
    )]
    Unexpected {
        /// What was seen.
        what: String,
        /// Where the guest was.
        rip: u64,
        /// The exit.
        exit: String,
    },
    /// The host refused a timer.
    #[error("the host gives no timer: {0}")]
    Timer(std::io::Error),
    /// The monitor failed.
    #[error("{0}")]
    Machine(String),
}

impl From<WorldError> for RunError {
    fn from(e: WorldError) -> RunError {
        RunError::World(e)
    }
}

impl From<PageError> for RunError {
    fn from(e: PageError) -> RunError {
        match e {
            PageError::World(e) => RunError::World(e),
            e => RunError::Page(e),
        }
    }
}

impl From<FaultError> for RunError {
    fn from(e: FaultError) -> RunError {
        match e {
            FaultError::Page(e) => e.into(),
            e => RunError::Fault(e),
        }
    }
}

impl From<SysError> for RunError {
    fn from(e: SysError) -> RunError {
        match e {
            SysError::World(e) => RunError::World(e),
            SysError::Page(e) => e.into(),
            SysError::Errno(errno) => RunError::Machine(errno.to_string()),
            SysError::Block => RunError::Machine("a call that waits was not expected here".into()),
            SysError::Machine(text) => RunError::Machine(text),
        }
    }
}

/// What a program died of, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// The signal.
    pub signal: u32,
    /// Where the program was.
    pub rip: u64,
    /// The address that a fault was about.
    pub address: Option<u64>,
    /// What lies at or next to it.
    pub nearest: String,
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "killed by {} at RIP {:#x}", signal::name(self.signal), self.rip)?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        if !self.nearest.is_empty() {
            write!(f, " ({})", self.nearest)?;
        }
        Ok(())
    }
}

/// How the guest is entered again after an exit was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resume {
    /// Behind a system call, with the process's registers.
    Syscall,
    /// Anywhere, with all of the process's registers.
    Full,
}

/// A program machine. The vCPU comes first, so that it is gone before the memory that it maps.
pub struct Machine {
    vcpu: Vcpu,
    /// The program.
    pub process: Process,
    entry: Entry,
    ladder: Ladder,
    host: Arc<HostProfile>,
    stop: StopHandle,
    /// Compared exits so far.
    pub exits: u64,
    /// The run's seed.
    pub seed: u64,
    /// What happened so far.
    pub stats: Stats,
    /// What the program died of.
    pub death: Option<Death>,
    loaded_bases: (u64, u64),
    stale: (u64, u32),
    evict: Option<(Evict, super::random::Random)>,
    first_read_done: bool,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("exits", &self.exits).finish_non_exhaustive()
    }
}

/// Limits and interests of one call of [`Machine::run`].
#[derive(Default)]
pub struct RunOptions<'a> {
    /// When the run must end.
    pub deadline: Option<Instant>,
    /// Where it pauses.
    pub pause: PauseAt,
    /// Who watches.
    pub observer: Option<&'a mut dyn Observer>,
}

impl Machine {
    /// Puts a vCPU and a program together. The process's registers are what the guest starts with.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn new(
        mut vcpu: Vcpu,
        mut process: Process,
        fp: &ExtendedState,
        host: Arc<HostProfile>,
        stop: StopHandle,
        forced: Option<Rung>,
        evict: Option<Evict>,
    ) -> Result<Machine, RunError> {
        let entry = Entry::new(&mut process.memory, &mut process.space, host.syscall_stays_user)?;
        vcpu.set_cpuid(&host.cpuid)?;
        vcpu.set_msrs(&entry::syscall_msrs())?;
        let mut sregs = vcpu.sregs()?;
        let regs = process.regs;
        entry::user_mode(
            &mut sregs,
            process.space.root(),
            regs.fs_base,
            regs.gs_base,
            host.fsgsbase,
            host.tsc_by_cr4 || host.tsc_by_thread,
        );
        vcpu.set_sregs(&sregs)?;
        vcpu.set_xcr0(host.xcr0)?;
        vcpu.set_extended_state(fp)?;
        vcpu.trap_tsc_by_thread(host.tsc_by_thread);
        *vcpu.regs_mut() = (&regs.general).into();
        let evict = evict.map(|e| (e, super::random::Random::new(e.seed, 2)));
        Ok(Machine {
            vcpu,
            process,
            entry,
            ladder: Ladder::new(forced),
            host,
            stop,
            exits: 0,
            seed: 0,
            stats: Stats::default(),
            death: None,
            loaded_bases: (regs.fs_base, regs.gs_base),
            stale: (0, 0),
            evict,
            first_read_done: false,
        })
    }

    /// Floating-point state, for a snapshot.
    pub fn extended_state(&self) -> Result<ExtendedState, RunError> {
        Ok(self.vcpu.extended_state()?)
    }

    /// Takes the segment bases from the vCPU: a program may have set them itself.
    pub fn refresh_bases(&mut self) -> Result<(), RunError> {
        let sregs = self.vcpu.sregs()?;
        self.process.regs.fs_base = sregs.fs.base;
        self.process.regs.gs_base = sregs.gs.base;
        self.loaded_bases = (sregs.fs.base, sregs.gs.base);
        Ok(())
    }

    /// Attaches the regions that the first instructions touch.
    pub fn warm_up(&mut self) -> Result<(), RunError> {
        let Process { memory, space, regs, .. } = &mut self.process;
        for address in [regs.general.rip, regs.general.rsp.saturating_sub(1)] {
            if space.find(address).is_some() {
                space.attach(memory, tables::region_of(address))?;
            }
        }
        Ok(())
    }

    /// Runs the program until it ends, pauses, or is ended.
    ///
    /// # Errors
    /// [`RunError`]; the machine cannot be run on after one.
    pub fn run(&mut self, mut options: RunOptions<'_>) -> Result<RunEnd, RunError> {
        let signals = BlockedSignals::new();
        let stop = self.stop.clone();
        let _running = stop.running();
        let _timer = match options.deadline {
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                Some(KickTimer::start(left, KICK_AGAIN).map_err(RunError::Timer)?)
            }
            None => None,
        };
        let deadline = options
            .deadline
            .map(|d| monotonic_ns() + d.saturating_duration_since(Instant::now()).as_nanos() as u64);
        let result = self.run_loop(&mut options, &signals, deadline);
        self.vcpu.settle();
        match result {
            Err(RunError::World(WorldError::Interrupted)) if stop.is_stopped() => Ok(RunEnd::Stopped),
            Err(RunError::World(WorldError::Interrupted)) => Ok(RunEnd::Deadline),
            other => other,
        }
    }

    fn run_loop(
        &mut self,
        options: &mut RunOptions<'_>,
        signals: &BlockedSignals,
        deadline: Option<u64>,
    ) -> Result<RunEnd, RunError> {
        if let Some(end) = self.process.end {
            return Ok(RunEnd::Ended(end));
        }
        let mut left_at = monotonic_ns();
        loop {
            if self.stop.is_stopped() {
                return Ok(RunEnd::Stopped);
            }
            let entered = monotonic_ns();
            self.stats.time.monitor_ns += entered - left_at;
            let exit = self.vcpu.run(signals);
            left_at = monotonic_ns();
            self.stats.time.guest_ns += left_at - entered;
            let before = self.exits;
            if exit == Exit::Signal && deadline.is_some_and(|d| left_at >= d) {
                return Ok(RunEnd::Deadline);
            }
            if let Some(end) = self.answer(exit, options, signals)? {
                return Ok(end);
            }
            self.maybe_evict(before)?;
        }
    }

    /// Counted in compared exits: faults do not count, or the pages that a loop needs might never
    /// be there together.
    fn maybe_evict(&mut self, before: u64) -> Result<(), RunError> {
        if let Some((evict, random)) = &mut self.evict
            && self.exits != before
            && self.exits.is_multiple_of(evict.every.max(1))
        {
            self.vcpu.settle();
            self.stats.evicted += self.process.memory.ram.evict(|_| random.below(2) == 0)?;
        }
        Ok(())
    }

    /// Answers one exit. `Some` ends the run.
    fn answer(
        &mut self,
        exit: Exit,
        options: &mut RunOptions<'_>,
        signals: &BlockedSignals,
    ) -> Result<Option<RunEnd>, RunError> {
        // The frequent exits first.
        match &exit {
            Exit::Out { port: SYSCALL_PORT, .. } if Entry::is_syscall_stub(self.vcpu.regs().rip) => {
                self.vcpu.settle();
                return self.syscall(options);
            }
            Exit::Out { port: EXCEPTION_PORT, .. } => {
                if let Some(vector) = Entry::vector_at(self.vcpu.regs().rip) {
                    return self.exception(vector, options);
                }
            }
            Exit::Out { port: SYSCALL_PORT, .. } => {
                // A program's own `out`: on hosts that open the port it exits, elsewhere it faults.
                self.vcpu.settle();
                self.stats.exits.exceptions += 1;
                self.process.regs.general = self.vcpu.regs().into();
                return self.raise(exception::signal(vector::PROTECTION, 0, 0), options);
            }
            _ => {}
        }
        let translate = |address| self.process.space.walk(&self.process.memory, address);
        let mut regs = self.process.regs;
        regs.general = self.vcpu.regs().into();
        match self.ladder.find(exit, &regs, signals, &self.process.memory.ram, &translate) {
            Finding::Wanted { pages, rung, then } => {
                self.fault(&pages, rung, &then, options)?;
                Ok(None)
            }
            Finding::Unknown => {
                self.vcpu.settle();
                let settled = self.ladder.populate(regs.general.rip, &self.process.memory.ram)?;
                self.count_fault(settled.page, Rung::Populate, settled.source, settled.brought, options);
                Ok(None)
            }
            Finding::Kick => Ok(None),
            Finding::Other(exit) => Err(self.unexpected("an exit that no program can cause", &exit)),
        }
    }

    fn unexpected(&mut self, what: &str, exit: &Exit) -> RunError {
        self.vcpu.settle();
        RunError::Unexpected { what: what.to_string(), rip: self.vcpu.regs().rip, exit: format!("{exit:?}") }
    }

    fn fault(
        &mut self,
        pages: &[u64],
        rung: Rung,
        then: &Then,
        options: &mut RunOptions<'_>,
    ) -> Result<(), RunError> {
        let outside =
            options.observer.is_some() || pages.iter().any(|p| self.process.memory.pages.asks_outside(*p));
        if outside {
            self.vcpu.settle();
        }
        let settled = self.ladder.settle(pages, rung, then, &mut self.vcpu, &self.process.memory.ram)?;
        self.count_fault(settled.page, rung, settled.source, settled.brought, options);
        Ok(())
    }

    fn count_fault(
        &mut self,
        page: u64,
        rung: Rung,
        source: SourceKind,
        brought: u64,
        options: &mut RunOptions<'_>,
    ) {
        self.stats.count_fault(rung, source, brought);
        if let Some(observer) = &mut options.observer {
            self.vcpu.settle();
            observer.fault(&Fault { page, rung, source });
        }
    }

    fn syscall(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        let general = General::from(self.vcpu.regs());
        let number = general.rax;
        let args = [general.rdi, general.rsi, general.rdx, general.r10, general.r8, general.r9];
        self.process.regs.general =
            General { rip: general.rcx, rflags: signal::sanitize_flags(general.r11), ..general };
        if options.pause == PauseAt::FirstRead && !self.first_read_done && self.reads_stdin(number, args) {
            // Paused before the call: it is made again when the program goes on.
            self.first_read_done = true;
            self.again(number);
            self.resume(Resume::Full)?;
            return Ok(Some(RunEnd::Paused));
        }
        self.stats.exits.syscalls += 1;
        *self.stats.syscalls.entry(number).or_default() += 1;
        if number == number::ARCH_PRCTL {
            self.refresh_bases()?;
        }
        let Process { clock, memory, space, .. } = &mut self.process;
        clock.tick(memory, space).map_err(SysError::from)?;
        self.process.fire_alarm();
        let mut resume = Resume::Syscall;
        let result = match syscall::call(&mut self.process, number, args) {
            Ok(After::Return(value)) => {
                self.process.regs.general.rax = value;
                value
            }
            Ok(After::Replaced) => {
                if let Some(fp) = self.process.fp.take() {
                    self.vcpu.set_extended_state(&fp)?;
                }
                resume = Resume::Full;
                self.process.regs.general.rax
            }
            Ok(After::Ended) => 0,
            Err(SysError::Block) => {
                if !self.process.sleep_until_alarm()? {
                    self.again(number);
                    self.resume(Resume::Full)?;
                    return Ok(Some(RunEnd::Stuck));
                }
                self.process.regs.general.rax = crate::errno::Errno::EINTR.to_rax();
                self.process.regs.general.rax
            }
            Err(SysError::World(WorldError::Interrupted)) => {
                self.again(number);
                self.resume(Resume::Full)?;
                return Err(WorldError::Interrupted.into());
            }
            Err(e) => return Err(e.into()),
        };
        self.record(ExitKind::Syscall { number, args }, general.rcx, result, options)?;
        if let Some(end) = self.ended(options)? {
            return Ok(Some(end));
        }
        if !canonical(self.process.regs.general.rip) {
            self.process.signals.force(exception::signal(vector::PROTECTION, 0, 0));
        }
        resume = self.deliver(resume, options)?;
        if let Some(end) = self.ended(options)? {
            return Ok(Some(end));
        }
        self.resume(resume)?;
        let ready =
            std::mem::take(&mut self.process.control).iter().any(|word| word.trim_ascii() == b"snapshot");
        let paused = self.reached(options) || (ready && options.pause == PauseAt::Ready);
        Ok(paused.then_some(RunEnd::Paused))
    }

    /// Points the registers back at the system call that is being answered.
    fn again(&mut self, number: u64) {
        const SYSCALL_BYTES: u64 = 2;
        self.process.regs.general.rip = self.process.regs.general.rip.wrapping_sub(SYSCALL_BYTES);
        self.process.regs.general.rax = number;
    }

    fn reads_stdin(&mut self, number: u64, args: [u64; 6]) -> bool {
        let reads = matches!(number, number::READ | number::READV);
        reads && self.process.is_stdin(args[0])
    }

    fn ended(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        let Some(end) = self.process.end else { return Ok(None) };
        let status = match end {
            End::Exited(status) => i32::from(status) << 8,
            End::Signalled(signal) => signal as i32,
        };
        let rip = self.process.regs.general.rip;
        self.record(ExitKind::End { status }, rip, 0, options)?;
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
        self.exits += 1;
        let effects = self.process.effects.take();
        if let Some(observer) = &mut options.observer {
            let exit = Record {
                number: self.exits,
                kind,
                rip,
                result,
                effects,
                clock: self.process.clock.realtime(),
            };
            observer.exit(&exit)?;
        }
        Ok(())
    }

    fn exception(&mut self, vector: u8, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        let rsp = self.vcpu.regs().rsp;
        let Some((error, frame)) = self.entry.frame(&self.process.memory, vector, rsp) else {
            let exit = Exit::Other(format!("vector {vector}, RSP {rsp:#x}"));
            return Err(self.unexpected("an exception off the exception stack", &exit));
        };
        if frame.cs & 3 != 3 {
            let exit = Exit::Other(format!("vector {vector}, error {error:#x}, RIP {:#x}", frame.rip));
            return Err(self.unexpected("an exception in the entry stubs", &exit));
        }
        let address = match vector {
            vector::PAGE_FAULT => self.vcpu.sregs()?.cr2,
            _ => 0,
        };
        if vector == vector::PAGE_FAULT {
            let access = if error & page_fault::FETCH != 0 {
                Access::Exec
            } else if error & page_fault::WRITE != 0 {
                Access::Write
            } else {
                Access::Read
            };
            let Process { space, memory, .. } = &mut self.process;
            match space.fault(memory, address, access)? {
                FaultAnswer::Attached => {
                    let page = self.process.space.walk(&self.process.memory, address);
                    return self.region_attached(page, options);
                }
                FaultAnswer::Stale if self.stale_again(address) <= STALE_PATIENCE => {
                    if let Some(page) = self.process.space.walk(&self.process.memory, address) {
                        self.process.memory.ram.invalidate(page..page + 1)?;
                    }
                    return Ok(None);
                }
                FaultAnswer::Stale => {
                    let exit = Exit::Other(format!("page fault at {address:#x}, error {error:#x}"));
                    return Err(self.unexpected("a page fault that the page tables do not explain", &exit));
                }
                answer => {
                    self.vcpu.settle();
                    self.take_frame(&frame);
                    let info = match answer {
                        FaultAnswer::NotMapped => {
                            exception::page_fault_signal(false, code::SEGV_MAPERR, error, address)
                        }
                        FaultAnswer::BeyondFile => {
                            exception::page_fault_signal(true, code::BUS_ADRERR, error, address)
                        }
                        FaultAnswer::OutOfMemory => {
                            tracing::warn!("guest memory is used up");
                            Info { signal: signal::number::SIGKILL, ..Default::default() }
                        }
                        _ => exception::page_fault_signal(false, code::SEGV_ACCERR, error, address),
                    };
                    self.record_exception(vector, error, address, options)?;
                    return self.raise(info, options);
                }
            }
        }
        self.vcpu.settle();
        if vector == vector::PROTECTION
            && let Some((trapped, len)) = self.trapped_at(frame.rip)?
        {
            self.stats.exits.instructions += 1;
            let Process { clock, memory, space, .. } = &mut self.process;
            clock.tick(memory, space).map_err(SysError::from)?;
            let tsc = self.process.clock.monotonic();
            let regs = self.vcpu.regs_mut();
            regs.rax = tsc & 0xffff_ffff;
            regs.rdx = tsc >> 32;
            if trapped == Trapped::Rdtscp {
                // TSC_AUX: CPU 0 of node 0.
                regs.rcx = 0;
            }
            let mut next = frame;
            next.rip += len;
            self.entry.set_frame(&self.process.memory, vector, rsp, &next);
            self.record(ExitKind::Instruction(trapped), frame.rip, tsc, options)?;
            if self.reached(options) {
                // The vCPU is still in a stub; whoever goes on from here knows the program only.
                self.take_frame(&next);
                self.resume(Resume::Full)?;
                return Ok(Some(RunEnd::Paused));
            }
            return Ok(None);
        }
        self.take_frame(&frame);
        // `INT n` without a gate is a general protection fault; where KVM emulates it, it comes as an
        // invalid opcode.
        let vector =
            if vector == vector::INVALID_OPCODE && self.instruction(frame.rip)?.code() == Code::Int_imm8 {
                vector::PROTECTION
            } else {
                vector
            };
        self.record_exception(vector, error, frame.rip, options)?;
        self.raise(exception::signal(vector, error, frame.rip), options)
    }

    fn record_exception(
        &mut self,
        vector: u8,
        code: u64,
        address: u64,
        options: &mut RunOptions<'_>,
    ) -> Result<(), RunError> {
        self.stats.exits.exceptions += 1;
        let rip = self.process.regs.general.rip;
        let Process { clock, memory, space, .. } = &mut self.process;
        clock.tick(memory, space).map_err(SysError::from)?;
        // Whether a page was present when it was touched depends on the host.
        let code = if vector == vector::PAGE_FAULT { code & !1 } else { code };
        self.record(ExitKind::Exception { vector, code, address }, rip, 0, options)
    }

    fn region_attached(
        &mut self,
        page: Option<u64>,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        // The page that was touched may have to be brought in next: do it now, and save an exit.
        let Some(page) = page else { return Ok(None) };
        let mut source = SourceKind::Zero;
        let mut brought = 0;
        if !self.process.memory.ram.is_there(page) {
            if self.process.memory.pages.asks_outside(page) {
                self.vcpu.settle();
            }
            (brought, source) = self.process.memory.ram.bring_in(page)?;
        }
        self.count_fault(page, Rung::Region, source, brought, options);
        Ok(None)
    }

    fn stale_again(&mut self, address: u64) -> u32 {
        if self.stale.0 == address {
            self.stale.1 += 1;
        } else {
            self.stale = (address, 1);
        }
        self.stale.1
    }

    /// Takes the program's registers out of the vCPU, which is in a stub, and the exception frame.
    fn take_frame(&mut self, frame: &entry::Frame) {
        self.process.regs.general = General {
            rip: frame.rip,
            rsp: frame.rsp,
            rflags: signal::sanitize_flags(frame.rflags),
            ..General::from(self.vcpu.regs())
        };
    }

    /// The instruction at an address; an invalid one where there is none.
    fn instruction(&mut self, rip: u64) -> Result<Instruction, RunError> {
        let mut bytes = [0u8; 15];
        let n = self.process.space.accessible(rip, bytes.len(), Access::Exec);
        self.process.read(rip, &mut bytes[..n])?;
        Ok(Decoder::with_ip(64, &bytes[..n], rip, DecoderOptions::NONE).decode())
    }

    /// The instruction at RIP, if it is one that the monitor answers.
    fn trapped_at(&mut self, rip: u64) -> Result<Option<(Trapped, u64)>, RunError> {
        let instruction = self.instruction(rip)?;
        let trapped = match instruction.code() {
            Code::Rdtsc => Trapped::Rdtsc,
            Code::Rdtscp => Trapped::Rdtscp,
            _ => return Ok(None),
        };
        Ok(Some((trapped, instruction.len() as u64)))
    }

    /// Sends the program a signal for what it did, and delivers it.
    fn raise(&mut self, info: Info, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        self.process.signals.force(info);
        let resume = self.deliver(Resume::Full, options)?;
        if let Some(end) = self.ended(options)? {
            return Ok(Some(end));
        }
        self.resume(resume)?;
        Ok(self.reached(options).then_some(RunEnd::Paused))
    }

    /// Whether the run is to pause behind the exit that was answered last.
    fn reached(&self, options: &RunOptions<'_>) -> bool {
        matches!(options.pause, PauseAt::Exit(number) if self.exits >= number)
    }

    /// Delivers pending signals: the last handler to be entered runs first.
    fn deliver(&mut self, mut resume: Resume, _options: &mut RunOptions<'_>) -> Result<Resume, RunError> {
        while let Some(delivery) = self.process.signals.take_next() {
            match delivery {
                Delivery::Terminate(info) => {
                    self.die(&info);
                    return Ok(resume);
                }
                Delivery::Handle(info, action) => {
                    resume = Resume::Full;
                    let fp = self.vcpu.extended_state()?;
                    let Process { signals, memory, space, regs, task, .. } = &mut self.process;
                    let context = Context {
                        regs: &mut regs.general,
                        fp: &fp,
                        fp_size: self.host.xsave_bytes,
                        fp_components: self.host.xcr0,
                    };
                    match signals.enter(memory, space, context, &info, &action, task.sigreturn) {
                        Ok(()) => self.vcpu.set_extended_state(&ExtendedState::initial())?,
                        Err(super::mm::MemError::BadAddress(address)) => {
                            self.die(&Info { signal: SIGSEGV, value: address, ..info });
                            return Ok(resume);
                        }
                        Err(super::mm::MemError::Page(e)) => return Err(e.into()),
                    }
                }
            }
        }
        if let Some(mask) = self.process.signals.saved_mask.take() {
            self.process.signals.mask = mask;
        }
        Ok(resume)
    }

    fn die(&mut self, info: &Info) {
        let address = info.fault.and_then(|(vector, _, cr2)| (vector == vector::PAGE_FAULT).then_some(cr2));
        let nearest = match address {
            Some(address) => match self.process.space.nearest(address) {
                Some((start, vma)) => {
                    let name = String::from_utf8_lossy(&vma.name).into_owned();
                    let name = if name.is_empty() { "an anonymous mapping".to_string() } else { name };
                    let p = vma.protection;
                    let rights: String = [(p.read, 'r'), (p.write, 'w'), (p.exec, 'x')]
                        .map(|(on, c)| if on { c } else { '-' })
                        .iter()
                        .collect();
                    let place = if address < start {
                        format!("{:#x} below", start - address)
                    } else if address >= vma.end {
                        format!("{:#x} behind", address - vma.end)
                    } else {
                        "inside".to_string()
                    };
                    format!("{place} {name}, {start:#x}-{:#x} {rights}", vma.end)
                }
                None => "nothing is mapped".to_string(),
            },
            None => String::new(),
        };
        self.death =
            Some(Death { signal: info.signal, rip: self.process.regs.general.rip, address, nearest });
        self.process.end = Some(End::Signalled(info.signal));
    }

    /// Makes the vCPU go on with the process's registers.
    fn resume(&mut self, resume: Resume) -> Result<(), RunError> {
        let regs = self.process.regs;
        let bases = (regs.fs_base, regs.gs_base);
        let full = match resume {
            Resume::Full => true,
            Resume::Syscall => bases != self.loaded_bases,
        };
        if full {
            let mut sregs = self.vcpu.sregs()?;
            let (fs, gs) = if bases == self.loaded_bases { (sregs.fs.base, sregs.gs.base) } else { bases };
            let trap = self.host.tsc_by_cr4 || self.host.tsc_by_thread;
            entry::user_mode(&mut sregs, self.process.space.root(), fs, gs, self.host.fsgsbase, trap);
            self.vcpu.set_sregs(&sregs)?;
            self.loaded_bases = (fs, gs);
            *self.vcpu.regs_mut() = (&regs.general).into();
        } else if self.host.syscall_stays_user {
            *self.vcpu.regs_mut() = (&regs.general).into();
        } else {
            // `sysretq` in the stub takes RIP from RCX and RFLAGS from R11.
            let stub = *self.vcpu.regs();
            let mut next: kvm_bindings::kvm_regs = (&regs.general).into();
            (next.rip, next.rsp, next.rflags) = (stub.rip, regs.general.rsp, stub.rflags);
            (next.rcx, next.r11) = (regs.general.rip, regs.general.rflags);
            *self.vcpu.regs_mut() = next;
        }
        Ok(())
    }

    /// What the machine knows of its host.
    pub fn host_profile(&self) -> &HostProfile {
        &self.host
    }

    /// Attaches the regions of these pages.
    pub fn attach(&mut self, pages: &[u64]) -> Result<(), RunError> {
        let Process { memory, space, .. } = &mut self.process;
        Ok(space.attach_pages(memory, pages)?)
    }

    /// Attaches everything that is mapped and brings all of it in.
    pub fn bring_in_everything(&mut self) -> Result<(), RunError> {
        let Process { memory, space, .. } = &mut self.process;
        let regions: Vec<u64> = space.state.regions.keys().copied().collect();
        for region in regions {
            space.attach(memory, region)?;
        }
        let brought = memory.ram.populate()?;
        self.stats.count_fault(Rung::Populate, SourceKind::Snapshot, brought);
        Ok(())
    }

    /// Bytes of guest memory in use on the host.
    pub fn resident_bytes(&self) -> Result<u64, RunError> {
        Ok(self.process.memory.ram.resident_bytes()?)
    }

    /// Pages of guest RAM that a snapshot must cover.
    pub fn used_pages(&self) -> u64 {
        u64::from(self.process.memory.state.chunks.used()) * (super::mm::CHUNK_BYTES / PAGE_SIZE as u64)
    }
}

fn canonical(address: u64) -> bool {
    address < CANONICAL_END
}
