//! The records of a log, one after another.

use std::path::Path;
use std::sync::Arc;

use dejavm_sandbox::exit::Exit;

use super::Ending;
use super::open::Inner;
use crate::codec;
use crate::digest::RunDigest;
use crate::error::Error;
use crate::format::ends::FILE_HEADER;
use crate::format::header::{BlockHeader, BlockKind};
use crate::format::stored::{ExitCoder, RecordsEntry, Stored};
use crate::record::{KeyedRecord, Record};

/// Reads the records of a log in order; holds one block in memory. After an error there is nothing
/// more.
#[derive(Debug)]
pub struct Records {
    inner: Arc<Inner>,
    /// Where the next block is.
    offset: u64,
    /// Its number, unless that of the first block after a seek.
    number: Option<u64>,
    /// Number of the next exit and digest of those before; unknown right after a seek.
    run: Option<(u64, RunDigest)>,
    /// After a seek: what the index says of the next block.
    expect: Option<RecordsEntry>,
    block: std::vec::IntoIter<Record>,
    /// Records up to and with this exit are passed over; 0 for none.
    skip: u64,
    /// Reads the contents between the records, too, for whoever asks for them later.
    contents_too: bool,
    /// Bytes of the block that was read last, uncompressed.
    block_bytes: usize,
    done: bool,
}

impl Records {
    pub(super) fn from_start(inner: Arc<Inner>) -> Records {
        Records {
            inner,
            offset: FILE_HEADER as u64,
            number: Some(0),
            run: Some((0, RunDigest::new())),
            expect: None,
            block: Vec::new().into_iter(),
            skip: 0,
            contents_too: false,
            block_bytes: 0,
            done: false,
        }
    }

    pub(super) fn from_exit(inner: Arc<Inner>, exit: u64) -> Records {
        let before = exit.saturating_sub(1);
        let blocks = &inner.index.records;
        // The last block that starts at or before the exit to go behind.
        let Some(at) = blocks.partition_point(|entry| entry.first_exit <= before).checked_sub(1) else {
            return Records::from_start(inner);
        };
        let entry = blocks[at];
        let past = before - entry.first_exit >= u64::from(entry.exits);
        Records {
            offset: entry.offset,
            number: None,
            run: None,
            expect: Some(entry),
            skip: before,
            done: past,
            ..Records::from_start(inner)
        }
    }

    /// Reads the contents between the records, too, so that a replay which asks for them later
    /// need not wait.
    pub(crate) fn with_contents(mut self) -> Records {
        self.contents_too = true;
        self
    }

    /// Reads the next block; `false` at the log's end.
    fn load(&mut self) -> Result<bool, Error> {
        let inner = self.inner.clone();
        let offset = self.offset;
        let bad = |why: String| inner.file.corrupt(offset, why);
        if offset >= inner.stop {
            return match &inner.ending {
                Ending::Damaged { why, .. } => Err(bad(why.clone())),
                Ending::Sealed { digest, .. } if self.run.is_some_and(|(_, d)| d != *digest) => {
                    Err(bad("the exits are not those that the end of the log speaks of".into()))
                }
                _ => Ok(false),
            };
        }
        let header = inner.file.header_at(offset)?;
        self.offset += header.block_len();
        if self.offset > inner.stop {
            return Err(bad("a block reaches beyond the end of the log".into()));
        }
        if let Some(entry) = self.expect.take()
            && (header.kind, header.first_exit, header.exits)
                != (BlockKind::Records, entry.first_exit, entry.exits)
        {
            return Err(bad("the index speaks of exits that are not there".into()));
        }
        if let Some(due) = self.number
            && header.number != due
        {
            return Err(bad(format!("block {} stands where block {due} is due", header.number)));
        }
        self.block_bytes = header.raw_len as usize;
        // Limited by the length of the file.
        self.number = Some(header.number.wrapping_add(1));
        match header.kind {
            BlockKind::Blob if self.contents_too => inner.read_ahead(offset, &header),
            BlockKind::Blob => {}
            BlockKind::Keyed => {
                let raw = inner.file.payload(offset, &header)?;
                let keyed = keyed_records(&raw).map_err(bad)?;
                self.block = keyed.into_iter().map(Record::Keyed).collect::<Vec<_>>().into_iter();
            }
            BlockKind::Records => {
                let raw = inner.file.payload(offset, &header)?;
                self.block = self.decode(&header, &raw).map_err(bad)?.into_iter();
            }
            BlockKind::End => return Err(bad("an end block before the end".into())),
        }
        Ok(true)
    }

    fn decode(&mut self, header: &BlockHeader, raw: &[u8]) -> Result<Vec<Record>, String> {
        let before = RunDigest::from_bytes(header.id);
        if let Some((next, digest)) = self.run {
            if digest != before {
                return Err("the exits before this block are not those that it follows".into());
            }
            if next != 0 && header.first_exit != next {
                return Err(format!("exit {} comes where exit {next} is due", header.first_exit));
            }
        }
        if header.exits > 0 && header.first_exit == 0 {
            return Err("there is no exit 0".into());
        }
        let stored: Vec<Stored> = codec::decode(raw).map_err(|e| e.to_string())?;
        let mut coder = ExitCoder::new(header.first_exit, before);
        let mut exits = 0;
        let mut records = Vec::with_capacity(stored.len());
        for entry in stored {
            match &entry {
                Stored::World(world) if world.asked.name() != world.answer.name() => {
                    return Err(format!(
                        "an answer to {} that is one to {}",
                        world.asked.name(),
                        world.answer.name()
                    ));
                }
                Stored::Exit(_) => exits += 1,
                _ => {}
            }
            records.push(coder.load_record(entry));
        }
        if exits != u64::from(header.exits) {
            return Err(format!("{exits} exits in a block of {}", header.exits));
        }
        self.run = Some((coder.next(), coder.digest()));
        Ok(records)
    }
}

/// Decodes the payload of a keyed block.
pub(super) fn keyed_records(raw: &[u8]) -> Result<Vec<KeyedRecord>, String> {
    let records: Vec<KeyedRecord> = codec::decode(raw).map_err(|e| e.to_string())?;
    match records.iter().find(|record| record.answer.name() != "read-block") {
        Some(record) => Err(format!("an answer to read-block that is one to {}", record.answer.name())),
        None => Ok(records),
    }
}

impl Records {
    /// The log's path.
    pub(crate) fn path(&self) -> &Path {
        &self.inner.file.path
    }

    /// Bytes of the block that the last chunk was of, uncompressed.
    pub(crate) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// How far it has read: bytes of the log, and how many of them there are to read.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.offset, self.inner.stop)
    }

    /// What is left of the block that is being read, or the next one that has records.
    pub(crate) fn chunk(&mut self) -> Option<Result<Vec<Record>, Error>> {
        while !self.done {
            let mut block = std::mem::take(&mut self.block);
            if self.skip > 0 {
                let skip = self.skip;
                if block.any(|record| matches!(record, Record::Exit(exit) if exit.number >= skip)) {
                    self.skip = 0;
                }
            }
            if block.len() > 0 {
                return Some(Ok(block.collect()));
            }
            match self.load() {
                Ok(more) => self.done = !more,
                Err(e) => {
                    self.done = true;
                    return Some(Err(e));
                }
            }
        }
        None
    }
}

impl Iterator for Records {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.skip == 0
                && let Some(record) = self.block.next()
            {
                return Some(Ok(record));
            }
            match self.chunk()? {
                Ok(chunk) => self.block = chunk.into_iter(),
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// Reads the compared exits of a log in order.
#[derive(Debug)]
pub struct Exits(Records);

impl Exits {
    pub(super) fn new(records: Records) -> Exits {
        Exits(records)
    }
}

impl Iterator for Exits {
    type Item = Result<Exit, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.find_map(|record| match record {
            Ok(Record::Exit(exit)) => Some(Ok(exit)),
            Ok(_) => None,
            Err(e) => Some(Err(e)),
        })
    }
}
