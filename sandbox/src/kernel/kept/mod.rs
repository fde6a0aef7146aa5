//! Pages that are kept present after a restore, because KVM may need them where it cannot say so.
//!
//! Two kinds of touch bring in no absent page:
//!
//! * Under shadow paging, KVM reads the guest's page tables itself. One that is absent looks to it
//!   like an entry that is not present, and the guest gets a page fault that no exit goes with.
//! * While KVM or the CPU delivers an exception, descriptor tables, the task state and the stack are
//!   read and written in the middle of `KVM_RUN`, and it may try for ever when one is absent, or give
//!   the guest a double fault. The same goes for pages that the guest named to KVM by an MSR.
//!
//! [`find`] looks for all of them when a snapshot is taken; [`read_by_kvm`] for those that matter at
//! one moment, when `KVM_RUN` does not come back.

mod area;
mod msr;
mod search;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(super) use area::{STACK_BELOW, stack_top};
pub use search::{Cpu, double_fault_page, find, read_by_kvm};
pub use table::could_be_table;

/// Why a page is kept present. Of several reasons the first in this order counts: what is known
/// comes before what is guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Why {
    /// A page table of the current address space.
    PageTable,
    /// In the GDT, the IDT or the LDT.
    DescriptorTable,
    /// In the TSS.
    TaskState,
    /// Where the CPU pushes and pops frames: around RSP, and below the stack pointers of the TSS.
    Stack,
    /// Named to KVM by an MSR.
    Msr,
    /// Its content could be a page table, of another address space.
    MaybePageTable,
}

impl Why {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Why::PageTable => "page tables",
            Why::DescriptorTable => "descriptor tables",
            Why::TaskState => "task state",
            Why::Stack => "stacks",
            Why::Msr => "named by MSRs",
            Why::MaybePageTable => "that could be page tables",
        }
    }
}

/// Pages that are kept present, each with its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Ascending, and disjoint.
    runs: Vec<KeptRun>,
}

/// Pages in a row that have one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptRun {
    /// The first page.
    first: u64,
    /// The page after the last one.
    end: u64,
    why: Why,
}

impl Kept {
    /// Of these pages, as far as they are below `pages`: for whoever knows better than the search.
    pub fn of(found: impl IntoIterator<Item = (u64, Why)>, pages: u64) -> Kept {
        Kept::new(found.into_iter().collect(), pages)
    }

    /// Of pages in any order, some perhaps several times, those below `pages`.
    fn new(mut found: Vec<(u64, Why)>, pages: u64) -> Kept {
        found.sort_unstable();
        found.dedup_by_key(|(page, _)| *page);
        let mut runs: Vec<KeptRun> = Vec::new();
        for (page, why) in found.into_iter().take_while(|(page, _)| *page < pages) {
            match runs.last_mut() {
                Some(run) if run.end == page && run.why == why => run.end += 1,
                _ => runs.push(KeptRun { first: page, end: page + 1, why }),
            }
        }
        Kept { runs }
    }

    /// Whether the runs are in order, and within `pages` pages: for what comes out of a file. The
    /// other methods do not panic without it, but their answers mean nothing.
    pub fn is_valid(&self, pages: u64) -> bool {
        self.runs.iter().all(|run| run.first < run.end && run.end <= pages)
            && self.runs.windows(2).all(|pair| pair[0].end <= pair[1].first)
    }

    /// Whether a page is kept.
    pub fn contains(&self, page: u64) -> bool {
        let after = self.runs.partition_point(|run| run.first <= page);
        after.checked_sub(1).is_some_and(|at| page < self.runs[at].end)
    }

    /// The pages, ascending, with their reasons.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Why)> {
        self.runs.iter().flat_map(|run| (run.first..run.end).map(|page| (page, run.why)))
    }

    /// How many pages are kept.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(KeptRun::len).fold(0, u64::saturating_add)
    }

    /// Whether no page is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pages are kept for each reason.
    pub fn by_reason(&self) -> BTreeMap<Why, u64> {
        let mut counts = BTreeMap::<Why, u64>::new();
        for run in &self.runs {
            let count = counts.entry(run.why).or_default();
            *count = count.saturating_add(run.len());
        }
        counts
    }
}

impl KeptRun {
    /// Pages.
    fn len(&self) -> u64 {
        self.end.saturating_sub(self.first)
    }
}
