//! Waiting for children: `wait4` and `waitid` (`kernel/exit.c`).

use super::Args;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::process::Process;
use crate::program::signal::number::SIGCHLD;
use crate::program::signal::{INFO_BYTES, Info};
use crate::program::wait::{Key, Wait};

/// `W*` and `__W*` (`include/uapi/linux/wait.h`).
const NOHANG: u32 = 1;
const STOPPED: u32 = 2;
const EXITED: u32 = 4;
const CONTINUED: u32 = 8;
const NOWAIT: u32 = 0x100_0000;
/// Children of this thread only, of any kind, and those that tell nothing of their end.
const NOTHREAD: u32 = 0x2000_0000;
const ALL_KINDS: u32 = 0x4000_0000;
const CLONES: u32 = 0x8000_0000;
const KINDS: u32 = NOTHREAD | ALL_KINDS | CLONES;

/// `P_*`
const ALL: u32 = 0;
const PID: u32 = 1;
const GROUP: u32 = 2;
const DESCRIPTOR: u32 = 3;

/// Which children.
#[derive(Clone, Copy, Debug)]
enum Which {
    Any,
    Process(u32),
    Group(u32),
}

/// A child that has ended.
struct Ended {
    pid: u32,
    status: i32,
    /// Nanoseconds of CPU time, of its children too.
    cpu: u64,
    user: u32,
}

impl Kernel {
    /// The first child that has ended, which is forgotten unless it is to be waited for again.
    fn wait_for_child(&mut self, which: Which, options: u32) -> Result<Option<Ended>, SysError> {
        let parent = self.pid();
        let wanted = |(pid, process): (u32, &Process)| {
            let chosen = match which {
                Which::Any => true,
                Which::Process(wanted) => pid == wanted,
                Which::Group(group) => process.group == group,
            };
            let is_clone = process.exit_signal != SIGCHLD;
            let of_kind = options & ALL_KINDS != 0 || is_clone == (options & CLONES != 0);
            chosen && of_kind && process.parent == parent && pid != parent
        };
        let children: Vec<(u32, Option<i32>)> = self
            .process
            .iter()
            .filter(|child| wanted(*child))
            .map(|(pid, process)| (pid, process.ended.filter(|_| !self.has_tasks(pid))))
            .collect();
        if children.is_empty() {
            return Err(Errno::ECHILD.into());
        }
        let ended = children.iter().find_map(|(pid, ended)| ended.map(|status| (*pid, status)));
        let Some((pid, status)) = ended else {
            if options & NOHANG != 0 {
                return Ok(None);
            }
            return Err(SysError::Wait(Wait::on(Key::Child(parent))));
        };
        let cpu = self.process.of(pid).map_or(0, |child| child.cpu.saturating_add(child.children_cpu));
        if options & NOWAIT == 0 && self.forget_process(pid).is_some() {
            self.process.children_cpu = self.process.children_cpu.saturating_add(cpu);
        }
        Ok(Some(Ended { pid, status, cpu, user: self.task.credentials.user.real }))
    }

    pub(super) fn has_tasks(&self, pid: u32) -> bool {
        self.task.iter().any(|(_, task)| task.process == pid)
    }

    pub(super) fn sys_wait4(&mut self, a: Args) -> SysResult {
        let [pid, status, options, usage, ..] = a;
        let options = options as u32;
        if options & !(NOHANG | STOPPED | CONTINUED | KINDS) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let which = match pid as i32 {
            i32::MIN => return Err(Errno::ESRCH.into()),
            -1 => Which::Any,
            0 => Which::Group(self.process.group),
            pid if pid < 0 => Which::Group(pid.unsigned_abs()),
            pid => Which::Process(pid as u32),
        };
        let Some(ended) = self.wait_for_child(which, options)? else { return Ok(0) };
        if status != 0 {
            self.write(status, &ended.status.to_le_bytes())?;
        }
        if usage != 0 {
            self.write_usage(usage, ended.cpu)?;
        }
        Ok(ended.pid.into())
    }

    pub(super) fn sys_waitid(&mut self, a: Args) -> SysResult {
        let [which, id, info, options, usage, _] = a;
        let (which, id, options) = (which as u32, id as i32, options as u32);
        let wanted = EXITED | STOPPED | CONTINUED;
        if options & !(NOHANG | NOWAIT | wanted | KINDS) != 0 || options & wanted == 0 {
            return Err(Errno::EINVAL.into());
        }
        let mut by_nonblock = false;
        let which = match which {
            ALL => Which::Any,
            PID if id > 0 => Which::Process(id as u32),
            GROUP if id == 0 => Which::Group(self.process.group),
            GROUP if id > 0 => Which::Group(id as u32),
            DESCRIPTOR if id >= 0 => {
                let (pid, nonblock) = self.process_by(id as u64)?;
                by_nonblock = nonblock && options & NOHANG == 0;
                Which::Process(pid)
            }
            _ => return Err(Errno::EINVAL.into()),
        };
        if options & EXITED == 0 {
            // Nobody is ever stopped.
            return if options & NOHANG != 0 { Ok(0) } else { Self::wait_for_ever() };
        }
        let ended = self.wait_for_child(which, if by_nonblock { options | NOHANG } else { options })?;
        if by_nonblock && ended.is_none() {
            return Err(Errno::EAGAIN.into());
        }
        if info != 0 {
            let bytes = ended.as_ref().map_or([0; INFO_BYTES], |ended| {
                let (code, extra) = match ended.status & 0x7f {
                    0 => (1, ended.status >> 8 & 0xff),
                    signal => (2, signal),
                };
                let value = u64::from(ended.pid) | u64::from(ended.user) << 32;
                Info { signal: SIGCHLD, code, value, extra: extra as u64, ..Info::default() }.to_bytes()
            });
            // `siginfo_t` up to the status.
            self.write(info, &bytes[..32])?;
        }
        if usage != 0
            && let Some(ended) = &ended
        {
            self.write_usage(usage, ended.cpu)?;
        }
        Ok(0)
    }

    /// Writes a `struct rusage` of so many nanoseconds of CPU time.
    pub(super) fn write_usage(&mut self, address: u64, cpu: u64) -> Result<(), SysError> {
        let mut words = [0u64; 18];
        (words[0], words[1]) = (cpu / 1_000_000_000, cpu % 1_000_000_000 / 1000);
        self.write_words(address, &words)
    }
}
