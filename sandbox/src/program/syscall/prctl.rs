//! `prctl`, `arch_prctl` and `personality`.

use super::Args;
use crate::errno::Errno;
use crate::program::credentials::{LAST_CAPABILITY, cap, secure};
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::mm::Protection;
use crate::program::settings::{DEFAULT_TIMER_SLACK, READ_IMPLIES_EXEC};
use crate::program::signal::number::MAX as MAX_SIGNAL;

/// `arch_prctl` codes (`arch/x86/include/uapi/asm/prctl.h`).
const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;
const ARCH_GET_CPUID: u64 = 0x1011;
const ARCH_SET_CPUID: u64 = 0x1012;

/// `prctl` codes (`include/uapi/linux/prctl.h`).
mod pr {
    pub const SET_PDEATHSIG: u64 = 1;
    pub const GET_PDEATHSIG: u64 = 2;
    pub const GET_DUMPABLE: u64 = 3;
    pub const SET_DUMPABLE: u64 = 4;
    pub const GET_KEEPCAPS: u64 = 7;
    pub const SET_KEEPCAPS: u64 = 8;
    pub const GET_TIMING: u64 = 13;
    pub const SET_TIMING: u64 = 14;
    pub const SET_NAME: u64 = 15;
    pub const GET_NAME: u64 = 16;
    pub const CAPBSET_READ: u64 = 23;
    pub const CAPBSET_DROP: u64 = 24;
    pub const GET_TSC: u64 = 25;
    pub const SET_TSC: u64 = 26;
    pub const GET_SECUREBITS: u64 = 27;
    pub const SET_SECUREBITS: u64 = 28;
    pub const SET_TIMERSLACK: u64 = 29;
    pub const GET_TIMERSLACK: u64 = 30;
    pub const MCE_KILL: u64 = 33;
    pub const MCE_KILL_GET: u64 = 34;
    pub const SET_CHILD_SUBREAPER: u64 = 36;
    pub const GET_CHILD_SUBREAPER: u64 = 37;
    pub const SET_NO_NEW_PRIVS: u64 = 38;
    pub const GET_NO_NEW_PRIVS: u64 = 39;
    pub const SET_THP_DISABLE: u64 = 41;
    pub const GET_THP_DISABLE: u64 = 42;
    pub const CAP_AMBIENT: u64 = 47;
}

/// `PR_CAP_AMBIENT_*`.
mod ambient {
    pub const IS_SET: u64 = 1;
    pub const RAISE: u64 = 2;
    pub const LOWER: u64 = 3;
    pub const CLEAR_ALL: u64 = 4;
}

/// `PR_TSC_ENABLE`.
const TSC_ENABLE: u64 = 1;

impl Kernel {
    pub(super) fn sys_arch_prctl(&mut self, a: Args) -> SysResult {
        let limit = crate::program::mm::USER_END;
        match a[0] {
            ARCH_SET_FS | ARCH_SET_GS if a[1] >= limit => Err(Errno::EPERM.into()),
            ARCH_SET_FS => {
                self.task.regs.fs_base = a[1];
                Ok(0)
            }
            ARCH_SET_GS => {
                self.task.regs.gs_base = a[1];
                Ok(0)
            }
            ARCH_GET_FS => self.write_words(a[1], &[self.task.regs.fs_base]).map(|()| 0),
            ARCH_GET_GS => self.write_words(a[1], &[self.task.regs.gs_base]).map(|()| 0),
            // CPUID works, and cannot be made to fault.
            ARCH_GET_CPUID => Ok(1),
            ARCH_SET_CPUID => Err(Errno::ENODEV.into()),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn sys_prctl(&mut self, a: Args) -> SysResult {
        let [code, x, rest @ ..] = a;
        // Newer codes want the arguments that they do not use to be zero.
        let no_rest = rest[..3] == [0; 3];
        let settings = &mut self.task.settings;
        match code {
            pr::SET_PDEATHSIG if x <= MAX_SIGNAL.into() => settings.death_signal = x as u32,
            pr::GET_PDEATHSIG => {
                let signal = settings.death_signal;
                self.write(x, &signal.to_le_bytes())?;
            }
            pr::SET_DUMPABLE if x <= 1 => self.process.settings.dumpable = x == 1,
            pr::GET_DUMPABLE => return Ok(self.process.settings.dumpable.into()),
            pr::SET_KEEPCAPS if x <= 1 => {
                let bits = &mut self.task.credentials.securebits;
                if *bits & secure::KEEP_CAPS_LOCKED != 0 {
                    return Err(Errno::EPERM.into());
                }
                *bits = *bits & !secure::KEEP_CAPS | if x == 1 { secure::KEEP_CAPS } else { 0 };
            }
            pr::GET_KEEPCAPS => {
                return Ok((self.task.credentials.securebits & secure::KEEP_CAPS != 0).into());
            }
            pr::GET_TIMING => {}
            // Statistical timing is the only one.
            pr::SET_TIMING if x == 0 => {}
            pr::SET_NAME => self.set_name(x)?,
            pr::GET_NAME => {
                let mut bytes = [0u8; 16];
                bytes[..self.task.name.len()].copy_from_slice(&self.task.name);
                self.write(x, &bytes)?;
            }
            pr::CAPBSET_READ if x <= LAST_CAPABILITY.into() => {
                return Ok(self.task.credentials.caps.bounding >> x & 1);
            }
            pr::CAPBSET_DROP => {
                if !self.task.credentials.can(cap::SETPCAP) {
                    return Err(Errno::EPERM.into());
                }
                if x > LAST_CAPABILITY.into() {
                    return Err(Errno::EINVAL.into());
                }
                self.task.credentials.caps.bounding &= !(1 << x);
            }
            pr::GET_TSC => self.write(x, &(TSC_ENABLE as u32).to_le_bytes())?,
            pr::SET_TSC if x == TSC_ENABLE => {}
            pr::GET_SECUREBITS => return Ok(self.task.credentials.securebits.into()),
            pr::SET_SECUREBITS => self.task.credentials.set_securebits(x)?,
            pr::SET_TIMERSLACK => {
                settings.scheduling.slack = if x as i64 <= 0 { DEFAULT_TIMER_SLACK } else { x };
            }
            pr::GET_TIMERSLACK => return Ok(settings.scheduling.slack),
            pr::MCE_KILL if rest[1..3] == [0; 2] => match (x, rest[0]) {
                (0, 0) => settings.memory_failure = 2,
                (1, policy @ 0..=2) => settings.memory_failure = policy as u32,
                _ => return Err(Errno::EINVAL.into()),
            },
            pr::MCE_KILL_GET if x == 0 && no_rest => return Ok(settings.memory_failure.into()),
            pr::SET_CHILD_SUBREAPER => self.process.settings.subreaper = x != 0,
            pr::GET_CHILD_SUBREAPER => {
                let subreaper = u32::from(self.process.settings.subreaper);
                self.write(x, &subreaper.to_le_bytes())?;
            }
            pr::SET_NO_NEW_PRIVS if x == 1 && no_rest => self.task.credentials.no_new_privs = true,
            pr::GET_NO_NEW_PRIVS if x == 0 && no_rest => {
                return Ok(self.task.credentials.no_new_privs.into());
            }
            pr::SET_THP_DISABLE if no_rest => self.process.settings.no_huge_pages = x != 0,
            pr::GET_THP_DISABLE if x == 0 && no_rest => {
                return Ok(self.process.settings.no_huge_pages.into());
            }
            pr::CAP_AMBIENT => return self.ambient_capability(x, rest[0], rest[1..3] == [0; 2]),
            // The rest is of other machines, of kernels built for it (seccomp filters, names of
            // anonymous memory), or unknown.
            _ => return Err(Errno::EINVAL.into()),
        }
        Ok(0)
    }

    fn set_name(&mut self, address: u64) -> Result<(), SysError> {
        let name = self.space.read_string(&mut self.memory, address, 16)?;
        self.task.name = match name {
            Some(name) => name,
            None => {
                let mut bytes = [0u8; 15];
                self.read(address, &mut bytes)?;
                bytes.to_vec()
            }
        };
        Ok(())
    }

    fn ambient_capability(&mut self, what: u64, capability: u64, no_rest: bool) -> SysResult {
        let c = &mut self.task.credentials;
        if what == ambient::CLEAR_ALL && capability == 0 && no_rest {
            c.caps.ambient = 0;
            return Ok(0);
        }
        if !no_rest || capability > LAST_CAPABILITY.into() {
            return Err(Errno::EINVAL.into());
        }
        let bit = 1 << capability;
        match what {
            ambient::IS_SET => return Ok((c.caps.ambient & bit != 0).into()),
            ambient::LOWER => c.caps.ambient &= !bit,
            ambient::RAISE => {
                let may = c.caps.permitted & c.caps.inheritable & bit != 0
                    && c.securebits & secure::NO_CAP_AMBIENT_RAISE == 0;
                if !may {
                    return Err(Errno::EPERM.into());
                }
                c.caps.ambient |= bit;
            }
            _ => return Err(Errno::EINVAL.into()),
        }
        Ok(0)
    }

    /// The protection of `PROT_*` bits, as the personality has it.
    pub(super) fn protection(&self, bits: u64) -> Protection {
        let protection = Protection::from_bits(bits);
        let exec = protection.read && self.task.settings.personality & READ_IMPLIES_EXEC != 0;
        Protection { exec: protection.exec || exec, ..protection }
    }

    /// The personality of before; all ones asks only.
    pub(super) fn sys_personality(&mut self, a: Args) -> SysResult {
        let before = self.task.settings.personality;
        if a[0] as u32 != u32::MAX {
            self.task.settings.personality = a[0] as u32;
        }
        Ok(before.into())
    }
}
