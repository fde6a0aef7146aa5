//! What a program asks about itself and its machine.

use super::Args;
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::settings::{NAME_MAX, PERSONALITY_KIND, PERSONALITY_LINUX32};

/// `FUTEX_*`.
mod futex {
    pub const WAIT: u64 = 0;
    pub const WAKE: u64 = 1;
    pub const WAIT_BITSET: u64 = 9;
    pub const WAKE_BITSET: u64 = 10;
    pub const COMMAND: u64 = 0x7f;
    pub const CLOCK_REALTIME: u64 = 0x100;
}

impl Kernel {
    /// Futexes of a program with one task: a wake finds nobody, a wait is for nobody.
    pub(super) fn sys_futex(&mut self, a: Args) -> SysResult {
        let [address, op, value, timeout, ..] = a;
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL.into());
        }
        match op & futex::COMMAND {
            futex::WAKE | futex::WAKE_BITSET => Ok(0),
            command @ (futex::WAIT | futex::WAIT_BITSET) => {
                if self.read_u32(address)? != value as u32 {
                    return Err(Errno::EAGAIN.into());
                }
                if timeout == 0 {
                    return Err(SysError::Block);
                }
                let wanted = self.read_timespec(timeout)?;
                let now = match (command, op & futex::CLOCK_REALTIME != 0) {
                    (futex::WAIT, _) => 0,
                    (_, true) => self.clock.realtime(),
                    (_, false) => self.clock.monotonic(),
                };
                match self.sleep(wanted.saturating_sub(now))? {
                    None => Err(Errno::ETIMEDOUT.into()),
                    Some(_) => Err(Errno::EINTR.into()),
                }
            }
            _ => Err(Errno::ENOSYS.into()),
        }
    }

    /// Restartable sequences (`include/uapi/linux/rseq.h`): the program always runs on CPU 0 and is
    /// never moved, so there is nothing to restart.
    pub(super) fn sys_rseq(&mut self, a: Args) -> SysResult {
        const UNREGISTER: u64 = 1;
        const SIZE: u64 = 32;
        if !a[0].is_multiple_of(SIZE) || a[1] < SIZE || a[2] & !UNREGISTER != 0 {
            return Err(Errno::EINVAL.into());
        }
        // cpu_id_start, cpu_id: CPU 0, or "not registered".
        let id = if a[2] == UNREGISTER { u32::MAX } else { 0 };
        self.write(a[0], &[0u32.to_le_bytes(), id.to_le_bytes()].concat())?;
        Ok(0)
    }

    pub(super) fn sys_uname(&mut self, a: Args) -> SysResult {
        // A release that programs know, the same on every host.
        let settings = &self.task.settings;
        let machine: &[u8] = match settings.personality & PERSONALITY_KIND {
            PERSONALITY_LINUX32 => b"i686",
            _ => b"x86_64",
        };
        let version = b"#1 SMP PREEMPT_DYNAMIC dejavm";
        let fields: [&[u8]; 6] =
            [b"Linux", &self.names.host_name, b"6.1.0", version, machine, &self.names.domain_name];
        let mut out = [0u8; 6 * 65];
        for (i, field) in fields.into_iter().enumerate() {
            out[i * 65..i * 65 + field.len()].copy_from_slice(field);
        }
        self.write(a[0], &out).map(|()| 0)
    }

    pub(super) fn sys_sysinfo(&mut self, a: Args) -> SysResult {
        let account = &self.memory.state.account;
        let (total, free) = (account.limit(), account.free());
        let mut words = [0u64; 14];
        words[0] = self.clock.monotonic() / 1_000_000_000;
        (words[4], words[5]) = (total, free);
        // One process, in the low 16 bits; a memory unit of one byte.
        words[10] = 1;
        words[13] = 1;
        self.write_words(a[0], &words).map(|()| 0)
    }

    /// `sethostname`, or `setdomainname`.
    pub(super) fn set_system_name(&mut self, a: Args, domain: bool) -> SysResult {
        if !self.task.credentials.can(cap::SYS_ADMIN) {
            return Err(Errno::EPERM.into());
        }
        let len = usize::try_from(a[1] as i32).ok().filter(|len| *len <= NAME_MAX).ok_or(Errno::EINVAL)?;
        let mut name = vec![0u8; len];
        self.read(a[0], &mut name)?;
        // Programs see it as a string.
        name.truncate(name.iter().position(|b| *b == 0).unwrap_or(len));
        let names = &mut self.names;
        *if domain { &mut names.domain_name } else { &mut names.host_name } = name;
        Ok(0)
    }

    /// `setpgid`: the program leads its session, and so must keep its group.
    pub(super) fn sys_setpgid(&mut self, a: Args) -> SysResult {
        if (a[1] as i32) < 0 {
            return Err(Errno::EINVAL.into());
        }
        self.own_process(a[0])?;
        Err(Errno::EPERM.into())
    }

    /// The program's own id for 0 or itself; there is no other process.
    pub(super) fn own_process(&mut self, pid: u64) -> SysResult {
        if pid as u32 == 0 || pid as u32 == self.pid() {
            Ok(self.pid().into())
        } else {
            Err(Errno::ESRCH.into())
        }
    }

    /// Robust futexes matter when a task dies and others go on: there are none.
    pub(super) fn sys_set_robust_list(&mut self, a: Args) -> SysResult {
        /// Bytes of `struct robust_list_head`.
        const HEAD: u64 = 24;
        if a[1] == HEAD { Ok(0) } else { Err(Errno::EINVAL.into()) }
    }

    pub(super) fn sys_getcpu(&mut self, a: Args) -> SysResult {
        for address in a[..2].iter().filter(|address| **address != 0) {
            self.write(*address, &[0; 4])?;
        }
        Ok(0)
    }
}
