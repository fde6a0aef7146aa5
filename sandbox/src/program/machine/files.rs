//! Reading any file of a program's, for whoever looks at it: in a machine that is a copy, since to look a name
//! up is to ask the outside for what the program has not asked for yet.

use super::Machine;
use crate::program::credentials::ROOT;
use crate::program::fs::{At, FsResult, InodeId, Stat};

impl Machine {
    /// Finds what a path names to the running task, links followed, and what it is. Whoever looks may go through
    /// all directories.
    ///
    /// # Errors
    /// As [`Fs::lookup`](crate::program::fs::Fs::lookup).
    pub fn look_up_file(&mut self, path: &[u8]) -> FsResult<(InodeId, Stat)> {
        self.kernel.task.credentials = ROOT.clone();
        self.kernel.with_files(|fs, files, env, context| {
            let id = fs.lookup(env, At { base: context.cwd, fds: files }, path, true)?;
            Ok((id, fs.stat(env, id)?))
        })
    }

    /// Reads a file that has content at offsets; short only at the end.
    ///
    /// # Errors
    /// As [`Fs::read_at`](crate::program::fs::Fs::read_at).
    pub fn read_file(&mut self, file: InodeId, offset: u64, out: &mut [u8]) -> FsResult<usize> {
        self.kernel.with_files(|fs, _, env, _| fs.read_at(env, file, offset, out))
    }

    /// The names in a directory but `.` and `..`, in order.
    ///
    /// # Errors
    /// As [`Fs::names_in`](crate::program::fs::Fs::names_in).
    pub fn list_directory(&mut self, directory: InodeId) -> FsResult<Vec<Vec<u8>>> {
        self.kernel.with_files(|fs, files, env, context| {
            fs.names_in(env, At { base: context.cwd, fds: files }, directory)
        })
    }
}
