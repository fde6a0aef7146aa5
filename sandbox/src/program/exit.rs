//! How tasks and processes end (`kernel/exit.c`).

use super::error::SysError;
use super::fs::Stage;
use super::kernel::Kernel;
use super::process::{FIRST_PID, PROGRAM_PID, Process};
use super::signal::number::SIGCHLD;
use super::signal::{Info, ignores_children};
use super::syscall::ANY_FUTEX;
use super::task::{TASK_BYTES, Task};
use super::wait::Key;
use crate::errno::Errno;
use crate::machine::End;

/// `CLD_*` (`include/uapi/asm-generic/siginfo.h`).
pub const CLD_EXITED: i32 = 1;
pub const CLD_KILLED: i32 = 2;

/// Futexes on a robust list at most (`ROBUST_LIST_LIMIT`).
const ROBUST_MAX: usize = 2048;
/// Bits of a robust futex: its owner has died, others wait, and the owner's number.
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_TID: u32 = 0x3fff_ffff;

impl Kernel {
    /// Ends the running task; with the last one of its process, the process ends with this status, as
    /// `wait4` tells it.
    ///
    /// # Errors
    /// When guest memory cannot be had.
    pub fn exit_task(&mut self, status: i32) -> Result<(), SysError> {
        self.let_go()?;
        self.task.dead = true;
        let pid = self.pid();
        let others = self.task.iter().any(|(_, task)| task.process == pid && !task.dead);
        if !others {
            self.end_process(status);
        }
        Ok(())
    }

    /// Ends the running task's process with all of its tasks.
    ///
    /// # Errors
    /// When guest memory cannot be had, or the host refuses.
    pub fn exit_process(&mut self, status: i32) -> Result<(), SysError> {
        self.end_process(status);
        // The sandbox goes with its first process.
        if self.end.is_none() {
            self.end_siblings()?;
        }
        self.exit_task(status)
    }

    /// Ends the other tasks of the running one's process. Each lets go of what others wait for first.
    ///
    /// # Errors
    /// When the host refuses, or the run must be over.
    pub fn end_siblings(&mut self) -> Result<(), SysError> {
        let (pid, tid) = (self.pid(), self.tid());
        let siblings: Vec<u32> = self
            .task
            .iter()
            .filter(|(other, t)| t.process == pid && *other != tid)
            .map(|(other, _)| other)
            .collect();
        for sibling in siblings {
            self.stop.check()?;
            self.switch(sibling)?;
            let gone = self.let_go();
            self.switch(tid)?;
            gone?;
            if let Some(task) = self.task.remove(sibling) {
                self.forget_task(sibling, task)?;
            }
        }
        Ok(())
    }

    /// Notes how the running task's process ended.
    fn end_process(&mut self, status: i32) {
        self.process.ended.get_or_insert(status);
        self.process.user = self.task.credentials.user.real;
        self.drop_posix_timers();
        if self.pid() == PROGRAM_PID {
            self.end = Some(End::of_status(status));
        }
    }

    /// What a task does about its address space as it leaves it: robust futexes, and the number that others
    /// wait for (`mm_release`).
    pub fn let_go(&mut self) -> Result<(), SysError> {
        let list = std::mem::take(&mut self.task.robust_list);
        if list != 0 {
            match self.release_robust(list) {
                // The list lies where there is nothing: that was the program's.
                Ok(()) | Err(SysError::Errno(_)) => {}
                Err(e) => return Err(e),
            }
        }
        self.release_pi()?;
        let clear = std::mem::take(&mut self.task.clear_child_tid);
        if clear != 0 && self.space.users(self.space.id()) > 1 {
            match self.write(clear, &0u32.to_le_bytes()) {
                Ok(()) => {
                    let key = self.futex_key(clear, true);
                    // One who waits to own it is not woken.
                    self.wake_futex(key, 1, ANY_FUTEX).unwrap_or_default();
                }
                Err(SysError::Errno(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Gives the futexes of a robust list to those that wait for them (`exit_robust_list`).
    fn release_robust(&mut self, head: u64) -> Result<(), SysError> {
        let [first, offset, pending] = self.read_words::<3>(head)?;
        let mut entry = first;
        // The lowest bit says that it is of the kind that inherits priorities.
        for _ in 0..ROBUST_MAX {
            if entry & !1 == head {
                break;
            }
            let next = self.read_u64(entry & !1);
            if entry != pending {
                self.owner_died((entry & !1).wrapping_add(offset), entry & 1 != 0)?;
            }
            entry = next?;
        }
        if pending != 0 {
            self.owner_died((pending & !1).wrapping_add(offset), pending & 1 != 0)?;
        }
        Ok(())
    }

    /// One that inherits priorities goes to who waits for it behind this.
    fn owner_died(&mut self, address: u64, inherits: bool) -> Result<(), SysError> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EFAULT.into());
        }
        let value = self.read_u32(address)?;
        if value & FUTEX_TID != self.tid() {
            return Ok(());
        }
        if inherits && value & FUTEX_WAITERS != 0 {
            return Ok(());
        }
        let new = value & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        self.write(address, &new.to_le_bytes())?;
        if value & FUTEX_WAITERS != 0 {
            let key = self.futex_key(address, true);
            self.wake_futex(key, 1, ANY_FUTEX).unwrap_or_default();
        }
        Ok(())
    }

    /// Forgets the running task, which has ended; another one becomes the running one, whether it can run or
    /// not.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn bury(&mut self) -> Result<(), SysError> {
        let (tid, pid) = (self.tid(), self.pid());
        let ended = self.process.ended;
        let Some(other) = self.task.iter().map(|(other, _)| other).find(|other| *other != tid) else {
            // The first process's last task is never buried.
            return Err(SysError::Machine("a sandbox without a task".into()));
        };
        self.switch(other)?;
        if let Some(task) = self.task.remove(tid) {
            self.forget_task(tid, task)?;
        }
        if let Some(status) = ended {
            self.undo_semaphores(pid);
            self.tell_parent(pid, status);
        }
        Ok(())
    }

    /// Gives back what a task has that is in the table no more.
    fn forget_task(&mut self, tid: u32, task: Task) -> Result<(), SysError> {
        let wait = task.parked.as_ref().map(|parked| &parked.wait);
        self.sched.forget(tid, wait);
        wait.into_iter().for_each(|wait| self.leave_fifos(tid, wait));
        self.leave_ipc(tid);
        self.release_vfork(tid, task.vfork_parent);
        let pid = task.process;
        self.with_files(|fs, files, env, _| files.release(fs, env, task.files, pid))?;
        if let Some(context) = self.context.release(task.context) {
            self.with_files(|fs, _, env, _| fs.release(env, context.cwd))?;
        }
        self.actions.release(task.actions);
        self.release_space(task.space, pid)?;
        // The first one was there before anything was charged.
        if tid != PROGRAM_PID {
            self.memory.state.account.refund(TASK_BYTES);
        }
        self.wake_for_files();
        Ok(())
    }

    /// Lets the parent go on that waits for its address space.
    pub fn release_vfork(&mut self, tid: u32, parent: Option<u32>) {
        if parent.is_some() {
            self.wake(Key::Released(tid), usize::MAX, |_| true);
        }
    }

    /// Who gets a process's children (`find_new_reaper`).
    fn reaper_of(&self, pid: u32) -> u32 {
        let parent = |pid: u32| self.process.of(pid).map_or(FIRST_PID, |process| process.parent);
        let mut reaper = parent(pid);
        while reaper != FIRST_PID
            && !self.process.of(reaper).is_some_and(|p| p.settings.subreaper && p.ended.is_none())
        {
            reaper = parent(reaper);
        }
        reaper
    }

    fn note_stage(&mut self, pid: u32, stage: Stage) {
        if self.outside.fs().note_process(pid, stage) {
            self.wake_for_files();
        }
    }

    /// A process is waited for, or nobody waits: it is no more.
    pub fn forget_process(&mut self, pid: u32) -> Option<Process> {
        let process = self.process.remove(pid)?;
        self.note_stage(pid, Stage::Gone);
        Some(process)
    }

    /// A process has no task any more: its children get another parent, and its own is told.
    fn tell_parent(&mut self, pid: u32, status: i32) {
        self.note_stage(pid, Stage::Ended);
        let groups = self.groups_around(pid);
        let reaper = self.reaper_of(pid);
        let mut orphans: Vec<(u32, Option<i32>)> = Vec::new();
        for (child, process) in self.process.iter_mut() {
            if process.parent == pid {
                process.parent = reaper;
                orphans.push((child, process.ended));
            }
        }
        orphans.sort_unstable();
        for (child, ended) in orphans {
            // The first process waits for whoever comes to it.
            match (ended, reaper) {
                (Some(_), FIRST_PID) => drop(self.forget_process(child)),
                (Some(_), reaper) => drop(self.wake(Key::Child(reaper), usize::MAX, |_| true)),
                (None, _) => {}
            }
            let of_child = self.task.iter().filter(|(_, task)| task.process == child);
            let signals: Vec<u32> = of_child.map(|(_, task)| task.settings.death_signal).collect();
            for signal in signals.into_iter().filter(|signal| *signal != 0) {
                let value = pid.into();
                self.send(child, Info { signal, value, ..Info::default() });
            }
        }
        self.let_orphans_go_on(&groups, pid);
        let Some(Process { parent, exit_signal, user, .. }) = self.process.of(pid) else { return };
        let (parent, signal, user) = (*parent, *exit_signal, *user);
        if parent == FIRST_PID || !self.process.has(parent) {
            self.forget_process(pid);
            return;
        }
        let ignores = signal == SIGCHLD && self.actions_of(parent).is_some_and(ignores_children);
        if signal != 0 {
            let (code, extra) = match status & 0x7f {
                0 => (CLD_EXITED, status >> 8 & 0xff),
                signal => (CLD_KILLED, signal),
            };
            self.send(
                parent,
                Info {
                    signal,
                    code,
                    value: u64::from(pid) | u64::from(user) << 32,
                    extra: extra as u64,
                    ..Info::default()
                },
            );
        }
        if ignores {
            self.forget_process(pid);
        }
        self.wake(Key::Child(parent), usize::MAX, |_| true);
    }
}
