//! What can be wrong with a recording.

use std::io;
use std::path::{Path, PathBuf};

use crate::record::BlobId;

/// Why a recording could not be written or read. Each names the file, where in it, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host's file system refused.
    #[error("{}: {action}: {source}{}", path.display(), advice(action, source))]
    Io {
        /// What was being done, such as `open`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The directory already holds a recording.
    #[error("{} already exists: choose another directory, or remove the old recording", path.display())]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
    /// The file is something else than a dejavm log.
    #[error("{} is not a dejavm log: it does not start with DEJAVLOG", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// A newer dejavm wrote the file.
    #[error(
        "{} has format version {found} and this dejavm reads up to {supported}: use a newer dejavm",
        path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that is understood here.
        supported: u32,
    },
    /// An older dejavm wrote the file.
    #[error(
        "{} has format version {found} and this dejavm reads {supported} alone: use the older dejavm that \
         made it, or record again",
        path.display()
    )]
    OlderVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is understood here.
        supported: u32,
    },
    /// It is no recording at all.
    #[error("{} is not a recording: {why}", path.display())]
    NotARecording {
        /// The path.
        path: PathBuf,
        /// What it is, and what to do.
        why: &'static str,
    },
    /// It is no pack, and a pack is wanted.
    #[error("{} is not a pack: it is a recording's directory already", path.display())]
    NotAPack {
        /// The path.
        path: PathBuf,
    },
    /// A pack ends too early.
    #[error("{} is cut short: {found} bytes of {expected}; copy it again", path.display())]
    PackCut {
        /// The pack.
        path: PathBuf,
        /// The length that it says it has, bytes; or that of a header.
        expected: u64,
        /// The length that it has, bytes.
        found: u64,
    },
    /// Bytes of a pack, outside of its members, are not what was written; or a member is not what was packed.
    #[error("{}: corrupt at byte {offset}: {why}; copy it again, or pack the recording again", path.display())]
    Pack {
        /// The pack.
        path: PathBuf,
        /// Bytes from the file's start.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The start snapshot of a recording cannot be read.
    #[error(transparent)]
    Snapshot(Box<dejavm_snapshot::Error>),
    /// The log uses features that this version does not know.
    #[error("{} needs features {flags:#x} that this dejavm does not know: use a newer dejavm", path.display())]
    UnknownFeatures {
        /// The file.
        path: PathBuf,
        /// The feature bits that are not known.
        flags: u32,
    },
    /// The manifest is not a recording's manifest.
    #[error("{}: not a recording's manifest: {why}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The manifest says that the recording is complete, and the log is not.
    #[error(
        "{} was sealed with {exits} exits, but it ends early, at byte {offset}: copy it again; or, to read \
         what is left, set \"complete\" to false in the manifest",
        path.display()
    )]
    Truncated {
        /// The log.
        path: PathBuf,
        /// Where the last whole block ends, bytes from the file's start.
        offset: u64,
        /// Exits that the manifest promises.
        exits: u64,
    },
    /// Bytes of the log are not what was written.
    #[error("{}: corrupt at byte {offset}: {why}; what comes before it can be read", path.display())]
    Corrupt {
        /// The log.
        path: PathBuf,
        /// Bytes from the file's start.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// An answer refers to content that the log does not hold.
    #[error("{}: content {id} is not in the log", path.display())]
    MissingBlob {
        /// The log.
        path: PathBuf,
        /// The content's name.
        id: BlobId,
    },
    /// The recorder stopped writing earlier on.
    #[error("{}: the recorder stopped: {why}; what was written before can be replayed", path.display())]
    Recorder {
        /// The log.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// What to do where the host's file system refused, as the end of a message; nothing, where what it
/// said is all there is to say.
fn advice(action: &str, source: &io::Error) -> &'static str {
    match (action, source.kind()) {
        ("open", io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            ": no recording is there; `dejavm record -o DIR` makes one"
        }
        ("open", io::ErrorKind::PermissionDenied) => {
            ": make the recording readable for this user, or use a copy that is"
        }
        (_, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            ": choose a directory that this user may write to"
        }
        (_, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            ": make room there, or choose another directory"
        }
        _ => "",
    }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn pack(path: &Path, offset: u64, why: impl Into<String>) -> Error {
        Error::Pack { path: path.to_owned(), offset, why: why.into() }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, why: impl Into<String>) -> Error {
        Error::Corrupt { path: path.to_owned(), offset, why: why.into() }
    }
}

impl From<dejavm_snapshot::Error> for Error {
    fn from(e: dejavm_snapshot::Error) -> Error {
        Error::Snapshot(Box::new(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        use io::ErrorKind::*;
        let said =
            |action, kind: io::ErrorKind| Error::io(action, Path::new("rec/log"), kind.into()).to_string();
        for (action, kind, advice) in [
            ("open", NotFound, "dejavm record -o DIR"),
            ("open", NotADirectory, "dejavm record -o DIR"),
            ("open", PermissionDenied, "readable"),
            ("make", PermissionDenied, "may write"),
            ("make", ReadOnlyFilesystem, "may write"),
            ("write", StorageFull, "make room"),
        ] {
            let said = said(action, kind);
            assert!(said.starts_with("rec/log: ") && said.contains(advice), "{said}");
        }
        assert_eq!(said("read", TimedOut), "rec/log: read: timed out");
    }
}
