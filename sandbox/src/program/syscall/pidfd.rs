//! Processes by descriptors: `pidfd_open` and its kin (`kernel/pid.c`, `kernel/signal.c`).

use super::Args;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::fs::{Anon, OpenFlags, Stage};
use crate::program::kernel::Kernel;
use crate::program::process::FIRST_PID;
use crate::program::signal::{SI_TKILL, SI_USER};

/// `PIDFD_SIGNAL_*`: to the thread, the process, or its group.
const TO_PROCESS: u64 = 2;
const TO_GROUP: u64 = 4;

impl Kernel {
    /// Makes a descriptor of a process.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub(in crate::program) fn make_pidfd(&mut self, pid: u32, nonblock: bool) -> SysResult {
        let stage = match self.process.of(pid) {
            Some(process) if process.ended.is_none() || self.first_task_of(pid).is_some() => Stage::Alive,
            Some(_) => Stage::Ended,
            None if pid == FIRST_PID => Stage::Alive,
            None => Stage::Gone,
        };
        let mut flags = OpenFlags::RDWR | OpenFlags::CLOEXEC;
        if nonblock {
            flags = flags | OpenFlags::NONBLOCK;
        }
        let anon = Anon::Process { pid, stage };
        Ok(self.with_files(|fs, files, env, _| files.install_anon(fs, env, anon, flags))? as u64)
    }

    /// The process that a descriptor is of, and whether it is not to be waited for.
    ///
    /// # Errors
    /// `EBADF` also when it is of none.
    pub(super) fn process_by(&mut self, fd: u64) -> Result<(u32, bool), SysError> {
        self.with_files(|fs, files, _, _| {
            let description = files.get_open(fd as i32)?;
            match fs.anon(description.inode()) {
                Some(Anon::Process { pid, .. }) => Ok((*pid, description.flags().has(OpenFlags::NONBLOCK))),
                _ => Err(Errno::EBADF.into()),
            }
        })
    }

    pub(super) fn sys_pidfd_open(&mut self, a: Args) -> SysResult {
        let (pid, flags) = (a[0] as i32, a[1] as u32);
        let nonblock = OpenFlags::NONBLOCK.0;
        if flags & !nonblock != 0 || pid <= 0 {
            return Err(Errno::EINVAL.into());
        }
        let pid = pid as u32;
        if pid != FIRST_PID && !self.process.has(pid) {
            // A thread that is no process's first.
            return Err(if self.task.has(pid) { Errno::ENOENT } else { Errno::ESRCH }.into());
        }
        self.make_pidfd(pid, flags & nonblock != 0)
    }

    /// A descriptor of another process, which the caller could trace (`__ptrace_may_access`).
    pub(super) fn sys_pidfd_getfd(&mut self, a: Args) -> SysResult {
        if a[2] as u32 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let (pid, _) = self.process_by(a[0])?;
        let Some(target) = self.first_task_of(pid) else {
            return Err(if pid == FIRST_PID { Errno::EPERM } else { Errno::ESRCH }.into());
        };
        if !self.may_look_into(target) {
            return Err(Errno::EPERM.into());
        }
        let table = target.files;
        Ok(self.files.dup_from(table, a[1] as i32)? as u64)
    }

    pub(super) fn sys_pidfd_send_signal(&mut self, a: Args) -> SysResult {
        let [fd, signal, address, flags, ..] = a;
        let flags = u64::from(flags as u32);
        if !matches!(flags, 0 | TO_PROCESS | TO_GROUP) {
            return Err(Errno::EINVAL.into());
        }
        // A process's directory in `/proc` will do (`tgid_pidfd_to_pid`).
        let directory = self.with_files(|fs, files, _, _| {
            files.get_open(fd as i32).ok().and_then(|description| fs.process_directory(description.inode()))
        });
        let pid = match directory {
            Some(pid) => pid,
            None => self.process_by(fd)?.0,
        };
        let info = match address {
            0 => self.own_info(signal, SI_USER),
            address => {
                let info = self.queued_info(signal, address)?;
                let mut number = [0u8; 4];
                self.read(address, &mut number)?;
                if u32::from_le_bytes(number) != signal as u32 {
                    return Err(Errno::EINVAL.into());
                }
                let to_others = pid != self.pid() || flags == TO_GROUP;
                if to_others && (info.code >= 0 || info.code == SI_TKILL) {
                    return Err(Errno::EPERM.into());
                }
                info
            }
        };
        let to = pid as i32;
        if pid == FIRST_PID {
            return self.send_to_first(signal);
        }
        self.signal_processes(if flags == TO_GROUP { -to } else { to }, info)
    }
}
