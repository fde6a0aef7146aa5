//! Writing a snapshot.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use serde::Serialize;
use zstd::zstd_safe::max_c_level;

use crate::ContentId;
use crate::contents::PageContents;
use crate::dictionary::{self, DictionaryMode};
use crate::error::{Error, Result};
use crate::header::{Extent, Header, Layout, Parent, is_plain_file_name};
use crate::index::{Entry, Stored};
use crate::info::PageCounts;
use crate::limits::{MAX_LAYERS, MAX_PAGES, MAX_STATE_BYTES};
use crate::new_file::directory_of;
use crate::output::Output;
use crate::planner::{Plan, Planner};
use crate::rounds::{Packed, Workers};
use crate::snapshot::Snapshot;

/// Lowest compression level.
const MIN_LEVEL: i32 = 1;

/// The default compression level.
const DEFAULT_LEVEL: i32 = 3;

/// Most threads: past this, one thread cannot hash the pages fast enough to
/// keep them busy.
const MAX_THREADS: usize = 64;

/// How to write a snapshot.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// zstd's compression level, 1 (fast) to 22 (small). Default 3.
    pub level: i32,
    /// Whether to use a dictionary. Default [`DictionaryMode::Auto`].
    pub dictionary: DictionaryMode,
    /// How many threads compress; 0 (the default) for one a processor. Above
    /// 64 counts as 64. The file does not depend on it.
    pub threads: usize,
    /// The snapshot to be a layer over. It must be in the directory of the new
    /// file. Default none.
    pub parent: Option<Arc<Snapshot>>,
    /// Whether the file and its name are on the disk when the call returns. Default true; else the
    /// caller sees to it.
    pub durable: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            level: DEFAULT_LEVEL,
            dictionary: DictionaryMode::Auto,
            threads: 0,
            parent: None,
            durable: true,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The snapshot's content id.
    pub id: ContentId,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Stored bytes of all pages, without index and dictionary.
    pub frames_bytes: u64,
    /// Size of the dictionary in bytes; 0 if there is none.
    pub dictionary_bytes: u64,
    /// How many pages of which kind there are.
    pub pages: PageCounts,
}

/// Writes a snapshot file, replacing any at this path.
///
/// The file appears under its name only when it is complete, and on disk
/// unless [`WriteOptions::durable`] says otherwise. It is
/// readable by its owner only, because memory may hold secrets. The same input
/// gives the same bytes, whatever the number of threads. `progress` is called
/// now and then with the pages done and the total.
///
/// # Errors
///
/// [`Error::OptionOutOfRange`], [`Error::TooLarge`] (more than [`MAX_PAGES`]
/// or [`MAX_STATE_BYTES`]), [`Error::UnusableParent`] or
/// [`Error::TooManyLayers`] before anything is written; [`Error::Contents`] or
/// [`Error::UnchangedWithoutParent`] when the source of pages fails;
/// [`Error::Io`] when the file cannot be written; any error of [`PageReader`](crate::PageReader)
/// when the parent cannot be read. On an error there is no new file, and the
/// one at `path` is untouched.
pub fn write(
    path: impl AsRef<Path>,
    options: &WriteOptions,
    state: &[u8],
    pages: &mut dyn PageContents,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    let path = path.as_ref();
    let page_count = pages.page_count();
    check_limits(options, state, page_count)?;
    let parent = options.parent.as_deref().map(|parent| check_parent(path, parent)).transpose()?;

    let mut output = Output::create(path)?;
    let state_extent = output.section(state)?;
    let dictionary = dictionary::choose(options.dictionary, options.level, pages)?;
    let dictionary_extent = output.section(dictionary.as_deref().unwrap_or_default())?;

    let mut planner = Planner::new(pages, options.parent.clone(), state, progress)?;
    let mut workers = Workers::new(thread_count(options), options.level, dictionary.as_deref())?;
    let (frames, frames_extent) = write_frames(&mut output, &mut planner, &mut workers)?;

    let (id, plans, mut counts) = planner.finish();
    for frame in &frames {
        counts.add_stored(frame.encoding);
    }
    let index_extent = write_index(&mut output, &plans, &frames, id)?;
    let clusters = output.end_section()?;
    let working_set = output.end_section()?;
    let file_bytes = output.finish(
        &Header {
            level: options.level,
            page_count,
            id,
            parent,
            created_by: Header::this_build(),
            layout: Layout {
                state: state_extent,
                dictionary: dictionary_extent,
                frames: frames_extent,
                index: index_extent,
                clusters,
                working_set,
            },
        },
        None,
        options.durable,
    )?;
    Ok(Summary {
        id,
        file_bytes,
        frames_bytes: frames_extent.length,
        dictionary_bytes: dictionary_extent.length,
        pages: counts,
    })
}

/// Checks what the caller gave against the limits.
fn check_limits(options: &WriteOptions, state: &[u8], page_count: u64) -> Result<()> {
    let levels = MIN_LEVEL..=max_c_level();
    if !levels.contains(&options.level) {
        return Err(Error::OptionOutOfRange {
            option: "level",
            found: options.level.into(),
            lowest: (*levels.start()).into(),
            highest: (*levels.end()).into(),
        });
    }
    if page_count > MAX_PAGES {
        return Err(Error::TooLarge { what: "the image (pages)", found: page_count, limit: MAX_PAGES });
    }
    if state.len() as u64 > MAX_STATE_BYTES {
        return Err(Error::TooLarge {
            what: "the machine state (bytes)",
            found: state.len() as u64,
            limit: MAX_STATE_BYTES,
        });
    }
    Ok(())
}

/// Checks that opening the new file will find this parent, and that it fits.
fn check_parent(path: &Path, parent: &Snapshot) -> Result<Parent> {
    let unusable = |reason| Error::UnusableParent {
        path: path.to_path_buf(),
        parent: parent.path().to_path_buf(),
        reason,
    };
    if parent.layer_count() >= MAX_LAYERS {
        return Err(Error::TooManyLayers { path: path.to_path_buf(), limit: MAX_LAYERS });
    }
    let canonical =
        |directory: &Path| fs::canonicalize(directory).map_err(Error::io("resolve the directory", directory));
    if canonical(directory_of(path))? != canonical(directory_of(parent.path()))? {
        return Err(unusable("it is in another directory; write the layer beside its parent"));
    }
    let file_name = parent
        .path()
        .file_name()
        .filter(|name| is_plain_file_name(name))
        .ok_or_else(|| unusable("its path does not end with a plain file name"))?;
    if path.file_name() == Some(file_name) {
        return Err(unusable("it would be replaced; choose another name"));
    }
    Ok(Parent { id: parent.id(), file_name: file_name.to_owned() })
}

/// How many threads compress.
fn thread_count(options: &WriteOptions) -> usize {
    let count = match options.threads {
        0 => thread::available_parallelism().map_or(1, |count| count.get()),
        count => count,
    };
    count.min(MAX_THREADS)
}

/// Writes the frames section. While the workers pack one round of pages, this
/// thread gathers the next.
fn write_frames(
    output: &mut Output,
    planner: &mut Planner<'_>,
    workers: &mut Workers,
) -> Result<(Vec<Stored>, Extent)> {
    let mut frames = Vec::new();
    let mut round = planner.gather()?;
    while !round.pages.is_empty() {
        let (packed, next) = workers.pack(&round.pages, || planner.gather());
        let mut checksums = round.checksums.into_iter();
        for Packed { bytes, pages } in packed? {
            let mut offset = output.section_length();
            output.write(&bytes)?;
            for ((encoding, length), checksum) in pages.into_iter().zip(&mut checksums) {
                frames.push(Stored { encoding, offset, length, checksum });
                offset += u64::from(length);
            }
        }
        round = next?;
    }
    Ok((frames, output.end_section()?))
}

/// Writes the index section.
fn write_index(output: &mut Output, plans: &[Plan], frames: &[Stored], id: ContentId) -> Result<Extent> {
    let salt = id.index_salt();
    for (page, plan) in (0..).zip(plans) {
        let entry = match plan {
            Plan::Zero => Entry::Zero,
            Plan::Parent => Entry::Parent,
            Plan::Frame(frame) => Entry::Stored(frames[*frame as usize]),
        };
        output.write(&entry.encode(page, salt))?;
    }
    output.end_section()
}
