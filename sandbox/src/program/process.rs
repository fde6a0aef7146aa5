//! A process: what its tasks have in common by being of it (`struct signal_struct`).

use serde::{Deserialize, Serialize};

use super::job::Job;
use super::limits::{self, Limits};
use super::settings::ProcessSettings;
use super::signal::Pending;
use super::signal::number::{MAX, SIGCHLD};
use super::timers::Timers;
use crate::machine::{BadState, expect};

/// The process that started the first program, and does nothing more.
pub const FIRST_PID: u32 = 1;

/// The process of the first program: what a container's first program would start.
pub const PROGRAM_PID: u32 = 2;

/// A process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// The process that waits for it.
    pub parent: u32,
    /// Its group's number.
    pub group: u32,
    /// Its session's number.
    pub session: u32,
    /// Resource limits.
    pub limits: Limits,
    /// Timers.
    pub timers: Timers,
    /// Signals to whichever of its tasks takes them.
    pub pending: Pending,
    /// What it has set of itself.
    pub settings: ProcessSettings,
    /// Nanoseconds of CPU time that its tasks have had.
    pub cpu: u64,
    /// The same of its children that it has waited for.
    pub children_cpu: u64,
    /// The signal that its parent gets when it ends; 0 for none.
    pub exit_signal: u32,
    /// Whether it is stopped.
    pub job: Job,
    /// The real user of the task that ended last.
    pub user: u32,
    /// How it ended, as `wait4` tells it: its tasks are no more, and its parent has yet to wait for it.
    pub ended: Option<i32>,
}

impl Process {
    /// The first program's.
    pub fn first() -> Process {
        Process {
            parent: FIRST_PID,
            group: PROGRAM_PID,
            session: PROGRAM_PID,
            limits: limits::first(),
            timers: Timers::default(),
            pending: Pending::default(),
            settings: ProcessSettings::default(),
            cpu: 0,
            children_cpu: 0,
            exit_signal: SIGCHLD,
            job: Job::default(),
            user: 0,
            ended: None,
        }
    }

    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        // Numbers of processes that are no more may be anything, and interval timers may be set to any time.
        let Process {
            parent: _,
            group: _,
            session: _,
            limits,
            timers,
            pending,
            settings,
            cpu: _,
            children_cpu: _,
            exit_signal,
            job,
            user: _,
            ended: _,
        } = self;
        job.check()?;
        expect(*exit_signal <= MAX, "the signal of a process's end")?;
        expect(limits.iter().all(|(soft, hard)| soft <= hard), "a resource limit")?;
        pending.check()?;
        timers.posix.check()?;
        expect(settings.is_sound(), "the process's settings")
    }
}
