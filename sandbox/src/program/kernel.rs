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
use super::outside::Outside;
use super::process::Process;
use super::sched::Scheduler;
use super::settings::SystemNames;
use super::signal::number::{REAL_TIME, SIGSEGV};
use super::signal::{Actions, Info, QUEUED_MAX, Signals, bit};
use super::task::Task;

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
    pub outside: Outside,
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

    /// The tasks of a process, by number.
    pub fn tasks_of(&self, pid: u32) -> Vec<u32> {
        self.task.iter().filter(|(_, task)| task.process == pid).map(|(tid, _)| tid).collect()
    }

    /// One task of a process, for what all of them have alike; none when it has ended.
    pub fn first_task_of(&self, pid: u32) -> Option<&Task> {
        self.task.iter().find(|(_, task)| task.process == pid).map(|(_, task)| task)
    }

    /// What a process does about signals.
    pub fn actions_of(&self, pid: u32) -> Option<&Actions> {
        self.actions.of(self.first_task_of(pid)?.actions)
    }

    /// A task's signals.
    pub fn signals_of(&mut self, tid: u32) -> Option<Signals<'_>> {
        let Kernel { task, process, actions, .. } = self;
        let task = task.of_mut(tid)?;
        let process = process.of_mut(task.process)?;
        let actions = actions.of_mut(task.actions)?;
        Some(Signals { actions, shared: &mut process.pending, own: &mut task.signals })
    }

    /// Sends a process a signal, or the task that it is for: `info` says which. One that came of itself or
    /// by `kill` always comes, if need be without what it says.
    pub fn send(&mut self, id: u32, info: Info) {
        if self.try_send(id, info).is_err() {
            self.deliver_to(id, Info { signal: info.signal, direct: info.direct, ..Info::default() }, true);
        }
    }

    /// The same of a signal that is queued with what it says, or not sent (`__send_signal_locked`).
    ///
    /// # Errors
    /// `EAGAIN` when too many signals wait.
    pub fn try_send(&mut self, id: u32, info: Info) -> Result<(), Errno> {
        let queues = info.signal >= REAL_TIME && info.timer.is_none() && info.fault.is_none();
        if queues && self.room_for_signals(id) == 0 {
            return Err(Errno::EAGAIN);
        }
        self.deliver_to(id, info, false);
        Ok(())
    }

    /// How many more signals may wait, or timers be made, for all that a task's or process's limit says.
    pub fn room_for_signals(&self, id: u32) -> u64 {
        let process = self.task.of(id).map_or(id, |task| task.process);
        let limit = self.process.of(process).map_or(0, |process| process.limits[limits::SIGPENDING].0);
        let of_tasks = self.task.iter().map(|(_, task)| task.signals.pending.count());
        let of_processes = self.process.iter().map(|(_, p)| p.pending.count() + p.timers.posix.count());
        let waiting: usize = of_tasks.chain(of_processes).sum();
        limit.min(QUEUED_MAX).saturating_sub(waiting as u64)
    }

    /// Makes a signal pending, `once` at most.
    fn deliver_to(&mut self, id: u32, info: Info, once: bool) {
        let process = match info.is_private() {
            true => self.task.of(id).map_or(0, |task| task.process),
            false => id,
        };
        self.prepare_signal(process, info.signal);
        let tasks: Vec<u32> = match info.is_private() {
            true => vec![id],
            false => self.tasks_of(id),
        };
        let Some(first) = tasks.first() else { return };
        // Any that does not block it will take it: whether it is ignored is the same for all.
        let blocked = tasks.iter().all(|tid| self.signals_of(*tid).is_none_or(|s| s.keeps(info.signal)));
        if !blocked && self.stop_by(process, info.signal) {
            return;
        }
        if let Some(mut signals) = self.signals_of(*first)
            && !(once && signals.pending_bits() & bit(info.signal) != 0)
        {
            signals.send(info, blocked);
        }
        if self.outside.fs().note_signal(info.signal) {
            self.wake_for_files();
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
}
