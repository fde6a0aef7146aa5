//! An embedded record/replay VM sandbox on Linux KVM.
//!
//! A guest is an unmodified Linux x86-64 program. It runs at CPL 3 in a virtual machine of its own,
//! and the monitor in this library answers its system calls: it sees only what it is shown, and
//! changes nothing outside. A run is a function of its start, its input and its seed; it can be
//! stopped at a point and kept as a [snapshot](Sandbox::snapshot) that later ones start from in a
//! few milliseconds, page by page as they are wanted; and it can be [recorded](Program::record) and
//! [replayed](Replay), exit by exit.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! let host = dejavm::Host::probe()?;
//! let done = dejavm::Program::new("/usr/bin/python3")
//!     .args(["-c", "print(6*7)"])
//!     .memory(256 << 20)
//!     .deadline(Duration::from_secs(5))
//!     .capture_output()
//!     .start(&host)?
//!     .run()?;
//! assert_eq!(done.stdout, b"42\n");
//! # Ok::<(), dejavm::Error>(())
//! ```
//!
//! The other kind of guest is a bare-metal image ([`Kernel`]), which owns its page tables and runs at
//! CPL 0, with a serial port and a few others. Snapshots, recordings and limits are the same.
//!
//! Nothing here is process-wide: no signal handlers, no environment, and no globals but a note, made before
//! `main`, of which standard streams were closed then. Sandboxes live on any threads, hundreds in one process.
//! How a sandbox is made ([`Program`], [`Kernel`], [`Restore`], [`Replay`]) may be cloned and started many times. A process that is there for one sandbox can be confined to
//! what that needs, which is process-wide then: [`Confinement`].
//!
//! The crates below this one are re-exported: [`sandbox`] has the machine, [`snapshot`] the file
//! format, and [`replay`] reads recordings.
#![forbid(unsafe_code)]

pub mod command_line;
mod common;
mod confine;
mod covering;
mod error;
mod files;
mod harness;
mod host;
mod image;
mod kernel;
mod program;
mod recording;
mod redacting;
mod replaying;
mod report;
mod resetting;
mod running;
mod sink;
mod source;
mod tee;
mod view;
mod warming;

pub use dejavm_replay as replay;
pub use dejavm_sandbox as sandbox;
pub use dejavm_snapshot as snapshot;

pub use dejavm_sandbox::exit::{
    DeliveredSignal, Exit, ExitKind, Fault, GuestMemory, Holdings, MadeCall, Observer, Rung, SignalEffect,
};
pub use dejavm_sandbox::guest::{MachineState, ResetPoint};
pub use dejavm_sandbox::host::stop::StopHandle;
pub use dejavm_sandbox::kernel::load::Protocol;
pub use dejavm_sandbox::machine::{Difference, Evict, PauseAt, Search};
pub use dejavm_sandbox::program::clock::ClockMode;
pub use dejavm_sandbox::program::coverage::{ConstantMemory, Edge, Modules, Way};
pub use dejavm_sandbox::program::fs::{Stdio, StdioKind};
pub use dejavm_sandbox::program::machine::Death;
pub use dejavm_sandbox::stats::Stats;
pub use dejavm_sandbox::vcpu::registers::General;
pub use dejavm_sandbox::world::{Grant, Input, InputBuffer, StandardFile, WorldError};
pub use dejavm_snapshot::{Snapshot, WriteOptions};

pub use common::HostFiles;
pub use confine::{Confined, Confinement};
pub use error::{Diverged, Error};
pub use harness::Called;
pub use host::Host;
pub use image::{Image, Restore};
pub use kernel::Kernel;
pub use program::Program;
pub use recording::make_recording_dir;
pub use redacting::Redaction;
pub use replaying::Replay;
pub use report::{LimitsHit, NotDeterministic, Outcome, Report};
pub use running::Sandbox;
pub use sink::Sink;
pub use view::View;
