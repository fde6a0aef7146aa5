//! Sets of watched descriptors (`fs/eventpoll.c`).

use std::collections::BTreeSet;

use super::FdTable;
use super::description::{DescId, Description};
use super::poll::{POLLERR, POLLHUP, POLLIN, POLLRDNORM};
use super::watched::{ITEM_BYTES, Item, Set, Spot};
use crate::errno::Errno;
use crate::program::fs::{Anon, Env, Fs, FsResult, InodeId, Nature, OpenFlags, fail};
use crate::program::wait::Key;

/// `EPOLL_CTL_*`.
const ADD: u32 = 1;
const DELETE: u32 = 2;
const MODIFY: u32 = 3;

/// `EPOLL*` flags (`include/uapi/linux/eventpoll.h`).
const EXCLUSIVE: u32 = 1 << 28;
const ONESHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;
/// What is no flag.
const EVENTS: u32 = 0xffff;

/// Sets within sets, at most (`EP_MAX_NESTS`).
pub(super) const NESTS: u32 = 4;

/// Whether a set asks a file whether it is ready at each look: what nobody tells of when it becomes so, or only if
/// that very file is waited for.
pub(super) fn is_asked(fs: &Fs, inode: InodeId) -> bool {
    match fs.nature(inode) {
        Nature::Anon => {
            matches!(fs.anon(inode), Some(Anon::Timer(_) | Anon::Signals { .. } | Anon::Epoll))
        }
        Nature::Pipe => false,
        _ => true,
    }
}

impl FdTable {
    /// Notes that files have changed, for the sets that watch them; gives those sets.
    pub fn note_changed(&mut self, changed: &[InodeId]) -> BTreeSet<InodeId> {
        self.watched.note_changed(changed)
    }

    /// The same for all that input may be of.
    pub fn note_input(&mut self) {
        self.watched.note_input();
    }

    fn epoll_set(&self, fs: &Fs, fd: i32) -> FsResult<InodeId> {
        let inode = self.get(fd)?.inode;
        if matches!(fs.anon(inode), Some(Anon::Epoll)) { Ok(inode) } else { fail(Errno::EINVAL) }
    }

    /// `epoll_ctl`.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn epoll_control(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        (set, operation, fd): (i32, u32, i32),
        (events, data): (u32, u64),
    ) -> FsResult<()> {
        self.get(set)?;
        let (id, inode) = (self.description_id(fd)?, self.get_open(fd)?.inode);
        if matches!(fs.nature(inode), Nature::File | Nature::Dir) {
            return fail(Errno::EPERM);
        }
        let owner = self.epoll_set(fs, set)?;
        if owner == inode {
            return fail(Errno::EINVAL);
        }
        if operation == ADD
            && matches!(fs.anon(inode), Some(Anon::Epoll))
            && (events & EXCLUSIVE != 0 || self.reaches(inode, owner, NESTS))
        {
            return fail(if events & EXCLUSIVE != 0 { Errno::EINVAL } else { Errno::ELOOP });
        }
        let key = (fd, id);
        let before = self.watched.set(owner).and_then(|set| set.get(key)).copied();
        match (operation, before) {
            (ADD, Some(_)) => return fail(Errno::EEXIST),
            (ADD, None) => env.caller.charge(ITEM_BYTES)?,
            (DELETE, Some(_)) => {
                self.watched.remove(owner, key);
                env.caller.refund(ITEM_BYTES);
                return Ok(());
            }
            (MODIFY, Some(item)) if item.events & EXCLUSIVE != 0 => return fail(Errno::EINVAL),
            (MODIFY, Some(_)) => {}
            (DELETE | MODIFY, None) => return fail(Errno::ENOENT),
            _ => return fail(Errno::EINVAL),
        }
        let item = Item::new(inode, (events, data), is_asked(fs, inode));
        match before {
            None => self.watched.add(owner, key, item, events & EXCLUSIVE != 0),
            Some(_) => self.watched.change(owner, key, (events, data)),
        }
        let ready = item.asked || self.poll_description(fs, env, id, (events & EVENTS) as u16, NESTS)? != 0;
        if let Some(set) = self.watched.set_mut(owner).filter(|_| ready) {
            set.enqueue(key);
        }
        // Who waits for the set waits for what it watched until now.
        fs.wake(owner);
        Ok(())
    }

    /// Whether a set watches another, or is nested too deep to tell.
    fn reaches(&self, from: InodeId, to: InodeId, left: u32) -> bool {
        let Some(set) = self.watched.set(from) else { return false };
        set.items().any(|(_, item)| {
            let inode = item.inode;
            inode == to
                || self.watched.set(inode).is_some() && (left == 0 || self.reaches(inode, to, left - 1))
        })
    }

    /// The descriptors of a set that are ready, at most `most`: their events and data.
    ///
    /// # Errors
    /// `EBADF`, `EINVAL`; when the outside gives no answer.
    pub fn epoll_ready(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        set: i32,
        most: usize,
    ) -> FsResult<Vec<(u32, u64)>> {
        let owner = self.epoll_set(fs, set)?;
        let Some(set) = self.watched.set_mut(owner) else { return Ok(Vec::new()) };
        let levels = set.asked().filter(|(_, item)| item.events & EDGE == 0);
        let levels: Vec<Spot> = levels.map(|(spot, _)| *spot).collect();
        levels.into_iter().for_each(|spot| set.enqueue(spot));
        // Looked at before anything changes: the call may have to be made again.
        let (mut looked, mut found) = (Vec::new(), 0);
        for (spot, item) in self.watched.set(owner).into_iter().flat_map(Set::ready) {
            if found == most {
                break;
            }
            let events = self.poll_description(fs, env, spot.1, (item.events & EVENTS) as u16, NESTS)?;
            found += usize::from(events != 0);
            looked.push((*spot, *item, events));
        }
        let mut ready = Vec::with_capacity(found);
        for (spot, item, events) in looked {
            let Some(set) = self.watched.set_mut(owner) else { break };
            set.dequeue(spot);
            if events == 0 {
                continue;
            }
            ready.push((events.into(), item.data));
            if item.events & ONESHOT != 0 {
                set.quiet(spot);
            } else if item.events & EDGE == 0 {
                // It is told of for as long as it is ready, behind all others.
                set.enqueue(spot);
            }
        }
        Ok(ready)
    }

    /// Whether anything in a set is ready.
    pub(super) fn epoll_is_ready(
        &self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        set: InodeId,
        left: u32,
    ) -> FsResult<bool> {
        let Some(set) = self.watched.set(set) else { return Ok(false) };
        let asked = set.asked().filter(|(_, item)| !item.told && item.events & EDGE == 0);
        for (spot, item) in set.ready().chain(asked) {
            if self.poll_description(fs, env, spot.1, (item.events & EVENTS) as u16, left)? != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The description that a set of a table watches by a descriptor's number: the `nth` of those.
    ///
    /// # Errors
    /// `EBADF`, `EINVAL` when it is no set, `ENOENT`.
    pub(crate) fn watched_in(
        &self,
        fs: &Fs,
        table: u32,
        set: i32,
        (fd, nth): (i32, u32),
    ) -> FsResult<DescId> {
        self.description_in(table, set)?;
        let inode = self.inode_in(table, set).filter(|inode| matches!(fs.anon(*inode), Some(Anon::Epoll)));
        let Some(inode) = inode else { return fail(Errno::EINVAL) };
        let items = self.watched.set(inode).into_iter().flat_map(|set| set.items());
        let mut of_number = items.map(|(spot, _)| spot).filter(|spot| spot.0 == fd);
        of_number.nth(nth as usize).map_or_else(|| fail(Errno::ENOENT), |spot| Ok(spot.1))
    }

    /// What makes a descriptor ready for `events`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn keys_of(&self, fs: &Fs, fd: i32, events: u16) -> FsResult<Vec<Key>> {
        let mut keys = Vec::new();
        self.add_keys(fs, self.get(fd)?, events, NESTS, &mut keys);
        Ok(keys)
    }

    fn add_keys(&self, fs: &Fs, description: &Description, events: u16, left: u32, keys: &mut Vec<Key>) {
        let inode = description.inode;
        if fs.nature(inode) == Nature::Stream {
            let reads = events & (POLLIN | POLLRDNORM) != 0 && description.flags.reads();
            if reads && fs.is_stdin(inode) {
                keys.push(Key::input(fs.source(fs.is_tty(inode))));
            }
            return;
        }
        keys.push(Key::File(inode));
        // A set tells of all else that it watches.
        let set = self.watched.set(inode).filter(|_| left > 0);
        for ((_, id), item) in set.into_iter().flat_map(Set::asked) {
            if let Some(description) = self.arena.get(*id) {
                self.add_keys(fs, description, (item.events & EVENTS) as u16, left - 1, keys);
            }
        }
    }

    /// Installs something without a name.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub(crate) fn install_anon(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        anon: Anon,
        flags: OpenFlags,
    ) -> FsResult<i32> {
        let inode = self.prepare_anon(fs, env, anon)?;
        self.install_inode(inode, flags)
    }

    /// The first half of that: what a descriptor will be for, which there is room for.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub(crate) fn prepare_anon(&mut self, fs: &mut Fs, env: &mut Env<'_>, anon: Anon) -> FsResult<InodeId> {
        self.vacant(0)?;
        fs.make_anon(env, anon)
    }

    /// The second half.
    ///
    /// # Errors
    /// `EMFILE`.
    pub(crate) fn install_inode(&mut self, inode: InodeId, flags: OpenFlags) -> FsResult<i32> {
        let fd = self.vacant(0)?;
        let id = self.arena.add(Description::new(inode, flags));
        Ok(self.put(fd, id, flags.has(OpenFlags::CLOEXEC)))
    }
}

/// What is always told.
pub(super) const ALWAYS: u16 = POLLERR | POLLHUP;
