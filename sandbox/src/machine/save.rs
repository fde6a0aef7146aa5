//! Snapshots of machines: reading one, and what writing one takes.

use std::path::Path;
use std::sync::Arc;

use dejavm_snapshot::{Content, ContentsError, PageContents, Snapshot, Summary, WriteOptions};

use super::{MachineState, RunError, StartError};
use crate::ram::{PAGE_SIZE, PageError, PageSource, Ram};

/// The state and pages of a snapshot file.
///
/// # Errors
/// When it is not a snapshot, or damaged.
pub fn open(path: impl AsRef<Path>) -> Result<(MachineState, Arc<Snapshot>), StartError> {
    let snapshot = Snapshot::open(path)?;
    let state: MachineState = dejavm_snapshot::codec::decode(snapshot.state()?)?;
    state.check(snapshot.page_count())?;
    Ok((state, snapshot))
}

/// Writes the snapshot of a machine that has not run yet: the head of a recording, which brings it
/// to the disk along with the rest. Its memory is what `pages` pages of `source` hold.
///
/// # Errors
/// [`SaveError`].
pub fn save_start(
    path: impl AsRef<Path>,
    state: &MachineState,
    source: &dyn PageSource,
    pages: u64,
) -> Result<Summary, SaveError> {
    let encoded = dejavm_snapshot::codec::encode(state)?;
    Ok(dejavm_snapshot::write(
        path,
        &WriteOptions { durable: false, ..WriteOptions::default() },
        &encoded,
        &mut SourceContents { source, pages },
        &mut |_, _| {},
    )?)
}

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The file could not be written.
    #[error(transparent)]
    Snapshot(#[from] dejavm_snapshot::Error),
    /// The machine could not be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// There is nothing to go on from.
    #[error("the program has ended: there is nothing to go on from")]
    Ended,
}

impl From<PageError> for SaveError {
    fn from(e: PageError) -> SaveError {
        SaveError::Run(e.into())
    }
}

/// The pages of RAM as the snapshot writer wants to see them.
pub(crate) struct RamContents<'a> {
    ram: &'a Ram,
    /// Pages of RAM.
    pages: u64,
    /// Pages of RAM that may hold something, ascending.
    present: Vec<u64>,
}

impl<'a> RamContents<'a> {
    /// The first `pages` pages of `ram`.
    ///
    /// # Errors
    /// When the source cannot say what it has.
    pub fn new(ram: &'a Ram, pages: u64) -> Result<RamContents<'a>, PageError> {
        let mut present = ram.held(0..pages)?;
        // What a replay lacks is in the state: the page comes from its file still.
        present.retain(|page| !ram.is_withheld(*page));
        Ok(RamContents { ram, pages, present })
    }
}

impl PageContents for RamContents<'_> {
    fn page_count(&self) -> u64 {
        self.pages
    }

    fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
        if self.present.binary_search(&page).is_err() {
            return Ok(Content::Zero);
        }
        self.ram.peek(page, out)?;
        Ok(Content::Data)
    }

    fn next_data(&mut self, from: u64) -> Option<u64> {
        let at = self.present.partition_point(|page| *page < from);
        self.present.get(at).copied()
    }
}

/// The pages of a source that nothing has run on yet, as the snapshot writer wants to see them.
struct SourceContents<'a> {
    source: &'a dyn PageSource,
    pages: u64,
}

impl PageContents for SourceContents<'_> {
    fn page_count(&self) -> u64 {
        self.pages
    }

    fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
        if !self.source.has_content(page)? {
            return Ok(Content::Zero);
        }
        self.source.fetch(page, out)?;
        Ok(Content::Data)
    }

    fn next_data(&mut self, from: u64) -> Option<u64> {
        // A page of which the source cannot say anything is looked at, and the error told then.
        (from..self.pages).find(|page| self.source.has_content(*page).unwrap_or(true))
    }
}
