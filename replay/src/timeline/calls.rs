//! Stops at system calls: which come next, or came last, the recording says.

use std::collections::HashMap;

use dejavm_sandbox::exit::{Exit, ExitKind};
use dejavm_sandbox::program::machine::Calls;
use dejavm_sandbox::program::syscall::number;

use super::back::{FIRST_WINDOW, WIDER, cause};
use super::place::Place;
use super::ways::Came;
use super::{Position, Stop, Stops, Timeline, TimelineError};

/// The number of the system call that an exit is, if it is one of these.
fn caught(exit: &Exit, calls: &Calls) -> Option<u64> {
    match exit.kind {
        ExitKind::Syscall { number, .. } if calls.has(number) => Some(number),
        _ => None,
    }
}

/// Whether a system call comes back.
fn returns(number: u64) -> bool {
    !matches!(number, number::EXIT | number::EXIT_GROUP)
}

/// The last system call that a run was stopped for.
pub(super) struct LastCall {
    /// Where that was.
    pub place: Place,
    pub stop: Stop,
    /// Behind its exit.
    pub behind: Position,
}

impl Timeline {
    /// Runs on to the next stop, which may be a system call.
    pub(super) fn next_stop(&mut self, stops: &Stops) -> Result<Came, TimelineError> {
        if stops.calls == Calls::None {
            return self.next(u64::MAX, stops, None);
        }
        loop {
            let next = self.next_call(self.place.base.exit, &stops.calls)?;
            let Some((exit, number)) = next else { return self.next(u64::MAX, stops, None) };
            if self.place.base.exit + 1 < exit.number {
                match self.next(exit.number - 1, stops, None)? {
                    Came::Exit => {}
                    other => return Ok(other),
                }
            }
            let of_process = self.process_of(exit.task) == Some(stops.process);
            let mut until_there = stops.clone();
            let call = cause(&exit).filter(|_| of_process && !self.is_about_to(&exit));
            until_there.breakpoints.extend(call);
            loop {
                match self.next(exit.number, &until_there, None)? {
                    Came::Exit if of_process && returns(number) => {
                        return Ok(Came::Watched(Stop::Returned(number)));
                    }
                    Came::Exit => break,
                    Came::Breakpoint(at) if !self.stands_at(stops)? => {
                        if Some(at) == call && self.is_about_to(&exit) {
                            return Ok(Came::Watched(Stop::Called(number)));
                        }
                    }
                    other => return Ok(other),
                }
            }
        }
    }

    /// The first of these calls behind an exit.
    fn next_call(&self, exit: u64, calls: &Calls) -> Result<Option<(Exit, u64)>, TimelineError> {
        for found in self.recording.exits_from(exit + 1) {
            let found = found?;
            if self.last.is_some_and(|last| found.number > last) {
                return Ok(None);
            }
            if let Some(number) = caught(&found, calls) {
                return Ok(Some((found, number)));
            }
        }
        Ok(None)
    }

    /// Whether the call that an exit is is about to be made.
    fn is_about_to(&self, exit: &Exit) -> bool {
        let (task, registers) = self.seen();
        self.place.base.exit + 1 == exit.number
            && task == exit.task
            && cause(exit) == Some(registers.general.rip)
            && !self.is_behind_exit()
    }

    /// The last place before this one at which the run stops for a call.
    pub(super) fn last_call(&mut self, stops: &Stops) -> Result<Option<LastCall>, TimelineError> {
        let here = self.place.clone();
        let mut last = here.base.exit;
        let mut processes = HashMap::new();
        while let Some((exit, number)) = self.call_before(last, &stops.calls)? {
            let behind = Position::behind(exit.number);
            last = exit.number - 1;
            let process = match processes.get(&exit.task) {
                Some(process) => *process,
                None => self.process_then(&exit)?,
            };
            processes.insert(exit.task, process);
            if process != Some(stops.process) {
                continue;
            }
            if here != behind.into() && returns(number) {
                return Ok(Some(LastCall { place: behind.into(), stop: Stop::Returned(number), behind }));
            }
            let place = self.place_before(exit.number)?;
            self.go(&place)?;
            let called = self.is_about_to(&exit);
            self.go(&here)?;
            if called {
                return Ok(Some(LastCall { place, stop: Stop::Called(number), behind }));
            }
        }
        Ok(None)
    }

    /// The process of the task that made an exit, which may have ended by it or since.
    fn process_then(&mut self, exit: &Exit) -> Result<Option<u32>, TimelineError> {
        if let Some(process) = self.process_of(exit.task) {
            return Ok(Some(process));
        }
        let here = self.place.clone();
        self.go(&Position::behind(exit.number - 1).into())?;
        let process = self.process_of(exit.task);
        self.go(&here)?;
        Ok(process)
    }

    /// The last of these calls up to an exit.
    fn call_before(&self, exit: u64, calls: &Calls) -> Result<Option<(Exit, u64)>, TimelineError> {
        let first = self.start().exit + 1;
        let (mut end, mut window) = (exit, FIRST_WINDOW);
        while end >= first && *calls != Calls::None {
            let begin = end.saturating_sub(window).max(first);
            let mut last = None;
            for found in self.recording.exits_from(begin) {
                let found = found?;
                if found.number > end {
                    break;
                }
                last = caught(&found, calls).map(|number| (found, number)).or(last);
            }
            if last.is_some() || begin == first {
                return Ok(last);
            }
            (end, window) = (begin - 1, window.saturating_mul(WIDER));
        }
        Ok(None)
    }
}
