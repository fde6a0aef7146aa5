//! The mapping of a snapshot file: the only place with unsafe code.
//!
//! Bytes are copied out of the mapping, and checked and decompressed from the
//! private copy. No reference into the mapping exists at any time. So another
//! process that writes to the file can make a check fail, but cannot change
//! bytes between their check and their use.
//!
//! What remains is a file that gets shorter while it is mapped: touching a
//! mapped page past the new end raises SIGBUS, which ends the process.
//! [`FileMap::check_length`] asks for the file's length before a group of
//! copies, and so turns this into an error, except when the cut falls within
//! the microsecond between the question and the copy. A disk that cannot read
//! a block raises SIGBUS as well. This crate itself never shortens or changes
//! a snapshot in place: it replaces files by renaming.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};

use crate::error::{Error, Result};

/// A file mapped for reading.
#[derive(Debug)]
pub(crate) struct FileMap {
    path: PathBuf,
    file: File,
    map: MmapRaw,
}

impl FileMap {
    /// Maps a regular file of at least `least` bytes.
    pub(crate) fn open(path: &Path, least: u64) -> Result<Self> {
        let not_regular =
            || Error::NotASnapshot { path: path.to_path_buf(), reason: "it is not a regular file" };
        // Asked before opening, because opening a FIFO waits for a writer.
        let metadata = fs::metadata(path).map_err(Error::io("open", path))?;
        if !metadata.is_file() {
            return Err(not_regular());
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        // Asked again of the open file: the path may lead elsewhere by now.
        let metadata = file.metadata().map_err(Error::io("examine", path))?;
        if !metadata.is_file() {
            return Err(not_regular());
        }
        if metadata.len() < least {
            return Err(Error::Truncated {
                path: path.to_path_buf(),
                expected: least,
                found: metadata.len(),
            });
        }
        let length = usize::try_from(metadata.len()).map_err(|_| Error::TooLarge {
            what: "the snapshot file (bytes)",
            found: metadata.len(),
            limit: usize::MAX as u64,
        })?;
        let map = MmapOptions::new().len(length).map_raw_read_only(&file).map_err(Error::io("map", path))?;
        Ok(Self { path: path.to_path_buf(), file, map })
    }

    /// The path the file was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length when it was mapped, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.map.len() as u64
    }

    /// Fails if the file is shorter by now than its mapping.
    ///
    /// Seeking to the end is the cheapest question about a file's length; the
    /// position it sets is used by nobody.
    pub(crate) fn check_length(&self) -> Result<()> {
        let found = (&self.file).seek(SeekFrom::End(0)).map_err(Error::io("examine", &self.path))?;
        if found < self.length() {
            return Err(Error::Truncated { path: self.path.clone(), expected: self.length(), found });
        }
        Ok(())
    }

    /// Copies the bytes from `offset` on into all of `out`.
    ///
    /// Fails with [`Error::Truncated`] when they are not all in the mapping.
    /// Call [`Self::check_length`] first, once for a group of copies.
    pub(crate) fn copy(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.length()) {
            return Err(Error::Truncated {
                path: self.path.clone(),
                expected: end.unwrap_or(u64::MAX),
                found: self.length(),
            });
        }
        // SAFETY: `offset + out.len()` does not overflow and is within the
        // mapping (just checked, and a mapping's length fits `usize`), which
        // is readable and stays mapped while `self.map` lives. `out` is an
        // exclusive reference to other memory, so the ranges are disjoint. No
        // reference to the mapped bytes is made, and every value is a valid
        // `u8`, so bytes that another process changes meanwhile are at worst
        // wrong; callers check the copy.
        unsafe {
            let source = self.map.as_ptr().add(offset as usize);
            std::ptr::copy_nonoverlapping(source, out.as_mut_ptr(), out.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(content: &[u8]) -> (tempfile::TempDir, FileMap) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, content).unwrap();
        let map = FileMap::open(&path, 1).unwrap();
        (directory, map)
    }

    #[test]
    fn copies_only_within_the_file() {
        let (_directory, map) = map(b"0123456789");
        let mut out = [0; 4];
        map.copy(6, &mut out).unwrap();
        assert_eq!(&out, b"6789");
        for offset in [7, 10, 11, u64::MAX - 3, u64::MAX] {
            assert!(matches!(map.copy(offset, &mut out), Err(Error::Truncated { .. })));
        }
    }

    #[test]
    fn a_cut_file_is_found_before_use() {
        let (directory, map) = map(&[1; 10_000]);
        map.check_length().unwrap();
        let path = directory.path().join("file");
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(9_999).unwrap();
        assert!(matches!(map.check_length(), Err(Error::Truncated { expected: 10_000, found: 9_999, .. })));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(FileMap::open(directory.path(), 1), Err(Error::NotASnapshot { .. })));
        assert!(matches!(FileMap::open(Path::new("/dev/zero"), 1), Err(Error::NotASnapshot { .. })));
        assert!(matches!(FileMap::open(&directory.path().join("none"), 1), Err(Error::Io { .. })));
    }
}
