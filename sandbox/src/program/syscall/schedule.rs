//! Priorities, scheduling policies, CPU masks. There is one CPU, and who runs on it is the seed's to decide:
//! what is set is kept, and changes nothing.

use super::Args;
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::limits;
use crate::program::process::FIRST_PID;
use crate::program::settings::Scheduling;
use crate::program::task::Task;

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
    /// The tasks that `who` of `PRIO_PROCESS`, `PRIO_PGRP` or `PRIO_USER` are.
    fn whose_priority(&self, which: u64, who: u64) -> Result<Vec<u32>, Errno> {
        let who = who as u32;
        let group_of = |task: &Task| self.process.of(task.process).map_or(0, |process| process.group);
        let user_of = |task: &Task| task.credentials.user.real;
        let (own, user) = (self.process.group, self.task.credentials.user.real);
        let or_own = |own: u32| if who == 0 { own } else { who };
        let all = self.task.iter();
        let tids: Vec<u32> = match which as u32 {
            0 => Some(or_own(self.tid())).filter(|tid| self.task.has(*tid)).into_iter().collect(),
            1 => all.filter(|(_, task)| group_of(task) == or_own(own)).map(|(tid, _)| tid).collect(),
            2 => all.filter(|(_, task)| user_of(task) == or_own(user)).map(|(tid, _)| tid).collect(),
            _ => return Err(Errno::EINVAL),
        };
        if tids.is_empty() { Err(Errno::ESRCH) } else { Ok(tids) }
    }

    pub(super) fn sys_getpriority(&mut self, a: Args) -> SysResult {
        let tids = self.whose_priority(a[0], a[1])?;
        let nice = tids.iter().filter_map(|tid| Some(self.task.of(*tid)?.settings.scheduling.nice)).min();
        Ok((20 - nice.unwrap_or(0)) as u64)
    }

    /// The last refusal is what is told; who may be set is set.
    pub(super) fn sys_setpriority(&mut self, a: Args) -> SysResult {
        let nice = (a[2] as i32).clamp(-20, 19);
        let mut result = Ok(0);
        for tid in self.whose_priority(a[0], a[1])? {
            match self.expect_may_schedule(tid).and_then(|()| self.expect_may_nice(tid, nice, Errno::EACCES))
            {
                Ok(()) => self.change(tid, |scheduling| scheduling.nice = nice),
                Err(e) => result = Err(e.into()),
            }
        }
        result
    }

    fn expect_may_nice(&self, tid: u32, nice: i32, error: Errno) -> Result<(), Errno> {
        let allowed = (20 - nice) as u64 <= self.process.limits[limits::NICE].0;
        let nicer = self.task.of(tid).is_none_or(|task| nice >= task.settings.scheduling.nice);
        if nicer || allowed || self.task.credentials.can(cap::SYS_NICE) { Ok(()) } else { Err(error) }
    }

    /// Refuses to change what another's task has set (`check_same_owner`).
    fn expect_may_schedule(&self, tid: u32) -> Result<(), Errno> {
        let Some(target) = self.task.of(tid) else { return Err(Errno::ESRCH) };
        let own = self.task.credentials.user.effective;
        let whose = target.credentials.user;
        let alike = own == whose.effective || own == whose.real;
        if alike || self.task.credentials.can(cap::SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn change(&mut self, tid: u32, change: impl FnOnce(&mut Scheduling)) {
        if let Some(task) = self.task.of_mut(tid) {
            change(&mut task.settings.scheduling);
        }
    }

    /// The task that a scheduling call is about.
    fn scheduled(&self, tid: u64) -> Result<u32, Errno> {
        match tid as i32 {
            ..0 => Err(Errno::EINVAL),
            0 => Ok(self.tid()),
            tid if self.task.has(tid as u32) => Ok(tid as u32),
            _ => Err(Errno::ESRCH),
        }
    }

    /// What it has set; the first process has set nothing.
    fn scheduling_of(&self, tid: u64) -> Result<Scheduling, Errno> {
        if tid as u32 == FIRST_PID {
            return Ok(Scheduling::default());
        }
        let tid = self.scheduled(tid)?;
        self.task.of(tid).map(|task| task.settings.scheduling).ok_or(Errno::ESRCH)
    }

    fn set_policy(&mut self, tid: u32, policy: u32, priority: u32, reset: bool) -> Result<(), SysError> {
        if !matches!(policy, NORMAL | FIFO | RR | BATCH | IDLE)
            || priority > MAX_PRIORITY
            || real_time(policy) != (priority > 0)
        {
            return Err(Errno::EINVAL.into());
        }
        self.expect_may_schedule(tid)?;
        let old = self.scheduling_of(tid.into())?;
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
        self.change(tid, |set| *set = Scheduling { policy, priority, reset_on_fork: reset, ..old });
        Ok(())
    }

    pub(super) fn sys_sched_setscheduler(&mut self, a: Args) -> SysResult {
        let [pid, policy, parameter, ..] = a;
        if (policy as i32) < 0 || (pid as i32) < 0 || parameter == 0 {
            return Err(Errno::EINVAL.into());
        }
        let priority = self.read_u32(parameter)?;
        let tid = self.scheduled(pid)?;
        let policy = policy as u32;
        self.set_policy(tid, policy & !RESET_ON_FORK, priority, policy & RESET_ON_FORK != 0)?;
        Ok(0)
    }

    pub(super) fn sys_sched_setparam(&mut self, a: Args) -> SysResult {
        if (a[0] as i32) < 0 || a[1] == 0 {
            return Err(Errno::EINVAL.into());
        }
        let priority = self.read_u32(a[1])?;
        let tid = self.scheduled(a[0])?;
        let Scheduling { policy, reset_on_fork, .. } = self.scheduling_of(a[0])?;
        self.set_policy(tid, policy, priority, reset_on_fork)?;
        Ok(0)
    }

    pub(super) fn sys_sched_getscheduler(&mut self, a: Args) -> SysResult {
        if (a[0] as i32) < 0 {
            return Err(Errno::EINVAL.into());
        }
        let Scheduling { policy, reset_on_fork, .. } = self.scheduling_of(a[0])?;
        Ok((policy | if reset_on_fork { RESET_ON_FORK } else { 0 }).into())
    }

    pub(super) fn sys_sched_getparam(&mut self, a: Args) -> SysResult {
        if a[1] == 0 || (a[0] as i32) < 0 {
            return Err(Errno::EINVAL.into());
        }
        let priority = self.scheduling_of(a[0])?.priority;
        self.write(a[1], &priority.to_le_bytes())?;
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
        let slice = match self.scheduling_of(a[0])?.policy {
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
        let tid = self.scheduled(pid)?;
        let old = self.scheduling_of(pid)?;
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
            self.expect_may_nice(tid, nice, Errno::EPERM)?;
        }
        self.set_policy(tid, policy, priority, flags & FLAG_RESET != 0)?;
        if sets_nice {
            self.change(tid, |scheduling| scheduling.nice = nice);
        }
        Ok(0)
    }

    pub(super) fn sys_sched_getattr(&mut self, a: Args) -> SysResult {
        let [pid, address, size, flags, ..] = a;
        let size = size as u32;
        if address == 0 || (pid as i32) < 0 || !(ATTR_FIRST..=4096).contains(&size) || flags as u32 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let Scheduling { nice, policy, priority, reset_on_fork, .. } = self.scheduling_of(pid)?;
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

    /// Calls about CPUs find nobody of a negative number, where others refuse to look.
    fn expect_somebody(&self, tid: u64) -> Result<(), Errno> {
        if (tid as i32) < 0 { Err(Errno::ESRCH) } else { Ok(()) }
    }

    pub(super) fn sys_sched_getaffinity(&mut self, a: Args) -> SysResult {
        self.expect_somebody(a[0])?;
        self.scheduling_of(a[0])?;
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
        self.expect_somebody(a[0])?;
        let tid = self.scheduled(a[0])?;
        self.expect_may_schedule(tid)?;
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
        let mut result = Ok(0);
        for tid in self.whose_io_priority(a[0], a[1])? {
            match self.expect_may_schedule(tid) {
                Ok(()) => self.change(tid, |scheduling| scheduling.io = value),
                Err(e) => result = Err(e.into()),
            }
        }
        result
    }

    /// The best one, of several.
    pub(super) fn sys_ioprio_get(&mut self, a: Args) -> SysResult {
        let tids = self.whose_io_priority(a[0], a[1])?;
        let set = tids.iter().filter_map(|tid| Some(self.task.of(*tid)?.settings.scheduling.io));
        Ok(set.min().unwrap_or(0).into())
    }

    fn whose_io_priority(&self, which: u64, who: u64) -> Result<Vec<u32>, Errno> {
        match which as u32 {
            1..=3 => self.whose_priority(which - 1, who),
            _ => Err(Errno::EINVAL),
        }
    }
}
