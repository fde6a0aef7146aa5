//! Timers that a program makes: `timer_create` (`kernel/time/posix-timers.c`).
//!
//! One that has expired stands still until its signal is taken, and goes on then; what it missed meanwhile is
//! told with the signal. One whose signal is ignored stands still until that is no longer so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::timer::Timer;
use crate::machine::{BadState, expect};
use crate::program::signal::number::MAX;
use crate::program::signal::{Info, SI_TIMER};

/// What a timer is charged for, bytes: what the monitor keeps of it and of its signal.
pub const TIMER_BYTES: u64 = 256;

/// The clock that a timer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counts {
    /// Real time: it is set by the time since 1970.
    Real,
    /// Monotonic time.
    Monotonic,
    /// CPU time of its process.
    Process,
    /// CPU time of a task of its process.
    Task(u32),
}

/// How a timer tells of its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tells {
    /// Not at all: it is looked at.
    Nobody,
    /// By a signal to its process.
    Process(u32),
    /// By a signal to one task.
    Task {
        /// The task.
        tid: u32,
        /// The signal.
        signal: u32,
    },
}

/// A timer that a program made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PosixTimer {
    /// What it counts.
    pub counts: Counts,
    /// Whom it tells.
    pub tells: Tells,
    /// `sigev_value`, which comes with the signal.
    pub value: u64,
    /// Its time.
    pub timer: Timer,
    /// It has expired, and its signal has yet to be taken.
    fired: bool,
    /// Expiries that were missed before the signal was taken last (`timer_getoverrun`).
    overrun: i32,
}

impl PosixTimer {
    /// One that is not set.
    pub fn new(counts: Counts, tells: Tells, value: u64) -> PosixTimer {
        PosixTimer { counts, tells, value, timer: Timer::default(), fired: false, overrun: 0 }
    }

    /// Sets it.
    pub fn set(&mut self, timer: Timer) {
        (self.timer, self.fired, self.overrun) = (timer, false, 0);
    }

    /// Expiries that were missed before the signal was taken last.
    pub fn overrun(&self) -> i32 {
        self.overrun
    }

    /// Whether it counts CPU time.
    pub fn is_of_cpu(&self) -> bool {
        matches!(self.counts, Counts::Process | Counts::Task(_))
    }

    /// Nanoseconds until it expires next; 0 if it does not.
    pub fn left(&self, now: u64) -> u64 {
        let tells = self.tells != Tells::Nobody;
        let mut timer = self.timer;
        if self.fired || !tells && timer.expires(now) {
            timer = timer.went_on(now);
        }
        // One that runs has never nothing left.
        timer.expiry().map_or(0, |at| at.saturating_sub(now).max(1))
    }

    /// When its signal is to be sent.
    fn due(&self) -> Option<u64> {
        self.timer.expiry().filter(|_| self.tells != Tells::Nobody)
    }

    /// Its signal; what was missed is known when that is taken.
    fn signal(&self, id: u32) -> Option<(Option<u32>, Info)> {
        let (tid, signal) = match self.tells {
            Tells::Nobody => return None,
            Tells::Process(signal) => (None, signal),
            Tells::Task { tid, signal } => (Some(tid), signal),
        };
        let info = Info { signal, code: SI_TIMER, value: id.into(), extra: self.value, ..Info::default() };
        Some((tid, Info { direct: tid.is_some(), timer: Some(id), ..info }))
    }
}

/// The timers that a process made, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PosixTimers {
    timers: BTreeMap<u32, PosixTimer>,
    /// The number of the next one.
    next: u32,
}

impl PosixTimers {
    /// Adds one; gives its number.
    pub fn add(&mut self, timer: PosixTimer) -> u32 {
        // There are fewer than numbers.
        while self.timers.contains_key(&self.next) {
            self.next = (self.next + 1) & i32::MAX as u32;
        }
        let id = self.next;
        self.next = (id + 1) & i32::MAX as u32;
        self.timers.insert(id, timer);
        id
    }

    /// One of them.
    pub fn get(&self, id: u32) -> Option<&PosixTimer> {
        self.timers.get(&id)
    }

    /// One of them, to change.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut PosixTimer> {
        self.timers.get_mut(&id)
    }

    /// Removes one.
    pub fn remove(&mut self, id: u32) -> Option<PosixTimer> {
        self.timers.remove(&id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.timers.len()
    }

    /// What they are charged for, bytes.
    pub fn cost(&self) -> u64 {
        self.timers.len() as u64 * TIMER_BYTES
    }

    /// Whether any is to expire.
    pub fn any_armed(&self) -> bool {
        self.timers.values().any(|timer| timer.due().is_some())
    }

    /// When the next one of real time expires.
    pub fn next_real(&self) -> Option<u64> {
        self.timers.values().filter(|timer| !timer.is_of_cpu()).filter_map(PosixTimer::due).min()
    }

    /// How much CPU time of the process, or of this task, passes until the next one expires.
    pub fn until_cpu(&self, process_cpu: u64, (tid, task_cpu): (u32, u64)) -> Option<u64> {
        let left = |timer: &PosixTimer| {
            let now = match timer.counts {
                Counts::Process => process_cpu,
                Counts::Task(of) if of == tid => task_cpu,
                _ => return None,
            };
            Some(timer.due()?.saturating_sub(now))
        };
        self.timers.values().filter_map(left).min()
    }

    /// The signals of those that have expired, and for which task of the process; `now` tells the time that
    /// one counts.
    pub fn expire(&mut self, now: impl Fn(Counts) -> Option<u64>) -> Vec<(Option<u32>, Info)> {
        let mut signals = Vec::new();
        for (id, timer) in &mut self.timers {
            if timer.tells == Tells::Nobody || timer.timer.expiry().is_none() {
                continue;
            }
            if now(timer.counts).is_some_and(|now| timer.timer.expires(now)) {
                timer.fired = true;
                signals.extend(timer.signal(*id));
            }
        }
        signals
    }

    /// The signal of a timer is taken: it goes on. Returns what was missed.
    pub fn taken(&mut self, id: u32, now: impl Fn(Counts) -> Option<u64>) -> i32 {
        let Some(timer) = self.timers.get_mut(&id).filter(|timer| timer.fired) else { return 0 };
        timer.fired = false;
        let missed = now(timer.counts).map_or(0, |now| timer.timer.go_on(now));
        timer.overrun = i32::try_from(missed).unwrap_or(i32::MAX);
        timer.overrun
    }

    /// The signals of those that stood still since this signal was ignored.
    pub fn no_longer_ignored(&self, signal: u32) -> Vec<(Option<u32>, Info)> {
        let still = self.timers.iter().filter(|(_, timer)| timer.fired && timer.timer.interval() > 0);
        still.filter_map(|(id, timer)| timer.signal(*id)).filter(|(_, info)| info.signal == signal).collect()
    }

    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        let known = |signal: u32| (1..=MAX).contains(&signal);
        let sound = |(id, timer): (&u32, &PosixTimer)| {
            let tells = match timer.tells {
                Tells::Nobody => !timer.fired,
                Tells::Process(signal) | Tells::Task { signal, .. } => known(signal),
            };
            *id <= i32::MAX as u32 && tells && !(timer.fired && timer.timer.expiry().is_some())
        };
        expect(self.next <= i32::MAX as u32 && self.timers.iter().all(sound), "a timer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u64) -> impl Fn(Counts) -> Option<u64> {
        move |_| Some(time)
    }

    #[test]
    fn one_goes_on_when_its_signal_is_taken() {
        let mut timers = PosixTimers::default();
        let id = timers.add(PosixTimer::new(Counts::Monotonic, Tells::Process(34), 7));
        timers.get_mut(id).unwrap().set(Timer::at(Some(1000), 10));
        assert_eq!((timers.next_real(), timers.any_armed()), (Some(1000), true));
        let fired = timers.expire(at(1035));
        assert_eq!(fired.len(), 1);
        assert_eq!((fired[0].0, fired[0].1.signal, fired[0].1.extra), (None, 34, 7));
        assert!(timers.expire(at(5000)).is_empty() && !timers.any_armed(), "it stands still");
        assert_eq!(timers.get(id).unwrap().left(1035), 5);
        assert_eq!((timers.taken(id, at(1099)), timers.next_real()), (9, Some(1100)));
        assert_eq!((timers.taken(id, at(1099)), timers.get(id).unwrap().overrun()), (0, 9));
    }

    #[test]
    fn one_that_tells_nobody_is_looked_at() {
        let mut timers = PosixTimers::default();
        let id = timers.add(PosixTimer::new(Counts::Real, Tells::Nobody, 0));
        timers.get_mut(id).unwrap().set(Timer::at(Some(100), 30));
        assert_eq!((timers.next_real(), timers.expire(at(1000)).len()), (None, 0));
        assert_eq!(timers.get(id).unwrap().left(105), 25);
        timers.get_mut(id).unwrap().set(Timer::at(Some(100), 0));
        assert_eq!((timers.get(id).unwrap().left(40), timers.get(id).unwrap().left(100)), (60, 0));
    }

    #[test]
    fn numbers_are_given_out_in_order() {
        let mut timers = PosixTimers { next: i32::MAX as u32, ..PosixTimers::default() };
        let made =
            |timers: &mut PosixTimers| timers.add(PosixTimer::new(Counts::Monotonic, Tells::Nobody, 0));
        assert_eq!((made(&mut timers), made(&mut timers)), (i32::MAX as u32, 0));
        assert_eq!((timers.remove(0).is_some(), timers.count()), (true, 1));
        assert!(timers.check().is_ok());
    }

    #[test]
    fn cpu_time_is_that_of_whom_it_counts() {
        let mut timers = PosixTimers::default();
        for counts in [Counts::Process, Counts::Task(5)] {
            let id = timers.add(PosixTimer::new(counts, Tells::Task { tid: 5, signal: 14 }, 0));
            timers.get_mut(id).unwrap().set(Timer::at(Some(100), 0));
        }
        assert_eq!(timers.until_cpu(20, (5, 70)), Some(30));
        assert_eq!(timers.until_cpu(20, (6, 70)), Some(80));
        assert_eq!(timers.next_real(), None);
    }
}
