//! Identifiers of System V IPC, and who may do what with what they name (`ipc/util.c`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::errno::Errno;
use crate::machine::{BadState, expect};
use crate::program::credentials::{Credentials, cap};

/// The key of what nobody else finds.
pub const IPC_PRIVATE: i32 = 0;
/// Make it if there is none.
pub const IPC_CREAT: u32 = 0o1000;
/// Fail if there is one.
pub const IPC_EXCL: u32 = 0o2000;
/// Permission to read, for everybody.
pub const READ: u32 = 0o444;
/// Permission to write, for everybody.
pub const WRITE: u32 = 0o222;
/// Permission to execute, for everybody.
pub const EXECUTE: u32 = 0o111;

/// Bits of an identifier that are its index.
const INDEX_BITS: u32 = 15;
/// Behind the highest index (`IPCMNI`).
const INDEXES: u32 = 1 << INDEX_BITS;
/// Behind the highest sequence number.
const SEQUENCES: u32 = 1 << 16;
/// Indexes that are gone through before any is used again (`ipc_min_cycle`).
const MIN_CYCLE: u32 = 64;
/// Bytes of `struct ipc64_perm`.
pub const PERM_BYTES: usize = 48;

/// Who owns something, and what others may do with it (`struct kern_ipc_perm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Perm {
    /// By which it is found; [`IPC_PRIVATE`] if it is not.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// Who made it.
    pub creator: u32,
    /// The group of who made it.
    pub creator_group: u32,
    /// Permissions, and marks of the kind of thing that it is.
    pub mode: u32,
}

impl Perm {
    /// Of something that `who` makes.
    pub fn new(who: &Credentials, key: i32, mode: u32) -> Perm {
        let (uid, gid) = (who.user.effective, who.group.effective);
        Perm { key, uid, gid, creator: uid, creator_group: gid, mode: mode & 0o777 }
    }

    /// Refuses what the permissions do not allow: `wanted` has the bits of any class (`ipcperms`).
    ///
    /// # Errors
    /// `EACCES`
    pub fn expect(&self, who: &Credentials, wanted: u32) -> Result<(), Errno> {
        let wanted = wanted >> 6 | wanted >> 3 | wanted;
        let shift = if [self.uid, self.creator].contains(&who.user.effective) {
            6
        } else if who.in_group(self.gid) || who.in_group(self.creator_group) {
            3
        } else {
            0
        };
        let allowed = wanted & !(self.mode >> shift) & 0o7 == 0 || who.can(cap::IPC_OWNER);
        if allowed { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Refuses whoever may not change or remove it (`ipcctl_obtain_check`).
    ///
    /// # Errors
    /// `EPERM`
    pub fn expect_owner(&self, who: &Credentials) -> Result<(), Errno> {
        let owns = [self.uid, self.creator].contains(&who.user.effective) || who.can(cap::SYS_ADMIN);
        if owns { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Takes owner and permissions over from a `struct ipc64_perm` (`ipc_update_perm`).
    ///
    /// # Errors
    /// `EINVAL` for ids that nobody has.
    pub fn update(&mut self, new: &[u8; PERM_BYTES]) -> Result<(), Errno> {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| new[at + i]));
        let (uid, gid, mode) = (word(4), word(8), word(20));
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::EINVAL);
        }
        (self.uid, self.gid) = (uid, gid);
        self.mode = self.mode & !0o777 | mode & 0o777;
        Ok(())
    }

    /// `struct ipc64_perm` of what has this identifier.
    pub fn to_bytes(self, id: i32) -> Vec<u8> {
        let words = [self.key as u32, self.uid, self.gid, self.creator, self.creator_group, self.mode];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend((id as u32 >> INDEX_BITS).to_le_bytes());
        bytes.resize(PERM_BYTES, 0);
        bytes
    }
}

/// What an identifier may name.
pub trait Named {
    /// Who owns it.
    fn perm(&self) -> &Perm;
    /// The same to change.
    fn perm_mut(&mut self) -> &mut Perm;
}

/// What an index stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry<T> {
    sequence: u32,
    value: T,
}

/// All of one kind (`struct ipc_ids`). An identifier is an index and, above it, a number that grows when
/// indexes are used again: an old one names nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ids<T> {
    entries: BTreeMap<u32, Entry<T>>,
    /// Indexes by key, of what has one.
    keys: BTreeMap<i32, u32>,
    sequence: u32,
    /// Where the next index is looked for.
    next: u32,
}

impl<T> Default for Ids<T> {
    fn default() -> Ids<T> {
        Ids { entries: BTreeMap::new(), keys: BTreeMap::new(), sequence: 0, next: 0 }
    }
}

/// The identifier of an index.
fn id_of(index: u32, sequence: u32) -> i32 {
    (sequence << INDEX_BITS | index) as i32
}

impl<T: Named> Ids<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn index_of(&self, id: i32) -> Option<u32> {
        let id = u32::try_from(id).ok()?;
        let index = id % INDEXES;
        self.entries.get(&index).filter(|entry| entry.sequence == id >> INDEX_BITS).map(|_| index)
    }

    /// What an identifier names.
    ///
    /// # Errors
    /// `EINVAL` when it names nothing.
    pub fn get(&self, id: i32) -> Result<&T, Errno> {
        let index = self.index_of(id).ok_or(Errno::EINVAL)?;
        self.entries.get(&index).map(|entry| &entry.value).ok_or(Errno::EINVAL)
    }

    /// The same to change.
    ///
    /// # Errors
    /// `EINVAL` when it names nothing.
    pub fn get_mut(&mut self, id: i32) -> Result<&mut T, Errno> {
        let index = self.index_of(id).ok_or(Errno::EINVAL)?;
        self.entries.get_mut(&index).map(|entry| &mut entry.value).ok_or(Errno::EINVAL)
    }

    /// What lies at an index, with its identifier: what `*_STAT` calls ask for.
    ///
    /// # Errors
    /// `EINVAL` when nothing does.
    pub fn at(&self, index: i32) -> Result<(i32, &T), Errno> {
        let index = u32::try_from(index).map_err(|_| Errno::EINVAL)? % INDEXES;
        let entry = self.entries.get(&index).ok_or(Errno::EINVAL)?;
        Ok((id_of(index, entry.sequence), &entry.value))
    }

    /// The highest index in use, 0 if none is.
    pub fn highest(&self) -> u32 {
        self.entries.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// All, with their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &T)> {
        self.entries.iter().map(|(index, entry)| (id_of(*index, entry.sequence), &entry.value))
    }

    /// All, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.values_mut().map(|entry| &mut entry.value)
    }

    /// Finds what a `*get` call asks for; `None` when it is to be made (`ipcget`). `fits` says whether
    /// what has the key already is large enough.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `EACCES`; `EINVAL` when it does not fit.
    pub fn find(
        &self,
        who: &Credentials,
        key: i32,
        flags: u32,
        fits: impl FnOnce(&T) -> bool,
    ) -> Result<Option<i32>, Errno> {
        let index = self.keys.get(&key).filter(|_| key != IPC_PRIVATE);
        let Some((index, entry)) = index.and_then(|index| Some((*index, self.entries.get(index)?))) else {
            let make = key == IPC_PRIVATE || flags & IPC_CREAT != 0;
            return if make { Ok(None) } else { Err(Errno::ENOENT) };
        };
        if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
            return Err(Errno::EEXIST);
        }
        if !fits(&entry.value) {
            return Err(Errno::EINVAL);
        }
        entry.value.perm().expect(who, flags & 0o777)?;
        Ok(Some(id_of(index, entry.sequence)))
    }

    /// The free index that is next, going round (`ipc_idr_alloc`).
    fn free_index(&self) -> Option<u32> {
        let end = (self.entries.len() as u32 * 3 / 2).clamp(MIN_CYCLE, INDEXES);
        let free = |from: u32| {
            let mut at = from;
            for (index, _) in self.entries.range(from..) {
                if *index != at {
                    break;
                }
                at += 1;
            }
            (at < end).then_some(at)
        };
        free(self.next).or_else(|| free(0))
    }

    /// Adds one, of which there may be `most`; gives its identifier.
    ///
    /// # Errors
    /// `ENOSPC` when there are so many.
    pub fn add(&mut self, value: T, most: usize) -> Result<i32, Errno> {
        if self.entries.len() >= most {
            return Err(Errno::ENOSPC);
        }
        let index = self.free_index().ok_or(Errno::ENOSPC)?;
        if index < self.next {
            self.sequence = (self.sequence + 1) % SEQUENCES;
        }
        self.next = index + 1;
        let key = value.perm().key;
        if key != IPC_PRIVATE {
            self.keys.insert(key, index);
        }
        self.entries.insert(index, Entry { sequence: self.sequence, value });
        Ok(id_of(index, self.sequence))
    }

    /// Makes one that is no longer found by its key.
    pub fn hide(&mut self, id: i32) {
        let Some(entry) = self.index_of(id).and_then(|index| self.entries.get_mut(&index)) else { return };
        let key = std::mem::replace(&mut entry.value.perm_mut().key, IPC_PRIVATE);
        if key != IPC_PRIVATE {
            self.keys.remove(&key);
        }
    }

    /// Removes one.
    pub fn remove(&mut self, id: i32) -> Option<T> {
        self.hide(id);
        self.index_of(id).and_then(|index| self.entries.remove(&index)).map(|entry| entry.value)
    }

    /// Checks what a file claims of numbers and keys.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        let Ids { entries, keys, sequence, next } = self;
        let numbers = entries.iter().all(|(index, entry)| *index < INDEXES && entry.sequence < SEQUENCES);
        expect(numbers && *sequence < SEQUENCES && *next <= INDEXES, "an IPC identifier")?;
        let with_keys = entries.iter().filter(|(_, entry)| entry.value.perm().key != IPC_PRIVATE);
        let found = |(index, entry): (&u32, &Entry<T>)| keys.get(&entry.value.perm().key) == Some(index);
        expect(with_keys.clone().count() == keys.len() && with_keys.clone().all(found), "an IPC key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::credentials::{ROOT, user};

    struct Thing(Perm);

    impl Named for Thing {
        fn perm(&self) -> &Perm {
            &self.0
        }

        fn perm_mut(&mut self) -> &mut Perm {
            &mut self.0
        }
    }

    fn thing(key: i32) -> Thing {
        Thing(Perm::new(&ROOT, key, 0o640))
    }

    #[test]
    fn an_index_is_not_used_again_at_once() {
        let mut ids = Ids::default();
        let first = ids.add(thing(0), 9).unwrap();
        assert_eq!((first, ids.add(thing(0), 9)), (0, Ok(1)));
        ids.remove(first).unwrap();
        assert_eq!(ids.add(thing(0), 9), Ok(2));
        // All indexes of a round are gone through before the sequence number grows.
        for _ in 0..61 {
            let id = ids.add(thing(0), 9).unwrap();
            ids.remove(id).unwrap();
        }
        assert_eq!(ids.add(thing(0), 9), Ok(1 << 15));
        assert!(ids.get(0).is_err() && ids.get(1 << 15).is_ok() && ids.get(-1).is_err());
        assert_eq!((ids.highest(), ids.len(), ids.check().is_ok()), (2, 3, true));
    }

    #[test]
    fn there_are_at_most_so_many() {
        let mut ids = Ids::default();
        let most = 200;
        for _ in 0..most {
            ids.add(thing(0), most).unwrap();
        }
        assert_eq!(ids.add(thing(0), most), Err(Errno::ENOSPC));
    }

    #[test]
    fn a_key_finds_one() {
        let mut ids = Ids::default();
        let any = |_: &Thing| true;
        assert_eq!(ids.find(&ROOT, 7, 0, any), Err(Errno::ENOENT));
        assert_eq!(ids.find(&ROOT, 7, IPC_CREAT, any), Ok(None));
        let id = ids.add(thing(7), 9).unwrap();
        assert_eq!(ids.find(&ROOT, 7, IPC_CREAT, any), Ok(Some(id)));
        assert_eq!(ids.find(&ROOT, 7, IPC_CREAT | IPC_EXCL, any), Err(Errno::EEXIST));
        assert_eq!(ids.find(&ROOT, 7, 0, |_| false), Err(Errno::EINVAL));
        assert_eq!(ids.find(&user(1, 1), 7, 0o600, any), Err(Errno::EACCES));
        assert_eq!(ids.find(&user(1, 0), 7, 0o400, any), Ok(Some(id)));
        assert_eq!(ids.find(&ROOT, IPC_PRIVATE, 0, any), Ok(None));
        ids.hide(id);
        assert_eq!(ids.find(&ROOT, 7, 0, any), Err(Errno::ENOENT));
        assert!(ids.get(id).is_ok() && ids.check().is_ok());
        ids.keys.insert(7, 0);
        assert!(ids.check().is_err());
    }

    #[test]
    fn one_class_of_permissions_counts() {
        let perm = Perm { uid: 10, gid: 20, creator: 11, creator_group: 21, ..Perm::new(&ROOT, 0, 0o046) };
        assert_eq!(perm.expect(&user(10, 9), READ), Err(Errno::EACCES));
        assert_eq!(perm.expect(&user(11, 9), READ), Err(Errno::EACCES));
        assert_eq!(perm.expect(&user(12, 21), READ), Ok(()));
        assert_eq!(perm.expect(&user(12, 20), WRITE), Err(Errno::EACCES));
        assert_eq!(perm.expect(&user(12, 9), READ | WRITE), Ok(()));
        assert_eq!(perm.expect(&ROOT, READ | WRITE | EXECUTE), Ok(()));
        assert_eq!(perm.expect_owner(&user(12, 20)), Err(Errno::EPERM));
        assert_eq!(perm.expect_owner(&user(11, 9)), Ok(()));
    }
}
