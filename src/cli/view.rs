//! What the guest sees of the host, by the options and by default.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use dejavm::sandbox::program::fs::MountSource;
use dejavm::{Grant, Image, View};

use super::options::ViewOptions;
use super::{Failure, Result};

/// Where the guest sees the current directory.
pub const WORK: &str = "/work";
/// Directories that the sandbox makes itself.
const RESERVED: [&str; 3] = ["/dev", "/proc", "/sys"];

impl ViewOptions {
    /// The view.
    pub fn view(&self) -> Result<View> {
        let mut view = match &self.root {
            Some(dir) => View::root(dir),
            None => with_current_directory(View::system())?,
        };
        for ro in &self.ro {
            let (host, guest) = split(ro);
            let guest = match guest {
                Some(guest) => guest,
                None => own_path(&host)?,
            };
            view = view.show(guest, grant(&host)?);
        }
        Ok(view)
    }

    /// Refuses what a snapshot's guest cannot be shown: it sees the host at the paths that it had
    /// where the snapshot was made, and at no others.
    pub fn check(&self, image: &Image, file: &Path) -> Result<()> {
        let mounts = image.state().program().map_or(&[][..], |program| program.fs.mounts());
        let shown: Vec<(&[u8], bool)> = mounts
            .iter()
            .filter_map(|mount| match mount.source {
                MountSource::Directory { .. } => Some((&mount.path[..], true)),
                MountSource::File { .. } => Some((&mount.path[..], false)),
                MountSource::Symlink { .. } | MountSource::Empty { .. } => None,
            })
            .collect();
        let check = |guest: &Path, is_dir: bool| {
            let path = guest.as_os_str().as_bytes();
            let path = if path.len() > 1 { path.strip_suffix(b"/").unwrap_or(path) } else { path };
            let (file, guest) = (file.display(), guest.display());
            match shown.iter().find(|(at, _)| *at == path) {
                Some((_, kind)) if *kind == is_dir => Ok(()),
                Some((_, true)) => Err(Failure::new(format_args!(
                    "{file}: its guest was shown a directory at {guest}, and cannot be shown a file there"
                ))),
                Some((_, false)) => Err(Failure::new(format_args!(
                    "{file}: its guest was shown a file at {guest}, and cannot be shown a directory there"
                ))),
                None => Err(Failure::new(format_args!(
                    "{file}: its guest was shown nothing at {guest} where the snapshot was made, so nothing \
                     can be shown there now; `dejavm inspect` lists what it sees"
                ))),
            }
        };
        if self.root.is_some() {
            check(Path::new("/"), true)?;
        }
        for ro in &self.ro {
            let (host, guest) = split(ro);
            let guest = guest.map_or_else(|| own_path(&host), Ok)?;
            check(&guest, host.is_dir())?;
        }
        Ok(())
    }

    /// Where a program starts unless told otherwise.
    pub fn workdir(&self, view: &View) -> &'static str {
        if self.root.is_none() && view.covers(WORK) { WORK } else { "/" }
    }
}

/// Shows the current directory at `/work`, so that a run does not depend on where it is started, and
/// at its own path, so that absolute paths work.
fn with_current_directory(view: View) -> Result<View> {
    let here =
        std::env::current_dir().map_err(|e| Failure::new(format_args!("the current directory: {e}")))?;
    if here == Path::new("/") {
        // That would be all of the host.
        return Ok(view);
    }
    let taken =
        here.starts_with(WORK) || view.covers(&here) || RESERVED.iter().any(|dir| here.starts_with(dir));
    let view = view.show(WORK, Grant::directory(&here));
    Ok(if taken { view } else { view.show(&here, Grant::directory(&here)) })
}

/// Takes `PATH:GUESTPATH` apart. A guest path starts with a slash.
fn split(text: &OsStr) -> (PathBuf, Option<PathBuf>) {
    let bytes = text.as_bytes();
    let path = |part: &[u8]| PathBuf::from(OsString::from_vec(part.to_vec()));
    match bytes.windows(2).rposition(|pair| pair == b":/") {
        Some(at) if at > 0 => (path(&bytes[..at]), Some(path(&bytes[at + 1..]))),
        _ => (path(bytes), None),
    }
}

/// The path at which a host path is shown when nothing else is said: as the user wrote it, made
/// absolute.
fn own_path(host: &Path) -> Result<PathBuf> {
    let failed = |e| Failure::new(format_args!("--ro {}: {e}", host.display()));
    let path = std::path::absolute(host).map_err(failed)?;
    if path.components().any(|part| part == Component::ParentDir) {
        return path.canonicalize().map_err(failed);
    }
    Ok(path)
}

fn grant(host: &Path) -> Result<Grant> {
    let metadata =
        std::fs::metadata(host).map_err(|e| Failure::new(format_args!("--ro {}: {e}", host.display())))?;
    // What the path means must not change with the working directory.
    let path = std::path::absolute(host).unwrap_or_else(|_| host.to_owned());
    if metadata.is_dir() {
        Ok(Grant::directory(path))
    } else if metadata.is_file() {
        Ok(Grant::file(path))
    } else {
        Err(Failure::new(format_args!("--ro {}: neither a file nor a directory", host.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let of = |text: &str| split(OsStr::new(text));
        assert_eq!(of("/a"), ("/a".into(), None));
        assert_eq!(of("a:/b"), ("a".into(), Some("/b".into())));
        assert_eq!(of("/a:b:/c"), ("/a:b".into(), Some("/c".into())));
        assert_eq!(of("a:b"), ("a:b".into(), None));
    }
}
