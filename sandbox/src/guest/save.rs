//! Snapshots of machines: reading one, and writing one of a machine that has not run.

use std::path::Path;

use dejavm_snapshot::{Content, ContentsError, PageContents, Snapshot, Summary, WriteOptions};

use super::MachineState;
use crate::machine::{SaveError, StartError};
use crate::ram::{PAGE_SIZE, PageSource};

/// Encodes a state as snapshots hold it.
pub(super) fn encode(state: &MachineState) -> Result<Vec<u8>, SaveError> {
    Ok(dejavm_snapshot::codec::encode(state)?)
}

/// The state of a machine, out of its snapshot.
///
/// # Errors
/// When the snapshot is damaged, or not one of a machine's.
pub fn state_of(snapshot: &Snapshot) -> Result<MachineState, StartError> {
    let state: MachineState = dejavm_snapshot::codec::decode(snapshot.state()?)?;
    state.check(snapshot.page_count())?;
    Ok(state)
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
    let encoded = encode(state)?;
    Ok(dejavm_snapshot::write(
        path,
        &WriteOptions { durable: false, ..WriteOptions::default() },
        &encoded,
        &mut SourceContents { source, pages },
        &mut |_, _| {},
    )?)
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
