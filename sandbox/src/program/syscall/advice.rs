//! What programs say of memory that they have mapped: `madvise`, `mlock`, `msync`, `mincore`.

use std::ops::Range;

use super::Args;
use crate::errno::Errno;
use crate::host::stop::Pace;
use crate::program::error::{SysError, SysResult};
use crate::program::fs::{FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE};
use crate::program::kernel::Kernel;
use crate::program::mm::{Backing, USER_END, Vma, is_anonymous_object};
use crate::ram::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

/// `MADV_*` (`include/uapi/asm-generic/mman-common.h`).
mod madv {
    pub const DONTNEED: u64 = 4;
    pub const FREE: u64 = 8;
    pub const REMOVE: u64 = 9;
    pub const DONTFORK: u64 = 10;
    pub const WIPEONFORK: u64 = 18;
    pub const COLD: u64 = 20;
    pub const PAGEOUT: u64 = 21;
    pub const POPULATE_READ: u64 = 22;
    pub const POPULATE_WRITE: u64 = 23;
    pub const DONTNEED_LOCKED: u64 = 24;
    pub const COLLAPSE: u64 = 25;
    pub const HWPOISON: u64 = 100;
    pub const SOFT_OFFLINE: u64 = 101;
}

/// `MS_*`.
const MS_ASYNC: u64 = 1;
const MS_INVALIDATE: u64 = 2;
const MS_SYNC: u64 = 4;

/// `MCL_*`.
const MCL_CURRENT: u64 = 1;
const MCL_FUTURE: u64 = 2;
const MCL_ONFAULT: u64 = 4;

/// `MLOCK_ONFAULT`.
const MLOCK_ONFAULT: u64 = 1;

/// Pages that `mincore` answers for at once.
const MINCORE_PAGES: u64 = PAGE;

/// The whole pages from `start` to `start + len`, as `madvise` and `msync` round; `None` where that
/// wraps.
fn pages(start: u64, len: u64) -> Option<Range<u64>> {
    let len = len.wrapping_add(PAGE - 1) / PAGE * PAGE;
    start.checked_add(len).map(|end| start..end)
}

/// Whether advice of this kind can be given of a mapping.
fn applies(advice: u64, vma: &Vma) -> Result<(), Errno> {
    let anonymous = matches!(vma.backing, Backing::Anonymous);
    let drops = matches!(advice, madv::DONTNEED | madv::FREE | madv::REMOVE);
    let unlocked = drops || matches!(advice, madv::COLD | madv::PAGEOUT);
    match advice {
        _ if unlocked && vma.locked => Err(Errno::EINVAL),
        madv::FREE | madv::WIPEONFORK if !anonymous => Err(Errno::EINVAL),
        madv::REMOVE if anonymous => Err(Errno::EINVAL),
        madv::REMOVE if !vma.backing.is_shared() || !vma.may_write => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

impl Kernel {
    pub(super) fn sys_madvise(&mut self, a: Args) -> SysResult {
        let [start, len, advice, ..] = a;
        // An `int`.
        let advice = u64::from(advice as u32);
        if advice == madv::COLLAPSE {
            // Huge pages are not the guest's to have: as a kernel that lacks them.
            self.count_unknown(super::number::MADVISE);
        }
        let known = matches!(
            advice,
            0..=madv::DONTNEED | madv::FREE | madv::REMOVE | madv::DONTFORK..=madv::DONTNEED_LOCKED
        );
        if matches!(advice, madv::HWPOISON | madv::SOFT_OFFLINE) {
            return Err(Errno::EPERM.into());
        }
        let range = pages(start, len).filter(|range| len == 0 || !range.is_empty());
        let (true, Some(range)) = (known && start.is_multiple_of(PAGE), range) else {
            return Err(Errno::EINVAL.into());
        };
        if range.is_empty() {
            return Ok(0);
        }
        if matches!(advice, madv::POPULATE_READ | madv::POPULATE_WRITE) {
            return self.populate(range, advice == madv::POPULATE_WRITE);
        }
        // Part by part up to the first that refuses. Gaps are told of in the end.
        for (part, refused) in self.mapped_parts(&range, |vma| applies(advice, vma).err()) {
            match refused {
                Some(errno) => return Err(errno.into()),
                None => self.advise(part, advice)?,
            }
        }
        if self.space.mapped_until(&range) < range.end { Err(Errno::ENOMEM.into()) } else { Ok(0) }
    }

    /// `madvise` of several ranges. Whose memory is meant is said by a descriptor: other processes have none
    /// here, and this one has the numbers that stand for it.
    pub(super) fn sys_process_madvise(&mut self, a: Args) -> SysResult {
        /// `PIDFD_SELF_THREAD` and `PIDFD_SELF_THREAD_GROUP` (`include/uapi/linux/fcntl.h`).
        const SELF: [i32; 2] = [-10000, -10001];
        let [whose, vector, count, advice, flags, _] = a;
        if flags as u32 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let ranges = self.ranges(vector, count)?;
        if !SELF.contains(&(whose as i32)) {
            return Err(Errno::EBADF.into());
        }
        let mut done = 0;
        for (start, len) in ranges {
            match self.sys_madvise([start, len, advice, 0, 0, 0]) {
                Ok(_) => done += len,
                Err(SysError::Errno(_)) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// The mapped parts of a range, one for each mapping, and what there is to say of each.
    fn mapped_parts<T>(&self, range: &Range<u64>, say: impl Fn(&Vma) -> T) -> Vec<(Range<u64>, T)> {
        let parts = self.space.mappings_in(range);
        parts.map(|(start, vma)| (start.max(range.start)..vma.end.min(range.end), say(vma))).collect()
    }

    /// Follows advice of a part of one mapping. What is not here is about speed, dumps, or pages that
    /// are told from others by nothing: that `MADV_FREE` never drops a page keeps runs alike.
    fn advise(&mut self, part: Range<u64>, advice: u64) -> Result<(), SysError> {
        match advice {
            madv::DONTNEED | madv::DONTNEED_LOCKED => {
                self.space.discard(&mut self.memory, part.start, part.end - part.start)?;
                Ok(())
            }
            madv::REMOVE => self.punch_hole(part),
            _ => Ok(()),
        }
    }

    /// Zeroes the part of a file that is mapped shared at a part of a mapping.
    fn punch_hole(&mut self, part: Range<u64>) -> Result<(), SysError> {
        let Some((start, vma)) = self.space.find(part.start) else { return Ok(()) };
        let Some((object, offset)) = vma.backing.object() else { return Ok(()) };
        let (offset, len) = (offset + (part.start - start), part.end - part.start);
        if is_anonymous_object(object) {
            let range = offset..offset + len;
            for (_, space) in self.space.iter_mut() {
                space.hide_zeroed(&mut self.memory, object, &range)?;
            }
            return Ok(self.memory.zero_object(object, range)?);
        }
        let Some(file) = self.space.state.files.get(&object).copied() else { return Ok(()) };
        let mode = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;
        self.with_files(|fs, _, env, _| fs.fallocate(env, file, mode, offset as i64, len as i64))?;
        Ok(())
    }

    /// Touches all pages of a range, as reads or writes would.
    fn populate(&mut self, range: Range<u64>, write: bool) -> SysResult {
        // What can be written only can be read, too, but not so (`check_vma_flags`).
        let allows = |vma: &Vma| if write { vma.protection.write } else { vma.protection.read };
        let stop = self.stop.clone();
        let (mut pace, mut at) = (Pace::new(&stop), range.start);
        for (part, allowed) in self.mapped_parts(&range, allows) {
            if part.start > at {
                return Err(Errno::ENOMEM.into());
            }
            if !allowed {
                return Err(Errno::EINVAL.into());
            }
            let until = self.space.file_end(&self.memory, part.start).min(part.end);
            let touched = part.start..until.max(part.start);
            if write && !self.space.copy_range(&mut self.memory, touched, &mut pace)? {
                return Err(Errno::ENOMEM.into());
            }
            if until < part.end {
                return Err(Errno::EFAULT.into());
            }
            at = part.end;
        }
        if at < range.end { Err(Errno::ENOMEM.into()) } else { Ok(0) }
    }

    pub(super) fn sys_mlock(&mut self, a: Args, flags: u64) -> SysResult {
        let [start, len, ..] = a;
        if flags & !MLOCK_ONFAULT != 0 {
            return Err(Errno::EINVAL.into());
        }
        let range = self.lock_range(start, len, true)?;
        // Pages that cannot be touched cannot be brought into memory.
        let untouchable = self.mapped_parts(&range, |vma| !vma.protection.any());
        let beyond = |part: &Range<u64>| self.space.file_end(&self.memory, part.start) < part.end;
        let now = flags & MLOCK_ONFAULT == 0;
        if now && untouchable.iter().any(|(part, untouchable)| *untouchable || beyond(part)) {
            return Err(Errno::ENOMEM.into());
        }
        Ok(0)
    }

    pub(super) fn sys_munlock(&mut self, a: Args) -> SysResult {
        self.lock_range(a[0], a[1], false).map(|_| 0)
    }

    fn lock_range(&mut self, start: u64, len: u64, locked: bool) -> Result<Range<u64>, SysError> {
        let range = pages(start / PAGE * PAGE, len.wrapping_add(start % PAGE)).ok_or(Errno::EINVAL)?;
        if !range.is_empty() && self.space.lock(&mut self.memory, range.clone(), locked) < range.end {
            return Err(Errno::ENOMEM.into());
        }
        Ok(range)
    }

    pub(super) fn sys_mlockall(&mut self, a: Args) -> SysResult {
        let flags = a[0];
        if flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || matches!(flags, 0 | MCL_ONFAULT) {
            return Err(Errno::EINVAL.into());
        }
        self.space.state.lock_new = flags & MCL_FUTURE != 0;
        if flags & MCL_CURRENT != 0 {
            self.space.lock_all(&mut self.memory, true);
        }
        Ok(0)
    }

    pub(super) fn sys_munlockall(&mut self) -> SysResult {
        self.space.state.lock_new = false;
        self.space.lock_all(&mut self.memory, false);
        Ok(0)
    }

    /// Shared mappings and their files are one: there is nothing to bring together.
    pub(super) fn sys_msync(&mut self, a: Args) -> SysResult {
        let [start, len, flags, ..] = a;
        let known = flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) == 0;
        if !known || !start.is_multiple_of(PAGE) || flags & MS_ASYNC != 0 && flags & MS_SYNC != 0 {
            return Err(Errno::EINVAL.into());
        }
        let range = pages(start, len).ok_or(Errno::ENOMEM)?;
        let locked = self.mapped_parts(&range, |vma| vma.locked);
        if flags & MS_INVALIDATE != 0 && locked.iter().any(|(_, locked)| *locked) {
            return Err(Errno::EBUSY.into());
        }
        if self.space.mapped_until(&range) < range.end { Err(Errno::ENOMEM.into()) } else { Ok(0) }
    }

    /// Everything that is mapped is said to be resident: what really is depends on the host.
    pub(super) fn sys_mincore(&mut self, a: Args) -> SysResult {
        let [start, len, vec, ..] = a;
        if !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        let end = start.checked_add(len).filter(|end| *end <= USER_END).ok_or(Errno::ENOMEM)?;
        let stop = self.stop.clone();
        let mut pace = Pace::new(&stop);
        let mut at = start;
        while at < end {
            let part = at..end.next_multiple_of(PAGE).min(at + MINCORE_PAGES * PAGE);
            let mapped = self.space.mapped_until(&part);
            let answer = vec![1; ((mapped - at) / PAGE) as usize];
            pace.bytes(answer.len())?;
            self.write(vec.checked_add((at - start) / PAGE).ok_or(Errno::EFAULT)?, &answer)?;
            if mapped < part.end {
                return Err(Errno::ENOMEM.into());
            }
            at = part.end;
        }
        Ok(0)
    }
}
