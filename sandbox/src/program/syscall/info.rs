//! What a program asks about itself and its machine.

use super::Args;
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::SysResult;
use crate::program::kernel::Kernel;
use crate::program::settings::{NAME_MAX, PERSONALITY_KIND, PERSONALITY_LINUX32};

impl Kernel {
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
        // Processes in the low 16 bits; a memory unit of one byte.
        words[10] = self.task.len() as u64;
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

    /// The caller's own process, which 0, its number or its task's stand for. What others have set of
    /// themselves is theirs alone here.
    ///
    /// # Errors
    /// `EPERM` for others, `ESRCH` for nobody.
    pub(super) fn own_process(&mut self, pid: u64) -> SysResult {
        match pid as u32 {
            id if [0, self.pid(), self.tid()].contains(&id) => Ok(self.pid().into()),
            _ => Err(self.process_of(pid).err().unwrap_or(Errno::EPERM).into()),
        }
    }

    pub(super) fn sys_getcpu(&mut self, a: Args) -> SysResult {
        for address in a[..2].iter().filter(|address| **address != 0) {
            self.write(*address, &[0; 4])?;
        }
        Ok(0)
    }
}
