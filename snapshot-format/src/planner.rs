//! Deciding what becomes of each page of a new snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::ContentId;
use crate::content_hash::ContentHash;
use crate::contents::{Content, Hole, PageContents};
use crate::error::{Error, Result};
use crate::info::PageCounts;
use crate::limits::PAGE_SIZE;
use crate::reader::PageReader;
use crate::rounds::ROUND_PAGES;
use crate::snapshot::Snapshot;

/// Pages between two reports of progress.
const PROGRESS_PAGES: u64 = 4096;

/// What becomes of a page. The number is that of a frame, in file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    Zero,
    Parent,
    Frame(u32),
}

/// Pages to be packed.
#[derive(Default)]
pub(crate) struct Round {
    /// The contents, one after the other.
    pub(crate) pages: Vec<u8>,
    /// xxh3-64 of each.
    pub(crate) checksums: Vec<u64>,
}

/// Goes through the pages in order and decides what becomes of each. Only
/// pages with new content are left to be packed.
pub(crate) struct Planner<'a> {
    pages: &'a mut dyn PageContents,
    parent: Option<PageReader>,
    progress: &'a mut dyn FnMut(u64, u64),
    page_count: u64,
    /// What becomes of the pages seen so far.
    plans: Vec<Plan>,
    /// The frames by content. A hash that no one can forge, so that a guest
    /// cannot make two of its pages look like one.
    frames: HashMap<blake3::Hash, u32>,
    hash: ContentHash,
    counts: PageCounts,
}

impl<'a> Planner<'a> {
    /// A planner at the first page.
    pub(crate) fn new(
        pages: &'a mut dyn PageContents,
        parent: Option<Arc<Snapshot>>,
        state: &[u8],
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        let page_count = pages.page_count();
        let parent_id = parent.as_ref().map(|parent| parent.id());
        Ok(Self {
            hash: ContentHash::new(page_count, parent_id, state),
            parent: parent.map(PageReader::new).transpose()?,
            plans: Vec::with_capacity(page_count as usize),
            frames: HashMap::new(),
            counts: PageCounts::default(),
            page_count,
            pages,
            progress,
        })
    }

    /// The next round of pages with new content; empty at the end.
    pub(crate) fn gather(&mut self) -> Result<Round> {
        let mut round = Round::default();
        let mut content = [0; PAGE_SIZE];
        let mut next_data = None;
        while self.next_page() < self.page_count && round.checksums.len() < ROUND_PAGES {
            let page = self.next_page();
            if page.is_multiple_of(PROGRESS_PAGES) {
                (self.progress)(page, self.page_count);
            }
            // A page past the end of the image stands for "no more data".
            let data = match next_data {
                Some(data) if data >= page => data,
                _ => self.find_data(page)?,
            };
            next_data = Some(data);
            if page < data {
                self.plan_hole(page)?;
            } else {
                self.plan_page(page, &mut content, &mut round)?;
            }
        }
        if self.next_page() == self.page_count {
            (self.progress)(self.page_count, self.page_count);
        }
        Ok(round)
    }

    /// The result, once all pages are planned: the content id, the plan of
    /// each page, and the counts of the pages that are not frames.
    pub(crate) fn finish(self) -> (ContentId, Vec<Plan>, PageCounts) {
        (self.hash.finish(), self.plans, self.counts)
    }

    /// The first page not yet planned.
    fn next_page(&self) -> u64 {
        self.plans.len() as u64
    }

    /// The first page at or after `from` that is in no hole.
    fn find_data(&mut self, from: u64) -> Result<u64> {
        let data = self.pages.next_data(from).unwrap_or(self.page_count);
        if data < from {
            return Err(Error::Contents { page: from, source: "the search for data went backwards".into() });
        }
        Ok(data)
    }

    /// Plans a page in a hole.
    fn plan_hole(&mut self, page: u64) -> Result<()> {
        match self.pages.hole() {
            Hole::Zero => self.plan_zero(),
            Hole::Unchanged => self.plan_unchanged(page)?,
        }
        Ok(())
    }

    /// Plans a page outside of holes.
    fn plan_page(&mut self, page: u64, content: &mut [u8; PAGE_SIZE], round: &mut Round) -> Result<()> {
        let kind = self.pages.page(page, content).map_err(|source| Error::Contents { page, source })?;
        match kind {
            Content::Zero => self.plan_zero(),
            Content::Unchanged => self.plan_unchanged(page)?,
            Content::Data if content == &[0; PAGE_SIZE] => self.plan_zero(),
            Content::Data => {
                let checksum = xxh3_64(content);
                if self.is_parents(page, content, checksum)? {
                    self.plan_parent();
                } else {
                    self.plan_data(content, checksum, round);
                }
            }
        }
        Ok(())
    }

    fn plan_zero(&mut self) {
        self.plans.push(Plan::Zero);
        self.hash.zero();
        self.counts.zero += 1;
    }

    fn plan_parent(&mut self) {
        self.plans.push(Plan::Parent);
        self.hash.parent();
        self.counts.parent += 1;
    }

    /// Plans a page that is the same as in the parent. One that is zero there
    /// becomes zero here, however the caller put it: reading it is faster, and
    /// the content id must not depend on how it was put.
    fn plan_unchanged(&mut self, page: u64) -> Result<()> {
        let Some(parent) = &mut self.parent else {
            return Err(Error::UnchangedWithoutParent { page });
        };
        // Behind the parent's last page there are zeros.
        match page < parent.snapshot().page_count() && parent.resolve(page)?.is_some() {
            false => self.plan_zero(),
            true => self.plan_parent(),
        }
        Ok(())
    }

    /// Plans a page with content that is not zero and not the parent's.
    fn plan_data(&mut self, content: &[u8; PAGE_SIZE], checksum: u64, round: &mut Round) {
        let hash = blake3::hash(content);
        self.hash.data(&hash);
        // Fits: there are at most `MAX_PAGES` frames.
        let new_frame = self.frames.len() as u32;
        let frame = *self.frames.entry(hash).or_insert(new_frame);
        self.plans.push(Plan::Frame(frame));
        if frame == new_frame {
            round.pages.extend_from_slice(content);
            round.checksums.push(checksum);
        } else {
            self.counts.repeated += 1;
        }
    }

    /// Whether the parent has the same content for the page. The checksums
    /// settle most cases; equal ones are not proof.
    fn is_parents(&mut self, page: u64, content: &[u8; PAGE_SIZE], checksum: u64) -> Result<bool> {
        let Some(parent) = &mut self.parent else {
            return Ok(false);
        };
        if page >= parent.snapshot().page_count() {
            return Ok(false);
        }
        match parent.resolve(page)? {
            Some((_, stored)) if stored.checksum == checksum => {}
            _ => return Ok(false),
        }
        let mut parents = [0; PAGE_SIZE];
        parent.read(page, &mut parents)?;
        Ok(content == &parents)
    }
}
