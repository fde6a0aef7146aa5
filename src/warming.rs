//! Finding out what a restored guest wants, so that later restores have it at hand.

use dejavm_sandbox::guest::MachineState;
use dejavm_sandbox::machine::PauseAt;
use dejavm_snapshot::WorkingSetInfo;

use crate::{Error, Host, Outcome, Report, Restore, Sandbox};

impl Restore {
    /// Runs the guest to its end and stores in the snapshot file which pages it wanted, in which
    /// order, and how many of them before its first output. Later restores bring those in before
    /// the guest starts, all at once, and the others a cluster at a time. What the run is given
    /// should be like what later ones will get.
    ///
    /// A run that its deadline ends is as good: what it wanted until then is stored.
    ///
    /// # Errors
    /// Those of [`Restore::start`] and [`Sandbox::run`](crate::Sandbox::run); and when the file
    /// cannot be written anew.
    pub fn warm(self, host: &Host) -> Result<(Report, WorkingSetInfo), Error> {
        self.warm_with(host, |_| Ok(()))
    }

    /// As [`Restore::warm`]; `ready` is called with the sandbox before the guest runs, to confine the
    /// process, say. The snapshot's directory must be open for writing then.
    ///
    /// # Errors
    /// As [`Restore::warm`], and those of `ready`.
    pub fn warm_with(
        self,
        host: &Host,
        ready: impl FnOnce(&Sandbox) -> Result<(), Error>,
    ) -> Result<(Report, WorkingSetInfo), Error> {
        let snapshot = self.snapshot().clone();
        let stored = match self.state() {
            MachineState::Program(state) => state.memory.stored_pages,
            MachineState::Kernel(state) => state.pages(),
        };
        let mut sandbox = self.prefetch(false).start(host)?;
        ready(&sandbox)?;
        sandbox.watch_pages();
        let outcome = sandbox.run_until(PauseAt::FirstOutput)?;
        // Pages that the program made itself, behind those of the snapshot, are not in it.
        let ours =
            |pages: Vec<u64>| -> Vec<u64> { pages.into_iter().filter(|page| *page < stored).collect() };
        let first = ours(sandbox.take_pages());
        sandbox.watch_pages();
        let report = match outcome {
            Outcome::Paused => sandbox.run()?,
            ended => sandbox.report(ended),
        };
        let rest = ours(sandbox.take_pages());
        let info = dejavm_snapshot::add_working_set(snapshot.path(), &first, &rest)?;
        Ok((report, info))
    }
}
