//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};

use crate::ContentId;

/// A result whose error is [`Error`] unless said otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A part of the file, as errors name it.
///
/// The parts are described in `docs/snapshot-format.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Section {
    /// The fixed-size header at offset 0.
    Header,
    /// The opaque machine state.
    State,
    /// The zstd dictionary.
    Dictionary,
    /// The page contents.
    Frames,
    /// The page index.
    Index,
    /// The regrouped page contents of the working set.
    Clusters,
    /// The order of the working set and its table of clusters.
    WorkingSet,
    /// The fixed-size footer at the end.
    Footer,
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::State => "machine state",
            Self::Dictionary => "dictionary",
            Self::Frames => "page frames",
            Self::Index => "page index",
            Self::WorkingSet => "working set",
            Self::Clusters => "working-set clusters",
            Self::Footer => "footer",
        })
    }
}

/// Everything that can go wrong with a snapshot file.
///
/// Every message says what failed, where, and what can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused an operation on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// The file is something else than a snapshot.
    #[error("{} is not a dejavm snapshot: {reason}; check the path", path.display())]
    NotASnapshot {
        /// The file.
        path: PathBuf,
        /// What gives it away.
        reason: &'static str,
    },

    /// The file was written by a later version of the format.
    #[error(
        "{} has snapshot format version {found}, this build reads up to {supported}; \
         use a newer dejavm, or make the snapshot again with this one",
        path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The highest version this build reads.
        supported: u32,
    },

    /// The file was written by an earlier version of the format.
    #[error(
        "{} has snapshot format version {found}, this build reads {supported} alone; \
         use the older dejavm that made it, or make the snapshot again with this one",
        path.display()
    )]
    OlderVersion {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version that this build reads.
        supported: u32,
    },

    /// The file needs a feature this build does not have.
    #[error(
        "{} needs snapshot features {unknown:#x} that this build does not know; \
         use a newer dejavm, or make the snapshot again with this one",
        path.display()
    )]
    UnsupportedFeature {
        /// The file.
        path: PathBuf,
        /// The required feature bits that are unknown here.
        unknown: u32,
    },

    /// The file ends too early, or was cut while in use.
    #[error(
        "{} is cut short: {found} bytes where {expected} are needed; \
         copy it again or make the snapshot again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The length needed, in bytes.
        expected: u64,
        /// The length found, in bytes.
        found: u64,
    },

    /// A part of the file other than a page's content fails its check.
    #[error(
        "{} is corrupt: {section} at offset {offset}: {reason}; \
         restore the file from a copy or make the snapshot again",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The damaged part.
        section: Section,
        /// Where the damaged item starts, in bytes from the start of the file.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The stored content of one page fails its check.
    #[error(
        "{} is corrupt: page {page}, stored at offset {offset}: {reason}; \
         restore the file from a copy or make the snapshot again",
        path.display()
    )]
    CorruptPage {
        /// The file that holds the page.
        path: PathBuf,
        /// The page number.
        page: u64,
        /// Where the stored content starts, in bytes from the start of the file.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A size is past a limit of the format.
    #[error("{what} is too large: {found}, the limit is {limit}")]
    TooLarge {
        /// What is measured, with its unit.
        what: &'static str,
        /// The value found.
        found: u64,
        /// The highest value allowed.
        limit: u64,
    },

    /// A page number is past the end of the image.
    #[error("page {page} is out of range: the image has {page_count} pages, numbered from 0")]
    PageOutOfRange {
        /// The page asked for.
        page: u64,
        /// How many pages there are.
        page_count: u64,
    },

    /// A cluster number is past the end of the working set.
    #[error("working-set cluster {cluster} is out of range: there are {count}, numbered from 0")]
    ClusterOutOfRange {
        /// The cluster asked for.
        cluster: usize,
        /// How many clusters there are.
        count: usize,
    },

    /// The parent of a layered snapshot was not found.
    #[error(
        "{} is a layer over snapshot {id}, which is not at {}; \
         put the parent there, or open with a resolver that knows where it is",
        path.display(),
        looked_for.display()
    )]
    MissingParent {
        /// The layered snapshot.
        path: PathBuf,
        /// The parent's content id.
        id: ContentId,
        /// Where the parent was looked for.
        looked_for: PathBuf,
    },

    /// The file found as the parent is another snapshot than the one needed.
    #[error(
        "{} is a layer over snapshot {expected}, but {} is {found}; \
         put the right parent there, or make the layer again",
        path.display(),
        parent.display()
    )]
    ParentMismatch {
        /// The layered snapshot.
        path: PathBuf,
        /// The file found in the parent's place.
        parent: PathBuf,
        /// The content id needed.
        expected: ContentId,
        /// The content id found.
        found: ContentId,
    },

    /// A parent cannot be used for another reason.
    #[error("{} cannot be the parent of {}: {reason}", parent.display(), path.display())]
    UnusableParent {
        /// The layered snapshot.
        path: PathBuf,
        /// The parent.
        parent: PathBuf,
        /// Why not, and what to do.
        reason: &'static str,
    },

    /// The chain of parents is too long.
    #[error(
        "{} has more than {limit} layers; make a full snapshot to start a new chain",
        path.display()
    )]
    TooManyLayers {
        /// The topmost snapshot.
        path: PathBuf,
        /// How many files a chain may have.
        limit: usize,
    },

    /// A snapshot is its own ancestor.
    #[error(
        "{} is in a cycle of parents: snapshot {id} comes twice; restore the files from a copy",
        path.display()
    )]
    LayerCycle {
        /// The topmost snapshot.
        path: PathBuf,
        /// The id that comes twice.
        id: ContentId,
    },

    /// The caller gave a page as unchanged, but the snapshot has no parent.
    #[error("page {page} was given as unchanged, but the snapshot has no parent")]
    UnchangedWithoutParent {
        /// The page.
        page: u64,
    },

    /// The caller's source of pages failed.
    #[error("cannot get the content of page {page}: {source}")]
    Contents {
        /// The page.
        page: u64,
        /// The source's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A write option is out of its range.
    #[error("option {option} is {found}, allowed is {lowest} to {highest}")]
    OptionOutOfRange {
        /// The option's name.
        option: &'static str,
        /// The value given.
        found: i64,
        /// The lowest value allowed.
        lowest: i64,
        /// The highest value allowed.
        highest: i64,
    },

    /// A value cannot be encoded or decoded by [`codec`](crate::codec).
    #[error("cannot {action} the value: {reason}")]
    Codec {
        /// `encode` or `decode`.
        action: &'static str,
        /// What the codec says.
        reason: String,
    },

    /// zstd failed for a reason that is not in the data.
    #[error("zstd cannot {action}: {reason}")]
    Zstd {
        /// What was tried.
        action: &'static str,
        /// What zstd says.
        reason: String,
    },

    /// A text is not a content id.
    #[error("not a content id: {reason}; an id is 64 hexadecimal digits")]
    InvalidId {
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Error {
    /// An [`Error::Io`], for use in `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::Zstd`] from zstd's error code, for use in `map_err`.
    pub(crate) fn zstd(action: &'static str) -> impl FnOnce(usize) -> Self {
        move |code| Self::Zstd { action, reason: zstd::zstd_safe::get_error_name(code).to_owned() }
    }
}
