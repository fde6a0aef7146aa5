//! `eventfd`, `signalfd`, `timerfd` and `epoll`.

use super::Args;
use super::signal::SET_BYTES;
use super::timer::itimerspec;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::fs::{Anon, Event, OpenFlags, Timer};
use crate::program::kernel::Kernel;
use crate::program::signal::UNBLOCKABLE;
use crate::program::wait::Wait;

/// Bytes of `struct epoll_event`, which is packed.
const EVENT: usize = 12;
/// Events that a call gives at most.
const MOST: u64 = 65_536;

/// `CLOCK_*` that a timer may count.
const CLOCK_REALTIME: u64 = 0;
const CLOCK_MONOTONIC: u64 = 1;
const CLOCK_BOOTTIME: u64 = 7;

/// `TFD_TIMER_ABSTIME`, and `TFD_TIMER_CANCEL_ON_SET`: nobody sets the clock.
const ABSOLUTE: u64 = 1;
const CANCEL_ON_SET: u64 = 2;

impl Kernel {
    fn install(&mut self, anon: Anon, flags: u64) -> SysResult {
        let known = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
        if flags & !u64::from(known.0) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let flags = OpenFlags::RDWR | OpenFlags(flags as u32);
        Ok(self.with_files(|fs, files, env, _| files.install_anon(fs, env, anon, flags))? as u64)
    }

    pub(super) fn sys_eventfd2(&mut self, a: Args) -> SysResult {
        const SEMAPHORE: u64 = 1;
        let event = Event { count: u64::from(a[0] as u32), semaphore: a[1] & SEMAPHORE != 0 };
        self.install(Anon::Event(event), u64::from(a[1] as u32) & !SEMAPHORE)
    }

    /// A descriptor that is one already gets another set.
    pub(super) fn sys_signalfd4(&mut self, a: Args) -> SysResult {
        let [fd, set, size, flags, ..] = a;
        if size != SET_BYTES {
            return Err(Errno::EINVAL.into());
        }
        let mask = self.read_u64(set)? & !UNBLOCKABLE;
        if flags as u32 & !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).0 != 0 {
            return Err(Errno::EINVAL.into());
        }
        if fd as i32 == -1 {
            return self.install(Anon::Signals { mask }, u64::from(flags as u32));
        }
        self.with_files(|fs, files, _, _| {
            let inode = files.get_open(fd as i32)?.inode();
            let Some(Anon::Signals { mask: set }) = fs.anon_mut(inode) else {
                return Err(Errno::EINVAL.into());
            };
            *set = mask;
            fs.wake(inode);
            Ok::<_, SysError>(u64::from(fd as u32))
        })
    }

    pub(super) fn sys_timerfd_create(&mut self, a: Args) -> SysResult {
        match a[0] {
            CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME => {
                let timer = Timer { real: a[0] == CLOCK_REALTIME, ..Timer::default() };
                self.install(Anon::Timer(timer), u64::from(a[1] as u32))
            }
            // Those that wake a machine.
            8 | 9 => Err(Errno::EPERM.into()),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn sys_timerfd_settime(&mut self, a: Args) -> SysResult {
        let [fd, flags, new, old, ..] = a;
        let [interval, value] = self.read_itimerspec(new)?;
        if flags & !(ABSOLUTE | CANCEL_ON_SET) != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.refresh_clock()?;
        let (now, real_now) = (self.clock.monotonic(), self.clock.realtime());
        let before = self.with_files(|fs, files, _, _| {
            let inode = files.get_open(fd as i32)?.inode();
            let real = matches!(fs.anon(inode), Some(Anon::Timer(Timer { real: true, .. })));
            let at = match flags & ABSOLUTE {
                0 => now.saturating_add(value),
                _ if real => now.saturating_add(value.saturating_sub(real_now)),
                _ => value,
            };
            fs.set_timer(inode, (value > 0).then_some(at), interval)
        })?;
        self.outside.fs().expire_timers(now);
        if old != 0 {
            self.write_timer(old, before)?;
        }
        Ok(0)
    }

    pub(super) fn sys_timerfd_gettime(&mut self, a: Args) -> SysResult {
        let timer = self.with_files(|fs, files, _, _| {
            let inode = files.get_open(a[0] as i32)?.inode();
            match fs.anon(inode) {
                Some(Anon::Timer(timer)) => Ok::<_, SysError>(*timer),
                _ => Err(Errno::EINVAL.into()),
            }
        })?;
        self.refresh_clock()?;
        self.write_timer(a[1], timer)?;
        Ok(0)
    }

    fn write_timer(&mut self, address: u64, timer: Timer) -> Result<(), SysError> {
        let left = timer.at.map_or(0, |at| at.saturating_sub(self.clock.monotonic()).max(1));
        self.write_words(address, &itimerspec(timer.interval, left))
    }

    pub(super) fn sys_epoll_create1(&mut self, a: Args) -> SysResult {
        if a[0] & !u64::from(OpenFlags::CLOEXEC.0) != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.install(Anon::Epoll, a[0])
    }

    pub(super) fn sys_epoll_create(&mut self, a: Args) -> SysResult {
        if a[0] as i32 <= 0 {
            return Err(Errno::EINVAL.into());
        }
        self.install(Anon::Epoll, 0)
    }

    pub(super) fn sys_epoll_ctl(&mut self, a: Args) -> SysResult {
        const DELETE: u32 = 2;
        let [set, operation, fd, event, ..] = a;
        let mut bytes = [0u8; EVENT];
        if operation as u32 != DELETE {
            self.read(event, &mut bytes)?;
        }
        let events = u32::from_le_bytes(std::array::from_fn(|i| bytes[i]));
        let data = u64::from_le_bytes(std::array::from_fn(|i| bytes[4 + i]));
        self.with_files(|fs, files, env, _| {
            let which = (set as i32, operation as u32, fd as i32);
            files.epoll_control(fs, env, which, (events, data))
        })?;
        Ok(0)
    }

    /// `epoll_wait`, with a time limit in nanoseconds.
    fn epoll(&mut self, set: u64, address: u64, most: u64, timeout: Option<u64>) -> SysResult {
        if most as i32 <= 0 || most > MOST {
            return Err(Errno::EINVAL.into());
        }
        // What has happened besides system calls, too.
        self.wake_for_files();
        let ready =
            self.with_files(|fs, files, env, _| files.epoll_ready(fs, env, set as i32, most as usize))?;
        if !ready.is_empty() {
            let mut bytes = Vec::with_capacity(ready.len() * EVENT);
            for (events, data) in &ready {
                bytes.extend(events.to_le_bytes());
                bytes.extend(data.to_le_bytes());
            }
            self.write(address, &bytes)?;
            return Ok(ready.len() as u64);
        }
        self.wait_at_most(timeout, |kernel| {
            let mut on = kernel.with_files(|fs, files, _, _| files.keys_of(fs, set as i32, 0))?;
            on.sort_unstable();
            on.dedup();
            Ok(Wait { on, ..Wait::default() })
        })?;
        Ok(0)
    }

    pub(super) fn sys_epoll_wait(&mut self, a: Args) -> SysResult {
        let timeout = u64::try_from(a[3] as i32).ok().map(|ms| ms * 1_000_000);
        self.epoll(a[0], a[1], a[2], timeout)
    }

    pub(super) fn sys_epoll_pwait(&mut self, a: Args) -> SysResult {
        let mask = self.read_mask(a[4], a[5])?;
        self.with_mask(mask, |kernel| kernel.sys_epoll_wait(a))
    }

    pub(super) fn sys_epoll_pwait2(&mut self, a: Args) -> SysResult {
        let timeout = if a[3] == 0 { None } else { Some(self.read_timespec(a[3])?) };
        let mask = if a[4] == 0 { None } else { self.read_mask(a[4], SET_BYTES)? };
        self.with_mask(mask, |kernel| kernel.epoll(a[0], a[1], a[2], timeout))
    }
}
