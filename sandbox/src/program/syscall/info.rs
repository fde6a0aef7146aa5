//! What a program asks about itself and its machine.

use super::Args;
use crate::errno::Errno;
use crate::program::mm::Access;
use crate::program::process::{PID, Process, SysError, SysResult};
use crate::program::state::RLIMIT_STACK;

/// `arch_prctl` codes (`arch/x86/include/uapi/asm/prctl.h`).
const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;

/// `prctl` codes (`include/uapi/linux/prctl.h`).
mod pr {
    pub const SET_PDEATHSIG: u64 = 1;
    pub const GET_DUMPABLE: u64 = 3;
    pub const SET_DUMPABLE: u64 = 4;
    pub const SET_NAME: u64 = 15;
    pub const GET_NAME: u64 = 16;
    pub const CAPBSET_READ: u64 = 23;
    pub const GET_NO_NEW_PRIVS: u64 = 39;
    pub const SET_NO_NEW_PRIVS: u64 = 38;
    pub const SET_VMA: u64 = 0x5356_4d41;
}

/// The highest capability (`CAP_CHECKPOINT_RESTORE`).
const LAST_CAPABILITY: u64 = 40;

/// `FUTEX_*`.
mod futex {
    pub const WAIT: u64 = 0;
    pub const WAKE: u64 = 1;
    pub const WAIT_BITSET: u64 = 9;
    pub const WAKE_BITSET: u64 = 10;
    pub const COMMAND: u64 = 0x7f;
    pub const CLOCK_REALTIME: u64 = 0x100;
}

/// Bytes that one `getrandom` gives at most.
const RANDOM_MAX: u64 = 1 << 20;

impl Process {
    pub(super) fn sys_arch_prctl(&mut self, a: Args) -> SysResult {
        let limit = crate::program::mm::USER_END;
        match a[0] {
            ARCH_SET_FS | ARCH_SET_GS if a[1] >= limit => Err(Errno::EPERM.into()),
            ARCH_SET_FS => {
                self.regs.fs_base = a[1];
                Ok(0)
            }
            ARCH_SET_GS => {
                self.regs.gs_base = a[1];
                Ok(0)
            }
            ARCH_GET_FS => self.write_words(a[1], &[self.regs.fs_base]).map(|()| 0),
            ARCH_GET_GS => self.write_words(a[1], &[self.regs.gs_base]).map(|()| 0),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn sys_prctl(&mut self, a: Args) -> SysResult {
        match a[0] {
            pr::SET_NAME => {
                let name = self.space.read_string(&mut self.memory, a[1], 16)?;
                let name = match name {
                    Some(name) => name,
                    None => {
                        let mut bytes = [0u8; 15];
                        self.read(a[1], &mut bytes)?;
                        bytes.to_vec()
                    }
                };
                self.task.name = name;
                Ok(0)
            }
            pr::GET_NAME => {
                let mut bytes = [0u8; 16];
                bytes[..self.task.name.len()].copy_from_slice(&self.task.name);
                self.write(a[1], &bytes).map(|()| 0)
            }
            pr::SET_DUMPABLE if a[1] <= 1 => {
                self.task.dumpable = a[1] == 1;
                Ok(0)
            }
            pr::GET_DUMPABLE => Ok(self.task.dumpable.into()),
            pr::CAPBSET_READ if a[1] <= LAST_CAPABILITY => Ok(1),
            pr::SET_PDEATHSIG | pr::SET_NO_NEW_PRIVS | pr::GET_NO_NEW_PRIVS => Ok(0),
            // Naming anonymous memory: accepted by kernels built for it, refused by others.
            pr::SET_VMA => Err(Errno::EINVAL.into()),
            _ => Err(Errno::EINVAL.into()),
        }
    }

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
        let fields: [&[u8]; 6] =
            [b"Linux", b"dejavm", b"6.1.0", b"#1 SMP PREEMPT_DYNAMIC dejavm", b"x86_64", b"(none)"];
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

    pub(super) fn sys_prlimit64(&mut self, a: Args) -> SysResult {
        let [pid, resource, new, old, ..] = a;
        self.own_process(pid)?;
        let index =
            usize::try_from(resource).ok().filter(|r| *r < self.task.limits.len()).ok_or(Errno::EINVAL)?;
        let before = self.task.limits[index];
        if new != 0 {
            let [soft, hard] = self.read_words::<2>(new)?;
            if soft > hard {
                return Err(Errno::EINVAL.into());
            }
            self.task.limits[index] = (soft, hard);
            if index == RLIMIT_STACK {
                self.space.state.stack_limit = soft;
            }
            if index == RLIMIT_NOFILE {
                self.files.set_limit(soft);
            }
        }
        if old != 0 {
            self.write_words(old, &[before.0, before.1])?;
        }
        Ok(0)
    }

    pub(super) fn sys_getrlimit(&mut self, a: Args) -> SysResult {
        let index =
            usize::try_from(a[0]).ok().filter(|r| *r < self.task.limits.len()).ok_or(Errno::EINVAL)?;
        let (soft, hard) = self.task.limits[index];
        self.write_words(a[1], &[soft, hard]).map(|()| 0)
    }

    pub(super) fn sys_setrlimit(&mut self, a: Args) -> SysResult {
        // `prlimit64` takes no new limit from a null pointer; this call does not.
        self.read_words::<2>(a[1])?;
        self.sys_prlimit64([0, a[0], a[1], 0, 0, 0])
    }

    pub(super) fn sys_getrandom(&mut self, a: Args) -> SysResult {
        let [address, len, flags, ..] = a;
        if flags & !7 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let len = self.usable(address, len.min(RANDOM_MAX), Access::Write)?;
        let mut bytes = vec![0u8; len];
        self.random.fill(&mut bytes);
        self.write(address, &bytes)?;
        Ok(bytes.len() as u64)
    }

    /// The program's own id for 0 or itself; there is no other process.
    pub(super) fn own_process(&mut self, pid: u64) -> SysResult {
        if pid as u32 == 0 || pid as u32 == PID { Ok(PID.into()) } else { Err(Errno::ESRCH.into()) }
    }

    pub(super) fn sys_getresuid(&mut self, a: Args) -> SysResult {
        for address in &a[..3] {
            self.write(*address, &[0; 4])?;
        }
        Ok(0)
    }

    pub(super) fn sys_sched_getaffinity(&mut self, a: Args) -> SysResult {
        self.own_process(a[0])?;
        let len = a[1] as u32;
        if len < 8 || !len.is_multiple_of(8) {
            return Err(Errno::EINVAL.into());
        }
        self.write_words(a[2], &[1])?;
        Ok(8)
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

    pub(super) fn sys_capget(&mut self, a: Args) -> SysResult {
        /// `_LINUX_CAPABILITY_VERSION_3`.
        const VERSION_3: u32 = 0x2008_0522;
        if self.read_u32(a[0])? != VERSION_3 {
            self.write(a[0], &VERSION_3.to_le_bytes())?;
            return Err(Errno::EINVAL.into());
        }
        if a[1] != 0 {
            let low = u32::MAX;
            let high = (1u32 << (LAST_CAPABILITY - 31)) - 1;
            let words = [low, low, 0, high, high, 0];
            let bytes: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
            self.write(a[1], &bytes)?;
        }
        Ok(0)
    }
}

/// `RLIMIT_NOFILE`.
const RLIMIT_NOFILE: usize = 7;
