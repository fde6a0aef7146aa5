//! The tree at the start: mounts, and what is built in.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::cache::BlockCache;
use super::chunks::Chunks;
use super::content::{Blocks, Content};
use super::inode::{Attr, Body, Dir, Entry, Inode, InodeId, Link, Listing, Loaded, Lower, LowerDir, Place};
use super::kept::KeptFiles;
use super::resolve::{NAME_MAX, PATH_MAX};
use super::stream::{Stdio, Streams};
use super::{Fs, device, proc, sys};
use crate::program::journal::Journal;
use crate::world::{Grant, GrantKind, HostPath};

/// What a guest's path shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute guest path, without `.` and `..`.
    pub path: Vec<u8>,
    /// What is there.
    pub source: MountSource,
}

impl Mount {
    /// The grant that it shows, if it shows one.
    pub fn grant(&self) -> Option<u32> {
        match self.source {
            MountSource::Directory { grant } | MountSource::File { grant } => Some(grant),
            MountSource::Symlink { .. } | MountSource::Empty { .. } => None,
        }
    }

    /// The mounts for a list of grants, in whose order they are given to the outside.
    pub fn of_grants(grants: &[(Vec<u8>, Grant)]) -> Vec<Mount> {
        let numbered = (0..).zip(grants);
        numbered
            .map(|(grant, (path, what))| Mount {
                path: path.clone(),
                source: match what.kind() {
                    GrantKind::Directory(_) | GrantKind::Given(_) => MountSource::Directory { grant },
                    GrantKind::File(_) => MountSource::File { grant },
                    GrantKind::Symlink(target) => MountSource::Symlink { target: target.clone() },
                },
            })
            .collect()
    }
}

/// The guest's path of a host file, by the first mount that shows it; `None` if none does.
pub fn guest_path(mounts: &[Mount], file: &HostPath) -> Option<Vec<u8>> {
    let mount = mounts.iter().find(|mount| mount.grant() == Some(file.grant))?;
    let at = mount.path.strip_suffix(b"/").unwrap_or(&mount.path);
    let separator: &[u8] = if file.path.is_empty() { b"" } else { b"/" };
    Some([at, separator, &file.path].concat())
}

/// What a mount shows. Grants are numbered as in [`HostPath::grant`](crate::world::HostPath).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A granted host directory.
    Directory {
        /// The grant.
        grant: u32,
    },
    /// A granted host file.
    File {
        /// The grant.
        grant: u32,
    },
    /// A symbolic link, made up.
    Symlink {
        /// Its target.
        target: Vec<u8>,
    },
    /// An empty directory of the overlay.
    Empty {
        /// Permission bits.
        mode: u32,
    },
}

/// What a file system is made from.
#[derive(Clone, Debug)]
pub struct FsOptions {
    /// What the guest sees of the host, in any order.
    pub mounts: Vec<Mount>,
    /// The standard streams.
    pub stdio: Stdio,
    /// Bytes that the overlay may hold.
    pub quota: u64,
    /// The times of files that are built in, nanoseconds since the Unix epoch.
    pub time: i64,
}

impl Default for FsOptions {
    fn default() -> FsOptions {
        FsOptions { mounts: Vec::new(), stdio: Stdio::default(), quota: 1 << 30, time: 0 }
    }
}

/// Why a set of mounts makes no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// Not an absolute, plain path.
    #[error("mount point {0:?}: not an absolute path without `.` and `..`, or too long")]
    Path(String),
    /// Two mounts at one place.
    #[error("mount point {0:?} is given twice")]
    Twice(String),
    /// In a built-in directory.
    #[error("mount point {0:?} lies in a directory that the sandbox makes itself")]
    Reserved(String),
    /// Below something that is not a directory.
    #[error("mount point {0:?} lies below a mount that is not a directory")]
    NotDirectory(String),
    /// The root is a file.
    #[error("only a directory can be mounted at the root")]
    Root,
}

/// Directories that are there and empty unless something is mounted there.
const EMPTY: [(&str, u32); 4] = [("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/run", 0o755), ("/root", 0o700)];

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The components of an absolute, plain path.
fn components(path: &[u8]) -> Result<Vec<Vec<u8>>, MountError> {
    let bad = || MountError::Path(text(path));
    if path.first() != Some(&b'/') || path.len() >= PATH_MAX || path.contains(&0) {
        return Err(bad());
    }
    let parts: Vec<Vec<u8>> =
        path.split(|b| *b == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect();
    if parts.iter().any(|part| part == b"." || part == b".." || part.len() > NAME_MAX) {
        return Err(bad());
    }
    Ok(parts)
}

/// The inode numbers of mount points and of the directories on the way to them, and of all that
/// comes later. They follow from the order in which the mounts are given: a mount that is added at
/// the end leaves the numbers of all else as they were. For a guest can see them, and what it does
/// must not depend on the host's directory that it is started in, which is such a mount.
struct Numbers {
    of: BTreeMap<Vec<Vec<u8>>, InodeId>,
    next: u64,
}

impl Numbers {
    /// The first number of a mount. There are fewer built-in files.
    const FIRST: u64 = 1 << 10;
    /// Numbers that are set aside in steps of this.
    const STEP: u64 = 1 << 14;

    fn new(mounts: &[Mount]) -> Result<Numbers, MountError> {
        let mut numbers = Numbers { of: BTreeMap::new(), next: Numbers::FIRST };
        for path in EMPTY.iter().map(|(path, _)| path.as_bytes()).chain(mounts.iter().map(|m| &m.path[..])) {
            let parts = components(path)?;
            for depth in 1..=parts.len() {
                numbers.of.entry(parts[..depth].to_vec()).or_insert_with(|| {
                    numbers.next += 1;
                    InodeId(numbers.next - 1)
                });
            }
        }
        numbers.next = numbers.next.next_multiple_of(Numbers::STEP);
        Ok(numbers)
    }

    fn of(&self, parts: &[Vec<u8>]) -> InodeId {
        // A mount point's way is in the table, since the mount is. The root has the first number.
        self.of.get(parts).copied().unwrap_or(InodeId(1))
    }
}

impl Fs {
    /// Makes the tree. Asks nothing of the host.
    ///
    /// # Errors
    /// When the mounts make no tree.
    pub fn new(options: FsOptions) -> Result<Fs, MountError> {
        let given = options.mounts.clone();
        let mut mounts = BTreeMap::new();
        for mount in options.mounts {
            let parts = components(&mount.path)?;
            if parts.first().is_some_and(|p| [b"dev".as_slice(), b"proc", b"sys"].contains(&&p[..])) {
                return Err(MountError::Reserved(text(&mount.path)));
            }
            if mounts.insert((parts.len(), parts), mount.source).is_some() {
                return Err(MountError::Twice(text(&mount.path)));
            }
        }
        let numbers = Numbers::new(&given)?;
        let taken: BTreeSet<_> = mounts.keys().cloned().collect();
        for (path, mode) in EMPTY {
            let parts = components(path.as_bytes())?;
            let key = (parts.len(), parts);
            if !taken.contains(&key) {
                mounts.insert(key, MountSource::Empty { mode });
            }
        }

        let mut fs = Fs {
            inodes: Journal::default(),
            next_inode: 1,
            root: InodeId(1),
            chunks: Chunks::new(options.quota),
            frozen: Journal::default(),
            next_frozen: 0,
            streams: Streams::default(),
            pipes: 0,
            known: 0,
            born: options.time,
            timers: Default::default(),
            notices: Default::default(),
            sockets: Default::default(),
            woken: Vec::new(),
            mounts: given,
            kept: KeptFiles::default(),
            cache: BlockCache::default(),
        };
        // The root comes first: it is the only one without components.
        let root = match mounts.remove(&(0, Vec::new())) {
            None => MountSource::Empty { mode: 0o755 },
            Some(MountSource::File { .. } | MountSource::Symlink { .. }) => {
                return Err(MountError::Root);
            }
            Some(source) => source,
        };
        fs.add_mount(InodeId(1), b"", root, InodeId(1));
        device::build(&mut fs);
        proc::build(&mut fs);
        sys::build(&mut fs);
        fs.build_streams(options.stdio);
        // Shorter paths first, so that what is mounted below another mount lands in it.
        for ((_, parts), source) in mounts {
            fs.mount(&parts, source, &numbers)?;
        }
        fs.next_inode = numbers.next;
        Ok(fs)
    }

    fn mount(&mut self, parts: &[Vec<u8>], source: MountSource, numbers: &Numbers) -> Result<(), MountError> {
        let Some((name, way)) = parts.split_last() else {
            return Err(MountError::Root);
        };
        let mut dir = self.root;
        for (depth, part) in way.iter().enumerate() {
            let parent = match &self.inodes[&dir].body {
                Body::Dir(parent) => parent,
                _ => {
                    let path = parts.iter().flat_map(|p| [b"/", &p[..]].concat()).collect::<Vec<_>>();
                    return Err(MountError::NotDirectory(text(&path)));
                }
            };
            dir = match parent.entries.get(part) {
                Some(Entry::Node { id, .. }) => *id,
                _ => {
                    let lower = parent.lower.as_ref().map(|lower| lower.path.child(part));
                    let id = self.add_built_in_as(
                        numbers.of(&way[..=depth]),
                        dir,
                        part,
                        Place::Tree,
                        0o755,
                        Body::Dir(Dir { lower: lower.clone().map(LowerDir::new), ..Dir::default() }),
                    );
                    if let (Some(lower), Some(inode)) = (lower, self.inodes.get_mut(&id)) {
                        inode.loaded = Loaded::Assumed(lower);
                    }
                    id
                }
            };
        }
        if !matches!(self.inodes[&dir].body, Body::Dir(_)) {
            let path = parts.iter().flat_map(|p| [b"/", &p[..]].concat()).collect::<Vec<_>>();
            return Err(MountError::NotDirectory(text(&path)));
        }
        self.add_mount(dir, name, source, numbers.of(parts));
        Ok(())
    }

    fn add_mount(&mut self, parent: InodeId, name: &[u8], source: MountSource, id: InodeId) {
        let (mode, body, loaded) = match source {
            MountSource::Directory { grant } => {
                let lower = Lower::new(grant, Vec::new());
                let dir = Dir { lower: Some(LowerDir::new(lower.clone())), ..Dir::default() };
                (0o755, Body::Dir(dir), Loaded::Mount(lower))
            }
            MountSource::File { grant } => {
                let lower = Lower::new(grant, Vec::new());
                let content = Content::Blocks(Blocks::lower(lower.clone(), 0, 0));
                (0o644, Body::File(content), Loaded::Mount(lower))
            }
            MountSource::Symlink { target } => (0o777, Body::Link(Link::Target(target)), Loaded::Yes),
            MountSource::Empty { mode } => (mode, Body::Dir(Dir::default()), Loaded::Yes),
        };
        // A made-up link is only a link: a guest may replace it.
        let pinned = !matches!(body, Body::Link(_));
        self.add_built_in_as(id, parent, name, Place::Tree, mode, body);
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.loaded = loaded;
            inode.pinned = pinned;
        }
    }

    /// Adds what is there from the start, without a charge. The root is the one whose parent is
    /// itself.
    pub(super) fn add_built_in(
        &mut self,
        parent: InodeId,
        name: &[u8],
        place: Place,
        mode: u32,
        body: Body,
    ) -> InodeId {
        let id = InodeId(self.next_inode);
        self.add_built_in_as(id, parent, name, place, mode, body)
    }

    /// The same, with a number that was set aside for it.
    fn add_built_in_as(
        &mut self,
        id: InodeId,
        parent: InodeId,
        name: &[u8],
        place: Place,
        mode: u32,
        body: Body,
    ) -> InodeId {
        self.next_inode = self.next_inode.max(id.0 + 1);
        self.inodes.insert(
            id,
            Inode {
                attr: Attr::new(mode, self.born),
                body,
                place,
                loaded: Loaded::Yes,
                nlink: 1,
                holds: 0,
                parent,
                name: name.to_vec(),
                pinned: true,
                mapped: None,
                nameless: false,
                charge: 0,
                known: 0,
                xattrs: BTreeMap::new(),
                seals: 0,
            },
        );
        if id != parent
            && let Some(Inode { body: Body::Dir(dir), .. }) = self.inodes.get_mut(&parent)
        {
            dir.entries.insert(name.to_vec(), Entry::Node { id, covers: false, charged: false });
        }
        id
    }

    /// Adds a built-in directory.
    pub(super) fn add_built_in_dir(
        &mut self,
        parent: InodeId,
        name: &str,
        place: Place,
        mode: u32,
        fixed: bool,
    ) -> InodeId {
        let body = Body::Dir(Dir { fixed, ..Dir::default() });
        self.add_built_in(parent, name.as_bytes(), place, mode, body)
    }
}

impl LowerDir {
    pub(super) fn new(path: Lower) -> LowerDir {
        LowerDir { path, listing: Listing::Unknown, absent: 0 }
    }
}
