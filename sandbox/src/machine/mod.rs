//! Machines: what all kinds of guests stand on. A kind of guest says how it is loaded and what its
//! exits mean; the run loop, the faults, the counts and what a snapshot takes are here.

mod ahead;
mod bad_state;
mod checkpoint;
mod core;
mod crash;
mod difference;
mod error;
mod memory;
mod options;
mod pages;
mod reading;
mod run;
mod save;

pub use self::core::Core;
pub use bad_state::BadState;
pub(crate) use bad_state::{MAX_EXITS, expect};
pub use checkpoint::CheckpointPages;
pub(crate) use checkpoint::CheckpointSource;
pub use crash::Crash;
pub use difference::Difference;
pub(crate) use difference::first_difference;
pub use error::RunError;
pub use memory::Memory;
pub use options::{MachineOptions, Search, StartError};
pub(crate) use options::{check_cpu, check_level, marking};
pub use pages::SnapshotPages;
pub use reading::ReadError;
pub(crate) use reading::{peek, read_memory};
pub use run::{End, Evict, PauseAt, RunEnd, RunOptions};
pub(crate) use run::{Guest, run};
pub(crate) use save::RamContents;
pub use save::SaveError;
