//! Sets of watched descriptors (`fs/eventpoll.c`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::FdTable;
use super::description::{DescId, Description};
use super::poll::{POLLERR, POLLHUP, POLLIN, POLLRDNORM};
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
/// What a watched descriptor costs, bytes.
const ITEM_BYTES: u64 = 256;

/// A watched descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    /// What is waited for, and flags.
    events: u32,
    /// What the program gets back.
    data: u64,
    /// Something has happened since it was last told, for those that are told of changes.
    changed: bool,
    /// It is told of nothing until it is set anew ([`ONESHOT`]).
    told: bool,
}

/// What sets watch: by set, descriptor and description.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watched {
    sets: BTreeMap<InodeId, BTreeMap<(i32, DescId), Item>>,
}

impl Watched {
    /// A description is gone.
    pub fn forget(&mut self, id: DescId) -> u64 {
        let mut gone = 0;
        for items in self.sets.values_mut() {
            let before = items.len();
            items.retain(|(_, watched), _| *watched != id);
            gone += (before - items.len()) as u64;
        }
        gone * ITEM_BYTES
    }

    /// A set is gone.
    pub fn forget_set(&mut self, set: InodeId) -> u64 {
        self.sets.remove(&set).map_or(0, |items| items.len() as u64 * ITEM_BYTES)
    }

    /// Bytes that the sandbox is charged for.
    pub fn cost(&self) -> u64 {
        self.sets.values().map(|items| items.len() as u64 * ITEM_BYTES).sum()
    }

    /// Whether it can be one: for a state out of a file.
    pub fn is_sound(&self, exists: impl Fn(DescId) -> bool, is_set: impl Fn(InodeId) -> bool) -> bool {
        self.sets.iter().all(|(set, items)| is_set(*set) && items.keys().all(|(_, id)| exists(*id)))
    }
}

impl FdTable {
    /// Notes that files have changed, for those that are told of changes.
    pub fn note_changed(&mut self, changed: &[InodeId]) {
        let arena = &self.arena;
        for items in self.watched.sets.values_mut() {
            for ((_, id), item) in items.iter_mut() {
                item.changed |= arena.get(*id).is_some_and(|d| changed.binary_search(&d.inode).is_ok());
            }
        }
    }

    /// The same for all that input may be of.
    pub fn note_input(&mut self) {
        for items in self.watched.sets.values_mut() {
            items.values_mut().for_each(|item| item.changed = true);
        }
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
        let item = Item { events, data, changed: true, told: false };
        let items = self.watched.sets.entry(owner).or_default();
        match (operation, items.contains_key(&key)) {
            (ADD, true) => return fail(Errno::EEXIST),
            (ADD, false) => {
                env.caller.charge(ITEM_BYTES)?;
                items.insert(key, item);
            }
            (DELETE, true) => {
                items.remove(&key);
                env.caller.refund(ITEM_BYTES);
            }
            (MODIFY, true) if items.get(&key).is_some_and(|item| item.events & EXCLUSIVE != 0) => {
                return fail(Errno::EINVAL);
            }
            (MODIFY, true) => {
                items.insert(key, item);
            }
            (DELETE | MODIFY, false) => return fail(Errno::ENOENT),
            _ => return fail(Errno::EINVAL),
        }
        if operation != DELETE {
            // Who waits for the set waits for what it watched until now.
            fs.wake(owner);
        }
        Ok(())
    }

    /// Whether a set watches another, or is nested too deep to tell.
    fn reaches(&self, from: InodeId, to: InodeId, left: u32) -> bool {
        let Some(items) = self.watched.sets.get(&from) else { return false };
        items.keys().filter_map(|(_, id)| self.arena.get(*id)).any(|description| {
            let inode = description.inode;
            inode == to
                || self.watched.sets.contains_key(&inode) && (left == 0 || self.reaches(inode, to, left - 1))
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
        let keys: Vec<(i32, DescId)> =
            self.watched.sets.get(&owner).map(|items| items.keys().copied().collect()).unwrap_or_default();
        let mut ready = Vec::new();
        for key in keys {
            if ready.len() == most {
                break;
            }
            let Some(item) = self.watched.sets.get(&owner).and_then(|items| items.get(&key)).copied() else {
                continue;
            };
            if item.told || item.events & EDGE != 0 && !item.changed {
                continue;
            }
            let events = self.poll_description(fs, env, key.1, (item.events & EVENTS) as u16, NESTS)?;
            if let Some(item) = self.watched.sets.get_mut(&owner).and_then(|items| items.get_mut(&key)) {
                item.changed &= events == 0;
                item.told |= events != 0 && item.events & ONESHOT != 0;
            }
            if events != 0 {
                ready.push((events.into(), item.data));
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
        let Some(items) = self.watched.sets.get(&set) else { return Ok(false) };
        for ((_, id), item) in items {
            let quiet = item.told || item.events & EDGE != 0 && !item.changed;
            if !quiet && self.poll_description(fs, env, *id, (item.events & EVENTS) as u16, left)? != 0 {
                return Ok(true);
            }
        }
        Ok(false)
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
        let items = self.watched.sets.get(&inode).filter(|_| left > 0);
        for ((_, id), item) in items.into_iter().flatten() {
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
