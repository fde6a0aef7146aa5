//! Reading pages.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result, Section};
use crate::frame::Decompressor;
use crate::index::Stored;
use crate::limits::PAGE_SIZE;
use crate::lookup::Lookup;
use crate::snapshot::Snapshot;

/// Reads the pages of a snapshot. Has its own decompression state, so each
/// thread needs one; it can be sent to another thread.
pub struct PageReader {
    snapshot: Arc<Snapshot>,
    decompressor: Decompressor,
    /// The parts of the index that were read last.
    lookup: Lookup,
    /// A private copy of the frame being read.
    frame: Box<[u8; PAGE_SIZE]>,
    /// The same for clusters.
    cluster: Vec<u8>,
}

impl PageReader {
    /// A reader for this snapshot. Checks and digests the dictionaries now, so
    /// that no later read has to.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a dictionary fails its check; [`Error::Zstd`]
    /// when memory is short; [`Error::Truncated`].
    pub fn new(snapshot: Arc<Snapshot>) -> Result<Self> {
        for layer in snapshot.layers() {
            layer.dictionary()?;
        }
        Ok(Self {
            decompressor: Decompressor::new()?,
            frame: Box::new([0; PAGE_SIZE]),
            cluster: Vec::new(),
            lookup: Lookup::new(),
            snapshot,
        })
    }

    /// The snapshot read from.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The layer that stores a page, or `None` for a zero page.
    pub(crate) fn resolve(&mut self, page: u64) -> Result<Option<(usize, Stored)>> {
        self.snapshot.resolve_by(&mut self.lookup, page)
    }

    /// Reads a page and checks its content.
    ///
    /// # Errors
    ///
    /// [`Error::PageOutOfRange`]; [`Error::Corrupt`] or [`Error::CorruptPage`]
    /// when the index entry or the content fails its check;
    /// [`Error::Truncated`]. `out` then holds zeros or what it held before,
    /// never content that failed its check.
    pub fn read(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<()> {
        match self.resolve(page)? {
            None => out.fill(0),
            Some((layer, stored)) => self.snapshot.layers()[layer].read_stored(
                page,
                &stored,
                &mut self.decompressor,
                &mut self.frame,
                out,
            )?,
        }
        Ok(())
    }

    /// Reads cluster `n` of the working set: the contents of up to
    /// [`CLUSTER_PAGES`](crate::CLUSTER_PAGES) pages, one after the other in
    /// `out`, whose former content is dropped. Returns their page numbers, in
    /// the same order.
    ///
    /// Costs less a page than [`Self::read`]. Clusters leave out zero pages.
    ///
    /// # Errors
    ///
    /// [`Error::ClusterOutOfRange`] when there is no such cluster (or no
    /// working set); [`Error::Corrupt`], [`Error::CorruptPage`] or
    /// [`Error::Truncated`] as for [`Self::read`]; `out` is then empty. After
    /// any error the pages can still be read one by one.
    pub fn working_set_cluster(&mut self, n: usize, out: &mut Vec<u8>) -> Result<Vec<u64>> {
        let result = self.read_cluster(n, out);
        if result.is_err() {
            out.clear();
        }
        result
    }

    /// Reads a cluster; leaves anything in `out` on an error.
    fn read_cluster(&mut self, n: usize, out: &mut Vec<u8>) -> Result<Vec<u64>> {
        let top = self.snapshot.top();
        let clusters = top.working_set()?.map_or(&[][..], |table| table.clusters());
        let cluster =
            clusters.get(n).ok_or(Error::ClusterOutOfRange { cluster: n, count: clusters.len() })?;

        // Neither can overflow: the table's decoding has checked that the
        // cluster lies within its section.
        let offset = top.header().layout.clusters.offset + cluster.offset;
        self.cluster.resize(cluster.length as usize, 0);
        top.file().read(offset, &mut self.cluster)?;
        if xxh3_64(&self.cluster) != cluster.checksum {
            return Err(top.corrupt(Section::Clusters, offset, "wrong checksum"));
        }
        out.resize(cluster.pages.len() * PAGE_SIZE, 0);
        if !self.decompressor.fill(out, &self.cluster, None) {
            return Err(top.corrupt(Section::Clusters, offset, "it does not decompress to its pages"));
        }
        // The cluster has copies of the pages; the index says what is right.
        for (page, content) in cluster.pages.iter().zip(out.chunks_exact(PAGE_SIZE)) {
            let expected = self.snapshot.resolve_by(&mut self.lookup, *page)?;
            if expected.is_none_or(|(_, stored)| stored.checksum != xxh3_64(content)) {
                return Err(Error::CorruptPage {
                    path: top.path().to_path_buf(),
                    page: *page,
                    offset,
                    reason: "its copy in the working set is not the page's content",
                });
            }
        }
        Ok(cluster.pages.clone())
    }
}

impl fmt::Debug for PageReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageReader").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}
