//! Reading what was granted, and nothing else.
//!
//! Every path is opened beneath its grant by `openat2`, which follows no symbolic link and crosses
//! no magic one: the guest's file system resolved links already, in the guest's own tree, so a
//! link on the way now means that the host's tree was changed meanwhile.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat, statat,
};
use rustix::io::pread;

use super::grant::Roots;
use crate::errno::Errno;
use crate::world::{BLOCK_SIZE, DirEntry, FileKind, Fingerprint, HostPath, KnownFile, Metadata, WorldError};

/// Files kept open.
const OPEN_MAX: usize = 16;

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
    /// What files were when their first block was read.
    first: HashMap<HostPath, Identity>,
    /// Files that the guest knows from before, and that were not looked at yet.
    known: HashMap<HostPath, KnownFile>,
}

impl HostFiles {
    pub fn new(roots: Roots, known: HashMap<HostPath, KnownFile>) -> HostFiles {
        HostFiles { roots, open: Vec::new(), first: HashMap::new(), known }
    }

    /// Fails if a file that the guest knows is not what it was. Asked once a file: from then on it must
    /// stay as it is, like any other.
    fn check_known(&mut self, path: &HostPath) -> Result<(), WorldError> {
        let Some(known) = self.known.get(path) else { return Ok(()) };
        let metadata = self.metadata(path).ok().filter(|m| m.kind == FileKind::Regular);
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

    fn open(&self, path: &HostPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (root, name) = self.roots.locate(path)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut last = rustix::io::Errno::AGAIN;
        for _ in 0..TRIES {
            match openat2(root, name, flags, Mode::empty(), how) {
                Ok(fd) => return Ok(fd),
                Err(e @ (rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)) => last = e,
                // The way leads through a link, or out: to the guest there is nothing there.
                Err(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV) => {
                    return Err(Errno::ENOENT);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(last.into())
    }

    pub fn metadata(&self, path: &HostPath) -> Result<Metadata, Errno> {
        if let Some(given) = self.roots.given(path) {
            return given.metadata(&path.path);
        }
        let fd = self.open(path, OFlags::PATH)?;
        Ok(metadata_of(&fstat(&fd)?))
    }

    pub fn read_link(&self, path: &HostPath) -> Result<Vec<u8>, Errno> {
        let fd = self.open(path, OFlags::PATH)?;
        if kind_of(FileType::from_raw_mode(fstat(&fd)?.st_mode)) != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        Ok(readlinkat(&fd, "", Vec::new())?.into_bytes())
    }

    pub fn read_dir(&self, path: &HostPath) -> Result<Vec<DirEntry>, Errno> {
        if let Some(given) = self.roots.given(path) {
            return given.read_dir(&path.path);
        }
        let fd = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                let stat = match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    // It went away while the directory was read.
                    Err(rustix::io::Errno::NOENT) => continue,
                    Err(e) => return Err(e.into()),
                };
                kind = FileType::from_raw_mode(stat.st_mode);
            }
            entries.push(DirEntry { name: name.to_bytes().to_vec(), kind: kind_of(kind) });
        }
        entries.sort();
        entries.dedup_by(|a, b| a.name == b.name);
        Ok(entries)
    }

    fn block(&mut self, path: &HostPath, block: u64) -> Result<Arc<[u8]>, Errno> {
        if let Some(given) = self.roots.given(path) {
            return given.read_block(&path.path, block);
        }
        let offset = block.checked_mul(BLOCK_SIZE as u64).ok_or(Errno::EINVAL)?;
        i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        self.bring_up(path)?;
        let Some((_, fd)) = self.open.first() else {
            return Err(Errno::EIO);
        };
        let now = identity_of(&fstat(fd)?);
        let first = *self.first.entry(path.clone()).or_insert(now);
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
    fn open_regular(&self, path: &HostPath) -> Result<OwnedFd, Errno> {
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

fn metadata_of(stat: &Stat) -> Metadata {
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
