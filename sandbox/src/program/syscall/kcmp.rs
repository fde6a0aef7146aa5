//! Whether two tasks have something in common: `kcmp` (`kernel/kcmp.c`).

use std::cmp::Ordering;

use super::Args;
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::process::FIRST_PID;
use crate::program::task::Task;

/// `enum kcmp_type` (`include/uapi/linux/kcmp.h`).
const FILE: u32 = 0;
const VM: u32 = 1;
const FILES: u32 = 2;
const FS: u32 = 3;
const SIGHAND: u32 = 4;
const IO: u32 = 5;
const SYSVSEM: u32 = 6;
const EPOLL_TFD: u32 = 7;

/// An order of things that have numbers, as the kernel has one of their addresses.
fn order<T: Ord>(one: &T, other: &T) -> u64 {
    match one.cmp(other) {
        Ordering::Equal => 0,
        Ordering::Less => 1,
        Ordering::Greater => 2,
    }
}

impl Kernel {
    /// Whether the running task may look into another's process (`__ptrace_may_access`, for reading, by its
    /// real ids).
    pub(super) fn may_look_into(&self, task: &Task) -> bool {
        let dumpable = self.process.of(task.process).is_some_and(|process| process.settings.dumpable);
        let alike = dumpable && self.is_alike(&task.credentials);
        task.process == self.pid() || alike || self.task.credentials.can(cap::SYS_PTRACE)
    }

    fn compared(&self, tid: u64) -> Result<&Task, SysError> {
        self.task.of(tid as u32).ok_or(Errno::ESRCH.into())
    }

    pub(super) fn sys_kcmp(&mut self, a: Args) -> SysResult {
        let [tid, other, kind, first, second, _] = a;
        if [tid, other].contains(&FIRST_PID.into()) {
            return Err(Errno::EPERM.into());
        }
        if [self.compared(tid)?, self.compared(other)?].iter().any(|task| !self.may_look_into(task)) {
            return Err(Errno::EPERM.into());
        }
        if kind as u32 == EPOLL_TFD {
            return self.compare_watched(
                self.compared(tid)?.files,
                self.compared(other)?.files,
                first,
                second,
            );
        }
        let (one, other) = (self.compared(tid)?, self.compared(other)?);
        Ok(match kind as u32 {
            FILE => {
                let of = |task: &Task, fd: u64| self.files.description_in(task.files, fd as i32);
                order(&of(one, first)?, &of(other, second)?)
            }
            VM => order(&one.space, &other.space),
            FILES => order(&one.files, &other.files),
            FS => order(&one.context, &other.context),
            SIGHAND => order(&one.actions, &other.actions),
            // Tasks have no context of what they read and write.
            IO => 0,
            SYSVSEM => {
                let has = |task: &Task| self.ipc.sem.undoes(task.process).then_some(task.process);
                order(&has(one), &has(other))
            }
            _ => return Err(Errno::EINVAL.into()),
        })
    }

    /// Compares a descriptor with what a set of another task watches.
    fn compare_watched(&mut self, table: u32, other: u32, fd: u64, slot: u64) -> SysResult {
        /// Bytes of `struct kcmp_epoll_slot`: two descriptors, and which of those of the second's number.
        const SLOT: usize = 12;
        let mut bytes = [0u8; SLOT];
        self.read(slot, &mut bytes)?;
        let [set, watched, nth] = std::array::from_fn(|i| {
            u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
        });
        let file = self.files.description_in(table, fd as i32)?;
        let watched = self
            .with_files(|fs, files, _, _| files.watched_in(fs, other, set as i32, (watched as i32, nth)))?;
        Ok(order(&file, &watched))
    }
}
