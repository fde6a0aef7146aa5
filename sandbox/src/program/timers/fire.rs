//! Timers that expire, and their signals on the way.

use super::Counts;
use crate::program::current::Current;
use crate::program::kernel::Kernel;
use crate::program::limits;
use crate::program::process::Process;
use crate::program::signal::number::{SIGKILL, SIGXCPU};
use crate::program::signal::{Delivery, Info};
use crate::program::task::Task;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

impl Kernel {
    /// A timer of the running process may have been set: others must not run past it.
    pub fn note_timer(&mut self) {
        self.sched.note_due(self.process.timers.next_real());
    }

    /// Sends the signals of timers that have expired. Returns whether any has.
    pub fn fire_timers(&mut self) -> bool {
        let now = self.clock.monotonic();
        self.outside.fs().expire_timers(now);
        self.wake_for_cpu();
        // Other processes' CPU time stands still.
        let mut processes = vec![self.pid()];
        if now >= self.sched.due() {
            // In an order that does not depend on who runs.
            processes = self.process.iter().map(|(pid, _)| pid).collect();
        }
        let mut fired = self.check_cpu_limit();
        for pid in processes {
            fired |= self.fire_timers_of(pid, now);
        }
        fired
    }

    fn fire_timers_of(&mut self, pid: u32, now: u64) -> bool {
        let Kernel { process, task, .. } = self;
        let Some(process) = process.of_mut(pid) else { return false };
        if !process.timers.any_armed() {
            return false;
        }
        let cpu = process.cpu;
        let interval: Vec<u32> = process.timers.expire(now, cpu).collect();
        let posix = process.timers.posix.expire(counted(task, pid, cpu, now));
        let fired = !interval.is_empty() || !posix.is_empty();
        interval.into_iter().for_each(|signal| self.send(pid, Info::by_kernel(signal)));
        posix.into_iter().for_each(|(tid, info)| self.send_of_timer(pid, tid, info));
        fired
    }

    /// Sends the signal of a timer to its process, or to a task of it, if that is still there.
    fn send_of_timer(&mut self, pid: u32, tid: Option<u32>, info: Info) {
        match tid {
            None => self.send(pid, info),
            Some(tid) if self.task.of(tid).is_some_and(|task| task.process == pid) => self.send(tid, info),
            Some(_) => {}
        }
    }

    /// What stood still since this signal was ignored goes on.
    pub fn send_no_longer_ignored(&mut self, signal: u32) {
        let pid = self.pid();
        for (tid, info) in self.process.timers.posix.no_longer_ignored(signal) {
            self.send_of_timer(pid, tid, info);
        }
    }

    /// The signals that a timer of the running process has sent are not to come; with none, those of all.
    pub fn forget_signals_of(&mut self, timer: Option<u32>) {
        let pid = self.pid();
        self.process.pending.forget_timer(timer);
        let own = self.task.iter_mut().filter(|(_, task)| task.process == pid);
        own.for_each(|(_, task)| task.signals.pending.forget_timer(timer));
    }

    /// The running process has no timer any more of those that it made.
    pub fn drop_posix_timers(&mut self) {
        let made = std::mem::take(&mut self.process.timers.posix);
        self.memory.state.account.refund(made.cost());
        self.forget_signals_of(None);
    }

    /// A signal was taken: the timer that sent it goes on. Returns the signal with what was missed.
    pub(in crate::program) fn signal_taken(&mut self, info: Info) -> Info {
        let info = go_on(&mut self.process, &self.task, self.clock.monotonic(), info);
        self.note_timer();
        info
    }

    /// Takes the next signal to deliver.
    pub fn take_signal(&mut self) -> Option<Delivery> {
        loop {
            let mut delivery = self.signals().take_next()?;
            let info = delivery.info_mut();
            *info = self.signal_taken(*info);
            if !matches!(delivery, Delivery::Ignore(_)) {
                return Some(delivery);
            }
        }
    }

    /// Takes a pending signal out of a set, whether it is blocked or not.
    pub fn take_signal_of(&mut self, set: u64) -> Option<Info> {
        let info = self.signals().take_of(set)?;
        Some(self.signal_taken(info))
    }

    /// Takes the pending signals that may come but are ignored: they end no wait.
    pub fn drop_ignored(&mut self) {
        while let Some(info) = self.signals().take_unnoticed() {
            self.signal_taken(info);
            self.stop_if_due(info.signal);
        }
    }

    /// Sends `SIGXCPU` for each second of CPU time beyond `RLIMIT_CPU`, and `SIGKILL` at its hard limit
    /// (`check_process_timers`). Returns whether it has.
    fn check_cpu_limit(&mut self) -> bool {
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

/// The running process has taken a signal, at this moment of monotonic time: see [`Kernel::signal_taken`].
pub(in crate::program) fn go_on(
    process: &mut Current<Process>,
    task: &Current<Task>,
    now: u64,
    info: Info,
) -> Info {
    process.timers.signal_taken(info.signal, now);
    let Some(id) = info.timer else { return info };
    let (pid, cpu) = (process.id(), process.cpu);
    let missed = process.timers.posix.taken(id, counted(task, pid, cpu, now));
    // `si_tid` and `si_overrun`.
    Info { value: u64::from(id) | u64::from(missed as u32) << 32, ..info }
}

/// The time that a timer of a process counts, if whom it counts is there.
fn counted(task: &Current<Task>, pid: u32, cpu: u64, monotonic: u64) -> impl Fn(Counts) -> Option<u64> + '_ {
    move |counts| match counts {
        Counts::Real | Counts::Monotonic => Some(monotonic),
        Counts::Process => Some(cpu),
        Counts::Task(tid) => task.of(tid).filter(|task| task.process == pid).map(|task| task.cpu),
    }
}
