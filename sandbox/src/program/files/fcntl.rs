//! `fcntl`.

use super::description::SETTABLE;
use super::{Answer, FdTable};
use crate::errno::Errno;
use crate::program::fs::pipe::PIPE_SIZE;
use crate::program::fs::{Fs, FsResult, Nature, OpenFlags, fail};

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLK: u32 = 6;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;

const FD_CLOEXEC: u64 = 1;

const F_RDLCK: u16 = 0;
const F_WRLCK: u16 = 1;
const F_UNLCK: u16 = 2;

/// `struct flock` of x86-64 Linux (`include/uapi/asm-generic/fcntl.h`): type, whence, start,
/// length, process.
const FLOCK_SIZE: usize = 32;

/// Bytes that a command reads from where its argument points.
pub fn fcntl_input(command: u32) -> usize {
    match command {
        F_GETLK | F_SETLK | F_SETLKW | F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW => FLOCK_SIZE,
        _ => 0,
    }
}

impl FdTable {
    /// `fcntl`; `input` is what [`fcntl_input`] asks for.
    ///
    /// # Errors
    /// As `fcntl(2)`.
    pub fn fcntl(&mut self, fs: &mut Fs, fd: i32, command: u32, arg: u64, input: &[u8]) -> FsResult<Answer> {
        let description = self.get(fd)?;
        let inode = description.inode;
        let path_only = description.flags.has(OpenFlags::PATH);
        let allowed = matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL);
        if path_only && !allowed {
            return fail(Errno::EBADF);
        }
        match command {
            F_DUPFD | F_DUPFD_CLOEXEC => {
                let new = self.dup(fd, arg, command == F_DUPFD_CLOEXEC)?;
                Ok(Answer::value(new.into()))
            }
            F_GETFD => Ok(Answer::value(self.cloexec(fd)?.into())),
            F_SETFD => {
                self.set_cloexec(fd, arg & FD_CLOEXEC != 0)?;
                Ok(Answer::value(0))
            }
            F_GETFL => Ok(Answer::value(description.flags.0.into())),
            F_SETFL => {
                let flags = &mut self.get_mut(fd)?.flags;
                flags.0 = (flags.0 & !SETTABLE) | (arg as u32 & SETTABLE);
                Ok(Answer::value(0))
            }
            // One process locks against nobody but itself, and that never conflicts.
            F_GETLK | F_OFD_GETLK => {
                let mut lock = lock_of(input)?;
                lock[..2].copy_from_slice(&F_UNLCK.to_le_bytes());
                Ok(Answer { value: 0, output: lock })
            }
            F_SETLK | F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => {
                let lock = lock_of(input)?;
                let allowed = match u16::from_le_bytes([lock[0], lock[1]]) {
                    F_RDLCK => description.flags.reads(),
                    F_WRLCK => description.flags.writes(),
                    _ => true,
                };
                if allowed { Ok(Answer::value(0)) } else { fail(Errno::EBADF) }
            }
            F_SETOWN | F_GETOWN => Ok(Answer::value(0)),
            F_GETPIPE_SZ if fs.nature(inode) == Nature::Pipe => Ok(Answer::value(PIPE_SIZE as i64)),
            F_SETPIPE_SZ if fs.nature(inode) == Nature::Pipe => {
                let fits = arg <= PIPE_SIZE as u64;
                if fits { Ok(Answer::value(PIPE_SIZE as i64)) } else { fail(Errno::EPERM) }
            }
            F_GETPIPE_SZ | F_SETPIPE_SZ => fail(Errno::EBADF),
            F_ADD_SEALS | F_GET_SEALS => fail(Errno::EINVAL),
            _ => fail(Errno::EINVAL),
        }
    }
}

fn lock_of(input: &[u8]) -> FsResult<Vec<u8>> {
    if input.len() < FLOCK_SIZE {
        return fail(Errno::EFAULT);
    }
    let lock = input[..FLOCK_SIZE].to_vec();
    let kind = u16::from_le_bytes([lock[0], lock[1]]);
    let whence = u16::from_le_bytes([lock[2], lock[3]]);
    if kind > F_UNLCK || whence > 2 { fail(Errno::EINVAL) } else { Ok(lock) }
}
