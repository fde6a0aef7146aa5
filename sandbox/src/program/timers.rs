//! Interval timers: `alarm` and `setitimer`.
//!
//! A timer of real time that has expired stands still until its signal is taken, and goes on then from
//! where it would be (`posixtimer_rearm_itimer`, `kernel/time/itimer.c`). So no interval, however
//! short, is counted one by one, and one whose signal is ignored has expired for good.

use serde::{Deserialize, Serialize};

use super::signal::number::{SIGALRM, SIGPROF, SIGVTALRM};

/// What [`Timer::left`] says of one that is about to expire, nanoseconds.
const LEAST: u64 = 1000;

/// Which timer (`ITIMER_*`, `include/uapi/linux/time.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Real time: `SIGALRM`.
    Real,
    /// The program's own time: `SIGVTALRM`.
    Virtual,
    /// That and the kernel's on its behalf, which is not told apart: `SIGPROF`.
    Profile,
}

impl Which {
    /// By its number.
    pub fn of(number: u64) -> Option<Which> {
        [Which::Real, Which::Virtual, Which::Profile].get(usize::try_from(number).ok()?).copied()
    }

    /// The signal that it sends.
    pub fn signal(self) -> u32 {
        match self {
            Which::Real => SIGALRM,
            Which::Virtual => SIGVTALRM,
            Which::Profile => SIGPROF,
        }
    }
}

/// One timer; times are nanoseconds of the clock that it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When it expires, or expired last.
    at: u64,
    /// It has yet to expire.
    armed: bool,
    interval: u64,
}

impl Timer {
    /// Sets it to expire in so many nanoseconds, 0 for never, and then every `interval`.
    pub fn set(&mut self, now: u64, value: u64, interval: u64) {
        *self = Timer { at: now.saturating_add(value), armed: value > 0, interval };
    }

    /// When it expires.
    pub fn expiry(&self) -> Option<u64> {
        self.armed.then_some(self.at)
    }

    /// Nanoseconds until then; 0 if it does not.
    pub fn left(&self, now: u64) -> u64 {
        if self.armed { self.at.saturating_sub(now).max(LEAST) } else { 0 }
    }

    /// Nanoseconds from one expiry to the next.
    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// Whether it has expired by now. It stands still then.
    fn expires(&mut self, now: u64) -> bool {
        let expired = self.armed && self.at <= now;
        self.armed &= !expired;
        expired
    }

    /// Goes on after an expiry, at the first multiple of the interval that is yet to come.
    fn go_on(&mut self, now: u64) {
        if self.armed || self.interval == 0 {
            return;
        }
        self.armed = true;
        if self.at <= now {
            let missed = (now - self.at) / self.interval;
            self.at = self.at.saturating_add(missed.saturating_add(1).saturating_mul(self.interval));
        }
    }
}

/// The timers of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers([Timer; 3]);

impl Timers {
    /// One of them.
    pub fn get(&self, which: Which) -> &Timer {
        &self.0[which as usize]
    }

    /// One of them, to set.
    pub fn get_mut(&mut self, which: Which) -> &mut Timer {
        &mut self.0[which as usize]
    }

    /// Whether any is to expire.
    pub fn any_armed(&self) -> bool {
        self.0.iter().any(|timer| timer.armed)
    }

    /// The signals of those that have expired, at these moments of real time and of CPU time. Timers of
    /// CPU time go on at once: it does not pass while nothing runs.
    pub fn expire(&mut self, real: u64, cpu: u64) -> impl Iterator<Item = u32> + use<> {
        let [real_timer, virtual_timer, profile_timer] = &mut self.0;
        let on_cpu = |timer: &mut Timer| {
            let expired = timer.expires(cpu);
            if expired {
                timer.go_on(cpu);
            }
            expired
        };
        let expired = [
            (real_timer.expires(real), Which::Real),
            (on_cpu(virtual_timer), Which::Virtual),
            (on_cpu(profile_timer), Which::Profile),
        ];
        expired.into_iter().filter(|(expired, _)| *expired).map(|(_, which)| which.signal())
    }

    /// A signal was taken: if it is that of the timer of real time, the timer goes on.
    pub fn signal_taken(&mut self, signal: u32, real: u64) {
        if signal == SIGALRM {
            self.get_mut(Which::Real).go_on(real);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_that_nobody_takes_are_one() {
        let mut timers = Timers::default();
        timers.get_mut(Which::Real).set(0, 1000, 1000);
        assert!(timers.expire(999, 0).next().is_none());
        assert_eq!(timers.expire(1_000_000_500, 0).collect::<Vec<_>>(), [SIGALRM]);
        assert_eq!(timers.get(Which::Real).expiry(), None);
        assert!(timers.expire(u64::MAX, 0).next().is_none());
        timers.signal_taken(SIGALRM, 2_000_000_500);
        assert_eq!(timers.get(Which::Real).expiry(), Some(2_000_001_000));
        timers.signal_taken(SIGALRM, u64::MAX);
        assert_eq!(timers.get(Which::Real).expiry(), Some(2_000_001_000), "it is armed already");
    }

    #[test]
    fn timers_of_cpu_time_go_on_by_themselves() {
        let mut timers = Timers::default();
        timers.get_mut(Which::Virtual).set(100, 10, 10);
        timers.get_mut(Which::Profile).set(100, 50, 0);
        assert_eq!(timers.expire(u64::MAX, 115).collect::<Vec<_>>(), [SIGVTALRM]);
        assert_eq!(timers.get(Which::Virtual).left(115), LEAST);
        assert_eq!(timers.get(Which::Virtual).expiry(), Some(120));
        assert_eq!(timers.expire(0, 150).collect::<Vec<_>>(), [SIGVTALRM, SIGPROF]);
        assert_eq!(timers.get(Which::Profile).expiry(), None);
    }

    #[test]
    fn times_at_the_end_of_the_range() {
        let mut timer = Timer::default();
        timer.set(u64::MAX - 1, u64::MAX, u64::MAX);
        assert!(timer.expires(u64::MAX));
        timer.go_on(u64::MAX);
        assert_eq!(timer.expiry(), Some(u64::MAX));
    }
}
