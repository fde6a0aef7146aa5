//! A run by itself, recorded.

use std::path::Path;
use std::time::Duration;

use dejavm::{Death, Host, Outcome};

use crate::door::InputFile;
use crate::{Door, Error, FUZZ_FUNCTION, Target};

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
    /// made. A program with [`FUZZ_FUNCTION`] is given the name of a file, as libFuzzer and other drivers take it.
    ///
    /// # Errors
    /// [`Error::NotRunAlone`] of other functions; those of the sandbox and of the recording.
    pub fn record(&self, input: &[u8], dir: &Path, limit: Duration, host: &Host) -> Result<Recorded, Error> {
        // Its content is in the recording.
        let file;
        let program = match &self.door {
            Door::Function(name) if name != FUZZ_FUNCTION => {
                return Err(Error::NotRunAlone { name: name.clone() });
            }
            Door::Function(_) | Door::File => {
                file = InputFile::new(&self.program, input)?;
                file.give(self.program.clone())
            }
            Door::Any | Door::Input => self.program.clone().stdin(input),
        };
        let program = program.deadline(limit).record(dir);
        let report = program.start(host)?.run()?;
        Ok(Recorded { outcome: report.outcome, death: report.death })
    }
}
