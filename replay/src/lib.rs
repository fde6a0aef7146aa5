//! The exit log: recording a run, reading recordings, replaying them.
//!
//! A recording is a directory with a manifest, the start snapshot and an append-only log of the
//! run's compared exits, its page faults and the answers that it had from the outside. The bytes
//! are in `docs/log-format.md`.
//!
//! [`Recorder`] and [`Replayer`] each give a [`World`](dejavm_sandbox::world::World) and an
//! [`Observer`](dejavm_sandbox::exit::Observer) to run a sandbox with; [`Recording`] reads a log by
//! itself. Nothing here needs KVM:
//!
//! ```
//! use dejavm_replay::{Manifest, Outputs, Recorder, Recording, Replayer, RunEnd};
//! use dejavm_sandbox::exit::{Exit, ExitKind};
//! use dejavm_sandbox::world::{HostClock, Request, Response, World, WorldError};
//!
//! /// Stands for the host.
//! struct Noon;
//! impl World for Noon {
//!     fn ask(&mut self, _: Request<'_>) -> Result<Response, WorldError> {
//!         Ok(Response::Clock(HostClock { realtime: 12, monotonic: 0 }))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let tmp = tempfile::tempdir()?;
//! # let dir = tmp.path().join("recording");
//! let end = Exit {
//!     number: 1,
//!     task: 2,
//!     kind: ExitKind::End { status: 0 },
//!     rip: 0x40_1000,
//!     result: 0,
//!     effects: 0,
//!     clock: 12,
//! };
//!
//! let snapshot = dejavm_snapshot::ContentId::from_bytes([0; 32]);
//! let recorder = Recorder::create(&dir, Manifest::new(snapshot))?;
//! let mut world = recorder.world(Box::new(Noon));
//! assert_eq!(world.clock()?.realtime, 12);
//! recorder.observer().exit(&end)?;
//! let summary = recorder.finish(RunEnd::Ended { status: 0 })?;
//!
//! let recording = Recording::open(&dir)?;
//! assert_eq!(recording.digest()?, summary.digest);
//!
//! let replayer = Replayer::new(recording)?;
//! // The same answer, without the host.
//! assert_eq!(replayer.world(Outputs::sink()).clock()?.realtime, 12);
//! let other = Exit { rip: 0x40_2000, ..end };
//! assert!(replayer.observer().exit(&other).is_err());
//! let divergence = replayer.divergence().expect("the exits differ");
//! assert!(divergence.headline().starts_with("the replay diverged at exit 1: "));
//! assert!(divergence.headline().ends_with("(rip differs)"));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod beside;
pub mod debugger;
mod digest;
mod elsewhere;
mod error;
mod format;
mod home;
mod looking;
mod manifest;
mod pack;
mod reader;
mod record;
mod recorder;
mod replayer;
pub mod text;
mod thinning;
mod timeline;

pub(crate) use dejavm_snapshot::codec;

pub use dejavm_sandbox::program::machine::{AccessWatch, Calls};
pub use dejavm_sandbox::program::patch::{Condition, ConditionError};
pub use digest::{DigestHandle, RunDigest};
pub use error::Error;
pub use format::{FORMAT_VERSION, INLINE_LIMIT, MAX_BLOCK, MAX_RECORDS};
pub use manifest::{
    CheckpointRef, LOG_FILE, LOG_FULL, MANIFEST_FILE, Manifest, RunEnd, START_FILE, STUCK, SnapshotRef,
};
pub use pack::{PACK_VERSION, PackOptions, PackSummary, is_pack};
pub use reader::{Ending, Exits, Info, Recording, Records};
pub use record::{Answer, Asked, BlobId, BlobKind, KeyedRecord, Record, WorldRecord};
pub use recorder::{Recorder, RecorderOptions, Summary};
pub use replayer::{
    Divergence, Event, FieldDifference, MAX_FAULTS, MAX_MATCHED, OutputError, Outputs, Redaction, Replayer,
    Window, redact,
};
pub use timeline::{
    BadPosition, FileError, Files, Found, FoundKind, Frame, MOST_FRAMES, Moment, Position, Stop, Stops,
    Timeline, TimelineError, TimelineOptions, loaded_at, source_lines, symbol_address,
};
