//! System calls: from a number and six arguments to RAX, one file a family.
//!
//! [`table`] lists them all. A call that is not answered returns `ENOSYS` and is counted; the run names
//! it at its end.

mod advice;
mod barrier;
mod control;
mod credentials;
mod descriptor;
mod event;
mod exec;
mod futex;
mod futex_pi;
mod futex_requeue;
mod futex_waitv;
mod info;
mod ipc;
mod kcmp;
mod limits;
mod memory;
mod message;
pub mod number;
mod path;
mod pidfd;
mod poll;
mod prctl;
mod process;
mod receive;
mod schedule;
mod send;
mod sigevent;
mod signal;
mod socket;
mod sockopt;
mod splice;
pub mod table;
mod time;
mod timer;
mod transfer;
mod wait;
mod xattr;

pub(super) use futex::ANY as ANY_FUTEX;

use super::error::SysError;
use super::kernel::Kernel;
use crate::errno::Errno;

/// A call's arguments: RDI, RSI, RDX, R10, R8, R9.
pub type Args = [u64; 6];

/// What the monitor does after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The program goes on with this in RAX.
    Return(u64),
    /// The registers were replaced (`rt_sigreturn`, `execve`).
    Replaced,
    /// The program has ended.
    Ended,
}

/// Answers a system call.
///
/// # Errors
/// What ends the run: never [`SysError::Errno`].
pub fn call(kernel: &mut Kernel, number: u64, args: Args) -> Result<After, SysError> {
    let result = match table::find(number) {
        Some(call) => call.answer(kernel, args),
        None => Err(Errno::ENOSYS.into()),
    };
    match result {
        Ok(after) => Ok(after),
        Err(SysError::Errno(errno)) => {
            if errno == Errno::ENOSYS && number != number::NONE {
                kernel.count_unknown(number);
            }
            Ok(After::Return(errno.to_rax()))
        }
        Err(e) => Err(e),
    }
}

/// Whether a wait that a signal ended is made again where its handler asks for that (`SA_RESTART`).
pub fn restarts(number: u64) -> bool {
    table::find(number).is_none_or(table::Syscall::restarts)
}

/// `AT_FDCWD`.
const AT_FDCWD: u64 = -100i64 as u64;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_REMOVEDIR: u64 = 0x200;
const AT_EMPTY_PATH: u64 = 0x1000;
const AT_SYMLINK_FOLLOW: u64 = 0x400;
const O_CREAT: u64 = 0o100;
const O_WRONLY: u64 = 1;
const O_TRUNC: u64 = 0o1000;
