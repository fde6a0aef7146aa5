//! What a content id is computed from.

use crate::ContentId;
use crate::limits::PAGE_SIZE;

/// Keeps these hashes apart from all other uses of BLAKE3.
const CONTEXT: &str = "dejavm snapshot content id, version 1";

// What a page adds: one of these bytes, then for data the page's own hash.
const ZERO: u8 = 0;
const PARENT: u8 = 1;
const DATA: u8 = 2;

/// A content id under computation. The pages come in order, each once.
pub(crate) struct ContentHash(blake3::Hasher);

impl ContentHash {
    /// Starts with everything but the pages.
    pub(crate) fn new(page_count: u64, parent: Option<ContentId>, state: &[u8]) -> Self {
        let parent = parent.map_or([0; 32], |parent| *parent.as_bytes());
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&(PAGE_SIZE as u64).to_le_bytes());
        hasher.update(&page_count.to_le_bytes());
        hasher.update(&parent);
        hasher.update(&(state.len() as u64).to_le_bytes());
        hasher.update(state);
        Self(hasher)
    }

    /// The next page is all zeros.
    pub(crate) fn zero(&mut self) {
        self.0.update(&[ZERO]);
    }

    /// The next page is the parent's.
    pub(crate) fn parent(&mut self) {
        self.0.update(&[PARENT]);
    }

    /// The next page has content with this BLAKE3 hash.
    pub(crate) fn data(&mut self, page: &blake3::Hash) {
        self.0.update(&[DATA]).update(page.as_bytes());
    }

    /// The id.
    pub(crate) fn finish(&self) -> ContentId {
        ContentId::from_bytes(self.0.finalize().into())
    }
}
