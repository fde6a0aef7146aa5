//! Putting a sandbox back to a moment of its run.

use dejavm_sandbox::guest::ResetPoint;
use dejavm_sandbox::machine::RunError;
use dejavm_sandbox::ram::PageError;

use crate::{Error, Sandbox};

impl Sandbox {
    /// Marks this moment, to which [`Sandbox::reset_to`] puts the sandbox back: memory, registers and devices, tasks,
    /// descriptors, files, the clock and the random stream, all that the guest has. Nothing changes for the guest. An
    /// earlier mark is over.
    ///
    /// What lies outside is not put back: what was written to standard output stays written, and standard input goes on
    /// where it is. An [`InputBuffer`](crate::InputBuffer) is given other bytes for each run.
    ///
    /// # Errors
    /// [`Error::NoReset`] of a run that is recorded or replayed, and of one that has ended; [`Error::Run`];
    /// [`Error::Unusable`].
    pub fn reset_point(&mut self) -> Result<ResetPoint, Error> {
        self.check()?;
        let why = match (self.is_logged(), self.has_ended()) {
            (true, _) => "a recording goes forwards only",
            (_, true) => "the guest has ended",
            _ => return self.machine_mut().reset_point().map_err(|e| self.fail(e)),
        };
        Err(Error::NoReset { why })
    }

    /// Puts the sandbox back to the moment that it marked last, also when the guest has ended since, or was stopped,
    /// or came to its deadline. Costs as much as was changed.
    ///
    /// # Errors
    /// [`Error::NoReset`] for a moment that was not marked last, or by another sandbox; [`Error::Run`], and
    /// [`Error::Unusable`] from then on.
    pub fn reset_to(&mut self, point: &mut ResetPoint) -> Result<(), Error> {
        self.check()?;
        self.forget_deadline();
        match self.machine_mut().reset_to(point) {
            Err(RunError::Page(PageError::NotMarked)) => {
                Err(Error::NoReset { why: "another moment was marked since, or this is another sandbox's" })
            }
            done => done.map_err(|e| self.fail(e)),
        }
    }

    /// Looks whether everything is what it was, just after [`Sandbox::reset_to`]: memory, state, and page tables. It
    /// takes much longer than the reset, and finds mistakes of this library's alone.
    ///
    /// # Errors
    /// [`Error::ResetDiffers`] with the first difference; [`Error::Run`].
    pub fn verify_reset(&mut self, point: &ResetPoint) -> Result<(), Error> {
        self.check()?;
        match self.machine_mut().difference_from(point) {
            Ok(None) => Ok(()),
            Ok(Some(difference)) => Err(Error::ResetDiffers(difference)),
            Err(e) => Err(self.fail(e)),
        }
    }
}
