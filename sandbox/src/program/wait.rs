//! Waiting: what for and until when.
//!
//! A call that must wait gives [`SysError::Wait`]: the task is parked with what it waits for, and another
//! one runs. When something that it waits for happens, or its time is over, or a signal is there for it,
//! the call is made again from its start; `resumed` tells it what it had done before. Nothing else knows of
//! waiting, and no time passes while a task can run.

use serde::{Deserialize, Serialize};

use super::clock::ClockMode;
use super::error::{SysError, SysResult};
use super::fs::{FsError, InodeId};
use super::kernel::Kernel;
use super::process::FIRST_PID;
use super::signal::number::MAX;
use super::signal::{Info, SI_KERNEL};
use super::syscall::number;
use crate::errno::Errno;
use crate::world::{Source, Wake};

/// Something that happens, and that tasks wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// A file becomes ready for more, or a lock on it is given up.
    File(InodeId),
    /// There is input from outside.
    Input(bool),
    /// A private futex: address space and address.
    Futex(u32, u64),
    /// A futex in a shared object: its number and the offset.
    SharedFutex(u64, u64),
    /// A child of a process ends.
    Child(u32),
    /// A task gives up the address space that it shares with the one that made it (`vfork`).
    Released(u32),
    /// What a task waits for in a set of semaphores or a message queue has come about.
    Ipc(u32),
    /// There is room in a System V message queue.
    MessageRoom(i32),
    /// CPU time of a process passes.
    Cpu(u32),
}

impl Key {
    /// Of input.
    pub fn input(source: Source) -> Key {
        Key::Input(source == Source::Terminal)
    }
}

/// What a call waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Any of these.
    pub on: Vec<Key>,
    /// The moment at which it is over, nanoseconds of monotonic time.
    pub until: Option<u64>,
    /// Blocked signals that end it as well: `sigtimedwait`.
    pub signals: u64,
    /// What the call has done so far, in its own terms.
    pub done: u64,
    /// The moment at which all of the call is over, where it waits several times.
    pub limit: Option<u64>,
    /// Only a signal that ends the process ends it (`TASK_KILLABLE`).
    pub killable: bool,
    /// Behind a handler the call is made again, whatever the handler's flags say (`ERESTARTNOINTR`).
    pub made_again: bool,
}

impl Wait {
    /// For one thing.
    pub fn on(key: Key) -> Wait {
        Wait { on: vec![key], ..Wait::default() }
    }

    /// Until a moment, if there is one.
    pub fn until(until: Option<u64>) -> Wait {
        Wait { until, ..Wait::default() }
    }
}

/// A system call on its way to the answer. The program's registers are those behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 6],
    /// RAX before it.
    pub rax: u64,
    /// How it came.
    pub way: Way,
}

/// How a system call comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// By `SYSCALL`.
    Syscall,
    /// By `int 0x80`.
    Int80,
    /// By a call into the vsyscall page.
    Vsyscall,
}

/// A call that waits, or is about to be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The call.
    pub call: Call,
    /// What it waits for.
    pub wait: Wait,
    /// Something that it waited for has happened.
    pub woken: bool,
}

/// How an idle sandbox goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Something has happened: a task may be able to run.
    Woken,
    /// Nothing can ever happen again.
    Stuck,
}

impl Kernel {
    /// What the running call had done and waited for, when it is made again.
    pub(super) fn resumed(&self) -> Option<&Parked> {
        self.task.parked.as_ref()
    }

    /// The moment that is so many nanoseconds from the beginning of the running call.
    pub(super) fn deadline(&mut self, ns: u64) -> Result<u64, SysError> {
        if let Some(until) = self.resumed().and_then(|parked| parked.wait.until) {
            return Ok(until);
        }
        self.refresh_clock()?;
        Ok(self.clock.monotonic().saturating_add(ns))
    }

    /// Nothing is there yet: the call waits, for so many nanoseconds from its beginning at most.
    ///
    /// # Errors
    /// The wait; `EINTR` when there is a signal. `Ok` when the time is over.
    pub(super) fn wait_at_most(
        &mut self,
        timeout: Option<u64>,
        wait: impl FnOnce(&mut Kernel) -> Result<Wait, SysError>,
    ) -> Result<(), SysError> {
        if self.signals().any_deliverable() {
            return Err(Errno::EINTR.into());
        }
        let until = match timeout {
            Some(0) => return Ok(()),
            Some(ns) => Some(self.deadline(ns)?),
            None => None,
        };
        if self.has_come(until) {
            return Ok(());
        }
        Err(SysError::Wait(Wait { until, ..wait(self)? }))
    }

    /// Whether a moment has come.
    pub(super) fn has_come(&self, until: Option<u64>) -> bool {
        until.is_some_and(|until| until <= self.clock.monotonic())
    }

    /// Takes the host's time over, where that is the clock.
    pub(super) fn refresh_clock(&mut self) -> Result<(), SysError> {
        if self.clock.mode == ClockMode::Host {
            let now = self.outside.world().clock()?;
            self.clock.set(now);
        }
        Ok(())
    }

    /// Parks the running task.
    pub(super) fn park(&mut self, call: Call, wait: Wait) {
        let tid = self.tid();
        if let Some(before) = self.task.parked.take() {
            self.sched.unpark(tid, &before.wait);
        }
        self.sched.park(tid, &wait);
        self.task.parked = Some(Parked { call, wait, woken: false });
    }

    /// The running task's call is over.
    pub(super) fn call_is_over(&mut self) {
        let tid = self.tid();
        self.leave_ipc(tid);
        if let Some(parked) = self.task.parked.take() {
            self.sched.unpark(tid, &parked.wait);
            self.leave_fifos(tid, &parked.wait);
        }
    }

    /// A task waits no more for the other end of a FIFO, if it did.
    pub(super) fn leave_fifos(&mut self, tid: u32, wait: &Wait) {
        for key in &wait.on {
            if let Key::File(inode) = key {
                self.outside.fs().leave_fifo(*inode, tid);
            }
        }
    }

    /// The running task's call was left before its answer: it is made again when the run goes on.
    pub(super) fn make_again(&mut self, call: Call) {
        let tid = self.tid();
        let parked = self.task.parked.take();
        let (wait, woken) = parked.map(|parked| (parked.wait, parked.woken)).unwrap_or_default();
        self.task.parked = Some(Parked { call, wait, woken });
        self.sched.make_next(tid);
    }

    /// Makes a parked task ready. Unless it is woken it waits until its turn comes, and what happens before
    /// that wakes it: a signal that made it ready may be another thread's by then.
    fn unpark(&mut self, tid: u32, woken: bool) {
        let Some(parked) = self.task.of_mut(tid).and_then(|task| task.parked.as_mut()) else { return };
        if woken {
            parked.woken = true;
            self.sched.unpark(tid, &parked.wait);
        }
        self.sched.make_ready(tid);
    }

    /// Has calls made again that wait, of tasks that are not stopped: those of which no argument lies in
    /// memory, where others may have changed it since.
    pub(super) fn ask_again(&mut self) {
        /// All that they are told, they are told in registers.
        const PLAIN: [u64; 7] = [
            number::READ,
            number::RECVFROM,
            number::ACCEPT,
            number::ACCEPT4,
            number::WAIT4,
            number::WAITID,
            number::EPOLL_WAIT,
        ];
        let waiting = self.task.iter().filter(|(tid, task)| {
            let plain = task.parked.as_ref().is_some_and(|parked| PLAIN.contains(&parked.call.number));
            plain && !self.sched.is_stopped(*tid)
        });
        let waiting: Vec<u32> = waiting.map(|(tid, _)| tid).collect();
        waiting.into_iter().for_each(|tid| self.unpark(tid, false));
    }

    /// The running task's turn has come: returns the call that it makes again, if there is one, and that it
    /// waits no more meanwhile.
    pub(super) fn take_turn(&mut self) -> Option<Call> {
        let tid = self.tid();
        let Kernel { task, sched, .. } = self;
        let parked = task.parked.as_ref()?;
        sched.unpark(tid, &parked.wait);
        Some(parked.call)
    }

    /// Something has happened: makes at most `most` of those ready that wait for it, and that `accept` takes.
    /// Returns how many.
    pub(super) fn wake(&mut self, key: Key, most: usize, accept: impl Fn(&Parked) -> bool) -> usize {
        let mut count = 0;
        for tid in self.sched.waiting_for(key) {
            if count == most {
                break;
            }
            let parked = self.task.of(tid).and_then(|task| task.parked.as_ref());
            if parked.is_some_and(|parked| !parked.woken && accept(parked)) {
                self.unpark(tid, true);
                count += 1;
            }
        }
        count
    }

    /// What a task waits for has happened.
    pub(super) fn wake_task(&mut self, tid: u32) {
        self.unpark(tid, true);
    }

    /// Lets a task that waits for something wait for another thing instead.
    pub(super) fn requeue(&mut self, tid: u32, from: Key, to: Key) {
        let Some(parked) = self.task.of_mut(tid).and_then(|task| task.parked.as_mut()) else { return };
        self.sched.unpark(tid, &parked.wait);
        parked.wait.on.iter_mut().filter(|on| **on == from).for_each(|on| *on = to);
        self.sched.park(tid, &parked.wait);
    }

    /// Makes ready who waits for files that have changed.
    pub(super) fn wake_for_files(&mut self) {
        let mut woken = self.outside.fs().take_woken();
        woken.extend(self.files.take_woken());
        woken.sort_unstable();
        woken.dedup();
        let sets = self.files.note_changed(&woken);
        let more: Vec<InodeId> = sets.into_iter().filter(|set| woken.binary_search(set).is_err()).collect();
        woken.extend(more);
        for inode in woken {
            self.wake(Key::File(inode), usize::MAX, |_| true);
        }
    }

    /// Makes a task ready that waits, if a signal is there for it.
    pub(super) fn wake_for_signal(&mut self, tid: u32) {
        let Some(parked) = self.task.of(tid).and_then(|task| task.parked.as_ref()) else { return };
        let (of_set, killable) = (parked.wait.signals, parked.wait.killable);
        let comes = self.signals_of(tid).is_some_and(|signals| {
            let ends = if killable { signals.any_fatal() } else { signals.any_deliverable() };
            ends || signals.pending_bits() & of_set != 0
        });
        if comes {
            self.unpark(tid, false);
        }
    }

    /// Makes ready whose time is over.
    pub(super) fn wake_for_time(&mut self) {
        let now = self.clock.monotonic();
        let waits = self.task.iter().filter_map(|(_, task)| task.parked.as_ref()?.wait.until);
        let due = waits.filter(|until| *until > now).chain(self.next_interval()).min();
        self.sched.set_due(due.unwrap_or(u64::MAX));
        let over = |parked: &Parked| parked.wait.until.is_some_and(|until| until <= now);
        let due = self.task.iter().filter(|(_, task)| task.parked.as_ref().is_some_and(over));
        let due: Vec<u32> = due.map(|(tid, _)| tid).collect();
        due.into_iter().for_each(|tid| self.unpark(tid, false));
    }

    /// The next moment at which something happens by itself.
    fn next_moment(&mut self) -> Option<u64> {
        let awaited = self.next_awaited();
        // One that is stopped goes on by no time.
        let tasks = self.task.iter().filter(|(tid, _)| !self.sched.is_stopped(*tid));
        let waits = tasks.filter_map(|(_, task)| task.parked.as_ref()?.wait.until);
        waits.chain(self.next_interval()).chain(awaited).min()
    }

    /// The next moment at which a `timerfd` expires that somebody waits for.
    pub(super) fn next_awaited(&mut self) -> Option<u64> {
        let Kernel { outside, sched, .. } = self;
        outside.fs().next_timer(|inode| sched.is_awaited(Key::File(inode)))
    }

    /// The next moment at which a timer of real time expires.
    fn next_interval(&self) -> Option<u64> {
        self.process.iter().filter_map(|(_, process)| process.timers.next_real()).min()
    }

    /// The input that tasks wait for: such that is certain to come, if there is any.
    fn awaited_input(&mut self) -> Option<(Source, bool)> {
        let fs = self.outside.fs();
        let inputs = [Source::Terminal, Source::Stdin]
            .into_iter()
            .filter(|source| self.sched.is_awaited(Key::input(*source)));
        inputs.map(|source| (source, fs.is_certain(source))).max_by_key(|(_, certain)| *certain)
    }

    /// Whether what comes next may come from outside: input, or the time where it is the host's.
    pub(super) fn awaits_outside(&mut self) -> bool {
        let real_time = self.clock.mode == ClockMode::Host && self.next_moment().is_some();
        real_time || self.awaited_input().is_some()
    }

    /// Nothing can run: lets time pass, or waits for the outside, until something happens.
    ///
    /// Virtual time passes at once. What really waits: a wait for input; for signals, which only a terminal
    /// is expected to send; everything, where the clock is the host's. Input that is certain to come is
    /// waited for whatever the time: it comes before virtual time passes.
    ///
    /// # Errors
    /// When the run must be over, or the outside gives no answer.
    pub(super) fn idle(&mut self) -> Result<Idle, SysError> {
        self.stop.check()?;
        if self.outside.fs().sockets().any_lost() {
            // Who waits for a socket that nobody can reach learns that it is gone.
            self.with_files(|fs, files, env, _| files.collect(fs, env))?;
            self.wake_for_files();
            return Ok(Idle::Woken);
        }
        let moment = self.next_moment();
        let left = moment.map(|moment| moment.saturating_sub(self.clock.monotonic()));
        let virtual_time = self.clock.mode == ClockMode::Virtual;
        match (self.awaited_input(), left) {
            (Some((source, true)), _) if virtual_time => {
                match self.with_files(|fs, _, env, _| fs.input_ready(env, false, true)) {
                    Err(FsError::Signal) => self.take_signals()?,
                    ready => drop(ready?),
                }
                self.files.note_input();
                self.wake(Key::input(source), usize::MAX, |_| true);
                return Ok(Idle::Woken);
            }
            (None, Some(ns)) if virtual_time => self.clock.advance(&mut self.memory, &mut self.space, ns)?,
            (None, None) if !self.outside.fs().has_terminal() => return Ok(Idle::Stuck),
            (input, ns) => {
                let source = input.map(|(source, _)| source);
                let woken = self.outside.world().wait(source, ns)?;
                if virtual_time {
                    self.clock.advance(&mut self.memory, &mut self.space, woken.ns)?;
                } else {
                    self.refresh_clock()?;
                }
                match (woken.by, source) {
                    (Wake::Input, Some(source)) => {
                        self.files.note_input();
                        self.wake(Key::input(source), usize::MAX, |_| true);
                    }
                    (Wake::Signal, _) => self.take_signals()?,
                    (Wake::Never, _) if ns.is_none() => return Ok(Idle::Stuck),
                    _ => {}
                }
            }
        }
        self.fire_timers();
        self.wake_for_files();
        self.wake_for_time();
        Ok(Idle::Woken)
    }

    /// Makes signals that came from outside pending: for all processes, as a terminal sends them to its
    /// foreground group.
    pub fn take_signals(&mut self) -> Result<(), SysError> {
        if !self.outside.world().may_have_signal() {
            return Ok(());
        }
        // At most one of each waits.
        for _ in 1..=MAX {
            let Some(signal) = self.outside.world().signal(None)? else { break };
            if (1..=MAX).contains(&signal) {
                let info = Info { signal, code: SI_KERNEL, ..Default::default() };
                let all: Vec<u32> = self.process.iter().map(|(pid, _)| pid).collect();
                all.into_iter().for_each(|pid| self.send(pid, info));
            }
        }
        Ok(())
    }

    /// Whether there are other tasks than the running one.
    pub(super) fn is_alone(&self) -> bool {
        self.task.len() == 1
    }

    /// The number of the system call that a task waits in, if it does.
    pub fn waits_in(&self, tid: u32) -> Option<u64> {
        Some(self.task.of(tid)?.parked.as_ref()?.call.number)
    }

    /// Waits for ever: for a signal, or for nothing.
    pub(super) fn wait_for_ever() -> SysResult {
        Err(SysError::Wait(Wait::default()))
    }

    /// What each task of a sandbox that can never go on waits for, in words.
    pub(super) fn what_all_wait_for(&mut self) -> String {
        let stopped = self.task.iter().filter(|(tid, _)| self.sched.is_stopped(*tid));
        let stopped: Vec<String> = stopped.map(|(tid, _)| format!("task {tid} to go on (SIGCONT)")).collect();
        if !stopped.is_empty() {
            return stopped.join(", ");
        }
        let parked: Vec<(u32, Call)> =
            self.task.iter().filter_map(|(tid, task)| Some((tid, task.parked.as_ref()?.call))).collect();
        match &parked[..] {
            [(tid, call)] if *tid > FIRST_PID => self.waits_for(*tid, *call),
            _ => {
                let texts =
                    parked.iter().map(|(tid, call)| format!("task {tid} {}", self.waits_for(*tid, *call)));
                texts.collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn waits_for(&mut self, tid: u32, Call { number, args, .. }: Call) -> String {
        let files = self.task.of(tid).map_or(0, |task| task.files);
        let mut file = || {
            let path = self.with_files(|fs, descriptors, _, _| {
                descriptors.inode_in(files, args[0] as i32).map(|inode| fs.path_of(inode))
            });
            let path = path.map(|path| String::from_utf8_lossy(&path).escape_debug().to_string());
            format!("descriptor {} ({})", args[0] as i32, path.unwrap_or_default())
        };
        match number {
            number::READ | number::READV => format!("to read from {}", file()),
            number::WRITE | number::WRITEV => format!("to write to {}", file()),
            number::ACCEPT | number::ACCEPT4 => format!("to accept a connection on {}", file()),
            number::CONNECT => format!("to connect {}", file()),
            number::RECVFROM | number::RECVMSG => format!("to receive from {}", file()),
            number::SENDTO | number::SENDMSG => format!("to send to {}", file()),
            number::PAUSE | number::RT_SIGSUSPEND | number::RT_SIGTIMEDWAIT => "for a signal".into(),
            number::POLL | number::PPOLL | number::SELECT | number::PSELECT6 => {
                "for one of its descriptors to be ready".into()
            }
            number::FUTEX | number::FUTEX_WAITV => "for a futex that nobody can wake".into(),
            number::OPEN | number::OPENAT => "for the other end of a FIFO".into(),
            number::WAIT4 | number::WAITID => "for a child".into(),
            _ => format!("in system call {number}"),
        }
    }
}
