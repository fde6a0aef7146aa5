//! Whether descriptors are ready.

use super::FdTable;
use super::description::DescId;
use super::epoll::{ALWAYS, NESTS};
use crate::program::fs::{Anon, Env, Fs, FsError, FsResult, Nature};

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

/// As [`POLLOUT`], of urgent data: sockets tell it.
pub const POLLWRBAND: u16 = 0x200;
/// The other end sends no more.
pub const POLLRDHUP: u16 = 0x2000;

const READ: u16 = POLLIN | POLLRDNORM;
const WRITE: u16 = POLLOUT | POLLWRNORM;

impl FdTable {
    /// What a descriptor is ready for, out of `events` and what is always told (`POLLERR`,
    /// `POLLHUP`, `POLLNVAL`). Standard input is asked, without waiting, only when `events` wants
    /// to know of it.
    ///
    /// # Errors
    /// When the outside gives no answer.
    pub fn poll(&self, fs: &mut Fs, env: &mut Env<'_>, fd: i32, events: u16) -> FsResult<u16> {
        match self.get_open(fd).and_then(|_| self.description_id(fd)) {
            Ok(id) => self.poll_description(fs, env, id, events, NESTS),
            Err(FsError::Errno(_)) => Ok(POLLNVAL),
            Err(e) => Err(e),
        }
    }

    /// The same of a description; `left` sets of watched descriptors within each other are looked into.
    pub(super) fn poll_description(
        &self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        id: DescId,
        events: u16,
        left: u32,
    ) -> FsResult<u16> {
        let Some(description) = self.arena.get(id) else { return Ok(POLLNVAL) };
        let (inode, flags) = (description.inode, description.flags);
        let ready = match fs.nature(inode) {
            Nature::File | Nature::Dir | Nature::Device => READ | WRITE,
            Nature::Closed => 0,
            Nature::Anon if matches!(fs.anon(inode), Some(Anon::Epoll)) => {
                if left > 0 && self.epoll_is_ready(fs, env, inode, left - 1)? { READ } else { 0 }
            }
            Nature::Anon => {
                let [reads, writes, gone] = fs.anon_ready(env, inode);
                let of = |is: bool, what: u16| if is { what } else { 0 };
                fs.sockets()
                    .ready(inode)
                    .unwrap_or_else(|| of(reads, READ) | of(writes, WRITE) | of(gone, POLLHUP))
            }
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
        Ok(ready & (events | ALWAYS))
    }
}
