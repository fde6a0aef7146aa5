//! Opening files that nobody vouches for.

use std::fs::File;
use std::path::Path;

use crate::error::Error;

/// Opens a regular file for reading and tells its length, bytes. Anything else is refused before it
/// is opened: opening a FIFO could wait for ever.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn open_file(path: &Path) -> Result<(File, u64), Error> {
    let io = |e| Error::io("open", path, e);
    let refuse = || io(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    if !path.metadata().map_err(io)?.is_file() {
        return Err(refuse());
    }
    let file = File::open(path).map_err(io)?;
    let kind = file.metadata().map_err(io)?;
    if kind.is_file() { Ok((file, kind.len())) } else { Err(refuse()) }
}
