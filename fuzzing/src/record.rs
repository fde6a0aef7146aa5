//! A run by itself, recorded.

use std::path::Path;
use std::time::Duration;

use dejavm::{Death, Host, Outcome};

use crate::{Error, Target};

/// What came of a recorded run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recorded {
    /// How it ended.
    pub outcome: Outcome,
    /// What the program died of, when a signal ended it.
    pub death: Option<Death>,
}

impl Target {
    /// Runs the program from its start on this input, for so long at most, and records it in this directory, which is
    /// made.
    ///
    /// # Errors
    /// Those of the sandbox and of the recording.
    pub fn record(&self, input: &[u8], dir: &Path, limit: Duration, host: &Host) -> Result<Recorded, Error> {
        let program = self.program.clone().stdin(input).deadline(limit).record(dir);
        let report = program.start(host)?.run()?;
        Ok(Recorded { outcome: report.outcome, death: report.death })
    }
}
