//! Which input of the queue is changed next, as AFL has it: for each edge the smallest input that takes it is best,
//! inputs that are best for all edges together are favored, and others are mostly passed over.
//!
//! Nothing here looks at the clock, so that the same campaign does the same. LibAFL's own schedulers walk hash maps
//! in an order that differs from process to process, or weigh by the time that a run took.

use std::num::NonZero;

use libafl::Error;
use libafl::HasMetadata;
use libafl::corpus::{Corpus, CorpusId, HasTestcase};
use libafl::feedbacks::MapIndexesMetadata;
use libafl::schedulers::Scheduler;
use libafl::state::{HasCorpus, HasRand};
use libafl_bolts::HasLen;
use libafl_bolts::rands::Rand;

/// AFL's odds, of a hundred, that an input is passed over.
const SKIP_TO_FAVORED: usize = 99;
const SKIP_NEW: usize = 75;
const SKIP_OLD: usize = 95;

const HUNDRED: NonZero<usize> = NonZero::new(100).unwrap();

/// The queue's order.
#[derive(Debug, Default)]
pub struct Schedule {
    /// For each edge the smallest input, with its length.
    best: Vec<Option<(usize, CorpusId)>>,
    /// By the input's number.
    entries: Vec<Entry>,
    /// Favored inputs are to be chosen anew.
    stale: bool,
    /// The number of the input that is looked at next.
    position: usize,
    cycles: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    favored: bool,
    /// How often it was picked.
    picks: u64,
}

impl Schedule {
    /// How often the queue was gone through.
    pub fn cycles(&self) -> u64 {
        self.cycles
    }

    /// How often an input was picked, this time included.
    pub fn picks(&self, id: CorpusId) -> u64 {
        self.entries.get(id.0).map_or(0, |entry| entry.picks)
    }

    /// Whether an input is favored.
    pub fn is_favored(&self, id: CorpusId) -> bool {
        self.entries.get(id.0).is_some_and(|entry| entry.favored)
    }

    /// How many inputs are favored.
    pub fn favored(&self) -> usize {
        self.entries.iter().filter(|entry| entry.favored).count()
    }

    /// How many were not picked yet: all, and those that are favored.
    pub fn pending(&self) -> (usize, usize) {
        let new = || self.entries.iter().filter(|entry| entry.picks == 0);
        (new().count(), new().filter(|entry| entry.favored).count())
    }

    /// Chooses the favored inputs: for each edge in turn that none of them takes the best one.
    fn choose<I, S>(&mut self, state: &S) -> Result<(), Error>
    where
        S: HasCorpus<I> + HasTestcase<I>,
    {
        self.stale = false;
        self.entries.iter_mut().for_each(|entry| entry.favored = false);
        let mut taken = vec![false; self.best.len()];
        for edge in 0..self.best.len() {
            let Some((_, id)) = self.best[edge].filter(|_| !taken[edge]) else { continue };
            self.entries[id.0].favored = true;
            for also in &state.testcase(id)?.metadata::<MapIndexesMetadata>()?.list {
                taken[*also] = true;
            }
        }
        Ok(())
    }

    fn is_passed_over<R: Rand>(&self, entry: Entry, favored_waits: bool, rand: &mut R) -> bool {
        let odds = match (favored_waits, entry.favored, entry.picks) {
            (true, true, 0) | (false, true, _) => return false,
            (true, ..) => SKIP_TO_FAVORED,
            (false, false, 0) => SKIP_NEW,
            (false, false, _) => SKIP_OLD,
        };
        rand.below(HUNDRED) < odds
    }
}

impl<I, S> Scheduler<I, S> for Schedule
where
    I: HasLen,
    S: HasCorpus<I> + HasTestcase<I> + HasRand,
{
    fn on_add(&mut self, state: &mut S, id: CorpusId) -> Result<(), Error> {
        let parent = *state.corpus().current();
        let mut testcase = state.testcase_mut(id)?;
        testcase.set_parent_id_optional(parent);
        let len = testcase.load_len(state.corpus())?;
        self.entries.resize(id.0 + 1, Entry::default());
        let Ok(edges) = testcase.metadata::<MapIndexesMetadata>() else { return Ok(()) };
        for edge in &edges.list {
            if self.best.len() <= *edge {
                self.best.resize(edge + 1, None);
            }
            if self.best[*edge].is_none_or(|(shortest, _)| len < shortest) {
                self.best[*edge] = Some((len, id));
                self.stale = true;
            }
        }
        Ok(())
    }

    fn next(&mut self, state: &mut S) -> Result<CorpusId, Error> {
        if self.entries.is_empty() {
            return Err(Error::empty("no inputs"));
        }
        if self.stale {
            self.choose(state)?;
        }
        let none_favored = self.favored() == 0;
        let favored_waits = self.pending().1 > 0;
        loop {
            if self.position >= self.entries.len() {
                self.position = 0;
                self.cycles += 1;
            }
            let at = self.position;
            self.position += 1;
            let passed = self.is_passed_over(self.entries[at], favored_waits, state.rand_mut());
            if none_favored || !passed {
                self.entries[at].picks += 1;
                Scheduler::<I, S>::set_current_scheduled(self, state, Some(CorpusId(at)))?;
                return Ok(CorpusId(at));
            }
        }
    }

    fn set_current_scheduled(&mut self, state: &mut S, next: Option<CorpusId>) -> Result<(), Error> {
        *state.corpus_mut().current_mut() = next;
        Ok(())
    }
}
