//! Moves forwards, and to a position.

use std::time::Duration;

use dejavm_sandbox::exit::{Exit, ExitKind};
use dejavm_sandbox::program::machine::Calls;
use dejavm_sandbox::program::syscall::number;

use super::long::{FEW_STEPS, MOST_STEPS};
use super::place::{Hop, Place};
use super::ways::{Came, STEPS};
use super::{Moment, Position, Stop, Stops, Timeline, TimelineError};

/// Exits from the end that are not far from it.
const NEAR: u64 = 2;

/// Whether a task ended by this.
fn is_exit(exit: Exit) -> bool {
    matches!(exit.kind, ExitKind::Syscall { number: number::EXIT | number::EXIT_GROUP, .. })
}

impl Timeline {
    /// The position. Where the program ran to a breakpoint at full speed, steps from the last exit on are
    /// counted now, which cost some 40 microseconds each, or, where they are many, branches.
    ///
    /// # Errors
    /// Those of moving. After [`TimelineError::Interrupted`] the position is what it was.
    pub fn position(&mut self) -> Result<Position, TimelineError> {
        if let Some(position) = self.place.position() {
            return Ok(position);
        }
        self.keep_if_far()?;
        let here = self.place.clone();
        self.wait(Duration::MAX);
        self.found(&here).inspect_err(|_| (self.place, self.spoilt) = (here, true))
    }

    /// The position of this place, which has none yet.
    fn found(&mut self, here: &Place) -> Result<Position, TimelineError> {
        if !self.is_long() {
            if let Some(position) = self.count(here, FEW_STEPS)? {
                return Ok(position);
            }
            self.note_long(here.base.exit);
            (self.place, self.spoilt) = (here.clone(), true);
        }
        if let Some(position) = self.find_position()? {
            return Ok(position);
        }
        Ok(self.count(here, u64::MAX)?.unwrap_or(self.place.base))
    }

    /// Goes to a place by counted steps, if there are not more than that from its base.
    fn count(&mut self, place: &Place, most: u64) -> Result<Option<Position>, TimelineError> {
        let Place { base, hops } = place;
        self.go(&Place::from(*base))?;
        let first = self.runner.steps();
        for hop in hops {
            let mut left = hop.count();
            let stops = hop.stops();
            while left > 0 {
                let traps = self.traps;
                let trap = matches!(hop, Hop::Trap { .. }).then_some(left);
                let steps = if matches!(hop, Hop::Steps(_)) { 1 } else { STEPS };
                let came = self.steps(steps, &stops, trap)?;
                self.checkpoint_if_due()?;
                if self.runner.steps().saturating_sub(first) > most {
                    return Ok(None);
                }
                left -= match (hop, came) {
                    (Hop::Reach { .. }, Came::Breakpoint(_)) | (Hop::Steps(_), Came::Stepped) => 1,
                    (Hop::Trap { .. }, Came::Trapped | Came::Stepped | Came::Watched(_)) => {
                        self.traps - traps
                    }
                    (Hop::Reach { .. }, Came::Stepped) => 0,
                    _ => return Err(self.no_such_position(self.place.base)),
                };
            }
        }
        Ok(Some(self.place.base))
    }

    /// Goes to a position, or to before an exit.
    ///
    /// # Errors
    /// [`TimelineError::NoSuchPosition`] where the recording has none such, and
    /// [`TimelineError::Interrupted`]; the position is then what it was.
    pub fn seek(&mut self, moment: impl Into<Moment>) -> Result<(), TimelineError> {
        let wanted = moment.into();
        self.keep_if_far()?;
        self.wait(Duration::MAX);
        let before = self.place.clone();
        let went = match wanted {
            Moment::At(position) => self.go(&position.into()),
            Moment::Before(exit) => self.go_before(exit),
        };
        match went {
            Err(TimelineError::NoSuchPosition { .. }) => {
                self.go(&before)?;
                let end = self.end_place()?.base;
                Err(TimelineError::NoSuchPosition { wanted, start: self.start(), end })
            }
            Err(TimelineError::Interrupted) => {
                (self.place, self.spoilt) = (before, true);
                Err(TimelineError::Interrupted)
            }
            other => other,
        }
    }

    /// Goes to the last moment at which the program is there: behind the last exit but the end, where a signal
    /// ended it, or before the system call that did.
    ///
    /// # Errors
    /// Those of moving.
    pub fn seek_end(&mut self) -> Result<(), TimelineError> {
        self.wait(Duration::MAX);
        let end = self.find_end()?;
        self.go(&end)
    }

    /// The last place at which the program is there.
    pub(super) fn end_place(&mut self) -> Result<Place, TimelineError> {
        let here = self.place.clone();
        let end = self.find_end()?;
        self.go(&here)?;
        Ok(end)
    }

    /// The same. Where it is not known yet, the timeline is near there then.
    fn find_end(&mut self) -> Result<Place, TimelineError> {
        if let Some(end) = &self.end {
            return Ok(end.clone());
        }
        let start = self.start().exit;
        let last = self.recording.exit_range().map_or(start, |(_, last)| last);
        let ended = self.recorded_exit(last)?.is_some_and(|exit| matches!(exit.kind, ExitKind::End { .. }));
        if self.ends_stuck {
            let end = self.end_of_stuck(last)?;
            self.end = Some(end.clone());
            return Ok(end);
        }
        // The exit before the end leaves the program there, or it does not.
        let exit = last - u64::from(ended && last > start);
        let end = match self.recorded_exit(exit)?.is_some_and(is_exit) && exit > start {
            true => self.place_before(exit)?,
            false => match self.go(&Position::behind(exit).into()) {
                Ok(()) => self.place.clone(),
                Err(TimelineError::NoSuchPosition { .. }) if exit > start => self.place_before(exit)?,
                Err(e) => return Err(e),
            },
        };
        self.end = Some(end.clone());
        Ok(end)
    }

    /// The last step of a run whose tasks are stuck behind the last exit: of the one that went on for longest, before
    /// the call in which it waits. Where they go on for long, they are not known to be stuck: behind that exit.
    fn end_of_stuck(&mut self, last: u64) -> Result<Place, TimelineError> {
        let from = Position::behind(last);
        self.go(&from.into())?;
        let came = self.next(last + 1, &Stops::default(), None)?;
        let branches = self.runner.branches().0;
        self.spoilt = true;
        if came != Came::Ended {
            return Ok(from.into());
        }
        let near = Position { branches: branches.unwrap_or(0), ..from };
        self.go(&near.into())?;
        Ok(self.last_step_before(last + 1, MOST_STEPS)?.unwrap_or(from.into()))
    }

    /// Runs on until a breakpoint is reached.
    ///
    /// # Errors
    /// Those of moving. After [`TimelineError::Interrupted`] the timeline is behind the last exit.
    pub fn run(&mut self, stops: &Stops) -> Result<Stop, TimelineError> {
        match stops.conditions.is_empty() {
            true => self.wait(self.options.patience),
            false => self.wait_searching(),
        }
        let only_breakpoints =
            stops.writes.is_empty() && stops.accesses.is_empty() && stops.calls == Calls::None;
        let near = self.near_end().filter(|_| only_breakpoints);
        let mut came = Came::Exit;
        if let Some(near) = near.filter(|near| *near > self.place.base.exit) {
            came = self.next(near, stops, None)?;
            if came == Came::Exit {
                self.checkpoint_if_far()?;
            }
        }
        if came == Came::Exit {
            came = self.next_stop(stops)?;
        }
        match came {
            Came::Breakpoint(address) => Ok(Stop::Breakpoint(address)),
            Came::Watched(stop) => Ok(stop),
            _ => {
                self.seek_end()?;
                Ok(Stop::End)
            }
        }
    }

    /// An exit from which it is not far to the end, for a checkpoint: who comes there goes back a little.
    fn near_end(&self) -> Option<u64> {
        let (_, last) = self.recording.exit_range()?;
        last.checked_sub(NEAR)
    }

    /// One step forwards: to before the next instruction.
    ///
    /// # Errors
    /// Those of moving.
    pub fn step(&mut self) -> Result<Stop, TimelineError> {
        let before = self.seen();
        let fresh = self.is_behind_exit();
        let mut came = self.step_over(&Stops::default())?;
        if fresh && came == Came::Stepped && self.seen() == before {
            // The way back into the program changed nothing.
            came = self.step_over(&Stops::default())?;
        }
        if came == Came::Ended {
            self.seek_end()?;
            return Ok(Stop::End);
        }
        Ok(Stop::Arrived)
    }
}
