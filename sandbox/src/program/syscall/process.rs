//! Processes and tasks: making them, and who they are.

use super::Args;
use crate::errno::Errno;
use crate::program::clone::{CloneArgs, flag};
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::process::FIRST_PID;
use crate::program::signal::number::SIGCHLD;

/// The signal in `clone`'s flags (`CSIGNAL`).
const CSIGNAL: u64 = 0xff;
/// Bytes of `struct clone_args`: its first version, and what is known of it.
const CLONE_ARGS_FIRST: u64 = 64;
const CLONE_ARGS: usize = 88;

impl Kernel {
    pub(super) fn sys_fork(&mut self) -> SysResult {
        self.clone_task(CloneArgs { exit_signal: SIGCHLD.into(), ..CloneArgs::default() })
    }

    pub(super) fn sys_vfork(&mut self) -> SysResult {
        let flags = flag::VM | flag::VFORK;
        self.clone_task(CloneArgs { flags, exit_signal: SIGCHLD.into(), ..CloneArgs::default() })
    }

    pub(super) fn sys_clone(&mut self, a: Args) -> SysResult {
        let [flags, stack, parent_tid, child_tid, tls, _] = a;
        let flags = flags & 0xffff_ffff;
        if flags & flag::PIDFD != 0 && flags & flag::PARENT_SETTID != 0 {
            // Both have the same place.
            return Err(Errno::EINVAL.into());
        }
        self.clone_task(CloneArgs {
            // Its upper bit is of a namespace that `clone` cannot make.
            flags: flags & !CSIGNAL,
            exit_signal: flags & CSIGNAL,
            stack,
            parent_tid,
            child_tid,
            tls,
            pidfd: parent_tid,
        })
    }

    /// Gives the task descriptors, or a working directory, root and umask, that it shares with nobody.
    pub(super) fn sys_unshare(&mut self, flags: u64) -> SysResult {
        const GROUP: u64 = flag::VM | flag::SIGHAND | flag::THREAD;
        const OWN: u64 = flag::FS | flag::FILES | flag::SYSVSEM;
        if flags & !(GROUP | OWN | flag::NAMESPACES) != 0 {
            return Err(Errno::EINVAL.into());
        }
        // What threads share is not taken apart; a task that has it for itself keeps it.
        if flags & GROUP != 0 && self.actions.users(self.task.actions) > 1 {
            return Err(Errno::EINVAL.into());
        }
        if flags & flag::NAMESPACES != 0 {
            // As `clone`.
            return Err(Errno::EPERM.into());
        }
        if flags & flag::FS != 0 && self.context.users(self.task.context) > 1 {
            let copy = *self.context;
            self.outside.fs().hold(copy.cwd);
            let before = std::mem::replace(&mut self.task.context, self.context.add(copy));
            self.context.switch(self.task.context);
            self.context.release(before);
        }
        if flags & flag::FILES != 0 {
            self.own_files()?;
        }
        Ok(0)
    }

    pub(super) fn sys_clone3(&mut self, a: Args) -> SysResult {
        let [address, size, ..] = a;
        if size > crate::ram::PAGE_SIZE as u64 {
            return Err(Errno::E2BIG.into());
        }
        if size < CLONE_ARGS_FIRST {
            return Err(Errno::EINVAL.into());
        }
        let mut bytes = vec![0u8; (size as usize).max(CLONE_ARGS)];
        self.read(address, &mut bytes[..size as usize])?;
        if bytes[CLONE_ARGS..].iter().any(|byte| *byte != 0) {
            return Err(Errno::E2BIG.into());
        }
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let [flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tids, _] =
            words[..CLONE_ARGS / 8]
        else {
            return Err(Errno::EINVAL.into());
        };
        let bad_stack = (stack == 0) != (stack_size == 0);
        if flags & (CSIGNAL | flag::DETACHED) != 0 || set_tid != 0 || set_tids != 0 || bad_stack {
            return Err(Errno::EINVAL.into());
        }
        if flags & (flag::THREAD | flag::PARENT) != 0 && exit_signal != 0 {
            return Err(Errno::EINVAL.into());
        }
        let stack = stack.wrapping_add(stack_size);
        self.clone_task(CloneArgs { flags, exit_signal, stack, parent_tid, child_tid, tls, pidfd })
    }

    pub(super) fn sys_set_tid_address(&mut self, a: Args) -> SysResult {
        self.task.clear_child_tid = a[0];
        Ok(self.tid().into())
    }

    /// The process of a number, 0 for the running one.
    pub(super) fn process_of(&self, pid: u64) -> Result<u32, Errno> {
        match pid as u32 {
            0 => Ok(self.pid()),
            pid if self.process.has(pid) => Ok(pid),
            tid => self.task.of(tid).map(|task| task.process).ok_or(Errno::ESRCH),
        }
    }

    pub(super) fn sys_getpgid(&mut self, a: Args) -> SysResult {
        if a[0] as u32 == FIRST_PID {
            return Ok(0);
        }
        let pid = self.process_of(a[0])?;
        Ok(self.process.of(pid).map_or(0, |process| process.group).into())
    }

    pub(super) fn sys_getsid(&mut self, a: Args) -> SysResult {
        if a[0] as u32 == FIRST_PID {
            return Ok(0);
        }
        let pid = self.process_of(a[0])?;
        Ok(self.process.of(pid).map_or(0, |process| process.session).into())
    }

    /// `setpgid`: for the caller or a child of it that runs the same program still.
    pub(super) fn sys_setpgid(&mut self, a: Args) -> SysResult {
        if (a[1] as i32) < 0 {
            return Err(Errno::EINVAL.into());
        }
        let pid = if a[0] as u32 == 0 { self.pid() } else { a[0] as u32 };
        let group = if a[1] as u32 == 0 { pid } else { a[1] as u32 };
        let (own, session) = (self.pid(), self.process.session);
        let process = self.process.of(pid).ok_or(Errno::ESRCH)?;
        if pid != own && process.parent != own {
            return Err(Errno::ESRCH.into());
        }
        // A leader of a session stays in its group, and a group is of one session.
        let exists = self.process.iter().any(|(_, other)| other.group == group && other.session == session);
        if process.session == pid || process.session != session || group != pid && !exists {
            return Err(Errno::EPERM.into());
        }
        if let Some(process) = self.process.of_mut(pid) {
            process.group = group;
        }
        Ok(0)
    }

    pub(super) fn sys_setsid(&mut self) -> SysResult {
        let pid = self.pid();
        if self.process.iter().any(|(_, process)| process.group == pid) {
            return Err(Errno::EPERM.into());
        }
        (self.process.group, self.process.session) = (pid, pid);
        Ok(pid.into())
    }

    pub(super) fn sys_set_robust_list(&mut self, a: Args) -> SysResult {
        /// Bytes of `struct robust_list_head`.
        const HEAD: u64 = 24;
        if a[1] != HEAD {
            return Err(Errno::EINVAL.into());
        }
        self.task.robust_list = a[0];
        Ok(0)
    }

    pub(super) fn sys_get_robust_list(&mut self, a: Args) -> SysResult {
        const HEAD: u64 = 24;
        let task = if a[0] as u32 == 0 { self.tid() } else { a[0] as u32 };
        let list = self.task.of(task).map(|task| task.robust_list).ok_or(Errno::ESRCH)?;
        self.write_words(a[1], &[list])?;
        self.write_words(a[2], &[HEAD])?;
        Ok(0)
    }

    /// Lets another task run, if one can.
    pub(super) fn sys_sched_yield(&mut self) -> SysResult {
        self.sched.end_slice();
        Ok(0)
    }

    /// `exit` and `exit_group`.
    pub(super) fn sys_exit(&mut self, code: u64, group: bool) -> Result<(), SysError> {
        let status = (code as i32 & 0xff) << 8;
        if group { self.exit_process(status) } else { self.exit_task(status) }
    }
}
