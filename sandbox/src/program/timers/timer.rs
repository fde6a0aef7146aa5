//! One timer: it expires at a moment, and then perhaps again and again.

use serde::{Deserialize, Serialize};

/// What [`Timer::left`] says of one that is about to expire, nanoseconds.
pub(super) const LEAST: u64 = 1000;

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
    /// One that expires at a moment, if there is one, and then every `interval`.
    pub fn at(at: Option<u64>, interval: u64) -> Timer {
        Timer { at: at.unwrap_or(0), armed: at.is_some(), interval }
    }

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
    pub fn expires(&mut self, now: u64) -> bool {
        let expired = self.armed && self.at <= now;
        self.armed &= !expired;
        expired
    }

    /// Goes on after an expiry, at the first multiple of the interval that is yet to come. Returns how many
    /// there were since that expiry.
    pub fn go_on(&mut self, now: u64) -> u64 {
        if self.armed || self.interval == 0 {
            return 0;
        }
        self.armed = true;
        if self.at > now {
            return 0;
        }
        let missed = (now - self.at) / self.interval;
        self.at = self.at.saturating_add(missed.saturating_add(1).saturating_mul(self.interval));
        missed
    }

    /// The same timer as it would be if it went on now.
    pub fn went_on(mut self, now: u64) -> Timer {
        self.go_on(now);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_counted_by_division() {
        let mut timer = Timer::at(Some(100), 10);
        assert!(!timer.expires(99) && timer.expires(135));
        assert_eq!((timer.expiry(), timer.left(135)), (None, 0));
        assert_eq!(timer.went_on(139).expiry(), Some(140));
        assert_eq!((timer.go_on(141), timer.expiry()), (4, Some(150)));
        assert_eq!((timer.go_on(1000), timer.expiry()), (0, Some(150)), "it runs already");
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
