//! Several cores: a process for each, which fuzzes, and this one, which passes on what they share and says how far they are
//! together. Other machines' are connected to this one's broker.

mod broker;
mod core;

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::campaign::{Event, Manner, Progress, Voice};

use self::core::{Core, Said};
pub use self::core::{Place, die_with_parent};
use broker::Broker;

/// How often what was shared is passed on.
const PASS_ON: Duration = Duration::from_millis(20);

/// Why several cores cannot be used, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process that fuzzes.
    #[error("core {}: {source}", index + 1)]
    Core {
        /// From zero.
        index: usize,
        /// What went wrong.
        source: io::Error,
    },
    /// One that was ended.
    #[error("the process of core {} was ended: {status}", index + 1)]
    Ended {
        /// From zero.
        index: usize,
        /// How.
        status: ExitStatus,
    },
    /// The port.
    #[error("cannot listen at port {port} of the loopback interface: {source}")]
    Listen {
        /// What was asked for.
        port: u16,
        /// Why not.
        source: io::Error,
    },
    /// Another machine's broker.
    #[error("--peer {peer}: {source}; is there a campaign that was started with --listen?")]
    Peer {
        /// What was asked for.
        peer: String,
        /// Why not.
        source: libafl::Error,
    },
    /// LibAFL.
    #[error("LibAFL: {0}")]
    Libafl(#[from] libafl::Error),
}

/// What is asked for.
pub struct Plan {
    pub cores: usize,
    /// Where the broker listens; zero for any port.
    pub listen: u16,
    /// Brokers of other machines.
    pub peers: Vec<String>,
    pub until_crash: bool,
    pub manner: Manner,
    pub out: PathBuf,
    /// Set by a signal.
    pub stop: Arc<AtomicBool>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With so many crashes.
    Done { crashes: u64 },
    /// One of the processes could not go on, said why, and ended with this status.
    Failed { status: u8 },
}

/// Fuzzes on several cores, each by this command line with its place.
pub fn run(plan: Plan) -> Result<Ending, Error> {
    let broker = Broker::open(plan.listen, &plan.peers)?;
    let (to, from) = channel();
    let voice = Voice::new(plan.manner, plan.out.display().to_string());
    let (cores, told) = Default::default();
    let mut team = Team { plan, broker, to, voice, cores, running: 0, stopped: false, failed: None, told };
    team.start_next()?;
    let ended = team.watch(&from);
    team.stop();
    ended
}

/// The processes.
struct Team {
    plan: Plan,
    broker: Broker,
    to: Sender<Said>,
    voice: Voice,
    cores: Vec<Core>,
    running: usize,
    /// They were told to end.
    stopped: bool,
    failed: Option<u8>,
    /// Stacks of crashes that were told of.
    told: HashSet<String>,
}

impl Team {
    /// Starts the process of the next core.
    fn start_next(&mut self) -> Result<(), Error> {
        let index = self.cores.len();
        let place = Place { index, cores: self.plan.cores, port: self.broker.port() };
        let core = Core::start(place, self.to.clone()).map_err(|source| Error::Core { index, source })?;
        self.cores.push(core);
        self.running += 1;
        Ok(())
    }

    /// Passes on what they share, and says what they say, until all have ended.
    fn watch(&mut self, from: &Receiver<Said>) -> Result<Ending, Error> {
        let mut why = String::new();
        while self.running > 0 {
            self.broker.pass_on()?;
            if self.plan.stop.load(Ordering::Relaxed) {
                self.stop();
            }
            match from.recv_timeout(PASS_ON) {
                Ok((index, Some(event))) => {
                    if let ControlFlow::Break(reason) = self.hear(index, event)? {
                        why = reason;
                    }
                }
                Ok((index, None)) => self.ended(index)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.voice.is_due() {
                let status = Event::Status(self.progress());
                self.voice.say(&status);
            }
        }
        if let Some(status) = self.failed {
            return Ok(Ending::Failed { status });
        }
        let progress = self.progress();
        let crashes = progress.crashes;
        self.voice.say(&Event::End { progress, why });
        Ok(Ending::Done { crashes })
    }

    fn progress(&self) -> Progress {
        Progress::together(self.cores.iter().map(|core| &core.progress))
    }

    /// Takes what a core says. Breaks with the reason for which it ends.
    fn hear(&mut self, index: usize, mut event: Event) -> Result<ControlFlow<String>, Error> {
        if let Some(progress) = event.progress() {
            self.cores[index].progress = progress.clone();
            // The others begin when the first has its target running: what is wrong with that is said once.
            while self.cores.len() < self.plan.cores && !self.stopped {
                self.start_next()?;
            }
            *progress = self.progress();
        }
        match &event {
            Event::Status(_) => {}
            Event::End { why, .. } => {
                self.cores[index].has_said_why = true;
                return Ok(ControlFlow::Break(why.clone()));
            }
            Event::Failure { status, .. } => {
                self.cores[index].has_said_why = true;
                // The others have the same to say, or are stopped for it.
                if self.failed.replace(*status).is_none() {
                    self.voice.say(&event);
                }
                self.stop();
            }
            Event::Crash(find) | Event::Hang(find) => {
                // Two may find it at the same moment, and both keep it.
                let stack = find.found.stack.clone();
                if stack.is_none_or(|hash| self.told.insert(hash)) {
                    self.voice.say(&event);
                }
                if self.plan.until_crash && matches!(event, Event::Crash(_)) {
                    self.stop();
                }
            }
            Event::Note { .. } => self.voice.say(&event),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A core says no more.
    fn ended(&mut self, index: usize) -> Result<(), Error> {
        self.running -= 1;
        let core = &mut self.cores[index];
        let status = core.wait().map_err(|source| Error::Core { index, source })?;
        if core.has_said_why || self.failed.is_some() {
            return Ok(());
        }
        Err(Error::Ended { index, status })
    }

    /// Tells all to end.
    fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.cores.iter().for_each(Core::stop);
        }
    }
}
