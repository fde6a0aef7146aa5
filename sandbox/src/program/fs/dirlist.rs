//! `getdents64`: the names in a directory, in order, from a cursor that changes do not upset.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::Fs;
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::{Body, Device, Entry, InodeId};
use super::proc::ProcNode;
use super::resolve::At;
use super::stat::{S_IFDIR, S_IFLNK, S_IFREG};
use crate::errno::Errno;
use crate::world::FileKind;

/// Bytes that one call gives at most.
const BYTES_MAX: usize = 1 << 20;

/// Which records `getdents` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirFormat {
    /// `struct linux_dirent64`
    Large,
    /// `struct linux_dirent`: the type is the record's last byte.
    Old,
}

impl DirFormat {
    /// Bytes of a record before its name.
    fn head(self) -> usize {
        match self {
            DirFormat::Large => 19,
            DirFormat::Old => 18,
        }
    }

    /// Bytes of a record besides its name: head, NUL, and what stands behind that.
    fn around(self) -> usize {
        match self {
            DirFormat::Large => self.head() + 1,
            DirFormat::Old => self.head() + 2,
        }
    }
}

/// How far a directory was read.
///
/// It stands behind a name, not at a number, since names before it may go while a program reads
/// on, as `rm -r` does. The number is what `lseek` shows and takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirCursor {
    /// Entries read so far.
    count: u64,
    /// The last name read, once `.` and `..` were.
    after: Option<Vec<u8>>,
    /// `lseek` went to `count`, and `after` is to be found from it.
    moved: bool,
}

impl DirCursor {
    /// The number of entries before it.
    pub fn offset(&self) -> u64 {
        self.count
    }

    /// Goes to where [`DirCursor::offset`] was that.
    pub fn seek(&mut self, offset: u64) {
        if offset != self.count {
            *self = DirCursor { count: offset, after: None, moved: true };
        }
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub name: Vec<u8>,
    pub ino: u64,
    /// Type bits of a mode.
    pub kind: u32,
}

impl Fs {
    /// Reads on in a directory: `linux_dirent64` records of at most `max` bytes in all, none at
    /// the end.
    ///
    /// # Errors
    /// `ENOTDIR`; `ENOENT` for a directory that was removed; `EINVAL` when not even one record
    /// fits; the host's refusal.
    pub fn getdents(
        &mut self,
        env: &mut Env<'_>,
        at: At<'_>,
        dir: InodeId,
        cursor: &mut DirCursor,
        (max, format): (usize, DirFormat),
    ) -> FsResult<Vec<u8>> {
        self.expect_dir(dir)?;
        let virtual_names = self.virtual_names(env, at, dir)?;
        if cursor.moved {
            cursor.moved = false;
            if let Some(skip) = cursor.count.checked_sub(3) {
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                let last = self.names_after(dir, None, &virtual_names).nth(skip);
                match last {
                    Some(last) => cursor.after = Some(last.name),
                    None => return Ok(Vec::new()),
                }
            }
        }
        let mut out = Records { bytes: Vec::new(), max: max.min(BYTES_MAX), format };
        let dots = [(".", Some(dir)), ("..", self.dotdot(dir).ok())];
        for (name, id) in dots.into_iter().skip(usize::try_from(cursor.count).unwrap_or(2)) {
            let ino = self.identity(id.unwrap_or(dir)).1;
            let dot = Listed { name: name.as_bytes().to_vec(), ino, kind: S_IFDIR };
            if !out.push(&dot, cursor.count.saturating_add(1)) {
                return out.finish(true);
            }
            cursor.count = cursor.count.saturating_add(1);
        }
        let after = cursor.after.clone();
        for listed in self.names_after(dir, after.as_deref(), &virtual_names) {
            if !out.push(&listed, cursor.count.saturating_add(1)) {
                return out.finish(true);
            }
            cursor.count = cursor.count.saturating_add(1);
            cursor.after = Some(listed.name);
        }
        out.finish(false)
    }

    /// All names in a directory but `.` and `..`, in order.
    ///
    /// # Errors
    /// As [`Fs::getdents`].
    pub fn names_in(&mut self, env: &mut Env<'_>, at: At<'_>, dir: InodeId) -> FsResult<Vec<Vec<u8>>> {
        self.expect_dir(dir)?;
        let virtual_names = self.virtual_names(env, at, dir)?;
        Ok(self.names_after(dir, None, &virtual_names).map(|listed| listed.name).collect())
    }

    /// The names in a directory that are in no table. Sees to it that those in the table are
    /// known, too.
    fn virtual_names(&mut self, env: &mut Env<'_>, at: At<'_>, dir: InodeId) -> FsResult<Vec<Listed>> {
        if let Some(node) = ProcNode::of(dir) {
            return Ok(self.proc_list(env, at, node));
        }
        if self.inode(dir)?.nlink == 0 {
            return fail(Errno::ENOENT);
        }
        self.list_lower(env, dir)?;
        if !self.dir(dir)?.processes {
            return Ok(Vec::new());
        }
        let mut names = self.proc_processes(env);
        names.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    /// The names after one, in order; `others` is in order too, and shares none with the table.
    fn names_after<'a>(
        &'a self,
        dir: InodeId,
        after: Option<&[u8]>,
        others: &'a [Listed],
    ) -> impl Iterator<Item = Listed> + 'a {
        let from = match after {
            Some(name) => Bound::Excluded(name.to_vec()),
            None => Bound::Unbounded,
        };
        let skip = after.map_or(0, |after| others.partition_point(|o| o.name.as_slice() <= after));
        let mut others = others[skip..].iter().cloned().peekable();
        let table = self.dir(dir).ok().map(|d| d.entries.range((from, Bound::Unbounded)));
        let mut table =
            table.into_iter().flatten().filter_map(|(name, entry)| self.listed(name, entry)).peekable();
        std::iter::from_fn(move || match (table.peek(), others.peek()) {
            (Some(a), Some(b)) if a.name > b.name => others.next(),
            (Some(_), _) => table.next(),
            (None, _) => others.next(),
        })
    }

    fn listed(&self, name: &[u8], entry: &Entry) -> Option<Listed> {
        let (ino, kind) = match entry {
            Entry::Node { id, .. } => (id.0, self.inode(*id).ok()?.kind()),
            Entry::Listed { id, kind } => (
                id.0,
                match kind {
                    FileKind::Regular => S_IFREG,
                    FileKind::Directory => S_IFDIR,
                    FileKind::Symlink => S_IFLNK,
                    FileKind::Other => 0,
                },
            ),
            Entry::Whiteout | Entry::Absent => return None,
        };
        Some(Listed { name: name.to_vec(), ino, kind })
    }

    /// Whether it is a regular file (a text of `/proc` is not: it has no length), here or, where output goes
    /// to one, outside.
    pub(crate) fn is_regular(&self, id: InodeId) -> bool {
        matches!(self.inode(id).map(|inode| &inode.body), Ok(Body::File(_) | Body::Output(_)))
    }

    /// Whether it is `/dev/zero`, a mapping of which is memory of zeros.
    pub(crate) fn is_zeros(&self, id: InodeId) -> bool {
        matches!(self.inode(id).map(|inode| &inode.body), Ok(Body::Device(Device::Zero)))
    }

    /// The process whose directory in `/proc` it is.
    pub(crate) fn process_directory(&self, id: InodeId) -> Option<u32> {
        match ProcNode::of(id) {
            Some(ProcNode::Process { pid }) => Some(pid),
            _ => None,
        }
    }

    /// Whether it is a process's memory, whose offsets are addresses.
    pub(crate) fn is_memory(&self, id: InodeId) -> bool {
        ProcNode::of(id).and_then(ProcNode::memory).is_some()
    }
}

/// Records of `getdents64`.
struct Records {
    bytes: Vec<u8>,
    max: usize,
    format: DirFormat,
}

impl Records {
    /// Adds a record if it fits.
    fn push(&mut self, listed: &Listed, next: u64) -> bool {
        let len = (self.format.around() + listed.name.len()).next_multiple_of(8);
        if len > self.max - self.bytes.len() {
            return false;
        }
        let end = self.bytes.len() + len;
        self.bytes.extend_from_slice(&listed.ino.to_le_bytes());
        self.bytes.extend_from_slice(&next.to_le_bytes());
        self.bytes.extend_from_slice(&(len as u16).to_le_bytes());
        let kind = (listed.kind >> 12) as u8; // DT_* are the type bits of a mode
        if self.format == DirFormat::Large {
            self.bytes.push(kind);
        }
        self.bytes.extend_from_slice(&listed.name);
        self.bytes.resize(end, 0);
        if self.format == DirFormat::Old {
            self.bytes[end - 1] = kind;
        }
        true
    }

    fn finish(self, more: bool) -> FsResult<Vec<u8>> {
        if more && self.bytes.is_empty() { fail(Errno::EINVAL) } else { Ok(self.bytes) }
    }
}
