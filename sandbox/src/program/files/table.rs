//! The table: numbers, and what they stand for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::description::{Arena, DescId, Description};
use super::epoll::is_asked;
use super::lock::Locks;
use super::watched::Watched;
use crate::errno::Errno;
use crate::program::current::Shared;
use crate::program::fs::{
    Anon, At, Env, FdLinks, Fs, FsResult, Inconsistent, InodeId, OpenFlags, Scope, fail,
};

/// `dirfd` that stands for the working directory.
pub const AT_FDCWD: i32 = -100;
/// Do not follow a link at the end of the path.
pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
/// Follow a link at the end of the path, for calls that do not.
pub const AT_SYMLINK_FOLLOW: u32 = 0x400;
/// An empty path stands for `dirfd` itself.
pub const AT_EMPTY_PATH: u32 = 0x1000;

/// Descriptors at most unless the limit is changed (`RLIMIT_NOFILE`).
const LIMIT: u32 = 1024;

/// Descriptors at most whatever the limit says (`fs.nr_open`).
pub const OPEN_MAX: u32 = 1 << 16;

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    id: DescId,
    cloexec: bool,
}

/// The numbers of one table, which tasks may share.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Numbers {
    slots: Vec<Option<Slot>>,
    limit: u32,
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers { slots: Vec::new(), limit: LIMIT }
    }
}

/// All descriptors: tables of numbers, of which the running task's is at hand, and the open file
/// descriptions that they stand for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FdTable {
    table: Shared<Numbers>,
    pub(super) arena: Arena,
    pub(super) locks: Locks,
    /// What sets of watched descriptors watch.
    pub(super) watched: Watched,
}

impl FdLinks for FdTable {
    fn fds(&self) -> Vec<u32> {
        (0..).zip(&self.table.slots).filter(|(_, slot)| slot.is_some()).map(|(fd, _)| fd).collect()
    }

    fn target(&self, fd: u32) -> Option<InodeId> {
        self.get(i32::try_from(fd).ok()?).ok().map(|d| d.inode)
    }
}

impl Default for FdTable {
    fn default() -> FdTable {
        FdTable {
            table: Shared::new(Numbers::default()),
            arena: Arena::default(),
            locks: Locks::default(),
            watched: Watched::default(),
        }
    }
}

impl FdTable {
    /// A table with the standard streams at 0, 1 and 2.
    pub fn with_stdio(fs: &mut Fs) -> FdTable {
        let mut table = FdTable::default();
        let (inodes, merged) = fs.stdio_inodes();
        let modes = [OpenFlags::RDONLY, OpenFlags::WRONLY, OpenFlags::WRONLY];
        for (fd, (inode, mode)) in inodes.into_iter().zip(modes).enumerate() {
            let Some(inode) = inode else {
                table.table.slots.push(None);
                continue;
            };
            // A terminal is open for both on all three, as a login leaves it.
            let mode = if fs.is_tty(inode) { OpenFlags::RDWR } else { mode };
            let id = match table.table.slots.get(1) {
                Some(Some(stdout)) if fd == 2 && merged => stdout.id,
                _ => {
                    fs.hold(inode);
                    table.arena.add(match fs.standard_file(inode) {
                        Some(file) => Description::of_standard_file(inode, mode, &file),
                        None => Description::new(inode, mode),
                    })
                }
            };
            table.arena.hold(id);
            table.table.slots.push(Some(Slot { id, cloexec: false }));
        }
        table
    }

    /// The number of descriptors that there may be.
    pub fn limit(&self) -> u32 {
        self.table.limit
    }

    /// Sets the number of descriptors that there may be in a table; those beyond it stay open.
    pub fn set_limit(&mut self, table: u32, limit: u64) {
        if let Some(table) = self.table.of_mut(table) {
            table.limit = u32::try_from(limit).unwrap_or(OPEN_MAX).min(OPEN_MAX);
        }
    }

    /// Descriptors that are open.
    pub fn count(&self) -> u64 {
        self.table.slots.iter().flatten().count() as u64
    }

    /// The description that a descriptor stands for.
    pub(super) fn description_id(&self, fd: i32) -> FsResult<DescId> {
        Ok(self.slot(fd)?.id)
    }

    fn slot(&self, fd: i32) -> FsResult<Slot> {
        let slot = usize::try_from(fd).ok().and_then(|fd| self.table.slots.get(fd).copied().flatten());
        slot.map_or_else(|| fail(Errno::EBADF), Ok)
    }

    /// What a descriptor stands for.
    ///
    /// # Errors
    /// `EBADF`
    pub fn get(&self, fd: i32) -> FsResult<&Description> {
        let slot = self.slot(fd)?;
        self.arena.get(slot.id).map_or_else(|| fail(Errno::EBADF), Ok)
    }

    /// What a descriptor stands for, unless it is one for paths only (`O_PATH`).
    pub(crate) fn get_open(&self, fd: i32) -> FsResult<&Description> {
        let description = self.get(fd)?;
        if description.flags.has(OpenFlags::PATH) { fail(Errno::EBADF) } else { Ok(description) }
    }

    pub(super) fn get_mut(&mut self, fd: i32) -> FsResult<&mut Description> {
        let slot = self.slot(fd)?;
        self.arena.get_mut(slot.id).map_or_else(|| fail(Errno::EBADF), Ok)
    }

    /// The lowest free number from `from` on.
    pub(super) fn vacant(&self, from: u32) -> FsResult<usize> {
        let from = from as usize;
        let free = self.table.slots.iter().skip(from).position(Option::is_none);
        let fd = free.map_or(self.table.slots.len().max(from), |n| from + n);
        if fd >= self.table.limit as usize { fail(Errno::EMFILE) } else { Ok(fd) }
    }

    pub(super) fn put(&mut self, fd: usize, id: DescId, cloexec: bool) -> i32 {
        self.arena.hold(id);
        if fd >= self.table.slots.len() {
            self.table.slots.resize(fd + 1, None);
        }
        self.table.slots[fd] = Some(Slot { id, cloexec });
        // Numbers are below `OPEN_MAX`.
        fd as i32
    }

    /// Where a path starts. An empty one starts nowhere: what looks it up finds that out first.
    ///
    /// # Errors
    /// `EBADF` for a relative path from a bad descriptor.
    pub fn at(&self, dirfd: i32, cwd: InodeId, path: &[u8]) -> FsResult<At<'_>> {
        let base = match path.first() {
            None | Some(b'/') => cwd,
            _ if dirfd == AT_FDCWD => cwd,
            _ => self.get(dirfd)?.inode,
        };
        Ok(At { base, fds: self })
    }

    /// Finds what `dirfd`, a path and `AT_*` flags name: links are followed unless
    /// [`AT_SYMLINK_NOFOLLOW`] is among the flags.
    ///
    /// # Errors
    /// As [`Fs::lookup`], and `EBADF`.
    pub fn lookup_at(
        &self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        (dirfd, cwd): (i32, InodeId),
        path: &[u8],
        flags: u32,
    ) -> FsResult<InodeId> {
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            return if dirfd == AT_FDCWD { Ok(cwd) } else { Ok(self.get(dirfd)?.inode) };
        }
        fs.lookup(env, self.at(dirfd, cwd, path)?, path, flags & AT_SYMLINK_NOFOLLOW == 0)
    }

    /// Opens a path; `mode` is what `umask` left.
    ///
    /// # Errors
    /// As [`Fs::open`], and `EBADF`, `EMFILE`.
    pub fn open(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        (dirfd, cwd): (i32, InodeId),
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
    ) -> FsResult<i32> {
        self.open_within(fs, env, (dirfd, cwd), path, (flags, mode), Scope::default())
    }

    /// The same within a scope.
    ///
    /// # Errors
    /// As [`Fs::open_within`], and `EBADF`, `EMFILE`.
    pub fn open_within(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        (dirfd, cwd): (i32, InodeId),
        path: &[u8],
        (flags, mode): (OpenFlags, u32),
        scope: Scope,
    ) -> FsResult<i32> {
        // A call that fails must not have made a file.
        let fd = self.vacant(0)?;
        // In a scope the directory matters to absolute paths, too.
        let at = match scope {
            Scope(0) => self.at(dirfd, cwd, path)?,
            _ => self.at(dirfd, cwd, b".")?,
        };
        let inode = fs.open_within(env, at, path, (flags, mode), scope)?;
        let kept = if flags.has(OpenFlags::PATH) {
            let of_path = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
            OpenFlags(flags.0 & of_path.0)
        } else {
            let append = if fs.is_only_appended_to(inode) { OpenFlags::APPEND } else { OpenFlags(0) };
            // A 64-bit kernel sets it for everyone.
            flags | OpenFlags::LARGEFILE | append
        };
        let id = self.arena.add(Description::new(inode, kept));
        Ok(self.put(fd, id, flags.has(OpenFlags::CLOEXEC)))
    }

    /// Makes a pipe: the descriptors to read and to write.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags, `EMFILE`, `ENFILE`.
    pub fn pipe(&mut self, fs: &mut Fs, env: &mut Env<'_>, flags: OpenFlags) -> FsResult<(i32, i32)> {
        let of_file = OpenFlags::NONBLOCK | OpenFlags::DIRECT;
        let known = OpenFlags::CLOEXEC | of_file;
        if flags.0 & !known.0 != 0 {
            return fail(Errno::EINVAL);
        }
        let first = self.vacant(0)?;
        let second = self.vacant(first as u32 + 1)?;
        let inode = fs.make_pipe(env)?;
        let status = OpenFlags(flags.0 & of_file.0);
        let cloexec = flags.has(OpenFlags::CLOEXEC);
        // The end that is read takes packets as they were written.
        let nonblock = OpenFlags(status.0 & OpenFlags::NONBLOCK.0);
        let read = self.arena.add(Description::new(inode, OpenFlags::RDONLY | nonblock));
        let write = self.arena.add(Description::new(inode, OpenFlags::WRONLY | status));
        Ok((self.put(first, read, cloexec), self.put(second, write, cloexec)))
    }

    /// A descriptor of a new file in memory: `memfd_create`.
    ///
    /// # Errors
    /// `EMFILE`, `ENOSPC`.
    pub fn memfd(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        name: &[u8],
        (mode, seals): (u32, u32),
        cloexec: bool,
    ) -> FsResult<i32> {
        let fd = self.vacant(0)?;
        let inode = fs.make_memfd(env, name, mode, seals)?;
        let id = self.arena.add(Description::new(inode, OpenFlags::RDWR | OpenFlags::LARGEFILE));
        Ok(self.put(fd, id, cloexec))
    }

    /// The files whose locks have changed since the last call.
    pub fn take_woken(&mut self) -> Vec<InodeId> {
        self.locks.take_woken()
    }

    /// Whether a file is open for writing.
    pub fn is_written(&self, inode: InodeId) -> bool {
        self.arena.all().any(|description| description.inode == inode && description.flags.writes())
    }

    fn drop_slot(&mut self, fs: &mut Fs, env: &mut Env<'_>, slot: Slot) -> FsResult<()> {
        let process = env.caller.pid();
        self.drop_slot_of(fs, env, slot, process)
    }

    fn drop_slot_of(&mut self, fs: &mut Fs, env: &mut Env<'_>, slot: Slot, process: u32) -> FsResult<()> {
        if let Some(description) = self.arena.get(slot.id)
            && !description.flags.has(OpenFlags::PATH)
        {
            // A process's locks on a file go with the first descriptor of it that it closes.
            self.locks.closed(description.inode, process);
            if let Some(queue) = fs.queue_mut(description.inode) {
                queue.closed(process);
            }
        }
        let lost = self.let_go(fs, env, slot.id)?;
        self.settle_after(fs, env, lost)
    }

    /// One less holds a description: with the last one it is closed. Whether only messages hold it now.
    pub(super) fn let_go(&mut self, fs: &mut Fs, env: &mut Env<'_>, id: DescId) -> FsResult<bool> {
        let Some(description) = self.arena.release(id) else {
            return Ok(self.arena.is_only_passed(id));
        };
        self.locks.released(description.inode, id);
        if let Some(text) = &description.text {
            env.caller.refund(text.cost());
        }
        let mut watched = self.watched.forget(description.inode, id);
        if matches!(fs.anon(description.inode), Some(Anon::Epoll)) {
            watched += self.watched.forget_set(description.inode);
        }
        env.caller.refund(watched);
        fs.close_inode(env, description.inode, description.flags)?;
        Ok(false)
    }

    /// Closes a descriptor.
    ///
    /// # Errors
    /// `EBADF`
    pub fn close(&mut self, fs: &mut Fs, env: &mut Env<'_>, fd: i32) -> FsResult<()> {
        let slot = self.slot(fd)?;
        self.table.slots[fd as usize] = None;
        self.drop_slot(fs, env, slot)
    }

    /// `close_range` without its flags: closes all from `first` to `last`, or marks them to be
    /// closed by `execve`.
    ///
    /// # Errors
    /// `EINVAL` when `first` is above `last`.
    pub fn close_range(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        (first, last): (u32, u32),
        mark: bool,
    ) -> FsResult<()> {
        if first > last {
            return fail(Errno::EINVAL);
        }
        let end = self.table.slots.len().min((last as usize).saturating_add(1));
        for fd in first as usize..end {
            if mark {
                if let Some(slot) = &mut self.table.slots[fd] {
                    slot.cloexec = true;
                }
            } else if let Some(slot) = self.table.slots[fd].take() {
                self.drop_slot(fs, env, slot)?;
            }
        }
        Ok(())
    }

    /// Closes those that are marked to be closed by `execve`.
    ///
    /// # Errors
    /// When content in guest memory cannot be freed.
    pub fn close_on_exec(&mut self, fs: &mut Fs, env: &mut Env<'_>) -> FsResult<()> {
        for fd in 0..self.table.slots.len() {
            if let Some(slot) = self.table.slots[fd].take_if(|slot| slot.cloexec) {
                self.drop_slot(fs, env, slot)?;
            }
        }
        Ok(())
    }

    /// A new number for a description, from `from` on (`dup`, `F_DUPFD`).
    ///
    /// # Errors
    /// `EBADF`, `EMFILE`, and `EINVAL` when `from` is beyond the limit.
    pub fn dup(&mut self, fd: i32, from: u64, cloexec: bool) -> FsResult<i32> {
        let slot = self.slot(fd)?;
        let from = u32::try_from(from).unwrap_or(u32::MAX);
        if from >= self.table.limit {
            return fail(Errno::EINVAL);
        }
        let new = self.vacant(from)?;
        Ok(self.put(new, slot.id, cloexec))
    }

    /// A new descriptor of what one of another table stands for, which `execve` closes.
    ///
    /// # Errors
    /// `EBADF`, `EMFILE`.
    pub fn dup_from(&mut self, table: u32, fd: i32) -> FsResult<i32> {
        let slot = self.slot_in(table, fd)?;
        let new = self.vacant(0)?;
        Ok(self.put(new, slot.id, true))
    }

    /// Makes `new` stand for what `old` does, and closes what it stood for (`dup3`).
    ///
    /// # Errors
    /// `EINVAL` when they are the same, `EBADF`.
    pub fn dup3(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        (old, new): (i32, i32),
        cloexec: bool,
    ) -> FsResult<i32> {
        if old == new {
            return fail(Errno::EINVAL);
        }
        let slot = self.slot(old)?;
        let Some(number) = u32::try_from(new).ok().filter(|new| *new < self.table.limit) else {
            return fail(Errno::EBADF);
        };
        let replaced = self.table.slots.get_mut(number as usize).and_then(Option::take);
        self.put(number as usize, slot.id, cloexec);
        if let Some(replaced) = replaced {
            self.drop_slot(fs, env, replaced)?;
        }
        Ok(new)
    }

    /// `dup2`: like [`FdTable::dup3`], but does nothing when both are the same open descriptor.
    ///
    /// # Errors
    /// `EBADF`
    pub fn dup2(&mut self, fs: &mut Fs, env: &mut Env<'_>, old: i32, new: i32) -> FsResult<i32> {
        if old == new {
            return self.slot(old).map(|_| new);
        }
        self.dup3(fs, env, (old, new), false)
    }

    /// Whether `execve` closes it.
    ///
    /// # Errors
    /// `EBADF`
    pub fn cloexec(&self, fd: i32) -> FsResult<bool> {
        Ok(self.slot(fd)?.cloexec)
    }

    /// Sets whether `execve` closes it.
    ///
    /// # Errors
    /// `EBADF`
    pub fn set_cloexec(&mut self, fd: i32, cloexec: bool) -> FsResult<()> {
        self.slot(fd)?;
        if let Some(Some(slot)) = self.table.slots.get_mut(fd as usize) {
            slot.cloexec = cloexec;
        }
        Ok(())
    }

    /// Checks what was decoded, with the file system that belongs to it, before it is used.
    ///
    /// # Errors
    /// What cannot be.
    pub fn check(&self, fs: &Fs) -> Result<(), Inconsistent> {
        let FdTable { table, arena, locks, watched } = self;
        let mut references = BTreeMap::new();
        let tables = || table.iter().map(|(_, numbers)| numbers);
        let mut passed = BTreeMap::new();
        fs.sockets().count_passed(&mut passed);
        references.clone_from(&passed);
        for Slot { id, cloexec: _ } in tables().flat_map(|numbers| &numbers.slots).flatten() {
            *references.entry(*id).or_insert(0) += 1;
        }
        let bounded =
            |Numbers { slots, limit }: &Numbers| *limit <= OPEN_MAX && slots.len() <= OPEN_MAX as usize;
        let sound = tables().all(bounded)
            && watched.is_sound(
                |id| arena.get(id).map(|description| description.inode),
                |set| matches!(fs.anon(set), Some(Anon::Epoll)),
                |inode| is_asked(fs, inode),
            )
            && arena.check(&references, &passed, |inode| fs.exists(inode))
            && locks.check(|id| arena.get(id).map(|d| d.inode));
        if sound { Ok(()) } else { Err(Inconsistent("the descriptors")) }
    }

    /// What a descriptor of a table is open on.
    pub fn inode_in(&self, table: u32, fd: i32) -> Option<InodeId> {
        let slot = self.slot_in(table, fd).ok()?;
        self.arena.get(slot.id).map(|description| description.inode)
    }

    /// The description that a descriptor of a table stands for.
    ///
    /// # Errors
    /// `EBADF`
    pub(crate) fn description_in(&self, table: u32, fd: i32) -> FsResult<DescId> {
        Ok(self.slot_in(table, fd)?.id)
    }

    fn slot_in(&self, table: u32, fd: i32) -> FsResult<Slot> {
        let slots = self.table.of(table).map(|numbers| &numbers.slots);
        let slot = usize::try_from(fd).ok().and_then(|fd| slots?.get(fd).copied().flatten());
        slot.map_or_else(|| fail(Errno::EBADF), Ok)
    }

    /// Makes another task's table current.
    pub fn switch(&mut self, table: u32) -> bool {
        self.table.switch(table)
    }

    /// One more task has a table.
    pub fn hold(&mut self, table: u32) {
        self.table.hold(table);
    }

    /// How many tasks have a table.
    pub fn users(&self, table: u32) -> u32 {
        self.table.users(table)
    }

    /// Makes a table of the same numbers as the current one's, for one task: gives its number.
    pub fn duplicate(&mut self) -> u32 {
        let numbers = Numbers { slots: self.table.slots.clone(), limit: self.table.limit };
        numbers.slots.iter().flatten().for_each(|slot| self.arena.hold(slot.id));
        self.table.add(numbers)
    }

    /// One task less has a table, which is not the current one: with the last one, of this process, its
    /// descriptors are closed.
    ///
    /// # Errors
    /// When content in guest memory cannot be freed.
    pub fn release(&mut self, fs: &mut Fs, env: &mut Env<'_>, table: u32, process: u32) -> FsResult<()> {
        let Some(numbers) = self.table.release(table) else { return Ok(()) };
        numbers.slots.into_iter().flatten().try_for_each(|slot| self.drop_slot_of(fs, env, slot, process))
    }

    /// Whether the tables are had by tasks that name these, the running one `current`: for a state out of a
    /// file.
    pub fn is_had(&self, uses: &[u32], current: u32) -> bool {
        self.table.is_had(uses, current)
    }

    /// Counts, by inode, the descriptions that are open on it.
    pub fn count_uses(&self, uses: &mut BTreeMap<InodeId, u32>) {
        self.arena.inodes().for_each(|inode| *uses.entry(inode).or_insert(0) += 1);
    }
}
