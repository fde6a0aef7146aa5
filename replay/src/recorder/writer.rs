//! The writing thread: entries to blocks to bytes.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dejavm_sandbox::world::Response;
use zstd::bulk::Compressor;

use super::Summary;
use super::queue::{Close, Entry, Queue, Work};
use super::ring::Logs;
use super::sync::Syncer;
use crate::codec;
use crate::digest::RunDigest;
use crate::format::block::pack;
use crate::format::budget::KeyedBudget;
use crate::format::ends::{FILE_HEADER, file_header, trailer};
use crate::format::header::{BLOCK_HEADER, BlockHeader, BlockKind};
use crate::format::stored::{BlobEntry, EndBlock, ExitCoder, Index, Long, RecordsEntry, Stored};
use crate::format::{MAX_BLOCK, MAX_RECORDS};
use crate::manifest::RunEnd;
use crate::record::{Answer, BlobId, KeyedRecord, Record, WorldRecord};

/// Where a log goes.
pub(super) trait Sink: Send {
    /// Appends all of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes sure that it is on the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// The file that it goes to, if it is one that another thread may sync meanwhile.
    fn file(&self) -> io::Result<Option<File>> {
        Ok(None)
    }
}

impl Sink for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn file(&self) -> io::Result<Option<File>> {
        self.try_clone().map(Some)
    }
}

/// The thread's whole life. However it ends, the queue refuses entries afterwards.
pub(super) fn run(mut writer: Logs, queue: &Queue, flush_after: Duration) -> io::Result<Summary> {
    struct Fuse<'a>(&'a Queue, String);
    impl Drop for Fuse<'_> {
        fn drop(&mut self) {
            self.0.fail(std::mem::take(&mut self.1));
        }
    }
    let mut fuse = Fuse(queue, "the writing thread ended unexpectedly".into());
    let mut begun = writer.start_syncing();
    let result = loop {
        if let Err(e) = std::mem::replace(&mut begun, Ok(())) {
            break Err(e);
        }
        match queue.take(flush_after) {
            // Taken before the log was full.
            Work::Batch(_) if writer.is_full() => {}
            Work::Batch(batch) => match writer.write_batch(batch, queue) {
                Ok(()) => {}
                Err(Stopped::Full(limit)) => queue.full(limit),
                Err(Stopped::Io(e)) => break Err(e),
            },
            Work::Close(Close::Abandon) => {
                writer.abandon();
                break Ok(writer.summary());
            }
            Work::Close(Close::Seal(end)) => {
                break match writer.seal(end) {
                    Err(Stopped::Full(_)) => Err(io::ErrorKind::FileTooLarge.into()),
                    Err(Stopped::Io(e)) => Err(e),
                    Ok(summary) => Ok(summary),
                };
            }
        }
    };
    fuse.1 = match &result {
        Ok(_) => "the recording is finished".into(),
        Err(e) => e.to_string(),
    };
    result
}

/// Why no more is written.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The log would pass its limit, bytes. It can be sealed.
    Full(u64),
    /// It cannot be written.
    Io(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(e: io::Error) -> Stopped {
        Stopped::Io(e)
    }
}

/// Room for the end block without its index, with its header, and the trailer.
const END_ROOM: u64 = 1 << 10;

/// Turns entries into a log.
pub(super) struct LogWriter {
    sink: Box<dyn Sink>,
    dir: PathBuf,
    syncer: Option<Syncer>,
    zstd: Compressor<'static>,
    /// Bytes written so far.
    offset: u64,
    /// Number of the next block.
    block: u64,
    /// Number of the next exit; 0 before the first.
    next_exit: u64,
    exits: u64,
    digest: RunDigest,
    index: Index,
    blobs: HashSet<BlobId>,
    blob_bytes: u64,
    keyed: KeyedBudget,
    /// Most bytes of the log.
    limit: Option<u64>,
    /// It came to its limit: nothing but its end is written any more.
    pub full: bool,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl LogWriter {
    /// A writer to `sink`, for a recording in `dir`.
    /// The log may have `limit` bytes.
    pub fn new(sink: Box<dyn Sink>, dir: &Path, level: i32, limit: Option<u64>) -> io::Result<LogWriter> {
        Ok(LogWriter {
            sink,
            dir: dir.to_owned(),
            syncer: None,
            zstd: Compressor::new(level)?,
            offset: 0,
            block: 0,
            next_exit: 0,
            exits: 0,
            digest: RunDigest::new(),
            index: Index::default(),
            blobs: HashSet::new(),
            blob_bytes: 0,
            keyed: KeyedBudget::default(),
            limit,
            full: false,
        })
    }

    /// Starts to bring what there is to the disk, if that has not begun.
    pub fn start_syncing(&mut self) -> io::Result<()> {
        if self.syncer.is_none() {
            self.syncer = self.sink.file()?.map(|log| Syncer::start(&self.dir, log)).transpose()?;
        }
        Ok(())
    }

    pub fn write_header(&mut self) -> io::Result<()> {
        self.sink.append(&file_header())?;
        self.offset = FILE_HEADER as u64;
        Ok(())
    }

    /// Writes a batch: first the contents that it is the first to refer to, then its keyed answers,
    /// then its records.
    pub fn write_batch(&mut self, batch: Vec<Entry>) -> Result<(), Stopped> {
        let mut records = Vec::with_capacity(batch.len());
        for entry in batch {
            records.push(match entry {
                Entry::Start(_) => continue,
                Entry::Exit(exit) => Record::Exit(exit),
                Entry::Fault(fault) => Record::Fault(fault),
                Entry::World(asked, response) => {
                    Record::World(WorldRecord { asked, answer: self.answer(response)? })
                }
                Entry::Keyed(path, block, response) => {
                    Record::Keyed(KeyedRecord { path, block, answer: self.answer(response)? })
                }
            });
        }
        self.write_records(records)
    }

    /// Writes records whose contents are in the log already: the keyed answers, then the others.
    pub fn write_records(&mut self, all: Vec<Record>) -> Result<(), Stopped> {
        let first_exit = all.iter().find_map(|record| match record {
            Record::Exit(exit) => Some(exit.number),
            _ => None,
        });
        let first_exit = first_exit.unwrap_or(self.next_exit);
        let mut coder = ExitCoder::new(first_exit, self.digest);
        let mut records = Vec::with_capacity(all.len());
        let mut keyed = Vec::new();
        for record in all {
            match record {
                Record::Exit(exit) => records.push(Stored::Exit(coder.store(exit))),
                Record::Fault(fault) => records.push(Stored::Fault(fault)),
                Record::World(world) => records.push(Stored::World(world)),
                Record::Keyed(answer) => keyed.push(answer),
            }
        }
        if !keyed.is_empty() {
            let raw = encode(&keyed)?;
            let offset = self.offset;
            self.write_block(BlockKind::Keyed, self.digest.bytes(), self.next_exit, 0, &raw)?;
            self.index.keyed.push(offset);
            if !self.keyed.takes(raw.len() as u64, self.offset - offset - BLOCK_HEADER as u64) {
                let why = "the run reads more blocks of host files with the same content than a log may name";
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, why).into());
            }
        }
        if !records.is_empty() {
            let raw = encode(&records)?;
            let exits = u32::try_from(coder.next() - first_exit).map_err(io::Error::other)?;
            let offset = self.offset;
            self.write_block(BlockKind::Records, self.digest.bytes(), first_exit, exits, &raw)?;
            if exits > 0 {
                self.index.records.push(RecordsEntry { offset, first_exit, exits });
            }
            self.exits += u64::from(exits);
            self.next_exit = coder.next();
            self.digest = coder.digest();
        }
        Ok(())
    }

    /// Writes a content, unless it is in the log already.
    pub fn write_content(&mut self, id: BlobId, content: &[u8]) -> Result<(), Stopped> {
        if self.has_content(id) {
            return Ok(());
        }
        let len = u32::try_from(content.len()).map_err(io::Error::other)?;
        let offset = self.offset;
        self.write_block(BlockKind::Blob, id.0, self.next_exit, 0, content)?;
        self.index.blobs.push(BlobEntry { id, offset, len });
        self.blobs.insert(id);
        self.blob_bytes += u64::from(len);
        Ok(())
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.offset
    }

    /// Number of the first exit, once there is one.
    pub fn first_exit(&self) -> Option<u64> {
        self.index.records.first().map(|entry| entry.first_exit)
    }

    /// Makes sure that what was written is on the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        self.sink.sync()
    }

    /// Whether a content is in the log.
    pub fn has_content(&self, id: BlobId) -> bool {
        self.blobs.contains(&id)
    }

    /// Ends the log; one that is full ends with that.
    pub fn seal(&mut self, end: RunEnd) -> Result<Summary, Stopped> {
        let end = if self.full { RunEnd::log_full() } else { end };
        let index = std::mem::take(&mut self.index);
        // A log of hundreds of gigabytes: its reader scans the headers instead.
        let index = (index.encoded_len() < MAX_BLOCK / 2).then_some(index);
        let raw = encode(&EndBlock { end, exits: self.exits, digest: self.digest, index })?;
        let at = self.offset;
        self.write_block(BlockKind::End, self.digest.bytes(), self.next_exit, 0, &raw)?;
        self.append(&trailer(at))?;
        if let Some(syncer) = self.syncer.take() {
            syncer.finish()?;
        }
        self.sink.sync()?;
        Ok(self.summary())
    }

    pub fn summary(&self) -> Summary {
        Summary {
            exits: self.exits,
            digest: self.digest,
            log_bytes: self.offset,
            blobs: self.blobs.len() as u64,
            blob_bytes: self.blob_bytes,
            full: self.full,
        }
    }

    /// An answer as the log keeps it; its content is written if it is new.
    fn answer(&mut self, response: Response) -> Result<Answer, Stopped> {
        match Long::split(response).map_err(io::Error::other)? {
            Long::Inline(response) => Ok(Answer::Inline(response)),
            Long::Bytes(kind, content) => {
                let id = BlobId::of(&content);
                let len = u32::try_from(content.len()).map_err(io::Error::other)?;
                self.write_content(id, &content)?;
                Ok(Answer::Blob { kind, id, len })
            }
        }
    }

    fn write_block(
        &mut self,
        kind: BlockKind,
        id: [u8; 16],
        first_exit: u64,
        exits: u32,
        raw: &[u8],
    ) -> Result<(), Stopped> {
        if matches!(kind, BlockKind::Records | BlockKind::Keyed) && raw.len() > MAX_RECORDS {
            let why = format!("{} bytes of records are more than one block can hold", raw.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why).into());
        }
        let packed = pack(&mut self.zstd, raw)?;
        let length = (BLOCK_HEADER + packed.bytes.len()) as u64;
        if let Some(limit) = self.limit
            && kind != BlockKind::End
            && self.offset + length + self.end_room() > limit
        {
            self.full = true;
            return Err(Stopped::Full(limit));
        }
        let header = BlockHeader {
            kind,
            compressed: packed.compressed,
            number: self.block,
            raw_len: packed.raw_len,
            stored_len: packed.bytes.len() as u32,
            first_exit,
            exits,
            id,
            checksum: packed.checksum,
        };
        // One write(2) a block: what a kill leaves is whole blocks, nearly always.
        let mut out = Vec::with_capacity(BLOCK_HEADER + packed.bytes.len());
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(&packed.bytes);
        self.append(&out)?;
        self.block += 1;
        Ok(())
    }

    /// Bytes that the end of the log takes at most, when one more block has come.
    fn end_room(&self) -> u64 {
        // One entry of an index is shorter than the room that is there besides.
        (self.index.encoded_len().min(MAX_BLOCK / 2)) as u64 + END_ROOM
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.append(bytes)?;
        self.offset += bytes.len() as u64;
        if let Some(syncer) = &mut self.syncer {
            syncer.grown(self.offset);
        }
        Ok(())
    }
}

fn encode<T: serde::Serialize>(value: &T) -> io::Result<Vec<u8>> {
    codec::encode(value).map_err(io::Error::other)
}
