//! What a guest sees of the host's files.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dejavm_sandbox::program::fs::{Mount, MountSource};
use dejavm_sandbox::world::{Grant, GrantKind, default_grants};

/// What a guest sees of the host's files: host files and directories, read-only, each at a guest
/// path. What the guest changes lives in its own overlay and never reaches the host.
///
/// A snapshot names the guest paths that its program was shown, not the host's: whoever restores it
/// says anew what is to be seen there. What the view does not have is not there for the guest, so a
/// snapshot from elsewhere can see no more than it is given.
#[derive(Clone, Debug, Default)]
pub struct View {
    grants: Vec<(Vec<u8>, Grant)>,
}

impl View {
    /// Nothing of the host: an empty root, with `/dev`, `/proc`, `/sys` and `/tmp` made up.
    pub fn nothing() -> View {
        View::default()
    }

    /// The host's directories of programs and libraries, and those of its settings that programs
    /// need and that hold no secrets, each at its own path.
    pub fn system() -> View {
        View { grants: default_grants() }
    }

    /// A host directory as the guest's root.
    pub fn root(dir: impl Into<PathBuf>) -> View {
        View::nothing().show("/", Grant::directory(dir))
    }

    /// Shows a host file or directory at a guest path, in the place of what was shown there before.
    /// It may lie below another one.
    #[must_use]
    pub fn show(mut self, guest: impl AsRef<Path>, what: Grant) -> View {
        let guest = plain(guest.as_ref().as_os_str().as_bytes());
        match self.grants.iter_mut().find(|(path, _)| *path == guest) {
            Some((_, grant)) => *grant = what,
            None => self.grants.push((guest, what)),
        }
        self
    }

    /// Whether a guest path is shown by this view, or lies below one that is.
    pub fn covers(&self, guest: impl AsRef<Path>) -> bool {
        let guest = guest.as_ref();
        self.grants.iter().any(|(path, _)| guest.starts_with(Path::new(std::ffi::OsStr::from_bytes(path))))
    }

    /// The mounts for a new guest.
    pub(crate) fn mounts(&self) -> Vec<Mount> {
        Mount::of_grants(&self.grants)
    }

    /// What each grant number of these mounts stands for in this view.
    pub(crate) fn grants_for(&self, mounts: &[Mount]) -> Vec<Grant> {
        mounts.iter().map(|mount| self.grant_for(mount)).collect()
    }

    fn grant_for(&self, mount: &Mount) -> Grant {
        // A link is no file of the host's: as a grant it opens nothing.
        let nothing = || Grant::symlink("");
        let wanted = plain(&mount.path);
        let Some((_, grant)) = self.grants.iter().find(|(path, _)| *path == wanted) else {
            if !matches!(mount.source, MountSource::Symlink { .. } | MountSource::Empty { .. }) {
                tracing::info!(path = %String::from_utf8_lossy(&mount.path), "not shown: the guest will not find it");
            }
            return nothing();
        };
        match (&mount.source, grant.kind()) {
            (MountSource::Directory { .. }, GrantKind::Directory(_))
            | (MountSource::File { .. }, GrantKind::File(_)) => grant.clone(),
            _ => nothing(),
        }
    }
}

/// A guest path without superfluous slashes, as paths are compared.
fn plain(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    if path.first() == Some(&b'/') {
        out.push(b'/');
    }
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        if !matches!(out.last(), None | Some(b'/')) {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let view =
            View::nothing().show("/data", Grant::directory("/a")).show("/data//", Grant::directory("/b"));
        assert_eq!(view.grants, [(b"/data".to_vec(), Grant::directory("/b"))]);
        assert!(view.covers("/data/x") && !view.covers("/database"));
    }

    #[test]
    fn a_restored_guest_is_shown_what_the_view_has_at_its_paths() {
        let before = View::nothing().show("/a", Grant::directory("/x")).show("/b", Grant::file("/y"));
        let after = View::nothing().show("/b", Grant::file("/other")).show("/c", Grant::directory("/z"));
        let grants = after.grants_for(&before.mounts());
        assert_eq!(grants, [Grant::symlink(""), Grant::file("/other")]);
        let changed = View::nothing().show("/b", Grant::directory("/dir"));
        assert_eq!(changed.grants_for(&before.mounts())[1], Grant::symlink(""), "another kind of thing");
    }
}
