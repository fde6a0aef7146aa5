//! Reading what was granted, and nothing else.
//!
//! Every path is opened beneath its grant by `openat2`, which follows no symbolic link and crosses
//! no magic one: the guest's file system resolved links already, in the guest's own tree, so a
//! link on the way now means that the host's tree was changed meanwhile.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat, statat,
};
use rustix::io::pread;

use super::grant::Roots;
use super::interrupt::{Interrupt, check};
use super::secrets::{hides_mode, hides_path};
use super::stdin::StdinFile;
use crate::errno::Errno;
use crate::world::{
    BLOCK_SIZE, DirEntry, FileKind, Fingerprint, HostPath, KnownFile, Metadata, STDIN_GRANT, WorldError,
};

/// Files kept open.
const OPEN_MAX: usize = 16;

/// Directories on the way to files that are known to be shown, at most.
const WAYS_MAX: usize = 256;

/// Names of a directory after which the deadline is looked at.
const LOOK: usize = 4096;

/// How often an open is tried again while somebody renames things on the way.
const TRIES: usize = 8;

/// What tells that a file is still the same, unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: i64,
}

/// The host's files.
pub(super) struct HostFiles {
    roots: Roots,
    /// Those used last, the last one first.
    open: Vec<(HostPath, OwnedFd)>,
    /// What files were when their first block was read, by a digest of their path: a guest may read
    /// any number of files.
    first: HashMap<u64, Identity>,
    /// Directories whose mode lets others through.
    ways: HashSet<HostPath>,
    /// Files that the guest knows from before, and that were not looked at yet.
    known: HashMap<HostPath, KnownFile>,
    /// Standard input, if it is a regular file.
    stdin: Option<StdinFile>,
}

impl HostFiles {
    pub fn new(roots: Roots, known: HashMap<HostPath, KnownFile>, stdin: Option<StdinFile>) -> HostFiles {
        HostFiles { roots, open: Vec::new(), first: HashMap::new(), ways: HashSet::new(), known, stdin }
    }

    /// Moves the position of standard input, if it is a regular file.
    pub fn seek_stdin(&self, offset: u64) {
        if let Some(stdin) = &self.stdin {
            stdin.seek(offset);
        }
    }

    /// Fails if a file that the guest knows is not what it was. Asked once a file: from then on it must
    /// stay as it is, like any other.
    fn check_known(&mut self, path: &HostPath) -> Result<(), WorldError> {
        if !self.known.contains_key(path) {
            return Ok(());
        }
        let metadata = self.metadata(path).ok().filter(|m| m.kind == FileKind::Regular);
        let Some(known) = self.known.get(path) else { return Ok(()) };
        let is = metadata.map(|m| Fingerprint { size: m.size, mtime: m.mtime });
        if is != Some(known.fingerprint) {
            let path = String::from_utf8_lossy(&known.name).into_owned();
            return Err(WorldError::FileChanged { path, was: known.fingerprint, is });
        }
        self.known.remove(path);
        Ok(())
    }

    /// A block of a file.
    ///
    /// # Errors
    /// When it is a file that the guest knows, and is not what it was.
    pub fn read_block(
        &mut self,
        path: &HostPath,
        block: u64,
    ) -> Result<Result<Arc<[u8]>, Errno>, WorldError> {
        self.check_known(path)?;
        Ok(self.block(path, block))
    }

    /// Opens a file that is shown.
    fn open(&mut self, path: &HostPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.expect_shown_way(path)?;
        let fd = self.open_beneath(path, flags).map_err(|e| match e {
            // The way leads through a link, or out: to the guest there is nothing there.
            rustix::io::Errno::LOOP | rustix::io::Errno::XDEV => Errno::ENOENT,
            e => e.into(),
        })?;
        self.expect_shown(path, &fstat(&fd)?)?;
        Ok(fd)
    }

    fn open_beneath(&self, path: &HostPath, flags: OFlags) -> Result<OwnedFd, rustix::io::Errno> {
        let raw = |e: Errno| rustix::io::Errno::from_raw_os_error(e.number());
        let (root, name) = self.roots.locate(path).map_err(raw)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if !self.roots.limits(path).mounts {
            how |= ResolveFlags::NO_XDEV;
        }
        let mut last = rustix::io::Errno::AGAIN;
        for _ in 0..TRIES {
            match openat2(root, name, flags, Mode::empty(), how) {
                Err(e @ (rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)) => last = e,
                done => return done,
            }
        }
        Err(last)
    }

    /// Refuses a file whose mode hides it.
    fn expect_shown(&self, path: &HostPath, stat: &Stat) -> Result<(), Errno> {
        let hidden = self.roots.limits(path).readable && hides_mode(stat);
        if hidden { Err(Errno::ENOENT) } else { Ok(()) }
    }

    /// Refuses a path with a name that is not shown, and one through a directory that is not.
    fn expect_shown_way(&mut self, path: &HostPath) -> Result<(), Errno> {
        let limits = self.roots.limits(path);
        if limits.settings && hides_path(&path.path) {
            return Err(Errno::ENOENT);
        }
        if !limits.readable {
            return Ok(());
        }
        let ends = path.path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.collect::<Vec<_>>() {
            let way = HostPath { grant: path.grant, path: path.path[..end].to_vec() };
            if self.ways.contains(&way) {
                continue;
            }
            match self.open_beneath(&way, OFlags::PATH) {
                Ok(fd) => self.expect_shown(&way, &fstat(&fd)?)?,
                // The open of the whole says what it is.
                Err(_) => return Ok(()),
            }
            if self.ways.len() >= WAYS_MAX {
                self.ways.clear();
            }
            self.ways.insert(way);
        }
        Ok(())
    }

    /// What is known of a directory that another file system is mounted on and that is not crossed
    /// into: it is there, and empty.
    fn mount_point(&mut self, path: &HostPath) -> Option<Metadata> {
        let at = path.path.iter().rposition(|b| *b == b'/');
        let (parent, name) = match at {
            Some(at) => (&path.path[..at], &path.path[at + 1..]),
            None => (&b""[..], &path.path[..]),
        };
        if self.roots.limits(path).mounts || matches!(name, b"" | b"." | b"..") {
            return None;
        }
        self.expect_shown_way(path).ok()?;
        match self.open_beneath(path, OFlags::PATH) {
            Err(rustix::io::Errno::XDEV) => {}
            _ => return None,
        }
        let parent = HostPath { grant: path.grant, path: parent.to_vec() };
        let fd = self.open_beneath(&parent, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let stat = statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT).ok()?;
        let metadata = metadata_of(&stat);
        (metadata.kind == FileKind::Directory && self.expect_shown(path, &stat).is_ok()).then_some(Metadata {
            nlink: 2,
            size: 4096,
            ..metadata
        })
    }

    pub fn metadata(&mut self, path: &HostPath) -> Result<Metadata, Errno> {
        if let Some(given) = self.roots.given(path) {
            return given.metadata(&path.path);
        }
        if path.grant == STDIN_GRANT {
            return self.stdin.as_ref().ok_or(Errno::ENOENT)?.metadata();
        }
        match self.open(path, OFlags::PATH) {
            Ok(fd) => Ok(metadata_of(&fstat(&fd)?)),
            Err(Errno::ENOENT) => self.mount_point(path).ok_or(Errno::ENOENT),
            Err(e) => Err(e),
        }
    }

    pub fn read_link(&mut self, path: &HostPath) -> Result<Vec<u8>, Errno> {
        let fd = self.open(path, OFlags::PATH)?;
        if kind_of(FileType::from_raw_mode(fstat(&fd)?.st_mode)) != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        Ok(readlinkat(&fd, "", Vec::new())?.into_bytes())
    }

    /// The names in a directory. The outer error is that the run is over.
    pub fn read_dir(
        &mut self,
        path: &HostPath,
        interrupt: &dyn Interrupt,
    ) -> Result<Result<Vec<DirEntry>, Errno>, WorldError> {
        if let Some(given) = self.roots.given(path) {
            return Ok(given.read_dir(&path.path));
        }
        let fd = match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) if self.mount_point(path).is_some() => return Ok(Ok(Vec::new())),
            Err(e) => return Ok(Err(e)),
        };
        let names = match Dir::read_from(&fd) {
            Ok(names) => names,
            Err(e) => return Ok(Err(e.into())),
        };
        // In order from the start: sorting many names at the end would not look at the deadline.
        let mut entries = BTreeMap::new();
        for (n, entry) in names.enumerate() {
            if n % LOOK == LOOK - 1 {
                check(interrupt)?;
            }
            match entry.map_err(Errno::from).and_then(|entry| self.entry(path, &fd, &entry)) {
                Ok(entry) => entries.extend(entry),
                Err(e) => return Ok(Err(e)),
            }
        }
        Ok(Ok(entries.into_iter().map(|(name, kind)| DirEntry { name, kind }).collect()))
    }

    /// A name in a directory and what it is, if it is shown.
    fn entry(
        &self,
        dir: &HostPath,
        fd: &OwnedFd,
        entry: &rustix::fs::DirEntry,
    ) -> Result<Option<(Vec<u8>, FileKind)>, Errno> {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            return Ok(None);
        }
        let limits = self.roots.limits(dir);
        if limits.settings {
            let slash: &[u8] = if dir.path.is_empty() { b"" } else { b"/" };
            if hides_path(&[&dir.path, slash, name.to_bytes()].concat()) {
                return Ok(None);
            }
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown || limits.readable && kind != FileType::Symlink {
            let stat = match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
                Ok(stat) => stat,
                // It went away while the directory was read.
                Err(rustix::io::Errno::NOENT) => return Ok(None),
                Err(e) => return Err(e.into()),
            };
            kind = FileType::from_raw_mode(stat.st_mode);
            if limits.readable && hides_mode(&stat) {
                return Ok(None);
            }
        }
        Ok(Some((name.to_bytes().to_vec(), kind_of(kind))))
    }

    fn block(&mut self, path: &HostPath, block: u64) -> Result<Arc<[u8]>, Errno> {
        if let Some(given) = self.roots.given(path) {
            return given.read_block(&path.path, block);
        }
        if path.grant == STDIN_GRANT {
            return self.stdin.as_mut().ok_or(Errno::ENOENT)?.block(block);
        }
        let offset = block.checked_mul(BLOCK_SIZE as u64).ok_or(Errno::EINVAL)?;
        i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        self.bring_up(path)?;
        let Some((_, fd)) = self.open.first() else {
            return Err(Errno::EIO);
        };
        let now = identity_of(&fstat(fd)?);
        let first = *self.first.entry(digest(path)).or_insert(now);
        if now != first {
            return Err(Errno::EIO);
        }
        let len = now.size.saturating_sub(offset).min(BLOCK_SIZE as u64) as usize;
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, len).collect();
        let out = Arc::get_mut(&mut bytes).expect("nobody else has it yet");
        let mut done = 0;
        while done < len {
            match pread(fd, &mut out[done..], offset + done as u64) {
                // It was cut meanwhile.
                Ok(0) => return Err(Errno::EIO),
                Ok(n) => done += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        // What was read is of one version only if nothing changed until here.
        if identity_of(&fstat(fd)?) != first {
            return Err(Errno::EIO);
        }
        Ok(bytes)
    }

    /// Sees to it that a regular file is open, as the first of those that are.
    fn bring_up(&mut self, path: &HostPath) -> Result<(), Errno> {
        if let Some(n) = self.open.iter().position(|(open, _)| open == path) {
            self.open[..=n].rotate_right(1);
            return Ok(());
        }
        let fd = self.open_regular(path)?;
        self.open.truncate(OPEN_MAX - 1);
        self.open.insert(0, (path.clone(), fd));
        Ok(())
    }

    /// Opens a regular file for reading. Opening a device or FIFO can do things, so that what it
    /// is is found out first.
    fn open_regular(&mut self, path: &HostPath) -> Result<OwnedFd, Errno> {
        let regular = |stat: &Stat| match kind_of(FileType::from_raw_mode(stat.st_mode)) {
            FileKind::Regular => Ok(()),
            FileKind::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::ENXIO),
        };
        let seen = fstat(self.open(path, OFlags::PATH)?)?;
        regular(&seen)?;
        let fd = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = fstat(&fd)?;
        regular(&stat)?;
        if (seen.st_dev, seen.st_ino) == (stat.st_dev, stat.st_ino) { Ok(fd) } else { Err(Errno::EIO) }
    }
}

impl std::fmt::Debug for HostFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostFiles").field("roots", &self.roots).finish_non_exhaustive()
    }
}

/// Tells paths apart.
fn digest(path: &HostPath) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&path.path, path.grant.into())
}

fn kind_of(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

#[allow(clippy::unnecessary_cast)] // the fields' types differ between architectures
fn mtime_of(stat: &Stat) -> i64 {
    (stat.st_mtime as i64).saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64)
}

pub(in crate::world) fn metadata_of(stat: &Stat) -> Metadata {
    let kind = kind_of(FileType::from_raw_mode(stat.st_mode));
    Metadata {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        nlink: if kind == FileKind::Directory { u32::try_from(stat.st_nlink).unwrap_or(1) } else { 1 },
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: mtime_of(stat),
    }
}

fn identity_of(stat: &Stat) -> Identity {
    Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: mtime_of(stat),
    }
}
