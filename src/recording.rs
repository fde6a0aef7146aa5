//! Recording a run: its directory, its start snapshot, and sealing it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dejavm_replay::{
    CheckpointRef, LOG_FILE, MANIFEST_FILE, Manifest, Recorder, RecorderOptions, RunEnd, START_FILE,
    SnapshotRef, Summary,
};
use dejavm_sandbox::exit::Observer;
use dejavm_sandbox::guest::{Anew, Machine, MachineState, save_start};
use dejavm_sandbox::program::clock::ClockMode;
use dejavm_sandbox::program::fs::Mount;
use dejavm_sandbox::ram::PageSource;
use dejavm_sandbox::world::{World, WorldError, default_paths};
use dejavm_snapshot::{ContentId, Snapshot};

use crate::{Error, Outcome};

/// Why a recorded run was stopped, as the log keeps it.
mod why {
    pub const DEADLINE: &str = "deadline";
    pub const STOPPED: &str = "stopped";
    pub const STUCK: &str = dejavm_replay::STUCK;
    pub const FULL: &str = dejavm_replay::LOG_FULL;
}

/// A run's outside, and who watches it for the recording.
pub(crate) struct Taps {
    pub world: Box<dyn World>,
    pub observer: Option<Box<dyn Observer>>,
    pub recording: Option<Recording>,
}

impl Taps {
    pub fn none(world: Box<dyn World>) -> Taps {
        Taps { world, observer: None, recording: None }
    }
}

/// A recording that is being made.
pub(crate) struct Recording {
    recorder: Recorder,
    dir: PathBuf,
    /// Files that were put there.
    files: Vec<PathBuf>,
    /// Whether the directory is new.
    made: bool,
    /// Time between two checkpoints, and when the last one was made.
    checkpoints: Option<(Duration, Instant)>,
    /// Of one whose log loses its older part.
    ring: Option<Ring>,
    /// The exit behind which the machine was kept last.
    last_kept: u64,
}

/// A log that loses its older part.
struct Ring {
    /// Bytes that it may take before.
    bytes: u64,
    /// It was told that a snapshot takes more.
    told: bool,
}

/// How long the log of a recording may become, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogLimits {
    /// Until the run is ended.
    pub max_log: Option<u64>,
    /// Until the older part is dropped.
    pub ring: Option<u64>,
}

/// Checkpoints that are kept at most.
const MOST_CHECKPOINTS: usize = 16;

/// Starts the recording of a guest that has not run yet, with its memory: none of a program, which is
/// yet to be loaded; loading it is part of the log.
pub(crate) fn of_start(
    dir: &Path,
    state: &MachineState,
    memory: &dyn PageSource,
    pages: u64,
    world: Box<dyn World>,
    limits: LogLimits,
) -> Result<Taps, Error> {
    let made = make_recording_dir(dir)?;
    let start = dir.join(START_FILE);
    let summary = save_start(&start, state, memory, pages)?;
    let anew = Anew::default();
    start_recorder(dir, made, vec![start], START_FILE.into(), summary.id, state, anew, world, limits)
}

/// Starts the recording of a restored sandbox.
pub(crate) fn of_image(
    dir: &Path,
    state: &MachineState,
    anew: Anew,
    snapshot: &Snapshot,
    world: Box<dyn World>,
    limits: LogLimits,
) -> Result<Taps, Error> {
    let made = make_recording_dir(dir)?;
    // Layers find their parents by name; the top one keeps its own, lest it take a parent's.
    let plain = snapshot.parent().is_none();
    let name = match snapshot.path().file_name() {
        Some(name) if !plain => name.to_owned(),
        _ => START_FILE.into(),
    };
    let mut files = Vec::new();
    place(snapshot.path(), dir, &name, &mut files)?;
    let mut parent = snapshot.parent();
    while let Some(layer) = parent {
        place(layer.path(), dir, layer.path().file_name().unwrap_or_default(), &mut files)?;
        parent = layer.parent();
    }
    let name = name.to_string_lossy().into_owned();
    start_recorder(dir, made, files, name, snapshot.id(), state, anew, world, limits)
}

/// Makes the directory of a recording, readable by this user only; whether it is new. One that is there must
/// be empty.
///
/// # Errors
/// [`Error::NotEmpty`], and [`Error::Io`].
pub fn make_recording_dir(dir: &Path) -> Result<bool, Error> {
    let io = |what, source| Error::Io { what, path: dir.to_owned(), source };
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(dir).map_err(|e| io("read the directory", e))?;
            match entries.next() {
                None => Ok(false),
                Some(_) => Err(Error::NotEmpty { path: dir.to_owned() }),
            }
        }
        Err(e) => Err(io("make the directory", e)),
    }
}

/// Puts a file into the directory: by a link where that can be done, else a copy.
fn place(from: &Path, dir: &Path, name: &OsStr, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let to = dir.join(name);
    let io = |e| Error::Io { what: "put the start snapshot at", path: to.clone(), source: e };
    if name == LOG_FILE || name == MANIFEST_FILE {
        return Err(io(io::Error::other("the name is that of another file of a recording")));
    }
    // A link to a link would follow whatever the link becomes.
    let real = fs::canonicalize(from).map_err(io)?;
    if fs::hard_link(&real, &to).is_err() {
        fs::copy(&real, &to).map_err(io)?;
        // Memory may hold secrets, whoever may read the snapshot where it was.
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).map_err(io)?;
    }
    files.push(to);
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn start_recorder(
    dir: &Path,
    made: bool,
    files: Vec<PathBuf>,
    start: String,
    id: ContentId,
    state: &MachineState,
    anew: Anew,
    world: Box<dyn World>,
    limits: LogLimits,
) -> Result<Taps, Error> {
    let mut manifest = Manifest::new(id);
    manifest.snapshot.file = start;
    manifest.command =
        state.command().iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    manifest.seed = state.seed();
    manifest.anew = anew;
    if let Some(program) = state.program() {
        manifest.start = program.clock.realtime();
        manifest.clock = match program.clock.mode {
            ClockMode::Virtual => "virtual".into(),
            ClockMode::Host => "host".into(),
        };
    } else {
        manifest.clock = "none".into();
    }
    manifest.cpu = state.cpu();
    let mut options = RecorderOptions::default();
    options.begin_later = true;
    options.max_log = limits.max_log;
    options.ring = limits.ring;
    let name_of = |file: &PathBuf| Some(file.file_name()?.to_string_lossy().into_owned());
    if let Some(program) = state.program() {
        options.whole = of_users(program.fs.mounts());
    }
    options.start_files = files.iter().filter_map(name_of).collect();
    let recorder = Recorder::create_with(dir, manifest, options)?;
    Ok(Taps {
        world: recorder.world(world),
        observer: Some(recorder.observer()),
        recording: Some(Recording {
            recorder,
            dir: dir.to_owned(),
            files,
            made,
            checkpoints: None,
            ring: limits.ring.map(|bytes| Ring { bytes, told: false }),
            last_kept: 0,
        }),
    })
}

/// The grants that are not the system's: what lies there is made anew, and is on no other machine.
fn of_users(mounts: &[Mount]) -> BTreeSet<u32> {
    let of_system = |mount: &Mount| default_paths().any(|path| path.as_bytes() == mount.path);
    mounts.iter().filter(|mount| !of_system(mount)).filter_map(Mount::grant).collect()
}

impl Recording {
    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The run begins: threads are started only now, so that they are confined as the process is.
    pub fn begin(&mut self) -> Result<(), Error> {
        Ok(self.recorder.begin()?)
    }

    /// From now on, each time that so much has passed.
    pub fn keep_checkpoints(&mut self, every: Duration) {
        self.checkpoints = Some((every, Instant::now()));
    }

    /// Exits between two looks at whether there is a checkpoint to keep, if there ever is.
    pub fn looks_every(&self) -> Option<u64> {
        /// To look at the time.
        const TIME: u64 = 64;
        /// To look at the length of the log, which may grow by megabytes between.
        const LENGTH: u64 = 16;
        match (&self.ring, self.checkpoints) {
            (Some(_), _) => Some(LENGTH),
            (None, Some(_)) => Some(TIME),
            (None, None) => None,
        }
    }

    /// Keeps the machine as it is, if it is time for that.
    ///
    /// # Errors
    /// When the log, which is a ring, cannot begin anew. A recording is whole without other checkpoints: that
    /// one cannot be made is told, and no more are.
    pub fn checkpoint(&mut self, machine: &mut Machine) -> Result<(), WorldError> {
        if machine.core().exits == self.last_kept {
            return Ok(());
        }
        if self.recorder.wants_start() {
            return self.begin_anew(machine).map_err(|why| {
                WorldError::Recorder(format!("the older part of the log cannot be dropped: {why}"))
            });
        }
        let Some((every, _)) = self.checkpoints.filter(|(every, last)| last.elapsed() >= *every) else {
            return Ok(());
        };
        let exit = machine.core().exits;
        let kept = self.keep(machine).and_then(|(checkpoint, _)| {
            self.recorder.add_checkpoint(checkpoint, MOST_CHECKPOINTS).map_err(|e| e.to_string())
        });
        // From now on: else a run whose checkpoints take longer than `every` would do nothing else.
        self.checkpoints = match kept {
            Ok(()) => Some((every, Instant::now())),
            Err(why) => {
                tracing::warn!(why, exit, "no checkpoint, and none from here on");
                None
            }
        };
        Ok(())
    }

    /// Begins the log anew, from the machine as it is.
    fn begin_anew(&mut self, machine: &mut Machine) -> Result<(), String> {
        let (checkpoint, bytes) = self.keep(machine)?;
        let too_small = self.ring.as_mut().filter(|ring| bytes > ring.bytes && !ring.told);
        if let Some(Ring { bytes: ring, told }) = too_small {
            *told = true;
            // By default, too: the directory becomes larger than whoever made it may think.
            tracing::error!(
                "a snapshot of the program takes {bytes} bytes, more than the {ring} that --ring keeps of its log: \
                 each time that a third of that was written, another one is"
            );
        }
        let clock = machine.program().map_or(0, |program| program.kernel.clock.realtime());
        machine.drop_blocks();
        self.recorder.add_start(checkpoint, clock).map_err(|e| e.to_string())
    }

    /// Writes a snapshot of the machine as it is; gives its length in bytes, too.
    fn keep(&mut self, machine: &mut Machine) -> Result<(CheckpointRef, u64), String> {
        let exit = machine.core().exits;
        let file = format!("checkpoint-{exit}.dvm");
        let summary = machine.keep(self.dir.join(&file)).map_err(|e| e.to_string())?;
        self.last_kept = exit;
        Ok((CheckpointRef { exit, snapshot: SnapshotRef { file, id: summary.id } }, summary.file_bytes))
    }

    /// Seals the recording of a run that came back.
    pub fn finish(self, outcome: Outcome) -> Result<Summary, Error> {
        let stopped = |why: &str| RunEnd::Stopped { why: why.into() };
        let end = match (outcome.end(), outcome) {
            (Some(end), _) => RunEnd::Ended { status: end.status() },
            (None, Outcome::Deadline) => stopped(why::DEADLINE),
            (None, Outcome::Stuck) => stopped(why::STUCK),
            (None, Outcome::LogFull) => stopped(why::FULL),
            (None, _) => stopped(why::STOPPED),
        };
        Ok(self.recorder.finish(end)?)
    }

    /// Seals the recording of a run that ended with an error.
    pub fn fail(self, error: &str) -> Result<Summary, Error> {
        Ok(self.recorder.finish(RunEnd::Stopped { why: error.into() })?)
    }

    /// Takes away the recording of a run that never began.
    pub fn remove(self) {
        drop(self.recorder);
        for file in self.files.iter().chain([&self.dir.join(LOG_FILE), &self.dir.join(MANIFEST_FILE)]) {
            let _ = fs::remove_file(file);
        }
        if self.made {
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// How a replay came back that has come to its log's end.
pub(crate) fn outcome_at_end(end: Option<&RunEnd>) -> Outcome {
    match end {
        Some(RunEnd::Stopped { why }) => match why.as_str() {
            why::DEADLINE => Outcome::Deadline,
            why::STOPPED => Outcome::Stopped,
            why::STUCK => Outcome::Stuck,
            why::FULL => Outcome::LogFull,
            _ => Outcome::LogEnds,
        },
        Some(RunEnd::Ended { .. }) | None => Outcome::LogEnds,
    }
}
