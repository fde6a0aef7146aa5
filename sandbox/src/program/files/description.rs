//! Open descriptions: what descriptors stand for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::text::KeptText;
use crate::program::fs::{DirCursor, InodeId, OpenFlags};
use crate::world::StandardFile;

/// Flags that `F_SETFL` changes.
pub(super) const SETTABLE: u32 = OpenFlags::APPEND.0
    | OpenFlags::NONBLOCK.0
    | OpenFlags::DIRECT.0
    | OpenFlags::NOATIME.0
    | OpenFlags::ASYNC.0;

/// Flags that only matter while opening, or belong to the descriptor.
const TRANSIENT: u32 =
    OpenFlags::CREAT.0 | OpenFlags::EXCL.0 | OpenFlags::NOCTTY.0 | OpenFlags::TRUNC.0 | OpenFlags::CLOEXEC.0;

/// Names a description in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct DescId(u64);

/// What `open` made: descriptors that were duplicated share one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    pub(super) inode: InodeId,
    pub(super) flags: OpenFlags,
    /// Where the next read or write is.
    pub(super) offset: u64,
    /// Where the next `getdents` is.
    pub(super) cursor: DirCursor,
    /// Whom signals of it go to (`F_SETOWN`).
    pub(super) owner: i32,
    /// Whoever gave the sandbox its streams shares the position: it is a standard stream that is a regular
    /// file.
    pub(super) outside: bool,
    /// A text of `/proc` that is being read.
    pub(super) text: Option<KeptText>,
    /// Descriptors that stand for it, and messages that it travels in.
    refs: u32,
    /// The messages.
    passed: u32,
}

impl Description {
    pub(super) fn new(inode: InodeId, flags: OpenFlags) -> Description {
        Description {
            inode,
            flags: OpenFlags(flags.0 & !TRANSIENT),
            offset: 0,
            cursor: DirCursor::default(),
            owner: 0,
            outside: false,
            text: None,
            refs: 0,
            passed: 0,
        }
    }

    /// Of a standard stream that is a regular file.
    pub(super) fn of_standard_file(inode: InodeId, mode: OpenFlags, file: &StandardFile) -> Description {
        let append = if file.append { OpenFlags::APPEND } else { OpenFlags(0) };
        Description {
            offset: file.position,
            outside: true,
            ..Description::new(inode, mode | append | OpenFlags::LARGEFILE)
        }
    }

    /// What it is open on.
    pub fn inode(&self) -> InodeId {
        self.inode
    }

    /// Access mode and status flags, as `F_GETFL` gives them.
    pub fn flags(&self) -> OpenFlags {
        self.flags
    }

    /// Where the next read or write is.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn nonblock(&self) -> bool {
        self.flags.has(OpenFlags::NONBLOCK)
    }
}

/// All descriptions of a table, counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Arena {
    map: BTreeMap<DescId, Description>,
    next: u64,
}

impl Arena {
    /// Adds a description, which nothing stands for yet.
    pub fn add(&mut self, description: Description) -> DescId {
        let id = DescId(self.next);
        self.next += 1;
        self.map.insert(id, description);
        id
    }

    pub fn get(&self, id: DescId) -> Option<&Description> {
        self.map.get(&id)
    }

    pub fn get_mut(&mut self, id: DescId) -> Option<&mut Description> {
        self.map.get_mut(&id)
    }

    /// Whether the descriptions are those that are referred to, so often, and are open on
    /// something that exists.
    pub fn check(
        &self,
        references: &BTreeMap<DescId, u32>,
        passed: &BTreeMap<DescId, u32>,
        exists: impl Fn(InodeId) -> bool,
    ) -> bool {
        let sound = |(id, description): (&DescId, &Description)| {
            // A position that is shared with nobody is told to nobody.
            let Description {
                inode,
                flags: _,
                offset,
                cursor: _,
                owner: _,
                outside: _,
                text,
                refs: _,
                passed: in_messages,
            } = description;
            text.as_ref().is_none_or(KeptText::is_sound)
                && id.0 < self.next
                && exists(*inode)
                && passed.get(id).copied().unwrap_or(0) == *in_messages
                && *offset <= i64::MAX as u64
        };
        self.map.iter().map(|(id, d)| (id, &d.refs)).eq(references)
            && self.map.iter().all(sound)
            && self.next < 1 << 48
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// All descriptions.
    pub fn all(&self) -> impl Iterator<Item = &Description> {
        self.map.values()
    }

    /// What the descriptions are open on, one by one.
    pub fn inodes(&self) -> impl Iterator<Item = InodeId> {
        self.map.values().map(|description| description.inode)
    }

    /// The texts that are being read.
    pub fn texts(&self) -> impl Iterator<Item = &KeptText> {
        self.map.values().filter_map(|description| description.text.as_ref())
    }

    /// One more stands for it.
    pub fn hold(&mut self, id: DescId) {
        if let Some(description) = self.map.get_mut(&id) {
            description.refs = description.refs.saturating_add(1);
        }
    }

    /// It travels in one more message.
    pub fn pass(&mut self, id: DescId) {
        if let Some(description) = self.map.get_mut(&id) {
            description.passed = description.passed.saturating_add(1);
        }
        self.hold(id);
    }

    /// A message that it was in is gone, but for its reference.
    pub fn unpass(&mut self, id: DescId) {
        if let Some(description) = self.map.get_mut(&id) {
            description.passed = description.passed.saturating_sub(1);
        }
    }

    /// Whether nothing but messages holds it.
    pub fn is_only_passed(&self, id: DescId) -> bool {
        self.map.get(&id).is_some_and(|description| description.passed == description.refs)
    }

    /// What those are open on that more than messages hold.
    pub fn held(&self) -> impl Iterator<Item = InodeId> {
        self.map.values().filter(|description| description.passed < description.refs).map(|d| d.inode)
    }

    /// One less stands for it; gives it back when that was the last.
    pub fn release(&mut self, id: DescId) -> Option<Description> {
        let description = self.map.get_mut(&id)?;
        description.refs = description.refs.saturating_sub(1);
        if description.refs == 0 { self.map.remove(&id) } else { None }
    }
}
