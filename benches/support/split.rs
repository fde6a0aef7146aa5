//! Where the time of one fault goes.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dejavm_sandbox::entry::SYSCALL_PORT;
use dejavm_sandbox::exit::SourceKind;
use dejavm_sandbox::fault::Finding;
use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::machine::SnapshotPages;
use dejavm_sandbox::ram::{Marking, PAGE_SIZE, PageError, PageSource};
use dejavm_sandbox::vcpu::Exit;
use xxhash_rust::xxh3::xxh3_64;

use super::Result;
use super::guest::{Running, Touch};
use super::image::{Image, Order, order_of};
use super::product;

/// Round trips and checksums that are measured.
const REPEATS: u32 = 2000;

/// A source that says how long it takes.
struct Timed {
    pages: SnapshotPages,
    nanoseconds: AtomicU64,
}

impl PageSource for Timed {
    fn has_content(&self, page: u64) -> std::result::Result<bool, PageError> {
        self.pages.has_content(page)
    }

    fn fetch(&self, first: u64, out: &mut [u8]) -> std::result::Result<SourceKind, PageError> {
        let begun = Instant::now();
        let kind = self.pages.fetch(first, out);
        self.nanoseconds.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        kind
    }
}

/// One step of a fault.
pub struct Step {
    /// What is done.
    pub name: &'static str,
    /// Microseconds a page.
    pub microseconds: f64,
}

/// Runs one vCPU over all pages, by this way of marking them, and times each step.
pub fn split(profile: &Arc<HostProfile>, image: &Image, marking: Marking) -> Result<Vec<Step>> {
    let snapshot = image.snapshot(Order::Random);
    let pages = snapshot.page_count();
    let list = order_of(Order::Random, 0..pages);
    let source =
        Arc::new(Timed { pages: SnapshotPages::new(snapshot.clone()), nanoseconds: AtomicU64::new(0) });
    let guest = product::guest(profile, source.clone(), pages, marking, Touch::Load, &[list], false)?;
    let mut running = Running::new(&guest, 0, REPEATS)?;

    let clock = Cell::new(Instant::now());
    let lap = || {
        let now = Instant::now();
        now - clock.replace(now)
    };
    let round_trip = running.call.as_secs_f64() * 1e6;
    let (mut run, mut find, mut settle) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut faults = 0u32;
    lap();
    loop {
        let exit = running.vcpu.run(&running.signals);
        run += lap();
        if matches!(exit, Exit::Out { port: SYSCALL_PORT, .. }) {
            break;
        }
        let Finding::Wanted { pages, rung, then } = running.find(exit) else {
            return Err("an exit that wants no page".into());
        };
        find += lap();
        running.settle(&pages, rung, &then)?;
        settle += lap();
        faults += 1;
    }
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(faults.max(1));
    let fetch = each(Duration::from_nanos(source.nanoseconds.load(Ordering::Relaxed)));
    let checksum = checksum(image);
    let take = signals(&running);
    let find = each(find);
    let take = if marking == Marking::Poison { take } else { 0.0 };
    Ok(vec![
        Step { name: "KVM_RUN, entry to return", microseconds: each(run) },
        Step { name: "  of which enter and leave alone (a system call's)", microseconds: round_trip },
        Step { name: "finding the page", microseconds: find },
        Step { name: "  of which asking for signals", microseconds: take },
        Step { name: "reading and decompressing", microseconds: fetch - checksum },
        Step { name: "checksum", microseconds: checksum },
        Step { name: "installing the page, and bookkeeping", microseconds: each(settle) - fetch },
        Step { name: "sum", microseconds: each(run) + find + each(settle) },
    ])
}

/// Asking once more for a signal when there is none: what each call costs at least.
fn signals(running: &Running<'_>) -> f64 {
    let begun = Instant::now();
    for _ in 0..REPEATS {
        black_box(running.signals.take());
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(REPEATS)
}

fn checksum(image: &Image) -> f64 {
    let pages = image.bytes.chunks_exact(PAGE_SIZE).take(REPEATS as usize);
    let count = pages.len();
    let begun = Instant::now();
    for page in pages {
        black_box(xxh3_64(page));
    }
    begun.elapsed().as_secs_f64() * 1e6 / count.max(1) as f64
}
