//! What all ways to start a sandbox have in common.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dejavm_replay::OutputError;
use dejavm_sandbox::exit::Observer;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::MachineOptions;
use dejavm_sandbox::world::{Grant, HostWorld, Input, OutputBuffer};

use crate::sink::{CAPTURE_LIMIT, Sink};
use crate::{Error, View};

/// The settings that a program, a restore and a replay share.
pub(crate) struct Common {
    pub view: View,
    pub stdin: Input,
    pub stdout: Sink,
    pub stderr: Sink,
    pub capture: bool,
    pub capture_limit: usize,
    pub deadline: Option<Duration>,
    pub observer: Option<Box<dyn Observer>>,
    pub record: Option<PathBuf>,
    pub machine: MachineOptions,
}

impl Default for Common {
    fn default() -> Common {
        Common {
            view: View::system(),
            stdin: Input::Empty,
            stdout: Sink::null(),
            stderr: Sink::null(),
            capture: false,
            capture_limit: CAPTURE_LIMIT,
            deadline: None,
            observer: None,
            record: None,
            machine: MachineOptions { prefetch: true, ..MachineOptions::default() },
        }
    }
}

/// What a sandbox needs of the settings once they are complete.
pub(crate) struct Wiring {
    pub stop: StopHandle,
    /// How long the guest may take, and when loading it began: until it is loaded.
    limit: Option<(Duration, Instant)>,
    pub captured: Option<(OutputBuffer, OutputBuffer)>,
    pub stdout: Sink,
    pub stderr: Sink,
    /// A replay goes on live at the end of its log.
    pub live: bool,
    /// What it shows of the host.
    pub grants: Vec<Grant>,
    /// What became of a replay's output.
    pub output_error: Option<OutputError>,
}

impl Common {
    pub fn wiring(&self) -> Result<Wiring, Error> {
        let stop = StopHandle::new().map_err(Error::Descriptors)?;
        let captured = self.capture.then(<(OutputBuffer, OutputBuffer)>::default);
        let captured_by = |buffer| Sink::captured(buffer, self.capture_limit);
        let (stdout, stderr) = match &captured {
            Some((out, err)) => (captured_by(out), captured_by(err)),
            None => (self.stdout.clone(), self.stderr.clone()),
        };
        let limit = self.deadline.map(|limit| (limit, Instant::now()));
        stop.set_deadline(limit.and_then(|(limit, now)| now.checked_add(limit)));
        Ok(Wiring {
            stop,
            limit,
            captured,
            stdout,
            stderr,
            live: false,
            grants: Vec::new(),
            output_error: None,
        })
    }
}

impl Wiring {
    /// Loading is over: the clock stands still until the guest is run. Gives what is left for it.
    pub fn loaded(&mut self) -> Option<Duration> {
        let (limit, since) = self.limit.take()?;
        self.stop.set_deadline(None);
        Some(limit.saturating_sub(since.elapsed()))
    }

    /// The live outside.
    pub fn host_world(&mut self, grants: Vec<Grant>, stdin: Input) -> Result<HostWorld, Error> {
        self.grants.clone_from(&grants);
        let world = HostWorld::builder()
            .grants(grants)
            .input(stdin)
            .stdout(self.stdout.output())
            .stderr(self.stderr.output())
            .interrupt(Box::new(self.stop.clone()));
        Ok(world.build()?)
    }
}

/// Setters for what is in `self.common`.
macro_rules! common_setters {
    () => {
        /// Gives the guest this as its standard input. Without it, input is at its end.
        #[must_use]
        pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
            self.common.stdin = $crate::Input::Bytes(bytes.into());
            self
        }

        /// Gives the guest its standard input from here.
        #[must_use]
        pub fn stdin_from(mut self, input: $crate::Input) -> Self {
            self.common.stdin = input;
            self
        }

        /// Where standard output goes; nowhere by default.
        #[must_use]
        pub fn stdout(mut self, sink: $crate::Sink) -> Self {
            self.common.stdout = sink;
            self
        }

        /// Where standard error goes; nowhere by default.
        #[must_use]
        pub fn stderr(mut self, sink: $crate::Sink) -> Self {
            self.common.stderr = sink;
            self
        }

        /// Keeps standard output and standard error for the [`Report`]($crate::Report).
        #[must_use]
        pub fn capture_output(mut self) -> Self {
            self.common.capture = true;
            self
        }

        /// Bytes that are captured of each stream at most, 64 MiB by default. A guest that writes
        /// more gets `ENOSPC`.
        #[must_use]
        pub fn capture_limit(mut self, bytes: usize) -> Self {
            self.common.capture_limit = bytes;
            self
        }

        /// How long the guest may take, in all: loading it, and running from the first time that it
        /// is run. By the clock on the wall: a guest that waits for input is ended as well.
        #[must_use]
        pub fn deadline(mut self, time: std::time::Duration) -> Self {
            self.common.deadline = Some(time);
            self
        }

        /// Tells an observer of each exit and page fault. Faults cost a little more then.
        #[must_use]
        pub fn observe(mut self, observer: impl $crate::Observer + 'static) -> Self {
            self.common.observer = Some(Box::new(observer));
            self
        }

        /// Uses only this rung of the fault ladder and those below it, for tests.
        #[must_use]
        pub fn rung(mut self, rung: $crate::Rung) -> Self {
            self.common.machine.rung = Some(rung);
            self
        }

        /// Searches a bare-metal guest's memory for the pages that KVM reads by itself in another way
        /// than this host needs, for tests.
        #[must_use]
        pub fn search(mut self, search: $crate::Search) -> Self {
            self.common.machine.search = Some(search);
            self
        }

        /// Fault injection: makes present pages absent again, in a pattern.
        #[must_use]
        pub fn evict(mut self, evict: $crate::Evict) -> Self {
            self.common.machine.evict = Some(evict);
            self
        }

        /// Whether more comes in than what is touched: the snapshot's working set (see
        /// `Restore::warm`), and more of a row of pages that is touched in order. It does by default.
        #[must_use]
        pub fn prefetch(mut self, prefetch: bool) -> Self {
            self.common.machine.prefetch = prefetch;
            self
        }

        /// Brings all of memory in before the guest runs, instead of each page when it is wanted.
        #[must_use]
        pub fn eager(mut self, eager: bool) -> Self {
            self.common.machine.eager = eager;
            self
        }
    };
}

/// Setters of live runs.
macro_rules! live_setters {
    () => {
        /// What the guest sees of the host's files; [`View::system`]($crate::View::system) by
        /// default.
        #[must_use]
        pub fn view(mut self, view: $crate::View) -> Self {
            self.common.view = view;
            self
        }

        /// Shows a host directory, read-only, at a guest path, besides what the view has.
        #[must_use]
        pub fn show(
            mut self,
            guest: impl AsRef<std::path::Path>,
            dir: impl Into<std::path::PathBuf>,
        ) -> Self {
            self.common.view =
                std::mem::take(&mut self.common.view).show(guest, $crate::Grant::directory(dir));
            self
        }

        /// Shows a directory of files given as bytes, by their paths from it. A snapshot keeps the
        /// directory's place, not the files: whoever restores it gives files anew, which what has not
        /// looked at the directory yet finds there.
        #[must_use]
        pub fn files_in(
            mut self,
            guest_dir: impl AsRef<std::path::Path>,
            files: impl IntoIterator<Item = (impl AsRef<[u8]>, impl Into<std::sync::Arc<[u8]>>)>,
        ) -> Self {
            self.common.view =
                std::mem::take(&mut self.common.view).show(guest_dir, $crate::Grant::files(files));
            self
        }

        /// Records the run in this directory, which is made; if it is there, it must be empty.
        #[must_use]
        pub fn record(mut self, dir: impl Into<std::path::PathBuf>) -> Self {
            self.common.record = Some(dir.into());
            self
        }
    };
}

pub(crate) use {common_setters, live_setters};
