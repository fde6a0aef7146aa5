//! To where the program is about to make an exit.

use super::back::cause;
use super::place::Place;
use super::{Position, Timeline, TimelineError};

impl Timeline {
    /// Goes to where the program is before what makes an exit; by single steps where no breakpoint leads there.
    pub(super) fn go_before(&mut self, exit: u64) -> Result<(), TimelineError> {
        let place = self.place_of_making(exit)?;
        // Else it was not come by.
        if place.position().is_none_or(|position| position != Position::behind(position.exit)) {
            match self.go(&place) {
                Err(TimelineError::NoSuchPosition { .. }) => {}
                went => return went,
            }
        }
        self.go(&Position::behind(exit - 1).into())?;
        let place = self.end_of_stretch(exit)?;
        self.go(&place)
    }

    /// Where the program is before what made an exit: of a call that waited, before that was made.
    pub(super) fn place_of_making(&mut self, exit: u64) -> Result<Place, TimelineError> {
        let start = self.start().exit;
        let recorded = if exit > start { self.recorded_exit(exit)? } else { None };
        let Some(recorded) = recorded else {
            return Err(self.no_such_position(Position::behind(exit)));
        };
        self.go(&Position::behind(exit - 1).into())?;
        let program = self.machine().program();
        let task = program.and_then(|program| program.kernel.task.of(recorded.task));
        match (task.is_some_and(|task| task.parked.is_some()), cause(&recorded)) {
            (true, Some(address)) => {
                let process = self.process_of(recorded.task);
                let own = self.exit_of_before(recorded.task, exit)?;
                self.go(&Position::behind(own).into())?;
                self.last_reached_by(&recorded, process, address)
            }
            _ => self.place_before(exit),
        }
    }

    /// The last exit of a task before this one, or where the recording starts.
    fn exit_of_before(&self, task: u32, exit: u64) -> Result<u64, TimelineError> {
        /// Exits that are looked at first; each time twice as many.
        const SPAN: u64 = 256;
        let start = self.start().exit;
        let (mut end, mut span) = (exit, SPAN);
        while end > start + 1 {
            let first = end.saturating_sub(span).max(start + 1);
            let mut last = None;
            for found in self.recording.exits_from(first) {
                let found = found?;
                if found.number >= end {
                    break;
                }
                if found.number >= first && found.task == task {
                    last = Some(found.number);
                }
            }
            match last {
                Some(last) => return Ok(last),
                None => (end, span) = (first, span.saturating_mul(2)),
            }
        }
        Ok(start)
    }
}
