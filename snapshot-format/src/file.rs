//! The snapshot file as a place to read from.
//!
//! Every byte is read by `pread` into memory that belongs to the reader, and checked and decompressed
//! there. The file is never mapped: a mapped file that another process cuts short, or whose disk
//! fails, would raise SIGBUS, and end the process that embeds this. So, too, nobody can change bytes
//! between their check and their use.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A regular file that is open for reading.
#[derive(Debug)]
pub(crate) struct SourceFile {
    path: PathBuf,
    file: File,
    length: u64,
}

impl SourceFile {
    /// Opens a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let not_regular = |metadata: &fs::Metadata| Error::NotASnapshot {
            path: path.to_path_buf(),
            reason: match metadata.is_dir() {
                true => "it is a directory",
                false => "it is not a regular file",
            },
        };
        // Asked before opening, because opening a FIFO waits for a writer.
        let metadata = fs::metadata(path).map_err(Error::io("open", path))?;
        if !metadata.is_file() {
            return Err(not_regular(&metadata));
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        // Asked again of the open file: the path may lead elsewhere by now.
        let metadata = file.metadata().map_err(Error::io("examine", path))?;
        if !metadata.is_file() {
            return Err(not_regular(&metadata));
        }
        Ok(Self { path: path.to_path_buf(), file, length: metadata.len() })
    }

    /// The path the file was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length when it was opened, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Reads the bytes from `offset` on into all of `out`.
    ///
    /// Fails with [`Error::Truncated`] when they are not all in the file, now or when it was opened.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64);
        let Some(end) = end.filter(|end| *end <= self.length) else {
            return Err(self.truncated(end.unwrap_or(u64::MAX), self.length));
        };
        match self.file.read_exact_at(out, offset) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                // It has been cut since it was opened. How long it is now is for the message only.
                let found = self.file.metadata().map_or(0, |metadata| metadata.len());
                Err(self.truncated(end, found))
            }
            Err(error) => Err(Error::io("read", &self.path)(error)),
        }
    }

    /// Up to `out.len()` bytes from the file's start; returns how many there are.
    pub(crate) fn read_start(&self, out: &mut [u8]) -> Result<usize> {
        let length = out.len().min(usize::try_from(self.length).unwrap_or(usize::MAX));
        self.read(0, &mut out[..length])?;
        Ok(length)
    }

    fn truncated(&self, expected: u64, found: u64) -> Error {
        Error::Truncated { path: self.path.clone(), expected, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, SourceFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, content).unwrap();
        let file = SourceFile::open(&path).unwrap();
        (directory, file)
    }

    #[test]
    fn reads_only_within_the_file() {
        let (_directory, file) = file(b"0123456789");
        let mut out = [0; 4];
        file.read(6, &mut out).unwrap();
        assert_eq!(&out, b"6789");
        for offset in [7, 10, 11, u64::MAX - 3, u64::MAX] {
            assert!(matches!(file.read(offset, &mut out), Err(Error::Truncated { .. })));
        }
    }

    #[test]
    fn a_cut_is_an_error_whenever_it_comes() {
        let (directory, file) = file(&[1; 10_000]);
        let mut out = [0; 100];
        file.read(9_900, &mut out).unwrap();
        let path = directory.path().join("file");
        File::options().write(true).open(path).unwrap().set_len(9_950).unwrap();
        let error = file.read(9_900, &mut out).unwrap_err();
        assert!(matches!(error, Error::Truncated { expected: 10_000, found: 9_950, .. }), "{error}");
        file.read(9_800, &mut out).unwrap();
    }

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path(), Path::new("/dev/zero")] {
            assert!(matches!(SourceFile::open(path), Err(Error::NotASnapshot { .. })));
        }
        assert!(matches!(SourceFile::open(&directory.path().join("none")), Err(Error::Io { .. })));
    }
}
