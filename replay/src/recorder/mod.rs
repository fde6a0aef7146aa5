//! Writing a recording.

mod head;
mod queue;
mod rewrite;
mod ring;
mod sync;
mod taps;
mod whole;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use dejavm_sandbox::exit::Observer;
use dejavm_sandbox::world::World;

use crate::digest::RunDigest;
use crate::error::Error;
use crate::format::{FORMAT_VERSION, MAX_RECORDS};
use crate::manifest::{CheckpointRef, Durable, LOG_FILE, MANIFEST_FILE, Manifest, RunEnd};
use crate::thinning::spare;
use head::Head;
use queue::{Close, Queue};
pub(crate) use rewrite::rewrite;
use ring::{Logs, new_log};
use whole::Whole;
use writer::{LogWriter, Sink};

/// How a log is cut and compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecorderOptions {
    /// zstd level, 1 to 22; 1 by default. Higher ones are smaller and slower.
    pub level: i32,
    /// A block is closed once it has about this many bytes, uncompressed: 256 bytes to 1 MiB, 256 KiB
    /// by default.
    pub block_bytes: usize,
    /// A block is closed once its first record is this old: 100 ms by default. It is what a killed
    /// recorder may lose.
    pub flush_after: Duration,
    /// The thread starts at [`Recorder::begin`], and until then what is logged is kept in memory: for
    /// a process that is yet to be confined, since a thread that is there already is not. At once by
    /// default.
    pub begin_later: bool,
    /// Most bytes of the log, 4 KiB at least; without a limit by default. A run whose log would pass it
    /// is ended by [`WorldError::LogFull`](dejavm_sandbox::world::WorldError::LogFull), and its log
    /// sealed with what there is: see [`Summary::full`].
    pub max_log: Option<u64>,
    /// Bytes that the log may take, 64 KiB at least, before its older part is dropped: the log is a ring, if the
    /// run gives it [checkpoints to start from](Recorder::add_start) when it
    /// [wants one](Recorder::wants_start). There is no `max_log` then.
    pub ring: Option<u64>,
    /// Names of the files that the start snapshot is made of, itself and its parents, which a ring drops with
    /// the log that starts there.
    pub start_files: Vec<String>,
    /// Grants whose programs and libraries are kept as a whole, for debuggers: ELF files up to 32 MiB each, 128 MiB in
    /// all, and an eighth of the limit of a log that has one. None by default.
    pub whole: BTreeSet<u32>,
}

/// The lowest limit of a ring: some blocks.
const MIN_RING: u64 = 64 << 10;

/// The lowest limit of a log: room for its ends.
const MIN_LOG: u64 = 4 << 10;

impl Default for RecorderOptions {
    fn default() -> RecorderOptions {
        RecorderOptions {
            level: 1,
            block_bytes: 256 << 10,
            flush_after: Duration::from_millis(100),
            begin_later: false,
            max_log: None,
            ring: None,
            start_files: Vec::new(),
            whole: BTreeSet::new(),
        }
    }
}

/// Records a run into a directory.
///
/// The run asks the outside through [`Recorder::world`] and is watched by [`Recorder::observer`].
/// Compression and writing are done by a thread of the recorder's own; when it falls behind by some
/// blocks, the run waits for it. [`Recorder::finish`] seals the recording; a recorder that is
/// dropped or killed before leaves one that can be replayed as far as it goes.
#[derive(Debug)]
pub struct Recorder {
    head: Arc<Head>,
    queue: Arc<Queue>,
    /// Until the thread has it.
    writer: Option<Logs>,
    /// The exit behind which the last log of a ring begins.
    next_start: Option<u64>,
    flush_after: Duration,
    thread: Option<JoinHandle<Result<Summary, std::io::Error>>>,
    whole: Whole,
}

/// What a sealed recording holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of compared exits.
    pub exits: u64,
    /// Digest of them.
    pub digest: RunDigest,
    /// Length of the log, bytes.
    pub log_bytes: u64,
    /// Number of distinct contents kept.
    pub blobs: u64,
    /// Their length, uncompressed, bytes.
    pub blob_bytes: u64,
    /// Whether the log came to its limit: then it ends before the run did.
    pub full: bool,
}

impl Recorder {
    /// Starts a recording in `dir`, which is made if it is not there, and which may already hold
    /// the start snapshot: what is there is brought to the disk along with the log. [`Manifest::complete`] and what follows it are overwritten.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is a recording already, [`Error::Manifest`] when the start
    /// snapshot's name is not a plain file name, [`Error::Io`].
    pub fn create(dir: impl AsRef<Path>, manifest: Manifest) -> Result<Recorder, Error> {
        Recorder::create_with(dir, manifest, RecorderOptions::default())
    }

    /// As [`Recorder::create`]; options out of their range are brought into it.
    ///
    /// # Errors
    /// As [`Recorder::create`].
    pub fn create_with(
        dir: impl AsRef<Path>,
        manifest: Manifest,
        options: RecorderOptions,
    ) -> Result<Recorder, Error> {
        let dir = dir.as_ref();
        // A recording holds what the guest read, and with its start what it had in memory.
        let make = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        make.map_err(|e| Error::io("make", dir, e))?;
        let path = dir.join(LOG_FILE);
        for file in [&path, &dir.join(MANIFEST_FILE)] {
            if file.symlink_metadata().is_ok() {
                return Err(Error::Exists { path: file.clone() });
            }
        }
        let manifest = Manifest {
            format: FORMAT_VERSION,
            log: LOG_FILE.into(),
            dropped: 0,
            complete: false,
            end: None,
            exits: None,
            digest: None,
            ..manifest
        };
        manifest.write(dir, Durable::Later)?;
        let file = new_log(&path).map_err(|e| Error::io("make", &path, e))?;
        Recorder::start(dir, manifest, Box::new(file), &options)
    }

    fn start(
        dir: &Path,
        manifest: Manifest,
        sink: Box<dyn Sink>,
        options: &RecorderOptions,
    ) -> Result<Recorder, Error> {
        let path = dir.join(LOG_FILE);
        let io = |e| Error::io("write", &path, e);
        let ring = options.ring.map(|bytes| bytes.max(MIN_RING));
        let limit = options.max_log.map(|bytes| bytes.max(MIN_LOG)).filter(|_| ring.is_none());
        let level = options.level.clamp(1, 22);
        let mut writer = LogWriter::new(sink, dir, level, limit).map_err(io)?;
        // Written before anything else runs: a log is never without its header for long.
        writer.write_header().map_err(io)?;
        let head = Arc::new(Head::new(dir, manifest));
        let logs = Logs::new(writer, head.clone(), level, options.start_files.clone());
        // Of a ring, some blocks to each part.
        let most = ring.map_or(MAX_RECORDS as u64 / 2, |bytes| bytes / 8);
        let block_bytes = options.block_bytes.clamp(256, MAX_RECORDS / 2).min(most as usize);
        let mut recorder = Recorder {
            head,
            queue: Arc::new(Queue::new(block_bytes, ring)),
            writer: Some(logs),
            next_start: None,
            flush_after: options.flush_after,
            thread: None,
            whole: Whole::new(options),
        };
        if !options.begin_later {
            recorder.begin()?;
        }
        Ok(recorder)
    }

    /// Starts the thread, if it is not there yet: see [`RecorderOptions::begin_later`].
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn begin(&mut self) -> Result<(), Error> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let (queue, flush_after) = (self.queue.clone(), self.flush_after);
        let thread = std::thread::Builder::new()
            .name("dejavm-log".into())
            .spawn(move || writer::run(writer, &queue, flush_after))
            .map_err(|e| Error::io("start a thread to write", &self.head.log_path(), e))?;
        self.thread = Some(thread);
        self.queue.begin();
        Ok(())
    }

    /// The outside as seen by the run: asks `inner` and logs what it says. Errors of `inner` are
    /// passed on and not logged.
    pub fn world(&self, inner: Box<dyn World>) -> Box<dyn World> {
        Box::new(taps::RecordingWorld::new(self.queue.clone(), inner, self.whole.clone()))
    }

    /// The observer that logs exits and faults. Exits must come with ascending numbers, without a
    /// gap, from any first one.
    pub fn observer(&self) -> Box<dyn Observer> {
        Box::new(taps::RecordingObserver::new(self.queue.clone()))
    }

    /// Notes a checkpoint of the run, whose file is in the directory already, and is brought to the disk at the end. Of more than `most` the one goes,
    /// with its file, whose neighbours are nearest to each other as seen from the last. Those that the log may
    /// start from are not counted.
    ///
    /// # Errors
    /// [`Error::Manifest`] when it is not behind the one before, [`Error::Io`].
    pub fn add_checkpoint(&mut self, checkpoint: CheckpointRef, most: usize) -> Result<(), Error> {
        let next_start = self.next_start.filter(|_| self.queue.gauge.has_begun());
        let spare = self.head.change(Durable::Later, |manifest| {
            let kept = &mut manifest.checkpoints;
            kept.push(checkpoint);
            let exits: Vec<u64> =
                kept.iter().map(|kept| kept.exit).filter(|exit| Some(*exit) != next_start).collect();
            let spare = (exits.len() > most.max(1)).then(|| spare(&exits)).flatten();
            let at = spare.and_then(|spare| kept.iter().position(|kept| kept.exit == exits[spare]));
            at.map(|at| kept.remove(at))
        })?;
        if let Some(spare) = spare {
            let path = self.head.dir().join(&spare.snapshot.file);
            std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// Writes what is left, seals the log and then the manifest, both to the disk. From then on the
    /// worlds and observers of this recorder give [`dejavm_sandbox::world::WorldError::Recorder`].
    ///
    /// # Errors
    /// [`Error::Recorder`] when the log could not be written, now or earlier on: what was written
    /// then stays, as that of a killed recorder. [`Error::Io`] for the manifest.
    pub fn finish(mut self, end: RunEnd) -> Result<Summary, Error> {
        self.begin()?;
        let end = end.shortened();
        let summary = self
            .stop(Close::Seal(end.clone()))
            .map_err(|why| Error::Recorder { path: self.head.log_path(), why })?;
        let end = if summary.full { RunEnd::log_full() } else { end };
        for checkpoint in self.head.manifest().checkpoints {
            let path = self.head.dir().join(&checkpoint.snapshot.file);
            let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|e| Error::io("write", &path, e))?;
        }
        self.head.change(Durable::Now, |manifest| {
            manifest.complete = true;
            manifest.end = Some(end);
            manifest.exits = Some(summary.exits);
            manifest.digest = Some(summary.digest.to_string());
        })?;
        Ok(summary)
    }

    /// Ends the thread.
    fn stop(&mut self, close: Close) -> Result<Summary, String> {
        self.queue.close(close);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.map_err(|e| e.to_string()),
            Some(Err(_)) | None => Err("the writing thread ended unexpectedly".into()),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.thread.is_some()
            && let Err(why) = self.stop(Close::Abandon)
        {
            tracing::warn!(dir = %self.head.dir().display(), why, "the log of an unfinished recording is cut short");
        }
    }
}
