//! Reading blocks out of a file, at places that nobody vouches for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dejavm_snapshot::{Place, Span};
use zstd::bulk::Decompressor;

use crate::error::Error;
use crate::format::block::{unpack, zeros};
use crate::format::header::{BLOCK_HEADER, BlockHeader};

/// A log's bytes: a file, or a part of one.
#[derive(Debug)]
pub(super) struct LogFile {
    pub path: PathBuf,
    bytes: Span,
    /// Its length when it was opened, bytes. It may grow under a living recorder; what comes later
    /// is not looked at.
    pub len: u64,
    /// Decompressors that nobody uses just now: one for each thread that reads.
    zstd: Mutex<Vec<Spare>>,
}

/// A decompressor, which has nothing to show.
struct Spare(Decompressor<'static>);

impl std::fmt::Debug for Spare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decompressor")
    }
}

/// What stands at some place of a log.
pub(super) enum Found {
    /// A whole block.
    Block(BlockHeader),
    /// The end of the file, before the block's end.
    Torn,
    /// Something else.
    Bad(String),
}

impl LogFile {
    pub fn open(place: &Place) -> Result<LogFile, Error> {
        let path = place.path().to_owned();
        let bytes = place.open().map_err(|e| Error::io("open", &path, e))?;
        let len = bytes.length();
        Ok(LogFile { path, bytes, len, zstd: Mutex::default() })
    }

    /// The `N` bytes at `offset`; `None` when the file ends before.
    pub fn array_at<const N: usize>(&self, offset: u64) -> Result<Option<[u8; N]>, Error> {
        if offset.checked_add(N as u64).is_none_or(|end| end > self.len) {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.read(&mut bytes, offset)?;
        Ok(Some(bytes))
    }

    /// What stands at `offset`.
    pub fn block_at(&self, offset: u64) -> Result<Found, Error> {
        let Some(bytes) = self.array_at::<BLOCK_HEADER>(offset)? else {
            return Ok(Found::Torn);
        };
        Ok(match BlockHeader::parse(&bytes) {
            Err(why) => Found::Bad(why.into()),
            // No overflow: a header at `offset` was inside the file, and its length is limited.
            Ok(header) if offset + header.block_len() > self.len => Found::Torn,
            Ok(header) => Found::Block(header),
        })
    }

    /// The header of the block that must stand at `offset`.
    pub fn header_at(&self, offset: u64) -> Result<BlockHeader, Error> {
        match self.block_at(offset)? {
            Found::Block(header) => Ok(header),
            Found::Torn => Err(self.corrupt(offset, "the file ends within a block")),
            Found::Bad(why) => Err(self.corrupt(offset, why)),
        }
    }

    /// The checked, uncompressed payload of the block at `offset`, whose header was read.
    pub fn payload(&self, offset: u64, header: &BlockHeader) -> Result<Arc<[u8]>, Error> {
        let mut stored = zeros(header.stored_len as usize);
        let out = Arc::get_mut(&mut stored).expect("nobody else has it yet");
        self.read(out, offset + BLOCK_HEADER as u64)?;
        let spare = self.zstd().pop();
        let mut zstd = match spare {
            Some(zstd) => zstd,
            None => Spare(Decompressor::new().map_err(|e| Error::io("decompress", &self.path, e))?),
        };
        let payload = unpack(&mut zstd.0, header, stored).map_err(|why| self.corrupt(offset, why));
        self.zstd().push(zstd);
        payload
    }

    fn zstd(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.zstd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn corrupt(&self, offset: u64, why: impl Into<String>) -> Error {
        Error::corrupt(&self.path, offset, why)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        self.bytes.read_exact_at(bytes, offset).map_err(|e| Error::io("read", &self.path, e))
    }
}
