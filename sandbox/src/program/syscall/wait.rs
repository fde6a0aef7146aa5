//! Waiting for children: `wait4` and `waitid` (`kernel/exit.c`).

use super::Args;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::exit::{CLD_EXITED, CLD_KILLED};
use crate::program::job::{CLD_CONTINUED, CLD_STOPPED, Job};
use crate::program::kernel::Kernel;
use crate::program::process::Process;
use crate::program::signal::number::{SIGCHLD, SIGCONT};
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

/// What a child has done.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// It has ended, with a status as `wait4` gives it.
    Ended(i32),
    /// A signal has stopped it.
    Stopped(u32),
    /// It goes on.
    Continued,
}

/// A child that there is something to tell of.
struct News {
    pid: u32,
    change: Change,
    /// Nanoseconds of CPU time, of its children too.
    cpu: u64,
    user: u32,
}

impl News {
    /// As `wait4` tells it.
    fn status(&self) -> i32 {
        match self.change {
            Change::Ended(status) => status,
            Change::Stopped(signal) => (signal as i32) << 8 | 0x7f,
            Change::Continued => 0xffff,
        }
    }

    /// `si_code` and `si_status`.
    fn code(&self) -> (i32, i32) {
        match self.change {
            Change::Ended(status) if status & 0x7f == 0 => (CLD_EXITED, status >> 8 & 0xff),
            Change::Ended(status) => (CLD_KILLED, status & 0x7f),
            Change::Stopped(signal) => (CLD_STOPPED, signal as i32),
            Change::Continued => (CLD_CONTINUED, SIGCONT as i32),
        }
    }
}

impl Kernel {
    /// The first child that has done something of what is asked for. That is told once, unless it is to be
    /// waited for again; one that has ended is forgotten.
    fn wait_for_child(&mut self, which: Which, options: u32) -> Result<Option<News>, SysError> {
        let parent = self.pid();
        let wanted = |(pid, process): &(u32, &Process)| {
            let chosen = match which {
                Which::Any => true,
                Which::Process(wanted) => *pid == wanted,
                Which::Group(group) => process.group == group,
            };
            let is_clone = process.exit_signal != SIGCHLD;
            let of_kind = options & ALL_KINDS != 0 || is_clone == (options & CLONES != 0);
            chosen && of_kind && process.parent == parent && *pid != parent
        };
        let mut found = None;
        let mut any = false;
        for (pid, process) in self.process.iter().filter(wanted) {
            let Job { stopped, news } = process.job;
            let change = match (process.ended.filter(|_| self.first_task_of(pid).is_none()), stopped) {
                (Some(status), _) if options & EXITED != 0 => Some(Change::Ended(status)),
                // It does nothing more that is asked for.
                (Some(_), _) => continue,
                (None, Some(signal)) if news && options & STOPPED != 0 => Some(Change::Stopped(signal)),
                (None, None) if news && options & CONTINUED != 0 => Some(Change::Continued),
                (None, _) => None,
            };
            any = true;
            if let Some(change) = change {
                found = Some((pid, change));
                break;
            }
        }
        let Some((pid, change)) = found else {
            if !any {
                return Err(Errno::ECHILD.into());
            }
            if options & NOHANG != 0 {
                return Ok(None);
            }
            return Err(SysError::Wait(Wait::on(Key::Child(parent))));
        };
        let child = self.process.of_mut(pid).ok_or(Errno::ECHILD)?;
        let cpu = child.cpu.saturating_add(child.children_cpu);
        let mut user = child.user;
        match change {
            Change::Ended(_) if options & NOWAIT == 0 => {
                self.forget_process(pid);
                self.process.children_cpu = self.process.children_cpu.saturating_add(cpu);
            }
            Change::Ended(_) => {}
            Change::Stopped(_) | Change::Continued => {
                child.job.news &= options & NOWAIT != 0;
                user = self.user_of(pid);
            }
        }
        Ok(Some(News { pid, change, cpu, user }))
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
        let Some(news) = self.wait_for_child(which, options | EXITED)? else { return Ok(0) };
        if status != 0 {
            self.write(status, &news.status().to_le_bytes())?;
        }
        if usage != 0 {
            self.write_usage(usage, news.cpu)?;
        }
        Ok(news.pid.into())
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
        let news = self.wait_for_child(which, if by_nonblock { options | NOHANG } else { options })?;
        if by_nonblock && news.is_none() {
            return Err(Errno::EAGAIN.into());
        }
        if info != 0 {
            let bytes = news.as_ref().map_or([0; INFO_BYTES], |news| {
                let (code, status) = news.code();
                let value = u64::from(news.pid) | u64::from(news.user) << 32;
                Info { signal: SIGCHLD, code, value, extra: status as u64, ..Info::default() }.to_bytes()
            });
            // `siginfo_t` up to the status.
            self.write(info, &bytes[..32])?;
        }
        if usage != 0
            && let Some(news) = &news
        {
            self.write_usage(usage, news.cpu)?;
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
