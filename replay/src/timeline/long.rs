//! Stretches in which the program makes no exit for long: there, branches are counted.
//!
//! A program is replayed at full speed, without counting anything, as most stretches between two exits are short, and
//! most that are not are only passed. One that turns out to be long where it matters is gone through again from its
//! beginning, and counted: then there are positions in it, and checkpoints, and to go back a step is to go on from the last
//! branch before. It matters when a position within is asked for that is not some steps from the exit, when there is
//! a search backwards, where conditions are computed often, and where somebody may interrupt a run.

use std::time::Duration;

use super::place::Place;
use super::runner::{Ran, Reach};
use super::ways::Came;
use super::{Position, Stops, Timeline, TimelineError};

/// Steps from a branch to the next that are made at most, to find out where a place is.
pub(super) const MOST_STEPS: u64 = 1 << 20;
/// Steps from an exit that are made to count them, before the stretch is taken for a long one.
pub(super) const FEW_STEPS: u64 = 4000;
/// Time after which a stretch is long where it is searched backwards, or for a condition.
const SEARCHED: Duration = Duration::from_millis(100);

impl Timeline {
    /// Whether branches are counted where this is.
    pub(super) fn is_long(&self) -> bool {
        self.is_long_behind(self.place.base.exit)
    }

    /// Whether they are in the stretch behind an exit.
    pub(super) fn is_long_behind(&self, exit: u64) -> bool {
        self.options.patience.is_zero() || self.long.contains(&exit)
    }

    /// The first long stretch behind this exit begins behind that one.
    pub(super) fn next_long(&self, exit: u64) -> Option<u64> {
        self.long.range(exit.saturating_add(1)..).next().copied()
    }

    /// The stretch behind an exit is long. Checkpoints within it are given up, as they are by steps.
    pub(super) fn note_long(&mut self, exit: u64) {
        if self.long.insert(exit) {
            self.checkpoints.drop_within(exit);
            self.kept = None;
        }
    }

    /// A run waits no longer before it counts.
    pub(crate) fn limit_patience(&mut self, most: Duration) {
        self.options.patience = self.options.patience.min(most);
    }

    /// Stretches that take so long from here on are long.
    pub(super) fn wait(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Those are in which there is a search.
    pub(super) fn wait_searching(&mut self) {
        self.patience = self.options.patience.min(SEARCHED);
    }

    /// How far the machine runs before it is looked where it is, and up to this branch.
    pub(super) fn reach(&mut self, most: u64, reach: Reach) -> Result<Reach, TimelineError> {
        let counts = self.is_long();
        if !counts {
            self.runner.log_nothing()?;
        }
        self.runner.count(counts);
        let branches = match self.runner.branches() {
            (Some(done), _) if counts => Some(done.saturating_add(self.options.stride).min(most)),
            _ => None,
        };
        let patience = (!counts && self.patience < Duration::MAX).then_some(self.patience);
        Ok(Reach { branches, patience, ..reach })
    }

    /// The machine is right behind a branch that was counted.
    pub(super) fn branched(&mut self) {
        if let (Some(branches), steps) = self.runner.branches() {
            self.place = Position { branches, steps, ..Position::behind(self.place.base.exit) }.into();
        }
    }

    /// Goes on from a position in a long stretch to behind a branch.
    pub(super) fn go_to_branch(&mut self, wanted: Position) -> Result<(), TimelineError> {
        let none = Stops::default();
        while self.place.base.branches < wanted.branches {
            self.runner.want(&none)?;
            let reach = self.reach(wanted.branches, Reach::default())?;
            match self.run_machine(reach)? {
                Ran::Halted(_) if self.runner.exits() == wanted.exit => self.branched(),
                _ => {
                    self.spoilt = true;
                    return Err(self.no_such_position(wanted));
                }
            }
            self.checkpoint_if_due()?;
        }
        Ok(())
    }

    /// The position of this place in a long stretch, which is found by how the program is here. None where that cannot be
    /// told.
    pub(super) fn find_position(&mut self) -> Result<Option<Position>, TimelineError> {
        let here = self.place.clone();
        // However it was come here, branches were perhaps not counted.
        if self.runner.branches().0.is_none() || self.spoilt {
            self.spoilt = true;
            self.kept = None;
            self.go(&here)?;
        }
        let (Some(branches), _) = self.runner.branches() else { return Ok(None) };
        let seen = self.seen();
        self.go(&Position { branches, ..Position::behind(here.base.exit) }.into())?;
        for _ in 0..MOST_STEPS {
            if self.seen() == seen && !self.is_behind_exit() {
                return Ok(self.place.position());
            }
            if self.step_over(&Stops::default())? != Came::Stepped || self.place.base.branches != branches {
                break;
            }
        }
        self.go(&here)?;
        Ok(None)
    }

    /// The last step before the exit that ends a long stretch, from behind the one before. None where that cannot be told.
    pub(super) fn last_step_of_stretch(&mut self, exit: u64) -> Result<Option<Place>, TimelineError> {
        let from = self.place.base;
        if self.next(exit, &Stops::default(), None)? != Came::Exit {
            self.spoilt = true;
        }
        let Some(branches) = self.runner.branches_before_exit().filter(|_| from.branches == 0) else {
            self.go(&from.into())?;
            return Ok(None);
        };
        self.go(&Position { branches, ..Position::behind(from.exit) }.into())?;
        self.last_step_before(exit, u64::MAX)
    }

    /// Where the program is one step before the first moment behind a branch.
    pub(super) fn before_branch(&mut self, position: Position) -> Result<Place, TimelineError> {
        let from = Position { branches: position.branches - 1, steps: 0, ..position };
        self.go(&from.into())?;
        loop {
            let before = self.place.clone();
            if self.step_over(&Stops::default())? != Came::Stepped {
                return Err(self.no_such_position(position));
            }
            if self.place.base.branches >= position.branches {
                return Ok(before);
            }
        }
    }
}
