//! Clocks, sleeping and interval timers.

use super::Args;
use crate::errno::Errno;
use crate::program::process::{Process, SysError, SysResult};
use crate::program::signal::number::SIGALRM;
use crate::program::signal::{Info, SI_KERNEL};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// Clock ticks a second of `times`.
const TICKS: u64 = 100;

/// `TIMER_ABSTIME`.
const TIMER_ABSTIME: u64 = 1;

impl Process {
    /// Nanoseconds of a clock (`CLOCK_*`, `include/uapi/linux/time.h`).
    fn clock_now(&mut self, id: u64) -> Result<u64, SysError> {
        self.refresh_clock()?;
        match id as i32 {
            0 | 5 | 8 | 11 => Ok(self.clock.realtime()),
            1 | 4 | 6 | 7 | 9 => Ok(self.clock.monotonic()),
            // CPU time: the whole of it is the program's.
            2 | 3 => Ok(self.clock.monotonic()),
            id if id < 0 => Ok(self.clock.monotonic()),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn sys_clock_gettime(&mut self, a: Args) -> SysResult {
        let now = self.clock_now(a[0])?;
        self.write_words(a[1], &[now / SECOND, now % SECOND])?;
        Ok(0)
    }

    pub(super) fn sys_clock_getres(&mut self, a: Args) -> SysResult {
        if a[0] as i32 > 11 {
            return Err(Errno::EINVAL.into());
        }
        if a[1] != 0 {
            self.write_words(a[1], &[0, 1])?;
        }
        Ok(0)
    }

    pub(super) fn sys_gettimeofday(&mut self, a: Args) -> SysResult {
        self.refresh_clock()?;
        let now = self.clock.realtime();
        if a[0] != 0 {
            self.write_words(a[0], &[now / SECOND, now % SECOND / 1000])?;
        }
        if a[1] != 0 {
            self.write_words(a[1], &[0])?;
        }
        Ok(0)
    }

    pub(super) fn sys_time(&mut self, a: Args) -> SysResult {
        self.refresh_clock()?;
        let seconds = self.clock.realtime() / SECOND;
        if a[0] != 0 {
            self.write_words(a[0], &[seconds])?;
        }
        Ok(seconds)
    }

    /// Reads a `struct timespec` as nanoseconds.
    pub(super) fn read_timespec(&mut self, address: u64) -> Result<u64, SysError> {
        let [seconds, nanoseconds] = self.read_words::<2>(address)?;
        if seconds as i64 <= -1 || nanoseconds >= SECOND {
            return Err(Errno::EINVAL.into());
        }
        Ok(seconds.saturating_mul(SECOND).saturating_add(nanoseconds))
    }

    /// Lets time pass. A timer that goes off meanwhile ends the sleep; returns what is left then.
    pub(super) fn sleep(&mut self, ns: u64) -> Result<Option<u64>, SysError> {
        let mut left = ns;
        while left > 0 {
            self.stop.check()?;
            let until_alarm = self.task.alarm.map(|(at, _)| at.saturating_sub(self.clock.monotonic()));
            left -= self.pass(until_alarm.map_or(left, |alarm| alarm.min(left)))?;
            self.fire_alarm();
            if left > 0 && self.signals.any_deliverable() {
                return Ok(Some(left));
            }
        }
        Ok(None)
    }

    /// Sends `SIGALRM` when its time has come. Returns whether it has.
    pub fn fire_alarm(&mut self) -> bool {
        let Some((at, interval)) = self.task.alarm else { return false };
        if self.clock.monotonic() < at {
            return false;
        }
        self.task.alarm = (interval > 0).then(|| (self.clock.monotonic().saturating_add(interval), interval));
        self.signals.send(Info { signal: SIGALRM, code: SI_KERNEL, ..Default::default() });
        true
    }

    /// Waits for the alarm, when nothing else can end a wait. `false` when there is none.
    pub fn sleep_until_alarm(&mut self) -> Result<bool, SysError> {
        let Some((at, _)) = self.task.alarm else { return Ok(false) };
        loop {
            let wait = at.saturating_sub(self.clock.monotonic());
            self.pass(wait)?;
            if self.fire_alarm() || self.signals.any_deliverable() {
                return Ok(true);
            }
        }
    }

    pub(super) fn sys_nanosleep(&mut self, a: Args) -> SysResult {
        let ns = self.read_timespec(a[0])?;
        self.finish_sleep(ns, a[1])
    }

    fn finish_sleep(&mut self, ns: u64, remaining: u64) -> SysResult {
        match self.sleep(ns)? {
            None => Ok(0),
            Some(left) => {
                if remaining != 0 {
                    self.write_words(remaining, &[left / SECOND, left % SECOND])?;
                }
                Err(Errno::EINTR.into())
            }
        }
    }

    pub(super) fn sys_clock_nanosleep(&mut self, a: Args) -> SysResult {
        let [id, flags, request, remaining, ..] = a;
        let wanted = self.read_timespec(request)?;
        let now = self.clock_now(id)?;
        if flags & TIMER_ABSTIME != 0 {
            self.finish_sleep(wanted.saturating_sub(now), 0)
        } else {
            self.finish_sleep(wanted, remaining)
        }
    }

    pub(super) fn sys_times(&mut self, a: Args) -> SysResult {
        self.refresh_clock()?;
        let ticks = self.clock.monotonic() / (SECOND / TICKS);
        if a[0] != 0 {
            self.write_words(a[0], &[ticks, 0, 0, 0])?;
        }
        Ok(ticks)
    }

    pub(super) fn sys_getrusage(&mut self, a: Args) -> SysResult {
        self.refresh_clock()?;
        let own = matches!(a[0] as i32, 0 | 1);
        if !own && a[0] as i32 != -1 {
            return Err(Errno::EINVAL.into());
        }
        let mut words = [0u64; 18];
        if own {
            let now = self.clock.monotonic();
            words[0] = now / SECOND;
            words[1] = now % SECOND / 1000;
            // Maximum resident set, KiB: what is charged, since what is resident depends on the host.
            words[4] = self.memory.state.account.charged() / 1024;
        }
        self.write_words(a[1], &words)?;
        Ok(0)
    }

    pub(super) fn sys_alarm(&mut self, a: Args) -> SysResult {
        self.refresh_clock()?;
        let left =
            self.task.alarm.map_or(0, |(at, _)| at.saturating_sub(self.clock.monotonic()).div_ceil(SECOND));
        let seconds = u64::from(a[0] as u32);
        self.task.alarm = (seconds > 0).then(|| (self.clock.monotonic().saturating_add(seconds * SECOND), 0));
        Ok(left)
    }

    fn timer_words(&self) -> [u64; 4] {
        let (left, interval) = self
            .task
            .alarm
            .map_or((0, 0), |(at, interval)| (at.saturating_sub(self.clock.monotonic()).max(1000), interval));
        [interval / SECOND, interval % SECOND / 1000, left / SECOND, left % SECOND / 1000]
    }

    /// Only the real-time timer: there is no CPU time to measure that would be the same in every
    /// run.
    pub(super) fn sys_setitimer(&mut self, a: Args) -> SysResult {
        let [which, new, old, ..] = a;
        if which != 0 {
            return Err(if which <= 2 { Errno::ENOSYS } else { Errno::EINVAL }.into());
        }
        self.refresh_clock()?;
        let before = self.timer_words();
        if new != 0 {
            let [interval_s, interval_us, value_s, value_us] = self.read_words::<4>(new)?;
            if interval_us >= 1_000_000 || value_us >= 1_000_000 {
                return Err(Errno::EINVAL.into());
            }
            let ns = |s: u64, us: u64| s.saturating_mul(SECOND).saturating_add(us * 1000);
            let value = ns(value_s, value_us);
            self.task.alarm = (value > 0)
                .then(|| (self.clock.monotonic().saturating_add(value), ns(interval_s, interval_us)));
        }
        if old != 0 {
            self.write_words(old, &before)?;
        }
        Ok(0)
    }

    pub(super) fn sys_getitimer(&mut self, a: Args) -> SysResult {
        if a[0] > 2 {
            return Err(Errno::EINVAL.into());
        }
        let words = if a[0] == 0 { self.timer_words() } else { [0; 4] };
        self.write_words(a[1], &words)?;
        Ok(0)
    }
}
