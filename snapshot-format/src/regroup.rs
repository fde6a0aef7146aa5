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

/// Records a working set in a snapshot file: these pages, in this order, with
/// their contents regrouped in clusters. A page given again counts where it
/// came first. A working set already there is replaced; an empty list removes
/// it.
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
pub fn add_working_set(path: impl AsRef<Path>, pages: &[u64]) -> Result<WorkingSetInfo> {
    let path = path.as_ref();
    // The name to replace is that of the file, not that of a link to it.
    let path = fs::canonicalize(path).map_err(Error::io("open", path))?;
    let permissions = fs::metadata(&path).map_err(Error::io("examine", &path))?.permissions();
    let snapshot = Snapshot::open(&path)?;
    let pages = distinct(pages, snapshot.page_count())?;

    let old = snapshot.top();
    let layout = old.header().layout;
    let mut output = Output::create(&path)?;
    output.copy_sections(old, layout.index.end())?;
    let table = write_clusters(&mut output, &snapshot, &pages)?;
    let clusters = output.end_section()?;
    let working_set = match pages.is_empty() {
        true => output.end_section()?,
        false => output.section(&table.encode())?,
    };
    output.finish(
        &Header { layout: Layout { clusters, working_set, ..layout }, ..old.header().clone() },
        Some(permissions),
    )?;
    Ok(WorkingSetInfo {
        pages: pages.len() as u64,
        zero_pages: table.zero_page_count(),
        clusters: table.clusters().len() as u64,
        bytes: working_set.length + clusters.length,
    })
}

/// The pages without repetitions, if they are in range and not too many.
fn distinct(pages: &[u64], page_count: u64) -> Result<Vec<u64>> {
    let mut seen = HashSet::new();
    let mut distinct = Vec::new();
    for &page in pages {
        if page >= page_count {
            return Err(Error::PageOutOfRange { page, page_count });
        }
        if seen.insert(page) {
            distinct.push(page);
        }
    }
    if distinct.len() as u64 > MAX_WORKING_SET_PAGES {
        return Err(Error::TooLarge {
            what: "the working set (pages)",
            found: distinct.len() as u64,
            limit: MAX_WORKING_SET_PAGES,
        });
    }
    Ok(distinct)
}

/// Writes the clusters section and makes its table.
fn write_clusters(output: &mut Output, snapshot: &Arc<Snapshot>, pages: &[u64]) -> Result<Table> {
    let mut table = Table::new();
    let mut stored_pages = Vec::new();
    for &page in pages {
        let zero = snapshot.is_zero(page)?;
        table.push_page(page, zero);
        if !zero {
            stored_pages.push(page);
        }
    }

    let mut reader = PageReader::new(Arc::clone(snapshot))?;
    // The level comes from the file, so it may be anything.
    let level = snapshot.top().header().level.clamp(1, max_c_level());
    let mut compressor = Compressor::for_clusters(CLUSTER_PAGES * PAGE_SIZE, level)?;
    let mut contents = Vec::with_capacity(CLUSTER_PAGES * PAGE_SIZE);
    let mut content = [0; PAGE_SIZE];
    for pages in stored_pages.chunks(CLUSTER_PAGES) {
        contents.clear();
        for &page in pages {
            reader.read(page, &mut content)?;
            contents.extend_from_slice(&content);
        }
        let compressed = compressor.compress(&contents)?;
        table.push_cluster(Cluster {
            offset: output.section_length(),
            // Fits: no longer than the bound for 64 pages.
            length: compressed.len() as u32,
            checksum: xxh3_64(compressed),
            pages: pages.to_vec(),
        });
        output.write(compressed)?;
    }
    Ok(table)
}
