//! A snapshot's bytes as a place to read from.
//!
//! Every byte is read into memory that belongs to the reader, and checked and decompressed there, so that
//! nobody can change bytes between their check and their use.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::place::{Place, Span};

/// The bytes of a snapshot, open for reading.
#[derive(Debug)]
pub(crate) struct SourceFile {
    path: PathBuf,
    bytes: Span,
}

impl SourceFile {
    /// Opens what is at this place.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let path = place.path();
        let not = |reason| Error::NotASnapshot { path: path.to_path_buf(), reason };
        let bytes = place.open().map_err(|error| match error.kind() {
            io::ErrorKind::IsADirectory => not("it is a directory"),
            io::ErrorKind::InvalidInput => not("it is not a regular file"),
            _ => Error::io("open", path)(error),
        })?;
        Ok(Self { path: path.to_path_buf(), bytes })
    }

    /// The path the file was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> Span {
        self.bytes.clone()
    }

    /// The length when it was opened, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.bytes.length()
    }

    /// Reads the bytes from `offset` on into all of `out`.
    ///
    /// Fails with [`Error::Truncated`] when they are not all there, now or when the file was opened.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        self.bytes.read_exact_at(out, offset).map_err(|error| match error.kind() {
            // It may have been cut since it was opened. How long it is now is for the message only.
            io::ErrorKind::UnexpectedEof => {
                let found = self.bytes.length_now();
                Error::Truncated { path: self.path.clone(), expected: end, found }
            }
            _ => Error::io("read", &self.path)(error),
        })
    }

    /// Up to `out.len()` bytes from the start; returns how many there are.
    pub(crate) fn read_start(&self, out: &mut [u8]) -> Result<usize> {
        let length = out.len().min(usize::try_from(self.length()).unwrap_or(usize::MAX));
        self.read(0, &mut out[..length])?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, SourceFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, content).unwrap();
        let file = SourceFile::open(&Place::file(&path)).unwrap();
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
            assert!(matches!(SourceFile::open(&Place::file(path)), Err(Error::NotASnapshot { .. })));
        }
        assert!(matches!(
            SourceFile::open(&Place::file(directory.path().join("none"))),
            Err(Error::Io { .. })
        ));
    }
}
