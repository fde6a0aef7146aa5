//! Which pages were written between checkpoints of long stretches: a search for the last change goes past those
//! between which none of its own was.

use std::collections::BTreeSet;
use std::ops::Range;

use dejavm_sandbox::machine::RunError;
use dejavm_sandbox::program::machine::Calls;
use dejavm_sandbox::ram::PAGE_SIZE;

use super::place::Place;
use super::runner::Runner;
use super::{Position, Stops, Timeline, TimelineError};

/// What was written on the way to a checkpoint.
#[derive(Debug)]
pub(super) struct Since {
    /// From here on.
    pub from: Position,
    /// Pages of guest RAM.
    pub pages: BTreeSet<u64>,
}

impl Since {
    /// Bytes that it takes, about.
    pub fn bytes(&self) -> u64 {
        /// Of a number in a tree.
        const ENTRY: u64 = 16;
        self.pages.len() as u64 * ENTRY
    }
}

impl Runner {
    /// What was written since a position in this stretch, if that is known. What is written from this one on is
    /// logged, if there is more of the stretch to come.
    pub fn written_since(&mut self, here: Position, goes_on: bool) -> Result<Option<Since>, TimelineError> {
        let from = self.logged.take();
        let Some(program) = self.machine().program() else { return Ok(None) };
        let ram = &program.kernel.memory.ram;
        let pages = ram.take_written().map_err(RunError::from)?;
        ram.log_written(goes_on).map_err(RunError::from)?;
        self.logged = goes_on.then_some(here);
        Ok(from.filter(|from| from.exit == here.exit && *from < here).map(|from| Since { from, pages }))
    }

    /// Logs no more of that.
    pub fn log_nothing(&mut self) -> Result<(), TimelineError> {
        if self.logged.take().is_some()
            && let Some(program) = self.machine().program()
        {
            program.kernel.memory.ram.log_written(false).map_err(RunError::from)?;
        }
        Ok(())
    }

    /// The pages of guest RAM in which these addresses of a process are, if it runs and has them all.
    fn pages_of(&self, process: u32, addresses: &Range<u64>) -> Option<BTreeSet<u64>> {
        let program = self.machine().program().filter(|program| program.kernel.pid() == process)?;
        let page = PAGE_SIZE as u64;
        let pages = addresses.start / page..=addresses.end.checked_sub(1)? / page;
        pages.map(|at| program.kernel.space.walk(&program.kernel.memory, at * page)).collect()
    }
}

impl Timeline {
    /// The earliest checkpoint from which on none of the pages that are watched was written until a place, or that place.
    /// Where other stops are looked for, it is that place.
    pub(super) fn unwritten_since(&mut self, until: &Place, stops: &Stops) -> Result<Place, TimelineError> {
        let only_writes =
            stops.breakpoints.is_empty() && stops.accesses.is_empty() && stops.calls == Calls::None;
        let mut until = until.clone();
        while only_writes && until.hops.is_empty() && self.checkpoints.since(until.base).is_some() {
            if self.stop.is_stopped() {
                return Err(TimelineError::Interrupted);
            }
            // What lies where may change on the way, too: a page that is shared gets a copy when it is written to.
            self.go(&until)?;
            let pages = |watched| self.runner.pages_of(stops.process, watched);
            let Some(watched) = stops.writes.iter().map(pages).collect::<Option<Vec<_>>>() else { break };
            // At an exit signals may be delivered.
            let since = self.checkpoints.since(until.base).filter(|since| since.from.branches > 0);
            let Some(since) =
                since.filter(|since| watched.iter().all(|pages| since.pages.is_disjoint(pages)))
            else {
                break;
            };
            until = since.from.into();
        }
        Ok(until)
    }
}
