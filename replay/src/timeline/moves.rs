//! Moves forwards, and to a position.

use dejavm_sandbox::exit::ExitKind;

use super::place::{Hop, Place};
use super::ways::{Came, STEPS};
use super::{Moment, Position, Stop, Stops, Timeline, TimelineError};

impl Timeline {
    /// The position. Where the program ran to a breakpoint at full speed, steps from the last exit on are
    /// counted now: they cost some 40 microseconds each, once.
    ///
    /// # Errors
    /// Those of moving. After [`TimelineError::Interrupted`] the position is what it was.
    pub fn position(&mut self) -> Result<Position, TimelineError> {
        if let Some(position) = self.place.position() {
            return Ok(position);
        }
        self.keep_if_far()?;
        let here = self.place.clone();
        if self.is_long() {
            let found =
                self.find_position().inspect_err(|_| (self.place, self.spoilt) = (here.clone(), true))?;
            if let Some(position) = found {
                return Ok(position);
            }
        }
        self.count(here.clone()).inspect_err(|_| (self.place, self.spoilt) = (here, true))
    }

    /// Goes to a place by counted steps.
    fn count(&mut self, place: Place) -> Result<Position, TimelineError> {
        let Place { base, hops } = place;
        self.go(&base.into())?;
        for hop in hops {
            let mut left = hop.count();
            let stops = hop.stops();
            while left > 0 {
                let traps = self.traps;
                let trap = matches!(hop, Hop::Trap { .. }).then_some(left);
                let steps = if matches!(hop, Hop::Steps(_)) { 1 } else { STEPS };
                let came = self.steps(steps, &stops, trap)?;
                self.checkpoint_if_due()?;
                left -= match (&hop, came) {
                    (Hop::Reach { .. }, Came::Breakpoint(_)) | (Hop::Steps(_), Came::Stepped) => 1,
                    (Hop::Trap { .. }, Came::Trapped | Came::Stepped | Came::Watched(_)) => {
                        self.traps - traps
                    }
                    (Hop::Reach { .. }, Came::Stepped) => 0,
                    _ => return Err(self.no_such_position(self.place.base)),
                };
            }
        }
        Ok(self.place.base)
    }

    /// Goes to a position, or to before an exit.
    ///
    /// # Errors
    /// [`TimelineError::NoSuchPosition`] where the recording has none such, and
    /// [`TimelineError::Interrupted`]; the position is then what it was.
    pub fn seek(&mut self, moment: impl Into<Moment>) -> Result<(), TimelineError> {
        let wanted = moment.into();
        self.keep_if_far()?;
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
        let end = self.end_place()?;
        self.go(&end)
    }

    pub(super) fn end_place(&mut self) -> Result<Place, TimelineError> {
        if let Some(end) = &self.end {
            return Ok(end.clone());
        }
        let here = self.place.clone();
        let start = self.start().exit;
        let last = self.recording.exit_range().map_or(start, |(_, last)| last);
        let ended = self.recorded_exit(last)?.is_some_and(|exit| matches!(exit.kind, ExitKind::End { .. }));
        // The exit before the end leaves the program there, or it does not.
        let exit = last - u64::from(ended && last > start);
        let end = match self.go(&Position::behind(exit).into()) {
            Ok(()) => self.place.clone(),
            Err(TimelineError::NoSuchPosition { .. }) if exit > start => self.place_before(exit)?,
            Err(e) => return Err(e),
        };
        self.end = Some(end.clone());
        self.go(&here)?;
        Ok(end)
    }

    /// Runs on until a breakpoint is reached.
    ///
    /// # Errors
    /// Those of moving. After [`TimelineError::Interrupted`] the timeline is behind the last exit.
    pub fn run(&mut self, stops: &Stops) -> Result<Stop, TimelineError> {
        match self.next(u64::MAX, stops, None)? {
            Came::Breakpoint(address) => Ok(Stop::Breakpoint(address)),
            Came::Watched(stop) => Ok(stop),
            _ => {
                self.seek_end()?;
                Ok(Stop::End)
            }
        }
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
