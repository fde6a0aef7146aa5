//! What can go wrong.

use std::path::PathBuf;

use dejavm_replay::Divergence;
use dejavm_sandbox::errno::Errno;
use dejavm_sandbox::host::HostError;
use dejavm_sandbox::kernel::load::LoadError;
use dejavm_sandbox::machine::{Difference, ReadError, RunError, SaveError, StartError};
use dejavm_sandbox::program::fs::MountError;
use dejavm_sandbox::vcpu::registers::UserRegisters;
use dejavm_sandbox::world::GrantError;
use dejavm_snapshot::ContentId;

use crate::Outcome;

/// Everything that can go wrong. Each message says what, where, and what to do.
///
/// That a guest ends badly is no error: see [`Outcome`](crate::Outcome).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No sandbox can run on this host.
    #[error(transparent)]
    Host(HostError),
    /// The program is in none of the directories of the guest's `PATH`.
    #[error("{name}: {} in the guest's PATH ({path}); it sees only what it is shown of the host",
        if *.errno == Errno::EACCES { "nothing that may be executed" } else { "not found" })]
    NotFound {
        /// The program's name.
        name: String,
        /// The guest's `PATH`.
        path: String,
        /// `ENOENT`, or `EACCES` when what there is may not be executed.
        errno: Errno,
    },
    /// An argument, a variable or a path that no program can be given.
    #[error("{what} ({text}): {why}")]
    BadText {
        /// Which one.
        what: String,
        /// It.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The guest could not be started.
    #[error(transparent)]
    Start(Box<StartError>),
    /// The run was over before the guest was loaded: its deadline passed, or it was stopped.
    #[error("{} while the guest was loaded",
        if *.0 == Outcome::Stopped { "stopped" } else { "the deadline passed" })]
    Loading(Outcome),
    /// A bare-metal guest's image cannot be loaded.
    #[error("{}: {error}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        error: LoadError,
    },
    /// Something of the host's cannot be shown to the guest.
    #[error(transparent)]
    Grant(GrantError),
    /// What the guest is to see makes no tree.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A snapshot file cannot be read.
    #[error(transparent)]
    Snapshot(Box<dejavm_snapshot::Error>),
    /// A sandbox that cannot be put back to a moment of its run.
    #[error("no reset: {why}")]
    NoReset {
        /// Why.
        why: &'static str,
    },
    /// A guest that is not changed from outside.
    #[error("the guest cannot be changed: {why}")]
    NotChanged {
        /// Why.
        why: &'static str,
    },
    /// A guest whose control flow is not counted.
    #[error("no coverage: only programs' is counted, not that of bare-metal guests")]
    NoCoverage,
    /// A sandbox is not what it was when it was put back: a mistake of dejavm's.
    #[error("after a reset, {0}")]
    ResetDiffers(Difference),
    /// A snapshot's machine state is not one of this version.
    #[error(
        "{}: its machine state is not one that this dejavm knows ({why}); make the snapshot again",
        path.display()
    )]
    State {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A snapshot's guest may use more than it is allowed here.
    #[error(
        "{}: its guest may use {} of {what}, and {} are allowed: if you trust the snapshot, allow more by \
         --{what} {}",
        path.display(), size(*claimed), size(*allowed), size(*claimed)
    )]
    Ceiling {
        /// The snapshot.
        path: PathBuf,
        /// `memory` or `disk`.
        what: &'static str,
        /// Bytes that the snapshot says that the guest may use.
        claimed: u64,
        /// Bytes that it may use at most.
        allowed: u64,
    },
    /// Something was asked for that only a program which is yet to be loaded can be given.
    #[error(
        "{}: {what} cannot be given to a program that was loaded already: they are in its memory; give them \
         where the snapshot is made",
        path.display()
    )]
    Loaded {
        /// The snapshot.
        path: PathBuf,
        /// What was asked for.
        what: &'static str,
    },
    /// The guest's memory could not be read: which address, and why. The sandbox can be run on.
    #[error("the guest's memory cannot be read: {0}")]
    Memory(#[from] ReadError),
    /// A snapshot was not written.
    #[error("the snapshot was not written: {0}")]
    Save(Box<SaveError>),
    /// A recording cannot be written or read.
    #[error(transparent)]
    Recording(Box<dejavm_replay::Error>),
    /// A recording cannot be moved in.
    #[error(transparent)]
    Timeline(Box<dejavm_replay::TimelineError>),
    /// A debugger's session failed; the sandbox cannot be used any more.
    #[error(transparent)]
    Debug(Box<dejavm_replay::debugger::DebugError>),
    /// A debugger cannot be given this sandbox.
    #[error("this sandbox cannot be debugged: {why}")]
    NotDebugged {
        /// Why not.
        why: &'static str,
    },
    /// A recording's start snapshot is another one than the recording was made from.
    #[error(
        "{} is snapshot {found}, but the recording starts from {expected}; put the right file there",
        path.display()
    )]
    WrongSnapshot {
        /// The start snapshot's path.
        path: PathBuf,
        /// The id in the manifest.
        expected: ContentId,
        /// The id of the file.
        found: ContentId,
    },
    /// Nothing can be taken out of a recording.
    #[error("{} cannot be redacted: {why}", path.display())]
    NotRedacted {
        /// The recording.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The run ended with an error; the sandbox cannot be used any more.
    #[error(transparent)]
    Run(Box<RunError>),
    /// A replay did something else than the recorded run; the sandbox cannot be used any more.
    #[error("{}", .0.divergence.headline())]
    Diverged(Box<Diverged>),
    /// The sandbox cannot be used any more.
    #[error("this sandbox cannot be used any more: {why}; start or restore another one")]
    Unusable {
        /// What happened to it.
        why: String,
    },
    /// A file or directory of the host.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the host says.
        source: std::io::Error,
    },
    /// The process could not be confined.
    #[error("cannot confine the process: {what}: {why}")]
    Confine {
        /// The means.
        what: &'static str,
        /// What the kernel says.
        why: String,
    },
    /// The directory for a recording holds something already.
    #[error("{} is not empty: choose another directory for the recording, or remove it", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A guest's files are larger than whoever takes them wants to hold.
    #[error("the guest's files at {} have {bytes} bytes, more than the {limit} allowed", path.display())]
    FilesTooLarge {
        /// The path in the guest.
        path: PathBuf,
        /// What they have in all.
        bytes: u64,
        /// What was allowed.
        limit: u64,
    },
    /// The process has as many files open as it may.
    #[error(
        "{tried}; this process may have {limit} (RLIMIT_NOFILE) and a sandbox has up to {SANDBOX_FILES}: allow \
         more, by `ulimit -n`, LimitNOFILE= of a service, or setrlimit"
    )]
    Descriptors {
        /// What could not be done.
        #[source]
        tried: Box<Error>,
        /// The limit.
        limit: u64,
    },
}

/// Files that a sandbox has open at most, without those that it is given: its machine, vCPU and user fault
/// descriptor, what it is shown, its streams, and 16 files that it reads.
const SANDBOX_FILES: u32 = 40;

impl Error {
    /// This error, or what to do about it where the reason for it is the limit of open files.
    fn or_limit(self) -> Error {
        let mut reason: Option<&(dyn std::error::Error + 'static)> = Some(&self);
        while let Some(error) = reason {
            let io = error.downcast_ref::<std::io::Error>();
            if io.and_then(std::io::Error::raw_os_error) == Some(Errno::EMFILE.number()) {
                let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
                return Error::Descriptors { tried: Box::new(self), limit: limit.unwrap_or(u64::MAX) };
            }
            reason = error.source();
        }
        self
    }
}

/// Bytes as the options take them: a whole number with the largest unit that fits.
fn size(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    match units.into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Where and how a replay diverged.
#[derive(Clone, Debug)]
pub struct Diverged {
    /// What differs, with what went before it. Its `Display` is a report of some lines.
    pub divergence: Divergence,
    /// The guest's registers there; zeros when it had not run yet.
    pub registers: UserRegisters,
}

impl Diverged {
    pub(crate) fn error(divergence: Divergence, registers: UserRegisters) -> Error {
        Error::Diverged(Box::new(Diverged { divergence, registers }))
    }
}

impl std::fmt::Display for Diverged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.divergence)?;
        let r = &self.registers.general;
        writeln!(f, "  registers:")?;
        let named = [
            ("rax", r.rax),
            ("rbx", r.rbx),
            ("rcx", r.rcx),
            ("rdx", r.rdx),
            ("rsi", r.rsi),
            ("rdi", r.rdi),
            ("rsp", r.rsp),
            ("rbp", r.rbp),
            ("r8", r.r8),
            ("r9", r.r9),
            ("r10", r.r10),
            ("r11", r.r11),
            ("r12", r.r12),
            ("r13", r.r13),
            ("r14", r.r14),
            ("r15", r.r15),
            ("rip", r.rip),
            ("rflags", r.rflags),
            ("fs_base", self.registers.fs_base),
            ("gs_base", self.registers.gs_base),
        ];
        for row in named.chunks(4) {
            let row: Vec<String> =
                row.iter().map(|(name, value)| format!("{name:>7} {value:016x}")).collect();
            writeln!(f, "   {}", row.join(" "))?;
        }
        Ok(())
    }
}

/// From an error of what a sandbox is made of.
macro_rules! from {
    ($($from:ty: $to:expr;)*) => {$(
        impl From<$from> for Error {
            fn from(e: $from) -> Error {
                $to(e).or_limit()
            }
        }
    )*};
}

from! {
    HostError: Error::Host;
    GrantError: Error::Grant;
    dejavm_snapshot::Error: |e| Error::Snapshot(Box::new(e));
    dejavm_replay::Error: |e| Error::Recording(Box::new(e));
    dejavm_replay::TimelineError: |e| Error::Timeline(Box::new(e));
    SaveError: |e| Error::Save(Box::new(e));
    RunError: |e| Error::Run(Box::new(e));
}

impl From<StartError> for Error {
    fn from(e: StartError) -> Error {
        match e {
            StartError::Host(e) => e.into(),
            StartError::Snapshot(e) => e.into(),
            e => Error::Start(Box::new(e)).or_limit(),
        }
    }
}
