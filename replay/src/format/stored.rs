//! What the payloads encode.
//!
//! Exits are stored without their number, which follows from the block's header, and with the
//! clock as a difference: what is the same from exit to exit then looks the same to zstd.

use std::sync::Arc;

use dejavm_sandbox::exit::{Exit, ExitKind, Fault};
use dejavm_sandbox::world::Response;
use serde::{Deserialize, Serialize};

use crate::digest::RunDigest;
use crate::manifest::RunEnd;
use crate::record::{BlobId, BlobKind, Record, WorldRecord};

/// An entry of a records block.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Stored {
    Exit(StoredExit),
    Fault(Fault),
    World(WorldRecord),
}

/// An exit without what its place says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredExit {
    task: u32,
    kind: ExitKind,
    rip: u64,
    result: u64,
    effects: u64,
    /// The clock minus that of the exit before it in the block (0 before the first), wrapping.
    clock_delta: u64,
}

/// Turns exits into their stored form, and back: the state that runs through one block.
pub(crate) struct ExitCoder {
    next: u64,
    clock: u64,
    digest: RunDigest,
}

impl ExitCoder {
    /// At a block's start: the number of its first exit, and the digest of all before it.
    pub fn new(first_exit: u64, digest: RunDigest) -> ExitCoder {
        ExitCoder { next: first_exit, clock: 0, digest }
    }

    /// The digest of all exits so far.
    pub fn digest(&self) -> RunDigest {
        self.digest
    }

    /// The number of the next exit.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Stores an exit; its number must be [`ExitCoder::next`].
    pub fn store(&mut self, exit: Exit) -> StoredExit {
        self.digest.add(&exit);
        self.next = exit.number.wrapping_add(1);
        let clock_delta = exit.clock.wrapping_sub(self.clock);
        self.clock = exit.clock;
        let Exit { task, kind, rip, result, effects, .. } = exit;
        StoredExit { task, kind, rip, result, effects, clock_delta }
    }

    /// The exit that was stored.
    pub fn load(&mut self, stored: StoredExit) -> Exit {
        self.clock = self.clock.wrapping_add(stored.clock_delta);
        let StoredExit { task, kind, rip, result, effects, .. } = stored;
        let exit = Exit { number: self.next, task, kind, rip, result, effects, clock: self.clock };
        self.digest.add(&exit);
        self.next = self.next.wrapping_add(1);
        exit
    }

    /// The record that was stored.
    pub fn load_record(&mut self, stored: Stored) -> Record {
        match stored {
            Stored::Exit(exit) => Record::Exit(self.load(exit)),
            Stored::Fault(fault) => Record::Fault(fault),
            Stored::World(world) => Record::World(world),
        }
    }
}

/// The payload of the end block.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndBlock {
    pub end: RunEnd,
    /// Number of compared exits in the log.
    pub exits: u64,
    /// Digest of all of them.
    pub digest: RunDigest,
    /// Left out when it would not fit into a block.
    pub index: Option<Index>,
}

/// Where things are in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// The records blocks that have exits, ascending.
    pub records: Vec<RecordsEntry>,
    /// The contents.
    pub blobs: Vec<BlobEntry>,
    /// Offsets of the keyed blocks, ascending.
    pub keyed: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordsEntry {
    pub offset: u64,
    pub first_exit: u64,
    pub exits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobEntry {
    pub id: BlobId,
    pub offset: u64,
    pub len: u32,
}

impl Index {
    /// Bytes that it takes in an end block, at most.
    pub fn encoded_len(&self) -> usize {
        64 + self.records.len() * 20 + self.blobs.len() * 28 + self.keyed.len() * 8
    }
}

/// The part of an answer that may be long: what a blob would hold, and what it would be.
pub(crate) enum Long {
    Bytes(BlobKind, Arc<[u8]>),
    /// Not long: keep it in the record.
    Inline(Response),
}

impl Long {
    /// Splits an answer.
    ///
    /// # Errors
    /// When a directory's entries cannot be encoded.
    pub fn split(response: Response) -> Result<Long, String> {
        let long = |bytes: &[u8]| bytes.len() > super::INLINE_LIMIT;
        Ok(match response {
            Response::Input(Ok(bytes)) if long(&bytes) => Long::Bytes(BlobKind::Input, bytes.into()),
            Response::Link(Ok(bytes)) if long(&bytes) => Long::Bytes(BlobKind::Link, bytes.into()),
            Response::Block(Ok(bytes)) if long(&bytes) => Long::Bytes(BlobKind::Block, bytes),
            Response::Dir(Ok(entries)) => {
                let bytes = crate::codec::encode(&entries).map_err(|e| e.to_string())?;
                if long(&bytes) {
                    Long::Bytes(BlobKind::Dir, bytes.into())
                } else {
                    Long::Inline(Response::Dir(Ok(entries)))
                }
            }
            other => Long::Inline(other),
        })
    }

    /// Puts an answer together again from a blob's content.
    ///
    /// # Errors
    /// When a directory's content is not what [`Long::split`] makes.
    pub fn join(kind: BlobKind, content: Arc<[u8]>) -> Result<Response, String> {
        Ok(match kind {
            BlobKind::Input => Response::Input(Ok(content.to_vec())),
            BlobKind::Link => Response::Link(Ok(content.to_vec())),
            BlobKind::Block => Response::Block(Ok(content)),
            BlobKind::Dir => Response::Dir(Ok(crate::codec::decode(&content).map_err(|e| e.to_string())?)),
        })
    }
}
