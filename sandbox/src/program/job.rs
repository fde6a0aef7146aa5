//! Processes that stop and go on (`kernel/signal.c`: `prepare_signal`, `do_signal_stop`).
//!
//! A signal that stops a process does so when it is sent, if any of its tasks would take it: what they wait for
//! goes on as if nothing had been. Else it stops when it is no longer blocked.

use serde::{Deserialize, Serialize};

use super::kernel::Kernel;
use super::signal::number::{SIGCHLD, SIGCONT, SIGHUP, SIGKILL, SIGSTOP};
use super::signal::{Info, STOPS, bit, flags};
use super::wait::Key;
use crate::machine::{BadState, expect};

/// `CLD_*` (`include/uapi/asm-generic/siginfo.h`).
pub const CLD_STOPPED: i32 = 5;
/// See [`CLD_STOPPED`].
pub const CLD_CONTINUED: i32 = 6;

/// Whether a process is stopped, and what its parent may wait for of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The signal that stopped it.
    pub stopped: Option<u32>,
    /// Its parent has yet to wait for its stop, or for its going on.
    pub news: bool,
}

impl Job {
    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        let Job { stopped, news: _ } = self;
        expect(stopped.is_none_or(|signal| (1..64).contains(&signal) && STOPS & bit(signal) != 0), "a stop")
    }
}

impl Kernel {
    /// What a signal does to a process before anything else: one that stops it takes back that it go on, and
    /// the other way round; `SIGCONT` and `SIGKILL` let it go on, whether they are blocked or not.
    pub(super) fn prepare_signal(&mut self, pid: u32, signal: u32) {
        let gone = match signal {
            SIGCONT => STOPS,
            signal if STOPS & bit(signal) != 0 => bit(SIGCONT),
            SIGKILL => return self.go_on_again(pid, false),
            _ => return,
        };
        if let Some(process) = self.process.of_mut(pid) {
            process.pending.forget_all(gone);
        }
        for tid in self.tasks_of(pid) {
            if let Some(task) = self.task.of_mut(tid) {
                task.signals.pending.forget_all(gone);
            }
        }
        if signal == SIGCONT {
            self.go_on_again(pid, true);
        }
    }

    fn go_on_again(&mut self, pid: u32, tells: bool) {
        let Some(process) = self.process.of_mut(pid) else { return };
        if process.job.stopped.is_none() {
            return;
        }
        process.job = Job { stopped: None, news: tells };
        for tid in self.tasks_of(pid) {
            self.sched.let_go_on(tid);
        }
        if tells {
            self.tell_of_job(pid, CLD_CONTINUED, SIGCONT);
        }
    }

    /// Whether a signal stops a process by default, and nothing else was asked for.
    fn stops(&self, pid: u32, signal: u32) -> bool {
        if STOPS & bit(signal) == 0 {
            return false;
        }
        let by_default = self.actions_of(pid).is_some_and(|actions| actions.is_default(signal));
        // Nobody could let it go on.
        by_default
            && (signal == SIGSTOP || !self.is_orphaned(self.process.of(pid).map_or(0, |p| p.group), None))
    }

    /// Stops a process if this signal does. Whether it is done with.
    pub(super) fn stop_by(&mut self, pid: u32, signal: u32) -> bool {
        let stops = self.stops(pid, signal);
        if stops {
            self.stop(pid, signal);
        }
        stops
    }

    /// The running task has taken a signal: its process stops if that does so.
    pub fn stop_if_due(&mut self, signal: u32) {
        let pid = self.pid();
        self.stop_by(pid, signal);
    }

    /// Stops a process: none of its tasks runs.
    fn stop(&mut self, pid: u32, signal: u32) {
        let Some(process) = self.process.of_mut(pid).filter(|process| process.ended.is_none()) else {
            return;
        };
        if process.job.stopped.is_some() {
            return;
        }
        process.job = Job { stopped: Some(signal), news: true };
        let running = self.tid();
        for tid in self.tasks_of(pid) {
            self.sched.stop(tid, tid == running);
        }
        self.tell_of_job(pid, CLD_STOPPED, signal);
    }

    /// Tells the parent of a process that it has stopped or goes on (`do_notify_parent_cldstop`).
    fn tell_of_job(&mut self, pid: u32, code: i32, signal: u32) {
        let Some(parent) = self.process.of(pid).map(|process| process.parent) else { return };
        let Some(actions) = self.actions_of(parent) else { return };
        let action = actions.action(SIGCHLD);
        if !action.is_ignored() && action.flags & flags::NOCLDSTOP == 0 {
            let value = u64::from(pid) | u64::from(self.user_of(pid)) << 32;
            self.send(parent, Info { signal: SIGCHLD, code, value, extra: signal.into(), ..Info::default() });
        }
        self.wake(Key::Child(parent), usize::MAX, |_| true);
    }

    /// Whether a process group has nobody who could let it go on: no parent in another group of its session
    /// (`will_become_orphaned_pgrp`). One process may be left out.
    fn is_orphaned(&self, group: u32, without: Option<u32>) -> bool {
        !self.process.iter().any(|(pid, process)| {
            let parent = self.process.of(process.parent);
            process.group == group
                && Some(pid) != without
                && process.ended.is_none()
                && parent.is_some_and(|parent| parent.group != group && parent.session == process.session)
        })
    }

    /// Processes of these groups that are stopped and have nobody left to let them go on get `SIGHUP`, and go
    /// on (`kill_orphaned_pgrp`).
    pub(super) fn let_orphans_go_on(&mut self, groups: &[(u32, bool)], without: u32) {
        for (group, was_orphaned) in groups {
            let members = self.process.iter().filter(|(_, process)| process.group == *group);
            let members: Vec<(u32, bool)> =
                members.map(|(pid, process)| (pid, process.job.stopped.is_some())).collect();
            if *was_orphaned
                || !members.iter().any(|(_, stopped)| *stopped)
                || !self.is_orphaned(*group, Some(without))
            {
                continue;
            }
            for signal in [SIGHUP, SIGCONT] {
                members.iter().for_each(|(pid, _)| self.send(*pid, Info::by_kernel(signal)));
            }
        }
    }

    /// The groups that may lose who could let them go on when a process ends: its own, and its children's; and
    /// whether they have nobody already.
    pub(super) fn groups_around(&self, pid: u32) -> Vec<(u32, bool)> {
        let own = self.process.of(pid).map(|process| process.group);
        let children = self.process.iter().filter(|(_, process)| process.parent == pid);
        let mut groups: Vec<u32> =
            own.into_iter().chain(children.map(|(_, process)| process.group)).collect();
        groups.sort_unstable();
        groups.dedup();
        groups.into_iter().map(|group| (group, self.is_orphaned(group, None))).collect()
    }

    /// The real user of a process, 0 when it has no task any more.
    pub(super) fn user_of(&self, pid: u32) -> u32 {
        self.first_task_of(pid).map_or(0, |task| task.credentials.user.real)
    }
}
