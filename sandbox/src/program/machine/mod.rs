//! A program machine: the run loop, and which room answers which exit.

mod call;
mod delivery;
mod error;
mod exceptions;
mod instructions;
mod stepping;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::entry::{self, EXCEPTION_PORT, Entry, SYSCALL_PORT};
use super::exception::{self, vector};
use super::mm::tables;
use super::process::{End, Process};
use super::random::Random;
use crate::exit::{Exit as Record, ExitKind, Fault, Observer, Rung, SourceKind};
use crate::fault::{Finding, Ladder, Then};
use crate::host::HostProfile;
use crate::host::thread::{BlockedSignals, KickTimer, StopHandle, monotonic_ns};
use crate::stats::Stats;
use crate::vcpu::registers::ExtendedState;
use crate::vcpu::{Exit, Vcpu};
use crate::world::WorldError;
pub use delivery::Death;
use delivery::Resume;
pub use error::RunError;
use stepping::Stepper;

/// Faults of which who watches is told at once, at most.
const FAULTS_KEPT: usize = 256;

/// How often the deadline's timer kicks again, in case a kick was lost.
const KICK_AGAIN: Duration = Duration::from_millis(20);

/// A guest whose timer is armed and that has made no compared exit for so long may spin until it.
const SPINNING_NS: u64 = 100_000_000;

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
    /// After its first write to standard output.
    FirstOutput,
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
    /// Whether the last run was ended in a stretch of 100 ms or more without a compared exit, while
    /// an interval timer was armed that no exit and no step can bring about: the program may be
    /// waiting for it in a loop. For advice only, since it depends on the host's time.
    pub spinning: bool,
    loaded_bases: (u64, u64),
    stale: (u64, u32),
    stepper: Stepper,
    evict: Option<(Evict, Random)>,
    first_read_done: bool,
    /// Faults that who watches has not been told of. Never longer than [`FAULTS_KEPT`], so that it
    /// never grows.
    faults: Vec<Fault>,
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
        let evict = evict.map(|e| (e, Random::new(e.seed, 2)));
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
            spinning: false,
            loaded_bases: (regs.fs_base, regs.gs_base),
            stale: (0, 0),
            stepper: Stepper::default(),
            evict,
            first_read_done: false,
            faults: Vec::with_capacity(FAULTS_KEPT),
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
            if space.find(address).is_some() && space.walk(memory, address).is_none() {
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
        self.tell_faults(&mut options);
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
        if self.begins_to_step() {
            // A restored program whose timer is armed.
            self.resume(Resume::Full)?;
        }
        let mut left_at = monotonic_ns();
        let mut quiet_since = left_at;
        self.spinning = false;
        loop {
            if self.stop.is_stopped() {
                self.spinning = self.may_spin(left_at - quiet_since);
                return Ok(RunEnd::Stopped);
            }
            let entered = monotonic_ns();
            self.stats.time.monitor_ns += entered - left_at;
            let exit = self.vcpu.run(signals);
            left_at = monotonic_ns();
            self.stats.time.guest_ns += left_at - entered;
            let before = self.exits;
            if exit == Exit::Signal && deadline.is_some_and(|d| left_at >= d) {
                self.spinning = self.may_spin(left_at - quiet_since);
                return Ok(RunEnd::Deadline);
            }
            if let Some(end) = self.answer(exit, options, signals)? {
                return Ok(end);
            }
            if self.exits != before {
                quiet_since = left_at;
            }
            self.maybe_evict(before)?;
        }
    }

    /// Whether a guest that has been quiet for so long may wait for a timer that cannot go off.
    fn may_spin(&self, quiet_ns: u64) -> bool {
        let Process { task, clock, .. } = &self.process;
        task.alarm.is_some() && clock.timer_step.is_none() && quiet_ns >= SPINNING_NS
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
                self.process.regs.general = self.program_registers();
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
        if !pages.iter().all(|p| self.process.memory.pages.is_plain(*p)) {
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
        if options.observer.is_some() {
            if self.faults.len() == FAULTS_KEPT {
                self.vcpu.settle();
                self.tell_faults(options);
            }
            self.faults.push(Fault { page, rung, source });
        }
    }

    /// Tells who watches of the faults since the last exit. Not at each fault: who watches may do
    /// anything, and RDTSC must not fault in this thread meanwhile, which takes as long to bring
    /// about as a third of the fault itself.
    fn tell_faults(&mut self, options: &mut RunOptions<'_>) {
        if let Some(observer) = &mut options.observer {
            self.faults.drain(..).for_each(|fault| observer.fault(&fault));
        }
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
        self.tell_faults(options);
        self.exits += 1;
        self.stepper.steps = 0;
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

    /// Whether the run is to pause behind the exit that was answered last.
    fn reached(&self, options: &RunOptions<'_>) -> bool {
        matches!(options.pause, PauseAt::Exit(number) if self.exits >= number)
    }

    /// What the machine knows of its host.
    pub fn host_profile(&self) -> &HostProfile {
        &self.host
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
        self.process.memory.state.used_pages()
    }
}
