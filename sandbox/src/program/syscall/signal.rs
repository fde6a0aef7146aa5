//! Signals: `rt_sigaction` and its kin.

use super::Args;
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::process::FIRST_PID;
use crate::program::signal::number::{MAX, SIGKILL, SIGSTOP};
use crate::program::signal::{Action, AltStack, Info, SI_TKILL, SI_USER, UNBLOCKABLE};

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
        Err(SysError::Block)
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

    /// Only the program itself can be signalled: there is nobody else.
    pub(super) fn sys_kill(&mut self, a: Args) -> SysResult {
        let pid = a[0] as i32;
        if pid == FIRST_PID as i32 {
            return self.send_to_first(a[1]);
        }
        // -1 is everybody but the first process and the caller.
        let this = self.pid() as i32;
        let own = [0, this, -this].contains(&pid);
        self.send_to_self(own, a[1], SI_USER)
    }

    /// Signals to the first process: it gets those only that it has handlers for, and it has none.
    fn send_to_first(&mut self, signal: u64) -> SysResult {
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
        let own = a[0] as u32 == self.pid() && a[1] as u32 == self.tid();
        self.send_to_self(own, a[2], SI_TKILL)
    }

    pub(super) fn sys_tkill(&mut self, a: Args) -> SysResult {
        if a[0] as i32 <= 0 {
            return Err(Errno::EINVAL.into());
        }
        self.send_to_self(a[0] as u32 == self.tid(), a[1], SI_TKILL)
    }

    fn send_to_self(&mut self, own: bool, signal: u64, code: i32) -> SysResult {
        if signal as u32 > MAX {
            return Err(Errno::EINVAL.into());
        }
        if !own {
            return Err(Errno::ESRCH.into());
        }
        if signal as u32 != 0 {
            let value = self.pid().into();
            self.signals().send(Info { signal: signal as u32, code, value, ..Info::default() });
        }
        Ok(0)
    }
}
