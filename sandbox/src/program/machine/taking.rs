//! Taking files out of a program's file system, for the embedder.

use super::Machine;
use crate::machine::RunError;
use crate::program::error::SysError;
use crate::program::fs::ChangedFile;

impl Machine {
    /// The files that the program made or changed at a guest path or below it; none where it has
    /// looked at no such path.
    pub fn changed_files(&self, path: &[u8]) -> Vec<ChangedFile> {
        self.kernel.outside.look(|fs, path| fs.changed_below(path).unwrap_or_default(), path)
    }

    /// The content of a file that the program changed, as it is now.
    ///
    /// # Errors
    /// When a part of it that is the host's cannot be read, or a page of memory that it lies in.
    pub fn read_changed(&mut self, file: &ChangedFile) -> Result<Vec<u8>, RunError> {
        let mut bytes = vec![0; usize::try_from(file.len).unwrap_or(usize::MAX)];
        let read = self.kernel.with_files(|fs, _, env, _| fs.read_at(env, file.id, 0, &mut bytes));
        bytes.truncate(read.map_err(SysError::from)?);
        Ok(bytes)
    }
}
