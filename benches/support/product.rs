//! The product's way: absent pages brought in by the vCPU's own thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::machine::SnapshotPages;
use dejavm_sandbox::ram::{Marking, PageSource, Ram};
use dejavm_snapshot::Snapshot;

use super::Result;
use super::guest::{Done, Guest, RAM_BASE, Touch};
use super::place::pin;

/// How the guest's pages come to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All of them before the guest runs.
    Resident,
    /// Out of a poison marker's signal, and more of a row that is touched in order.
    Poison,
    /// Out of a poison marker's signal, each page alone.
    Single,
    /// As [`Way::Poison`], with each vCPU's thread kept on one CPU.
    PinnedPoison,
    /// Out of a bare `EFAULT`, by decoding the instruction.
    Decode,
}

/// A guest over lazily absent memory, markers placed; with `ahead`, rows bring in more.
pub fn guest(
    profile: &Arc<HostProfile>,
    source: Arc<dyn PageSource>,
    pages: u64,
    marking: Marking,
    touch: Touch,
    lists: &[Vec<u64>],
    ahead: bool,
) -> Result<Guest> {
    // One page more, for the code.
    let guest = Guest::new(profile, touch, lists, |vm| {
        Ok(Ram::new(vm.clone(), RAM_BASE, pages + 1, marking, source)?.with_readahead(ahead))
    })?;
    guest.memory.ram.attach(0..pages)?;
    Ok(guest)
}

/// Runs the guest.
pub fn run(
    profile: &Arc<HostProfile>,
    snapshot: &Arc<Snapshot>,
    touch: Touch,
    lists: &[Vec<u64>],
    way: Way,
) -> Result<(Duration, Vec<Done>)> {
    let marking = if way == Way::Decode { Marking::Missing } else { Marking::Poison };
    let source = Arc::new(SnapshotPages::new(snapshot.clone()));
    let guest = guest(profile, source, snapshot.page_count(), marking, touch, lists, way != Way::Single)?;
    if way == Way::Resident {
        guest.memory.ram.populate()?;
    }
    guest.run(|vcpu| {
        if way == Way::PinnedPoison {
            pin(vcpu);
        }
    })
}

/// Brings all pages in from the working set's clusters by `threads` threads, as a restored machine
/// does before it runs, then runs the guest. Returns the time of the first and of the second.
pub fn prefetch(
    profile: &Arc<HostProfile>,
    snapshot: &Arc<Snapshot>,
    touch: Touch,
    lists: &[Vec<u64>],
    threads: usize,
) -> Result<(Duration, Duration, Vec<Done>)> {
    let source = Arc::new(SnapshotPages::new(snapshot.clone()));
    let pages = snapshot.page_count();
    let guest = Guest::new(profile, touch, lists, |vm| {
        Ok(Ram::new(vm.clone(), RAM_BASE, pages + 1, Marking::Poison, source.clone())?)
    })?;
    let ram = &guest.memory.ram;
    let begun = Instant::now();
    let brought = source.prefetch(ram, threads)?;
    let before = begun.elapsed();
    if brought != pages {
        return Err(format!("{brought} of {pages} pages were prefetched").into());
    }
    ram.attach(0..pages)?;
    let (after, done) = guest.run(|_| {})?;
    Ok((before, after, done))
}
