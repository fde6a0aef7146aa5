//! What a guest sees of the host's files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use dejavm_sandbox::guest::MachineState;
use dejavm_sandbox::program::fs::{Mount, MountSource};
use dejavm_sandbox::world::{Grant, GrantKind, default_grants, default_paths};

/// What a guest sees of the host's files: host files and directories, read-only, each at a guest
/// path. What the guest changes lives in its own overlay and never reaches the host.
///
/// A snapshot names the guest paths that its program was shown, not the host's: whoever restores it
/// says anew what is to be seen there. What the view does not have is not there for the guest, so a
/// snapshot from elsewhere can see no more than it is given.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Shows what programs need of the host, besides `grants` and below them.
    system: bool,
    grants: Vec<(Vec<u8>, Grant)>,
}

impl View {
    /// Nothing of the host: an empty root, with `/dev`, `/proc`, `/sys` and `/tmp` made up.
    pub fn nothing() -> View {
        View::default()
    }

    /// The host's directories of programs and libraries (`/usr`, `/bin`, `/sbin`, `/lib*`, `/opt`), and
    /// its settings (`/etc`), each at its own path. What others than owner and group may not read is
    /// left out, and of the settings what has the name of a secret or tells this machine from others:
    /// `docs/view.md` has the rule. A [`Host`](crate::Host) finds out once which of these there are,
    /// and opens them once for all its sandboxes.
    pub fn system() -> View {
        View { system: true, grants: Vec::new() }
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
        self.system && default_paths().any(|path| guest.starts_with(path))
            || self.grants.iter().any(|(path, _)| guest.starts_with(Path::new(OsStr::from_bytes(path))))
    }

    /// Everything that is shown: what `system` holds, if this view shows it, with changes in their
    /// places, then the rest.
    pub(crate) fn shown(&self, system: &SystemGrants) -> Shown {
        let mut grants = Vec::new();
        if self.system {
            grants.clone_from(system.0.get_or_init(default_grants));
        }
        for (guest, what) in &self.grants {
            match grants.iter_mut().find(|(path, _)| path == guest) {
                Some((_, grant)) => *grant = what.clone(),
                None => grants.push((guest.clone(), what.clone())),
            }
        }
        Shown(grants)
    }
}

/// What [`View::system`] shows, found out at its first use.
#[derive(Debug, Default)]
pub(crate) struct SystemGrants(OnceLock<Vec<(Vec<u8>, Grant)>>);

/// Everything that a view shows.
#[derive(Debug)]
pub(crate) struct Shown(Vec<(Vec<u8>, Grant)>);

impl Shown {
    /// The mounts for a new guest.
    pub fn mounts(&self) -> Vec<Mount> {
        Mount::of_grants(&self.0)
    }

    /// What each grant number of these mounts stands for.
    pub fn grants_for(&self, mounts: &[Mount]) -> Vec<Grant> {
        mounts.iter().map(|mount| self.grant_for(mount)).collect()
    }

    /// What each grant number of a state's mounts stands for: none of a bare-metal guest.
    pub fn grants_of(&self, state: &MachineState) -> Vec<Grant> {
        state.program().map_or_else(Vec::new, |program| self.grants_for(program.fs.mounts()))
    }

    fn grant_for(&self, mount: &Mount) -> Grant {
        // A link is no file of the host's: as a grant it opens nothing.
        let nothing = || Grant::symlink("");
        let wanted = plain(&mount.path);
        let Some((_, grant)) = self.0.iter().find(|(path, _)| *path == wanted) else {
            if !matches!(mount.source, MountSource::Symlink { .. } | MountSource::Empty { .. }) {
                tracing::info!(path = ?String::from_utf8_lossy(&mount.path), "not shown: the guest will not find it");
            }
            return nothing();
        };
        match (&mount.source, grant.kind()) {
            (MountSource::Directory { .. }, GrantKind::Directory(_) | GrantKind::Given(_))
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
        let system = SystemGrants::default();
        let mounts = before.shown(&system).mounts();
        let grants = after.shown(&system).grants_for(&mounts);
        assert_eq!(grants, [Grant::symlink(""), Grant::file("/other")]);
        let changed = View::nothing().show("/b", Grant::directory("/dir"));
        let grants = changed.shown(&system).grants_for(&mounts);
        assert_eq!(grants[1], Grant::symlink(""), "another kind of thing");
    }

    #[test]
    fn a_change_to_the_systems_view_keeps_its_place() {
        let system = SystemGrants::default();
        let plain = View::system().shown(&system);
        let changed = View::system().show("/usr", Grant::directory("/x")).show("/y", Grant::directory("/y"));
        let changed = changed.shown(&system);
        let paths = |shown: &Shown| shown.0.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        let mut expected = paths(&plain);
        expected.push(b"/y".to_vec());
        assert_eq!(paths(&changed), expected);
        let usr = expected.iter().position(|path| path == b"/usr").expect("programs lie there");
        assert_eq!(changed.0[usr].1, Grant::directory("/x"));
    }
}
