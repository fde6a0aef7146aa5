//! A task: what Linux schedules, a thread of a process.

use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use super::mm::USER_END;
use super::settings::Settings;
use super::signal::TaskSignals;
use super::wait::Parked;
use crate::machine::{BadState, expect};
use crate::vcpu::registers::{ExtendedState, USER_COMPONENTS, UserRegisters};

/// Bytes of `comm`, without its end (`TASK_COMM_LEN`).
pub const NAME_BYTES: usize = 15;

/// What a task is charged for, bytes: what the monitor keeps of it, its vector registers most of all.
pub const TASK_BYTES: u64 = 16 << 10;

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
    /// Nanoseconds of CPU time that it has had.
    pub cpu: u64,
    /// The call that it waits in, or that is being made again.
    pub parked: Option<Parked>,
    /// Where its list of robust futexes is; 0 for none.
    pub robust_list: u64,
    /// Where its number is cleared when it ends, and a futex woken; 0 for nowhere.
    pub clear_child_tid: u64,
    /// It has ended, and is about to be forgotten.
    pub dead: bool,
    /// The one that waits until this one gives its address space up (`vfork`).
    pub vfork_parent: Option<u32>,
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
            cpu: 0,
            parked: None,
            robust_list: 0,
            clear_child_tid: 0,
            dead: false,
            vfork_parent: None,
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
            // A program may put these anywhere, and wait for anything.
            cpu: _,
            parked: _,
            robust_list: _,
            clear_child_tid: _,
            dead: _,
            vfork_parent: _,
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
