//! The pages of a snapshot, as a source of guest memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use dejavm_snapshot::{PageReader, Snapshot};

use super::ahead::Ahead;
use crate::exit::SourceKind;
use crate::ram::{PAGE_SIZE, PageError, PageSource, Ram};

/// Clusters of the working set for which [`SnapshotPages::prefetch`] uses a thread: half a
/// millisecond of work.
const CLUSTERS_PER_THREAD: usize = 3;

/// The pages of a snapshot: those of RAM, and behind them those of files that the guest wrote. Each
/// thread that faults takes a reader of its own.
pub struct SnapshotPages {
    snapshot: Arc<Snapshot>,
    /// Pages of the working set come in with their cluster.
    by_cluster: bool,
    /// Pages of RAM.
    ram: u64,
    readers: Mutex<Vec<PageReader>>,
    /// What is not wanted first is made ready while the guest runs; `None` inside where it is not.
    ahead: OnceLock<Option<Ahead>>,
}

impl std::fmt::Debug for SnapshotPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotPages").field("id", &self.snapshot.id()).finish_non_exhaustive()
    }
}

impl SnapshotPages {
    /// The pages of `snapshot`: all of them RAM, and each coming alone.
    pub fn new(snapshot: Arc<Snapshot>) -> SnapshotPages {
        SnapshotPages {
            ram: snapshot.page_count(),
            by_cluster: false,
            snapshot,
            readers: Mutex::default(),
            ahead: OnceLock::new(),
        }
    }

    /// Only the first `pages` of them are RAM.
    #[must_use]
    pub fn with_ram(mut self, pages: u64) -> SnapshotPages {
        self.ram = pages.min(self.ram);
        self
    }

    /// Whether a page of the working set comes in with the others of its cluster.
    #[must_use]
    pub fn by_cluster(mut self, by_cluster: bool) -> SnapshotPages {
        self.by_cluster = by_cluster;
        self
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    fn readers(&self) -> std::sync::MutexGuard<'_, Vec<PageReader>> {
        self.readers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Runs `read` with a reader of this thread's own.
    pub fn with_reader<T>(
        &self,
        read: impl FnOnce(&mut PageReader) -> Result<T, dejavm_snapshot::Error>,
    ) -> Result<T, PageError> {
        let reader = self.readers().pop();
        let mut reader = match reader {
            Some(reader) => reader,
            None => PageReader::new(self.snapshot.clone())?,
        };
        let result = read(&mut reader);
        self.readers().push(reader);
        Ok(result?)
    }

    /// The pages that the snapshot's working set says are wanted first.
    ///
    /// # Errors
    /// When the working set is damaged.
    pub fn wanted_first(&self) -> Result<Vec<u64>, PageError> {
        let Some(set) = self.snapshot.working_set()? else { return Ok(Vec::new()) };
        let clusters = (0..set.first_clusters()).filter_map(|n| set.cluster_pages(n));
        Ok(clusters.flatten().copied().filter(|page| *page < self.ram).collect())
    }

    /// Brings what the snapshot's working set says is wanted first into memory, by up to `threads`
    /// threads of which this one is the first. Decompression is most of the work, so that a second
    /// thread halves the wait where there is a second CPU. Returns how many pages came.
    ///
    /// No vCPU may run, and nothing may be attached meanwhile.
    ///
    /// # Errors
    /// The first that a thread met; what has come by then stays.
    pub fn prefetch(&self, ram: &Ram, threads: usize) -> Result<u64, PageError> {
        let clusters = self.snapshot.working_set()?.map_or(0, |set| set.first_clusters());
        let next = AtomicUsize::new(0);
        let work = || -> Result<u64, PageError> {
            let (mut content, mut brought) = (Vec::new(), 0);
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= clusters {
                    return Ok(brought);
                }
                ram.look()?;
                let pages = self.with_reader(|reader| reader.working_set_cluster(n, &mut content))?;
                // No working set that is dejavm's own names other pages than those of RAM.
                if pages.iter().all(|page| *page < self.ram) {
                    brought += ram.prefetch(&pages, &content)?;
                }
            }
        };
        // A thread must have work enough to be worth its start.
        let helpers = threads.min(clusters / CLUSTERS_PER_THREAD).saturating_sub(1);
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others = helpers.into_iter().map(|helper| match helper.join() {
                Ok(brought) => brought,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            std::iter::once(own).chain(others).sum()
        })
    }
}

impl PageSource for SnapshotPages {
    fn has_content(&self, page: u64) -> Result<bool, PageError> {
        Ok(page < self.ram && !self.snapshot.is_zero(page)?)
    }

    fn have_content(&self, first: u64, have: &mut [bool]) -> Result<(), PageError> {
        have.fill(false);
        let there = self.ram.saturating_sub(first).min(have.len() as u64) as usize;
        let have = &mut have[..there];
        if !have.is_empty() {
            self.snapshot.are_zero(first, have)?;
            have.iter_mut().for_each(|zero| *zero = !*zero);
        }
        Ok(())
    }

    fn group_of(&self, page: u64) -> Result<Option<usize>, PageError> {
        if !self.by_cluster {
            return Ok(None);
        }
        Ok(self.snapshot.working_set()?.and_then(|set| set.cluster_of(page)))
    }

    fn fetch_group(&self, group: usize, content: &mut Vec<u8>) -> Result<Vec<u64>, PageError> {
        match self.ahead.get().and_then(Option::as_ref).and_then(|ahead| ahead.take(group)) {
            Some((pages, ready)) => {
                *content = ready;
                Ok(pages)
            }
            None => self.with_reader(|reader| reader.working_set_cluster(group, content)),
        }
    }

    fn run_begins(&self, cpus: usize) {
        if !self.by_cluster || cpus < 2 {
            return;
        }
        self.ahead.get_or_init(|| {
            // A damaged working set is told of when it is wanted.
            let set = self.snapshot.working_set().ok().flatten()?;
            Ahead::start(self.snapshot.clone(), set.first_clusters()..set.cluster_count())
        });
    }

    fn comes_alone(&self, page: u64) -> Result<bool, PageError> {
        Ok(page < self.ram && self.group_of(page)?.is_none())
    }

    fn fetch(&self, first: u64, out: &mut [u8]) -> Result<SourceKind, PageError> {
        self.with_reader(|reader| {
            for (page, out) in (first..).zip(out.as_chunks_mut::<PAGE_SIZE>().0) {
                reader.read(page, out)?;
            }
            Ok(SourceKind::Snapshot)
        })
    }
}
