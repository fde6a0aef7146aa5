//! What is known of the host's files, and who pays for it.
//!
//! A guest that walks over the host's files makes the monitor remember them: inodes, and names that
//! the host has, lacks, or that the guest removed. The first of it is free, so that a program starts
//! whatever its quota is; all beyond counts against the quota. Nothing is forgotten to make room: what
//! was forgotten would have to be asked again, and might be another file by then.

use super::Fs;
use super::error::{FsError, FsResult};
use super::inode::{Entry, InodeId};
use super::life::name_cost;
use super::pipe::PIPE_SIZE;
use crate::errno::Errno;

/// Bytes that are free.
const FREE: u64 = 16 << 20;
/// What a host file takes, besides its path: the inode, and what the outside keeps of it.
pub(super) const HOST_INODE_COST: u64 = 1024;
/// Pipes that are free.
const PIPES_FREE: u32 = 32;

/// What so many known bytes take of the quota.
fn known_charge(known: u64) -> u64 {
    known.saturating_sub(FREE)
}

/// What so many pipes take of the quota, full or empty.
fn pipes_charge(pipes: u32) -> u64 {
    u64::from(pipes.saturating_sub(PIPES_FREE)) * PIPE_SIZE as u64
}

/// What a directory's entry takes as knowledge. What the guest made is charged by itself, and what is
/// built in is free.
pub(super) fn entry_cost(name: &[u8], entry: &Entry) -> u64 {
    match entry {
        Entry::Node { charged: true, .. } | Entry::Node { covers: false, .. } => 0,
        Entry::Node { .. } | Entry::Listed { .. } | Entry::Whiteout | Entry::Absent => name_cost(name),
    }
}

impl Fs {
    /// Bytes of the quota that are taken by what is known of the host, by pipes, and by what sockets hold.
    pub(super) fn side_charges(&self) -> u64 {
        (known_charge(self.known) + pipes_charge(self.pipes))
            .saturating_add(self.pipe_extras())
            .saturating_add(self.sockets.used())
    }

    /// Takes room for something that is known.
    pub(super) fn charge_known(&mut self, n: u64) -> FsResult<()> {
        let known = self.known.saturating_add(n);
        let more = known_charge(known) - known_charge(self.known);
        self.chunks.charge(more).map_err(|_| FsError::Errno(Errno::ENOMEM))?;
        self.known = known;
        Ok(())
    }

    /// Gives it back.
    pub(super) fn refund_known(&mut self, n: u64) {
        let known = self.known.saturating_sub(n);
        self.chunks.refund(known_charge(self.known) - known_charge(known));
        self.known = known;
    }

    /// Puts an entry in the place of what a directory has by that name, or takes that away.
    ///
    /// # Errors
    /// `ENOMEM`, after which all is as it was.
    pub(super) fn set_entry(&mut self, dir: InodeId, name: &[u8], entry: Option<Entry>) -> FsResult<()> {
        let before = self.dir(dir)?.entries.get(name).map_or(0, |entry| entry_cost(name, entry));
        let after = entry.as_ref().map_or(0, |entry| entry_cost(name, entry));
        if after > before {
            self.charge_known(after - before)?;
        } else {
            self.refund_known(before - after);
        }
        let entries = &mut self.dir_mut(dir)?.entries;
        match entry {
            Some(entry) => entries.insert(name.to_vec(), entry),
            None => entries.remove(name),
        };
        Ok(())
    }

    /// Takes room for one more pipe.
    pub(super) fn charge_pipe(&mut self) -> Result<(), Errno> {
        self.chunks.charge(pipes_charge(self.pipes + 1) - pipes_charge(self.pipes))?;
        self.pipes += 1;
        Ok(())
    }

    /// Gives a pipe's room back.
    pub(super) fn refund_pipe(&mut self) {
        let pipes = self.pipes.saturating_sub(1);
        self.chunks.refund(pipes_charge(self.pipes) - pipes_charge(pipes));
        self.pipes = pipes;
    }
}
