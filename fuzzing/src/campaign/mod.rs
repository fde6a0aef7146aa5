//! A campaign: inputs are changed and run, and what is new is kept.

mod engine;
mod exchange;
mod figures;
pub mod files;
mod found;
mod output;
mod progress;
mod schedule;
mod seen;
mod share;
mod sweep;
mod take_up;
mod tick;
mod voice;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use dejavm::{Host, Outcome};
use dejavm_fuzz::Target;
use libafl::corpus::CorpusId;
use libafl::executors::ExitKind;
use libafl::inputs::{BytesInput, HasMutatorBytes};
use libafl::mutators::Tokens;

pub use engine::Engine;
pub use exchange::Exchange;
pub use files::FileError;
pub use output::OutputError;
pub use progress::{Event, Progress};
pub use take_up::read_inputs;
pub use voice::{Manner, Voice};

use figures::Figures;
use found::{Finder, Found};
use output::Output;
use progress::Find;
use seen::Seen;
use share::share_stack;
use sweep::Sweep;

/// How often an input is changed when it is picked: the first time, and later.
const FIRST_ROUND: usize = 512;
const ROUND: usize = 128;

/// Why a campaign ends that has not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target, or its sandbox.
    #[error(transparent)]
    Target(dejavm_fuzz::Error),
    /// The target, or its sandbox, with an input, which is kept.
    #[error("{source}; the input is {}", input.display())]
    Run {
        /// What went wrong.
        source: Box<dejavm_fuzz::Error>,
        /// Where the input is.
        input: PathBuf,
    },
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// LibAFL.
    #[error("LibAFL: {0}")]
    Engine(#[from] libafl::Error),
    /// There is nothing to change.
    #[error("the program crashes or hangs with each of the first inputs: give one by -i that it survives")]
    NoInput,
}

/// What a campaign is told.
pub struct Plan {
    pub target: Target,
    /// The program's name, for AFL++'s files.
    pub banner: String,
    pub command_line: String,
    /// Directory or file of first inputs.
    pub seeds: Option<PathBuf>,
    pub out: PathBuf,
    pub words: Tokens,
    /// Those of the program's code are added to them.
    pub own_words: bool,
    pub seed: u64,
    /// The names of files have no times in them.
    pub deterministic: bool,
    pub max_len: usize,
    pub max_runs: Option<u64>,
    /// Ends with the first crash that was not known.
    pub until_crash: bool,
    pub max_time: Option<Duration>,
    pub manner: Manner,
    /// Which of the cores this is that work together, from zero.
    pub core: usize,
    /// Set by a signal.
    pub stop: Arc<AtomicBool>,
}

/// An input of the queue.
#[derive(Clone, Copy, Debug, Default)]
struct Named {
    /// In its file's name.
    number: u64,
    /// How many changes it is away from the first inputs.
    depth: usize,
    /// Whether its bytes are gone through: another core does that of what comes from there.
    is_swept: bool,
}

/// A campaign that runs.
pub struct Campaign {
    plan: Plan,
    engine: Engine,
    finder: Finder,
    output: Output,
    voice: Voice,
    /// The connection to other cores.
    exchange: Option<Exchange>,
    names: BTreeMap<CorpusId, Named>,
    next_name: u64,
    crashes: Seen,
    hangs: Seen,
    figures: Figures,
    /// How often the queue had been gone through when an input was found last.
    cycles_at_find: u64,
    /// That there are more edges than are counted was said.
    full_told: bool,
    began: Instant,
    /// When AFL++'s files were written last, and the runs until then.
    written: Option<(Instant, u64)>,
}

impl Campaign {
    /// Starts the target, and takes up what is in the directory. What is found is shared, if there is whom to share it with.
    pub fn start(plan: Plan, exchange: Option<Exchange>, host: &Host) -> Result<Campaign, Error> {
        let mut ready = plan.target.start(host).map_err(Error::Target)?;
        let mut words = plan.words.clone();
        if plan.own_words {
            words.add_tokens(ready.words());
        }
        let finder = Finder::new(ready.target().clone(), host.clone());
        let output = Output::open(&plan.out, plan.core)?;
        let engine = Engine::new(ready, plan.seed, plan.max_len, words)?;
        let (elapsed_before, runs_before) = figures::before(&output.stats());
        let mut campaign = Campaign {
            engine,
            finder,
            output,
            voice: Voice::new(plan.manner, plan.out.display().to_string()),
            exchange,
            names: BTreeMap::new(),
            next_name: 0,
            crashes: Seen::default(),
            hangs: Seen::default(),
            figures: Figures { elapsed_before, runs_before, ..Figures::default() },
            cycles_at_find: 0,
            full_told: false,
            began: Instant::now(),
            written: None,
            plan,
        };
        campaign.take_up()?;
        campaign.take_seeds()?;
        Ok(campaign)
    }

    /// Fuzzes until there is a reason to end. Gives how many crashes were kept in all.
    pub fn run(&mut self) -> Result<u64, Error> {
        self.import()?;
        if self.engine.inputs() == 0 && self.reason_to_end().is_none() {
            self.write()?;
            return Err(Error::NoInput);
        }
        if self.engine.edges() == 0 {
            self.voice.note("no edges are counted, so that inputs are changed blindly: does --cover name the right files?");
        }
        let why = loop {
            if let Some(why) = self.reason_to_end() {
                break why;
            }
            self.round()?;
            self.import()?;
        };
        self.write()?;
        self.voice.say(&Event::End { progress: self.figures.progress(), why: why.into() });
        Ok(self.figures.crashes)
    }

    /// Changes one input a number of times.
    fn round(&mut self) -> Result<(), Error> {
        let id = self.engine.next()?;
        let first = self.engine.schedule().picks(id) == 1;
        let Named { number, depth, is_swept } = self.names.get(&id).copied().unwrap_or_default();
        self.figures.current = number;
        if first && is_swept && self.engine.schedule().is_favored(id) {
            self.sweep(id, number, depth)?;
        }
        let times = 1 + self.engine.random(if first { FIRST_ROUND } else { ROUND });
        for _ in 0..times {
            if self.reason_to_end().is_some() {
                break;
            }
            if let Some(input) = self.engine.changed(id)? {
                let origin = format!("src:{number:06},{}op:havoc", self.moment());
                self.attempt(&input, &origin, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Goes through the values of the bytes in which an input differs from the one that it was made of.
    fn sweep(&mut self, id: CorpusId, number: u64, depth: usize) -> Result<(), Error> {
        let (input, parent) = self.engine.input_and_parent(id)?;
        for (place, variant) in Sweep::new(&input, &parent, self.plan.max_len) {
            if self.reason_to_end().is_some() {
                break;
            }
            let origin = format!("src:{number:06},{}op:sweep,pos:{place}", self.moment());
            self.attempt(&BytesInput::from(&variant[..]), &origin, depth + 1)?;
        }
        Ok(())
    }

    /// Runs an input. One that something goes wrong with is kept: it shows a mistake of dejavm's.
    fn run_input(&mut self, input: &BytesInput) -> Result<ExitKind, Error> {
        match self.engine.run(input) {
            Err(Error::Target(source)) => {
                let input = self.output.keep_failed(input.mutator_bytes())?;
                Err(Error::Run { source: Box::new(source), input })
            }
            done => done,
        }
    }

    /// Runs a changed input, and keeps it if there is something new about it.
    fn attempt(&mut self, input: &BytesInput, origin: &str, depth: usize) -> Result<(), Error> {
        match self.run_input(input)? {
            ExitKind::Ok => {
                let before = self.engine.edges();
                if let Some(id) = self.engine.add_if_new(input)? {
                    let new = if self.engine.edges() > before { ",+cov" } else { "" };
                    self.keep(id, input, &format!("{origin}{new}"), depth, true)?;
                    self.share_input(input)?;
                    self.figures.inputs_found += 1;
                    self.cycles_at_find = self.engine.schedule().cycles();
                    self.figures.last_input = Some(self.began.elapsed());
                }
            }
            kind => self.look_into(kind, input, origin)?,
        }
        self.tick()
    }

    /// Puts an input into the queue's directory.
    fn keep(
        &mut self,
        id: CorpusId,
        input: &BytesInput,
        origin: &str,
        depth: usize,
        is_swept: bool,
    ) -> Result<(), Error> {
        let number = self.next_name;
        self.output.add_to_queue(&format!("id:{number:06},{origin}"), input.mutator_bytes())?;
        self.remember(id, number, depth, is_swept);
        self.run_again(input)
    }

    /// Runs the input that was run last once more, and looks whether it goes the same ways, as it should.
    fn run_again(&mut self, input: &BytesInput) -> Result<(), Error> {
        let before = self.engine.classes();
        let kind = self.run_input(input)?;
        let now = self.engine.classes();
        let class = |classes: &[u8], edge: usize| classes.get(edge).copied().unwrap_or(0);
        let edges = 0..before.len().max(now.len());
        let varying: Vec<usize> = edges.filter(|edge| class(&before, *edge) != class(&now, *edge)).collect();
        if (kind != ExitKind::Ok || !varying.is_empty()) && self.figures.varying.is_empty() {
            self.voice.note(
                "an input did not go the same ways when it was run again: does its run come near --timeout, or does the \
                 program ask the host for something?",
            );
        }
        self.figures.varying.extend(varying);
        Ok(())
    }

    fn remember(&mut self, id: CorpusId, number: u64, depth: usize, is_swept: bool) {
        self.names.insert(id, Named { number, depth, is_swept });
        self.next_name = self.next_name.max(number + 1);
        self.figures.depth = self.figures.depth.max(depth);
    }

    /// Looks into a run that did not come to its end.
    fn look_into(&mut self, kind: ExitKind, input: &BytesInput, origin: &str) -> Result<(), Error> {
        match kind {
            ExitKind::Crash => self.crash(input, origin),
            ExitKind::Timeout => self.hang(input, origin),
            ExitKind::Ok | ExitKind::Oom | ExitKind::Diff { .. } => Ok(()),
        }
    }

    /// Looks into a crash that is not just like those before.
    fn crash(&mut self, input: &BytesInput, origin: &str) -> Result<(), Error> {
        let classes = self.engine.classes();
        let Some(ran) = self.engine.ran() else { return Ok(()) };
        let Outcome::Signalled(signal) = ran.outcome else { return Ok(()) };
        let death = ran.death.clone();
        if !self.crashes.is_new(&classes, death.as_ref()) {
            return Ok(());
        }
        let (bytes, exchange) = (input.mutator_bytes(), self.exchange.as_mut());
        let share = |hash: &str| share_stack(exchange, hash);
        let found = self.finder.crash(&self.output, bytes, death.as_ref(), signal, origin, share)?;
        self.report(found)
    }

    /// The same of a hang.
    fn hang(&mut self, input: &BytesInput, origin: &str) -> Result<(), Error> {
        self.figures.timeouts += 1;
        if !self.hangs.is_new(&self.engine.classes(), None) {
            return Ok(());
        }
        let found = self.finder.hang(&self.output, input.mutator_bytes(), origin)?;
        self.report(found)
    }

    fn report(&mut self, found: Option<Found>) -> Result<(), Error> {
        let Some(found) = found else { return Ok(()) };
        let now = Some(self.began.elapsed());
        let is_crash = found.signal.is_some();
        match is_crash {
            true => (self.figures.crashes, self.figures.last_crash) = (self.figures.crashes + 1, now),
            false => (self.figures.hangs, self.figures.last_hang) = (self.figures.hangs + 1, now),
        }
        self.count();
        let find = Find { progress: self.figures.progress(), found };
        self.voice.say(&if is_crash { Event::Crash(find) } else { Event::Hang(find) });
        Ok(())
    }
}
