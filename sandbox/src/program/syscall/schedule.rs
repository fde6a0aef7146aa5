//! Priorities, scheduling policies, CPU masks. There is one CPU, and who runs on it is the seed's to decide:
//! what is set is kept, and changes nothing.

use super::Args;
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::limits;
use crate::program::settings::Scheduling;

/// `SCHED_*` (`include/uapi/linux/sched.h`).
const NORMAL: u32 = 0;
const FIFO: u32 = 1;
const RR: u32 = 2;
const BATCH: u32 = 3;
const IDLE: u32 = 5;
const DEADLINE: u32 = 6;
const EXTENSIBLE: u32 = 7;
const RESET_ON_FORK: u32 = 0x4000_0000;
/// Real-time priorities: 1 to this.
const MAX_PRIORITY: u32 = 99;

/// `SCHED_FLAG_RESET_ON_FORK`, `_KEEP_POLICY` and `_KEEP_PARAMS` of `struct sched_attr`.
const FLAG_RESET: u64 = 1;
const FLAG_KEEP_POLICY: u64 = 8;
const FLAG_KEEP_PARAMS: u64 = 0x10;
/// Bytes of `struct sched_attr`, and of its first version.
const ATTR_BYTES: usize = 56;
const ATTR_FIRST: u32 = 48;

/// Nanoseconds of a time slice: `SCHED_RR`'s, and that of a normal task.
const RR_SLICE: u64 = 100_000_000;
const NORMAL_SLICE: u64 = 3_000_000;

fn real_time(policy: u32) -> bool {
    matches!(policy, FIFO | RR)
}

impl Kernel {
    /// Whether `who` of `PRIO_PROCESS`, `PRIO_PGRP` or `PRIO_USER` is the program.
    fn expect_own_priority(&self, which: u64, who: u64) -> Result<(), Errno> {
        let who = who as u32;
        let own = match which as u32 {
            0 | 1 => [0, self.pid(), self.tid()].contains(&who),
            2 => [0, self.task.credentials.user.real].contains(&who),
            _ => return Err(Errno::EINVAL),
        };
        if own { Ok(()) } else { Err(Errno::ESRCH) }
    }

    pub(super) fn sys_getpriority(&mut self, a: Args) -> SysResult {
        self.expect_own_priority(a[0], a[1])?;
        Ok((20 - self.task.settings.scheduling.nice) as u64)
    }

    pub(super) fn sys_setpriority(&mut self, a: Args) -> SysResult {
        self.expect_own_priority(a[0], a[1])?;
        let nice = (a[2] as i32).clamp(-20, 19);
        self.expect_may_nice(nice, Errno::EACCES)?;
        self.task.settings.scheduling.nice = nice;
        Ok(0)
    }

    fn expect_may_nice(&self, nice: i32, error: Errno) -> Result<(), Errno> {
        let allowed = (20 - nice) as u64 <= self.process.limits[limits::NICE].0;
        let nicer = nice >= self.task.settings.scheduling.nice;
        if nicer || allowed || self.task.credentials.can(cap::SYS_NICE) { Ok(()) } else { Err(error) }
    }

    /// The process that a scheduling call is about.
    fn scheduled(&mut self, pid: u64) -> Result<(), SysError> {
        if (pid as i32) < 0 {
            return Err(Errno::EINVAL.into());
        }
        self.own_process(pid).map(drop)
    }

    fn set_policy(&mut self, policy: u32, priority: u32, reset: bool) -> Result<(), SysError> {
        if !matches!(policy, NORMAL | FIFO | RR | BATCH | IDLE)
            || priority > MAX_PRIORITY
            || real_time(policy) != (priority > 0)
        {
            return Err(Errno::EINVAL.into());
        }
        let old = self.task.settings.scheduling;
        if !self.task.credentials.can(cap::SYS_NICE) {
            let limit = self.process.limits[limits::RTPRIO].0;
            let gains = real_time(policy)
                && (policy != old.policy && limit == 0
                    || priority > old.priority && u64::from(priority) > limit);
            let leaves_idle = old.policy == IDLE
                && policy != IDLE
                && (20 - old.nice) as u64 > self.process.limits[limits::NICE].0;
            if gains || leaves_idle || old.reset_on_fork && !reset {
                return Err(Errno::EPERM.into());
            }
        }
        self.task.settings.scheduling = Scheduling { policy, priority, reset_on_fork: reset, ..old };
        Ok(())
    }

    pub(super) fn sys_sched_setscheduler(&mut self, a: Args) -> SysResult {
        let [pid, policy, parameter, ..] = a;
        if (policy as i32) < 0 || (pid as i32) < 0 || parameter == 0 {
            return Err(Errno::EINVAL.into());
        }
        let priority = self.read_u32(parameter)?;
        self.scheduled(pid)?;
        let policy = policy as u32;
        self.set_policy(policy & !RESET_ON_FORK, priority, policy & RESET_ON_FORK != 0)?;
        Ok(0)
    }

    pub(super) fn sys_sched_setparam(&mut self, a: Args) -> SysResult {
        if (a[0] as i32) < 0 || a[1] == 0 {
            return Err(Errno::EINVAL.into());
        }
        let priority = self.read_u32(a[1])?;
        self.scheduled(a[0])?;
        let Scheduling { policy, reset_on_fork, .. } = self.task.settings.scheduling;
        self.set_policy(policy, priority, reset_on_fork)?;
        Ok(0)
    }

    pub(super) fn sys_sched_getscheduler(&mut self, a: Args) -> SysResult {
        self.scheduled(a[0])?;
        let Scheduling { policy, reset_on_fork, .. } = self.task.settings.scheduling;
        Ok((policy | if reset_on_fork { RESET_ON_FORK } else { 0 }).into())
    }

    pub(super) fn sys_sched_getparam(&mut self, a: Args) -> SysResult {
        if a[1] == 0 {
            return Err(Errno::EINVAL.into());
        }
        self.scheduled(a[0])?;
        self.write(a[1], &self.task.settings.scheduling.priority.to_le_bytes())?;
        Ok(0)
    }

    /// The lowest or highest priority of a policy.
    pub(super) fn sched_priority(policy: u64, real_time_one: u32) -> SysResult {
        match policy as u32 {
            FIFO | RR => Ok(real_time_one.into()),
            NORMAL | BATCH | IDLE | DEADLINE | EXTENSIBLE => Ok(0),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn sys_sched_rr_get_interval(&mut self, a: Args) -> SysResult {
        self.scheduled(a[0])?;
        let slice = match self.task.settings.scheduling.policy {
            FIFO => 0,
            RR => RR_SLICE,
            _ => NORMAL_SLICE,
        };
        self.write_words(a[1], &[0, slice])?;
        Ok(0)
    }

    pub(super) fn sys_sched_setattr(&mut self, a: Args) -> SysResult {
        let [pid, address, flags, ..] = a;
        if address == 0 || (pid as i32) < 0 || flags as u32 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let size = self.read_u32(address)?;
        let size = if size == 0 { ATTR_FIRST } else { size };
        if !(ATTR_FIRST..=4096).contains(&size) {
            self.write(address, &(ATTR_BYTES as u32).to_le_bytes())?;
            return Err(Errno::E2BIG.into());
        }
        let mut attr = vec![0u8; size as usize];
        self.read(address, &mut attr)?;
        if attr.iter().skip(ATTR_BYTES).any(|b| *b != 0) {
            return Err(Errno::E2BIG.into());
        }
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| attr[at + i]));
        let (mut policy, flags) = (word(4), u64::from(word(8)) | u64::from(word(12)) << 32);
        let (nice, mut priority) = (word(16) as i32, word(20));
        self.scheduled(pid)?;
        let old = self.task.settings.scheduling;
        if flags & FLAG_KEEP_POLICY != 0 {
            policy = old.policy;
        }
        let keep = flags & FLAG_KEEP_PARAMS != 0;
        if keep {
            priority = old.priority;
        }
        match policy {
            // No CPU time can be promised to a deadline.
            DEADLINE if self.task.credentials.can(cap::SYS_NICE) => return Err(Errno::EBUSY.into()),
            DEADLINE => return Err(Errno::EPERM.into()),
            _ => {}
        }
        let nice = nice.clamp(-20, 19);
        let sets_nice = !keep && matches!(policy, NORMAL | BATCH);
        if sets_nice {
            self.expect_may_nice(nice, Errno::EPERM)?;
        }
        self.set_policy(policy, priority, flags & FLAG_RESET != 0)?;
        if sets_nice {
            self.task.settings.scheduling.nice = nice;
        }
        Ok(0)
    }

    pub(super) fn sys_sched_getattr(&mut self, a: Args) -> SysResult {
        let [pid, address, size, flags, ..] = a;
        let size = size as u32;
        if address == 0 || (pid as i32) < 0 || !(ATTR_FIRST..=4096).contains(&size) || flags as u32 != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.scheduled(pid)?;
        let Scheduling { nice, policy, priority, reset_on_fork, .. } = self.task.settings.scheduling;
        let written = size.min(ATTR_BYTES as u32);
        let nice = if real_time(policy) { 0 } else { nice };
        let flags: u64 = if reset_on_fork { FLAG_RESET } else { 0 };
        let slice = if matches!(policy, NORMAL | BATCH) { NORMAL_SLICE } else { 0 };
        let mut attr = [written.to_le_bytes(), policy.to_le_bytes()].concat();
        attr.extend(flags.to_le_bytes());
        attr.extend([nice.to_le_bytes(), priority.to_le_bytes()].concat());
        attr.extend([slice.to_le_bytes(), [0; 8], [0; 8]].concat());
        // What the CPU's clamps are, of which there are none.
        attr.extend([0u32.to_le_bytes(), 1024u32.to_le_bytes()].concat());
        self.write(address, &attr[..written as usize])?;
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

    /// A mask without CPU 0 has no CPU in it.
    pub(super) fn sys_sched_setaffinity(&mut self, a: Args) -> SysResult {
        let mut mask = [0u8; 1];
        if a[1] as u32 > 0 {
            self.read(a[2], &mut mask)?;
        }
        self.own_process(a[0])?;
        if mask[0] & 1 == 0 {
            return Err(Errno::EINVAL.into());
        }
        Ok(0)
    }

    /// `ioprio_set`, with `IOPRIO_WHO_*`.
    pub(super) fn sys_ioprio_set(&mut self, a: Args) -> SysResult {
        const CLASS_SHIFT: u32 = 13;
        let value = a[2] as u32;
        let level = value & 7;
        match value >> CLASS_SHIFT & 7 {
            1 if !self.task.credentials.can(cap::SYS_NICE) && !self.task.credentials.can(cap::SYS_ADMIN) => {
                return Err(Errno::EPERM.into());
            }
            1..=3 => {}
            0 if level == 0 => {}
            _ => return Err(Errno::EINVAL.into()),
        }
        self.expect_own_io_priority(a[0], a[1])?;
        self.task.settings.scheduling.io = value;
        Ok(0)
    }

    pub(super) fn sys_ioprio_get(&mut self, a: Args) -> SysResult {
        self.expect_own_io_priority(a[0], a[1])?;
        Ok(self.task.settings.scheduling.io.into())
    }

    fn expect_own_io_priority(&self, which: u64, who: u64) -> Result<(), Errno> {
        match which as u32 {
            1..=3 => self.expect_own_priority(which - 1, who),
            _ => Err(Errno::EINVAL),
        }
    }
}
