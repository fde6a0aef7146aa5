//! What of the host's files a guest may see.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::canonicalize;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use super::given::{BadPath, GivenFiles};
use crate::errno::Errno;
use crate::world::HostPath;

/// A part of the host's file tree that a guest may read. It is opened when the first outside that
/// shows it is built, and its clones share what was opened: a directory that the host gives another
/// name meanwhile stays the one that they show.
#[derive(Clone, Debug)]
pub struct Grant {
    kind: GrantKind,
    limits: Limits,
    root: Arc<OnceLock<Root>>,
}

/// What of a granted directory is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// What others than owner and group may not read is not.
    pub readable: bool,
    /// What has the name of a secret is not: see [`secrets`](super::secrets).
    pub settings: bool,
    /// What other file systems are mounted in it is.
    pub mounts: bool,
}

impl PartialEq for Grant {
    fn eq(&self, other: &Grant) -> bool {
        self.kind == other.kind && self.limits == other.limits
    }
}

impl Eq for Grant {}

impl From<GrantKind> for Grant {
    fn from(kind: GrantKind) -> Grant {
        Grant { kind, limits: Limits::default(), root: Arc::default() }
    }
}

/// What a grant is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantKind {
    /// A directory with all that is in it.
    Directory(PathBuf),
    /// One regular file.
    File(PathBuf),
    /// No file of the host's, but a symbolic link that the guest sees.
    Symlink(Vec<u8>),
    /// No files of the host's, but a directory of files that are given as bytes.
    Given(Arc<GivenFiles>),
}

impl Grant {
    /// A directory with all that is in it, but for what it links to elsewhere, and what is mounted in
    /// it ([`Grant::crossing_mounts`]). If the path itself is a link, it is followed when the grant is
    /// opened.
    pub fn directory(path: impl Into<PathBuf>) -> Grant {
        GrantKind::Directory(path.into()).into()
    }

    /// One regular file. If the path is a link, it is followed when the grant is opened.
    pub fn file(path: impl Into<PathBuf>) -> Grant {
        GrantKind::File(path.into()).into()
    }

    /// A symbolic link in the guest's tree, to a path in the guest's tree.
    pub fn symlink(target: impl Into<Vec<u8>>) -> Grant {
        GrantKind::Symlink(target.into()).into()
    }

    /// A directory of files given as bytes, by their paths from it, such as `input.json` or
    /// `src/main.py`. The guest sees them as root's, readable by all, and cannot change them but in
    /// its overlay.
    pub fn files(files: impl IntoIterator<Item = (impl AsRef<[u8]>, impl Into<Arc<[u8]>>)>) -> Grant {
        GrantKind::Given(Arc::new(GivenFiles::new(files))).into()
    }

    /// With the file systems that are mounted in it, bind mounts included. Without, the place of one is
    /// an empty directory, and a file that is mounted over another is not there.
    #[must_use]
    pub fn crossing_mounts(mut self) -> Grant {
        self.limits.mounts = true;
        self
    }

    /// Without what others than its owner and group may not read. It is as if it did not exist.
    #[must_use]
    pub fn without_unreadable(mut self) -> Grant {
        self.limits.readable = true;
        self
    }

    /// Without what has a name of [secrets](crate::world::SECRET_NAMES), as settings in `/etc` do, and
    /// without what others may not read.
    #[must_use]
    pub fn without_secrets(mut self) -> Grant {
        self.limits = Limits { readable: true, settings: true, ..self.limits };
        self
    }

    /// What it is.
    pub fn kind(&self) -> &GrantKind {
        &self.kind
    }
}

/// Why something cannot be granted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// It cannot be opened.
    #[error("cannot grant {path:?}: {source}")]
    Open {
        /// The host path.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// It is something else than what it was granted as.
    #[error("cannot grant {path:?}: it is not a {wanted}")]
    Kind {
        /// The host path.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// A path that no file given as bytes can have.
    #[error("cannot give a file the path {path:?}: {reason}")]
    Given {
        /// The path, from the given directory.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl From<BadPath> for GrantError {
    fn from(bad: BadPath) -> GrantError {
        let (path, reason) = match bad {
            BadPath::Name(path) => (path, "it has no name, or one that is `.`, `..` or too long"),
            BadPath::NotDirectory(path) => (path, "another file lies below it"),
        };
        GrantError::Given { path: String::from_utf8_lossy(&path).into_owned(), reason }
    }
}

/// A grant, opened.
#[derive(Clone, Debug)]
enum Root {
    Directory(Arc<OwnedFd>),
    /// A name in a directory: a file cannot be held open without a descriptor for each.
    File {
        directory: Arc<OwnedFd>,
        name: OsString,
    },
    Given(Arc<GivenFiles>),
    Nothing,
}

/// All grants, opened.
#[derive(Debug)]
pub(super) struct Roots(Vec<(Root, Limits)>);

impl Roots {
    /// Opens what was granted.
    pub fn open(grants: &[Grant]) -> Result<Roots, GrantError> {
        // Many grants are files of one directory.
        let mut opened: HashMap<PathBuf, Arc<OwnedFd>> = HashMap::new();
        let mut roots = Vec::with_capacity(grants.len());
        for grant in grants {
            let root = match grant.root.get() {
                Some(root) => root,
                None => {
                    let root = open_root(&grant.kind, &mut opened)?;
                    grant.root.get_or_init(|| root)
                }
            };
            roots.push((root.clone(), grant.limits));
        }
        Ok(Roots(roots))
    }

    /// The files given as bytes that a path lies in, if it does.
    pub fn given(&self, path: &HostPath) -> Option<&GivenFiles> {
        match self.root(path) {
            Some((Root::Given(files), _)) => Some(files),
            _ => None,
        }
    }

    /// The directory that a path starts at, and the path from there.
    pub fn locate<'a>(&'a self, path: &'a HostPath) -> Result<(BorrowedFd<'a>, &'a [u8]), Errno> {
        match self.root(path) {
            Some((Root::Directory(fd), _)) if path.path.is_empty() => Ok((fd.as_fd(), b".")),
            Some((Root::Directory(fd), _)) => Ok((fd.as_fd(), &path.path)),
            Some((Root::File { directory, name }, _)) if path.path.is_empty() => {
                Ok((directory.as_fd(), name.as_bytes()))
            }
            Some((Root::File { .. }, _)) => Err(Errno::ENOTDIR),
            Some((Root::Nothing | Root::Given(_), _)) | None => Err(Errno::ENOENT),
        }
    }

    /// What of a path's grant is shown. A granted file is shown whatever is mounted there.
    pub fn limits(&self, path: &HostPath) -> Limits {
        match self.root(path) {
            Some((Root::Directory(_), limits)) => *limits,
            _ => Limits { mounts: true, ..Limits::default() },
        }
    }

    fn root(&self, path: &HostPath) -> Option<&(Root, Limits)> {
        usize::try_from(path.grant).ok().and_then(|n| self.0.get(n))
    }
}

fn open_root(kind: &GrantKind, opened: &mut HashMap<PathBuf, Arc<OwnedFd>>) -> Result<Root, GrantError> {
    match kind {
        GrantKind::Symlink(_) => Ok(Root::Nothing),
        GrantKind::Given(files) => {
            files.check()?;
            Ok(Root::Given(files.clone()))
        }
        GrantKind::Directory(path) => {
            let real = resolve(path)?;
            Ok(Root::Directory(open_directory(opened, path, &real)?))
        }
        GrantKind::File(path) => {
            let real = resolve(path)?;
            let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
                return Err(GrantError::Kind { path: path.clone(), wanted: "file" });
            };
            if !real.is_file() {
                return Err(GrantError::Kind { path: path.clone(), wanted: "file" });
            }
            let directory = open_directory(opened, path, parent)?;
            Ok(Root::File { directory, name: name.to_owned() })
        }
    }
}

fn resolve(path: &Path) -> Result<PathBuf, GrantError> {
    canonicalize(path).map_err(|source| GrantError::Open { path: path.to_owned(), source })
}

/// Opens the directory `real`, for the grant of `path`.
fn open_directory(
    opened: &mut HashMap<PathBuf, Arc<OwnedFd>>,
    path: &Path,
    real: &Path,
) -> Result<Arc<OwnedFd>, GrantError> {
    if let Some(fd) = opened.get(real) {
        return Ok(fd.clone());
    }
    let failed = |e: rustix::io::Errno| GrantError::Open { path: path.to_owned(), source: e.into() };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = open(real, flags, Mode::empty()).map_err(failed)?;
    let stat = fstat(&fd).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(GrantError::Kind { path: path.to_owned(), wanted: "directory" });
    }
    let fd = Arc::new(fd);
    opened.insert(real.to_owned(), fd.clone());
    Ok(fd)
}
