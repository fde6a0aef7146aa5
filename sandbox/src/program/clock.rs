//! Time, as a program sees it.
//!
//! The virtual clock starts at an instant that is part of the start state, and advances by a fixed
//! amount at every exit and every read; a sleep advances it at once. It lives in the program's
//! clock page, where the vDSO reads and advances it without an exit; the monitor reads it from
//! there and writes it back at every exit. A program that damages its clock page sees a strange
//! time, the same in every run.
//!
//! A loop without exits takes no time at all, so that a timer never goes off in it. With a timer
//! step, the program is stepped while a timer is armed, and each instruction takes that long.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::mm::{AddressSpace, MemError, Memory};
use super::vdso::{self, ClockPage};
use crate::machine::{BadState, expect};

/// Nanoseconds that an exit takes in virtual time.
pub const EXIT_STEP: u64 = 10_000;
/// Nanoseconds that a read of the clock takes.
pub const READ_STEP: u64 = 100;
/// Nanoseconds that a `PAUSE` takes that is answered in the guest. Much more than on a CPU, as it is a wait in a loop
/// and costs the host more than that.
pub const PAUSE_STEP: u64 = 1000;
/// Where the virtual clock starts unless told otherwise: 2026-01-01T00:00:00Z, in nanoseconds
/// since the Unix epoch.
pub const DEFAULT_START: u64 = 1_767_225_600_000_000_000;
/// The longest timer step: what an instruction may take, nanoseconds.
pub const MAX_TIMER_STEP: u64 = 1_000_000_000;
/// The virtual machine's uptime at its start, nanoseconds.
const START_UPTIME: u64 = 1_000_000_000;

/// Which clock a program sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockMode {
    /// A function of the run.
    #[default]
    Virtual,
    /// The host's, recorded.
    Host,
}

/// A program's clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Clock {
    /// Which clock it is.
    pub mode: ClockMode,
    /// Nanoseconds that an instruction takes while an interval timer is armed; with none, the
    /// program is not stepped.
    pub timer_step: Option<NonZeroU64>,
    monotonic: u64,
    /// Nanoseconds that the program has run for: the clock without what it slept.
    cpu: u64,
    /// Real time is this much more than monotonic time.
    offset: u64,
    /// Monotonic time at which a task that makes no exit by itself makes one: when something else is to
    /// happen, or another task to run. It is in the clock page, too.
    limit: u64,
}

impl Clock {
    /// A clock that starts at `start`, nanoseconds since the Unix epoch.
    pub fn new(mode: ClockMode, start: u64, timer_step: Option<NonZeroU64>) -> Clock {
        let offset = start.wrapping_sub(START_UPTIME);
        Clock { mode, timer_step, monotonic: START_UPTIME, cpu: 0, offset, limit: u64::MAX }
    }

    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        // A program may write any time into its clock page.
        let Clock { mode: _, timer_step, monotonic: _, cpu: _, offset: _, limit: _ } = self;
        expect(timer_step.is_none_or(|step| step.get() <= MAX_TIMER_STEP), "the timer step")
    }

    /// Nanoseconds since the machine's start.
    pub fn monotonic(&self) -> u64 {
        self.monotonic
    }

    /// Nanoseconds since the Unix epoch.
    pub fn realtime(&self) -> u64 {
        self.monotonic.wrapping_add(self.offset)
    }

    /// Nanoseconds of CPU time that the program has had.
    pub fn cpu(&self) -> u64 {
        self.cpu
    }

    /// Puts the clock page at an address of the program, which is mapped already.
    pub fn place(
        &mut self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        page: u64,
    ) -> Result<(), MemError> {
        space.set_clock_page(page);
        let mode = match self.mode {
            ClockMode::Virtual => vdso::Mode::Virtual,
            ClockMode::Host => vdso::Mode::SystemCalls,
        };
        let content = ClockPage {
            monotonic_ns: self.monotonic,
            realtime_offset_ns: self.offset,
            step_ns: READ_STEP,
            mode,
            limit_ns: self.limit,
        };
        space.place(memory, page, &content.to_bytes())
    }

    /// Takes over what the program's own reads did to the clock, and advances it for an exit.
    ///
    /// # Errors
    /// As [`Clock::pass`].
    pub fn tick(&mut self, memory: &mut Memory, space: &mut AddressSpace) -> Result<(), MemError> {
        self.pass(memory, space, EXIT_STEP)
    }

    /// Takes over what the program's own reads did to the clock, and advances it by so many
    /// nanoseconds.
    ///
    /// # Errors
    /// When the clock page cannot be brought in. A program that has unmapped its clock page goes
    /// on with the monitor's own clock.
    pub fn pass(&mut self, memory: &mut Memory, space: &mut AddressSpace, by: u64) -> Result<(), MemError> {
        let mut bytes = [0u8; 8];
        match space.read(memory, space.state.image.clock_page, &mut bytes) {
            Ok(()) if self.mode == ClockMode::Virtual => {
                let now = u64::from_le_bytes(bytes);
                self.cpu = self.cpu.saturating_add(now.saturating_sub(self.monotonic));
                self.monotonic = now;
            }
            Ok(()) | Err(MemError::BadAddress(_)) => {}
            Err(e) => return Err(e),
        }
        self.cpu = self.cpu.saturating_add(by);
        self.advance(memory, space, by)
    }

    /// Lets time pass in which the program does not run.
    ///
    /// # Errors
    /// As [`Clock::tick`].
    pub fn advance(
        &mut self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        by: u64,
    ) -> Result<(), MemError> {
        self.monotonic = self.monotonic.saturating_add(by);
        match space.write(memory, space.state.image.clock_page, &self.monotonic.to_le_bytes()) {
            Ok(()) | Err(MemError::BadAddress(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whether it has come to the limit.
    pub fn is_at_limit(&self) -> bool {
        self.monotonic >= self.limit
    }

    /// The limit.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Sets the limit, and writes it into the clock page.
    ///
    /// # Errors
    /// As [`Clock::tick`].
    pub fn set_limit(
        &mut self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        limit: u64,
    ) -> Result<(), MemError> {
        self.limit = limit;
        let at = space.state.image.clock_page + vdso::LIMIT_NS as u64;
        match space.write(memory, at, &limit.to_le_bytes()) {
            Ok(()) | Err(MemError::BadAddress(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Sets the clock from the host's: for [`ClockMode::Host`].
    pub fn set(&mut self, host: crate::world::HostClock) {
        self.monotonic = host.monotonic;
        self.offset = host.realtime.wrapping_sub(host.monotonic);
    }
}
