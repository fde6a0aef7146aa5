//! Putting a sandbox back to a moment of its run.

use dejavm_sandbox::program::machine;

use crate::{Error, Sandbox};

/// A moment of a program's run that its sandbox is put back to, any number of times: [`Sandbox::reset_point`].
#[derive(Debug)]
pub struct ResetPoint(machine::ResetPoint);

impl ResetPoint {
    /// Compared exits since the program's start.
    pub fn exits(&self) -> u64 {
        self.0.state().exits
    }

    /// Pages that are copied back at each reset: those that were found written at an earlier one.
    pub fn hot_pages(&self) -> usize {
        self.0.hot_pages()
    }
}

impl Sandbox {
    /// Marks this moment, to which [`Sandbox::reset_to`] puts the sandbox back: memory, tasks, descriptors, files, the
    /// clock and the random stream, all that the program has. Nothing changes for the program. An earlier mark is over,
    /// and what it was for must not be used any more.
    ///
    /// What lies outside is not put back: what was written to standard output stays written, and standard input goes on
    /// where it is. An [`InputBuffer`](crate::InputBuffer) is given other bytes for each run.
    ///
    /// # Errors
    /// [`Error::NoReset`] of a bare-metal guest, and of a run that is recorded or replayed; [`Error::Run`];
    /// [`Error::Unusable`].
    pub fn reset_point(&mut self) -> Result<ResetPoint, Error> {
        self.check()?;
        let why = match (self.machine().program().is_some(), self.is_logged()) {
            (false, _) => "a bare-metal guest has no reset yet",
            (_, true) => "a recording goes forwards only",
            _ if self.has_ended() => "the program has ended",
            _ => return self.machine_mut().reset_point().map(ResetPoint).map_err(|e| self.fail(e)),
        };
        Err(Error::NoReset { why })
    }

    /// Puts the sandbox back to the moment that was marked last, also when the program has ended since, or was stopped,
    /// or came to its deadline. Costs as much as was changed.
    ///
    /// # Errors
    /// [`Error::Run`]; [`Error::Unusable`] from then on.
    pub fn reset_to(&mut self, point: &mut ResetPoint) -> Result<(), Error> {
        self.check()?;
        self.machine_mut().reset_to(&mut point.0).map_err(|e| self.fail(e))
    }

    /// Looks whether everything is what it was, just after [`Sandbox::reset_to`]: memory, state, and page tables. It
    /// takes much longer than the reset, and finds mistakes of this library's alone.
    ///
    /// # Errors
    /// [`Error::ResetDiffers`] with the first difference; [`Error::Run`].
    pub fn verify_reset(&mut self, point: &ResetPoint) -> Result<(), Error> {
        self.check()?;
        let Some(program) = self.machine_mut().program_mut() else { return Ok(()) };
        match program.difference_from(&point.0) {
            Ok(None) => Ok(()),
            Ok(Some(difference)) => Err(Error::ResetDiffers(difference)),
            Err(e) => Err(self.fail(e)),
        }
    }
}
