//! A program that is about to get its input, again and again.

use dejavm::{Death, Host, Outcome};
use libafl::executors::ExitKind;

use crate::lines::{self, Lines};
use crate::numbers::Numbers;
use crate::paused::Paused;
use crate::words::words;
use crate::{Error, Target};

/// What the sandbox ends a program with that can be given no more memory.
const SIGKILL: u32 = 9;

/// What came of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ran {
    /// How it ended; paused if it was a function that returned, or if it came to where runs are over.
    pub outcome: Outcome,
    /// What the program died of, when a signal ended it.
    pub death: Option<Death>,
    /// Whether it was ended for the memory that it wanted.
    pub out_of_memory: bool,
}

impl Ran {
    /// What this is for a fuzzer: a signal is a crash, and what comes to no end a hang.
    pub fn kind(&self) -> ExitKind {
        match self.outcome {
            Outcome::Signalled(_) if self.out_of_memory => ExitKind::Oom,
            Outcome::Signalled(_) => ExitKind::Crash,
            Outcome::Deadline | Outcome::Stuck => ExitKind::Timeout,
            _ => ExitKind::Ok,
        }
    }
}

/// A program that is about to get its input. Each run begins there.
pub struct Ready {
    target: Target,
    host: Host,
    at: Paused,
    numbers: Numbers,
    counts: Vec<u8>,
    runs: u64,
    starts: u64,
}

impl Ready {
    pub(crate) fn start(target: Target, host: &Host) -> Result<Ready, Error> {
        let mut target = target.settled(host)?;
        let mut at = Paused::start(&target, host)?;
        if target.give_sanitizer_options(&at.sandbox) {
            at = Paused::start(&target, host)?;
        }
        let (numbers, counts) = Default::default();
        Ok(Ready { target, host: host.clone(), at, numbers, counts, runs: 0, starts: 1 })
    }

    /// Runs an input to its end, and puts the sandbox back. Where that fails, the program is started anew.
    ///
    /// # Errors
    /// When the input could not be run in a program just started either, or that could not be started;
    /// [`dejavm::Error::ResetDiffers`] at once.
    pub fn run(&mut self, input: &[u8]) -> Result<Ran, Error> {
        self.runs += 1;
        let ran = match self.attempt(input) {
            Ok(ran) => ran,
            Err(_) => {
                self.start_anew()?;
                self.attempt(input)?
            }
        };
        let verify = self.target.verify_every.is_some_and(|every| self.runs.is_multiple_of(every.get()));
        match self.at.put_back(verify) {
            Ok(()) => {}
            Err(e @ dejavm::Error::ResetDiffers(_)) => return Err(e.into()),
            Err(_) => self.start_anew()?,
        }
        Ok(ran)
    }

    /// How often the last run took each edge, by the edge's number. Numbers hold as long as this does.
    pub fn counts(&self) -> &[u8] {
        &self.counts
    }

    /// Words that the covered code compares with, sorted: numbers of two bytes and more, in either order, and text that
    /// code has the address of.
    pub fn words(&mut self) -> Vec<Vec<u8>> {
        words(&mut self.at.sandbox, &self.target.modules)
    }

    /// How often each source line of the covered code ran, given how often each edge was taken, by its number. There are none
    /// where no file that is covered has lines.
    pub fn lines(&mut self, taken: &[u64]) -> Lines {
        let edges = self.numbers.edges(self.at.sandbox.edges());
        let ways = edges.into_iter().filter_map(|(number, edge)| Some((edge, *taken.get(number)?)));
        let ways: Vec<_> = ways.filter(|(_, count)| *count > 0).collect();
        let entered = self.at.function().map(|function| (function, self.runs));
        lines::lines(&mut self.at.sandbox, &self.target.modules, &ways, entered)
    }

    /// Whether there are as many edges as can be counted: others are not.
    pub fn edges_are_full(&self) -> bool {
        self.at.sandbox.edges_are_full()
    }

    /// How often the program was started, once included.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// What is run, with how its input comes to it.
    pub fn target(&self) -> &Target {
        &self.target
    }

    fn attempt(&mut self, input: &[u8]) -> Result<Ran, Error> {
        let outcome = self.at.run(input, self.target.timeout)?;
        let sandbox = &mut self.at.sandbox;
        sandbox.take_counts(&mut self.counts);
        self.numbers.sort(&mut self.counts, || sandbox.edges());
        let death = match outcome {
            Outcome::Signalled(_) => sandbox.machine().program().and_then(|program| program.death.clone()),
            _ => None,
        };
        let out_of_memory = outcome == Outcome::Signalled(SIGKILL) && sandbox.limits_hit().memory;
        Ok(Ran { outcome, death, out_of_memory })
    }

    fn start_anew(&mut self) -> Result<(), Error> {
        let at = Paused::start(&self.target, &self.host)?;
        self.numbers.start_anew(self.at.sandbox.edges());
        self.at = at;
        self.starts += 1;
        Ok(())
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready")
            .field("target", &self.target)
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}
