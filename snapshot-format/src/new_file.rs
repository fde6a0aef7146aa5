//! A file that is seen under its name only when it is whole.

use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// What marks an unfinished file. One is left behind only if the process is killed.
const PREFIX: &str = ".dejavm-";
const SUFFIX: &str = ".tmp";

/// A file that is being written: under a temporary name in the directory of its final one, readable by its owner
/// only, since it may hold what a guest had in memory. One that is dropped leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    target: PathBuf,
    file: NamedTempFile,
}

impl NewFile {
    /// Starts a file that is to be `target`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn create(target: &Path) -> io::Result<NewFile> {
        let file =
            tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(directory_of(target))?;
        Ok(NewFile { target: target.to_owned(), file })
    }

    /// Its final path.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Its path until it is whole.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file itself.
    pub fn as_file_mut(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Gives it other permissions than its owner's to read and to write.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.file.as_file().set_permissions(permissions)
    }

    /// Gives the file its name, replacing any that has it. When it is to be `durable`, the file and its name are
    /// on the disk then.
    ///
    /// # Errors
    ///
    /// What the system says; what had the name before has it still, unless the name alone did not reach the disk.
    pub fn finish(self, durable: bool) -> io::Result<()> {
        let NewFile { target, file } = self;
        if durable {
            file.as_file().sync_all()?;
        }
        file.persist(&target).map_err(|e| e.error)?;
        if durable {
            // The new name is an entry of the directory, durable only with it.
            File::open(directory_of(&target))?.sync_all()?;
        }
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The directory that a path's last name is in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_seen_when_it_is_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let target = dir.path().join("file");
        std::fs::write(&target, "before").expect("written");
        let mut file = NewFile::create(&target).expect("a file");
        file.write_all(b"after").expect("written");
        assert_eq!(std::fs::read(&target).expect("read"), b"before");
        file.finish(true).expect("named");
        assert_eq!(std::fs::read(&target).expect("read"), b"after");
        // One that is given up leaves nothing.
        drop(NewFile::create(&target).expect("a file"));
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn a_name_alone_is_in_the_current_directory() {
        assert_eq!(directory_of(Path::new("file")), Path::new("."));
        assert_eq!(directory_of(Path::new("a/file")), Path::new("a"));
    }
}
