//! One run of a hunt, in a process of its own: confinement is of a process.

use std::fmt;
use std::path::Path;

use dejavm::replay::{LOG_FULL, Manifest, RunEnd};
use dejavm::sandbox::program::signal;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::cli::guest::{NewGuest, Recorded};
use crate::cli::signals::Signals;
use crate::cli::{Failure, Result, Voice, conclude, confine, streams};

/// How a run came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should.
    Fine,
    /// With a status that it should not have.
    Exited(i32),
    /// By a signal.
    Signalled(u32),
    /// It was stopped: a deadline, or nothing could happen any more.
    Stopped(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Fine => write!(f, "fine"),
            Verdict::Exited(status) => write!(f, "ended with status {status}"),
            Verdict::Signalled(signal) => write!(f, "killed by {}", signal::name(*signal)),
            Verdict::Stopped(why) => write!(f, "{why}"),
        }
    }
}

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its number.
    pub number: u64,
    /// How.
    pub verdict: Verdict,
    /// The end of what was said on its standard error, by the program and of it.
    pub said: String,
}

/// Makes the run, and records it.
pub fn main(number: u64, dir: &Path, new: &mut NewGuest, voice: Voice) -> Result {
    // Whoever hunts may be killed.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| Failure::new(format_args!("cannot follow the hunt: {e}")))?;
    new.guest.seed = new.guest.seed.wrapping_add(number);
    new.guest.chaos = new.guest.chaos.map(|chaos| chaos.wrapping_add(number));
    let signals = Signals::block()?;
    let host = crate::cli::host()?;
    let recorded = Recorded { dir, max_log: None, checkpoints: None, ring: None };
    let sandbox = signals
        .while_loading(|stop| new.start(streams::to_record(), Some(recorded), &host, Some(stop), voice))?;
    confine::confine(&sandbox, new.run.no_confine, None)?;
    conclude::run(sandbox, &signals, &new.name(), &new.run, None, voice)
}

/// How a recorded run came out that should have ended with status `expect`. `None` if its recording is not
/// whole: the run was not made.
pub fn verdict(dir: &Path, expect: u8) -> Option<Verdict> {
    Some(match Manifest::read(dir).ok()?.end? {
        RunEnd::Ended { status } if status == i32::from(expect) << 8 => Verdict::Fine,
        RunEnd::Ended { status } if status & 0x7f == 0 => Verdict::Exited(status >> 8),
        RunEnd::Ended { status } => Verdict::Signalled(status as u32 & 0x7f),
        RunEnd::Stopped { why } if why == LOG_FULL => return None,
        RunEnd::Stopped { why } => Verdict::Stopped(why),
    })
}
