//! The timers of a process: those that each has (`alarm`, `setitimer`), and those that it makes.
//!
//! An interval timer of real time that has expired stands still until its signal is taken, and goes on then from
//! where it would be (`posixtimer_rearm_itimer`, `kernel/time/itimer.c`). So no interval, however
//! short, is counted one by one, and one whose signal is ignored has expired for good.

mod fire;
mod posix;
mod timer;

use serde::{Deserialize, Serialize};

pub(in crate::program) use fire::go_on;
pub use posix::{Counts, PosixTimer, PosixTimers, TIMER_BYTES, Tells};
pub use timer::Timer;

use super::signal::number::{SIGALRM, SIGPROF, SIGVTALRM};

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

/// The timers of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    interval: [Timer; 3],
    /// Those that it made.
    pub posix: PosixTimers,
}

impl Timers {
    /// An interval timer.
    pub fn get(&self, which: Which) -> &Timer {
        &self.interval[which as usize]
    }

    /// An interval timer, to set.
    pub fn get_mut(&mut self, which: Which) -> &mut Timer {
        &mut self.interval[which as usize]
    }

    /// Whether any is to expire.
    pub fn any_armed(&self) -> bool {
        self.interval.iter().any(|timer| timer.expiry().is_some()) || self.posix.any_armed()
    }

    /// When the next one of real time expires, nanoseconds of monotonic time.
    pub fn next_real(&self) -> Option<u64> {
        self.get(Which::Real).expiry().into_iter().chain(self.posix.next_real()).min()
    }

    /// How much CPU time of the process, or of its task that runs, passes until the next one expires.
    pub fn until_cpu(&self, process_cpu: u64, task: (u32, u64)) -> Option<u64> {
        let interval = [Which::Virtual, Which::Profile].map(|which| self.get(which).expiry());
        let interval = interval.into_iter().flatten().map(|at| at.saturating_sub(process_cpu));
        interval.chain(self.posix.until_cpu(process_cpu, task)).min()
    }

    /// The signals of interval timers that have expired, at these moments of real time and of CPU time.
    /// Timers of CPU time go on at once: it does not pass while nothing runs.
    pub fn expire(&mut self, real: u64, cpu: u64) -> impl Iterator<Item = u32> + use<> {
        let [real_timer, virtual_timer, profile_timer] = &mut self.interval;
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
        assert_eq!(timers.get(Which::Virtual).left(115), timer::LEAST);
        assert_eq!(timers.get(Which::Virtual).expiry(), Some(120));
        assert_eq!(timers.expire(0, 150).collect::<Vec<_>>(), [SIGVTALRM, SIGPROF]);
        assert_eq!(timers.get(Which::Profile).expiry(), None);
    }
}
