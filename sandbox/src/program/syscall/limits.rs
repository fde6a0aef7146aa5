//! Resource limits.

use super::Args;
use crate::errno::Errno;
use crate::program::credentials::{Credentials, ROOT, cap};
use crate::program::error::{SysError, SysResult};
use crate::program::files::OPEN_MAX;
use crate::program::kernel::Kernel;
use crate::program::limits;
use crate::program::mm::{Protection, Vma};
use crate::program::process::FIRST_PID;

impl Kernel {
    fn limit_index(&self, resource: u64) -> Result<usize, Errno> {
        // The kernel takes an unsigned int.
        let resource = resource as u32 as usize;
        if resource < self.process.limits.len() { Ok(resource) } else { Err(Errno::EINVAL) }
    }

    /// Sets a limit of a process, which a task of it stands for.
    fn set_limit(&mut self, tid: u32, index: usize, (soft, hard): (u64, u64)) -> Result<(), SysError> {
        let (pid, files, space) = match self.task.of(tid) {
            Some(task) => (task.process, task.files, task.space),
            None => return Err(Errno::ESRCH.into()),
        };
        if soft > hard {
            return Err(Errno::EINVAL.into());
        }
        if index == limits::NOFILE && hard > OPEN_MAX.into() {
            return Err(Errno::EPERM.into());
        }
        let process = self.process.of_mut(pid).ok_or(Errno::ESRCH)?;
        if hard > process.limits[index].1 && !self.task.credentials.can(cap::SYS_RESOURCE) {
            return Err(Errno::EPERM.into());
        }
        process.limits[index] = (soft, hard);
        match index {
            limits::NOFILE => self.files.set_limit(files, soft),
            limits::STACK => {
                if let Some(space) = self.space.of_mut(space) {
                    space.state.stack_limit = soft;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the running task may look at the limits of another, or set them (`check_prlimit_permission`).
    fn may_limit(&self, whom: &Credentials) -> bool {
        self.is_alike(whom) || self.task.credentials.can(cap::SYS_RESOURCE)
    }

    /// Whether all of another's ids are the running task's real ones.
    pub(super) fn is_alike(&self, whom: &Credentials) -> bool {
        let who = &self.task.credentials;
        let users = [whom.user.effective, whom.user.saved, whom.user.real];
        let groups = [whom.group.effective, whom.group.saved, whom.group.real];
        users.iter().all(|id| *id == who.user.real) && groups.iter().all(|id| *id == who.group.real)
    }

    pub(super) fn sys_prlimit64(&mut self, a: Args) -> SysResult {
        let [pid, resource, new, old, ..] = a;
        let new = if new == 0 { None } else { Some(self.read_words::<2>(new)?) };
        let index = self.limit_index(resource)?;
        let tid = if pid as u32 == 0 { self.tid() } else { pid as u32 };
        let before = match self.task.of(tid) {
            // Nothing changes what the first process may.
            None if tid == FIRST_PID && (new.is_some() || !self.may_limit(&ROOT)) => {
                return Err(Errno::EPERM.into());
            }
            None if tid == FIRST_PID => limits::first()[index],
            None => return Err(Errno::ESRCH.into()),
            Some(task) if tid != self.tid() && !self.may_limit(&task.credentials) => {
                return Err(Errno::EPERM.into());
            }
            Some(task) => self.process.of(task.process).ok_or(Errno::ESRCH)?.limits[index],
        };
        if let Some([soft, hard]) = new {
            self.set_limit(tid, index, (soft, hard))?;
        }
        if old != 0 {
            self.write_words(old, &[before.0, before.1])?;
        }
        Ok(0)
    }

    pub(super) fn sys_getrlimit(&mut self, a: Args) -> SysResult {
        let (soft, hard) = self.process.limits[self.limit_index(a[0])?];
        self.write_words(a[1], &[soft, hard]).map(|()| 0)
    }

    pub(super) fn sys_setrlimit(&mut self, a: Args) -> SysResult {
        let [soft, hard] = self.read_words::<2>(a[1])?;
        let index = self.limit_index(a[0])?;
        self.set_limit(self.tid(), index, (soft, hard)).map(|()| 0)
    }

    /// Refuses to map more than `RLIMIT_AS` and `RLIMIT_DATA` allow: `bytes` more in all, of which
    /// so many `data` (see [`is_data`]).
    ///
    /// # Errors
    /// `ENOMEM`
    pub(super) fn expect_mappable(&self, bytes: u64, data: u64) -> Result<(), SysError> {
        let limit = |index: usize| self.process.limits[index].0;
        let over = |limit: u64, more: u64, counts: fn(&Vma) -> bool| {
            // Sums are over all mappings: only where there is a limit.
            more > 0 && limit != u64::MAX && self.space.mapped_bytes(counts).saturating_add(more) > limit
        };
        if over(limit(limits::AS), bytes, |_| true) || over(limit(limits::DATA), data, is_data) {
            return Err(Errno::ENOMEM.into());
        }
        Ok(())
    }

    /// The first part of a range that `RLIMIT_DATA` keeps from becoming writable, if there is one before
    /// the first gap.
    pub(super) fn first_beyond_data(&self, range: std::ops::Range<u64>) -> Option<u64> {
        let limit = self.process.limits[limits::DATA].0;
        if limit == u64::MAX {
            return None;
        }
        let mut data = self.space.mapped_bytes(is_data);
        let mut at = range.start;
        for (start, vma) in self.space.mappings_in(&range) {
            let part = start.max(range.start)..vma.end.min(range.end);
            if part.start > at {
                return None;
            }
            at = part.end;
            let writable = Protection { write: true, ..vma.protection };
            if !is_data(vma) && is_data(&Vma { protection: writable, ..vma.clone() }) {
                data = data.saturating_add(part.end - part.start);
                if data > limit {
                    return Some(part.start);
                }
            }
        }
        None
    }

    /// Bytes of a range that are mapped already, where there is a limit that they count against.
    pub(super) fn mapped_within(&self, range: std::ops::Range<u64>) -> u64 {
        if self.process.limits[limits::AS].0 == u64::MAX {
            return 0;
        }
        let vmas =
            self.space.state.vmas.range(..range.end).rev().take_while(|(_, vma)| vma.end > range.start);
        vmas.map(|(start, vma)| vma.end.min(range.end) - start.max(&range.start)).sum()
    }
}

/// Whether a mapping counts against `RLIMIT_DATA`: private, writable, and no stack.
pub(super) fn is_data(vma: &Vma) -> bool {
    vma.protection.write && !vma.backing.is_shared() && !vma.grows_down
}
