//! Where the contents of pages come from.

use std::io;
use std::ops::Range;

use crate::exit::SourceKind;

/// The most pages that one fetch brings in.
pub const MAX_CLUSTER: u64 = 64;

/// What a page holds before it is first touched.
pub trait PageSource: Send + Sync {
    /// Whether a page holds anything but zeros.
    fn has_content(&self, page: u64) -> Result<bool, PageError>;

    /// The same for each page from `first` on.
    fn have_content(&self, first: u64, have: &mut [bool]) -> Result<(), PageError> {
        for (page, have) in (first..).zip(have) {
            *have = self.has_content(page)?;
        }
        Ok(())
    }

    /// The group that a page is fetched with, where the source has pages together that are wanted
    /// together.
    fn group_of(&self, _page: u64) -> Result<Option<usize>, PageError> {
        Ok(None)
    }

    /// Fetches a group that [`PageSource::group_of`] gave: the numbers of its pages and, in the same
    /// order, their contents in `content`, whose former content is dropped.
    fn fetch_group(&self, _group: usize, content: &mut Vec<u8>) -> Result<Vec<u64>, PageError> {
        content.clear();
        Ok(Vec::new())
    }

    /// The guest is about to run, on a host with so many CPUs: what takes a thread of its own may
    /// start. Called before each run.
    fn run_begins(&self, _cpus: usize) {}

    /// The pages that come at about the price of this one, and that had better be brought in with
    /// it: a range that contains it, of at most [`MAX_CLUSTER`] pages.
    fn cluster(&self, page: u64) -> Range<u64> {
        page..page + 1
    }

    /// Whether [`PageSource::fetch`] has this page. A replay lacks those of mapped files that the
    /// recorded guest never touched: what brings in more than the guest wants leaves them absent.
    fn can_fetch(&self, _page: u64) -> bool {
        true
    }

    /// Whether a page belongs to no others and may be fetched in a row with neighbours of which this
    /// is said, too.
    fn comes_alone(&self, _page: u64) -> Result<bool, PageError> {
        Ok(false)
    }

    /// Fills `out` (whole pages) with the content of the pages from `first` on.
    fn fetch(&self, first: u64, out: &mut [u8]) -> Result<SourceKind, PageError>;
}

/// Why a page cannot be had that [`PageSource::can_fetch`] says is lacking.
pub(crate) const NOT_RECORDED: &str =
    "the recorded guest never touched it, so that it is not in the recording";

/// A source for memory that starts as zeros.
#[derive(Debug, Default)]
pub struct Zeros;

impl PageSource for Zeros {
    fn has_content(&self, _page: u64) -> Result<bool, PageError> {
        Ok(false)
    }

    fn fetch(&self, _first: u64, out: &mut [u8]) -> Result<SourceKind, PageError> {
        out.fill(0);
        Ok(SourceKind::Zero)
    }
}

/// Why a page could not be brought in. The guest never sees the page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The snapshot's copy is damaged or cannot be read.
    #[error(transparent)]
    Snapshot(#[from] dejavm_snapshot::Error),
    /// A mapped file's content could not be had.
    #[error("page {page:#x}: file content: {reason}")]
    File {
        /// The page.
        page: u64,
        /// What happened.
        reason: String,
    },
    /// The outside ended the run.
    #[error(transparent)]
    World(#[from] crate::world::WorldError),
    /// An address outside guest memory.
    #[error("guest-physical page {page:#x} is outside the guest's memory of {pages:#x} pages")]
    Outside {
        /// The page.
        page: u64,
        /// Pages of memory.
        pages: u64,
    },
    /// Memory was to be put back to another moment than the one that was marked last.
    #[error("the moment to go back to is not the one that was marked last")]
    NotMarked,
    /// The host refused memory.
    #[error("host memory: {what}: {error}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        error: io::Error,
    },
}

/// An error of the host, by what was tried.
pub(super) fn host(what: &'static str) -> impl Fn(io::Error) -> PageError {
    move |error| PageError::Host { what, error }
}
