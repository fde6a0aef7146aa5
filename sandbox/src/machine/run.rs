//! The run loop: the same for every kind of guest, which only says what its exits mean.

use std::time::Duration;

use kvm_bindings::kvm_sregs;
use serde::{Deserialize, Serialize};

use super::{Core, Crash, RunError};
use crate::exit::Observer;
use crate::fault::{FaultError, Place};
use crate::host::thread::{BlockedSignals, KickTimer, monotonic_ns};
use crate::vcpu::Exit;
use crate::world::WorldError;

/// How often the deadline's timer kicks again, in case a kick was lost.
const KICK_AGAIN: Duration = Duration::from_millis(20);

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// By itself, with this status.
    Exited(u8),
    /// A program, by this signal.
    Signalled(u32),
    /// A bare-metal guest, by resetting the machine.
    Reset,
    /// A bare-metal guest, by an exception that it could not take: a triple fault.
    TripleFault,
    /// A bare-metal guest, by halting: nothing can wake it.
    Halted,
}

impl End {
    /// As a shell would give it: the status, or 128 and the signal's number; for the ends of a
    /// bare-metal guest, 0 for a reset and none for the others.
    pub fn code(self) -> Option<u8> {
        /// The largest signal number.
        const SIGNALS: u32 = 64;
        match self {
            End::Exited(status) => Some(status),
            End::Signalled(signal) => Some(128 + signal.min(SIGNALS) as u8),
            End::Reset => Some(0),
            End::TripleFault | End::Halted => None,
        }
    }

    /// As `wait4` would give it (`status << 8`, or the signal's number), and for the ends that it
    /// does not know, numbers that it never gives.
    pub fn status(self) -> i32 {
        match self {
            End::Exited(status) => i32::from(status) << 8,
            End::Signalled(signal) => signal as i32,
            End::Reset => RESET,
            End::TripleFault => TRIPLE_FAULT,
            End::Halted => HALTED,
        }
    }

    /// The end that a status stands for: the inverse of [`End::status`].
    pub fn of_status(status: i32) -> End {
        match status {
            RESET => End::Reset,
            TRIPLE_FAULT => End::TripleFault,
            HALTED => End::Halted,
            status if status & 0x7f == 0 => End::Exited((status >> 8) as u8),
            signal => End::Signalled(signal as u32 & 0x7f),
        }
    }
}

/// [`End::Reset`] as a status.
const RESET: i32 = 0x1_0000;
/// [`End::TripleFault`] as a status.
const TRIPLE_FAULT: i32 = 0x2_0000;
/// [`End::Halted`] as a status.
const HALTED: i32 = 0x3_0000;

/// Why a run came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEnd {
    /// The guest ended.
    Ended(End),
    /// The deadline passed.
    Deadline,
    /// It was stopped by its handle.
    Stopped,
    /// It came to the point that it was to pause at; it can be run on.
    Paused,
    /// It waits for something that can never come.
    Stuck,
}

/// Where a run pauses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PauseAt {
    /// Nowhere.
    #[default]
    Never,
    /// When the guest says that it is ready: a program writes `snapshot` to `/dev/dejavm`, a bare-metal
    /// guest writes to a port.
    Ready,
    /// Before its first read of standard input.
    FirstRead,
    /// After its first write to standard output.
    FirstOutput,
    /// After this compared exit.
    Exit(u64),
    /// When what a bare-metal guest has sent to its serial port ends with this text.
    Serial(Vec<u8>),
}

/// Fault injection: makes present pages absent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evict {
    /// Every so many compared exits.
    pub every: u64,
    /// Which pages: a random half, from this seed.
    pub seed: u64,
}

/// Limits and interests of one run.
#[derive(Default)]
pub struct RunOptions<'a> {
    /// Where it pauses.
    pub pause: PauseAt,
    /// Who watches.
    pub observer: Option<&'a mut dyn Observer>,
}

/// A kind of guest: what its exits mean.
pub(crate) trait Guest {
    /// What all machines have.
    fn core(&self) -> &Core;

    /// What all machines have, to change.
    fn core_mut(&mut self) -> &mut Core;

    /// Before the first entry of a run. `Some` when there is nothing to run.
    fn begin(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError>;

    /// Answers one exit. `Some` ends the run.
    fn answer(
        &mut self,
        exit: Exit,
        options: &mut RunOptions<'_>,
        signals: &BlockedSignals,
    ) -> Result<Option<RunEnd>, RunError>;

    /// Where the guest is, and the bytes there, as far as they are in memory.
    fn code_at_rip(&self, sregs: &kvm_sregs) -> (Place, Vec<u8>);

    /// An error with all there is to say of a guest that cannot go on.
    fn crash(&mut self, what: &str, exit: Exit) -> RunError {
        let vcpu = &mut self.core_mut().vcpu;
        vcpu.settle();
        match vcpu.sregs() {
            Ok(sregs) => {
                let (place, code) = self.code_at_rip(&sregs);
                RunError::Crash(Box::new(Crash::new(what, exit, &place, &sregs, &code)))
            }
            Err(e) => e.into(),
        }
    }

    /// How often the guest wants to be looked at while it makes no exit.
    fn watchdog(&self) -> Option<Duration> {
        None
    }

    /// The vCPU is about to be entered. `Some` ends the run.
    fn begin_entry(&mut self) -> Result<Option<RunEnd>, RunError> {
        Ok(None)
    }

    /// The vCPU was left.
    fn end_entry(&mut self) -> Result<(), RunError> {
        Ok(())
    }

    /// Between two compared exits, and when the guest was left for nothing of its own: what comes from
    /// outside.
    fn between_exits(&mut self, _options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        Ok(None)
    }

    /// Makes pages absent again; returns how many.
    fn evict(&mut self, choose: &mut dyn FnMut(u64) -> bool) -> Result<u64, RunError>;

    /// The run is ended from outside, after the guest has made no compared exit for so long.
    fn ended_after(&mut self, _quiet_ns: u64) {}
}

/// Runs a guest until it ends, pauses, or is ended.
///
/// # Errors
/// [`RunError`]; the machine cannot be run on after one.
pub(crate) fn run(guest: &mut impl Guest, mut options: RunOptions<'_>) -> Result<RunEnd, RunError> {
    let signals = BlockedSignals::new();
    let stop = guest.core().stop.clone();
    let _running = stop.running();
    let _timer = match stop.time_left() {
        Some(left) => Some(KickTimer::start(left, KICK_AGAIN).map_err(RunError::Timer)?),
        None => None,
    };
    let _watchdog = match guest.watchdog() {
        Some(every) => Some(KickTimer::start(every, every).map_err(RunError::Timer)?),
        None => None,
    };
    let result = run_loop(guest, &mut options, &signals);
    guest.core_mut().vcpu.settle();
    guest.core_mut().tell_faults(&mut options);
    match result {
        Err(RunError::World(WorldError::Interrupted)) if stop.is_stopped() => Ok(RunEnd::Stopped),
        Err(RunError::World(WorldError::Interrupted)) => Ok(RunEnd::Deadline),
        other => other,
    }
}

fn run_loop(
    guest: &mut impl Guest,
    options: &mut RunOptions<'_>,
    signals: &BlockedSignals,
) -> Result<RunEnd, RunError> {
    guest.core_mut().interrupted = true;
    if let Some(end) = guest.begin(options)? {
        return Ok(end);
    }
    let mut left_at = monotonic_ns();
    let mut quiet_since = left_at;
    loop {
        if guest.core().stop.is_stopped() {
            guest.ended_after(left_at - quiet_since);
            return Ok(RunEnd::Stopped);
        }
        if let Some(end) = guest.begin_entry()? {
            return Ok(end);
        }
        let core = guest.core_mut();
        let entered = monotonic_ns();
        core.stats.time.monitor_ns += entered - left_at;
        let exit = core.vcpu.run(signals);
        left_at = monotonic_ns();
        core.stats.time.guest_ns += left_at - entered;
        guest.end_entry()?;
        let before = guest.core().exits;
        if exit == Exit::Signal && guest.core().stop.time_left() == Some(Duration::ZERO) {
            guest.ended_after(left_at - quiet_since);
            return Ok(RunEnd::Deadline);
        }
        let kicked = exit == Exit::Signal;
        match guest.answer(exit, options, signals) {
            Ok(None) => {}
            Ok(Some(end)) => {
                guest.core_mut().interrupted = kicked;
                return Ok(end);
            }
            Err(RunError::Fault(FaultError::NoProgress { exit, .. })) => {
                return Err(guest.crash("KVM_RUN fails although all memory is present", Exit::Other(exit)));
            }
            Err(e) => return Err(e),
        }
        if guest.core().exits != before {
            quiet_since = left_at;
            maybe_evict(guest)?;
        }
        if (kicked || guest.core().exits != before)
            && let Some(end) = guest.between_exits(options)?
        {
            return Ok(end);
        }
    }
}

/// Counted in compared exits: faults do not count, or the pages that a loop needs might never be
/// there together.
fn maybe_evict(guest: &mut impl Guest) -> Result<(), RunError> {
    let core = guest.core_mut();
    let exits = core.exits;
    let due = core.evict.as_ref().is_some_and(|(evict, _)| exits.is_multiple_of(evict.every.max(1)));
    if due && let Some((evict, mut random)) = core.evict.take() {
        core.vcpu.settle();
        let evicted = guest.evict(&mut |_| random.below(2) == 0);
        let core = guest.core_mut();
        core.evict = Some((evict, random));
        core.stats.evicted += evicted?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_stand_for_ends() {
        for end in
            [End::Exited(0), End::Exited(255), End::Signalled(9), End::Reset, End::TripleFault, End::Halted]
        {
            assert_eq!(End::of_status(end.status()), end);
        }
    }
}
