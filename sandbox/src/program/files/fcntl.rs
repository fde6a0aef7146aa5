//! `fcntl`.

use super::description::SETTABLE;
use super::lock::FLOCK_SIZE;
use super::{Answer, FdTable};
use crate::errno::Errno;
use crate::program::fs::pipe::PIPE_SIZE;
use crate::program::fs::{Env, Fs, FsResult, Nature, OpenFlags, fail};

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
const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;

/// `struct f_owner_ex`: type and number.
const OWNER_SIZE: usize = 8;
const F_OWNER_TID: i32 = 0;
const F_OWNER_PID: i32 = 1;
const F_OWNER_PGRP: i32 = 2;

const FD_CLOEXEC: u64 = 1;

/// Bytes that a command reads from where its argument points.
pub fn fcntl_input(command: u32) -> usize {
    match command {
        F_GETLK | F_SETLK | F_SETLKW | F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW => FLOCK_SIZE,
        F_SETOWN_EX => OWNER_SIZE,
        _ => 0,
    }
}

/// Whether there is such a command here.
pub fn fcntl_knows(command: u32) -> bool {
    matches!(command, F_DUPFD..=F_GETOWN | F_SETOWN_EX | F_GETOWN_EX | F_OFD_GETLK..=F_OFD_SETLKW)
        || matches!(command, F_DUPFD_CLOEXEC..=F_GET_SEALS)
}

impl FdTable {
    /// `fcntl`; `input` is what [`fcntl_input`] asks for.
    ///
    /// # Errors
    /// As `fcntl(2)`.
    pub fn fcntl(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        fd: i32,
        (command, arg): (u32, u64),
        input: &[u8],
    ) -> FsResult<Answer> {
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
            F_SETFL
                if arg as u32 & OpenFlags::DIRECT.0 != 0
                    && !matches!(fs.nature(inode), Nature::File | Nature::Pipe) =>
            {
                fail(Errno::EINVAL)
            }
            F_SETFL => {
                // Files are always ready: nobody is ever told that they are.
                let quiet = matches!(fs.nature(inode), Nature::File | Nature::Dir | Nature::Device);
                let settable = if quiet { SETTABLE & !OpenFlags::ASYNC.0 } else { SETTABLE };
                let flags = &mut self.get_mut(fd)?.flags;
                flags.0 = (flags.0 & !settable) | (arg as u32 & settable);
                Ok(Answer::value(0))
            }
            F_GETLK | F_OFD_GETLK => {
                let output = self.get_lock(fs, env, fd, input, command == F_OFD_GETLK)?;
                Ok(Answer::bytes(output))
            }
            F_SETLK | F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => {
                let how = (
                    matches!(command, F_OFD_SETLK | F_OFD_SETLKW),
                    matches!(command, F_SETLKW | F_OFD_SETLKW),
                );
                self.set_lock(fs, env, fd, input, how)?;
                Ok(Answer::value(0))
            }
            F_SETOWN => {
                self.get_mut(fd)?.owner = arg as i32;
                Ok(Answer::value(0))
            }
            F_GETOWN => Ok(Answer::value(description.owner.into())),
            F_SETOWN_EX => {
                let [kind, id] = owner_of(input)?;
                let owner = match kind {
                    F_OWNER_TID | F_OWNER_PID => id,
                    F_OWNER_PGRP => -id.saturating_abs(),
                    _ => return fail(Errno::EINVAL),
                };
                self.get_mut(fd)?.owner = owner;
                Ok(Answer::value(0))
            }
            F_GETOWN_EX => {
                let owner = description.owner;
                let kind = if owner < 0 { F_OWNER_PGRP } else { F_OWNER_PID };
                let out = [kind.to_le_bytes(), owner.saturating_abs().to_le_bytes()];
                Ok(Answer::bytes(out.concat()))
            }
            F_SETPIPE_SZ if fs.nature(inode) == Nature::Pipe => {
                Ok(Answer::value(fs.set_pipe_size(env, inode, arg)? as i64))
            }
            F_GETPIPE_SZ if fs.is_pipe_stream(inode) => Ok(Answer::value(PIPE_SIZE as i64)),
            // The pipe outside stays as it is.
            F_SETPIPE_SZ if fs.is_pipe_stream(inode) => fail(Errno::EPERM),
            F_GETPIPE_SZ => match fs.pipe(inode) {
                Some(pipe) => Ok(Answer::value(pipe.size() as i64)),
                None => fail(Errno::EBADF),
            },
            F_SETPIPE_SZ => fail(Errno::EBADF),
            F_ADD_SEALS if !description.flags.writes() => fail(Errno::EPERM),
            F_ADD_SEALS => fs.add_seals(inode, arg as u32).map(|()| Answer::value(0)),
            F_GET_SEALS => Ok(Answer::value(fs.get_seals(inode)?.into())),
            _ => fail(Errno::EINVAL),
        }
    }
}

fn owner_of(input: &[u8]) -> FsResult<[i32; 2]> {
    match input.as_chunks::<4>().0 {
        [kind, id, ..] => Ok([i32::from_le_bytes(*kind), i32::from_le_bytes(*id)]),
        _ => fail(Errno::EFAULT),
    }
}
