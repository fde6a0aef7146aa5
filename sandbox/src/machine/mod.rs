//! Machines: what all kinds of guests stand on. A kind of guest says how it is loaded and what its
//! exits mean; the run loop, the faults, the counts and the snapshots are here.

mod ahead;
mod any;
mod core;
mod crash;
mod error;
mod options;
mod pages;
mod reading;
mod run;
mod save;
mod state;

pub use self::core::Core;
pub use any::{Machine, Memory};
pub use crash::Crash;
pub use error::RunError;
pub use options::{MachineOptions, StartError};
pub(crate) use options::{check_cpu, marking};
pub use pages::SnapshotPages;
pub use reading::ReadError;
pub(crate) use reading::{peek, read_memory};
pub(crate) use run::Guest;
pub use run::{End, Evict, PauseAt, RunEnd, RunOptions};
pub(crate) use save::RamContents;
pub use save::{SaveError, open, save_start};
pub use state::{BadState, Claims, MachineState};
pub(crate) use state::{MAX_EXITS, expect};
