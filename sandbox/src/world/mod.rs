//! The one door for the outside.
//!
//! Every bit that is not a function of a sandbox's start state enters through [`World::ask`]: the
//! host's clock, standard input, what became of standard output, and host files. Recording and
//! replaying are other implementations of the same trait; nothing else in the sandbox knows
//! whether it is live, recording or replaying.
//!
//! Two kinds of question:
//! * **ordered** ones are asked at a point of the run that is a function of the run itself (a
//!   system call), so a recording keeps their answers in order;
//! * **keyed** ones ([`Request::ReadBlock`]) may be asked at a page fault, whose moment depends on
//!   the host and on prefetching. Their answer is a function of their key for the whole run, so a
//!   recording keeps it by key.

mod host;
mod standard;
mod terminal;

pub use standard::{OutputChange, StandardFile};
pub use terminal::{TerminalAnswer, TerminalModes, TerminalRequest};

pub use host::{
    GivenFiles, Grant, GrantError, GrantKind, HIDDEN_SETTINGS, HostOutput, HostWorld, HostWorldBuilder,
    Input, InputBuffer, Interrupt, Never, Output, OutputBuffer, SECRET_NAMES, SECRET_PEM, default_grants,
    default_paths,
};

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::errno::Errno;

/// Bytes in one block of a host file, the unit in which file content is asked for. One block is
/// also what a fault on a file mapping brings in.
pub const BLOCK_SIZE: usize = 64 * 1024;

/// The grant of standard input, where that is a regular file: a path in it is empty.
pub const STDIN_GRANT: u32 = u32::MAX;

/// A file or directory of the host, named from one of the granted roots.
///
/// The path has no leading slash, no `.` or `..` and no symbolic links in it: the guest's file
/// system resolves those itself, in the guest's own name space.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPath {
    /// Index of the grant that it lies in, or [`STDIN_GRANT`].
    pub grant: u32,
    /// Path from the grant's root; empty for the root itself.
    pub path: Vec<u8>,
}

/// Where a guest's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A question to the outside.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Request<'a> {
    /// The host's clocks. Ordered.
    Clock,
    /// At most `max` bytes of standard input. Ordered. With `wait` the answer comes when there is
    /// at least one byte or the end, or with `Err(EINTR)` when a signal for the guest comes first;
    /// without, it is [`Response::Input`] with `Err(EAGAIN)` when nothing is there yet.
    Input {
        /// The most bytes wanted.
        max: usize,
        /// Whether to wait for the first byte.
        wait: bool,
    },
    /// Write to an output stream; the answer is how many bytes it took, or `Err(EINTR)` when a signal
    /// for the guest came before it took any. Ordered.
    Output {
        /// The stream.
        stream: Stream,
        /// The bytes.
        data: &'a [u8],
    },
    /// Wait, for as long as it really takes. Ordered.
    Wait {
        /// For this input, until there is some or its end.
        input: Option<Source>,
        /// For so many nanoseconds at most.
        ns: Option<u64>,
    },
    /// The next signal that came for the guest from outside. Ordered; that there is none is not kept in
    /// a recording.
    Signal {
        /// Asked between two exits: for one that ends the guest there, which these do (bit `n - 1` for
        /// signal `n`), and any that was sent again before the guest took it. Else, in a system call,
        /// for any.
        fatal: Option<u64>,
    },
    /// Something of the guest's terminal. Ordered.
    Terminal(TerminalRequest),
    /// `lstat` of a host file. Ordered.
    Metadata {
        /// The file.
        path: &'a HostPath,
    },
    /// The target of a symbolic link. Ordered.
    ReadLink {
        /// The link.
        path: &'a HostPath,
    },
    /// The names in a directory. Ordered; the answer is sorted by name.
    ReadDir {
        /// The directory.
        path: &'a HostPath,
    },
    /// Block `block` of a regular file, of [`BLOCK_SIZE`] bytes, shorter at the file's end. Keyed:
    /// the same answer each time that it is asked in a run.
    ReadBlock {
        /// The file.
        path: &'a HostPath,
        /// The block's number from the file's start.
        block: u64,
    },
    /// Change the regular file that an output stream is, otherwise than by a write at its position; the
    /// answer is how many bytes were taken, 0 where there are none. Ordered.
    OutputFile {
        /// The stream.
        stream: Stream,
        /// The change.
        change: OutputChange<'a>,
    },
}

/// Where a guest's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// The terminal, where standard input is something else.
    Terminal,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Woken {
    /// By what.
    pub by: Wake,
    /// How long it took, nanoseconds; never longer than the time that was to be waited.
    pub ns: u64,
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wake {
    /// There is input, or its end.
    Input,
    /// The time is over.
    Time,
    /// There is a signal.
    Signal,
    /// Nothing: what was waited for cannot come.
    Never,
}

/// The host's clocks at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostClock {
    /// Since the Unix epoch.
    pub realtime: u64,
    /// Since an arbitrary start; never goes back.
    pub monotonic: u64,
}

/// What a host file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, socket or FIFO: it exists, and cannot be opened.
    Other,
}

/// What a guest may learn of a host file. Times of access and change, inode and device numbers are
/// left out, since they differ between hosts and from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Links. Only of directories are they the host's: what other names a file has may lie where
    /// the guest sees nothing, so that it has one.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// Time of last modification, nanoseconds since the Unix epoch.
    pub mtime: i64,
}

/// What tells whether a host file is still the one that a guest knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// Time of last modification, nanoseconds since the Unix epoch.
    pub mtime: i64,
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, nanos) = (self.mtime.div_euclid(1_000_000_000), self.mtime.rem_euclid(1_000_000_000));
        write!(f, "{} bytes, modified at @{seconds}.{nanos:09}", self.size)
    }
}

fn now_has(is: &Option<Fingerprint>) -> String {
    is.map_or_else(|| "nothing there".into(), |is| is.to_string())
}

/// A host file that a guest knows already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Its path in the guest, for messages.
    pub name: Vec<u8>,
    /// What it was.
    pub fingerprint: Fingerprint,
    /// Whether its content is mapped: the guest has parts of it in memory.
    pub mapped: bool,
}

/// A name in a host directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DirEntry {
    /// The name, without a slash.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: FileKind,
}

/// An answer from the outside, of the same variant as its [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Clock`].
    Clock(HostClock),
    /// To [`Request::Input`]: the bytes, none at the end.
    Input(Result<Vec<u8>, Errno>),
    /// To [`Request::Output`]: how many bytes were taken.
    Output(Result<usize, Errno>),
    /// To [`Request::Metadata`].
    Metadata(Result<Metadata, Errno>),
    /// To [`Request::ReadLink`].
    Link(Result<Vec<u8>, Errno>),
    /// To [`Request::ReadDir`].
    Dir(Result<Vec<DirEntry>, Errno>),
    /// To [`Request::ReadBlock`]. Shared, because a recorder keeps it as long as it likes.
    Block(Result<Arc<[u8]>, Errno>),
    /// To [`Request::Wait`].
    Wait(Woken),
    /// To [`Request::Signal`]: its number, if there is one.
    Signal(Option<u32>),
    /// To [`Request::Terminal`]; `ENOTTY` where there is no terminal outside.
    Terminal(Result<TerminalAnswer, Errno>),
    /// To [`Request::OutputFile`]; `ESPIPE` or `EINVAL` where the stream is no regular file.
    OutputFile(Result<usize, Errno>),
}

/// Why the outside gave no answer at all. The guest is not told: the run ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The run was stopped, or reached its deadline, while waiting.
    #[error("stopped while waiting for the outside")]
    Interrupted,
    /// A replayed run asked something else than the recorded one.
    #[error("{0}")]
    Diverged(String),
    /// A recording ends here.
    #[error("the recording ends here")]
    EndOfLog,
    /// The recorder could not write.
    #[error("recording: {0}")]
    Recorder(String),
    /// A recording came to the limit of its log. What was recorded until then can be replayed.
    #[error("the log has come to its limit of {limit} bytes")]
    LogFull {
        /// The limit.
        limit: u64,
    },
    /// A host file is not what it was when the snapshot was made.
    #[error(
        "{path} changed on the host since the snapshot was made: it had {}, now it has {}; put it back as it \
         was, or make the snapshot again, or take the host's files as they are (--files host)",
        .was, now_has(.is)
    )]
    FileChanged {
        /// Its path in the guest.
        path: String,
        /// What it was.
        was: Fingerprint,
        /// What it is; `None` when it is not there.
        is: Option<Fingerprint>,
    },
    /// The monitor could not open a host file for want of a descriptor of its own, which is no matter of
    /// the guest's.
    #[error("cannot open the host's files: {0}")]
    Descriptors(#[source] std::io::Error),
    /// The answer was of another kind than the question.
    #[error("the outside answered {got} to {asked}")]
    Mismatch {
        /// What was asked.
        asked: &'static str,
        /// What came.
        got: &'static str,
    },
}

/// The outside of a sandbox.
pub trait World: Send {
    /// Answers one question.
    ///
    /// # Errors
    /// [`WorldError`] when there is no answer and the run must end.
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError>;

    /// Whether [`Request::ReadBlock`] for this block has an answer. It has, where there is a host to
    /// ask. A recording has only the blocks that the recorded run read: whoever brings in more than
    /// the guest wants asks here first, and does without the others.
    fn has_block(&self, _path: &HostPath, _block: u64) -> bool {
        true
    }

    /// Whether [`Request::Signal`] may have an answer other than that there is none. Asked at every exit,
    /// where RDTSC may fault on the thread: it reads no clock.
    fn may_have_signal(&self) -> bool {
        true
    }

    /// Moves the position of standard input, which whoever gave it shares, to where the guest's is. It
    /// tells the guest nothing, and is not kept in a recording.
    fn seek_input(&mut self, _offset: u64) {}

    /// Moves the position of an output stream: see [`World::seek_input`].
    fn seek_output(&mut self, _stream: Stream, _offset: u64) {}
}

impl Request<'_> {
    /// The question's name, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Request::Clock => "clock",
            Request::Input { .. } => "input",
            Request::Output { .. } => "output",
            Request::Wait { .. } => "wait",
            Request::Signal { .. } => "signal",
            Request::Terminal(_) => "terminal",
            Request::Metadata { .. } => "metadata",
            Request::ReadLink { .. } => "readlink",
            Request::ReadDir { .. } => "readdir",
            Request::ReadBlock { .. } => "read-block",
            Request::OutputFile { .. } => "output-file",
        }
    }
}

impl Response {
    /// The answer's name, for messages: the same as its question's.
    pub fn name(&self) -> &'static str {
        match self {
            Response::Clock(_) => "clock",
            Response::Input(_) => "input",
            Response::Output(_) => "output",
            Response::Metadata(_) => "metadata",
            Response::Link(_) => "readlink",
            Response::Dir(_) => "readdir",
            Response::Block(_) => "read-block",
            Response::Wait(_) => "wait",
            Response::Signal(_) => "signal",
            Response::Terminal(_) => "terminal",
            Response::OutputFile(_) => "output-file",
        }
    }
}

/// Asks `$request` and takes the answer out of its variant.
macro_rules! ask {
    ($world:expr, $request:expr, $variant:ident) => {{
        let request = $request;
        match $world.ask(request)? {
            Response::$variant(answer) => Ok(answer),
            other => Err(WorldError::Mismatch { asked: request.name(), got: other.name() }),
        }
    }};
}

/// Each question with its answer's own type. The outer error ends the run; the inner one is the
/// guest's.
impl dyn World + '_ {
    /// [`Request::Clock`].
    pub fn clock(&mut self) -> Result<HostClock, WorldError> {
        ask!(self, Request::Clock, Clock)
    }

    /// [`Request::Input`].
    pub fn input(&mut self, max: usize, wait: bool) -> Result<Result<Vec<u8>, Errno>, WorldError> {
        ask!(self, Request::Input { max, wait }, Input)
    }

    /// [`Request::Output`].
    pub fn output(&mut self, stream: Stream, data: &[u8]) -> Result<Result<usize, Errno>, WorldError> {
        ask!(self, Request::Output { stream, data }, Output)
    }

    /// [`Request::OutputFile`].
    pub fn output_file(
        &mut self,
        stream: Stream,
        change: OutputChange<'_>,
    ) -> Result<Result<usize, Errno>, WorldError> {
        ask!(self, Request::OutputFile { stream, change }, OutputFile)
    }

    /// [`Request::Wait`].
    pub fn wait(&mut self, input: Option<Source>, ns: Option<u64>) -> Result<Woken, WorldError> {
        ask!(self, Request::Wait { input, ns }, Wait)
    }

    /// [`Request::Signal`].
    pub fn signal(&mut self, fatal: Option<u64>) -> Result<Option<u32>, WorldError> {
        ask!(self, Request::Signal { fatal }, Signal)
    }

    /// [`Request::Terminal`].
    pub fn terminal(
        &mut self,
        request: TerminalRequest,
    ) -> Result<Result<TerminalAnswer, Errno>, WorldError> {
        ask!(self, Request::Terminal(request), Terminal)
    }

    /// [`Request::Metadata`].
    pub fn metadata(&mut self, path: &HostPath) -> Result<Result<Metadata, Errno>, WorldError> {
        ask!(self, Request::Metadata { path }, Metadata)
    }

    /// [`Request::ReadLink`].
    pub fn read_link(&mut self, path: &HostPath) -> Result<Result<Vec<u8>, Errno>, WorldError> {
        ask!(self, Request::ReadLink { path }, Link)
    }

    /// [`Request::ReadDir`].
    pub fn read_dir(&mut self, path: &HostPath) -> Result<Result<Vec<DirEntry>, Errno>, WorldError> {
        ask!(self, Request::ReadDir { path }, Dir)
    }

    /// [`Request::ReadBlock`].
    pub fn read_block(
        &mut self,
        path: &HostPath,
        block: u64,
    ) -> Result<Result<Arc<[u8]>, Errno>, WorldError> {
        ask!(self, Request::ReadBlock { path, block }, Block)
    }
}
