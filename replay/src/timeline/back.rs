//! Moves backwards: forwards from earlier, to just before.

use dejavm_sandbox::exit::{Exit, ExitKind};
use dejavm_sandbox::vcpu::registers::UserRegisters;

use super::long::FEW_STEPS;
use super::place::{Hop, Place};
use super::ways::Came;
use super::{Position, Stop, Stops, Timeline, TimelineError};

/// Bytes of `syscall`.
const SYSCALL_BYTES: u64 = 2;

/// Branches of a long stretch, or exits, that are gone through first on the way back, and by how much more each time.
pub(super) const FIRST_WINDOW: u64 = 1024;
pub(super) const WIDER: u64 = 8;

/// The address of the instruction that made an exit, if it was made by one.
pub(super) fn cause(exit: &Exit) -> Option<u64> {
    match exit.kind {
        ExitKind::Syscall { .. } => Some(exit.rip.wrapping_sub(SYSCALL_BYTES)),
        ExitKind::Instruction(_) | ExitKind::Exception { .. } => Some(exit.rip),
        _ => None,
    }
}

impl Timeline {
    /// One step back: to before the last instruction, or, behind an exit, to before what caused it.
    ///
    /// # Errors
    /// Those of moving. After [`TimelineError::Interrupted`] the position is what it was.
    pub fn reverse_step(&mut self) -> Result<Stop, TimelineError> {
        if self.is_at_start() {
            return Ok(Stop::Start);
        }
        self.keep_if_far()?;
        self.wait_searching();
        let here = self.place.clone();
        let stepped = self.step_back();
        if matches!(stepped, Err(TimelineError::Interrupted)) {
            (self.place, self.spoilt) = (here, true);
        }
        stepped
    }

    fn step_back(&mut self) -> Result<Stop, TimelineError> {
        let before = self.seen();
        let here = match self.place.hops.last() {
            // Its count is no matter.
            Some(Hop::Steps(_)) => None,
            _ => Some(self.position()?),
        };
        let place = match here {
            None => self.place.one_step_less(),
            Some(here) => self.one_before(here)?,
        };
        self.go(&place)?;
        if self.is_behind_exit() && self.seen() == before && !self.is_at_start() {
            let place = self.place_before(self.place.base.exit)?;
            self.go(&place)?;
        }
        Ok(Stop::Arrived)
    }

    /// Runs back until a breakpoint is reached, to the last time before now that its instruction was about to
    /// run; or something that is watched, to before what used it last. That is the same for a use right behind which the
    /// run stopped on its way forwards.
    ///
    /// # Errors
    /// Those of moving. After one the position is what it was.
    pub fn reverse_run(&mut self, stops: &Stops) -> Result<Stop, TimelineError> {
        let of_others = |hop: &Hop| match hop {
            Hop::Steps(_) => false,
            Hop::Reach { process, .. } => *process != stops.process,
            Hop::Trap { process, addresses, accesses, .. } => {
                *process != stops.process || **addresses != *stops.writes || **accesses != *stops.accesses
            }
        };
        if self.place.hops.iter().any(of_others) {
            // It cannot be counted while something else is looked for.
            self.position()?;
        }
        self.keep_if_far()?;
        self.wait_searching();
        let here = self.place.clone();
        self.search_back(&here, stops).inspect_err(|_| (self.place, self.spoilt) = (here, true))
    }

    fn search_back(&mut self, here: &Place, stops: &Stops) -> Result<Stop, TimelineError> {
        let call = self.last_call(stops)?;
        let bound = call.as_ref().map(|call| call.behind);
        let mut until = here.clone();
        let mut window = FIRST_WINDOW;
        loop {
            until = self.unwritten_since(&until, stops)?;
            let mut from = match until.hops.is_empty() {
                true => self.checkpoints.before(until.base),
                false => self.checkpoints.at(until.base).map(|(at, _)| at),
            };
            if self.is_long_behind(until.base.exit) {
                // What comes often was here a moment ago, and each time takes some ten microseconds.
                let branches = match until.hops.is_empty() {
                    true => until.base.branches.saturating_sub(window),
                    false => until.base.branches,
                };
                let near = Position { branches, ..Position::behind(until.base.exit) };
                from = from.max(Some(near).filter(|near| near.branches > 0 && Place::from(*near) != until));
                window = window.saturating_mul(WIDER);
            }
            let Some(from) = from.max(bound) else {
                self.go(&self.start().into())?;
                return Ok(Stop::Start);
            };
            let reached = match until == from.into() {
                true => None,
                false => self.last_reached(from, &until, stops)?,
            };
            if let Some((place, stop)) = reached {
                let place = match stop {
                    Stop::Written(_) | Stop::Accessed(_) => self.before_write(&place)?,
                    _ => place,
                };
                self.go(&place)?;
                return Ok(stop);
            }
            if let Some(call) = call.as_ref().filter(|call| from <= call.behind) {
                self.go(&call.place)?;
                return Ok(call.stop.clone());
            }
            until = from.into();
        }
    }

    /// The last time from a checkpoint on, and before a place, that one of these was met.
    fn last_reached(
        &mut self,
        from: Position,
        until: &Place,
        stops: &Stops,
    ) -> Result<Option<(Place, Stop)>, TimelineError> {
        let mut last = None;
        self.go(&from.into())?;
        if self.stands_at(stops)? && !self.is_behind_exit() {
            last = Some((self.place.clone(), Stop::Breakpoint(self.rip())));
        }
        if let Some(signal) = self.signal_here(stops)? {
            last = Some((self.place.clone(), Stop::Signal(signal)));
        }
        while self.place.base.exit < until.base.exit {
            match self.next(until.base.exit, stops, None)? {
                Came::Watched(Stop::Signal(_)) if self.place == *until => {}
                Came::Breakpoint(address) => last = Some((self.place.clone(), Stop::Breakpoint(address))),
                Came::Watched(stop) => last = Some((self.place.clone(), stop)),
                Came::Exit => {
                    // What the exit wrote is there already.
                    if let Some(addresses) = self.runner.changed() {
                        let place = Position { steps: 1, ..self.place.base }.into();
                        last = Some((place, Stop::Written(addresses)));
                    }
                }
                Came::Stepped | Came::Branched | Came::Trapped | Came::Ended => {
                    return Err(self.no_such_position(until.base));
                }
            }
        }
        while self.place.base.branches < until.base.branches {
            match self.next_before(until.base.exit + 1, until.base.branches, stops, None)? {
                Came::Breakpoint(address) => last = Some((self.place.clone(), Stop::Breakpoint(address))),
                Came::Watched(stop) => last = Some((self.place.clone(), stop)),
                // It may have gone to a breakpoint, before which the run stops no more.
                Came::Branched if *until != self.place && self.stands_at(stops)? => {
                    last = Some((self.place.clone(), Stop::Breakpoint(self.rip())));
                }
                Came::Branched => {}
                _ => return Err(self.no_such_position(until.base)),
            }
        }
        let steps = until.base.steps.saturating_sub(self.place.base.steps);
        let hops = [Hop::Steps(steps)].into_iter().chain(until.hops.iter().cloned());
        let mut hops = hops.peekable();
        while let Some(hop) = hops.next() {
            let is_last = hops.peek().is_none();
            self.look_along(&hop, is_last, until, stops, &mut last)?;
        }
        Ok(last)
    }

    /// Goes along a hop to a place, the last or another, and notes what it meets of stops before that place.
    fn look_along(
        &mut self,
        hop: &Hop,
        is_last: bool,
        until: &Place,
        stops: &Stops,
        last: &mut Option<(Place, Stop)>,
    ) -> Result<(), TimelineError> {
        let mut all = stops.clone();
        if let Hop::Reach { address, conditions, .. } = hop {
            all.add(*address, conditions);
        }
        let reached = hop.stops();
        let mut left = hop.count();
        while left > 0 {
            let traps = self.traps;
            let came = match hop {
                Hop::Steps(_) => self.step_over(&all)?,
                Hop::Reach { .. } => self.next(until.base.exit + 1, &all, None)?,
                Hop::Trap { .. } => self.next(until.base.exit + 1, &all, Some(left))?,
            };
            left -= match (hop, &came) {
                (Hop::Steps(_), Came::Stepped | Came::Breakpoint(_) | Came::Watched(_)) => 1,
                // What is watched may be used by the instruction before.
                (Hop::Reach { .. }, Came::Breakpoint(_) | Came::Watched(_)) => {
                    u64::from(self.stands_at(&reached)?)
                }
                (Hop::Trap { .. }, Came::Trapped | Came::Breakpoint(_) | Came::Watched(_)) => {
                    self.traps - traps
                }
                _ => return Err(self.no_such_position(until.base)),
            };
            match came {
                Came::Watched(stop) => *last = Some((self.place.clone(), stop)),
                _ if is_last && left == 0 => break,
                _ if self.stands_at(stops)? => {
                    *last = Some((self.place.clone(), Stop::Breakpoint(self.rip())));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where the program is before what made an exit, or behind the exit before, where a call waited until then.
    pub(super) fn place_before(&mut self, exit: u64) -> Result<Place, TimelineError> {
        let from = Position::behind(exit - 1);
        let recorded = self.recorded_exit(exit)?;
        let cause = recorded.as_ref().and_then(cause);
        self.go(&from.into())?;
        self.checkpoint_if_far()?;
        match (recorded, cause) {
            (Some(recorded), Some(address)) => {
                let process = self.process_of(recorded.task);
                self.last_reached_by(&recorded, process, address)
            }
            _ => self.end_of_stretch(exit),
        }
    }

    /// The last step before an exit, from behind the one before.
    pub(super) fn end_of_stretch(&mut self, exit: u64) -> Result<Place, TimelineError> {
        let from = self.place.base;
        if !self.is_long() {
            if let Some(place) = self.last_step_before(exit, FEW_STEPS)? {
                return Ok(place);
            }
            self.note_long(from.exit);
            self.go(&from.into())?;
        }
        match self.last_step_of_stretch(exit)? {
            Some(place) => Ok(place),
            None => Ok(self.last_step_before(exit, u64::MAX)?.unwrap_or(from.into())),
        }
    }

    pub(super) fn process_of(&self, task: u32) -> Option<u32> {
        Some(self.machine().program()?.kernel.task.of(task)?.process)
    }

    /// The last time from here on, and before an exit, that its task, of this process, was about to run the
    /// instruction at an address; where it is not, here. At full speed.
    pub(super) fn last_reached_by(
        &mut self,
        exit: &Exit,
        process: Option<u32>,
        address: u64,
    ) -> Result<Place, TimelineError> {
        let mut last = self.place.clone();
        let Some(process) = process else { return Ok(last) };
        let stops = Stops { process, ..Stops::at([address]) };
        loop {
            match self.next(exit.number, &stops, None)? {
                Came::Breakpoint(_) if self.seen().0 == exit.task => last = self.place.clone(),
                Came::Exit | Came::Ended => return Ok(last),
                Came::Breakpoint(_) | Came::Stepped | Came::Branched | Came::Trapped | Came::Watched(_) => {}
            }
        }
    }

    /// Where the program is before what changed something that is watched, which is known behind that.
    fn before_write(&mut self, place: &Place) -> Result<Place, TimelineError> {
        match place.hops.last() {
            Some(Hop::Steps(_)) => Ok(place.one_step_less()),
            Some(_) => Ok(place.clone()),
            // What an exit wrote is seen on the way back from it.
            None if place.base.branches == 0 && place.base.steps <= 1 => self.place_before(place.base.exit),
            None => self.one_before(place.base),
        }
    }

    /// Where the program is one step before a position.
    fn one_before(&mut self, position: Position) -> Result<Place, TimelineError> {
        match position {
            Position { steps: 1.., .. } => Ok(Position { steps: position.steps - 1, ..position }.into()),
            Position { branches: 1.., .. } => self.before_branch(position),
            Position { exit, .. } => self.place_before(exit),
        }
    }

    /// The last step before an exit, from here, if it is not more than so many steps to there.
    pub(super) fn last_step_before(&mut self, exit: u64, most: u64) -> Result<Option<Place>, TimelineError> {
        for _ in 0..most {
            let before = self.place.clone();
            self.checkpoint_if_due()?;
            if self.step_over(&Stops::default())? != Came::Stepped || self.place.base.exit >= exit {
                return Ok(Some(before));
            }
        }
        Ok(None)
    }

    pub(super) fn recorded_exit(&self, exit: u64) -> Result<Option<Exit>, TimelineError> {
        Ok(self.recording.exits_from(exit).next().transpose()?.filter(|found| found.number == exit))
    }

    /// What tells two moments of a program apart for whoever looks at one task.
    pub(super) fn seen(&self) -> (u32, UserRegisters) {
        let task = self.machine().program().map_or(0, |program| program.kernel.tid());
        (task, self.registers())
    }
}
