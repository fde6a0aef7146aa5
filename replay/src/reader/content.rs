//! Contents and keyed answers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};

use dejavm_sandbox::world::{BLOCK_SIZE, HostPath, Response};

use super::Recording;
use super::open::Inner;
use super::records::keyed_records;
use crate::error::Error;
use crate::format::header::{BlockHeader, BlockKind};
use crate::format::stored::Long;
use crate::record::{Answer, BlobId};

impl Recording {
    /// The content named `id`.
    ///
    /// # Errors
    /// [`Error::MissingBlob`], or what is wrong with the log.
    pub fn blob(&self, id: BlobId) -> Result<Arc<[u8]>, Error> {
        self.0.blob(id)
    }

    /// The answer itself.
    ///
    /// # Errors
    /// As [`Recording::blob`].
    pub fn response(&self, answer: &Answer) -> Result<Response, Error> {
        self.0.response(answer)
    }

    /// All keyed answers.
    pub(crate) fn keyed(&self) -> Result<HashMap<(HostPath, u64), Answer>, Error> {
        let mut answers = HashMap::new();
        let file = &self.0.file;
        for &offset in &self.0.index.keyed {
            let header = file.header_at(offset)?;
            if header.kind != BlockKind::Keyed {
                return Err(file.corrupt(offset, "the index speaks of keyed answers where there are none"));
            }
            let raw = file.payload(offset, &header)?;
            for record in keyed_records(&raw).map_err(|why| file.corrupt(offset, why))? {
                answers.entry((record.path, record.block)).or_insert(record.answer);
            }
        }
        Ok(answers)
    }
}

/// Contents that were read before somebody asked for them, the latest last.
pub(super) type Ahead = VecDeque<(BlobId, Arc<[u8]>)>;

/// Contents that are kept for whoever asks for them, at most. The one that was read first goes first:
/// it was asked for before it came.
const AHEAD: usize = 128;

impl Inner {
    /// Reads the content at `offset` for whoever asks for it next. What is wrong with it is said to
    /// those who ask.
    pub fn read_ahead(&self, offset: u64, header: &BlockHeader) {
        let id = BlobId(header.id);
        if self.blobs.get(&id).is_some_and(|entry| entry.offset == offset)
            && let Ok(content) = self.read_blob(id)
        {
            let mut ahead = self.ahead();
            ahead.push_back((id, content));
            if ahead.len() > AHEAD {
                ahead.pop_front();
            }
        }
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn blob(&self, id: BlobId) -> Result<Arc<[u8]>, Error> {
        let mut ahead = self.ahead();
        let at = ahead.iter().position(|(name, _)| *name == id);
        match at.and_then(|at| ahead.remove(at)) {
            Some((_, content)) => Ok(content),
            None => {
                drop(ahead);
                self.read_blob(id)
            }
        }
    }

    fn read_blob(&self, id: BlobId) -> Result<Arc<[u8]>, Error> {
        let missing = || Error::MissingBlob { path: self.file.path.clone(), id };
        let entry = self.blobs.get(&id).ok_or_else(missing)?;
        let header = self.file.header_at(entry.offset)?;
        if header.kind != BlockKind::Blob || header.id != id.0 || header.raw_len != entry.len {
            return Err(self.file.corrupt(entry.offset, "the index speaks of a content that is not there"));
        }
        let content = self.file.payload(entry.offset, &header)?;
        if BlobId::of(&content) != id {
            return Err(self.file.corrupt(entry.offset, "the content is not what its name says"));
        }
        Ok(content)
    }

    /// The names of all contents.
    pub fn blob_ids(&self) -> impl Iterator<Item = BlobId> {
        self.blobs.keys().copied()
    }

    fn response(&self, answer: &Answer) -> Result<Response, Error> {
        let response = match answer {
            Answer::Inline(response) => response.clone(),
            Answer::Blob { kind, id, len } => {
                let content = self.blob(*id)?;
                let offset = self.blobs.get(id).map_or(0, |entry| entry.offset);
                if content.len() != *len as usize {
                    return Err(self.file.corrupt(offset, "a content of another length than its answer"));
                }
                Long::join(*kind, content).map_err(|why| self.file.corrupt(offset, why))?
            }
        };
        match &response {
            Response::Block(Ok(bytes)) if bytes.len() > BLOCK_SIZE => {
                Err(self.file.corrupt(0, "a block of a file that is longer than blocks are"))
            }
            _ => Ok(response),
        }
    }
}
