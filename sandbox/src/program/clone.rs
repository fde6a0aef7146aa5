//! How tasks and processes come into being (`kernel/fork.c`).

use super::error::{SysError, SysResult};
use super::fs::{Anon, OpenFlags, Stage};
use super::job::Job;
use super::kernel::Kernel;
use super::process::{FIRST_PID, Process};
use super::signal::Pending;
use super::state::MAX_TASKS;
use super::task::{TASK_BYTES, Task};
use super::timers::Timers;
use super::wait::{Key, Wait};
use super::{credentials::cap, limits};
use crate::errno::Errno;

/// `CLONE_*` (`include/uapi/linux/sched.h`).
pub mod flag {
    #![allow(missing_docs)]
    pub const VM: u64 = 0x100;
    pub const FS: u64 = 0x200;
    pub const FILES: u64 = 0x400;
    pub const SIGHAND: u64 = 0x800;
    pub const PIDFD: u64 = 0x1000;
    pub const PTRACE: u64 = 0x2000;
    pub const VFORK: u64 = 0x4000;
    pub const PARENT: u64 = 0x8000;
    pub const THREAD: u64 = 0x1_0000;
    pub const SYSVSEM: u64 = 0x4_0000;
    pub const SETTLS: u64 = 0x8_0000;
    pub const PARENT_SETTID: u64 = 0x10_0000;
    pub const CHILD_CLEARTID: u64 = 0x20_0000;
    pub const DETACHED: u64 = 0x40_0000;
    pub const UNTRACED: u64 = 0x80_0000;
    pub const CHILD_SETTID: u64 = 0x100_0000;
    /// Namespaces of every kind.
    pub const NAMESPACES: u64 = 0x0002_0000 | 0x0200_0000 | 0x7c00_0000 | 0x80;
    pub const IO: u64 = 0x8000_0000;
    pub const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
}

/// All that is answered, besides namespaces, which are refused.
const KNOWN: u64 = flag::VM
    | flag::FS
    | flag::FILES
    | flag::SIGHAND
    | flag::PIDFD
    | flag::PTRACE
    | flag::VFORK
    | flag::PARENT
    | flag::THREAD
    | flag::SYSVSEM
    | flag::SETTLS
    | flag::PARENT_SETTID
    | flag::CHILD_CLEARTID
    | flag::DETACHED
    | flag::UNTRACED
    | flag::CHILD_SETTID
    | flag::IO
    | flag::CLEAR_SIGHAND;

/// Behind the highest number (`/proc/sys/kernel/pid_max`).
const PID_MAX: u32 = 32_768;
/// Address spaces at most: each has a dozen pages of tables.
const MAX_SPACES: usize = 1024;

/// What a new task is to be like (`struct kernel_clone_args`).
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneArgs {
    /// [`flag`].
    pub flags: u64,
    /// The signal that the parent gets at its end; 0 for none.
    pub exit_signal: u64,
    /// Its stack pointer; 0 for the same.
    pub stack: u64,
    /// Where its number goes in the parent's memory.
    pub parent_tid: u64,
    /// Where its number goes in its own, and is cleared when it ends.
    pub child_tid: u64,
    /// Its FS base.
    pub tls: u64,
    /// Where a descriptor of its process goes in the parent's memory ([`flag::PIDFD`]).
    pub pidfd: u64,
    /// Its number (`set_tid`), instead of the next one.
    pub number: Option<i32>,
}

impl Kernel {
    /// Makes a task like the running one; gives its number.
    ///
    /// # Errors
    /// As `clone(2)`; and what ends the run.
    pub fn clone_task(&mut self, args: CloneArgs) -> SysResult {
        if let Some(parked) = self.resumed() {
            // A `vfork` that waits for its child.
            let child = parked.wait.done;
            let waits = self.task.of(child as u32).is_some_and(|task| task.vfork_parent == Some(self.tid()));
            return if waits { self.wait_for_release(child) } else { Ok(child) };
        }
        let CloneArgs { flags, exit_signal, tls, pidfd, .. } = args;
        let has = |flag: u64| flags & flag != 0;
        if flags & !(KNOWN | flag::NAMESPACES) != 0
            || has(flag::THREAD) && !has(flag::SIGHAND)
            || has(flag::SIGHAND) && !has(flag::VM)
            || has(flag::CLEAR_SIGHAND) && has(flag::SIGHAND)
            || has(flag::PIDFD) && (has(flag::THREAD) || has(flag::DETACHED))
            || exit_signal > super::signal::number::MAX.into()
        {
            return Err(Errno::EINVAL.into());
        }
        if has(flag::NAMESPACES) {
            // As in a container whose capabilities end at its own files.
            return Err(Errno::EPERM.into());
        }
        if has(flag::SETTLS) && tls >= super::mm::USER_END {
            return Err(Errno::EPERM.into());
        }
        self.expect_room(has(flag::VM))?;
        let tid = match args.number {
            Some(number) => self.take_this_number(number)?,
            None => self.take_number()?,
        };
        if !has(flag::PIDFD) {
            return self.make_task(args, tid);
        }
        // The child has no copy of it, and it must not fail when the child is there.
        let anon = Anon::Process { pid: tid, stage: Stage::Alive };
        let inode = self.with_files(|fs, files, env, _| files.prepare_anon(fs, env, anon))?;
        match self.make_task(args, tid) {
            Err(e) if !matches!(e, SysError::Wait(_)) => {
                self.with_files(|fs, _, env, _| fs.release(env, inode))?;
                Err(e)
            }
            made => {
                let flags = OpenFlags::RDWR | OpenFlags::CLOEXEC;
                let fd = self.with_files(|_, files, _, _| files.install_inode(inode, flags))?;
                or_nowhere(self.write(pidfd, &(fd as u32).to_le_bytes()))?;
                made
            }
        }
    }

    /// The same once it is known to be possible, and what its number is.
    fn make_task(&mut self, args: CloneArgs, tid: u32) -> SysResult {
        let CloneArgs { flags, exit_signal, stack, parent_tid, child_tid, tls, pidfd: _, number: _ } = args;
        let has = |flag: u64| flags & flag != 0;
        self.memory.state.account.charge(TASK_BYTES).map_err(|_| Errno::EAGAIN)?;
        let space = match has(flag::VM) {
            true => {
                self.space.hold(self.task.space);
                self.task.space
            }
            false => match self.fork_space() {
                Ok(space) => space,
                Err(e) => {
                    self.memory.state.account.refund(TASK_BYTES);
                    return Err(e);
                }
            },
        };
        let files = match has(flag::FILES) {
            true => {
                self.files.hold(self.task.files);
                self.task.files
            }
            false => self.files.duplicate(),
        };
        let context = match has(flag::FS) {
            true => {
                self.context.hold(self.task.context);
                self.task.context
            }
            false => {
                let copy = *self.context;
                self.outside.fs().hold(copy.cwd);
                self.context.add(copy)
            }
        };
        let actions = match has(flag::SIGHAND) {
            true => {
                self.actions.hold(self.task.actions);
                self.task.actions
            }
            false => {
                let mut copy = self.actions.clone_current();
                if has(flag::CLEAR_SIGHAND) {
                    copy.reset_handlers();
                }
                self.actions.add(copy)
            }
        };
        let process = if has(flag::THREAD) { self.pid() } else { tid };
        if !has(flag::THREAD) {
            let parent = if has(flag::PARENT) { self.process.parent } else { self.pid() };
            let Process { group, session, limits, settings, .. } = (*self.process).clone();
            let new = Process {
                parent,
                group,
                session,
                limits,
                settings,
                timers: Timers::default(),
                pending: Pending::default(),
                cpu: 0,
                children_cpu: 0,
                exit_signal: exit_signal as u32,
                job: Job::default(),
                user: 0,
                ended: None,
            };
            self.process.insert(tid, new);
        }
        let mut child =
            Task { process, space, files, context, actions, cpu: 0, parked: None, ..(*self.task).clone() };
        child.regs.general.rax = 0;
        if stack != 0 {
            child.regs.general.rsp = stack;
        }
        if has(flag::SETTLS) {
            child.regs.fs_base = tls;
        }
        child.signals.pending = Pending::default();
        if has(flag::VM) && !has(flag::VFORK) {
            child.signals.drop_alt();
        }
        child.settings.fork();
        child.robust_list = 0;
        child.clear_child_tid = if has(flag::CHILD_CLEARTID) { child_tid } else { 0 };
        child.vfork_parent = has(flag::VFORK).then(|| self.tid());
        self.task.insert(tid, child);

        let number = tid.to_le_bytes();
        if has(flag::PARENT_SETTID) {
            or_nowhere(self.write(parent_tid, &number))?;
        }
        if has(flag::CHILD_SETTID)
            && let Some(space) = self.space.of_mut(space)
        {
            or_nowhere(space.write(&mut self.memory, child_tid, &number).map_err(SysError::from))?;
            self.effects.add(child_tid, &number);
        }
        self.sched.make_ready(tid);
        if has(flag::VFORK) { self.wait_for_release(tid.into()) } else { Ok(tid.into()) }
    }

    /// The running task has for itself what others have, too (`unshare`).
    ///
    /// # Errors
    /// As `unshare(2)`.
    pub fn unshare(&mut self, flags: u64) -> Result<(), SysError> {
        const KNOWN: u64 = flag::THREAD
            | flag::FS
            | flag::SIGHAND
            | flag::VM
            | flag::FILES
            | flag::SYSVSEM
            | flag::NAMESPACES;
        /// What a process with several threads cannot, `CLONE_NEWUSER` too.
        const ALONE: u64 = flag::THREAD | flag::SIGHAND | flag::VM | 0x1000_0000;
        let of_signals = flags & (flag::SIGHAND | flag::VM) != 0;
        let shares = of_signals && self.actions.users(self.task.actions) > 1
            || flags & flag::VM != 0 && self.space.users(self.task.space) > 1;
        if flags & !KNOWN != 0 || flags & ALONE != 0 && self.tasks_of(self.pid()).len() > 1 || shares {
            return Err(Errno::EINVAL.into());
        }
        if flags & flag::NAMESPACES != 0 {
            return Err(Errno::EPERM.into());
        }
        if flags & flag::FS != 0 && self.context.users(self.task.context) > 1 {
            let copy = *self.context;
            self.outside.fs().hold(copy.cwd);
            let own = self.context.add(copy);
            let before = std::mem::replace(&mut self.task.context, own);
            self.context.switch(own);
            self.context.release(before);
        }
        if flags & flag::FILES != 0 {
            self.unshare_files()?;
        }
        Ok(())
    }

    /// The running task has descriptors that no other one has.
    pub(super) fn unshare_files(&mut self) -> Result<(), SysError> {
        if self.files.users(self.task.files) < 2 {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.task.files, self.files.duplicate());
        self.files.switch(self.task.files);
        let pid = self.pid();
        Ok(self.with_files(|fs, files, env, _| files.release(fs, env, before, pid))?)
    }

    fn wait_for_release(&mut self, child: u64) -> SysResult {
        let on = Wait::on(Key::Released(child as u32));
        Err(SysError::Wait(Wait { done: child, killable: true, ..on }))
    }

    /// Refuses more tasks than there may be.
    fn expect_room(&self, same_space: bool) -> Result<(), Errno> {
        let user = self.task.credentials.user.real;
        let of_user = self.task.iter().filter(|(_, task)| task.credentials.user.real == user).count() as u64;
        let privileged = user == 0
            || self.task.credentials.can(cap::SYS_RESOURCE)
            || self.task.credentials.can(cap::SYS_ADMIN);
        let full = self.task.len() >= MAX_TASKS
            || self.process.len() >= MAX_TASKS
            || !same_space && self.space.len() >= MAX_SPACES
            || !privileged && of_user >= self.process.limits[limits::NPROC].0;
        if full { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// The next number that no task, process, group or session has.
    fn take_number(&mut self) -> Result<u32, Errno> {
        /// Where they start again (`RESERVED_PIDS`).
        const FROM: u32 = 300;
        // Fewer than so many are in use.
        for _ in 0..=4 * MAX_TASKS {
            let number = self.next_tid;
            self.next_tid = if number + 1 >= PID_MAX { FROM } else { number + 1 };
            if !self.is_in_use(number) {
                return Ok(number);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// A number that a program wants a task to have, as when it is restored (`alloc_pid`).
    fn take_this_number(&mut self, number: i32) -> Result<u32, Errno> {
        let wanted = u32::try_from(number).ok().filter(|number| (1..PID_MAX).contains(number));
        let number = wanted.ok_or(Errno::EINVAL)?;
        let who = &self.task.credentials;
        if !who.can(cap::CHECKPOINT_RESTORE) && !who.can(cap::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        if number == FIRST_PID || self.is_in_use(number) { Err(Errno::EEXIST) } else { Ok(number) }
    }

    fn is_in_use(&mut self, number: u32) -> bool {
        let of_process = |process: &Process| process.group == number || process.session == number;
        self.task.has(number)
            || self.process.has(number)
            || self.outside.fs().has_process(number)
            || self.process.iter().any(|(_, process)| of_process(process))
    }
}

/// A number that cannot be written is told nobody (`put_user` in `copy_process`).
fn or_nowhere(written: Result<(), SysError>) -> Result<(), SysError> {
    match written {
        Err(SysError::Errno(_)) => Ok(()),
        other => other,
    }
}
