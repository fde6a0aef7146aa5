//! Adding a working set to a file.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;
use zstd::zstd_safe::max_c_level;

use crate::error::{Error, Result};
use crate::frame::Compressor;
use crate::header::{Header, Layout};
use crate::info::WorkingSetInfo;
use crate::limits::{CLUSTER_PAGES, MAX_WORKING_SET_PAGES, PAGE_SIZE};
use crate::output::Output;
use crate::reader::PageReader;
use crate::snapshot::Snapshot;
use crate::working_set::{Cluster, Table};

/// Records a working set in a snapshot file: the pages that a run wanted before
/// its first answer, and those that it wanted afterwards, in its order; with
/// their contents regrouped in clusters. A page given again counts where it
/// came first. A working set already there is replaced; empty lists remove it.
///
/// The content id stays the same. The file is replaced by a new one, complete
/// and on disk, with the same permissions; whoever has the old one open keeps
/// it. Parents must be where [`Snapshot::open`] finds them; pages of theirs
/// are copied into this file's clusters.
///
/// # Errors
///
/// Any error of [`Snapshot::open`] and [`PageReader::read`];
/// [`Error::PageOutOfRange`]; [`Error::TooLarge`] for more than
/// [`MAX_WORKING_SET_PAGES`] distinct pages; [`Error::Io`] when the new file
/// cannot be written. On an error the file is untouched.
pub fn add_working_set(path: impl AsRef<Path>, first: &[u64], rest: &[u64]) -> Result<WorkingSetInfo> {
    let path = path.as_ref();
    // The name to replace is that of the file, not that of a link to it.
    let path = fs::canonicalize(path).map_err(Error::io("open", path))?;
    let permissions = fs::metadata(&path).map_err(Error::io("examine", &path))?.permissions();
    let snapshot = Snapshot::open(&path)?;
    let mut seen = HashSet::new();
    let first = distinct(first, snapshot.page_count(), &mut seen)?;
    let rest = distinct(rest, snapshot.page_count(), &mut seen)?;

    let old = snapshot.top();
    let layout = old.header().layout;
    let mut output = Output::create(&path)?;
    output.copy_sections(old, layout.index.end())?;
    let pages = first.len() + rest.len();
    let table = write_clusters(&mut output, &snapshot, first, &rest)?;
    let clusters = output.end_section()?;
    let working_set = match pages == 0 {
        true => output.end_section()?,
        false => output.section(&table.encode())?,
    };
    output.finish(
        &Header { layout: Layout { clusters, working_set, ..layout }, ..old.header().clone() },
        Some(permissions),
        true,
    )?;
    Ok(WorkingSetInfo {
        pages: pages as u64,
        zero_pages: table.zero_page_count(),
        clusters: table.clusters().len() as u64,
        first_clusters: table.first_clusters().into(),
        bytes: working_set.length + clusters.length,
    })
}

/// The pages that were not seen yet, without repetitions, if they are in range
/// and with those seen not too many.
fn distinct(pages: &[u64], page_count: u64, seen: &mut HashSet<u64>) -> Result<Vec<u64>> {
    let mut distinct = Vec::new();
    for &page in pages {
        if page >= page_count {
            return Err(Error::PageOutOfRange { page, page_count });
        }
        if seen.insert(page) {
            distinct.push(page);
        }
    }
    if seen.len() as u64 > MAX_WORKING_SET_PAGES {
        return Err(Error::TooLarge {
            what: "the working set (pages)",
            found: seen.len() as u64,
            limit: MAX_WORKING_SET_PAGES,
        });
    }
    Ok(distinct)
}

/// Writes the clusters section and makes its table. What is wanted first comes
/// in at once, so its order does not matter and all of it goes by page number;
/// the rest comes in cluster by cluster.
fn write_clusters(
    output: &mut Output,
    snapshot: &Arc<Snapshot>,
    mut first: Vec<u64>,
    rest: &[u64],
) -> Result<Table> {
    let size = CLUSTER_PAGES * PAGE_SIZE;
    let mut clusters = Clusters {
        table: Table::new(),
        reader: PageReader::new(Arc::clone(snapshot))?,
        compressor: Compressor::for_first_clusters(size)?,
        contents: Vec::with_capacity(size),
    };
    first.sort_unstable();
    clusters.write(output, &first)?;
    clusters.table.end_first();
    // The level comes from the file, so it may be anything.
    let level = snapshot.top().header().level.clamp(1, max_c_level());
    clusters.compressor = Compressor::for_clusters(size, level)?;
    clusters.write(output, rest)?;
    Ok(clusters.table)
}

/// Clusters being written.
struct Clusters {
    table: Table,
    reader: PageReader,
    compressor: Compressor,
    /// The contents of one cluster.
    contents: Vec<u8>,
}

impl Clusters {
    /// Adds pages in clusters of their own.
    fn write(&mut self, output: &mut Output, pages: &[u64]) -> Result<()> {
        let mut stored_pages = Vec::new();
        for &page in pages {
            match self.reader.snapshot().is_zero(page)? {
                true => self.table.push_page(page, true),
                false => stored_pages.push(page),
            }
        }
        for pages in stored_pages.chunks_mut(CLUSTER_PAGES) {
            pages.sort_unstable();
            self.write_one(output, pages)?;
        }
        Ok(())
    }

    fn write_one(&mut self, output: &mut Output, pages: &[u64]) -> Result<()> {
        let mut content = [0; PAGE_SIZE];
        self.contents.clear();
        for &page in pages {
            self.table.push_page(page, false);
            self.reader.read(page, &mut content)?;
            self.contents.extend_from_slice(&content);
        }
        let compressed = self.compressor.compress(&self.contents)?;
        self.table.push_cluster(Cluster {
            offset: output.section_length(),
            // Fits: no longer than the bound for 64 pages.
            length: compressed.len() as u32,
            checksum: xxh3_64(compressed),
            pages: pages.to_vec(),
        });
        output.write(compressed)
    }
}
