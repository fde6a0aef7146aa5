//! What a log is made of.

use std::fmt;

use dejavm_sandbox::exit::{Exit, Fault};
use dejavm_sandbox::world::{HostPath, OutputChange, Request, Response, Source, Stream, TerminalRequest};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An ordered question to the outside and its answer.
    World(WorldRecord),
    /// A keyed question ([`Request::ReadBlock`]) and its answer. Its place in the log says no more
    /// than that it is before the exits that came after it: it is not part of the run's order.
    Keyed(KeyedRecord),
    /// A compared exit.
    Exit(Exit),
    /// A page brought in.
    Fault(Fault),
}

/// An ordered question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldRecord {
    /// What the run asked.
    pub asked: Asked,
    /// What the outside said.
    pub answer: Answer,
}

/// A block of a host file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedRecord {
    /// The file.
    pub path: HostPath,
    /// The block's number from the file's start, in [`dejavm_sandbox::world::BLOCK_SIZE`] units.
    pub block: u64,
    /// What the outside said.
    pub answer: Answer,
}

/// An ordered [`Request`] as the log keeps it: output data is replaced by its length and digest,
/// since a replay computes the data again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// [`Request::Clock`].
    Clock,
    /// [`Request::Input`].
    Input {
        /// The most bytes wanted.
        max: u64,
        /// Whether to wait for the first byte.
        wait: bool,
    },
    /// [`Request::Output`].
    Output {
        /// The stream.
        stream: Stream,
        /// Bytes of data.
        len: u64,
        /// xxh3-64 of the data.
        digest: u64,
    },
    /// [`Request::Metadata`].
    Metadata {
        /// The file.
        path: HostPath,
    },
    /// [`Request::ReadLink`].
    ReadLink {
        /// The link.
        path: HostPath,
    },
    /// [`Request::ReadDir`].
    ReadDir {
        /// The directory.
        path: HostPath,
    },
    /// [`Request::Wait`].
    Wait {
        /// For which input.
        input: Option<Source>,
        /// For how long at most, nanoseconds.
        ns: Option<u64>,
    },
    /// [`Request::Signal`]: one that came.
    Signal {
        /// Between two exits: it ended the guest.
        fatal: bool,
    },
    /// [`Request::Terminal`].
    Terminal(TerminalRequest),
    /// [`Request::OutputFile`].
    OutputFile {
        /// The stream.
        stream: Stream,
        /// The change.
        change: AskedChange,
    },
}

/// An [`OutputChange`] as the log keeps it: data is replaced by its length and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskedChange {
    /// [`OutputChange::Write`].
    Write {
        /// The offset.
        offset: u64,
        /// Bytes of data.
        len: u64,
        /// xxh3-64 of the data.
        digest: u64,
    },
    /// [`OutputChange::Append`].
    Append {
        /// Bytes of data.
        len: u64,
        /// xxh3-64 of the data.
        digest: u64,
    },
    /// [`OutputChange::Resize`].
    Resize {
        /// The length, bytes.
        len: u64,
    },
    /// [`OutputChange::Sync`].
    Sync,
}

impl AskedChange {
    fn of(change: &OutputChange<'_>) -> AskedChange {
        let (bytes, digest) = (change.data().len() as u64, xxh3_64(change.data()));
        match *change {
            OutputChange::Write { offset, .. } => AskedChange::Write { offset, len: bytes, digest },
            OutputChange::Append { .. } => AskedChange::Append { len: bytes, digest },
            OutputChange::Resize { len } => AskedChange::Resize { len },
            OutputChange::Sync => AskedChange::Sync,
        }
    }
}

impl Asked {
    /// From a question; `None` for the keyed kind.
    pub fn of(request: &Request<'_>) -> Option<Asked> {
        Some(match *request {
            Request::Clock => Asked::Clock,
            Request::Input { max, wait } => Asked::Input { max: max as u64, wait },
            Request::Output { stream, data } => {
                Asked::Output { stream, len: data.len() as u64, digest: xxh3_64(data) }
            }
            Request::Metadata { path } => Asked::Metadata { path: path.clone() },
            Request::ReadLink { path } => Asked::ReadLink { path: path.clone() },
            Request::ReadDir { path } => Asked::ReadDir { path: path.clone() },
            Request::Wait { input, ns } => Asked::Wait { input, ns },
            Request::Signal { fatal } => Asked::Signal { fatal: fatal.is_some() },
            Request::Terminal(request) => Asked::Terminal(request),
            Request::OutputFile { stream, change } => {
                Asked::OutputFile { stream, change: AskedChange::of(&change) }
            }
            Request::ReadBlock { .. } => return None,
        })
    }

    /// Whether `request` is this question.
    pub fn is(&self, request: &Request<'_>) -> bool {
        match (self, request) {
            (Asked::Clock, Request::Clock) => true,
            (Asked::Input { max, wait }, Request::Input { max: m, wait: w }) => {
                *max == *m as u64 && wait == w
            }
            (Asked::Output { stream, len, digest }, Request::Output { stream: s, data }) => {
                stream == s && *len == data.len() as u64 && *digest == xxh3_64(data)
            }
            (Asked::Metadata { path }, Request::Metadata { path: p })
            | (Asked::ReadLink { path }, Request::ReadLink { path: p })
            | (Asked::ReadDir { path }, Request::ReadDir { path: p }) => path == *p,
            (Asked::Wait { input, ns }, Request::Wait { input: i, ns: n }) => input == i && ns == n,
            (Asked::Signal { fatal }, Request::Signal { fatal: f }) => *fatal == f.is_some(),
            (Asked::Terminal(asked), Request::Terminal(request)) => asked == request,
            (Asked::OutputFile { stream, change }, Request::OutputFile { stream: s, change: c }) => {
                stream == s && *change == AskedChange::of(c)
            }
            _ => false,
        }
    }

    /// The question's name, the same as [`Request::name`].
    pub fn name(&self) -> &'static str {
        match self {
            Asked::Clock => "clock",
            Asked::Input { .. } => "input",
            Asked::Output { .. } => "output",
            Asked::Metadata { .. } => "metadata",
            Asked::ReadLink { .. } => "readlink",
            Asked::ReadDir { .. } => "readdir",
            Asked::Wait { .. } => "wait",
            Asked::Signal { .. } => "signal",
            Asked::Terminal(_) => "terminal",
            Asked::OutputFile { .. } => "output-file",
        }
    }
}

/// An answer as the log keeps it: long ones by reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The answer itself.
    Inline(Response),
    /// A successful answer whose bytes are kept once, by content.
    Blob {
        /// Which answer it is.
        kind: BlobKind,
        /// The content's name.
        id: BlobId,
        /// The content's length, bytes.
        len: u32,
    },
}

impl Answer {
    /// The answer's name, the same as [`Response::name`].
    pub fn name(&self) -> &'static str {
        match self {
            Answer::Inline(response) => response.name(),
            Answer::Blob { kind: BlobKind::Input, .. } => "input",
            Answer::Blob { kind: BlobKind::Link, .. } => "readlink",
            Answer::Blob { kind: BlobKind::Dir, .. } => "readdir",
            Answer::Blob { kind: BlobKind::Block, .. } => "read-block",
        }
    }
}

/// What a blob is the content of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BlobKind {
    /// The bytes of [`Response::Input`].
    Input,
    /// The bytes of [`Response::Link`].
    Link,
    /// The encoded entries of [`Response::Dir`].
    Dir,
    /// The bytes of [`Response::Block`].
    Block,
}

/// The name of a content: the first 16 bytes of its BLAKE3 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlobId(pub [u8; 16]);

impl BlobId {
    /// The name of `content`.
    pub fn of(content: &[u8]) -> BlobId {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(content).as_bytes()[..16]);
        BlobId(id)
    }

    /// From 32 hexadecimal digits; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<BlobId> {
        parse_hex16(text).map(BlobId)
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

pub(crate) fn parse_hex16(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    Some(u128::from_str_radix(text, 16).ok()?.to_be_bytes())
}
