//! What is done between runs: whether it goes on, how far it is, and AFL++'s files.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::progress::Event;
use super::{Campaign, Error, Plan};

/// How often AFL++'s files are written.
const WRITE: Duration = Duration::from_secs(5);
/// How many runs are made between two looks at what is to be said.
const LOOK: u64 = 64;
/// Over a shorter time a rate says nothing.
const SHORT: Duration = Duration::from_millis(500);

impl Campaign {
    /// Why the campaign ends here, if it does.
    pub(super) fn reason_to_end(&self) -> Option<&'static str> {
        if self.plan.stop.load(Ordering::Relaxed) {
            return Some("by a signal");
        }
        if self.plan.max_runs.is_some_and(|most| self.engine.runs() >= most) {
            return Some("--runs is reached");
        }
        if self.plan.until_crash && self.figures.last_crash.is_some() {
            return Some("a crash was found (--until-crash)");
        }
        let late = self.plan.max_time.is_some_and(|most| self.began.elapsed() >= most);
        late.then_some("--max-total-time is over")
    }

    /// When something was found, for its name.
    pub(super) fn moment(&self) -> String {
        let runs = self.engine.runs();
        match self.plan.deterministic {
            true => format!("execs:{runs},"),
            false => format!("time:{},execs:{runs},", self.began.elapsed().as_millis()),
        }
    }

    /// Says how far it is, and writes it, if it is time for that.
    pub(super) fn tick(&mut self) -> Result<(), Error> {
        match &self.written {
            Some((at, _)) if at.elapsed() < WRITE => {}
            _ => self.write()?,
        }
        // The clock is cheap, counting is not.
        if self.engine.runs().is_multiple_of(LOOK) {
            self.count();
            if self.voice.is_due() {
                self.voice.say(&Event::Status(self.figures.progress()));
            }
        }
        Ok(())
    }

    /// Brings the figures up to date.
    pub(super) fn count(&mut self) {
        let schedule = self.engine.schedule();
        self.figures.cycles_without = schedule.cycles() - self.cycles_at_find;
        (self.figures.pending, self.figures.pending_favored) = schedule.pending();
        (self.figures.favored, self.figures.cycles) = (schedule.favored(), schedule.cycles());
        self.figures.elapsed = self.began.elapsed();
        self.figures.runs = self.engine.runs();
        self.figures.inputs = self.engine.inputs();
        self.figures.edges = self.engine.edges();
        self.figures.starts = self.engine.ready().starts();
        let (since, runs) = self.written.map_or((self.figures.elapsed, 0), |(at, runs)| (at.elapsed(), runs));
        if since > SHORT {
            self.figures.rate = (self.figures.runs - runs) as f64 / since.as_secs_f64();
        }
    }

    /// Writes AFL++'s files.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        self.count();
        let Plan { target, banner, command_line, .. } = &self.plan;
        self.output.write_stats(&self.figures.stats(target.timeout(), banner, command_line))?;
        self.output.plot(&self.figures.plot())?;
        if self.engine.ready().edges_are_full() && !self.full_told {
            self.full_told = true;
            self.voice
                .note("there are more edges than can be counted: name the files that matter by --cover");
        }
        self.written = Some((Instant::now(), self.engine.runs()));
        Ok(())
    }
}
