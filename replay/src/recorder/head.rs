//! The manifest of a recording that is being made: the run changes it, and the writing thread.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::manifest::{Durable, Manifest};

/// A recording's directory, and its manifest as it is there.
#[derive(Debug)]
pub(super) struct Head {
    dir: PathBuf,
    manifest: Mutex<Manifest>,
}

impl Head {
    pub fn new(dir: &Path, manifest: Manifest) -> Head {
        Head { dir: dir.to_owned(), manifest: Mutex::new(manifest) }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of the log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join(&self.lock().log)
    }

    /// The manifest as it is now.
    pub fn manifest(&self) -> Manifest {
        self.lock().clone()
    }

    /// Changes the manifest, in the directory too; after an error it is as it was.
    ///
    /// # Errors
    /// [`Error::Manifest`] when it cannot be like that, [`Error::Io`].
    pub fn change<T>(&self, durable: Durable, change: impl FnOnce(&mut Manifest) -> T) -> Result<T, Error> {
        let mut manifest = self.lock();
        let mut changed = manifest.clone();
        let given = change(&mut changed);
        changed.write(&self.dir, durable)?;
        *manifest = changed;
        Ok(given)
    }

    fn lock(&self) -> MutexGuard<'_, Manifest> {
        // A panic elsewhere leaves it whole: it is put there in one step.
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
