//! The kernel that the monitor is to a program: what all tasks share, and what the running one has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::current::{Current, Shared};
use super::effects::Effects;
use super::entry::Entry;
use super::error::SysError;
use super::exception;
use super::files::FdTable;
use super::fs::{Fs, InodeId};
use super::ipc::Ipc;
use super::limits;
use super::mm::{AddressSpace, MemError, Memory};
use super::outside::SharedOutside;
use super::process::Process;
use super::sched::Scheduler;
use super::settings::SystemNames;
use super::signal::number::{SIGKILL, SIGSEGV, SIGXCPU};
use super::signal::{Actions, Delivery, Info, Signals};
use super::task::Task;
use super::timers::Which;

use crate::errno::Errno;
use crate::host::stop::StopHandle;
use crate::machine::{BadState, End, expect};
use crate::random::Random;
use crate::vcpu::registers::ExtendedState;
use crate::x86::processor::Level;
use crate::x86::vector;

/// Where the paths of tasks start, and what new files may not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsContext {
    /// Working directory: held.
    pub cwd: InodeId,
    /// File mode creation mask.
    pub umask: u32,
}

impl FsContext {
    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self, fs: &Fs) -> Result<(), BadState> {
        expect(fs.is_dir(self.cwd), "the working directory")?;
        expect(self.umask <= 0o777, "the file mode mask")
    }
}

/// The kernel of one sandbox. Tables of what tasks have stand for the running task's entries: see
/// [`current`](super::current).
#[derive(Debug)]
pub struct Kernel {
    /// Physical memory.
    pub memory: Memory,
    /// File system and world.
    pub outside: SharedOutside,
    /// Tasks, by thread number (`gettid`).
    pub task: Current<Task>,
    /// Processes, by number (`getpid`).
    pub process: Current<Process>,
    /// What every address space has mapped to enter the monitor.
    pub entry: Entry,
    /// Address spaces.
    pub space: Shared<AddressSpace>,
    /// Descriptors, and what they stand for.
    pub files: FdTable,
    /// Where paths start.
    pub context: Shared<FsContext>,
    /// What processes have asked for of signals.
    pub actions: Shared<Actions>,
    /// System V IPC and POSIX message queues.
    pub ipc: Ipc,
    /// Who runs next, and who waits.
    pub sched: Scheduler,
    /// The number of the next task.
    pub next_tid: u32,
    /// The clock.
    pub clock: Clock,
    /// When the run must be over.
    pub stop: StopHandle,
    /// The random stream.
    pub random: Random,
    /// What the machine is called.
    pub names: SystemNames,
    /// Bytes of the XSAVE area in a signal frame.
    pub fp_size: usize,
    /// Its components: XCR0.
    pub fp_components: u64,
    /// The processor that programs see.
    pub cpu: Level,
    /// What the current exit wrote.
    pub effects: Effects,
    /// System calls that are not implemented, by number: how often.
    pub unknown: BTreeMap<u64, u64>,
    /// Set when the first program has ended.
    pub end: Option<End>,
    /// Words that were written to `/dev/dejavm` in this exit.
    pub control: Vec<Vec<u8>>,
}

impl Kernel {
    /// The running task's number.
    pub fn tid(&self) -> u32 {
        self.task.id()
    }

    /// The running task's process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A task's signals.
    pub fn signals_of(&mut self, tid: u32) -> Option<Signals<'_>> {
        let Kernel { task, process, actions, .. } = self;
        let task = task.of_mut(tid)?;
        let process = process.of_mut(task.process)?;
        let actions = actions.of_mut(task.actions)?;
        Some(Signals { actions, shared: &mut process.pending, own: &mut task.signals })
    }

    /// Sends a process a signal, or the task that it is for: `info` says which.
    pub fn send(&mut self, id: u32, info: Info) {
        let tasks: Vec<u32> = match info.is_private() {
            true => vec![id],
            false => self.task.iter().filter(|(_, task)| task.process == id).map(|(tid, _)| tid).collect(),
        };
        let Some(first) = tasks.first() else { return };
        // Any that does not block it will take it: whether it is ignored is the same for all.
        let blocked = tasks.iter().all(|tid| self.signals_of(*tid).is_none_or(|s| s.keeps(info.signal)));
        if let Some(mut signals) = self.signals_of(*first) {
            signals.send(info, blocked);
        }
        for tid in tasks {
            self.wake_for_signal(tid);
        }
    }

    /// Advances the clock for an exit of the running task.
    ///
    /// # Errors
    /// As [`Clock::tick`].
    pub fn tick(&mut self) -> Result<(), SysError> {
        let before = self.clock.cpu();
        self.clock.tick(&mut self.memory, &mut self.space)?;
        self.account(before);
        Ok(())
    }

    /// Counts the CPU time since `before` for the running task.
    pub fn account(&mut self, before: u64) {
        let passed = self.clock.cpu().saturating_sub(before);
        self.task.cpu = self.task.cpu.saturating_add(passed);
        self.process.cpu = self.process.cpu.saturating_add(passed);
    }

    /// Makes another task the running one. `false` when there is none of this number.
    ///
    /// # Errors
    /// When its clock page cannot be brought in.
    pub fn switch(&mut self, tid: u32) -> Result<bool, SysError> {
        if !self.task.switch(tid) {
            return Ok(false);
        }
        self.process.switch(self.task.process);
        self.space.switch(self.task.space);
        self.files.switch(self.task.files);
        self.context.switch(self.task.context);
        self.actions.switch(self.task.actions);
        self.clock.advance(&mut self.memory, &mut self.space, 0)?;
        Ok(true)
    }

    /// The running task's signals.
    pub fn signals(&mut self) -> Signals<'_> {
        let Kernel { task, process, actions, .. } = self;
        Signals { actions, shared: &mut process.pending, own: &mut task.signals }
    }

    /// Counts a system call that is not implemented. A program may make up any number of numbers, so
    /// that only the first kinds are told apart.
    pub fn count_unknown(&mut self, number: u64) {
        /// Kinds that are told apart.
        const KINDS: usize = 512;
        /// All others.
        const OTHERS: u64 = u64::MAX;
        let known = self.unknown.contains_key(&number) || self.unknown.len() < KINDS;
        *self.unknown.entry(if known { number } else { OTHERS }).or_default() += 1;
    }

    /// Reads the program's memory.
    pub fn read(&mut self, address: u64, out: &mut [u8]) -> Result<(), SysError> {
        Ok(self.space.read(&mut self.memory, address, out)?)
    }

    /// Writes the program's memory.
    pub fn write(&mut self, address: u64, data: &[u8]) -> Result<(), SysError> {
        self.space.write(&mut self.memory, address, data)?;
        self.effects.add(address, data);
        Ok(())
    }

    /// Reads a 64-bit word.
    pub fn read_u64(&mut self, address: u64) -> Result<u64, SysError> {
        let mut bytes = [0u8; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a 32-bit word.
    pub fn read_u32(&mut self, address: u64) -> Result<u32, SysError> {
        let mut bytes = [0u8; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a path.
    pub fn read_path(&mut self, address: u64) -> Result<Vec<u8>, SysError> {
        match self.space.read_string(&mut self.memory, address, super::fs::PATH_MAX)? {
            Some(path) => Ok(path),
            None => Err(Errno::ENAMETOOLONG.into()),
        }
    }

    /// Reads `N` 64-bit words.
    pub fn read_words<const N: usize>(&mut self, address: u64) -> Result<[u64; N], SysError> {
        let mut bytes = vec![0u8; N * 8];
        self.read(address, &mut bytes)?;
        let words = bytes.as_chunks::<8>().0;
        Ok(std::array::from_fn(|i| u64::from_le_bytes(words[i])))
    }

    /// Writes 64-bit words.
    pub fn write_words(&mut self, address: u64, words: &[u64]) -> Result<(), SysError> {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.write(address, &bytes)
    }

    /// Goes back to where a signal handler was entered: `rt_sigreturn`. A frame that cannot be read, or
    /// that the CPU would refuse, is a `SIGSEGV`.
    ///
    /// # Errors
    /// When a page cannot be brought in.
    pub fn sigreturn(&mut self) -> Result<(), SysError> {
        let Kernel { task, memory, space, fp_size, fp_components, .. } = self;
        let Task { signals, regs, .. } = &mut **task;
        let left = match signals.leave(memory, space, &mut regs.general, *fp_size, *fp_components) {
            Ok(left) => left,
            Err(MemError::BadAddress(_)) => {
                self.signals().force(Info::by_kernel(SIGSEGV));
                return Ok(());
            }
            Err(MemError::Page(e)) => return Err(e.into()),
        };
        if left.fp.is_none() {
            self.signals().force(Info::by_kernel(SIGSEGV));
        } else if let Some(selector) = left.bad_selector {
            // The `iret` that goes back would fault.
            self.signals().force(exception::signal(vector::PROTECTION, (selector & !3).into(), 0));
        }
        self.task.fp = Some(Box::new(left.fp.unwrap_or_else(ExtendedState::initial)));
        Ok(())
    }

    /// The running process's interval timer of real time may have been set: others must not run past it.
    pub fn note_timer(&mut self) {
        self.sched.note_due(self.process.timers.get(Which::Real).expiry());
    }

    /// Takes the next signal to deliver.
    pub fn take_signal(&mut self) -> Option<Delivery> {
        loop {
            let delivery = self.signals().take_next()?;
            self.process.timers.signal_taken(delivery.info().signal, self.clock.monotonic());
            self.note_timer();
            if !matches!(delivery, Delivery::Ignore(_)) {
                return Some(delivery);
            }
        }
    }

    /// Takes a pending signal out of a set, whether it is blocked or not.
    pub fn take_signal_of(&mut self, set: u64) -> Option<Info> {
        let info = self.signals().take_of(set)?;
        self.process.timers.signal_taken(info.signal, self.clock.monotonic());
        self.note_timer();
        Some(info)
    }

    /// Sends the signals of interval timers that have expired. Returns whether any has.
    pub fn fire_timers(&mut self) -> bool {
        let now = self.clock.monotonic();
        self.outside.fs().expire_timers(now);
        let expired = self.process.iter_mut().flat_map(|(pid, process)| {
            process.timers.expire(now, process.cpu).map(move |signal| (pid, signal))
        });
        // In an order that does not depend on who runs.
        let mut expired: Vec<(u32, u32)> = expired.collect();
        expired.sort_unstable();
        for (pid, signal) in &expired {
            self.send(*pid, Info::by_kernel(*signal));
        }
        self.check_cpu_limit() || !expired.is_empty()
    }

    /// Sends `SIGXCPU` for each second of CPU time beyond `RLIMIT_CPU`, and `SIGKILL` at its hard limit
    /// (`check_process_timers`). Returns whether it has.
    fn check_cpu_limit(&mut self) -> bool {
        const SECOND: u64 = 1_000_000_000;
        let seconds = self.process.cpu / SECOND;
        let (soft, hard) = &mut self.process.limits[limits::CPU];
        let signal = match (seconds >= *hard, seconds >= *soft) {
            _ if *soft == u64::MAX => return false,
            (true, _) => SIGKILL,
            (false, true) => SIGXCPU,
            (false, false) => return false,
        };
        if signal == SIGXCPU {
            *soft += 1;
        }
        self.send(self.pid(), Info::by_kernel(signal));
        true
    }
}
