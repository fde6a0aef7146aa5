//! Standard input where it is a regular file.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{SeekFrom, fstat, seek};
use rustix::io::{fcntl_dupfd_cloexec, pread};
use xxhash_rust::xxh3::xxh3_64;

use super::files::metadata_of;
use crate::errno::Errno;
use crate::world::{BLOCK_SIZE, Metadata, StandardFile};

/// The regular file that standard input is, as long as it was at the start.
///
/// Others may go on writing to it, as to a log. What the guest has read of it stays, or it can be read no
/// more: a block is the same each time.
#[derive(Debug)]
pub(super) struct StdinFile {
    /// It shares its position with what was given.
    fd: OwnedFd,
    size: u64,
    mtime: i64,
    /// Digests of the blocks that were read, up to [`REMEMBERED`]. Others can be read as long as nobody
    /// writes to the file.
    read: HashMap<u64, u64>,
}

/// Blocks of which it is remembered what they were: 16 GiB.
const REMEMBERED: usize = 1 << 18;

impl StdinFile {
    /// Of a descriptor; `None` unless it is open for reading on a regular file.
    pub fn of(fd: BorrowedFd<'_>) -> Option<StdinFile> {
        let Metadata { size, mtime, .. } = StandardFile::of_input(fd)?.metadata;
        let fd = fcntl_dupfd_cloexec(fd, 3).ok()?;
        Some(StdinFile { fd, size, mtime, read: HashMap::new() })
    }

    /// What it is now.
    pub fn metadata(&self) -> Result<Metadata, Errno> {
        Ok(metadata_of(&fstat(&self.fd)?))
    }

    /// A block, shorter at the end, and where the file was cut meanwhile.
    pub fn block(&mut self, block: u64) -> Result<Arc<[u8]>, Errno> {
        let offset = block.checked_mul(BLOCK_SIZE as u64).ok_or(Errno::EINVAL)?;
        let mut bytes = vec![0; self.size.saturating_sub(offset).min(BLOCK_SIZE as u64) as usize];
        let mut done = 0;
        while done < bytes.len() {
            match pread(&self.fd, &mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        bytes.truncate(done);
        let digest = xxh3_64(&bytes);
        let same = match self.read.get(&block) {
            Some(before) => *before == digest,
            None if self.read.len() < REMEMBERED => {
                self.read.insert(block, digest);
                true
            }
            None => self.metadata()?.mtime == self.mtime,
        };
        if same { Ok(bytes.into()) } else { Err(Errno::EIO) }
    }

    /// Moves the position.
    pub fn seek(&self, offset: u64) {
        // Wherever a guest's position can be, that of a regular file can.
        let _ = seek(&self.fd, SeekFrom::Start(offset));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_was_read_stays() {
        let mut file = tempfile::tempfile().unwrap();
        let block = BLOCK_SIZE as u64;
        file.write_all(&vec![1; BLOCK_SIZE + 10]).unwrap();
        let mut stdin = StdinFile::of(file.as_fd()).unwrap();
        assert_eq!(stdin.block(1).unwrap().len(), 10);
        // What is added is not seen.
        file.write_all(&[2; 100]).unwrap();
        assert_eq!((stdin.block(1).unwrap().len(), stdin.block(2).unwrap().len()), (10, 0));
        assert_eq!(stdin.metadata().unwrap().size, block + 110);
        // What changes before it is read is read as it is then, and after that not at all.
        rustix::io::pwrite(&file, &[3], 0).unwrap();
        assert_eq!(stdin.block(0).unwrap()[..2], [3, 1]);
        rustix::io::pwrite(&file, &[4], 1).unwrap();
        assert_eq!(stdin.block(0), Err(Errno::EIO));
        rustix::io::pwrite(&file, &[1], 1).unwrap();
        assert_eq!(stdin.block(0).unwrap()[..2], [3, 1]);
        // One that is cut is as long as it is.
        file.set_len(block + 5).unwrap();
        assert_eq!(stdin.block(1), Err(Errno::EIO));
        assert_eq!(stdin.block(u64::MAX), Err(Errno::EINVAL));
        stdin.seek(7);
        assert_eq!(file.stream_position().unwrap(), 7);
        let write_only = std::fs::File::options().write(true).open("/proc/self/comm").unwrap();
        assert!(StdinFile::of(write_only.as_fd()).is_none());
    }
}
