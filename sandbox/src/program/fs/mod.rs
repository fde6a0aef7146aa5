//! The guest's file system: granted host files, read-only, under an overlay in memory.
//!
//! A guest sees one tree. Where a host file or directory was granted, it sees that ([`Mount`]);
//! what it changes, makes or removes lives in the overlay and never reaches the host. `/dev`,
//! `/proc` and `/sys` are made up, and the same in every run.
//!
//! * **Names** are kept per directory (`inode::Dir`): what the overlay put there, what the host
//!   was found to have, what it was found not to have, and what the guest removed. The host is
//!   asked once for each; what it said is part of the state, so that a restored sandbox sees the
//!   same tree, and asks no question twice.
//! * **Content** is kept in blocks (`content::Blocks`): the overlay's where there is one, else
//!   the host's, asked for through a bounded cache, else zeros. Everything that a guest can make
//!   grow counts against a quota (`chunks::Chunks`), what it makes the monitor remember of the host
//!   included (`known`). Blocks that a snapshot holds are read there
//!   when they are wanted (`stored`).
//! * **Inodes** have numbers that are given out in the order of first look-up and never used
//!   again. One lives while it has a name or someone holds it ([`Fs::hold`]).
//!
//! The first program runs as root, whom only the host itself refuses anything; what others may do is
//! checked as Linux does (`permission`).

mod anon;
mod attr;
mod cache;
mod changed;
mod check;
mod chunks;
mod content;
mod create;
mod device;
mod dirlist;
mod env;
mod error;
mod frozen;
mod hidden;
mod inode;
mod io;
mod kept;
mod known;
mod life;
mod lower;
mod mount;
mod mqueue;
mod notice;
mod open;
mod output;
mod permission;
pub(crate) mod pipe;
mod proc;
mod remove;
mod rename;
mod resolve;
mod seal;
mod shared;
mod socket;
mod stat;
mod stored;
mod stream;
mod sys;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod xattr;

pub use attr::{FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, SetTime};
pub use changed::ChangedFile;
pub use check::Inconsistent;
pub use content::MAX_FILE;
pub use dirlist::{DirCursor, DirFormat};
pub use env::{Caller, Env, ProcFile, ReadContent};
pub use error::{FsError, FsResult};
pub use frozen::{ContentRef, Mapped};
pub use inode::InodeId;
pub use io::IoOutcome;
pub use kept::KeptContent;
pub use mount::{FsOptions, Mount, MountError, MountSource, guest_path};
pub use open::OpenFlags;
pub use permission::{R_OK, W_OK, X_OK};
pub use resolve::{At, FdLinks, NAME_MAX, NoFds, PATH_MAX, Scope};
pub use seal::{SEAL_EXEC, SEAL_FUTURE_WRITE, SEAL_GROW, SEAL_SEAL, SEAL_SHRINK, SEAL_WRITE};
pub use stat::{
    S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, Stat, StatFs, makedev,
};
pub use stored::StoredBlocks;
pub use stream::{Stdio, StdioKind};
pub use xattr::{XATTR_CREATE, XATTR_NAME_MAX, XATTR_REPLACE, XATTR_SIZE_MAX};

pub(crate) use anon::{Anon, Event, Timer};
pub(super) use inode::Lower;
pub(crate) use notice::Stage;

pub(crate) use error::fail;
pub(crate) use io::Nature;
pub(crate) use output::Spot;
pub(crate) use stream::TERMIOS_SIZE;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use cache::{BlockCache, Cached};
use chunks::Chunks;
use frozen::Frozen;
use inode::{Body, Dir, Inode};
use kept::KeptFiles;
use stream::Streams;

use super::journal::Journal;
use super::net::Sockets;
use crate::errno::Errno;
use crate::world::World;

/// The file system of a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fs {
    inodes: Journal<InodeId, Inode>,
    next_inode: u64,
    root: InodeId,
    chunks: Chunks,
    frozen: Journal<ContentRef, Frozen>,
    next_frozen: u64,
    streams: Streams,
    /// Pipes and FIFOs that exist.
    pipes: u32,
    /// Bytes that what is known of the host takes: see `known`.
    known: u64,
    /// The times of what is built in.
    born: i64,
    /// What was mounted at the start, in the order given.
    mounts: Vec<Mount>,
    /// Host files whose content is in the snapshot that this came from.
    kept: KeptFiles,
    /// Timers that are armed.
    timers: BTreeSet<InodeId>,
    /// Descriptors' inodes of what happens elsewhere.
    notices: BTreeSet<InodeId>,
    sockets: Sockets,
    /// Files of which something has changed that tasks may wait for.
    #[serde(skip)]
    woken: Vec<InodeId>,
    #[serde(skip)]
    cache: BlockCache,
}

impl Fs {
    /// The root directory.
    pub fn root(&self) -> InodeId {
        self.root
    }

    /// Marks this moment, for [`Fs::return_to`].
    pub fn mark(&mut self) {
        self.inodes.mark();
        self.frozen.mark();
        self.chunks.mark();
    }

    /// Becomes what it was at the last mark, as which `then` was taken. Blocks of host files that are at hand stay so.
    pub fn return_to(&mut self, then: &Fs) {
        let Fs {
            inodes,
            next_inode,
            root,
            chunks,
            frozen,
            next_frozen,
            streams,
            pipes,
            known,
            born: _,
            mounts: _,
            kept: _,
            timers,
            notices,
            sockets,
            woken,
            cache: _,
        } = self;
        inodes.return_to(&then.inodes);
        frozen.return_to(&then.frozen);
        chunks.return_to(&then.chunks);
        (*next_inode, *root, *next_frozen) = (then.next_inode, then.root, then.next_frozen);
        (*pipes, *known) = (then.pipes, then.known);
        streams.clone_from(&then.streams);
        timers.clone_from(&then.timers);
        notices.clone_from(&then.notices);
        sockets.clone_from(&then.sockets);
        woken.clone_from(&then.woken);
    }

    /// What was mounted at the start: which guest path each grant number stands for.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// Bytes of the overlay's quota that are used.
    pub fn overlay_bytes(&self) -> u64 {
        self.chunks.used()
    }

    /// Bytes of the overlay's quota.
    pub fn overlay_quota(&self) -> u64 {
        self.chunks.quota()
    }

    fn inode(&self, id: InodeId) -> FsResult<&Inode> {
        self.inodes.get(&id).ok_or(FsError::Errno(Errno::ESTALE))
    }

    /// An inode to be changed: those of `/proc/<pid>` are in no table, and refuse.
    fn inode_mut(&mut self, id: InodeId) -> FsResult<&mut Inode> {
        let missing = if proc::ProcNode::of(id).is_some() { Errno::EPERM } else { Errno::ESTALE };
        self.inodes.get_mut(&id).ok_or(FsError::Errno(missing))
    }

    fn dir(&self, id: InodeId) -> FsResult<&Dir> {
        match &self.inode(id)?.body {
            Body::Dir(dir) => Ok(dir),
            _ => fail(Errno::ENOTDIR),
        }
    }

    fn dir_mut(&mut self, id: InodeId) -> FsResult<&mut Dir> {
        match &mut self.inode_mut(id)?.body {
            Body::Dir(dir) => Ok(dir),
            _ => fail(Errno::ENOTDIR),
        }
    }

    /// An inode, and what reading and writing its content needs.
    fn parts<'a>(
        &'a mut self,
        world: &'a mut dyn World,
        id: InodeId,
    ) -> FsResult<(&'a mut Inode, &'a mut Chunks, Cached<'a>)> {
        let inode = self.inodes.get_mut(&id).ok_or(FsError::Errno(Errno::ESTALE))?;
        Ok((inode, &mut self.chunks, Cached { cache: &mut self.cache, kept: &self.kept, world }))
    }
}
