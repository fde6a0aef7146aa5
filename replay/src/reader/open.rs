//! Opening a log: where its blocks are, and where it ends.

use std::collections::HashMap;
use std::sync::Mutex;

use super::Ending;
use super::content::Ahead;
use super::file::{Found, LogFile};
use crate::codec;
use crate::error::Error;
use crate::format::ends::{FILE_HEADER, TRAILER, check_file_header, parse_trailer};
use crate::format::header::{BLOCK_HEADER, BlockHeader, BlockKind};
use crate::format::stored::{BlobEntry, EndBlock, Index, RecordsEntry};
use crate::home::Home;
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::record::BlobId;

/// An open recording.
#[derive(Debug)]
pub(super) struct Inner {
    pub home: Home,
    pub manifest: Manifest,
    pub file: LogFile,
    pub ending: Ending,
    /// Where the blocks of records, blobs and keyed answers end.
    pub stop: u64,
    pub index: Index,
    /// The index's blobs by name.
    pub blobs: HashMap<BlobId, BlobEntry>,
    pub ahead: Mutex<Ahead>,
}

/// What a look at the whole log gave.
struct Layout {
    ending: Ending,
    stop: u64,
    index: Index,
}

impl Inner {
    pub fn open(home: Home) -> Result<Inner, Error> {
        let manifest = Manifest::read_at(&home.place(MANIFEST_FILE))?;
        let file = LogFile::open(&home.place(&manifest.log))?;
        let Some(header) = file.array_at::<FILE_HEADER>(0)? else {
            return Err(file.corrupt(file.len, "the file ends within its header: the recorder wrote nothing"));
        };
        check_file_header(&file.path, &header)?;
        let layout = match by_trailer(&file)? {
            Some(layout) => layout,
            None => scan(&file)?,
        };
        let Layout { ending, stop, mut index } = layout;
        let blobs = std::mem::take(&mut index.blobs).into_iter().map(|entry| (entry.id, entry)).collect();
        let inner = Inner { home, manifest, file, ending, stop, index, blobs, ahead: Mutex::default() };
        inner.agree()?;
        Ok(inner)
    }

    /// Checks manifest and log against each other. The log counts: a recorder may have been killed
    /// after it sealed the log and before it wrote the manifest.
    fn agree(&self) -> Result<(), Error> {
        if !self.manifest.complete {
            return Ok(());
        }
        let count = self.index.records.iter().fold(0u64, |n, entry| n.saturating_add(u64::from(entry.exits)));
        let wrong = |what: &str| Error::Manifest {
            path: self.home.place(MANIFEST_FILE).path().to_owned(),
            why: format!("its {what} is not the log's: they are not of one recording"),
        };
        match &self.ending {
            Ending::Interrupted { offset } => Err(Error::Truncated {
                path: self.file.path.clone(),
                offset: *offset,
                exits: self.manifest.exits.unwrap_or(0),
            }),
            Ending::Sealed { .. } if self.manifest.exits.is_some_and(|n| n != count) => {
                Err(wrong("number of exits"))
            }
            Ending::Sealed { digest, .. }
                if self.manifest.digest.as_ref().is_some_and(|d| *d != digest.to_string()) =>
            {
                Err(wrong("digest"))
            }
            Ending::Sealed { .. } | Ending::Damaged { .. } => Ok(()),
        }
    }
}

/// The quick way: a sealed log with a sound trailer, end block and index.
fn by_trailer(file: &LogFile) -> Result<Option<Layout>, Error> {
    let Some(at) = file.len.checked_sub(TRAILER as u64) else {
        return Ok(None);
    };
    let Some(bytes) = file.array_at::<TRAILER>(at)? else {
        return Ok(None);
    };
    let Some(end_at) = parse_trailer(&bytes).filter(|&end_at| end_at >= FILE_HEADER as u64) else {
        return Ok(None);
    };
    let Found::Block(header) = file.block_at(end_at)? else {
        return Ok(None);
    };
    if header.kind != BlockKind::End || end_at + header.block_len() != at {
        return Ok(None);
    }
    // Anything unsound here will be met again by the scan, which can say what comes before it.
    let Ok(EndBlock { end, exits, digest, index: Some(index) }) = end_block(file, end_at, &header) else {
        return Ok(None);
    };
    if !sound(&index, end_at, exits) {
        return Ok(None);
    }
    Ok(Some(Layout { ending: Ending::Sealed { end, digest }, stop: end_at, index }))
}

/// Bytes of an end block that any log may have: all but its index.
const END_WITHOUT_INDEX: u64 = 64 << 10;

fn end_block(file: &LogFile, offset: u64, header: &BlockHeader) -> Result<EndBlock, Error> {
    // Its index has less for each block than the block itself takes.
    if u64::from(header.raw_len) > END_WITHOUT_INDEX + offset {
        return Err(file.corrupt(offset, "the end block is longer than a log of this length can have"));
    }
    let raw = file.payload(offset, header)?;
    let end: EndBlock =
        codec::decode(&raw).map_err(|e| file.corrupt(offset, format!("the end block: {e}")))?;
    if end.digest.bytes() != header.id {
        return Err(file.corrupt(offset, "the end block has two digests"));
    }
    Ok(end)
}

/// Whether an index could be that of a log whose end block is at `end_at`.
fn sound(index: &Index, end_at: u64, exits: u64) -> bool {
    let inside = |offset: u64| (FILE_HEADER as u64..end_at).contains(&offset);
    let entries = index.records.len() + index.blobs.len() + index.keyed.len();
    if entries as u64 > end_at / BLOCK_HEADER as u64 {
        return false;
    }
    let mut count = 0u64;
    let mut last: Option<RecordsEntry> = None;
    for entry in &index.records {
        let follows = match last {
            None => entry.first_exit > 0,
            Some(last) => {
                last.offset < entry.offset
                    && last.first_exit.checked_add(u64::from(last.exits)) == Some(entry.first_exit)
            }
        };
        let ends = entry.first_exit.checked_add(u64::from(entry.exits)).is_some();
        if !follows || !ends || entry.exits == 0 || !inside(entry.offset) {
            return false;
        }
        // No overflow: the numbers of the exits do not.
        count += u64::from(entry.exits);
        last = Some(*entry);
    }
    count == exits
        && index.blobs.iter().all(|entry| inside(entry.offset))
        && index.keyed.iter().all(|&offset| inside(offset))
        && index.keyed.is_sorted_by(|a, b| a < b)
}

/// The slow way: from header to header, without the payloads.
fn scan(file: &LogFile) -> Result<Layout, Error> {
    let mut index = Index::default();
    let mut offset = FILE_HEADER as u64;
    let mut number = 0;
    let mut next_exit = 0;
    let mut exits = 0;
    let ending = loop {
        let damaged = |why: String| Ending::Damaged { offset, why };
        let header = match file.block_at(offset)? {
            Found::Block(header) => header,
            Found::Torn => break Ending::Interrupted { offset },
            Found::Bad(why) => break damaged(why),
        };
        if header.number != number {
            break damaged(format!("block {} stands where block {number} is due", header.number));
        }
        if next_exit != 0 && header.kind != BlockKind::Blob && header.first_exit != next_exit {
            break damaged(format!("exit {} comes where exit {next_exit} is due", header.first_exit));
        }
        match header.kind {
            BlockKind::Records if header.exits > 0 => {
                if header.first_exit == 0 {
                    break damaged("there is no exit 0".into());
                }
                index.records.push(RecordsEntry {
                    offset,
                    first_exit: header.first_exit,
                    exits: header.exits,
                });
                next_exit = header.first_exit + u64::from(header.exits);
                exits += u64::from(header.exits);
            }
            BlockKind::Records => {}
            BlockKind::Blob => {
                index.blobs.push(BlobEntry { id: BlobId(header.id), offset, len: header.raw_len });
            }
            BlockKind::Keyed => index.keyed.push(offset),
            BlockKind::End => {
                break match end_block(file, offset, &header) {
                    Err(Error::Corrupt { why, .. }) => damaged(why),
                    Err(other) => return Err(other),
                    Ok(end) if end.exits != exits => damaged("the end block counts other exits".into()),
                    // The trailer may be torn or flipped: it only says where this block is.
                    Ok(_) if file.len - offset - header.block_len() > TRAILER as u64 => {
                        damaged("there is more behind the end of the log".into())
                    }
                    Ok(EndBlock { end, digest, .. }) => Ending::Sealed { end, digest },
                };
            }
        }
        offset += header.block_len();
        number += 1;
    };
    Ok(Layout { ending, stop: offset, index })
}
