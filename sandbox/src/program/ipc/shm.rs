//! System V shared memory (`ipc/shm.c`): an object that is there until it is removed, and mapped by nobody.
//!
//! How often a segment is attached is how many mappings there are of its object, as on Linux.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ids::{Ids, Named, Perm};
use crate::errno::Errno;
use crate::machine::{BadState, expect};
use crate::program::mm::{Account, MemoryState, is_anonymous_object};
use crate::ram::PAGE_SIZE;

/// Segments at most.
pub const SHMMNI: usize = 4096;
/// Bytes of a segment at most, and pages of all of them: no limit but that of the sandbox's memory.
pub const SHMMAX: u64 = u64::MAX - (1 << 24);

/// It goes with its last mapping.
pub const SHM_DEST: u32 = 0o1000;
/// It stays in memory.
pub const SHM_LOCKED: u32 = 0o2000;

/// Bytes that a segment costs, besides its object.
pub const SEGMENT_BYTES: u64 = 512;

/// A segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Segment {
    /// Who owns it.
    pub perm: Perm,
    /// Bytes.
    pub size: u64,
    /// The object that holds them.
    pub object: u64,
    /// When it was attached last, seconds.
    pub atime: u64,
    /// When it was detached last, seconds.
    pub dtime: u64,
    /// When it was changed last by `shmctl`, seconds.
    pub ctime: u64,
    /// The process that made it.
    pub creator: u32,
    /// The process that attached or detached it last.
    pub last: u32,
}

impl Named for Segment {
    fn perm(&self) -> &Perm {
        &self.perm
    }

    fn perm_mut(&mut self) -> &mut Perm {
        &mut self.perm
    }
}

/// All segments.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Shms {
    /// The segments.
    pub segments: Ids<Segment>,
}

impl Shms {
    /// The segment of an object.
    pub fn of_object(&self, object: u64) -> Option<(i32, &Segment)> {
        self.segments.iter().find(|(_, segment)| segment.object == object)
    }

    /// Pages of all segments.
    pub fn pages(&self) -> u64 {
        self.segments.iter().map(|(_, segment)| segment.size.div_ceil(PAGE_SIZE as u64)).sum()
    }

    /// Mappings of segments' objects came to be, or went: `attached` says which.
    pub fn note(&mut self, of: impl Fn(u64) -> bool, attached: bool, pid: u32, now: u64) {
        for segment in self.segments.iter_mut().filter(|segment| of(segment.object)) {
            segment.last = pid;
            *(if attached { &mut segment.atime } else { &mut segment.dtime }) = now;
        }
    }

    /// Nobody maps an object any more: whether it is to go, with its segment if it has one.
    pub fn unmapped(&mut self, account: &mut Account, object: u64) -> bool {
        let Some((id, segment)) = self.of_object(object) else { return true };
        let goes = segment.perm.mode & SHM_DEST != 0;
        if goes {
            self.remove(account, id);
        }
        goes
    }

    /// Adds a segment; gives its identifier.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn add(&mut self, account: &mut Account, segment: Segment) -> Result<i32, Errno> {
        account.charge(SEGMENT_BYTES)?;
        self.segments.add(segment, SHMMNI).inspect_err(|_| account.refund(SEGMENT_BYTES))
    }

    /// Removes a segment; gives its object.
    pub fn remove(&mut self, account: &mut Account, id: i32) -> Option<u64> {
        let segment = self.segments.remove(id)?;
        account.refund(SEGMENT_BYTES);
        Some(segment.object)
    }

    /// Bytes that are charged, besides the objects.
    pub fn cost(&self) -> u64 {
        self.segments.len() as u64 * SEGMENT_BYTES
    }

    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self, memory: &MemoryState) -> Result<(), BadState> {
        let Shms { segments } = self;
        segments.check()?;
        expect(segments.len() <= SHMMNI, "the number of shared memory segments")?;
        let objects: BTreeSet<u64> = segments.iter().map(|(_, segment)| segment.object).collect();
        let sound = |(_, segment): (i32, &Segment)| {
            let object = memory.objects.get(&segment.object);
            is_anonymous_object(segment.object) && object.is_some_and(|object| object.len == segment.size)
        };
        expect(objects.len() == segments.len() && segments.iter().all(sound), "a shared memory segment")
    }
}
