//! How far a task goes that makes no exit by itself: one that waits in a loop, with `PAUSE` in it or reading
//! the clock.
//!
//! It must not keep others from running, nor from what they wait for. So what it does in its loop exits where
//! something else could go on: `PAUSE` at once when another task is ready, and both at a moment of the virtual
//! clock, which is the next at which a wait is over or a timer expires, or the end of the time slice.
//! All of this follows from the run alone.

use super::clock::{ClockMode, EXIT_STEP};
use super::error::SysError;
use super::kernel::Kernel;
use super::limits;

/// What the guest was told last.
#[derive(Debug, Default)]
pub struct Told {
    /// The address space.
    space: Option<u32>,
    /// The address space whose clock page has the limit.
    limit_in: Option<u32>,
    pauses_exit: Option<bool>,
}

impl Told {
    /// At the start of a machine, whose memory is as it was.
    pub fn at_start(space: u32) -> Told {
        Told { limit_in: Some(space), ..Told::default() }
    }

    /// The address space is another one, whatever its number.
    pub fn forget_space(&mut self) {
        (self.space, self.limit_in) = (None, None);
    }
}

impl Kernel {
    /// Tells the guest, which is about to be entered, how far it goes. Behind a pause that is known when the exit is
    /// counted: until then another task may be the next.
    ///
    /// # Errors
    /// When the clock page cannot be brought in.
    pub fn set_horizon(&mut self, told: &mut Told) -> Result<(), SysError> {
        if self.sched.is_uncounted() {
            return Ok(());
        }
        let id = self.space.id();
        let clock = match self.clock.mode {
            ClockMode::Virtual => self.space.writable_clock_page(),
            ClockMode::Host => None,
        };
        let (code, changed) = self.space.code();
        if changed || told.space != Some(id) {
            told.space = Some(id);
            self.entry.set_space(&self.memory, clock.unwrap_or(0), code);
        }
        let (ready, next) = (self.sched.any_ready(), self.next_event());
        self.sched.await_time(next != u64::MAX);
        let limit = match ready {
            true => next.min(self.clock.monotonic().saturating_add(u64::from(self.sched.left()) * EXIT_STEP)),
            false => next,
        };
        // Without a clock that it advances, what happens by time would never come.
        let exits = ready || clock.is_none() && (next != u64::MAX || !self.is_alone());
        if told.pauses_exit != Some(exits) {
            told.pauses_exit = Some(exits);
            self.entry.set_pause_exits(&self.memory, exits);
        }
        if told.limit_in != Some(id) || limit != self.clock.limit() {
            told.limit_in = Some(id);
            self.clock.set_limit(&mut self.memory, &mut self.space, limit)?;
        }
        Ok(())
    }

    /// The next moment at which something happens by itself while the running task runs; [`u64::MAX`] if
    /// there is none.
    pub(super) fn next_event(&mut self) -> u64 {
        let awaited = self.next_awaited();
        let cpu = self.process.cpu;
        let timers = self.process.timers.until_cpu(cpu, (self.tid(), self.task.cpu));
        let seconds = self.process.limits[limits::CPU].0;
        let limit = (seconds != u64::MAX).then(|| seconds.saturating_mul(1_000_000_000).saturating_sub(cpu));
        let of_cpu = timers.into_iter().chain(limit).map(|left| self.clock.monotonic().saturating_add(left));
        of_cpu.chain(awaited).min().unwrap_or(u64::MAX).min(self.sched.due())
    }

    /// Lets happen what the clock has come to. The running task's time slice is over then.
    pub fn pass_horizon(&mut self) {
        if self.clock.is_at_limit() {
            self.wake_for_time();
            self.sched.end_slice();
        }
    }
}
