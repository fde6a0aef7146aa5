//! Whether descriptors are ready.

use super::FdTable;
use crate::program::fs::{Env, Fs, FsError, FsResult, Nature};

/// There is something to read, or the end.
pub const POLLIN: u16 = 0x1;
/// A write would not block.
pub const POLLOUT: u16 = 0x4;
/// Nobody reads the other end.
pub const POLLERR: u16 = 0x8;
/// Nobody writes the other end.
pub const POLLHUP: u16 = 0x10;
/// Not an open descriptor.
pub const POLLNVAL: u16 = 0x20;
/// As [`POLLIN`].
pub const POLLRDNORM: u16 = 0x40;
/// As [`POLLOUT`].
pub const POLLWRNORM: u16 = 0x100;

const READ: u16 = POLLIN | POLLRDNORM;
const WRITE: u16 = POLLOUT | POLLWRNORM;

impl FdTable {
    /// What a descriptor is ready for, out of `events` and what is always told (`POLLERR`,
    /// `POLLHUP`, `POLLNVAL`). Standard input is asked, without waiting, only when `events` wants
    /// to know of it. What another part of the monitor implements ([`FdTable::tag`]) is never
    /// ready here.
    ///
    /// # Errors
    /// When the outside gives no answer.
    pub fn poll(&self, fs: &mut Fs, env: &mut Env<'_>, fd: i32, events: u16) -> FsResult<u16> {
        let description = match self.get_open(fd) {
            Ok(description) => description,
            Err(FsError::Errno(_)) => return Ok(POLLNVAL),
            Err(e) => return Err(e),
        };
        let (inode, flags) = (description.inode, description.flags);
        let ready = match fs.nature(inode) {
            Nature::File | Nature::Dir | Nature::Device => READ | WRITE,
            Nature::Anon | Nature::Closed => 0,
            Nature::Stream => {
                let tty = fs.is_tty(inode);
                let input = flags.reads() && events & READ != 0 && fs.input_ready(env, tty, false)?;
                (if input { READ } else { 0 }) | if flags.writes() { WRITE } else { 0 }
            }
            Nature::Pipe => {
                let Some(pipe) = fs.pipe(inode) else {
                    return Ok(POLLERR);
                };
                let mut ready = 0;
                if flags.reads() {
                    ready |= if pipe.len() > 0 { READ } else { 0 };
                    ready |= if pipe.writers == 0 { POLLHUP } else { 0 };
                }
                if flags.writes() {
                    ready |= if pipe.is_writable() { WRITE } else { 0 };
                    ready |= if pipe.readers == 0 { POLLERR } else { 0 };
                }
                ready
            }
        };
        Ok(ready & (events | POLLERR | POLLHUP))
    }
}
