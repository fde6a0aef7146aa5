//! Checking a whole snapshot.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::content_hash::ContentHash;
use crate::error::{Error, Result, Section};
use crate::frame::Decompressor;
use crate::header::{HEADER_LEN, align};
use crate::index::Entry;
use crate::info::Info;
use crate::layer::Layer;
use crate::limits::PAGE_SIZE;
use crate::reader::PageReader;
use crate::snapshot::Snapshot;

/// Bytes read at once when checking a section.
const PIECE_LEN: usize = 1 << 16;

/// Pages between two reports of progress.
const PROGRESS_PAGES: u64 = 1024;

impl Snapshot {
    /// Checks everything in this file and its parents: each section, index
    /// entry, page and cluster, and that the content matches the content id.
    /// `progress` is called now and then with the pages done and the total,
    /// over all files. Returns facts about this file.
    ///
    /// # Errors
    ///
    /// The first problem found: [`Error::Corrupt`], [`Error::CorruptPage`] or
    /// [`Error::Truncated`].
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Result<Info> {
        let total = self.layers().iter().map(|layer| layer.header().page_count).sum();
        let mut done = 0;
        for number in 0..self.layer_count() {
            let snapshot = self.chain_from(number);
            let layer = snapshot.top();
            check_sections(layer)?;
            let parent_pages = self.layers().get(number + 1).map_or(0, |parent| parent.header().page_count);
            check_pages(layer, parent_pages, || {
                if done % PROGRESS_PAGES == 0 {
                    progress(done, total);
                }
                done += 1;
            })?;
            check_working_set(snapshot)?;
        }
        progress(total, total);
        self.info()
    }
}

/// Checks the checksums of all sections, and that the gaps between are zero.
fn check_sections(layer: &Layer) -> Result<()> {
    let mut end = HEADER_LEN as u64;
    let mut piece = [0; PIECE_LEN];
    for (section, extent) in layer.header().layout.named() {
        check_gap(layer, section, end, extent.offset)?;
        let mut hash = Xxh3::new();
        end = extent.offset;
        while end < extent.end() {
            let length = (extent.end() - end).min(PIECE_LEN as u64) as usize;
            let piece = &mut piece[..length];
            layer.file().read(end, piece)?;
            hash.update(piece);
            end += length as u64;
        }
        if hash.digest() != extent.checksum {
            return Err(layer.corrupt(section, extent.offset, "wrong checksum"));
        }
    }
    check_gap(layer, Section::Footer, end, align(end).unwrap_or(end))?;
    layer.check_ends()
}

/// Checks that the padding before a section is zero.
fn check_gap(layer: &Layer, section: Section, start: u64, end: u64) -> Result<()> {
    let mut gap = [0; crate::header::ALIGNMENT as usize];
    // Shorter than the alignment: opening has checked the sections' places.
    let gap = &mut gap[..(end - start) as usize];
    layer.file().read(start, gap)?;
    match gap.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(layer.corrupt(section, start, "the padding before it is not zero")),
    }
}

/// Checks every page stored in a file, and the content id. The parent has `parent_pages` pages, 0
/// if there is none.
fn check_pages(layer: &Layer, parent_pages: u64, mut before_each: impl FnMut()) -> Result<()> {
    let header = layer.header();
    let parent = header.parent.as_ref().map(|parent| parent.id);
    let mut hash = ContentHash::new(header.page_count, parent, layer.state()?);
    let mut decompressor = Decompressor::new()?;
    let mut frame = [0; PAGE_SIZE];
    let mut content = [0; PAGE_SIZE];
    layer.for_each_entry(|page, entry| {
        before_each();
        match entry {
            Entry::Zero => hash.zero(),
            Entry::Parent => hash.parent(),
            Entry::Stored(stored) => {
                layer.read_stored(page, &stored, &mut decompressor, &mut frame, &mut content)?;
                hash.data(&blake3::hash(&content));
            }
        }
        if entry == Entry::Parent && page >= parent_pages {
            return Err(layer.corrupt(
                Section::Index,
                header.layout.index.offset,
                "a page is said to be the parent's, but no parent has it",
            ));
        }
        Ok(())
    })?;
    if hash.finish() != header.id {
        return Err(layer.corrupt(Section::Header, 0, "the content is not what the content id says"));
    }
    Ok(())
}

/// Checks the working set of a file against its pages.
fn check_working_set(snapshot: Arc<Snapshot>) -> Result<()> {
    let Some(set) = snapshot.working_set()? else {
        return Ok(());
    };
    for page in set.zero_pages() {
        if !snapshot.is_zero(*page)? {
            return Err(Error::CorruptPage {
                path: snapshot.path().to_path_buf(),
                page: *page,
                offset: snapshot.top().header().layout.working_set.offset,
                reason: "the working set says it is zero, but it is not",
            });
        }
    }
    let mut reader = PageReader::new(Arc::clone(&snapshot))?;
    let mut contents = Vec::new();
    for cluster in 0..set.cluster_count() {
        reader.working_set_cluster(cluster, &mut contents)?;
    }
    Ok(())
}
