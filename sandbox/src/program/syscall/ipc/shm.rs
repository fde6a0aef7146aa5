//! `shmget`, `shmat`, `shmdt` and `shmctl`.

use std::sync::Arc;

use super::{IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Stat, id, pair, words};
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::ipc::shm::{SHM_DEST, SHM_LOCKED, SHMMAX, SHMMNI, Segment};
use crate::program::ipc::{EXECUTE, Named, Perm, READ, WRITE};
use crate::program::kernel::Kernel;
use crate::program::limits;
use crate::program::mm::{Backing, USER_END, Vma};
use crate::program::syscall::Args;
use crate::ram::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

const SHM_LOCK: u32 = 11;
const SHM_UNLOCK: u32 = 12;
const SHM_STAT: u32 = 13;
const SHM_INFO: u32 = 14;
const SHM_STAT_ANY: u32 = 15;

/// Flags of `shmget`.
const SHM_HUGETLB: u32 = 0o4000;
const SHM_NORESERVE: u32 = 0o10000;

/// Flags of `shmat`.
const SHM_RDONLY: u32 = 0o10000;
const SHM_RND: u32 = 0o20000;
const SHM_REMAP: u32 = 0o40000;
const SHM_EXEC: u32 = 0o100000;

/// `PROT_*` bits.
const PROT_READ: u64 = 1;
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;

/// `MAP_SHARED`, and that with `MAP_FIXED`.
const MAP_SHARED: u64 = 1;
const MAP_SHARED_FIXED: u64 = 0x11;

impl Kernel {
    pub(in super::super) fn sys_shmget(&mut self, a: Args) -> SysResult {
        let (key, size, flags) = (a[0] as i32, a[1], a[2] as u32);
        let who = &self.task.credentials;
        let found = self.ipc.shm.segments.find(who, key, flags, |segment| segment.size >= size)?;
        if let Some(id) = found {
            return Ok(id as u64);
        }
        if size == 0 || size > SHMMAX {
            return Err(Errno::EINVAL.into());
        }
        if self.ipc.shm.segments.len() >= SHMMNI {
            return Err(Errno::ENOSPC.into());
        }
        if flags & SHM_HUGETLB != 0 {
            // There is no huge page.
            return Err(Errno::ENOMEM.into());
        }
        let perm = Perm::new(who, key, flags);
        let object = self.memory.new_object(size, flags & SHM_NORESERVE == 0)?;
        let (ctime, creator) = (self.ipc_time(), self.pid());
        let segment = Segment { perm, size, object, atime: 0, dtime: 0, ctime, creator, last: 0 };
        match self.ipc.shm.add(&mut self.memory.state.account, segment) {
            Ok(id) => Ok(id as u64),
            Err(errno) => {
                self.memory.drop_object(object)?;
                Err(errno.into())
            }
        }
    }

    pub(in super::super) fn sys_shmat(&mut self, a: Args) -> SysResult {
        let (id, mut address, flags) = (id(a[0])?, a[1], a[2] as u32);
        let has = |flag: u32| flags & flag != 0;
        if !address.is_multiple_of(PAGE) {
            if !has(SHM_RND) {
                return Err(Errno::EINVAL.into());
            }
            address -= address % PAGE;
        }
        // Also an address that was rounded to nothing.
        if address == 0 && has(SHM_REMAP) {
            return Err(Errno::EINVAL.into());
        }
        let (mut bits, mut wanted) = match has(SHM_RDONLY) {
            true => (PROT_READ, READ),
            false => (PROT_READ | PROT_WRITE, READ | WRITE),
        };
        if has(SHM_EXEC) {
            bits |= PROT_EXEC;
            wanted |= EXECUTE;
        }
        let segment = self.ipc.shm.segments.get(id)?;
        segment.perm.expect(&self.task.credentials, wanted)?;
        let (object, key) = (segment.object, segment.perm.key);
        let len = segment.size.next_multiple_of(PAGE);
        if address != 0 && !has(SHM_REMAP) {
            let end = address.checked_add(len).ok_or(Errno::EINVAL)?;
            if address < USER_END && !self.space.is_free(&(address..end.min(USER_END))) {
                return Err(Errno::EINVAL.into());
            }
        }
        let fixed = if address == 0 { MAP_SHARED } else { MAP_SHARED_FIXED };
        let start = self.place_mapping(address, len, fixed)?;
        let name = format!("/SYSV{key:08x} (deleted)");
        let vma = Vma {
            end: start + len,
            protection: self.protection(bits),
            backing: Backing::Shared { object, offset: 0 },
            no_reserve: false,
            charged: false,
            may_write: !has(SHM_RDONLY),
            locked: self.space.state.lock_new,
            grows_down: false,
            name: Arc::from(name.as_bytes()),
        };
        let replaced = self.mapped_within(start..start + len);
        self.expect_mappable(len - replaced, 0)?;
        let mapped = self.space.map(&mut self.memory, start, len, vma);
        self.release_unmapped()?;
        mapped?;
        let (pid, now) = (self.pid(), self.ipc_time());
        self.ipc.shm.note(|of| of == object, true, pid, now);
        Ok(start)
    }

    pub(in super::super) fn sys_shmdt(&mut self, a: Args) -> SysResult {
        let address = a[0];
        if !address.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        // What is left of one that was attached there: the first part that is, and what follows of the same.
        let is_part = |start: u64, offset: u64| start - address == offset;
        let segments = &self.ipc.shm;
        let parts = self.space.state.vmas.range(address..).filter_map(|(start, vma)| match vma.backing {
            Backing::Shared { object, offset } if is_part(*start, offset) => Some((object, *start, vma.end)),
            _ => None,
        });
        let mut parts = parts.skip_while(|(object, ..)| segments.of_object(*object).is_none());
        let (object, start, end) = parts.next().ok_or(Errno::EINVAL)?;
        let size = segments.of_object(object).map_or(0, |(_, segment)| segment.size.next_multiple_of(PAGE));
        let more = parts.take_while(|(_, _, end)| end - address <= size).filter(|part| part.0 == object);
        let all: Vec<(u64, u64)> =
            std::iter::once((start, end)).chain(more.map(|(_, start, end)| (start, end))).collect();
        for (start, end) in all {
            self.space.unmap(&mut self.memory, start, end - start)?;
        }
        let (pid, now) = (self.pid(), self.ipc_time());
        self.ipc.shm.note(|of| of == object, false, pid, now);
        self.release_unmapped()?;
        Ok(0)
    }

    pub(in super::super) fn sys_shmctl(&mut self, a: Args) -> SysResult {
        let (id, command, address) = (id(a[0])?, a[1] as u32, a[2]);
        match command {
            IPC_INFO => {
                let all = [SHMMAX, 1, SHMMNI as u64, SHMMNI as u64, SHMMAX, 0, 0, 0, 0];
                self.write_words(address, &all)?;
                Ok(self.ipc.shm.segments.highest().into())
            }
            SHM_INFO => {
                let (count, pages) = (self.ipc.shm.segments.len() as u64, self.ipc.shm.pages());
                self.write_words(address, &[count, pages, self.ipc.shm.pages(), 0, 0, 0])?;
                Ok(self.ipc.shm.segments.highest().into())
            }
            IPC_STAT => self.stat_segment(id, Stat::Id, address),
            SHM_STAT => self.stat_segment(id, Stat::Index, address),
            SHM_STAT_ANY => self.stat_segment(id, Stat::Any, address),
            IPC_SET => {
                let new = self.read_perm(address)?;
                let now = self.ipc_time();
                let segment = self.ipc.shm.segments.get_mut(id)?;
                segment.perm.expect_owner(&self.task.credentials)?;
                segment.perm.update(&new)?;
                segment.ctime = now;
                Ok(0)
            }
            IPC_RMID => self.remove_segment(id),
            SHM_LOCK | SHM_UNLOCK => self.lock_segment(id, command == SHM_LOCK),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    fn stat_segment(&mut self, id: i32, stat: Stat, address: u64) -> SysResult {
        let (id, s) = match stat {
            Stat::Id => (id, self.ipc.shm.segments.get(id)?),
            _ => self.ipc.shm.segments.at(id)?,
        };
        if stat != Stat::Any {
            s.perm.expect(&self.task.credentials, READ)?;
        }
        let mut bytes = s.perm.to_bytes(id);
        words(&mut bytes, &[s.size, s.atime, s.dtime, s.ctime, pair(s.creator, s.last)]);
        words(&mut bytes, &[self.attachments(s.object), 0, 0]);
        self.write(address, &bytes)?;
        Ok(if stat == Stat::Id { 0 } else { id as u64 })
    }

    /// Removes a segment: at once, or with its last mapping.
    fn remove_segment(&mut self, id: i32) -> SysResult {
        let segment = self.ipc.shm.segments.get(id)?;
        segment.perm.expect_owner(&self.task.credentials)?;
        if self.attachments(segment.object) > 0 {
            self.ipc.shm.segments.hide(id);
            self.ipc.shm.segments.get_mut(id)?.perm_mut().mode |= SHM_DEST;
        } else if let Some(object) = self.ipc.shm.remove(&mut self.memory.state.account, id) {
            self.memory.drop_object(object)?;
        }
        Ok(0)
    }

    /// Nothing is ever swapped out: only the mark is kept.
    fn lock_segment(&mut self, id: i32, locked: bool) -> SysResult {
        let limit = self.process.limits[limits::MEMLOCK].0;
        let who = &self.task.credentials;
        let segment = self.ipc.shm.segments.get_mut(id)?;
        if !who.can(cap::IPC_LOCK) {
            let owns = [segment.perm.uid, segment.perm.creator].contains(&who.user.effective);
            if !owns || locked && limit == 0 {
                return Err(SysError::Errno(Errno::EPERM));
            }
        }
        let mode = &mut segment.perm.mode;
        *mode = if locked { *mode | SHM_LOCKED } else { *mode & !SHM_LOCKED };
        Ok(0)
    }
}
