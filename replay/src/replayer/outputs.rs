//! Where a replayed guest's output goes.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use dejavm_sandbox::errno::Errno;
use dejavm_sandbox::world::{HostOutput, Interrupt, Never, Output, Stream};

/// Two places for what a replayed guest writes to its standard output and error.
///
/// What becomes of it there does not change the run: the first error is kept, and that place is not
/// used again.
pub struct Outputs {
    stdout: Place,
    stderr: Place,
    interrupt: Box<dyn Interrupt>,
    error: OutputError,
}

/// The first error in writing a replay's output. Clones are of the same replay.
#[derive(Clone, Debug, Default)]
pub struct OutputError(Arc<Mutex<Option<Errno>>>);

impl OutputError {
    /// The error, if there was one.
    pub fn get(&self) -> Option<Errno> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, errno: Errno) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(errno);
    }
}

/// One stream's.
struct Place {
    output: Option<HostOutput>,
    /// What was not written yet, because the run was over.
    rest: Vec<u8>,
}

impl Place {
    fn new(output: Option<Output>) -> Place {
        Place { output: output.map(HostOutput::new), rest: Vec::new() }
    }

    fn write(&mut self, data: &[u8], interrupt: &dyn Interrupt) -> Result<(), Errno> {
        let Some(output) = &mut self.output else { return Ok(()) };
        self.rest.extend_from_slice(data);
        while !self.rest.is_empty() {
            match output.write(&self.rest, interrupt) {
                Ok(Ok(taken)) => drop(self.rest.drain(..taken.min(self.rest.len()))),
                Ok(Err(errno)) => {
                    (self.output, self.rest) = (None, Vec::new());
                    return Err(errno);
                }
                // The run ends behind this exit. If it is run on, the rest goes first.
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// What ends a replay's wait: what ends the run, but not signals, which are in the log.
struct NoSignals(Box<dyn Interrupt>);

impl Interrupt for NoSignals {
    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.0.fd()
    }

    fn remaining(&self) -> Option<std::time::Duration> {
        self.0.remaining()
    }
}

impl Outputs {
    /// Output goes to these writers.
    pub fn new(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Outputs {
        Outputs::to(Output::Writer(stdout), Output::Writer(stderr), Box::new(Never))
    }

    /// Output goes to these places; `interrupt` ends a wait for them.
    pub fn to(stdout: Output, stderr: Output, interrupt: Box<dyn Interrupt>) -> Outputs {
        Outputs {
            stdout: Place::new(Some(stdout)),
            stderr: Place::new(Some(stderr)),
            interrupt: Box::new(NoSignals(interrupt)),
            error: OutputError::default(),
        }
    }

    /// Output goes nowhere.
    pub fn sink() -> Outputs {
        Outputs {
            stdout: Place::new(None),
            stderr: Place::new(None),
            interrupt: Box::new(Never),
            error: OutputError::default(),
        }
    }

    /// Where the first error will be found.
    pub fn error(&self) -> OutputError {
        self.error.clone()
    }

    /// Writes, at once.
    pub(super) fn write(&mut self, stream: Stream, data: &[u8]) {
        let place = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if let Err(errno) = place.write(data, &*self.interrupt) {
            tracing::warn!(?stream, error = %errno, "the replayed output is cut short");
            self.error.set(errno);
        }
    }
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs")
            .field("stdout", &self.stdout.output)
            .field("stderr", &self.stderr.output)
            .finish_non_exhaustive()
    }
}
