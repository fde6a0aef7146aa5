//! Contents and keyed answers.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};

use dejavm_sandbox::world::{BLOCK_SIZE, HostPath, Response};

use super::Recording;
use super::open::Inner;
use super::records::keyed_records;
use crate::error::Error;
use crate::format::budget::KeyedBudget;
use crate::format::header::{BlockHeader, BlockKind};
use crate::format::stored::Long;
use crate::record::{Answer, BlobId, BlobKind, KeyedRecord};

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
    pub(crate) fn keyed(&self) -> Result<Keyed, Error> {
        let mut answers = Keyed::default();
        let mut budget = KeyedBudget::default();
        let mut free_from = 0;
        let file = &self.0.file;
        for &offset in &self.0.index.keyed {
            let header = file.header_at(offset)?;
            if header.kind != BlockKind::Keyed || offset < free_from {
                return Err(file.corrupt(offset, "the index speaks of keyed answers where there are none"));
            }
            free_from = offset + header.block_len();
            if !budget.takes_block(&header) {
                return Err(file.corrupt(offset, "more keyed answers than a log of this length can have"));
            }
            let raw = file.payload(offset, &header)?;
            for record in keyed_records(&raw).map_err(|why| file.corrupt(offset, why))? {
                answers.add(record);
            }
        }
        Ok(answers)
    }
}

/// Keyed answers by their keys; each path is there once.
#[derive(Debug, Default)]
pub(crate) struct Keyed(HashMap<HostPath, BTreeMap<u64, Answer>>);

impl Keyed {
    /// Adds an answer; the first one for a key counts.
    fn add(&mut self, record: KeyedRecord) {
        self.0.entry(record.path).or_default().entry(record.block).or_insert(record.answer);
    }

    /// The answer for a block of a file.
    pub fn get(&self, path: &HostPath, block: u64) -> Option<&Answer> {
        self.0.get(path)?.get(&block)
    }
}

/// Contents that were read before somebody asked for them, the latest last.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    contents: VecDeque<(BlobId, Arc<[u8]>)>,
    bytes: usize,
}

/// Bytes that are kept for whoever asks for them, at most. The content that was read first goes first:
/// it was asked for before it came.
const AHEAD: usize = 8 << 20;

impl Ahead {
    fn push(&mut self, id: BlobId, content: Arc<[u8]>) {
        self.bytes += content.len();
        self.contents.push_back((id, content));
        while self.bytes > AHEAD
            && let Some((_, content)) = self.contents.pop_front()
        {
            self.bytes -= content.len();
        }
    }

    fn take(&mut self, id: BlobId) -> Option<Arc<[u8]>> {
        let at = self.contents.iter().position(|(name, _)| *name == id)?;
        let (_, content) = self.contents.remove(at)?;
        self.bytes -= content.len();
        Some(content)
    }
}

/// What is wrong with an answer whose content is longer or shorter than it says.
const OTHER_LENGTH: &str = "a content of another length than its answer";

impl Inner {
    /// Reads the content at `offset` for whoever asks for it next. What is wrong with it is said to
    /// those who ask.
    pub fn read_ahead(&self, offset: u64, header: &BlockHeader) {
        let id = BlobId(header.id);
        if header.raw_len as usize <= AHEAD
            && self.blobs.get(&id).is_some_and(|entry| entry.offset == offset)
            && let Ok(content) = self.read_blob(id)
        {
            self.ahead().push(id, content);
        }
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn blob(&self, id: BlobId) -> Result<Arc<[u8]>, Error> {
        // Not held while a content is read.
        let ahead = self.ahead().take(id);
        ahead.map_or_else(|| self.read_blob(id), Ok)
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

    /// Checks an answer whose content, if it has one, was checked already.
    pub fn check_answer(
        &self,
        answer: &Answer,
        checked: &mut HashSet<(BlobKind, BlobId)>,
    ) -> Result<(), Error> {
        match answer {
            Answer::Blob { kind, id, len } if checked.contains(&(*kind, *id)) => {
                // What was decoded once is what it says.
                match self.blobs.get(id) {
                    Some(entry) if entry.len == *len => Ok(()),
                    entry => {
                        let offset = entry.map_or(0, |entry| entry.offset);
                        Err(self.file.corrupt(offset, OTHER_LENGTH))
                    }
                }
            }
            Answer::Blob { kind, id, .. } => {
                self.response(answer)?;
                checked.insert((*kind, *id));
                Ok(())
            }
            Answer::Inline(_) => self.response(answer).map(drop),
        }
    }

    fn response(&self, answer: &Answer) -> Result<Response, Error> {
        let response = match answer {
            Answer::Inline(response) => response.clone(),
            Answer::Blob { kind, id, len } => {
                let content = self.blob(*id)?;
                let offset = self.blobs.get(id).map_or(0, |entry| entry.offset);
                if content.len() != *len as usize {
                    return Err(self.file.corrupt(offset, OTHER_LENGTH));
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
