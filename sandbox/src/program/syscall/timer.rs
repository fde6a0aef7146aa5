//! Timers: interval timers, and those that a program makes (`kernel/time/itimer.c`, `posix-timers.c`).

use super::Args;
use super::sigevent::{SigEvent, how};
use super::time::{ClockId, MICROSECONDS, SECOND, TIMER_ABSTIME};
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::signal::number::{MAX, SIGALRM};
use crate::program::timers::{Counts, PosixTimer, TIMER_BYTES, Tells, Timer, Which};

/// The words of a `struct itimerspec`.
pub(super) fn itimerspec(interval: u64, left: u64) -> [u64; 4] {
    [interval / SECOND, interval % SECOND, left / SECOND, left % SECOND]
}

impl Kernel {
    /// Reads a `struct itimerspec`: the interval and the value, nanoseconds.
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL`.
    pub(super) fn read_itimerspec(&mut self, address: u64) -> Result<[u64; 2], SysError> {
        let words = self.read_words::<4>(address)?;
        let nanoseconds = |time: &[u64]| {
            let valid = time[0] as i64 > -1 && time[1] < SECOND;
            valid.then(|| time[0].saturating_mul(SECOND).saturating_add(time[1])).ok_or(Errno::EINVAL)
        };
        Ok([nanoseconds(&words[..2])?, nanoseconds(&words[2..])?])
    }

    /// Now, by the clock that a timer counts.
    fn timer_now(&self, which: Which) -> u64 {
        if which == Which::Real { self.clock.monotonic() } else { self.process.cpu }
    }

    pub(super) fn sys_alarm(&mut self, a: Args) -> SysResult {
        self.refresh_clock()?;
        let now = self.clock.monotonic();
        let timer = self.process.timers.get_mut(Which::Real);
        // As Linux rounds: to the nearest, but a timer that runs never has 0 left.
        let left = match timer.left(now) {
            0 => 0,
            left => (left.saturating_add(SECOND / 2) / SECOND).max(1),
        };
        timer.set(now, u64::from(a[0] as u32) * SECOND, 0);
        self.note_timer();
        Ok(left)
    }

    fn timer_words(&self, which: Which) -> [u64; 4] {
        let timer = self.process.timers.get(which);
        let (left, interval) = (timer.left(self.timer_now(which)), timer.interval());
        [interval / SECOND, interval % SECOND / 1000, left / SECOND, left % SECOND / 1000]
    }

    pub(super) fn sys_setitimer(&mut self, a: Args) -> SysResult {
        let [which, new, old, ..] = a;
        self.refresh_clock()?;
        let words = if new == 0 { [0; 4] } else { self.read_words::<4>(new)? };
        let [interval, value] = [&words[..2], &words[2..]].map(|time| {
            let valid = time[0] as i64 > -1 && time[1] < MICROSECONDS;
            valid.then(|| time[0].saturating_mul(SECOND).saturating_add(time[1] * 1000))
        });
        let (Some(interval), Some(value), Some(which)) = (interval, value, Which::of(which)) else {
            return Err(Errno::EINVAL.into());
        };
        let before = self.timer_words(which);
        let now = self.timer_now(which);
        let interval = if value == 0 && which == Which::Real { 0 } else { interval };
        self.process.timers.get_mut(which).set(now, value, interval);
        self.note_timer();
        if old != 0 {
            self.write_words(old, &before)?;
        }
        Ok(0)
    }

    pub(super) fn sys_getitimer(&mut self, a: Args) -> SysResult {
        let which = Which::of(a[0]).ok_or(Errno::EINVAL)?;
        self.write_words(a[1], &self.timer_words(which))?;
        Ok(0)
    }

    /// What a timer counts that is made for a clock.
    fn counts(&self, clock: ClockId) -> Result<Counts, Errno> {
        match clock {
            ClockId::Realtime => Ok(Counts::Real),
            ClockId::Monotonic => Ok(Counts::Monotonic),
            ClockId::Cpu { of_thread: false, of, .. } if of == 0 || of == self.pid() => Ok(Counts::Process),
            ClockId::Cpu { of_thread: true, of: 0, .. } => Ok(Counts::Task(self.tid())),
            ClockId::Cpu { of_thread: true, of, .. } if self.is_own_task(of) => Ok(Counts::Task(of)),
            ClockId::Cpu { .. } => Err(Errno::EINVAL),
            ClockId::Coarse | ClockId::CoarseRealtime | ClockId::Alarm | ClockId::Dynamic => {
                Err(Errno::EOPNOTSUPP)
            }
        }
    }

    fn is_own_task(&self, tid: u32) -> bool {
        self.task.of(tid).is_some_and(|task| task.process == self.pid())
    }

    /// Whom a timer tells that is made so.
    fn tells(&self, event: SigEvent) -> Result<Tells, Errno> {
        let SigEvent { signal, tid, .. } = event;
        let known = (1..=MAX).contains(&signal);
        match event.how {
            how::NONE => Ok(Tells::Nobody),
            how::SIGNAL | how::THREAD if known => Ok(Tells::Process(signal)),
            how::THREAD_ID if known && self.is_own_task(tid) => Ok(Tells::Task { tid, signal }),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(super) fn sys_timer_create(&mut self, a: Args) -> SysResult {
        let [clock, event, id, ..] = a;
        let event = if event == 0 { None } else { Some(self.read_sigevent(event)?) };
        let counts = self.counts(self.clock_of(clock)?)?;
        if self.room_for_signals(self.pid()) == 0 {
            return Err(Errno::EAGAIN.into());
        }
        let tells = event.map_or(Ok(Tells::Process(SIGALRM)), |event| self.tells(event))?;
        let timer = PosixTimer::new(counts, tells, event.map_or(0, |event| event.value));
        self.memory.state.account.charge(TIMER_BYTES).map_err(|_| Errno::EAGAIN)?;
        let number = self.process.timers.posix.add(timer);
        if event.is_none()
            && let Some(timer) = self.process.timers.posix.get_mut(number)
        {
            timer.value = number.into();
        }
        if let Err(e) = self.write(id, &number.to_le_bytes()) {
            self.forget_timer(number);
            return Err(e);
        }
        Ok(0)
    }

    fn forget_timer(&mut self, id: u32) -> Option<PosixTimer> {
        let timer = self.process.timers.posix.remove(id)?;
        self.memory.state.account.refund(TIMER_BYTES);
        self.forget_signals_of(Some(id));
        Some(timer)
    }

    /// Now, by the clock that a timer counts.
    fn now_of(&self, counts: Counts) -> Result<u64, Errno> {
        match counts {
            Counts::Real | Counts::Monotonic => Ok(self.clock.monotonic()),
            Counts::Process => Ok(self.process.cpu),
            Counts::Task(tid) => self.task.of(tid).map(|task| task.cpu).ok_or(Errno::ESRCH),
        }
    }

    /// How a timer is set: the interval and what is left, as `struct itimerspec` has them.
    fn timer_spec(&self, id: u32) -> Result<[u64; 4], Errno> {
        let timer = self.process.timers.posix.get(id).ok_or(Errno::EINVAL)?;
        let (left, interval) = (timer.left(self.now_of(timer.counts)?), timer.timer.interval());
        Ok(itimerspec(interval, left))
    }

    pub(super) fn sys_timer_settime(&mut self, a: Args) -> SysResult {
        let [id, flags, new, old, ..] = a;
        let id = id as u32;
        if new == 0 {
            return Err(Errno::EINVAL.into());
        }
        let [interval, value] = self.read_itimerspec(new)?;
        self.refresh_clock()?;
        let before = self.timer_spec(id)?;
        let counts = self.process.timers.posix.get(id).ok_or(Errno::EINVAL)?.counts;
        let now = self.now_of(counts)?;
        let at = match (flags & TIMER_ABSTIME != 0, counts) {
            (false, _) => now.saturating_add(value),
            (true, Counts::Real) => now.saturating_add(value.saturating_sub(self.clock.realtime())),
            (true, _) => value,
        };
        self.forget_signals_of(Some(id));
        if let Some(timer) = self.process.timers.posix.get_mut(id) {
            timer.set(match value {
                0 => Timer::default(),
                _ => Timer::at(Some(at), interval),
            });
        }
        self.note_timer();
        if at <= now {
            self.fire_timers();
        }
        if old != 0 {
            self.write_words(old, &before)?;
        }
        Ok(0)
    }

    pub(super) fn sys_timer_gettime(&mut self, a: Args) -> SysResult {
        self.refresh_clock()?;
        let spec = self.timer_spec(a[0] as u32)?;
        self.write_words(a[1], &spec)?;
        Ok(0)
    }

    pub(super) fn sys_timer_getoverrun(&mut self, a: Args) -> SysResult {
        let timer = self.process.timers.posix.get(a[0] as u32).ok_or(Errno::EINVAL)?;
        Ok(timer.overrun() as u64)
    }

    pub(super) fn sys_timer_delete(&mut self, a: Args) -> SysResult {
        self.forget_timer(a[0] as u32).ok_or(Errno::EINVAL)?;
        Ok(0)
    }
}
