//! Clocks and sleeping.

use super::Args;
use super::signal::SET_BYTES;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::signal::UNBLOCKABLE;
use crate::program::vdso::COARSE_RESOLUTION_NS;
use crate::program::wait::{Key, Wait};

/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000_000_000;
/// Microseconds in a second.
pub(super) const MICROSECONDS: u64 = 1_000_000;
/// Clock ticks a second of `times`.
const TICKS: u64 = 100;

/// `TIMER_ABSTIME`.
pub(super) const TIMER_ABSTIME: u64 = 1;
/// `CLOCK_REALTIME`.
const CLOCK_REALTIME: i32 = 0;
/// `CLOCK_*_COARSE`.
const CLOCK_REALTIME_COARSE: i32 = 5;
const CLOCK_MONOTONIC_COARSE: i32 = 6;

/// Who `getrusage` is about (`include/uapi/linux/resource.h`).
const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;

/// A clock, by what can be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockId {
    /// Counts from 1970, and can be slept on.
    Realtime,
    /// Counts from the machine's start, and can be slept on.
    Monotonic,
    /// As monotonic time; it cannot be slept on.
    Coarse,
    /// As real time; it cannot be slept on.
    CoarseRealtime,
    /// CPU time.
    Cpu {
        /// Of the calling thread, not of its process.
        of_thread: bool,
        /// A negative number, with a process id in it.
        by_pid: bool,
        /// Whose; 0 for the caller.
        of: u32,
    },
    /// Needs a real-time clock device, which there is not.
    Alarm,
    /// A device's, by a descriptor.
    Dynamic,
}

impl ClockId {
    /// By its number (`include/uapi/linux/time.h`; negative ones: `include/linux/posix-timers_types.h`).
    fn of(id: u64, exists: impl Fn(u32) -> bool) -> Option<ClockId> {
        /// In a negative number: which CPU clock, that it is a thread's, and the process above.
        const CPU_CLOCKS: i32 = 3;
        const OF_THREAD: i32 = 4;
        const PID_SHIFT: u32 = 3;
        const DYNAMIC: i32 = 3;
        Some(match id as i32 {
            CLOCK_REALTIME | 11 => ClockId::Realtime,
            1 | 7 => ClockId::Monotonic,
            2 | 3 => ClockId::Cpu { of_thread: id as i32 == 3, by_pid: false, of: 0 },
            4 | 6 => ClockId::Coarse,
            5 => ClockId::CoarseRealtime,
            8 | 9 => ClockId::Alarm,
            id if id > 0 => return None,
            id if id & (CPU_CLOCKS | OF_THREAD) == DYNAMIC => ClockId::Dynamic,
            id => {
                let pid = !(id >> PID_SHIFT);
                let known = id & CPU_CLOCKS != CPU_CLOCKS && (pid == 0 || exists(pid as u32));
                return known.then_some(ClockId::Cpu {
                    of_thread: id & OF_THREAD != 0,
                    by_pid: true,
                    of: pid as u32,
                });
            }
        })
    }
}

impl Kernel {
    /// A clock by its number.
    pub(super) fn clock_of(&self, id: u64) -> Result<ClockId, Errno> {
        ClockId::of(id, |id| self.process.has(id) || self.task.has(id)).ok_or(Errno::EINVAL)
    }

    /// Nanoseconds of CPU time of a task, or of a process: 0 stands for the running one.
    fn cpu_of(&self, of_thread: bool, id: u32) -> u64 {
        let id = match (id, of_thread) {
            (0, true) => self.tid(),
            (0, false) => self.pid(),
            (id, _) => id,
        };
        match of_thread {
            true => self.task.of(id).map_or(0, |task| task.cpu),
            false => {
                let process = self.process.of(id).or_else(|| self.process.of(self.task.of(id)?.process));
                process.map_or(0, |process| process.cpu)
            }
        }
    }

    /// Nanoseconds of a clock.
    fn clock_now(&mut self, id: u64) -> Result<u64, SysError> {
        let clock = self.clock_of(id)?;
        self.refresh_clock()?;
        match clock {
            ClockId::Realtime => Ok(self.clock.realtime()),
            ClockId::Monotonic | ClockId::Coarse => Ok(self.clock.monotonic()),
            ClockId::CoarseRealtime => Ok(self.clock.realtime()),
            ClockId::Cpu { of_thread, of, .. } => Ok(self.cpu_of(of_thread, of)),
            ClockId::Alarm | ClockId::Dynamic => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn sys_clock_gettime(&mut self, a: Args) -> SysResult {
        let now = self.clock_now(a[0])?;
        self.write_words(a[1], &[now / SECOND, now % SECOND])?;
        Ok(0)
    }

    pub(super) fn sys_clock_getres(&mut self, a: Args) -> SysResult {
        let resolution = match a[0] as i32 {
            CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE => COARSE_RESOLUTION_NS.into(),
            _ => 1,
        };
        // What has no time has no resolution.
        self.clock_now(a[0])?;
        if a[1] != 0 {
            self.write_words(a[1], &[0, resolution])?;
        }
        Ok(0)
    }

    /// Nobody may set a clock: there is no `CAP_SYS_TIME`.
    pub(super) fn sys_clock_settime(&mut self, a: Args) -> SysResult {
        match self.clock_of(a[0])? {
            ClockId::Realtime if a[0] as i32 == CLOCK_REALTIME => {
                self.read_timespec(a[1])?;
                Err(Errno::EPERM.into())
            }
            ClockId::Cpu { by_pid: true, .. } => Err(Errno::EPERM.into()),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn sys_settimeofday(&mut self, a: Args) -> SysResult {
        if a[0] != 0 {
            let [_, microseconds] = self.read_words::<2>(a[0])?;
            if microseconds > MICROSECONDS {
                return Err(Errno::EINVAL.into());
            }
        }
        if a[1] != 0 {
            self.read_u64(a[1])?;
        }
        Err(Errno::EPERM.into())
    }

    /// `adjtimex`: a clock that nothing disciplines can be looked at.
    pub(super) fn sys_adjtimex(&mut self, address: u64) -> SysResult {
        /// Bytes of `struct timex` (`include/uapi/linux/timex.h`), and what it holds by word.
        const TIMEX_WORDS: usize = 26;
        const STA_UNSYNC: u64 = 0x40;
        const TIME_ERROR: u64 = 5;
        const MAX_ERROR: u64 = 16_000_000;
        const TOLERANCE: u64 = 32_768_000;
        const TICK_MICROSECONDS: u64 = 10_000;
        /// `ADJ_ADJTIME` stands for `adjtime`: `ADJ_OFFSET_SINGLESHOT`, or with `ADJ_OFFSET_READONLY` a look at
        /// what is left of it, which is nothing.
        const ADJTIME: u32 = 0x8000;
        const SINGLESHOT: u32 = 1;
        const READ_ONLY: u32 = 0x2000;
        let mut words = self.read_words::<TIMEX_WORDS>(address)?;
        let modes = words[0] as u32;
        if modes & ADJTIME != 0 && modes & SINGLESHOT == 0 {
            return Err(Errno::EINVAL.into());
        }
        let looks = modes == 0 || modes & (ADJTIME | READ_ONLY) == ADJTIME | READ_ONLY;
        if !looks {
            return Err(Errno::EPERM.into());
        }
        self.refresh_clock()?;
        let now = self.clock.realtime();
        words = [0; TIMEX_WORDS];
        words[0] = modes.into();
        (words[3], words[4], words[5]) = (MAX_ERROR, MAX_ERROR, STA_UNSYNC);
        (words[6], words[7], words[8]) = (2, 1, TOLERANCE);
        (words[9], words[10], words[11]) = (now / SECOND, now % SECOND / 1000, TICK_MICROSECONDS);
        self.write_words(address, &words)?;
        Ok(TIME_ERROR)
    }

    pub(super) fn sys_clock_adjtime(&mut self, a: Args) -> SysResult {
        match self.clock_of(a[0])? {
            ClockId::Realtime if a[0] as i32 == CLOCK_REALTIME => self.sys_adjtimex(a[1]),
            _ => Err(Errno::EOPNOTSUPP.into()),
        }
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

    /// A set of signals, a place for what came or 0, a time limit or 0: a signal of the set that is
    /// pending, or becomes so in time.
    pub(super) fn sys_rt_sigtimedwait(&mut self, a: Args) -> SysResult {
        let [set, info, timeout, size, ..] = a;
        if size != SET_BYTES {
            return Err(Errno::EINVAL.into());
        }
        let set = self.read_u64(set)? & !UNBLOCKABLE;
        let timeout = if timeout == 0 { None } else { Some(self.read_timespec(timeout)?) };
        if let Some(came) = self.take_signal_of(set) {
            if info != 0 {
                self.write(info, &came.to_bytes())?;
            }
            return Ok(came.signal.into());
        }
        self.wait_at_most(timeout, |_| Ok(Wait { signals: set, ..Wait::default() }))?;
        Err(Errno::EAGAIN.into())
    }

    pub(super) fn sys_nanosleep(&mut self, a: Args) -> SysResult {
        let ns = self.read_timespec(a[0])?;
        self.finish_sleep(ns, a[1])
    }

    fn finish_sleep(&mut self, ns: u64, remaining: u64) -> SysResult {
        if ns == 0 {
            return Ok(0);
        }
        let until = self.deadline(ns)?;
        let left = until.saturating_sub(self.clock.monotonic());
        if left == 0 {
            return Ok(0);
        }
        self.drop_ignored();
        if !self.signals().any_deliverable() {
            return Err(SysError::Wait(Wait::until(Some(until))));
        }
        if remaining != 0 {
            self.write_words(remaining, &[left / SECOND, left % SECOND])?;
        }
        Err(Errno::EINTR.into())
    }

    pub(super) fn sys_clock_nanosleep(&mut self, a: Args) -> SysResult {
        let [id, flags, request, remaining, ..] = a;
        let clock = match self.clock_of(id) {
            Ok(clock) => clock,
            // Whether a process has such a clock is looked at last.
            Err(_) => {
                if (id as i32) < 0 {
                    self.read_timespec(request)?;
                }
                return Err(Errno::EINVAL.into());
            }
        };
        let of_thread = matches!(clock, ClockId::Cpu { of_thread: true, by_pid: false, .. });
        if of_thread || matches!(clock, ClockId::Coarse | ClockId::CoarseRealtime | ClockId::Dynamic) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let wanted = self.read_timespec(request)?;
        match clock {
            ClockId::Alarm => return Err(Errno::EOPNOTSUPP.into()),
            // One's own clock stands still in a sleep.
            ClockId::Cpu { of_thread: true, of, .. } if of == 0 || of == self.tid() => {
                return Err(Errno::EINVAL.into());
            }
            _ => {}
        }
        let now = self.clock_now(id)?;
        let absolute = flags & TIMER_ABSTIME != 0;
        let remaining = if absolute { 0 } else { remaining };
        if let ClockId::Cpu { of, .. } = clock {
            let until = if absolute { wanted } else { now.saturating_add(wanted) };
            return self.sleep_on_cpu(of, now, until, remaining);
        }
        let ns = if absolute { wanted.saturating_sub(now) } else { wanted };
        self.finish_sleep(ns, remaining)
    }

    /// Sleeps until a clock of CPU time says `until`: one of a process, or of a task of it, 0 for the running one.
    fn sleep_on_cpu(&mut self, of: u32, now: u64, until: u64, remaining: u64) -> SysResult {
        let until = self.resumed().map_or(until, |parked| parked.wait.done);
        let left = until.saturating_sub(now);
        if left == 0 {
            return Ok(0);
        }
        self.drop_ignored();
        if !self.signals().any_deliverable() {
            let process = self.process_of(of.into())?;
            return Err(SysError::Wait(Wait { done: until, ..Wait::on(Key::Cpu(process)) }));
        }
        if remaining != 0 {
            self.write_words(remaining, &[left / SECOND, left % SECOND])?;
        }
        Err(Errno::EINTR.into())
    }

    /// Makes those ready that sleep until so much CPU time of the running process, or of a task of it, has passed.
    pub(in crate::program) fn wake_for_cpu(&mut self) {
        for tid in self.sched.waiting_for(Key::Cpu(self.pid())) {
            let Some(parked) = self.task.of(tid).and_then(|task| task.parked.as_ref()) else { continue };
            let (clock, until) = (parked.call.args[0], parked.wait.done);
            let now = match self.clock_of(clock) {
                Ok(ClockId::Cpu { of: 0, .. }) => self.process.cpu,
                Ok(ClockId::Cpu { of_thread, of, .. }) => self.cpu_of(of_thread, of),
                // It is no more.
                _ => continue,
            };
            if now >= until {
                self.wake_task(tid);
            }
        }
    }

    /// CPU time is not told apart into the program's and the kernel's.
    pub(super) fn sys_times(&mut self, a: Args) -> SysResult {
        self.refresh_clock()?;
        let ticks = |ns: u64| ns / (SECOND / TICKS);
        if a[0] != 0 {
            let (own, children) = (ticks(self.process.cpu), ticks(self.process.children_cpu));
            self.write_words(a[0], &[own, 0, children, 0])?;
        }
        Ok(ticks(self.clock.monotonic()))
    }

    pub(super) fn sys_getrusage(&mut self, a: Args) -> SysResult {
        let (cpu, own) = match a[0] as i32 {
            RUSAGE_SELF => (self.process.cpu, true),
            RUSAGE_THREAD => (self.task.cpu, true),
            RUSAGE_CHILDREN => (self.process.children_cpu, false),
            _ => return Err(Errno::EINVAL.into()),
        };
        let mut words = [0u64; 18];
        (words[0], words[1]) = (cpu / SECOND, cpu % SECOND / 1000);
        if own {
            // Maximum resident set, KiB: what is charged, since what is resident depends on the host.
            words[4] = self.memory.state.account.charged() / 1024;
        }
        self.write_words(a[1], &words)?;
        Ok(0)
    }
}
