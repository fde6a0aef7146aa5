//! A program's file descriptors.
//!
//! A descriptor is a number for an open description: what `open` made, with a position and flags,
//! which several numbers can share after `dup`. All that a description refers to is an inode of
//! the [`Fs`](super::fs::Fs), which it holds: pipes, standard streams and what has no name
//! (`install_anon`) are inodes, too. A table is plain data, and part of snapshots.
//!
//! Descriptors come from the guest as it gave them: any `i32` is checked here.

mod attr;
mod copy;
mod description;
mod epoll;
mod fcntl;
mod io;
mod ioctl;
mod lock;
mod passed;
mod poll;
mod queue;
mod seek;
mod splice;
mod table;
mod text;
mod watched;

pub use copy::Copied;
pub(crate) use description::DescId;
pub use description::Description;
pub use fcntl::{fcntl_input, fcntl_knows};
pub use io::{RwFlags, Transfer, Where};
pub use ioctl::{Answer, ioctl_input};
pub use poll::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLRDHUP, POLLRDNORM, POLLWRBAND, POLLWRNORM};
pub(crate) use splice::peek;
pub use table::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, FdTable, OPEN_MAX};

#[cfg(test)]
mod tests;
