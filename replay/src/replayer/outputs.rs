//! Where a replayed guest's output goes.

use std::fmt;
use std::io::Write;

use dejavm_sandbox::world::Stream;

/// Two writers, for what a replayed guest writes to its standard output and error.
pub struct Outputs {
    stdout: Option<Box<dyn Write + Send>>,
    stderr: Option<Box<dyn Write + Send>>,
}

impl Outputs {
    /// Output goes to these.
    pub fn new(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Outputs {
        Outputs { stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// Output goes nowhere.
    pub fn sink() -> Outputs {
        Outputs { stdout: None, stderr: None }
    }

    /// Writes, at once. A writer that fails is not used again: what happens to the output of a
    /// replay must not change the run.
    pub(super) fn write(&mut self, stream: Stream, data: &[u8]) {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if let Some(writer) = slot
            && let Err(e) = writer.write_all(data).and_then(|()| writer.flush())
        {
            tracing::warn!(?stream, error = %e, "the replayed output is cut short");
            *slot = None;
        }
    }
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs")
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .finish()
    }
}
