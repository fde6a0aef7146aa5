//! Signals: `rt_sigaction` and its kin.

use super::Args;
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::process::{FIRST_PID, Process};
use crate::program::signal::number::{MAX, SIGCONT, SIGKILL, SIGSTOP};
use crate::program::signal::{Action, AltStack, INFO_BYTES, Info, SI_TKILL, SI_USER, UNBLOCKABLE};
use crate::program::task::Task;

/// Bytes of the kernel's `sigset_t`.
pub(super) const SET_BYTES: u64 = 8;

const SIG_BLOCK: u64 = 0;
const SIG_UNBLOCK: u64 = 1;
const SIG_SETMASK: u64 = 2;

fn signal_number(value: u64) -> Result<u32, SysError> {
    let signal = value as u32;
    if (1..=MAX).contains(&signal) { Ok(signal) } else { Err(Errno::EINVAL.into()) }
}

impl Kernel {
    pub(super) fn sys_rt_sigaction(&mut self, a: Args) -> SysResult {
        let [signal, new, old, size, ..] = a;
        let signal = signal_number(signal)?;
        if size != SET_BYTES || new != 0 && matches!(signal, SIGKILL | SIGSTOP) {
            return Err(Errno::EINVAL.into());
        }
        let before = self.actions.action(signal);
        if new != 0 {
            let [handler, flags, restorer, mask] = self.read_words::<4>(new)?;
            let action = Action { handler, flags, restorer, mask: mask & !UNBLOCKABLE };
            self.signals().set_action(signal, action);
            if !self.actions.is_ignored(signal) {
                self.send_no_longer_ignored(signal);
            }
        }
        if old != 0 {
            self.write_words(old, &[before.handler, before.flags, before.restorer, before.mask])?;
        }
        Ok(0)
    }

    pub(super) fn sys_rt_sigprocmask(&mut self, a: Args) -> SysResult {
        let [how, set, old, size, ..] = a;
        if size != SET_BYTES {
            return Err(Errno::EINVAL.into());
        }
        let before = self.task.signals.mask;
        if set != 0 {
            let set = self.read_u64(set)?;
            let mask = match how {
                SIG_BLOCK => before | set,
                SIG_UNBLOCK => before & !set,
                SIG_SETMASK => set,
                _ => return Err(Errno::EINVAL.into()),
            };
            self.task.signals.mask = mask & !UNBLOCKABLE;
        }
        if old != 0 {
            self.write_words(old, &[before])?;
        }
        Ok(0)
    }

    pub(super) fn sys_rt_sigpending(&mut self, a: Args) -> SysResult {
        if a[1] > SET_BYTES {
            return Err(Errno::EINVAL.into());
        }
        let pending = self.signals().pending_bits() & self.task.signals.mask;
        self.write(a[0], &pending.to_le_bytes()[..a[1] as usize])?;
        Ok(0)
    }

    pub(super) fn sys_rt_sigsuspend(&mut self, a: Args) -> SysResult {
        if a[1] != SET_BYTES {
            return Err(Errno::EINVAL.into());
        }
        let mask = self.read_u64(a[0])?;
        self.task.signals.begin_wait(mask);
        Self::wait_for_ever()
    }

    pub(super) fn sys_sigaltstack(&mut self, a: Args) -> SysResult {
        let [new, old, ..] = a;
        let before = self.task.signals.alt;
        let rsp = self.task.regs.general.rsp;
        if new != 0 {
            let [base, flags, size] = self.read_words::<3>(new)?;
            self.task.signals.set_alt(rsp, AltStack { base, size, flags: flags as u32 })?;
        }
        if old != 0 {
            self.write_words(old, &[before.base, before.told_flags(rsp).into(), before.size])?;
        }
        Ok(0)
    }

    /// Whether the running task may signal another (`kill_ok_by_cred`).
    fn may_signal(&self, target: &Task, signal: u32) -> bool {
        let (who, whom) = (&self.task.credentials, &target.credentials);
        let alike = [who.user.effective, who.user.real]
            .iter()
            .any(|id| [whom.user.real, whom.user.saved].contains(id));
        alike || self.continues(target.process, signal) || who.can(cap::KILL) || target.process == self.pid()
    }

    /// The same of a process, which may have ended: then of whom it was.
    fn may_signal_process(&self, pid: u32, signal: u32) -> bool {
        if let Some(task) = self.first_task_of(pid) {
            return self.may_signal(task, signal);
        }
        let who = &self.task.credentials;
        let ended = self.process.of(pid).map(|process| process.user);
        let alike = ended.is_some_and(|user| [who.user.effective, who.user.real].contains(&user));
        alike || self.continues(pid, signal) || who.can(cap::KILL)
    }

    /// Whether a signal lets a process of the running task's session go on.
    fn continues(&self, pid: u32, signal: u32) -> bool {
        let session = |pid| self.process.of(pid).map(|process| process.session);
        signal == SIGCONT && session(pid) == session(self.pid())
    }

    pub(super) fn sys_kill(&mut self, a: Args) -> SysResult {
        let pid = a[0] as i32;
        if pid == FIRST_PID as i32 {
            return self.send_to_first(a[1]);
        }
        let info = self.own_info(a[1], SI_USER);
        self.signal_processes(pid, info)
    }

    /// Sends a signal to those that `kill`'s first argument names; 0 asks only.
    pub(super) fn signal_processes(&mut self, pid: i32, info: Info) -> SysResult {
        let (own, group) = (self.pid(), self.process.group);
        let group_of = |wanted: u32| move |(_, process): &(u32, &Process)| process.group == wanted;
        let targets: Vec<u32> = match pid {
            0 => self.process.iter().filter(group_of(group)).map(|(pid, _)| pid).collect(),
            // Everybody but the first process and the caller.
            -1 => self.process.iter().map(|(pid, _)| pid).filter(|pid| *pid != own).collect(),
            i32::MIN => return Err(Errno::ESRCH.into()),
            pid if pid < 0 => {
                self.process.iter().filter(group_of(pid.unsigned_abs())).map(|(pid, _)| pid).collect()
            }
            pid => vec![self.process_of(pid as u64)?],
        };
        // Looked at once there is somebody to get it (`check_kill_permission`).
        if info.signal > MAX && !targets.is_empty() {
            return Err(Errno::EINVAL.into());
        }
        let allowed = |pid: &u32| self.may_signal_process(*pid, info.signal);
        let (allowed, refused): (Vec<u32>, Vec<u32>) = targets.into_iter().partition(allowed);
        if allowed.is_empty() {
            return Err(if refused.is_empty() { Errno::ESRCH } else { Errno::EPERM }.into());
        }
        if info.signal == 0 {
            return Ok(0);
        }
        if info.code == SI_USER {
            allowed.into_iter().for_each(|pid| self.send(pid, info));
            return Ok(0);
        }
        allowed.into_iter().try_for_each(|pid| self.try_send(pid, info))?;
        Ok(0)
    }

    /// Signals to the first process: it gets those only that it has handlers for, and it has none.
    pub(super) fn send_to_first(&mut self, signal: u64) -> SysResult {
        let who = &self.task.credentials;
        let may = who.can(cap::KILL) || [who.user.real, who.user.effective].contains(&0);
        match (signal as u32 <= MAX, may) {
            (false, _) => Err(Errno::EINVAL.into()),
            (_, false) => Err(Errno::EPERM.into()),
            _ => Ok(0),
        }
    }

    pub(super) fn sys_tgkill(&mut self, a: Args) -> SysResult {
        if a[0] as i32 <= 0 || a[1] as i32 <= 0 {
            return Err(Errno::EINVAL.into());
        }
        let info = self.own_info(a[2], SI_TKILL);
        self.signal_task(Some(a[0] as u32), a[1] as u32, info)
    }

    pub(super) fn sys_tkill(&mut self, a: Args) -> SysResult {
        if a[0] as i32 <= 0 {
            return Err(Errno::EINVAL.into());
        }
        let info = self.own_info(a[1], SI_TKILL);
        self.signal_task(None, a[0] as u32, info)
    }

    /// What a signal that the running task sends says of its sender.
    pub(super) fn own_info(&self, signal: u64, code: i32) -> Info {
        let value = u64::from(self.pid()) | u64::from(self.task.credentials.user.real) << 32;
        Info { signal: signal as u32, code, value, direct: code == SI_TKILL, ..Info::default() }
    }

    fn signal_task(&mut self, process: Option<u32>, tid: u32, info: Info) -> SysResult {
        let signal = info.signal;
        let of_it = |task: &&Task| process.is_none_or(|pid| task.process == pid);
        let target = self.task.of(tid).filter(of_it);
        // The first task of a process is there until somebody has waited for it.
        let ended = self.process.of(tid).is_some_and(|process| process.ended.is_some());
        let ended = ended && process.is_none_or(|pid| pid == tid);
        if target.is_none() && !ended {
            return Err(Errno::ESRCH.into());
        }
        if signal > MAX {
            return Err(Errno::EINVAL.into());
        }
        if !target.map_or_else(|| self.may_signal_process(tid, signal), |task| self.may_signal(task, signal))
        {
            return Err(Errno::EPERM.into());
        }
        if signal != 0 && !ended {
            self.try_send(tid, info)?;
        }
        Ok(0)
    }

    /// `rt_sigqueueinfo`: a signal with what comes along.
    pub(super) fn sys_rt_sigqueueinfo(&mut self, a: Args) -> SysResult {
        let [pid, signal, address, ..] = a;
        let info = self.queued_info(signal, address)?;
        let others = pid as i32 != self.pid() as i32;
        if others && (info.code >= 0 || info.code == SI_TKILL) {
            return Err(Errno::EPERM.into());
        }
        if pid as i32 <= 0 {
            return Err(Errno::ESRCH.into());
        }
        self.signal_processes(pid as i32, info)
    }

    /// `rt_tgsigqueueinfo`: the same to one task.
    pub(super) fn sys_rt_tgsigqueueinfo(&mut self, a: Args) -> SysResult {
        let [pid, tid, signal, address, ..] = a;
        let info = self.queued_info(signal, address)?;
        if pid as i32 <= 0 || tid as i32 <= 0 {
            return Err(Errno::EINVAL.into());
        }
        if pid as u32 != self.pid() && (info.code >= 0 || info.code == SI_TKILL) {
            return Err(Errno::EPERM.into());
        }
        self.signal_task(Some(pid as u32), tid as u32, Info { direct: true, ..info })
    }

    pub(super) fn queued_info(&mut self, signal: u64, address: u64) -> Result<Info, SysError> {
        let mut bytes = [0u8; INFO_BYTES];
        self.read(address, &mut bytes)?;
        let signal = signal as u32;
        if signal > MAX {
            return Err(Errno::EINVAL.into());
        }
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Ok(Info { signal, code: word(8) as i32, value: word(16), extra: word(24), ..Info::default() })
    }
}
