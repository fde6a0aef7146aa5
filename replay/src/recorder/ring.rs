//! A log of which only the last part is kept.
//!
//! At a checkpoint of the run a second log is begun beside the first, and from there on both get all that
//! happens. When they have become too long, the second takes the place of the first, in one step: the manifest
//! that names it and the checkpoint as its start. So there is a whole recording at any moment.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dejavm_sandbox::guest::Anew;

use super::Summary;
use super::head::Head;
use super::queue::{Entry, Queue};
use super::writer::{LogWriter, Stopped};
use crate::error::Error;
use crate::manifest::{CheckpointRef, Durable, RunEnd};

/// The second log is begun when the first has so many parts of what both may take: then it has as much when it
/// takes the first one's place, and at least that is always kept.
const PARTS: u64 = 3;

/// Where a log begins anew.
#[derive(Clone, Debug)]
pub(super) struct NewStart {
    /// The checkpoint that is its start.
    pub checkpoint: CheckpointRef,
    /// The guest's clock there, nanoseconds since the Unix epoch.
    pub clock: u64,
}

/// What the run knows of a ring.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Bytes that the logs may take; 0 without a ring.
    limit: u64,
    /// Bytes of the log that is the recording's.
    log_bytes: AtomicU64,
    /// Whether another one has begun.
    begun: AtomicBool,
    /// How often one has.
    starts: AtomicU64,
}

impl Gauge {
    pub fn new(limit: Option<u64>) -> Gauge {
        Gauge { limit: limit.unwrap_or(0), ..Gauge::default() }
    }

    /// Whether a log is to begin anew.
    pub fn wants_start(&self) -> bool {
        self.limit > 0
            && !self.begun.load(Ordering::Acquire)
            && self.log_bytes.load(Ordering::Relaxed) >= self.limit / PARTS
    }

    /// A log begins anew.
    pub fn start(&self) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.begun.store(true, Ordering::Release);
    }

    /// Whether one has begun that is not the recording's yet.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// How often a log has begun anew.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }
}

/// A second log.
#[derive(Debug)]
struct Next {
    writer: LogWriter,
    /// Its file's name.
    file: String,
    start: NewStart,
}

/// Turns entries into a log, of which only the last part is kept if the queue's [`Gauge`] has a limit.
#[derive(Debug)]
pub(super) struct Logs {
    writer: LogWriter,
    head: Arc<Head>,
    level: i32,
    /// Names of the files that the start snapshot is made of.
    start_files: Vec<String>,
    next: Option<Next>,
}

impl Logs {
    pub fn new(writer: LogWriter, head: Arc<Head>, level: i32, start_files: Vec<String>) -> Logs {
        Logs { writer, head, level, start_files, next: None }
    }

    /// Starts to bring what there is to the disk.
    pub fn start_syncing(&mut self) -> io::Result<()> {
        self.writer.start_syncing()
    }

    /// Whether nothing more is written but the end.
    pub fn is_full(&self) -> bool {
        self.writer.full
    }

    pub fn summary(&self) -> Summary {
        self.writer.summary()
    }

    /// Writes a batch. One that begins with [`Entry::Start`] is the first of a new log.
    pub fn write_batch(&mut self, batch: Vec<Entry>, queue: &Queue) -> Result<(), Stopped> {
        if let Some(Entry::Start(start)) = batch.first() {
            self.begin(NewStart::clone(start))?;
        }
        match &mut self.next {
            None => self.writer.write_batch(batch)?,
            Some(next) => {
                self.writer.write_batch(batch.clone())?;
                next.writer.write_batch(batch)?;
            }
        }
        let gauge = &queue.gauge;
        let over = self.next.take_if(|next| {
            // The run may be far ahead: the first may have become too long before the second had begun.
            let long = next.writer.len() >= gauge.limit / PARTS;
            long && self.writer.len() + next.writer.len() > gauge.limit
        });
        let replaced = over.map(|next| self.replace(next)).transpose()?;
        gauge.log_bytes.store(self.writer.len(), Ordering::Relaxed);
        if replaced.is_some() {
            gauge.begun.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Begins a second log.
    fn begin(&mut self, start: NewStart) -> io::Result<()> {
        let file = format!("log-{}", start.checkpoint.exit);
        let dir = self.head.dir();
        let sink = new_log(&dir.join(&file))?;
        let mut writer = LogWriter::new(Box::new(sink), dir, self.level, None)?;
        writer.write_header()?;
        // The checkpoint, too.
        writer.start_syncing()?;
        self.next = Some(Next { writer, file, start });
        Ok(())
    }

    /// Puts the second log into the place of the first.
    fn replace(&mut self, mut next: Next) -> io::Result<()> {
        let dir = self.head.dir().to_owned();
        let NewStart { checkpoint, clock } = next.start;
        next.writer.sync()?;
        File::open(dir.join(&checkpoint.snapshot.file))?.sync_all()?;
        let dropped = self.writer.first_exit().map_or(0, |first| checkpoint.exit.saturating_sub(first - 1));
        let start_files = vec![checkpoint.snapshot.file.clone()];
        let changed = self.head.change(Durable::Now, |manifest| {
            let (gone, kept) = std::mem::take(&mut manifest.checkpoints)
                .into_iter()
                .partition(|kept| kept.exit <= checkpoint.exit);
            manifest.checkpoints = kept;
            manifest.snapshot = checkpoint.snapshot;
            manifest.start = clock;
            // It is in the start's state.
            manifest.anew = Anew::default();
            manifest.dropped = manifest.dropped.saturating_add(dropped);
            (gone, std::mem::replace(&mut manifest.log, next.file))
        });
        let (gone, log): (Vec<CheckpointRef>, String) = changed.map_err(io::Error::other)?;
        self.writer = next.writer;
        let old = std::mem::replace(&mut self.start_files, start_files);
        let gone =
            gone.into_iter().map(|kept| kept.snapshot.file).filter(|file| !self.start_files.contains(file));
        // Nothing needs them any more; what is left there is no harm.
        for file in old.into_iter().chain(gone).chain([log]) {
            let _ = std::fs::remove_file(dir.join(file));
        }
        Ok(())
    }

    /// Ends the log; one that has begun anew has all that it needs in the one before.
    pub fn seal(&mut self, end: RunEnd) -> Result<Summary, Stopped> {
        self.abandon();
        self.writer.seal(end)
    }

    /// Leaves the log as it is.
    pub fn abandon(&mut self) {
        if let Some(next) = self.next.take() {
            let _ = std::fs::remove_file(self.head.dir().join(next.file));
        }
    }
}

/// Makes the file of a log.
pub(super) fn new_log(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

impl super::Recorder {
    /// Whether the run is to be kept as it is, for [`Recorder::add_start`](super::Recorder::add_start): its log is
    /// a ring, and has become long.
    pub fn wants_start(&self) -> bool {
        self.queue.gauge.wants_start()
    }

    /// Notes a checkpoint of the run as it is now, whose file is in the directory, and where the guest's clock
    /// is (nanoseconds since the Unix epoch): the recording will start there once the log before it is
    /// dropped. What is asked of the outside from now on is logged anew, so the run must ask anew for blocks of
    /// files that it has at hand.
    ///
    /// # Errors
    /// [`Error::Manifest`] when it is not behind the checkpoint before, [`Error::Io`],
    /// [`Error::Recorder`] when nothing more is written.
    pub fn add_start(&mut self, checkpoint: CheckpointRef, clock: u64) -> Result<(), Error> {
        self.head.change(Durable::Later, |manifest| manifest.checkpoints.push(checkpoint.clone()))?;
        self.queue.gauge.start();
        self.next_start = Some(checkpoint.exit);
        let start = Entry::Start(Box::new(NewStart { checkpoint, clock }));
        let pushed = self.queue.push(start);
        pushed.map_err(|e| Error::Recorder { path: self.head.log_path(), why: e.to_string() })
    }
}
