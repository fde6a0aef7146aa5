//! Locks on files, which only ever tell their takers of each other.
//!
//! `flock` locks a whole file for an open description. Ranges are locked for a description, too
//! (`F_OFD_SETLK`), or for a process (`F_SETLK`): a process is never in its own way, but two of its
//! descriptions are. The two families do not know of each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::FdTable;
use super::description::DescId;
use crate::errno::Errno;
use crate::program::fs::{Env, Fs, FsError, FsResult, InodeId, OpenFlags, fail};

/// Locks at most: each costs every other one on its file a look. Linux has no limit of its own.
const LOCKS_MAX: usize = 1 << 14;

/// The last offset that a lock reaches (`OFFSET_MAX`): the end, wherever that is.
const OFFSET_MAX: i64 = i64::MAX;

const LOCK_SH: u32 = 1;
const LOCK_EX: u32 = 2;
const LOCK_NB: u32 = 4;
const LOCK_UN: u32 = 8;
const LOCK_MAND: u32 = 32;

const F_RDLCK: u16 = 0;
const F_WRLCK: u16 = 1;
const F_UNLCK: u16 = 2;

/// `struct flock` of x86-64 Linux (`include/uapi/asm-generic/fcntl.h`): type, whence, start, length,
/// process.
pub(super) const FLOCK_SIZE: usize = 32;

/// Who has a range locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Owner {
    Process(u32),
    Description(DescId),
}

/// A range that is wanted or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    owner: Owner,
    first: i64,
    /// The last offset in it.
    last: i64,
    exclusive: bool,
}

/// Where a range ends, and whether it is for its owner alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    last: i64,
    exclusive: bool,
}

/// An owner's ranges, by where they start; no two have an offset in common.
type Ranges = BTreeMap<i64, End>;

/// Those that have offsets from `first` to `last`, the last one first.
fn meeting(ranges: &Ranges, first: i64, last: i64) -> impl Iterator<Item = (i64, End)> {
    let before = ranges.range(..=last).rev().map(|(start, end)| (*start, *end));
    before.take_while(move |(_, end)| end.last >= first)
}

/// The locks on a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct FileLocks {
    /// Descriptions that have locked all of it, and whether for themselves alone.
    whole: BTreeMap<DescId, bool>,
    ranges: BTreeMap<Owner, Ranges>,
}

impl FileLocks {
    fn len(&self) -> usize {
        self.whole.len() + self.ranges.values().map(BTreeMap::len).sum::<usize>()
    }

    /// What of another owner's keeps one from a range: the first.
    fn conflict(&self, wanted: &Range) -> Option<Range> {
        let others = self.ranges.iter().filter(|(owner, _)| **owner != wanted.owner);
        others.into_iter().find_map(|(owner, ranges)| {
            let keeping = |(_, end): &(i64, End)| end.exclusive || wanted.exclusive;
            let (first, end) = meeting(ranges, wanted.first, wanted.last).filter(keeping).last()?;
            Some(Range { owner: *owner, first, last: end.last, exclusive: end.exclusive })
        })
    }

    /// Takes a range away from its owner, and leaves what lies beside it.
    fn clear(&mut self, owner: Owner, first: i64, last: i64) {
        let Some(ranges) = self.ranges.get_mut(&owner) else {
            return;
        };
        for (start, end) in meeting(ranges, first, last).collect::<Vec<_>>() {
            ranges.remove(&start);
            if start < first {
                ranges.insert(start, End { last: first - 1, ..end });
            }
            if end.last > last {
                ranges.insert(last + 1, end);
            }
        }
        if ranges.is_empty() {
            self.ranges.remove(&owner);
        }
    }

    /// Adds a range, as one with those of the same kind that it touches.
    fn add(&mut self, new: Range) {
        self.clear(new.owner, new.first, new.last);
        let ranges = self.ranges.entry(new.owner).or_default();
        let (mut first, mut last) = (new.first, new.last);
        if let Some((start, end)) = ranges.range(..first).next_back()
            && end.exclusive == new.exclusive
            && end.last == first - 1
        {
            first = *start;
        }
        if let Some(next) = last.checked_add(1)
            && ranges.get(&next).is_some_and(|end| end.exclusive == new.exclusive)
            && let Some(end) = ranges.remove(&next)
        {
            last = end.last;
        }
        ranges.insert(first, End { last, exclusive: new.exclusive });
    }

    /// Checks what was decoded; `owns` says who can have locks here.
    fn check(&self, owns: impl Fn(DescId) -> bool) -> bool {
        let FileLocks { whole, ranges } = self;
        let owned = |owner: &Owner| match owner {
            Owner::Process(_) => true,
            Owner::Description(id) => owns(*id),
        };
        let sound = |ranges: &Ranges| {
            let mut free = 0;
            !ranges.is_empty()
                && ranges.iter().all(|(first, end)| {
                    let sound = *first >= free && *first <= end.last;
                    // Behind the last offset there is no other range.
                    free = end.last.checked_add(1).unwrap_or(OFFSET_MAX);
                    sound
                })
        };
        whole.keys().all(|id| owns(*id)) && ranges.iter().all(|(owner, r)| owned(owner) && sound(r))
    }
}

/// The locks on all files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Locks {
    files: BTreeMap<InodeId, FileLocks>,
    /// How many there are.
    count: usize,
    /// Files of which a lock was given up, that others may wait for.
    #[serde(skip)]
    woken: Vec<InodeId>,
}

impl Locks {
    /// Changes the locks of a file; `change` says whether anything was given up.
    fn change(&mut self, inode: InodeId, change: impl FnOnce(&mut FileLocks) -> bool) {
        let file = self.files.entry(inode).or_default();
        let before = file.len();
        let given_up = change(file);
        let after = file.len();
        if given_up {
            self.woken.push(inode);
        }
        if after == 0 {
            self.files.remove(&inode);
        }
        self.count = self.count.saturating_sub(before) + after;
    }

    fn expect_room(&self) -> FsResult<()> {
        // A range may be cut in two.
        if self.count + 2 > LOCKS_MAX { fail(Errno::ENOLCK) } else { Ok(()) }
    }

    /// The files whose locks have changed since the last call.
    pub fn take_woken(&mut self) -> Vec<InodeId> {
        std::mem::take(&mut self.woken)
    }

    /// A process closed a descriptor of a file.
    pub fn closed(&mut self, inode: InodeId, process: u32) {
        if self.files.contains_key(&inode) {
            self.change(inode, |file| file.ranges.remove(&Owner::Process(process)).is_some());
        }
    }

    /// A description is gone.
    pub fn released(&mut self, inode: InodeId, id: DescId) {
        if self.files.contains_key(&inode) {
            self.change(inode, |file| {
                let whole = file.whole.remove(&id).is_some();
                file.ranges.remove(&Owner::Description(id)).is_some() || whole
            });
        }
    }

    /// Checks what was decoded; `inode_of` gives what a description is open on.
    pub fn check(&self, inode_of: impl Fn(DescId) -> Option<InodeId>) -> bool {
        let Locks { files, count, woken: _ } = self;
        let sound = |(inode, file): (&InodeId, &FileLocks)| {
            file.len() > 0 && file.check(|id| inode_of(id) == Some(*inode))
        };
        files.iter().all(sound)
            && *count == files.values().map(FileLocks::len).sum::<usize>()
            && *count <= LOCKS_MAX
    }
}

/// A range as a program gives it, and as it is told of one.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    kind: u16,
    first: i64,
    last: i64,
}

fn word<const N: usize>(input: &[u8], at: usize) -> [u8; N] {
    input.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

impl FdTable {
    /// `flock`: locks the whole file for the description.
    ///
    /// # Errors
    /// As `flock(2)`; [`FsError::Block`] when it would wait for another description.
    pub fn flock(&mut self, fd: i32, operation: u32) -> FsResult<()> {
        if operation & LOCK_MAND != 0 {
            // Never did anything; Linux says yes all the same.
            return Ok(());
        }
        let exclusive = match operation & !LOCK_NB {
            LOCK_SH => Some(false),
            LOCK_EX => Some(true),
            LOCK_UN => None,
            _ => return fail(Errno::EINVAL),
        };
        let description = self.get_open(fd)?;
        let (inode, flags) = (description.inode, description.flags);
        if exclusive.is_some() && !flags.reads() && !flags.writes() {
            return fail(Errno::EBADF);
        }
        let id = self.description_id(fd)?;
        let now = self.locks.files.get(&inode).and_then(|file| file.whole.get(&id).copied());
        if now == exclusive {
            return Ok(());
        }
        // The old lock is gone even if the new one is refused.
        self.locks.change(inode, |file| file.whole.remove(&id).is_some());
        let Some(exclusive) = exclusive else {
            return Ok(());
        };
        let others = self.locks.files.get(&inode);
        if others.is_some_and(|file| file.whole.values().any(|other| *other || exclusive)) {
            return if operation & LOCK_NB != 0 { fail(Errno::EAGAIN) } else { Err(FsError::Block(inode)) };
        }
        self.locks.expect_room()?;
        self.locks.change(inode, |file| {
            file.whole.insert(id, exclusive);
            false
        });
        Ok(())
    }

    /// `F_GETLK` and `F_OFD_GETLK`: what keeps one from a range.
    pub(super) fn get_lock(
        &self,
        fs: &Fs,
        env: &Env<'_>,
        fd: i32,
        input: &[u8],
        of_description: bool,
    ) -> FsResult<Vec<u8>> {
        let (inode, owner, wanted) = self.wanted_lock(fs, env, fd, input, of_description)?;
        if wanted.kind == F_UNLCK && !of_description {
            return fail(Errno::EINVAL);
        }
        let exclusive = wanted.kind == F_WRLCK;
        let range = Range { owner, first: wanted.first, last: wanted.last, exclusive };
        let found = match wanted.kind {
            F_UNLCK => None,
            _ => self.locks.files.get(&inode).and_then(|file| file.conflict(&range)),
        };
        let mut out = input[..FLOCK_SIZE].to_vec();
        let Some(found) = found else {
            out[..2].copy_from_slice(&F_UNLCK.to_le_bytes());
            return Ok(out);
        };
        let kind = if found.exclusive { F_WRLCK } else { F_RDLCK };
        // Up to the end is length 0.
        let len = if found.last == OFFSET_MAX { 0 } else { found.last - found.first + 1 };
        let pid = match found.owner {
            Owner::Process(pid) => pid as i32,
            Owner::Description(_) => -1,
        };
        out[..2].copy_from_slice(&kind.to_le_bytes());
        out[2..4].copy_from_slice(&0u16.to_le_bytes());
        out[8..16].copy_from_slice(&found.first.to_le_bytes());
        out[16..24].copy_from_slice(&len.to_le_bytes());
        out[24..28].copy_from_slice(&pid.to_le_bytes());
        Ok(out)
    }

    /// `F_SETLK` and its kin.
    pub(super) fn set_lock(
        &mut self,
        fs: &Fs,
        env: &Env<'_>,
        fd: i32,
        input: &[u8],
        (of_description, wait): (bool, bool),
    ) -> FsResult<()> {
        let (inode, owner, wanted) = self.wanted_lock(fs, env, fd, input, of_description)?;
        let flags = self.get(fd)?.flags;
        let allowed = match wanted.kind {
            F_RDLCK => flags.reads(),
            F_WRLCK => flags.writes(),
            _ => true,
        };
        if !allowed {
            return fail(Errno::EBADF);
        }
        if wanted.kind == F_UNLCK {
            self.locks.expect_room()?;
            self.locks.change(inode, |file| {
                file.clear(owner, wanted.first, wanted.last);
                true
            });
            return Ok(());
        }
        let exclusive = wanted.kind == F_WRLCK;
        let range = Range { owner, first: wanted.first, last: wanted.last, exclusive };
        if self.locks.files.get(&inode).is_some_and(|file| file.conflict(&range).is_some()) {
            return if wait { Err(FsError::Block(inode)) } else { fail(Errno::EAGAIN) };
        }
        self.locks.expect_room()?;
        self.locks.change(inode, |file| {
            file.add(range);
            true
        });
        Ok(())
    }

    /// Takes a `struct flock` apart (`flock64_to_posix_lock`).
    fn wanted_lock(
        &self,
        fs: &Fs,
        env: &Env<'_>,
        fd: i32,
        input: &[u8],
        of_description: bool,
    ) -> FsResult<(InodeId, Owner, Wanted)> {
        if input.len() < FLOCK_SIZE {
            return fail(Errno::EFAULT);
        }
        let description = self.get_open(fd)?;
        let inode = description.inode;
        let kind = u16::from_le_bytes(word(input, 0));
        let base = match u16::from_le_bytes(word(input, 2)) {
            0 => 0,
            1 => i64::try_from(description.offset).unwrap_or(OFFSET_MAX),
            2 => i64::try_from(fs.len(inode)).unwrap_or(OFFSET_MAX),
            _ => return fail(Errno::EINVAL),
        };
        let start = i64::from_le_bytes(word(input, 8));
        let len = i64::from_le_bytes(word(input, 16));
        if of_description && i32::from_le_bytes(word(input, 24)) != 0 {
            return fail(Errno::EINVAL);
        }
        let start = base.checked_add(start).ok_or(FsError::Errno(Errno::EOVERFLOW))?;
        if start < 0 {
            return fail(Errno::EINVAL);
        }
        let (first, last) = match len {
            0 => (start, OFFSET_MAX),
            1.. => (start, start.checked_add(len - 1).ok_or(FsError::Errno(Errno::EOVERFLOW))?),
            _ => (start.checked_add(len).unwrap_or(-1), start - 1),
        };
        if first < 0 || kind > F_UNLCK {
            return fail(Errno::EINVAL);
        }
        let owner = match of_description {
            true => Owner::Description(self.description_id(fd)?),
            false => Owner::Process(env.caller.pid()),
        };
        debug_assert!(!description.flags.has(OpenFlags::PATH));
        Ok((inode, owner, Wanted { kind, first, last }))
    }
}
