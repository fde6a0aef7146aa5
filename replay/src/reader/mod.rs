//! Reading a recording.
//!
//! A recording may come from anywhere: each number in it is checked before it is used, no block
//! makes more memory than [`crate::MAX_BLOCK`] be asked for at once, and whatever is wrong with it is an
//! [`Error`] that says where.

pub(crate) mod content;
mod file;
mod info;
mod open;
mod records;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use dejavm_snapshot::{Place, Snapshot};

pub use info::Info;
pub(crate) use info::rung_name;
pub use records::{Exits, Records};

use crate::digest::RunDigest;
use crate::error::Error;
use crate::home::Home;
use crate::manifest::{CheckpointRef, Manifest, RunEnd};
use crate::record::{Answer, BlobId, BlobKind};
use open::Inner;

/// A recording, open for reading. Clones share the open file; they may be used from many threads.
#[derive(Clone, Debug)]
pub struct Recording(Arc<Inner>);

/// How a log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// It was sealed.
    Sealed {
        /// How the run ended.
        end: RunEnd,
        /// Digest of all compared exits, as the recorder wrote it.
        digest: RunDigest,
    },
    /// The recorder was killed or failed: the log can be read up to its last whole block.
    Interrupted {
        /// Where that ends, bytes from the log's start.
        offset: u64,
    },
    /// Bytes are not what was written. What comes before them can be read, and is followed by the
    /// error.
    Damaged {
        /// Where, bytes from the log's start.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
}

impl Recording {
    /// Opens a recording, a directory or a pack: checks its manifest, its log's headers and its index. The
    /// content of blocks is checked when it is read; [`Recording::verify`] reads all of it.
    ///
    /// # Errors
    /// [`Error`], naming the file and the place. A log that a killed recorder left is no error.
    pub fn open(path: impl AsRef<Path>) -> Result<Recording, Error> {
        Ok(Recording(Arc::new(Inner::open(Home::open(path.as_ref())?)?)))
    }

    /// The path of the directory or pack, as it was given.
    pub fn path(&self) -> &Path {
        self.0.home.path()
    }

    /// Where it is.
    pub(crate) fn home(&self) -> &Home {
        &self.0.home
    }

    /// Length of the log, bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.0.file.len
    }

    /// Checks an answer whose content, if it has one, was checked already.
    pub(crate) fn check_answer(
        &self,
        answer: &Answer,
        checked: &mut HashSet<(BlobKind, BlobId)>,
    ) -> Result<(), Error> {
        self.0.check_answer(answer, checked)
    }

    /// The log's path; in a pack, its name for messages.
    pub(crate) fn log_path(&self) -> &Path {
        &self.0.file.path
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Where the start snapshot is. It may be missing.
    pub fn start(&self) -> Place {
        self.0.home.place(&self.0.manifest.snapshot.file)
    }

    /// Opens the start snapshot, with its parents. Whether it is the one that the manifest names is for the
    /// caller to check.
    ///
    /// # Errors
    /// As [`Snapshot::open`].
    pub fn open_snapshot(&self) -> dejavm_snapshot::Result<Arc<Snapshot>> {
        self.0.home.open_snapshot(&self.0.manifest.snapshot.file)
    }

    /// Opens a checkpoint of the manifest's, with its parents. Whether it is the one that the manifest names is
    /// for the caller to check.
    ///
    /// # Errors
    /// As [`Snapshot::open`].
    pub fn open_checkpoint(&self, checkpoint: &CheckpointRef) -> dejavm_snapshot::Result<Arc<Snapshot>> {
        self.0.home.open_snapshot(&checkpoint.snapshot.file)
    }

    /// How its log ends.
    pub fn ending(&self) -> &Ending {
        &self.0.ending
    }

    /// How the run ended; `None` unless the log was sealed.
    pub fn end(&self) -> Option<&RunEnd> {
        match &self.0.ending {
            Ending::Sealed { end, .. } => Some(end),
            _ => None,
        }
    }

    /// Numbers of the first and the last compared exit; `None` when there are none.
    pub fn exit_range(&self) -> Option<(u64, u64)> {
        let records = &self.0.index.records;
        let (first, last) = (records.first()?, records.last()?);
        Some((first.first_exit, last.first_exit + u64::from(last.exits) - 1))
    }

    /// Number of compared exits.
    pub fn exit_count(&self) -> u64 {
        self.exit_range().map_or(0, |(first, last)| last - first + 1)
    }

    /// All records, from the start.
    pub fn records(&self) -> Records {
        Records::from_start(self.0.clone())
    }

    /// The records that a scan from the start finds after exit `exit - 1`: what led to `exit`,
    /// `exit` itself, and so on. All of them when `exit` is not past the first one, none when it is
    /// more than one past the last. Seeks by the index.
    pub fn records_from(&self, exit: u64) -> Records {
        Records::from_exit(self.0.clone(), exit)
    }

    /// All compared exits, from the start.
    pub fn exits(&self) -> Exits {
        Exits::new(self.records())
    }

    /// The compared exits from number `exit` on.
    pub fn exits_from(&self, exit: u64) -> Exits {
        Exits::new(self.records_from(exit))
    }

    /// The digest of all compared exits, from reading them.
    ///
    /// # Errors
    /// Those of the log.
    pub fn digest(&self) -> Result<RunDigest, Error> {
        let mut digest = RunDigest::new();
        for exit in self.exits() {
            digest.add(&exit?);
        }
        Ok(digest)
    }

    /// Reads every record and every content; of a pack, every byte.
    ///
    /// # Errors
    /// The first thing that is wrong. A log that a killed recorder left is no error.
    pub fn verify(&self) -> Result<(), Error> {
        if let Home::Pack(pack) = &self.0.home {
            pack.verify()?;
        }
        // Many answers may speak of one content, which is read once.
        let mut checked = HashSet::new();
        for record in self.records() {
            match record? {
                crate::Record::World(world) => self.0.check_answer(&world.answer, &mut checked)?,
                crate::Record::Keyed(keyed) => self.0.check_answer(&keyed.answer, &mut checked)?,
                crate::Record::Exit(_) | crate::Record::Fault(_) => {}
            }
        }
        self.0.blob_ids().try_for_each(|id| self.0.blob(id).map(drop))
    }
}
