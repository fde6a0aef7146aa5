//! What all ways to start a sandbox have in common.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dejavm_replay::OutputError;
use dejavm_sandbox::guest::{Claims, MachineState};
use dejavm_sandbox::host::HostError;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::MachineOptions;
use dejavm_sandbox::world::{Grant, HostPath, HostWorld, KnownFile, OutputBuffer};

use crate::recording::LogLimits;
use crate::sink::{CAPTURE_LIMIT, Sink};
use crate::source::Source;
use crate::tee::SharedObserver;
use crate::{Error, View};

/// What a snapshot's guest may claim of the host: as much as a new program gets unless told otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ceilings {
    pub memory: u64,
    pub disk: u64,
}

impl Default for Ceilings {
    fn default() -> Ceilings {
        Ceilings { memory: 1 << 30, disk: 1 << 30 }
    }
}

impl Ceilings {
    /// Refuses a snapshot whose guest may use more.
    pub fn check(&self, path: &std::path::Path, state: &MachineState) -> Result<(), Error> {
        let Claims { memory, disk } = state.claims();
        let each = [("memory", memory, self.memory), ("disk", disk, self.disk)];
        match each.into_iter().find(|(_, claimed, allowed)| claimed > allowed) {
            Some((what, claimed, allowed)) => {
                Err(Error::Ceiling { path: path.to_owned(), what, claimed, allowed })
            }
            None => Ok(()),
        }
    }
}

/// Where a restored guest has the content of the host's files that it knew from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostFiles {
    /// From the snapshot, if that holds it ([`Sandbox::keep_host_files`](crate::Sandbox::keep_host_files)),
    /// else from the host, as [`HostFiles::Unchanged`].
    #[default]
    Stored,
    /// From the host. If the file changed since the snapshot was made, the run ends with an error that
    /// names it, when the guest asks for its content.
    Unchanged,
    /// The guest is given the content that the host has now, with the size that it knew. A file that the
    /// guest has mapped must still be what it was, since parts of it are in its memory.
    AsTheyAre,
}

impl HostFiles {
    /// Makes a state take content from where it is to come from.
    pub(crate) fn apply(self, state: &mut MachineState) {
        if let (HostFiles::Unchanged | HostFiles::AsTheyAre, MachineState::Program(program)) = (self, state) {
            program.fs.forget_kept();
        }
    }

    /// The files of a state that must not have changed.
    pub(crate) fn known(self, state: &MachineState) -> Vec<(HostPath, KnownFile)> {
        let known = state.program().into_iter().flat_map(|program| program.fs.known_files());
        known.filter(|(_, file)| self != HostFiles::AsTheyAre || file.mapped).collect()
    }
}

/// The settings that a program, a restore and a replay share.
#[derive(Clone)]
pub(crate) struct Common {
    pub view: View,
    pub stdin: Source,
    pub stdout: Sink,
    pub stderr: Sink,
    pub capture: bool,
    pub capture_limit: usize,
    pub deadline: Option<Duration>,
    pub observer: Option<SharedObserver>,
    pub record: Option<PathBuf>,
    pub max_log: Option<u64>,
    pub checkpoints: Option<Duration>,
    pub ring: Option<u64>,
    /// What stops it.
    pub stop: Option<StopHandle>,
    pub machine: MachineOptions,
    /// Of a restore or a replay.
    pub ceilings: Ceilings,
    pub host_files: HostFiles,
}

impl Default for Common {
    fn default() -> Common {
        Common {
            view: View::system(),
            stdin: Source::Empty,
            stdout: Sink::null(),
            stderr: Sink::null(),
            capture: false,
            capture_limit: CAPTURE_LIMIT,
            deadline: None,
            observer: None,
            record: None,
            max_log: None,
            checkpoints: None,
            ring: None,
            stop: None,
            machine: MachineOptions { prefetch: true, ..MachineOptions::default() },
            ceilings: Ceilings::default(),
            host_files: HostFiles::default(),
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
    /// How long the log of a recording may become.
    pub fn log_limits(&self) -> LogLimits {
        LogLimits { max_log: self.max_log, ring: self.ring }
    }

    pub fn wiring(&self) -> Result<Wiring, Error> {
        let stop = match &self.stop {
            Some(stop) => stop.clone(),
            None => StopHandle::new().map_err(HostError::Eventfd)?,
        };
        let captured = self.capture.then(<(OutputBuffer, OutputBuffer)>::default);
        let limit = self.capture_limit;
        let (stdout, stderr) = match &captured {
            Some((out, err)) => (self.stdout.captured(out, limit), self.stderr.captured(err, limit)),
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
    pub fn host_world(
        &mut self,
        grants: Vec<Grant>,
        known: Vec<(HostPath, KnownFile)>,
        stdin: Source,
    ) -> Result<HostWorld, Error> {
        self.grants.clone_from(&grants);
        let world = HostWorld::builder()
            .grants(grants)
            .known(known)
            .input(stdin.input())
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
            self.common.stdin = $crate::Input::Bytes(bytes.into()).into();
            self
        }

        /// Gives the guest its standard input from here. Clones of a reader or a descriptor read from the
        /// same place: what one guest has read, another does not get.
        #[must_use]
        pub fn stdin_from(mut self, input: $crate::Input) -> Self {
            self.common.stdin = input.into();
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

        /// Keeps standard output and standard error for the [`Report`]($crate::Report), besides passing
        /// them on to where they go.
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

        /// Stops the guest by this handle, while it is being loaded, too. It is for one sandbox: clones have
        /// the same.
        #[must_use]
        pub fn stop_by(mut self, handle: $crate::StopHandle) -> Self {
            self.common.stop = Some(handle);
            self
        }

        /// Tells an observer of each exit and page fault. Faults cost a little more then. One that asks for it may
        /// read the guest's memory when a system call is made and when it was answered. Guests that are
        /// started from clones tell the same one, of one exit at a time.
        #[must_use]
        pub fn observe(mut self, observer: impl $crate::Observer + 'static) -> Self {
            self.common.observer = Some($crate::tee::share(observer));
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

/// Setters of what goes on from a snapshot.
macro_rules! ceiling_setters {
    () => {
        /// Bytes of memory that the snapshot's guest may use at most, 1 GiB by default. A snapshot keeps
        /// what its guest was given; one that claims more than this is refused, since it may come from
        /// anybody.
        #[must_use]
        pub fn memory(mut self, bytes: u64) -> Self {
            self.common.ceilings.memory = bytes;
            self
        }

        /// Bytes that the snapshot's guest may write to files at most, 1 GiB by default: see
        /// [`memory`](Self::memory).
        #[must_use]
        pub fn disk(mut self, bytes: u64) -> Self {
            self.common.ceilings.disk = bytes;
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

        /// Ends the run when the log of its recording would have more bytes than this, with
        /// [`Outcome::LogFull`]($crate::Outcome::LogFull). What was recorded until then is sealed, and
        /// can be replayed. There is no limit without it; the start snapshot does not count.
        #[must_use]
        pub fn max_log(mut self, bytes: u64) -> Self {
            self.common.max_log = Some(bytes);
            self
        }

        /// Keeps checkpoints of the recorded run: its state, in a file of the recording, at the first exit
        /// each time that so much has passed. A [`Timeline`]($crate::replay::Timeline) goes to its end from
        /// the last of them. At most 16 are kept, the farther back the farther apart. Writing one takes time
        /// of the run; nothing else of it changes.
        #[must_use]
        pub fn checkpoints(mut self, every: std::time::Duration) -> Self {
            self.common.checkpoints = Some(every);
            self
        }

        /// Keeps only the last part of the recorded run, for one that goes on for days: when the log comes to
        /// this many bytes, 64 KiB at least, the older part is dropped, and the recording starts from a
        /// checkpoint of the run. At least a third of it is always kept. The checkpoint comes besides, and for a
        /// while the next one. What is in the directory is a whole recording at any moment, whenever the
        /// process is killed. The log is cut while [`run`](crate::Sandbox::run) runs, and where
        /// [`run_until`](crate::Sandbox::run_until) begins. There is no [`max_log`](Self::max_log) then.
        #[must_use]
        pub fn ring(mut self, bytes: u64) -> Self {
            self.common.ring = Some(bytes);
            self
        }

        /// Records the run in this directory, which is made; if it is there, it must be empty. A clone needs
        /// another one.
        #[must_use]
        pub fn record(mut self, dir: impl Into<std::path::PathBuf>) -> Self {
            self.common.record = Some(dir.into());
            self
        }
    };
}

pub(crate) use {ceiling_setters, common_setters, live_setters};
