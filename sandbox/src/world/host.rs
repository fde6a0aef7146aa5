//! The real outside: the host's files, clocks and standard streams.

mod defaults;
mod files;
mod given;
mod grant;
mod input;
mod interrupt;
mod output;
#[cfg(test)]
mod tests;

pub use defaults::default_grants;
pub use given::GivenFiles;
pub use grant::{Grant, GrantError, GrantKind};
pub use input::Input;
pub use interrupt::{Interrupt, Never};
pub use output::{Output, OutputBuffer};

use rustix::time::{ClockId, clock_gettime};

use super::{HostClock, Request, Response, Stream, World, WorldError};
use files::HostFiles;
use grant::Roots;
use input::InputState;
use output::OutputState;

/// The real outside. It shows a guest what was granted, and nothing else.
pub struct HostWorld {
    files: HostFiles,
    input: InputState,
    stdout: OutputState,
    stderr: OutputState,
    interrupt: Box<dyn Interrupt>,
}

/// Says what a [`HostWorld`] shows. Without more it shows nothing: no files, no input, and output
/// goes nowhere.
pub struct HostWorldBuilder {
    grants: Vec<Grant>,
    input: Input,
    stdout: Output,
    stderr: Output,
    interrupt: Box<dyn Interrupt>,
}

impl HostWorld {
    /// A builder that shows nothing yet.
    pub fn builder() -> HostWorldBuilder {
        HostWorldBuilder {
            grants: Vec::new(),
            input: Input::Empty,
            stdout: Output::Null,
            stderr: Output::Null,
            interrupt: Box::new(Never),
        }
    }
}

impl HostWorldBuilder {
    /// Shows more of the host's files. A grant's number is its place among all that were given,
    /// from 0.
    pub fn grants(mut self, grants: impl IntoIterator<Item = Grant>) -> HostWorldBuilder {
        self.grants.extend(grants);
        self
    }

    /// Where standard input comes from.
    pub fn input(mut self, input: Input) -> HostWorldBuilder {
        self.input = input;
        self
    }

    /// Where standard output goes.
    pub fn stdout(mut self, output: Output) -> HostWorldBuilder {
        self.stdout = output;
        self
    }

    /// Where standard error goes.
    pub fn stderr(mut self, output: Output) -> HostWorldBuilder {
        self.stderr = output;
        self
    }

    /// What ends a wait.
    pub fn interrupt(mut self, interrupt: Box<dyn Interrupt>) -> HostWorldBuilder {
        self.interrupt = interrupt;
        self
    }

    /// Opens what was granted.
    ///
    /// # Errors
    /// A grant that is not there, or not what it was said to be.
    pub fn build(self) -> Result<HostWorld, GrantError> {
        Ok(HostWorld {
            files: HostFiles::new(Roots::open(&self.grants)?),
            input: InputState::new(self.input),
            stdout: OutputState::new(self.stdout),
            stderr: OutputState::new(self.stderr),
            interrupt: self.interrupt,
        })
    }
}

impl World for HostWorld {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        Ok(match request {
            Request::Clock => Response::Clock(clock()),
            Request::Input { max, wait } => Response::Input(self.input.read(max, wait, &*self.interrupt)?),
            Request::Output { stream, data } => {
                let output = match stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                };
                Response::Output(output.write(data, &*self.interrupt)?)
            }
            Request::Metadata { path } => Response::Metadata(self.files.metadata(path)),
            Request::ReadLink { path } => Response::Link(self.files.read_link(path)),
            Request::ReadDir { path } => Response::Dir(self.files.read_dir(path)),
            Request::ReadBlock { path, block } => Response::Block(self.files.read_block(path, block)),
        })
    }
}

impl std::fmt::Debug for HostWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostWorld").field("files", &self.files).finish_non_exhaustive()
    }
}

fn clock() -> HostClock {
    let nanos = |id| {
        let time = clock_gettime(id);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
    };
    HostClock { realtime: nanos(ClockId::Realtime), monotonic: nanos(ClockId::Monotonic) }
}
