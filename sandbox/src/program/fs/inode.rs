//! Inodes: what a file is, apart from its names.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::anon::Anon;
use super::content::Content;
use super::env::ProcFile;
use super::frozen::ContentRef;
use super::output::OutputFile;
use super::pipe::Pipe;
use super::resolve::NAME_MAX;
use super::stat::makedev;
use crate::errno::Errno;
use crate::program::credentials::Credentials;
use crate::world::{FileKind, HostPath};

/// Names an inode for as long as the sandbox lives; numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InodeId(pub(super) u64);

impl InodeId {
    /// The number, which is also the guest's `st_ino`.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Which file system a file appears to lie on. Between two of them nothing can be linked or
/// renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// The tree: grants, and the overlay above them.
    Tree,
    /// `/dev`
    Dev,
    /// `/dev/pts`
    Pts,
    /// `/dev/shm`
    Shm,
    /// `/proc`
    Proc,
    /// `/sys`
    Sys,
    /// Pipes, which have no path.
    Pipes,
}

impl Place {
    /// `st_dev`: unnamed device numbers, as these file systems have on Linux.
    pub fn dev(self) -> u64 {
        let minor = match self {
            Place::Tree => 30,
            Place::Dev => 5,
            Place::Pts => 24,
            Place::Shm => 25,
            Place::Proc => 22,
            Place::Sys => 21,
            Place::Pipes => 14,
        };
        makedev(0, minor)
    }
}

/// Owner, permissions and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attr {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
    pub btime: i64,
}

impl Attr {
    /// Of a file of root's, made at `time`.
    pub fn new(mode: u32, time: i64) -> Attr {
        Attr { mode: mode & 0o7777, uid: 0, gid: 0, atime: time, mtime: time, ctime: time, btime: time }
    }

    /// Of a file that somebody makes.
    pub fn of(who: &Credentials, mode: u32, time: i64) -> Attr {
        Attr { uid: who.user.fs, gid: who.group.fs, ..Attr::new(mode, time) }
    }

    /// The content was changed.
    pub fn modified(&mut self, now: i64) {
        self.mtime = now;
        self.ctime = now;
    }
}

/// A path on the host, shared between those who refer to the same file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lower(Arc<HostPath>);

impl Lower {
    pub fn new(grant: u32, path: Vec<u8>) -> Lower {
        Lower(Arc::new(HostPath { grant, path }))
    }

    pub fn path(&self) -> &HostPath {
        &self.0
    }

    /// The path of a name in this directory.
    pub fn child(&self, name: &[u8]) -> Lower {
        let mut path = Vec::with_capacity(self.0.path.len() + 1 + name.len());
        if !self.0.path.is_empty() {
            path.extend_from_slice(&self.0.path);
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Lower::new(self.0.grant, path)
    }
}

impl Serialize for Lower {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(s)
    }
}

impl<'de> Deserialize<'de> for Lower {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Lower, D::Error> {
        HostPath::deserialize(d).map(|path| Lower(Arc::new(path)))
    }
}

/// Whether the host was asked for a lower file's metadata yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Loaded {
    /// The attributes are what they are.
    Yes,
    /// A mount point: the host is asked when it is first reached.
    Mount(Lower),
    /// A directory on the way to a mount point: the host's, if it has one there, else one made up.
    Assumed(Lower),
}

/// An inode.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Inode {
    pub attr: Attr,
    pub body: Body,
    pub place: Place,
    pub loaded: Loaded,
    /// Names that it has.
    pub nlink: u32,
    /// Open descriptions, mappings and working directories that use it.
    pub holds: u32,
    /// Where it was last given a name: the directory and the name. Of a directory, where it is.
    pub parent: InodeId,
    pub name: Vec<u8>,
    /// A mount point or a built-in directory: it can be neither removed nor renamed.
    pub pinned: bool,
    /// Its content, while that is mapped and nobody has changed it since.
    pub mapped: Option<ContentRef>,
    /// Made by `O_TMPFILE`: it may still be given a first name.
    pub nameless: bool,
    /// Bytes of the quota that the inode itself takes, its attributes included.
    pub charge: u64,
    /// Bytes that what is known of a host file takes.
    pub known: u64,
    /// Extended attributes that the guest set.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What can no longer be done to a file in memory (`F_SEAL_*`).
    pub seals: u32,
}

impl Inode {
    pub fn kind(&self) -> u32 {
        use super::stat::{S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK};
        match &self.body {
            Body::File(_) | Body::Text(_) | Body::Output(_) => S_IFREG,
            Body::Dir(_) => S_IFDIR,
            Body::Link(_) => S_IFLNK,
            Body::Device(_) => S_IFCHR,
            Body::Stream(s) if s.tty => S_IFCHR,
            Body::Stream(_) | Body::Pipe(_) => S_IFIFO,
            Body::Socket | Body::Foreign => S_IFSOCK,
            Body::Anon(Anon::Socket) => S_IFSOCK,
            Body::Anon(Anon::Queue(_)) => S_IFREG,
            Body::Anon(_) => 0,
        }
    }
}

/// What an inode is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Body {
    /// A regular file.
    File(Content),
    /// A directory.
    Dir(Dir),
    /// A symbolic link.
    Link(Link),
    /// A device.
    Device(Device),
    /// A pipe or FIFO.
    Pipe(Pipe),
    /// A standard stream.
    Stream(StreamBody),
    /// A text of `/proc` or `/sys`.
    Text(Text),
    /// A UNIX socket's name.
    Socket,
    /// What has no name.
    Anon(Anon),
    /// A host file that is neither regular, directory nor link: it cannot be opened.
    Foreign,
    /// Standard output or error where it is a regular file.
    Output(OutputFile),
}

/// A directory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Dir {
    /// What is known of its names.
    pub entries: BTreeMap<Vec<u8>, Entry>,
    /// The host directory beneath.
    pub lower: Option<LowerDir>,
    /// Its links beyond two: one for each directory in it. Negative where the host does not count.
    pub subdirs: i32,
    /// Its names cannot be changed (`/proc`, `/sys`).
    pub fixed: bool,
    /// `/proc` itself, which has processes in it too.
    pub processes: bool,
}

impl Dir {
    /// Counts a directory that comes to lie in it, or that is taken out.
    pub fn count(&mut self, change: i32) {
        if self.subdirs >= 0 {
            self.subdirs = self.subdirs.saturating_add(change).max(0);
        }
    }
}

/// The host directory beneath a directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LowerDir {
    pub path: Lower,
    pub listing: Listing,
    /// How many [`Entry::Absent`] the directory holds for names that the host lacks.
    pub absent: u32,
}

/// Whether the host's names in a directory were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Listing {
    /// Not yet: a name that is not in `entries` may exist.
    Unknown,
    /// They are all in `entries`.
    Known,
    /// The host does not tell them.
    Refused(Errno),
}

/// What a directory knows of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    /// A file. With `covers` the host has the name too, and a [`Entry::Whiteout`] takes its place
    /// when it is removed.
    Node { id: InodeId, covers: bool, charged: bool },
    /// The host has it; its metadata was not asked for yet.
    Listed { id: InodeId, kind: FileKind },
    /// The host has it, and the guest removed it.
    Whiteout,
    /// The host does not have it.
    Absent,
}

/// A symbolic link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Link {
    /// Its target is known.
    Target(Vec<u8>),
    /// A link of the host, of so many bytes, whose target was not asked for yet.
    Lower { path: Lower, size: u64 },
    /// `/proc/self`
    ProcSelf,
    /// `/proc/thread-self`
    ProcThreadSelf,
}

/// A device of `/dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Device {
    Null,
    Zero,
    Full,
    Random,
    Urandom,
    /// The controlling terminal.
    Tty,
    /// The channel to the monitor.
    Control,
}

impl Device {
    pub fn rdev(self) -> u64 {
        let (major, minor) = match self {
            Device::Null => (1, 3),
            Device::Zero => (1, 5),
            Device::Full => (1, 7),
            Device::Random => (1, 8),
            Device::Urandom => (1, 9),
            Device::Tty => (5, 0),
            // Misc devices with a minor of their own choosing.
            Device::Control => (10, 125),
        };
        makedev(major, minor)
    }
}

/// Which way a standard stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    Stdin,
    Stdout,
    Stderr,
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StreamBody {
    pub way: Way,
    pub tty: bool,
}

/// A text of `/proc` or `/sys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Text {
    /// Asked for when read.
    Proc(ProcFile),
    /// Always the same.
    Fixed(Vec<u8>),
}

/// Whether bytes can be a name in a directory.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name != b"."
        && name != b".."
        && !name.contains(&b'/')
        && !name.contains(&0)
}
