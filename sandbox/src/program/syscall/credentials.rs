//! User and group ids, and capabilities.

use super::Args;
use crate::errno::Errno;
use crate::program::credentials::{Credentials, GROUPS_MAX, Ids, ROOT, cap};
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::process::FIRST_PID;

/// Versions of `capget` and `capset` (`include/uapi/linux/capability.h`).
const CAPABILITY_VERSION_1: u32 = 0x1998_0330;
const CAPABILITY_VERSION_2: u32 = 0x2007_1026;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

impl Kernel {
    /// Changes the credentials. What the process may do more or less makes it undumpable.
    pub(super) fn change_credentials<T>(
        &mut self,
        change: impl FnOnce(&mut Credentials) -> Result<T, Errno>,
    ) -> Result<T, SysError> {
        let mut new = self.task.credentials.clone();
        let result = change(&mut new)?;
        if new.gains_on(&self.task.credentials) {
            self.process.settings.dumpable = false;
            self.task.settings.death_signal = 0;
        }
        self.task.credentials = new;
        Ok(result)
    }

    pub(super) fn sys_setuid(&mut self, a: Args) -> SysResult {
        self.change_credentials(|c| c.set_user(a[0] as u32)).map(|()| 0)
    }

    pub(super) fn sys_setgid(&mut self, a: Args) -> SysResult {
        self.change_credentials(|c| c.set_group(a[0] as u32)).map(|()| 0)
    }

    pub(super) fn sys_setreuid(&mut self, a: Args) -> SysResult {
        self.change_credentials(|c| c.set_user_pair(a[0] as u32, a[1] as u32)).map(|()| 0)
    }

    pub(super) fn sys_setregid(&mut self, a: Args) -> SysResult {
        self.change_credentials(|c| c.set_group_pair(a[0] as u32, a[1] as u32)).map(|()| 0)
    }

    pub(super) fn sys_setresuid(&mut self, a: Args) -> SysResult {
        self.change_credentials(|c| c.set_users([a[0], a[1], a[2]].map(|id| id as u32))).map(|()| 0)
    }

    pub(super) fn sys_setresgid(&mut self, a: Args) -> SysResult {
        self.change_credentials(|c| c.set_groups_ids([a[0], a[1], a[2]].map(|id| id as u32))).map(|()| 0)
    }

    pub(super) fn sys_setfsuid(&mut self, a: Args) -> SysResult {
        self.change_credentials(|c| Ok(c.set_fs_user(a[0] as u32).into()))
    }

    pub(super) fn sys_setfsgid(&mut self, a: Args) -> SysResult {
        self.change_credentials(|c| Ok(c.set_fs_group(a[0] as u32).into()))
    }

    fn write_ids(&mut self, a: Args, ids: Ids) -> SysResult {
        for (address, id) in a.into_iter().zip([ids.real, ids.effective, ids.saved]) {
            self.write(address, &id.to_le_bytes())?;
        }
        Ok(0)
    }

    pub(super) fn sys_getresuid(&mut self, a: Args) -> SysResult {
        self.write_ids(a, self.task.credentials.user)
    }

    pub(super) fn sys_getresgid(&mut self, a: Args) -> SysResult {
        self.write_ids(a, self.task.credentials.group)
    }

    pub(super) fn sys_getgroups(&mut self, a: Args) -> SysResult {
        let groups = &self.task.credentials.groups;
        let (n, size) = (groups.len(), a[0] as i32);
        let bytes: Vec<u8> = groups.iter().flat_map(|g| g.to_le_bytes()).collect();
        match usize::try_from(size) {
            Ok(0) => {}
            Ok(size) if size >= n => self.write(a[1], &bytes)?,
            _ => return Err(Errno::EINVAL.into()),
        }
        Ok(n as u64)
    }

    pub(super) fn sys_setgroups(&mut self, a: Args) -> SysResult {
        if !self.task.credentials.can(cap::SETGID) {
            return Err(Errno::EPERM.into());
        }
        let n = usize::try_from(a[0] as i32).ok().filter(|n| *n <= GROUPS_MAX).ok_or(Errno::EINVAL)?;
        let mut bytes = vec![0u8; n * 4];
        self.read(a[1], &mut bytes)?;
        let groups = bytes.as_chunks::<4>().0.iter().map(|g| u32::from_le_bytes(*g)).collect();
        self.change_credentials(|c| {
            c.set_supplementary(groups);
            Ok(0)
        })
    }

    /// Words of each set, and the process, that a header asks for. One of an unknown version is told
    /// the newest.
    fn read_capability_header(&mut self, address: u64) -> Result<Option<(usize, i32)>, SysError> {
        let words = match self.read_u32(address)? {
            CAPABILITY_VERSION_1 => 1,
            CAPABILITY_VERSION_2 | CAPABILITY_VERSION_3 => 2,
            _ => {
                self.write(address, &CAPABILITY_VERSION_3.to_le_bytes())?;
                return Ok(None);
            }
        };
        let pid = self.read_u32(address.wrapping_add(4))? as i32;
        Ok(Some((words, pid)))
    }

    pub(super) fn sys_capget(&mut self, a: Args) -> SysResult {
        let Some((words, pid)) = self.read_capability_header(a[0])? else {
            return if a[1] == 0 { Ok(0) } else { Err(Errno::EINVAL.into()) };
        };
        if a[1] == 0 {
            return Ok(0);
        }
        if pid < 0 {
            return Err(Errno::EINVAL.into());
        }
        let caps = match pid as u32 {
            FIRST_PID => ROOT.caps,
            _ => {
                self.own_process(pid as u64)?;
                self.task.credentials.caps
            }
        };
        let sets = [caps.effective, caps.permitted, caps.inheritable];
        let bytes: Vec<u8> = (0..words)
            .flat_map(|word| sets.map(|set| (set >> (32 * word)) as u32))
            .flat_map(u32::to_le_bytes)
            .collect();
        self.write(a[1], &bytes)?;
        Ok(0)
    }

    pub(super) fn sys_capset(&mut self, a: Args) -> SysResult {
        let (words, pid) = self.read_capability_header(a[0])?.ok_or(Errno::EINVAL)?;
        if pid != 0 && pid != self.pid() as i32 {
            return Err(Errno::EPERM.into());
        }
        let mut sets = [0u64; 3];
        for word in 0..words as u64 {
            for (i, set) in sets.iter_mut().enumerate() {
                let at = a[1].wrapping_add((word * 3 + i as u64) * 4);
                *set |= u64::from(self.read_u32(at)?) << (32 * word);
            }
        }
        let [effective, permitted, inheritable] = sets;
        self.change_credentials(|c| c.set_capabilities(effective, permitted, inheritable)).map(|()| 0)
    }
}
