//! Decompressing the working set's clusters before they are wanted, by a thread beside the run.
//!
//! The thread only reads the snapshot. Pages come into the guest's memory when they are wanted, by the
//! vCPU's thread, as without it: so the guest cannot tell whether a cluster was ready, and no state of
//! memory is shared.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use dejavm_snapshot::{PageReader, Snapshot};

/// Bytes of contents that may wait to be wanted: a few clusters, so that little was for nothing when
/// the run ends early.
const READY_BYTES: usize = 1 << 20;

/// A cluster's pages and, in the same order, their contents.
pub(super) type Cluster = (Vec<u64>, Vec<u8>);

/// The thread, and what it has ready. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
    /// The first of the clusters that are looked after.
    first: usize,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    clusters: Vec<Progress>,
    /// Bytes of those that are ready.
    ready: usize,
    over: bool,
}

#[derive(Debug)]
enum Progress {
    /// Nobody is at it.
    Untouched,
    /// The thread is at it.
    UnderWay,
    Ready(Cluster),
    /// The run has it, or has to look for itself.
    Gone,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next cluster to decompress; waits while enough is ready.
    fn next(&self) -> Option<usize> {
        let mut state = self.lock();
        while !state.over && state.ready >= READY_BYTES {
            state = self.wait(state);
        }
        if state.over {
            return None;
        }
        let next = state.clusters.iter().position(|cluster| matches!(cluster, Progress::Untouched))?;
        state.clusters[next] = Progress::UnderWay;
        Some(next)
    }

    fn done(&self, n: usize, cluster: Option<Cluster>) {
        let mut state = self.lock();
        state.ready += cluster.as_ref().map_or(0, |(_, content)| content.len());
        // What cannot be read is for the run to find, if it wants it at all.
        state.clusters[n] = cluster.map_or(Progress::Gone, Progress::Ready);
        drop(state);
        self.changed.notify_all();
    }
}

impl Ahead {
    /// Starts to decompress these clusters of the snapshot's working set. `None` where there is
    /// nothing to do or no thread to be had.
    pub fn start(snapshot: Arc<Snapshot>, clusters: Range<usize>) -> Option<Ahead> {
        if clusters.is_empty() {
            return None;
        }
        let first = clusters.start;
        let untouched = clusters.map(|_| Progress::Untouched).collect();
        let state = Mutex::new(State { clusters: untouched, ready: 0, over: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("dejavm-ahead".into())
            .spawn(move || read_ahead(&theirs, snapshot, first))
            .ok()?;
        Some(Ahead { shared, first, thread: Some(thread) })
    }

    /// Takes a cluster, which is then nobody else's; waits for one that is under way. `None` when the
    /// run has to read it itself.
    pub fn take(&self, n: usize) -> Option<Cluster> {
        let n = n.checked_sub(self.first)?;
        let mut state = self.shared.lock();
        while matches!(state.clusters.get(n)?, Progress::UnderWay) {
            state = self.shared.wait(state);
        }
        match std::mem::replace(&mut state.clusters[n], Progress::Gone) {
            Progress::Ready(cluster) => {
                state.ready -= cluster.1.len();
                drop(state);
                self.shared.changed.notify_all();
                Some(cluster)
            }
            _ => None,
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It ends after the cluster that it is at; had it panicked, the run read for itself.
            let _ = thread.join();
        }
    }
}

fn read_ahead(shared: &Shared, snapshot: Arc<Snapshot>, first: usize) {
    /// Whatever happens to the thread, nobody waits for it.
    struct GivesUp<'a>(&'a Shared, usize);
    impl Drop for GivesUp<'_> {
        fn drop(&mut self) {
            self.0.done(self.1, None);
        }
    }
    let Ok(mut reader) = PageReader::new(snapshot) else { return };
    while let Some(n) = shared.next() {
        let guard = GivesUp(shared, n);
        let mut content = Vec::new();
        let pages = reader.working_set_cluster(first + n, &mut content);
        std::mem::forget(guard);
        shared.done(n, pages.ok().map(|pages| (pages, content)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dejavm_snapshot::{Content, ContentsError, PAGE_SIZE, PageContents, WriteOptions};

    const PAGES: u64 = 400;

    /// Pages that each tell their number.
    struct Numbered;

    impl PageContents for Numbered {
        fn page_count(&self) -> u64 {
            PAGES
        }

        fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
            out.fill(page as u8 | 1);
            out[..8].copy_from_slice(&page.to_le_bytes());
            Ok(Content::Data)
        }

        fn next_data(&mut self, from: u64) -> Option<u64> {
            (from < PAGES).then_some(from)
        }
    }

    fn snapshot() -> Arc<Snapshot> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s.dvm");
        dejavm_snapshot::write(&path, &WriteOptions::default(), b"", &mut Numbered, &mut |_, _| {})
            .expect("a snapshot");
        let rest: Vec<u64> = (10..PAGES).rev().collect();
        dejavm_snapshot::add_working_set(&path, &[1, 2, 3], &rest).expect("a working set");
        Snapshot::open(&path).expect("a snapshot")
    }

    fn clusters_of(snapshot: &Arc<Snapshot>) -> Range<usize> {
        let set = snapshot.working_set().expect("sound").expect("there");
        set.first_clusters()..set.cluster_count()
    }

    #[test]
    fn a_cluster_is_taken_once_and_is_right() {
        let snapshot = snapshot();
        let clusters = clusters_of(&snapshot);
        assert!(clusters.len() > 2);
        let ahead = Ahead::start(snapshot.clone(), clusters.clone()).expect("a thread");
        assert!(ahead.take(0).is_none(), "it came beforehand");
        assert!(ahead.take(clusters.end).is_none(), "there is none");
        let mut reader = PageReader::new(snapshot).expect("a reader");
        for n in clusters.rev() {
            let mut content = Vec::new();
            let pages = reader.working_set_cluster(n, &mut content).expect("a cluster");
            // The thread is not at it yet, or it gives the same.
            if let Some(taken) = ahead.take(n) {
                assert_eq!(taken, (pages, content));
            }
            assert!(ahead.take(n).is_none(), "once");
        }
    }

    #[test]
    fn it_ends_whenever_it_is_dropped() {
        let snapshot = snapshot();
        let clusters = clusters_of(&snapshot);
        for _ in 0..20 {
            drop(Ahead::start(snapshot.clone(), clusters.clone()));
        }
        assert!(Ahead::start(snapshot, 0..0).is_none());
    }
}
