//! `lseek`.

use super::FdTable;
use crate::errno::Errno;
use crate::program::fs::{Env, Fs, FsResult, MAX_FILE, Nature, fail};

const SEEK_SET: u32 = 0;
const SEEK_CUR: u32 = 1;
const SEEK_END: u32 = 2;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

impl FdTable {
    /// Moves a description's position.
    ///
    /// # Errors
    /// As `lseek(2)`.
    pub fn lseek(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        fd: i32,
        offset: i64,
        whence: u32,
    ) -> FsResult<i64> {
        let description = self.get_open(fd)?;
        let inode = description.inode;
        if whence > SEEK_HOLE {
            return fail(Errno::EINVAL);
        }
        let nature = fs.nature(inode);
        let now = match nature {
            Nature::File => description.offset,
            Nature::Dir => description.cursor.offset(),
            Nature::Device => return Ok(0),
            Nature::Stream | Nature::Pipe | Nature::Anon | Nature::Closed => {
                return fail(Errno::ESPIPE);
            }
        };
        let sized = fs.is_regular(inode);
        let base = match whence {
            SEEK_SET => 0,
            SEEK_CUR => now,
            SEEK_END if sized => fs.stat(env, inode)?.size,
            SEEK_DATA | SEEK_HOLE if sized => {
                // An offset below 0 is behind no data either.
                let Ok(offset) = u64::try_from(offset) else {
                    return fail(Errno::ENXIO);
                };
                let found = fs.seek_data(inode, offset, whence == SEEK_HOLE)?;
                self.move_to(fs, env, fd, found)?;
                return Ok(signed(found));
            }
            _ => return fail(Errno::EINVAL),
        };
        if fs.is_memory(inode) && whence <= SEEK_CUR {
            // Addresses are all of 64 bits.
            let new = base.wrapping_add(offset as u64);
            self.get_mut(fd)?.offset = new;
            return Ok(new as i64);
        }
        let new = signed(base).checked_add(offset).and_then(|new| u64::try_from(new).ok());
        // Files in memory alone have no disk's limits.
        let on_disk = fs.is_regular(inode) && fs.get_seals(inode).is_err();
        let longest = if on_disk { MAX_FILE } else { i64::MAX as u64 };
        let Some(new) = new.filter(|new| *new <= longest) else {
            return fail(Errno::EINVAL);
        };
        if nature == Nature::Dir {
            self.get_mut(fd)?.cursor.seek(new);
        } else {
            self.move_to(fs, env, fd, new)?;
        }
        Ok(signed(new))
    }
}

/// Offsets come from `i64`s and file sizes, both below 2^63.
fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
