//! The working set: which pages a run wanted, in which order, and where their
//! regrouped contents lie.

use zstd::zstd_safe::compress_bound;

use crate::bytes::{u32_at, u64_at};
use crate::limits::{CLUSTER_PAGES, MAX_WORKING_SET_PAGES, PAGE_SIZE};

/// Length of the table's start: the number of pages, of clusters, and of
/// clusters wanted first.
const START_LEN: usize = 16;
/// Length of one page number.
const PAGE_LEN: usize = 8;
/// Length of one cluster record: offset, length, number of pages, checksum.
const CLUSTER_LEN: usize = 24;
/// Set in a page number when the page is zero, and so in no cluster. No page
/// number is that high.
const ZERO_PAGE: u64 = 1 << 63;

/// Most bytes a table can take: each page could have a cluster of its own.
pub(crate) const MAX_TABLE_LEN: u64 =
    START_LEN as u64 + MAX_WORKING_SET_PAGES * (PAGE_LEN + CLUSTER_LEN) as u64;

/// The pages a recorded run wanted; see
/// [`Snapshot::working_set`](crate::Snapshot::working_set). They come in
/// clusters: first those that the run wanted before its first answer, then the
/// others, in the order in which the run came to them. Within a cluster, and
/// within all of the first ones, pages go by their numbers, so that neighbours
/// can be put into memory together.
///
/// It is advice: a snapshot reads the same with it or without it.
#[derive(Debug, Clone, Copy)]
pub struct WorkingSet<'a> {
    table: &'a Table,
}

impl<'a> WorkingSet<'a> {
    /// A view of this table.
    pub(crate) fn new(table: &'a Table) -> Self {
        Self { table }
    }

    /// All page numbers, each once, cluster by cluster. Zero pages are among
    /// them.
    pub fn pages(&self) -> &'a [u64] {
        &self.table.pages
    }

    /// The numbers of the pages that are zero. They are in no cluster.
    pub fn zero_pages(&self) -> &'a [u64] {
        &self.table.zero_pages
    }

    /// How many clusters there are, for
    /// [`PageReader::working_set_cluster`](crate::PageReader::working_set_cluster).
    pub fn cluster_count(&self) -> usize {
        self.table.clusters.len()
    }

    /// How many of the clusters, from the start, hold what the run wanted
    /// before its first answer.
    pub fn first_clusters(&self) -> usize {
        self.table.first_clusters as usize
    }

    /// The page numbers in cluster `n`, ascending: 1 to
    /// [`CLUSTER_PAGES`](crate::CLUSTER_PAGES). `None` when there is no such
    /// cluster.
    pub fn cluster_pages(&self, n: usize) -> Option<&'a [u64]> {
        let cluster = self.table.clusters.get(n)?;
        Some(&cluster.pages)
    }

    /// The cluster that a page is in, if it is in one.
    pub fn cluster_of(&self, page: u64) -> Option<usize> {
        let at = self.table.by_page.binary_search_by_key(&page, |(page, _)| *page).ok()?;
        Some(self.table.by_page[at].1 as usize)
    }
}

/// The decoded table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pages: Vec<u64>,
    zero_pages: Vec<u64>,
    clusters: Vec<Cluster>,
    first_clusters: u32,
    /// The cluster of each page that is in one, by page; empty while the table
    /// is under construction.
    by_page: Vec<(u64, u32)>,
}

/// Up to [`CLUSTER_PAGES`] pages compressed as one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// Bytes from the start of the clusters section.
    pub(crate) offset: u64,
    /// Compressed length in bytes.
    pub(crate) length: u32,
    /// xxh3-64 of the compressed bytes.
    pub(crate) checksum: u64,
    /// The pages, in order.
    pub(crate) pages: Vec<u64>,
}

impl Table {
    /// A table under construction.
    pub(crate) fn new() -> Self {
        Self {
            pages: Vec::new(),
            zero_pages: Vec::new(),
            clusters: Vec::new(),
            first_clusters: 0,
            by_page: Vec::new(),
        }
    }

    /// The clusters.
    pub(crate) fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// How many of the pages are zero.
    pub(crate) fn zero_page_count(&self) -> u64 {
        self.zero_pages.len() as u64
    }

    /// How many clusters are wanted first.
    pub(crate) fn first_clusters(&self) -> u32 {
        self.first_clusters
    }

    /// Says that the clusters so far are those wanted first.
    pub(crate) fn end_first(&mut self) {
        // There are no more clusters than pages, and those are limited.
        self.first_clusters = self.clusters.len() as u32;
    }

    /// Adds the next page.
    pub(crate) fn push_page(&mut self, page: u64, zero: bool) {
        self.pages.push(page);
        if zero {
            self.zero_pages.push(page);
        }
    }

    /// Adds the next cluster.
    pub(crate) fn push_cluster(&mut self, cluster: Cluster) {
        self.clusters.push(cluster);
    }

    /// The table's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Neither count is above the limit on pages, which fits.
        bytes.extend((self.pages.len() as u32).to_le_bytes());
        bytes.extend((self.clusters.len() as u32).to_le_bytes());
        bytes.extend(self.first_clusters.to_le_bytes());
        bytes.extend([0; 4]);
        let mut zero_pages = self.zero_pages.iter().peekable();
        for page in &self.pages {
            let zero = zero_pages.next_if_eq(&page).is_some();
            let flag = if zero { ZERO_PAGE } else { 0 };
            bytes.extend((page | flag).to_le_bytes());
        }
        for cluster in &self.clusters {
            bytes.extend(cluster.offset.to_le_bytes());
            bytes.extend(cluster.length.to_le_bytes());
            bytes.extend((cluster.pages.len() as u32).to_le_bytes());
            bytes.extend(cluster.checksum.to_le_bytes());
        }
        bytes
    }

    /// Reads a table; on failure says what is wrong. The page numbers are then
    /// in range and each comes once, and the clusters lie one after the other
    /// in a section of `clusters_length` bytes.
    pub(crate) fn decode(bytes: &[u8], page_count: u64, clusters_length: u64) -> Result<Self, &'static str> {
        let (start, rest) = bytes.split_first_chunk::<START_LEN>().ok_or("the table has no start")?;
        let page_total = u32_at(start, 0);
        if !(1..=MAX_WORKING_SET_PAGES).contains(&u64::from(page_total)) {
            return Err("the table has a wrong number of pages");
        }
        let pages_len = page_total as usize * PAGE_LEN;
        let clusters_len = u32_at(start, 4) as usize * CLUSTER_LEN;
        let first_clusters = u32_at(start, 8);
        if first_clusters > u32_at(start, 4) {
            return Err("more clusters are wanted first than there are");
        }
        if u32_at(start, 12) != 0 {
            return Err("a reserved field is not zero");
        }
        if pages_len + clusters_len != rest.len() {
            return Err("the table has a wrong length");
        }
        let (pages, clusters) = rest.split_at(pages_len);

        let mut table = Self { first_clusters, ..Self::new() };
        let mut stored_pages = Vec::new();
        for record in pages.as_chunks::<PAGE_LEN>().0 {
            let number = u64::from_le_bytes(*record);
            let (page, zero) = (number & !ZERO_PAGE, number & ZERO_PAGE != 0);
            if page >= page_count {
                return Err("a page number is out of range");
            }
            table.push_page(page, zero);
            if !zero {
                stored_pages.push(page);
            }
        }
        check_distinct(&table.pages)?;

        let mut stored_pages = stored_pages.as_slice();
        let mut end = 0;
        for record in clusters.as_chunks::<CLUSTER_LEN>().0 {
            let page_count = u32_at(record, 12) as usize;
            if !(1..=CLUSTER_PAGES).contains(&page_count) {
                return Err("a cluster has a wrong number of pages");
            }
            let (pages, others) =
                stored_pages.split_at_checked(page_count).ok_or("the clusters have too many pages")?;
            stored_pages = others;
            let cluster = Cluster {
                offset: u64_at(record, 0),
                length: u32_at(record, 8),
                checksum: u64_at(record, 16),
                pages: pages.to_vec(),
            };
            if cluster.length as usize > compress_bound(page_count * PAGE_SIZE) {
                return Err("a cluster is too long for its pages");
            }
            if cluster.offset != end {
                return Err("a cluster is out of place");
            }
            // Cannot overflow: at most 2^32 clusters of less than 2^19 bytes.
            end += u64::from(cluster.length);
            let number = table.clusters.len() as u32;
            table.by_page.extend(cluster.pages.iter().map(|page| (*page, number)));
            table.push_cluster(cluster);
        }
        if !stored_pages.is_empty() {
            return Err("the clusters have too few pages");
        }
        if end != clusters_length {
            return Err("the clusters do not fill their section");
        }
        table.by_page.sort_unstable();
        Ok(table)
    }
}

/// Checks that no page comes twice.
fn check_distinct(pages: &[u64]) -> Result<(), &'static str> {
    let mut sorted = pages.to_vec();
    sorted.sort_unstable();
    match sorted.is_sorted_by(|a, b| a < b) {
        true => Ok(()),
        false => Err("a page comes twice"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: u64 = 1000;
    const CLUSTERS: u64 = 300;

    fn sample() -> Table {
        let mut table = Table::new();
        for (page, zero) in [(9, false), (3, true), (999, false), (0, true), (5, false)] {
            table.push_page(page, zero);
        }
        table.push_cluster(Cluster { offset: 0, length: 100, checksum: 1, pages: vec![9, 999] });
        table.end_first();
        table.push_cluster(Cluster { offset: 100, length: 200, checksum: 2, pages: vec![5] });
        table
    }

    #[test]
    fn round_trip() {
        let table = Table::decode(&sample().encode(), PAGES, CLUSTERS).unwrap();
        assert_eq!(Table { by_page: Vec::new(), ..table.clone() }, sample());
        let view = WorkingSet::new(&table);
        assert_eq!(view.pages(), [9, 3, 999, 0, 5]);
        assert_eq!(view.zero_pages(), [3, 0]);
        assert_eq!(view.cluster_count(), 2);
        assert_eq!(view.cluster_pages(1), Some(&[5][..]));
        assert_eq!(view.cluster_pages(2), None);
        assert_eq!(view.first_clusters(), 1);
        let clusters = [9, 999, 5, 3, 1].map(|page| view.cluster_of(page));
        assert_eq!(clusters, [Some(0), Some(0), Some(1), None, None]);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let bytes = sample().encode();
        for length in 0..bytes.len() {
            assert!(Table::decode(&bytes[..length], PAGES, CLUSTERS).is_err());
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(Table::decode(&longer, PAGES, CLUSTERS).is_err());
    }

    #[test]
    fn wrong_values_are_refused() {
        let bytes = sample().encode();
        assert!(Table::decode(&bytes, 999, CLUSTERS).is_err());
        assert!(Table::decode(&bytes, PAGES, CLUSTERS + 1).is_err());

        let clusters_at = START_LEN + 5 * PAGE_LEN;
        for (at, value) in [
            // A count of pages or clusters.
            (0, 0),
            (0, u32::MAX),
            (4, u32::MAX),
            // The clusters wanted first, and the field behind.
            (8, 3),
            (8, u32::MAX),
            (12, 1),
            // A page that comes twice.
            (START_LEN, 5),
            // A cluster's offset, length and number of pages.
            (clusters_at, 1),
            (clusters_at + 8, 101),
            (clusters_at + 8, u32::MAX),
            (clusters_at + 12, 0),
            (clusters_at + 12, 1),
            (clusters_at + 12, 3),
            (clusters_at + 12, u32::MAX),
        ] {
            let mut damaged = bytes.clone();
            damaged[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(Table::decode(&damaged, PAGES, CLUSTERS).is_err(), "{value} at {at}");
        }
    }
}
