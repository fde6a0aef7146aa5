//! The machine as it was at a place to which there is no position: to come back there without running there again.

use std::time::{Duration, Instant};

use dejavm_sandbox::guest::Checkpoint;

use super::place::{Hop, Place};
use super::runner::Runner;
use super::{Position, Timeline, TimelineError};

/// A machine that is kept at a place.
pub(super) struct Kept {
    place: Place,
    /// Steps that the machine had made since the last exit, and branches, and steps since the last of these, as far as
    /// they were counted.
    steps: u64,
    branches: (Option<u64>, u64),
    checkpoint: Checkpoint,
}

/// A place to come back to. It costs nothing until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark(Place);

impl Timeline {
    /// This place.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.place.clone())
    }

    /// Goes back to a place.
    ///
    /// # Errors
    /// Those of moving. After [`TimelineError::Interrupted`] the position is what it was.
    pub(crate) fn return_to(&mut self, mark: &Mark) -> Result<(), TimelineError> {
        self.wait(Duration::MAX);
        let here = self.place.clone();
        let went = self.go(&mark.0);
        if matches!(went, Err(TimelineError::Interrupted)) {
            (self.place, self.spoilt) = (here, true);
        }
        went
    }

    /// Keeps the machine as it is here, if it takes long to come here again: checkpoints have positions.
    pub(super) fn keep_if_far(&mut self) -> Result<(), TimelineError> {
        let is_kept = self.kept.as_ref().is_some_and(|kept| kept.place == self.place);
        let far = self.checkpointed.elapsed() >= self.options.every;
        if far && !is_kept && !self.spoilt && !self.is_before_first_exit() && self.place.position().is_none()
        {
            let (place, steps, branches) = (self.place.clone(), self.runner.steps(), self.runner.branches());
            self.kept =
                Some(Kept { place, steps, branches, checkpoint: self.runner.machine_mut().checkpoint()? });
            self.checkpointed = Instant::now();
        }
        Ok(())
    }

    /// Goes to where the machine is kept, if that is on the way to a place. What leads on from there.
    pub(super) fn go_to_kept(&mut self, place: &Place) -> Result<Option<Vec<Hop>>, TimelineError> {
        let Some(kept) = &self.kept else { return Ok(None) };
        let Some(rest) = place.beyond(&kept.place) else { return Ok(None) };
        // As if it had made them, and was about to make the next.
        let at = Position::stepped(kept.place.base.exit, kept.steps.saturating_add(1));
        let (recording, options) = (&self.recording, &self.options.machine);
        self.runner = Runner::start(&kept.checkpoint, at, recording, &self.host, options, &self.stop)?;
        self.runner.set_branches(kept.branches);
        (self.place, self.spoilt) = (kept.place.clone(), false);
        self.checkpointed = Instant::now();
        Ok(Some(rest))
    }
}
