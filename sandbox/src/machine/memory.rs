//! Where a machine's memory comes from.

use std::sync::Arc;

use dejavm_snapshot::Snapshot;

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
}

impl Memory {
    /// The snapshot.
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        match self {
            Memory::Snapshot(snapshot) => Some(snapshot),
            Memory::Zeros | Memory::Source(_) => None,
        }
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
        })
    }
}
