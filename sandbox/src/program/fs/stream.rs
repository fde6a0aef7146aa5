//! The standard streams.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Fs;
use super::check::Inconsistent;
use super::content::{Blocks, Content, MAX_FILE};
use super::env::Env;
use super::error::{FsError, FsResult, fail};
use super::inode::{Body, Device, InodeId, Lower, Place, StreamBody, Way};
use super::lower::attr_of;
use super::output::OutputFile;
use crate::errno::Errno;
use crate::host::tty::TERMIOS_SIZE as HOST_TERMIOS_SIZE;
use crate::world::{
    FileKind, STDIN_GRANT, Source, StandardFile, Stream, TerminalAnswer, TerminalRequest, Wake,
};

/// Bytes asked of standard input at once.
const INPUT_MAX: usize = 1 << 20;

/// Bytes given to an output stream at once.
const OUTPUT_MAX: usize = 1 << 20;

/// Bytes asked for only to find out whether there is input.
const PEEK: usize = 64 * 1024;

/// Bytes of the kernel's `struct termios`.
pub(crate) const TERMIOS_SIZE: usize = HOST_TERMIOS_SIZE;

/// What a standard stream looks like to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StdioKind {
    /// A terminal.
    Tty {
        /// Its height.
        rows: u16,
        /// Its width.
        cols: u16,
    },
    /// A pipe.
    #[default]
    Pipe,
    /// `/dev/null`.
    Null,
    /// Closed.
    Closed,
    /// A regular file. Standard input must lead to that very file ([`Input::Fd`](crate::world::Input) or
    /// the standard input of this process); what is written to standard output and error need not.
    File(StandardFile),
}

/// The three standard streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// Standard input.
    pub stdin: StdioKind,
    /// Standard output.
    pub stdout: StdioKind,
    /// Standard error.
    pub stderr: StdioKind,
    /// Standard error is the same open stream as standard output (`2>&1`).
    pub merged: bool,
}

/// The streams' state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Streams {
    pub stdio: Stdio,
    /// The inodes of fd 0, 1 and 2.
    pub inodes: Vec<InodeId>,
    /// `/dev/pts/0`, if there is a terminal.
    pub pts: Option<InodeId>,
    /// Input that was asked for only to find out whether there is some.
    ahead: VecDeque<u8>,
    /// The end was found instead of input; the next read gives it.
    end_ahead: bool,
    terminal: Terminal,
}

/// What a guest set of its terminal, where it did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Terminal {
    /// `struct termios`.
    pub termios: Option<Vec<u8>>,
    /// Rows and columns.
    pub size: Option<(u16, u16)>,
    /// The foreground process group.
    pub foreground: Option<u32>,
    /// Rows and columns at the start.
    first_size: Option<(u16, u16)>,
}

impl Terminal {
    /// Rows and columns.
    pub fn window(&self) -> (u16, u16) {
        self.size.or(self.first_size).unwrap_or((24, 80))
    }
}

/// Whether a file can be what a stream is said to be.
fn is_possible(kind: StdioKind) -> bool {
    let StdioKind::File(StandardFile { metadata, position, append: _ }) = kind else { return true };
    metadata.kind == FileKind::Regular
        && metadata.mode & !0o7777 == 0
        && metadata.size <= MAX_FILE
        && i64::try_from(position).is_ok()
}

impl Streams {
    /// Checks what was decoded.
    pub fn check(&self, exists: impl Fn(InodeId) -> bool) -> Result<(), Inconsistent> {
        let Streams { stdio, inodes, pts, ahead, end_ahead: _, terminal } = self;
        let Stdio { stdin, stdout, stderr, merged: _ } = *stdio;
        let Terminal { termios, size: _, foreground: _, first_size: _ } = terminal;
        let sound = inodes.len() == 3
            && inodes.iter().chain(pts).all(|id| exists(*id))
            && ahead.len() <= PEEK
            && [stdin, stdout, stderr].into_iter().all(is_possible)
            && termios.as_ref().is_none_or(|termios| termios.len() == TERMIOS_SIZE);
        if sound { Ok(()) } else { Err(Inconsistent("a standard stream")) }
    }

    fn first_tty(&self) -> Option<(u16, u16)> {
        let kinds = [self.stdio.stdin, self.stdio.stdout, self.stdio.stderr];
        kinds.into_iter().find_map(|kind| match kind {
            StdioKind::Tty { rows, cols } => Some((rows, cols)),
            _ => None,
        })
    }
}

impl Fs {
    /// Whether an inode is the sandbox's standard input.
    pub fn is_stdin(&self, id: InodeId) -> bool {
        match self.inode(id).map(|inode| &inode.body) {
            Ok(Body::Stream(stream)) => stream.tty || stream.way == Way::Stdin,
            Ok(Body::File(_)) => self.standard_file(id).is_some(),
            _ => false,
        }
    }

    /// Whether a file is standard output.
    pub fn is_stdout(&self, id: InodeId) -> bool {
        match self.inode(id).map(|inode| &inode.body) {
            Ok(Body::Stream(stream)) => stream.tty || stream.way == Way::Stdout,
            Ok(Body::Output(file)) => file.stream() == Stream::Stdout,
            _ => false,
        }
    }

    pub(super) fn build_streams(&mut self, stdio: Stdio) {
        self.streams.stdio = stdio;
        self.streams.terminal.first_size = self.streams.first_tty();
        let dev = self.built_in_child(self.root, "dev");
        if self.streams.first_tty().is_some()
            && let Some(pts) = dev.and_then(|dev| self.built_in_child(dev, "pts"))
        {
            // Reads come from standard input, writes go to standard output.
            let body = Body::Stream(StreamBody { way: Way::Stdout, tty: true });
            self.streams.pts = Some(self.add_built_in(pts, b"0", Place::Pts, 0o620, body));
        }
        let null = dev.and_then(|dev| self.built_in_child(dev, "null"));
        for (way, kind) in
            [(Way::Stdin, stdio.stdin), (Way::Stdout, stdio.stdout), (Way::Stderr, stdio.stderr)]
        {
            let id = match (kind, null) {
                (StdioKind::Null | StdioKind::Closed, Some(null)) => null,
                // One that is longer than files are here is a pipe, as what cannot be sought in.
                (StdioKind::File(file), _) if is_possible(kind) => self.build_file(way, &file),
                (kind, _) => {
                    let tty = matches!(kind, StdioKind::Tty { .. });
                    let place = if tty { Place::Pts } else { Place::Pipes };
                    let body = Body::Stream(StreamBody { way, tty });
                    // It has no name, so its parent must not list it.
                    let id = InodeId(self.next_inode);
                    self.add_built_in(id, b"", place, if tty { 0o620 } else { 0o600 }, body)
                }
            };
            self.streams.inodes.push(id);
        }
    }

    fn build_file(&mut self, way: Way, file: &StandardFile) -> InodeId {
        let StandardFile { metadata, .. } = file;
        let stream = match way {
            Way::Stdin => None,
            Way::Stdout => Some(Stream::Stdout),
            Way::Stderr => Some(Stream::Stderr),
        };
        let body = match stream {
            None => {
                let lower = Lower::new(STDIN_GRANT, Vec::new());
                Body::File(Content::Blocks(Blocks::lower(lower, metadata.size, metadata.mtime)))
            }
            Some(stream) => Body::Output(OutputFile::new(stream, file)),
        };
        let id = InodeId(self.next_inode);
        self.add_built_in(id, b"", Place::Pipes, metadata.mode, body);
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.attr = attr_of(metadata);
        }
        id
    }

    /// What a regular file on a standard stream was at the start.
    pub(crate) fn standard_file(&self, id: InodeId) -> Option<StandardFile> {
        let Stdio { stdin, stdout, stderr, merged: _ } = self.streams.stdio;
        let kinds = self.streams.inodes.iter().zip([stdin, stdout, stderr]);
        kinds.into_iter().find_map(|(inode, kind)| match kind {
            StdioKind::File(file) if *inode == id => Some(file),
            _ => None,
        })
    }

    /// The guest's position in a regular file on a standard stream is another: it is that of whoever gave
    /// the stream, too.
    pub(crate) fn seek_outside(&self, env: &mut Env<'_>, id: InodeId, offset: u64) {
        match self.inode(id).map(|inode| &inode.body) {
            Ok(Body::Output(file)) => env.world.seek_output(file.stream(), offset),
            Ok(Body::File(_)) if self.standard_file(id).is_some() => env.world.seek_input(offset),
            _ => {}
        }
    }

    /// The inodes of the standard streams, none of those that are closed, and whether the last two are
    /// one.
    pub(crate) fn stdio_inodes(&self) -> (Vec<Option<InodeId>>, bool) {
        let Stdio { stdin, stdout, stderr, merged } = self.streams.stdio;
        let kinds = [stdin, stdout, stderr].into_iter().zip(&self.streams.inodes);
        (kinds.map(|(kind, id)| (kind != StdioKind::Closed).then_some(*id)).collect(), merged)
    }

    pub(super) fn has_tty(&self) -> bool {
        self.streams.pts.is_some()
    }

    /// Whether one of the standard streams is a terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.has_tty()
    }

    /// Where reads of a terminal's inode, or of standard input, come from.
    pub(crate) fn source(&self, tty: bool) -> Source {
        if tty && !self.stdin_is_tty() { Source::Terminal } else { Source::Stdin }
    }

    fn stdin_is_tty(&self) -> bool {
        matches!(self.streams.stdio.stdin, StdioKind::Tty { .. })
    }

    /// Whether input comes to its end some time, whatever the guest does: not from a terminal, where
    /// somebody may have gone for lunch.
    pub(crate) fn is_certain(&self, source: Source) -> bool {
        source == Source::Stdin && !self.stdin_is_tty()
    }

    /// Reads standard input, or the terminal.
    pub(super) fn read_input(
        &mut self,
        env: &mut Env<'_>,
        tty: bool,
        buf: &mut [u8],
        nonblock: bool,
    ) -> FsResult<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let source = self.source(tty);
        if source == Source::Terminal {
            match read_terminal(env, buf)? {
                Err(Errno::EAGAIN) if !nonblock => return Err(FsError::Input(source)),
                // There is no terminal: as if standard input were one.
                Err(Errno::ENOTTY) => {}
                answer => return Ok(answer?),
            }
        }
        if self.streams.ahead.is_empty() {
            if std::mem::take(&mut self.streams.end_ahead) {
                return Ok(0);
            }
            let max = buf.len().min(INPUT_MAX);
            let timed = env.caller.may_time_out(self.is_certain(source));
            let bytes = match ask_input(env, max, !nonblock && !timed)? {
                Err(Errno::EAGAIN) if !nonblock => return Err(FsError::Input(source)),
                answer => answer?,
            };
            buf[..bytes.len()].copy_from_slice(&bytes);
            return Ok(bytes.len());
        }
        let n = buf.len().min(self.streams.ahead.len());
        for (to, from) in buf.iter_mut().zip(self.streams.ahead.drain(..n)) {
            *to = from;
        }
        Ok(n)
    }

    /// Whether a read of standard input, or of the terminal, would not block. With `wait` it waits until
    /// that is so: for a monitor whose tasks all wait, one of them for input.
    ///
    /// # Errors
    /// When the outside gives no answer.
    pub fn input_ready(&mut self, env: &mut Env<'_>, tty: bool, wait: bool) -> FsResult<bool> {
        let source = self.source(tty);
        let nothing_ahead = self.streams.ahead.is_empty() && !self.streams.end_ahead;
        if source == Source::Terminal || nothing_ahead && self.stdin_is_tty() {
            // What is typed stays in the terminal until it is read: it may be read in another mode, or
            // by another program.
            return match env.world.wait(Some(source), (!wait).then_some(0))?.by {
                Wake::Input => Ok(true),
                Wake::Signal if wait => Err(FsError::Signal),
                Wake::Signal | Wake::Time | Wake::Never => Ok(false),
            };
        }
        if nothing_ahead { self.look_ahead(env, wait) } else { Ok(true) }
    }

    /// Reads ahead, to find out whether there is input.
    fn look_ahead(&mut self, env: &mut Env<'_>, wait: bool) -> FsResult<bool> {
        match ask_input(env, PEEK, wait)? {
            Ok(bytes) if bytes.is_empty() => self.streams.end_ahead = true,
            Ok(bytes) => self.streams.ahead.extend(bytes),
            Err(Errno::EAGAIN) => return Ok(false),
            // A read will give the error.
            Err(_) => {}
        }
        Ok(true)
    }

    /// How many bytes of input can be read at once.
    ///
    /// # Errors
    /// When the outside gives no answer.
    pub(crate) fn input_available(&mut self, env: &mut Env<'_>, tty: bool) -> FsResult<u64> {
        if tty && let Ok(TerminalAnswer::Available(n)) = env.world.terminal(TerminalRequest::Available)? {
            return Ok(u64::from(n) + self.streams.ahead.len() as u64);
        }
        if self.streams.ahead.is_empty() && !self.streams.end_ahead {
            self.look_ahead(env, false)?;
        }
        Ok(self.streams.ahead.len() as u64)
    }

    /// Throws away input that was read ahead.
    pub(crate) fn flush_input(&mut self) {
        self.streams.ahead.clear();
        self.streams.end_ahead = false;
    }

    /// What the guest set of its terminal.
    pub(crate) fn terminal(&mut self) -> &mut Terminal {
        &mut self.streams.terminal
    }

    /// Whether it is the terminal.
    pub(crate) fn is_tty(&self, id: InodeId) -> bool {
        match self.inode(id).map(|inode| &inode.body) {
            Ok(Body::Stream(stream)) => stream.tty,
            Ok(Body::Device(Device::Tty)) => true,
            _ => false,
        }
    }

    /// Whether it is a standard stream that looks like a pipe.
    pub(crate) fn is_pipe_stream(&self, id: InodeId) -> bool {
        matches!(self.inode(id).map(|inode| &inode.body), Ok(Body::Stream(stream)) if !stream.tty)
    }

    /// Whether it is one of the random devices.
    pub(crate) fn is_random(&self, id: InodeId) -> bool {
        let body = self.inode(id).map(|inode| &inode.body);
        matches!(body, Ok(Body::Device(Device::Random | Device::Urandom)))
    }

    /// Writes to a standard stream.
    pub(super) fn write_stream(
        &mut self,
        env: &mut Env<'_>,
        stream: StreamBody,
        data: &[u8],
    ) -> FsResult<usize> {
        let to = match stream.way {
            Way::Stderr if !self.streams.stdio.merged => Stream::Stderr,
            // A terminal can be written to through standard input's descriptor.
            Way::Stdin if !stream.tty => return fail(Errno::EBADF),
            _ => Stream::Stdout,
        };
        let data = &data[..data.len().min(OUTPUT_MAX)];
        let taken = match env.world.output(to, data)? {
            Err(Errno::EINTR) => return Err(FsError::Signal),
            answer => answer?,
        };
        if taken > data.len() { fail(Errno::EIO) } else { Ok(taken) }
    }

    /// Writes to the controlling terminal.
    pub(super) fn write_tty(&mut self, env: &mut Env<'_>, data: &[u8]) -> FsResult<usize> {
        // Standard output may have been led elsewhere while standard error is the terminal.
        let way = match (self.streams.stdio.stdout, self.streams.stdio.stderr) {
            (StdioKind::Tty { .. }, _) => Way::Stdout,
            (_, StdioKind::Tty { .. }) => Way::Stderr,
            _ => Way::Stdout,
        };
        self.write_stream(env, StreamBody { way, tty: true }, data)
    }
}

/// Asks for input: the outer error ends the call with what is not the guest's to see.
fn ask_input(env: &mut Env<'_>, max: usize, wait: bool) -> FsResult<Result<Vec<u8>, Errno>> {
    match env.world.input(max, wait)? {
        Err(Errno::EINTR) => Err(FsError::Signal),
        // More than was asked for would be lost or overrun the buffer.
        Ok(bytes) if bytes.len() > max => Err(FsError::Errno(Errno::EIO)),
        answer => Ok(answer),
    }
}

/// Reads the terminal itself, where standard input is something else.
fn read_terminal(env: &mut Env<'_>, buf: &mut [u8]) -> FsResult<Result<usize, Errno>> {
    let max = u32::try_from(buf.len()).unwrap_or(u32::MAX);
    match env.world.terminal(TerminalRequest::Read(max))? {
        Ok(TerminalAnswer::Read(bytes)) if bytes.len() <= buf.len() => {
            buf[..bytes.len()].copy_from_slice(&bytes);
            Ok(Ok(bytes.len()))
        }
        Ok(_) => Ok(Err(Errno::EIO)),
        Err(errno) => Ok(Err(errno)),
    }
}
