//! Files that the embedder gives as bytes: a directory that the host's disk knows nothing of.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::errno::Errno;
use crate::world::{BLOCK_SIZE, DirEntry, FileKind, Metadata};

/// Longest name in a path, bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// A directory tree of files in memory, read-only as everything that is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenFiles {
    /// Content by path from the tree's root, without leading, trailing or double slashes.
    files: BTreeMap<Vec<u8>, Arc<[u8]>>,
}

/// A path that cannot name a given file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BadPath {
    /// It is empty, has `.` or `..` in it, or a name that is too long.
    Name(Vec<u8>),
    /// It goes through another file.
    NotDirectory(Vec<u8>),
}

impl GivenFiles {
    /// From paths and contents. Of two with one path the later counts.
    pub fn new(files: impl IntoIterator<Item = (impl AsRef<[u8]>, impl Into<Arc<[u8]>>)>) -> GivenFiles {
        let plain = |path: &[u8]| -> Vec<u8> {
            path.split(|b| *b == b'/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'/')
        };
        let files = files.into_iter().map(|(path, content)| (plain(path.as_ref()), content.into()));
        GivenFiles { files: files.collect() }
    }

    /// Checks that each path can be one of a file.
    pub(super) fn check(&self) -> Result<(), BadPath> {
        for path in self.files.keys() {
            let bad = |part: &[u8]| {
                matches!(part, b"" | b"." | b"..") || part.len() > NAME_MAX || part.contains(&0)
            };
            if path.split(|b| *b == b'/').any(bad) {
                return Err(BadPath::Name(path.clone()));
            }
            let ancestors = (0..path.len()).filter(|at| path[*at] == b'/').map(|at| &path[..at]);
            if let Some(file) = ancestors.into_iter().find(|way| self.files.contains_key(*way)) {
                return Err(BadPath::NotDirectory(file.to_vec()));
            }
        }
        Ok(())
    }

    /// The paths below a directory, from it on.
    fn below<'a>(&'a self, dir: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        let all = self.files.range(dir.to_vec()..).map(|(path, _)| &path[..]);
        let here = all.take_while(move |path| path.starts_with(dir));
        here.filter_map(move |path| match dir {
            b"" => Some(path),
            _ => path[dir.len()..].strip_prefix(b"/"),
        })
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path.is_empty() || self.below(path).next().is_some()
    }

    pub(super) fn metadata(&self, path: &[u8]) -> Result<Metadata, Errno> {
        let (kind, mode, size) = match self.files.get(path) {
            Some(content) => (FileKind::Regular, 0o644, content.len() as u64),
            None if self.is_directory(path) => (FileKind::Directory, 0o755, 0),
            None => return Err(Errno::ENOENT),
        };
        let nlink = if kind == FileKind::Directory { 2 } else { 1 };
        Ok(Metadata { kind, mode, uid: 0, gid: 0, nlink, size, mtime: 0 })
    }

    pub(super) fn read_dir(&self, path: &[u8]) -> Result<Vec<DirEntry>, Errno> {
        if !self.is_directory(path) {
            return Err(if self.files.contains_key(path) { Errno::ENOTDIR } else { Errno::ENOENT });
        }
        let mut entries: Vec<DirEntry> = Vec::new();
        for rest in self.below(path) {
            let end = rest.iter().position(|b| *b == b'/');
            let kind = if end.is_some() { FileKind::Directory } else { FileKind::Regular };
            let name = rest[..end.unwrap_or(rest.len())].to_vec();
            entries.push(DirEntry { name, kind });
        }
        entries.sort();
        entries.dedup();
        Ok(entries)
    }

    pub(super) fn read_block(&self, path: &[u8], block: u64) -> Result<Arc<[u8]>, Errno> {
        let content = match self.files.get(path) {
            Some(content) => content,
            None if self.is_directory(path) => return Err(Errno::EISDIR),
            None => return Err(Errno::ENOENT),
        };
        let start = block.saturating_mul(BLOCK_SIZE as u64).min(content.len() as u64) as usize;
        Ok(content[start..content.len().min(start + BLOCK_SIZE)].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> GivenFiles {
        GivenFiles::new([
            ("a.txt", b"A".to_vec()),
            ("/dir//b.txt", vec![7; BLOCK_SIZE + 1]),
            ("dir/deeper/c", Vec::new()),
            ("dir-ectory", Vec::new()),
        ])
    }

    #[test]
    fn paths_make_a_tree() {
        let tree = tree();
        let names = |path: &[u8]| -> Vec<(String, FileKind)> {
            let entries = tree.read_dir(path).expect("a directory");
            entries.into_iter().map(|e| (String::from_utf8(e.name).unwrap(), e.kind)).collect()
        };
        let (file, dir) = (FileKind::Regular, FileKind::Directory);
        assert_eq!(names(b""), [("a.txt".into(), file), ("dir".into(), dir), ("dir-ectory".into(), file)]);
        assert_eq!(names(b"dir"), [("b.txt".into(), file), ("deeper".into(), dir)]);
        assert_eq!(tree.metadata(b"dir/b.txt").unwrap().size, BLOCK_SIZE as u64 + 1);
        assert_eq!(tree.metadata(b"dir/deeper").unwrap().kind, dir);
        assert_eq!(tree.metadata(b"di").unwrap_err(), Errno::ENOENT);
        assert_eq!(tree.read_dir(b"a.txt").unwrap_err(), Errno::ENOTDIR);
        assert_eq!(&*tree.read_block(b"dir/b.txt", 1).unwrap(), [7]);
        assert!(tree.read_block(b"dir/b.txt", 9).unwrap().is_empty());
        assert!(GivenFiles::default().read_dir(b"").unwrap().is_empty());
    }

    #[test]
    fn paths_that_no_file_has_are_told() {
        assert_eq!(tree().check(), Ok(()));
        let bad = |path: &str| GivenFiles::new([(path, b"".to_vec())]).check();
        for path in ["", "/", "a/../b", ".", "a\0b", &"x".repeat(256)] {
            assert!(matches!(bad(path), Err(BadPath::Name(_))), "{path:?}");
        }
        let twice = GivenFiles::new([("a", b"".to_vec()), ("a/b", b"".to_vec())]);
        assert_eq!(twice.check(), Err(BadPath::NotDirectory(b"a".to_vec())));
    }
}
