//! Files out of a sandbox.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::{Error, Sandbox};

impl Sandbox {
    /// The regular files that a program made or changed at a guest path or below it, with their
    /// contents as they are now, by absolute guest path. It may be called after the run, and at a
    /// pause. Links are not followed, and there is nothing below a path that the program has not
    /// looked at.
    ///
    /// `limit` bounds the bytes of all files together, holes in them counted: a program's disk quota
    /// does not.
    ///
    /// # Errors
    /// [`Error::FilesTooLarge`], before anything is read; [`Error::Run`] when a part of a file that is
    /// the host's, or a page of a snapshot, cannot be read.
    pub fn take_files(
        &mut self,
        path: impl AsRef<Path>,
        limit: u64,
    ) -> Result<BTreeMap<PathBuf, Vec<u8>>, Error> {
        let path = path.as_ref();
        let Some(program) = self.machine_mut().program_mut() else { return Ok(BTreeMap::new()) };
        let changed = program.changed_files(path.as_os_str().as_bytes());
        let bytes = changed.iter().fold(0u64, |sum, file| sum.saturating_add(file.len));
        if bytes > limit {
            return Err(Error::FilesTooLarge { path: path.to_owned(), bytes, limit });
        }
        let mut files = BTreeMap::new();
        for file in changed {
            let content = program.read_changed(&file)?;
            files.insert(OsString::from_vec(file.path).into(), content);
        }
        Ok(files)
    }
}
