//! Facts about a snapshot file.

use std::path::PathBuf;

use serde::Serialize;

use crate::ContentId;
use crate::error::Result;
use crate::index::{Encoding, Entry};
use crate::layer::Layer;
use crate::limits::{FORMAT_VERSION, PAGE_SIZE};
use crate::snapshot::Snapshot;

/// How many pages of each kind a file has. Every page is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct PageCounts {
    /// All zeros; nothing stored.
    pub zero: u64,
    /// Same as in the parent; nothing stored.
    pub parent: u64,
    /// Stored as a zstd frame.
    pub compressed: u64,
    /// Stored as it is.
    pub raw: u64,
    /// Same as an earlier page of this file; nothing stored.
    pub repeated: u64,
}

impl PageCounts {
    /// Counts a page with bytes of its own.
    pub(crate) fn add_stored(&mut self, encoding: Encoding) {
        match encoding {
            Encoding::Zstd => self.compressed += 1,
            Encoding::Raw => self.raw += 1,
        }
    }

    /// Pages with bytes of their own in the file.
    pub fn stored(&self) -> u64 {
        self.compressed + self.raw
    }

    /// All pages.
    pub fn total(&self) -> u64 {
        self.zero + self.parent + self.compressed + self.raw + self.repeated
    }
}

/// Facts about a working set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkingSetInfo {
    /// Pages, zero pages included.
    pub pages: u64,
    /// Zero pages among them.
    pub zero_pages: u64,
    /// Clusters the others are regrouped in.
    pub clusters: u64,
    /// Clusters of them that hold what the run wanted before its first answer.
    pub first_clusters: u64,
    /// Bytes the clusters and their table take in the file.
    pub bytes: u64,
}

/// Facts about one snapshot file; its parents are not included.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Info {
    /// The path the file was opened by.
    pub path: PathBuf,
    /// The content id.
    pub id: ContentId,
    /// The parent's content id.
    pub parent_id: Option<ContentId>,
    /// How many files the chain has, this one included.
    pub layers: usize,
    /// The format version of the file.
    pub format_version: u32,
    /// The program that wrote the file.
    pub created_by: String,
    /// The compression level.
    pub level: i32,
    /// How many pages the image has.
    pub page_count: u64,
    /// How many pages of which kind this file has.
    pub pages: PageCounts,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Machine state in bytes.
    pub state_bytes: u64,
    /// Dictionary in bytes; 0 if there is none.
    pub dictionary_bytes: u64,
    /// Stored pages in bytes.
    pub frames_bytes: u64,
    /// Page index in bytes.
    pub index_bytes: u64,
    /// The working set, if there is one.
    pub working_set: Option<WorkingSetInfo>,
}

impl Info {
    /// The image's size in bytes over the file's. Large for a mostly empty
    /// image or a layer.
    pub fn image_ratio(&self) -> f64 {
        (self.page_count * PAGE_SIZE as u64) as f64 / self.file_bytes as f64
    }

    /// How well the stored pages are compressed: their content in bytes over
    /// the stored bytes and the dictionary. 1 if no page is stored.
    pub fn compression_ratio(&self) -> f64 {
        if self.pages.stored() == 0 {
            return 1.0;
        }
        let content = self.pages.stored() * PAGE_SIZE as u64;
        content as f64 / (self.frames_bytes + self.dictionary_bytes) as f64
    }
}

impl Snapshot {
    /// Facts about this file. Walks the index, and checks every entry on the
    /// way; does not read the pages.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) when an index entry or the
    /// working set fails its check;
    /// [`Error::Truncated`](crate::Error::Truncated).
    pub fn info(&self) -> Result<Info> {
        let layer = self.top();
        let header = layer.header();
        let layout = &header.layout;
        let working_set = self.working_set()?.map(|set| WorkingSetInfo {
            pages: set.pages().len() as u64,
            zero_pages: set.zero_pages().len() as u64,
            clusters: set.cluster_count() as u64,
            first_clusters: set.first_clusters() as u64,
            bytes: layout.working_set.length + layout.clusters.length,
        });
        Ok(Info {
            path: layer.path().to_path_buf(),
            id: self.id(),
            parent_id: self.parent_id(),
            layers: self.layer_count(),
            format_version: FORMAT_VERSION,
            created_by: header.created_by.clone(),
            level: header.level,
            page_count: header.page_count,
            pages: count_pages(layer)?,
            file_bytes: layer.file().length(),
            state_bytes: layout.state.length,
            dictionary_bytes: layout.dictionary.length,
            frames_bytes: layout.frames.length,
            index_bytes: layout.index.length,
            working_set,
        })
    }
}

/// Counts the pages of a file by kind.
fn count_pages(layer: &Layer) -> Result<PageCounts> {
    let mut counts = PageCounts::default();
    // Frames lie in the order of the first pages to use them, so a frame
    // before this offset has been met already.
    let mut next_frame = 0;
    layer.for_each_entry(|_, entry| {
        match entry {
            Entry::Zero => counts.zero += 1,
            Entry::Parent => counts.parent += 1,
            Entry::Stored(stored) if stored.offset < next_frame => counts.repeated += 1,
            Entry::Stored(stored) => {
                counts.add_stored(stored.encoding);
                // Cannot overflow: decoding has checked the extent.
                next_frame = stored.offset + u64::from(stored.length);
            }
        }
        Ok(())
    })?;
    Ok(counts)
}
