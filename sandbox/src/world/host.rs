//! The real outside: the host's files, clocks and standard streams.

mod defaults;
mod files;
mod given;
mod grant;
mod helper;
mod input;
mod interrupt;
mod output;
mod secrets;
mod stdin;
mod stream;
mod terminal;
#[cfg(test)]
mod tests;

pub use defaults::{default_grants, default_paths};
pub use given::GivenFiles;
pub use grant::{Grant, GrantError, GrantKind};
pub use input::{Input, InputBuffer};
pub use interrupt::{Interrupt, Never};
pub use output::{HostOutput, Output, OutputBuffer};
pub use secrets::{ANYWHERE as SECRET_NAMES, PEM as SECRET_PEM, TOP as HIDDEN_SETTINGS};

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::time::{ClockId, clock_gettime};

use super::{
    HostClock, HostPath, KnownFile, Request, Response, Source, Stream, Wake, Woken, World, WorldError,
};
use crate::errno::Errno;
use crate::host::thread::monotonic_ns;
use files::HostFiles;
pub(super) use files::metadata_of;
use grant::Roots;
use input::InputState;
use interrupt::{Waited, wait};
use terminal::Terminal;

/// The real outside. It shows a guest what was granted, and nothing else.
pub struct HostWorld {
    files: HostFiles,
    input: InputState,
    stdout: HostOutput,
    stderr: HostOutput,
    terminal: Option<Terminal>,
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
    known: HashMap<HostPath, KnownFile>,
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
            known: HashMap::new(),
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

    /// Files that the guest knows already: their content is read only if they are still what they
    /// were, and else the run ends with [`WorldError::FileChanged`].
    pub fn known(mut self, files: impl IntoIterator<Item = (HostPath, KnownFile)>) -> HostWorldBuilder {
        self.known.extend(files);
        self
    }

    /// Opens what was granted.
    ///
    /// # Errors
    /// A grant that is not there, or not what it was said to be.
    pub fn build(self) -> Result<HostWorld, GrantError> {
        // The first look at a clock asks where the vDSO is, which a confined process may not.
        let _ = clock();
        let input = InputState::new(self.input);
        let files = HostFiles::new(Roots::open(&self.grants)?, self.known, input.file());
        let (stdout, stderr) = (HostOutput::new(self.stdout), HostOutput::new(self.stderr));
        let terminal = [input.terminal(), stdout.terminal(), stderr.terminal()];
        let terminal = terminal.into_iter().flatten().next().and_then(Terminal::of);
        Ok(HostWorld { files, input, stdout, stderr, terminal, interrupt: self.interrupt })
    }
}

impl HostWorld {
    /// Waits for input, time or a signal.
    fn wait(&mut self, input: Option<Source>, ns: Option<u64>) -> Result<Woken, WorldError> {
        let began = monotonic_ns();
        let interrupt = &*self.interrupt;
        let fd = match (input, &self.terminal) {
            (Some(Source::Terminal), Some(terminal)) => Some(terminal.fd()),
            (Some(_), _) => match self.input.waits_for() {
                None => return Ok(Woken { by: Wake::Input, ns: 0 }),
                fd => fd,
            },
            (None, _) => None,
        };
        if fd.is_none() && ns.is_none() && interrupt.signals().is_none() {
            return Ok(Woken { by: Wake::Never, ns: 0 });
        }
        let by = match wait(fd.map(|fd| (fd, PollFlags::IN)), ns.map(Duration::from_nanos), interrupt)? {
            Waited::Ready => Wake::Input,
            Waited::Time => Wake::Time,
            Waited::Signal => Wake::Signal,
        };
        let took = monotonic_ns().saturating_sub(began);
        let ns = match (by, ns) {
            (Wake::Time, Some(ns)) => ns,
            (_, Some(ns)) => took.min(ns),
            (_, None) => took,
        };
        Ok(Woken { by, ns })
    }

    fn output_stream(&mut self, stream: Stream) -> &mut HostOutput {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn signal(&self, fatal: Option<u64>) -> Option<u32> {
        let signals = self.interrupt.signals()?;
        match fatal {
            Some(fatal) => signals.take_fatal(fatal),
            None => signals.take(),
        }
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
            Request::OutputFile { stream, change } => {
                Response::OutputFile(self.output_stream(stream).change(change))
            }
            Request::Wait { input, ns } => Response::Wait(self.wait(input, ns)?),
            Request::Signal { fatal } => Response::Signal(self.signal(fatal)),
            Request::Terminal(request) => Response::Terminal(match &mut self.terminal {
                Some(terminal) => terminal.answer(request, &*self.interrupt)?,
                None => Err(Errno::ENOTTY),
            }),
            Request::Metadata { path } => Response::Metadata(opened(self.files.metadata(path))?),
            Request::ReadLink { path } => Response::Link(opened(self.files.read_link(path))?),
            Request::ReadDir { path } => Response::Dir(opened(self.files.read_dir(path, &*self.interrupt)?)?),
            Request::ReadBlock { path, block } => {
                Response::Block(opened(self.files.read_block(path, block)?)?)
            }
        })
    }

    fn may_have_signal(&self) -> bool {
        self.interrupt.signals().is_some_and(|signals| !signals.is_empty())
    }

    fn seek_input(&mut self, offset: u64) {
        self.files.seek_stdin(offset);
    }

    fn seek_output(&mut self, stream: Stream, offset: u64) {
        self.output_stream(stream).seek(offset);
    }
}

impl std::fmt::Debug for HostWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostWorld").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Ends the run where a file was not opened because the *monitor* has no descriptor left.
fn opened<T>(answer: Result<T, Errno>) -> Result<Result<T, Errno>, WorldError> {
    match answer {
        Err(e @ (Errno::EMFILE | Errno::ENFILE)) => {
            Err(WorldError::Descriptors(io::Error::from_raw_os_error(e.number())))
        }
        answer => Ok(answer),
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
