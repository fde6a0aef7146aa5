//! Files that are whole or not there: written under another name, synced, and renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}{}", path.display(), advice(source))]
pub struct FileError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What to do about it.
fn advice(source: &io::Error) -> &'static str {
    match FULL.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error())) {
        true => "; free some space and give the same command again: it goes on from what is there",
        false => "",
    }
}

/// What the system says where there is no room.
pub const FULL: [Errno; 2] = [Errno::NOSPC, Errno::DQUOT];

/// Words for an error of a file or directory.
pub fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError { what, path: path.to_owned(), source }
}

/// Writes and syncs a file in a directory that is not in its place yet.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(failed("write", path))
}

/// Puts a file or directory in its place, so that it is there after a crash of the machine.
pub fn put_in_place(from: &Path, to: &Path) -> Result<(), FileError> {
    let put = || -> io::Result<()> {
        fs::rename(from, to)?;
        match to.parent() {
            Some(dir) if dir.as_os_str().is_empty() => File::open(".")?.sync_all(),
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    put().map_err(failed("write", to))
}

/// Writes a file in one step, by way of a name in `aside`.
pub fn write_whole(aside: &Path, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let name = path.file_name().unwrap_or_default();
    let new = aside.join(name);
    write_new(&new, bytes)?;
    put_in_place(&new, path)
}

/// Writes a file in one step, by way of a name beside it.
pub fn write_beside(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    write_new(&new, bytes)?;
    put_in_place(&new, path)
}

/// Makes a directory, and those that it is in.
pub fn make_dir(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(failed("make", path))
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(failed("read", path))
}

/// The files and directories in a directory, sorted by name, without those whose names begin with a dot. None if it is
/// not there.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("read", dir))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("read", dir))?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
