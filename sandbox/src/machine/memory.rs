//! Where a machine's memory comes from.

use std::sync::Arc;

use dejavm_snapshot::Snapshot;

use super::{CheckpointPages, CheckpointSource};
use crate::ram::PageSource;

/// Where the contents of a machine's memory come from.
#[derive(Clone)]
pub enum Memory {
    /// All is zeros: a program that is yet to be loaded.
    Zeros,
    /// From a snapshot.
    Snapshot(Arc<Snapshot>),
    /// From the loader of a bare-metal image, say.
    Source(Arc<dyn PageSource>),
    /// From a checkpoint, and where that has nothing, from what lies below it.
    Checkpoint(Arc<CheckpointPages>, Box<Memory>),
}

impl Memory {
    /// The snapshot.
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        match self {
            Memory::Snapshot(snapshot) => Some(snapshot),
            Memory::Checkpoint(_, below) => below.snapshot(),
            Memory::Zeros | Memory::Source(_) => None,
        }
    }

    /// The pages of a checkpoint.
    pub fn checkpoint(&self) -> Option<&Arc<CheckpointPages>> {
        match self {
            Memory::Checkpoint(pages, _) => Some(pages),
            Memory::Zeros | Memory::Snapshot(_) | Memory::Source(_) => None,
        }
    }

    /// The source of a guest's memory, where the snapshot's pages are these.
    pub(crate) fn over(&self, snapshot: Option<Arc<dyn PageSource>>) -> Option<Arc<dyn PageSource>> {
        match self {
            Memory::Zeros => None,
            Memory::Snapshot(_) => snapshot,
            Memory::Source(source) => Some(source.clone()),
            Memory::Checkpoint(pages, below) => {
                let (pages, below) = (pages.clone(), below.over(snapshot));
                Some(Arc::new(CheckpointSource { pages, below }))
            }
        }
    }

    /// This memory with other pages in memory: those of a later checkpoint.
    #[must_use]
    pub fn with(&self, pages: Arc<CheckpointPages>) -> Memory {
        let below = match self {
            Memory::Checkpoint(_, below) => below.clone(),
            below => Box::new(below.clone()),
        };
        Memory::Checkpoint(pages, below)
    }

    /// Pages of the snapshot; 0 without one.
    pub fn page_count(&self) -> u64 {
        self.snapshot().map_or(0, |snapshot| snapshot.page_count())
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Memory::Zeros => "Zeros",
            Memory::Snapshot(_) => "Snapshot",
            Memory::Source(_) => "Source",
            Memory::Checkpoint(..) => "Checkpoint",
        })
    }
}
