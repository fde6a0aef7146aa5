//! What the guest sees of the host, by the options and by default.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dejavm::command_line::{Shown, WORK, show_current_directory};
use dejavm::sandbox::program::fs::MountSource;
use dejavm::{Grant, Image, View};

use super::failure::say;
use super::options::ViewOptions;
use super::{Failure, Result, Voice};

/// The system's directory in which anything may be mounted.
const OPT: &str = "/opt";

impl ViewOptions {
    /// The view.
    pub fn view(&self, voice: Voice) -> Result<View> {
        let mut view = match &self.root {
            Some(dir) => View::nothing().show("/", self.limited(Grant::directory(dir))),
            None => self.with_current_directory(View::system(), voice)?,
        };
        if self.cross_mounts && self.root.is_none() && Path::new(OPT).is_dir() {
            view = view.show(OPT, Grant::directory(OPT).without_unreadable().crossing_mounts());
        }
        for ro in &self.ro {
            let shown = Shown::new(ro);
            let guest = shown.guest().map_err(Failure::new)?;
            view = view.show(guest, self.limited(shown.grant().map_err(Failure::new)?));
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
            let shown = Shown::new(ro);
            check(&shown.guest().map_err(Failure::new)?, shown.host.is_dir())?;
        }
        Ok(())
    }

    /// Where a program starts unless told otherwise.
    pub fn workdir(&self, view: &View) -> &'static str {
        if self.root.is_none() && view.covers(WORK) { WORK } else { "/" }
    }

    /// A grant of the user's, with what is mounted in it or without.
    fn limited(&self, grant: Grant) -> Grant {
        if self.cross_mounts { grant.crossing_mounts() } else { grant }
    }

    /// Shows the current directory, and says so if it does not.
    fn with_current_directory(&self, view: View, voice: Voice) -> Result<View> {
        let shown = show_current_directory(view, &self.ro, |grant| self.limited(grant));
        let (view, left_out) = shown.map_err(Failure::new)?;
        if let Some(here) = left_out.filter(|_| !voice.quiet) {
            let here = here.display();
            say(format_args!("{here} holds your home directory: it is not shown at {WORK} without --ro ."));
        }
        Ok(view)
    }
}
