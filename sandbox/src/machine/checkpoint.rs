//! Pages kept in memory: what a checkpoint has of a machine's memory.
//!
//! A page's content is kept once, however many checkpoints have it: each is compared with the one before.
//! Pages that were not in memory stay where they are, below.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::exit::SourceKind;
use crate::ram::{PAGE_SIZE, Page, PageError, PageSource, PageState, Ram, Was};

/// The memory of a machine at one moment.
#[derive(Debug, Default)]
pub struct CheckpointPages {
    /// What pages hold that are not zeros.
    pages: HashMap<u64, Arc<Page>>,
    /// Pages that nobody had asked for yet: what lies below says what they hold. Runs, ascending.
    below: Vec<Range<u64>>,
    /// Pages that the checkpoint before did not have so.
    own: usize,
}

impl CheckpointPages {
    /// Keeps the first `pages` pages of `ram` as they are. `last` is what the machine's memory came from, or
    /// the last that was kept of it. Of pages that are not in memory, those that are `elsewhere` are left out.
    ///
    /// # Errors
    /// When a page cannot be read.
    pub(crate) fn of(
        ram: &Ram,
        pages: u64,
        last: Option<&CheckpointPages>,
        elsewhere: impl Fn(u64) -> bool,
    ) -> Result<CheckpointPages, PageError> {
        let mut kept = CheckpointPages::default();
        let mut content = [0; PAGE_SIZE];
        for (page, state) in ram.contents(0..pages)? {
            let before = last.and_then(|last| last.pages.get(&page));
            if matches!(state, PageState::Fresh | PageState::Absent) {
                if elsewhere(page) {
                    continue;
                }
                match before {
                    Some(before) => drop(kept.pages.insert(page, before.clone())),
                    None if last.is_none_or(|last| last.is_below(page)) => kept.leave_below(page),
                    None => {}
                }
                continue;
            }
            ram.peek(page, &mut content)?;
            match before {
                Some(before) if **before == content => drop(kept.pages.insert(page, before.clone())),
                _ if content == [0; PAGE_SIZE] => {}
                _ => {
                    kept.own += 1;
                    kept.pages.insert(page, Arc::new(content));
                }
            }
        }
        Ok(kept)
    }

    fn leave_below(&mut self, page: u64) {
        match self.below.last_mut() {
            Some(run) if run.end == page => run.end += 1,
            _ => self.below.push(page..page + 1),
        }
    }

    fn is_below(&self, page: u64) -> bool {
        let at = self.below.partition_point(|run| run.end <= page);
        self.below.get(at).is_some_and(|run| run.contains(&page))
    }

    /// What a page was.
    pub(crate) fn was(&self, page: u64) -> Was {
        match self.pages.get(&page) {
            Some(content) => Was::Content(content.clone()),
            None if self.is_below(page) => Was::InSource,
            None => Was::Zeros,
        }
    }

    /// Bytes that it takes, about: of pages, those that the checkpoint before did not have.
    pub fn own_bytes(&self) -> u64 {
        /// Of a page's number and where it is.
        const ENTRY: usize = 24;
        (self.own * PAGE_SIZE + self.pages.len() * ENTRY) as u64
    }
}

/// Kept pages, and what lies below them, as a source of guest memory.
pub(crate) struct CheckpointSource {
    pub pages: Arc<CheckpointPages>,
    pub below: Option<Arc<dyn PageSource>>,
}

impl CheckpointSource {
    /// What lies below a page, if that says what it holds.
    fn below(&self, page: u64) -> Option<&dyn PageSource> {
        self.below.as_deref().filter(|_| self.pages.is_below(page))
    }
}

impl PageSource for CheckpointSource {
    fn has_content(&self, page: u64) -> Result<bool, PageError> {
        match self.below(page) {
            _ if self.pages.pages.contains_key(&page) => Ok(true),
            Some(below) => below.has_content(page),
            None => Ok(false),
        }
    }

    fn comes_alone(&self, page: u64) -> Result<bool, PageError> {
        Ok(self.pages.pages.contains_key(&page))
    }

    fn fetch(&self, first: u64, out: &mut [u8]) -> Result<SourceKind, PageError> {
        let mut kind = SourceKind::Zero;
        for (page, out) in (first..).zip(out.as_chunks_mut::<PAGE_SIZE>().0) {
            match (self.pages.pages.get(&page), self.below(page)) {
                (Some(content), _) => {
                    out.copy_from_slice(&content[..]);
                    kind = SourceKind::Snapshot;
                }
                (None, Some(below)) => kind = below.fetch(page, out)?,
                (None, None) => out.fill(0),
            }
        }
        Ok(kind)
    }
}
