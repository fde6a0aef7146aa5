//! Standard streams that are regular files.

use std::os::fd::AsFd;

use rustix::fs::{FileType, OFlags, SeekFrom, fcntl_getfl, fstat, seek};
use serde::{Deserialize, Serialize};

use super::Metadata;
use super::host::metadata_of;

/// What a regular file on a standard stream was at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandardFile {
    /// Its attributes.
    pub metadata: Metadata,
    /// Where its next read or write is.
    pub position: u64,
    /// Whether writes go to its end (`O_APPEND`).
    pub append: bool,
}

impl StandardFile {
    /// Of a descriptor that is read. `None` unless it is open for reading on a regular file.
    pub fn of_input(fd: impl AsFd) -> Option<StandardFile> {
        StandardFile::of(fd, [OFlags::RDONLY, OFlags::RDWR])
    }

    /// Of a descriptor that is written. `None` unless it is open for writing on a regular file.
    pub fn of_output(fd: impl AsFd) -> Option<StandardFile> {
        StandardFile::of(fd, [OFlags::WRONLY, OFlags::RDWR])
    }

    fn of(fd: impl AsFd, access: [OFlags; 2]) -> Option<StandardFile> {
        let fd = fd.as_fd();
        let stat = fstat(fd).ok()?;
        let flags = fcntl_getfl(fd).ok()?;
        let fits = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && access.contains(&(flags & OFlags::ACCMODE))
            && !flags.contains(OFlags::PATH);
        fits.then_some(())?;
        let position = seek(fd, SeekFrom::Current(0)).ok()?;
        let append = flags.contains(OFlags::APPEND);
        Some(StandardFile { metadata: metadata_of(&stat), position, append })
    }

    /// Bytes at its start that were there before the guest, which cannot change them: what is before the
    /// position that it was given.
    pub fn others(&self) -> u64 {
        if self.append { self.metadata.size } else { self.position.min(self.metadata.size) }
    }
}

/// A change of the regular file that an output stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum OutputChange<'a> {
    /// Write at an offset. The position stays where it is, as it does for all of these.
    Write {
        /// The offset.
        offset: u64,
        /// The bytes.
        data: &'a [u8],
    },
    /// Write at the end.
    Append {
        /// The bytes.
        data: &'a [u8],
    },
    /// Cut or extend to a length.
    Resize {
        /// The length, bytes.
        len: u64,
    },
    /// Have all that was written on the disk.
    Sync,
}

impl<'a> OutputChange<'a> {
    /// What is written.
    pub fn data(&self) -> &'a [u8] {
        match *self {
            OutputChange::Write { data, .. } | OutputChange::Append { data } => data,
            OutputChange::Resize { .. } | OutputChange::Sync => &[],
        }
    }
}
