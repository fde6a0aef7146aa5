//! A task: what Linux schedules, a thread of a process.

use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use super::mm::USER_END;
use super::settings::Settings;
use super::signal::TaskSignals;
use crate::machine::{BadState, expect};
use crate::vcpu::registers::{ExtendedState, USER_COMPONENTS, UserRegisters};

/// Bytes of `comm`, without its end (`TASK_COMM_LEN`).
pub const NAME_BYTES: usize = 15;

/// A task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The process that it is of.
    pub process: u32,
    /// Its address space, by its number.
    pub space: u32,
    /// Its descriptor table.
    pub files: u32,
    /// Where its paths start.
    pub context: u32,
    /// Its signal actions.
    pub actions: u32,
    /// `comm`: at most 15 bytes.
    pub name: Vec<u8>,
    /// Registers, while the monitor answers one of its exits or another task runs.
    pub regs: UserRegisters,
    /// Floating-point state that the vCPU gets before the task runs; `None` when it is there already.
    pub fp: Option<Box<ExtendedState>>,
    /// Signals of its own.
    pub signals: TaskSignals,
    /// Who it is and what it may do.
    pub credentials: Credentials,
    /// What it has set of itself.
    pub settings: Settings,
}

impl Task {
    /// The first task, of the first program's process.
    pub fn first(process: u32) -> Task {
        Task {
            process,
            space: 0,
            files: 0,
            context: 0,
            actions: 0,
            name: Vec::new(),
            regs: UserRegisters::default(),
            fp: Some(Box::new(ExtendedState::initial())),
            signals: TaskSignals::default(),
            credentials: super::credentials::ROOT.clone(),
            settings: Settings::default(),
        }
    }

    /// Checks what a file claims. That there are the tables that it names, others check.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        let Task {
            process: _,
            space: _,
            files: _,
            context: _,
            actions: _,
            name,
            regs,
            fp,
            signals,
            credentials,
            settings,
        } = self;
        expect(name.len() <= NAME_BYTES && !name.contains(&0), "the program's name")?;
        expect(regs.is_valid(USER_END), "registers")?;
        let fp = fp.as_ref().is_some_and(|fp| fp.is_valid(USER_COMPONENTS));
        expect(fp, "floating-point registers")?;
        signals.check()?;
        expect(credentials.is_sound(), "the credentials")?;
        expect(settings.is_sound(), "the task's settings")
    }
}
