//! Where the parts of a recording are found: in a directory, or in a pack.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dejavm_snapshot::{Place, Snapshot};

use crate::error::Error;
use crate::pack::Pack;

/// A recording's directory, or its pack.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// A directory, with a file for each part.
    Dir(PathBuf),
    /// One file.
    Pack(Pack),
}

impl Home {
    /// A directory is taken as it is; a file must be a pack.
    ///
    /// # Errors
    /// Those of [`Pack::open`].
    pub fn open(path: &Path) -> Result<Home, Error> {
        Ok(if path.is_file() { Home::Pack(Pack::open(path)?) } else { Home::Dir(path.to_owned()) })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        match self {
            Home::Dir(dir) => dir,
            Home::Pack(pack) => pack.path(),
        }
    }

    /// Where the part of this name is, a plain file name. It may be missing.
    pub fn place(&self, name: impl AsRef<OsStr>) -> Place {
        match self {
            Home::Dir(dir) => Place::file(dir.join(name.as_ref())),
            Home::Pack(pack) => pack.place(name.as_ref().as_bytes()),
        }
    }

    /// Opens the snapshot of this name, with its parents.
    pub fn open_snapshot(&self, name: &str) -> dejavm_snapshot::Result<Arc<Snapshot>> {
        match self {
            // Its parents are beside the file itself, not beside a link to it.
            Home::Dir(dir) => Snapshot::open(dir.join(name)),
            Home::Pack(pack) => {
                Snapshot::open_with(self.place(name), |query| pack.place(query.file_name.as_bytes()))
            }
        }
    }
}
