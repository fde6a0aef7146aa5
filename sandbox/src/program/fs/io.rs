//! Reading and writing what an inode holds.

use super::content::{Content, MAX_FILE};
use super::env::Env;
use super::error::{FsError, FsResult, fail};
use super::inode::{Body, InodeId, Text, Way};
use super::output::Spot;
use super::proc::ProcNode;
use super::{Anon, Fs};
use crate::errno::Errno;

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IoOutcome {
    /// So many bytes were taken; the call is over.
    Done(usize),
    /// So many bytes were taken, less than all, by a pipe that blocks: the call goes on with the
    /// rest once other tasks have run. A signal ends it with what was taken.
    Partial(usize),
    /// A message to the monitor, all of it taken.
    Control(Vec<u8>),
}

/// What kind of reading and writing an inode has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Bytes at offsets.
    File,
    Dir,
    /// A character device where offsets mean nothing.
    Device,
    /// A stream of bytes.
    Stream,
    Pipe,
    /// Without a name: see [`Anon`](super::Anon).
    Anon,
    /// It cannot be read or written.
    Closed,
}

impl Fs {
    pub(crate) fn nature(&self, id: InodeId) -> Nature {
        if let Some(node) = ProcNode::of(id) {
            return if node.is_dir() { Nature::Dir } else { Nature::File };
        }
        match self.inode(id).map(|inode| &inode.body) {
            Ok(Body::File(_) | Body::Text(_) | Body::Output(_)) => Nature::File,
            Ok(Body::Dir(_)) => Nature::Dir,
            Ok(Body::Device(super::inode::Device::Tty)) => Nature::Stream,
            Ok(Body::Device(_)) => Nature::Device,
            Ok(Body::Stream(_)) => Nature::Stream,
            Ok(Body::Pipe(_)) => Nature::Pipe,
            Ok(Body::Anon(_)) => Nature::Anon,
            _ => Nature::Closed,
        }
    }

    /// Reads content at an offset; short only at the end, where it is 0. Also for the pages of a
    /// mapping, as long as the inode is held.
    ///
    /// # Errors
    /// `EINVAL` for what has no content; `EIO` when the host's file changed.
    pub fn read_at(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        offset: u64,
        buf: &mut [u8],
    ) -> FsResult<usize> {
        if let Some(pid) = ProcNode::of(id).and_then(ProcNode::memory) {
            let n = env.caller.read_memory(pid, offset, buf)?;
            return if n == 0 && !buf.is_empty() { fail(Errno::EIO) } else { Ok(n) };
        }
        if let Some((thread, text)) = ProcNode::of(id).and_then(ProcNode::text) {
            return Ok(slice(&self.text_of(env, thread, &text), offset, buf));
        }
        self.ensure(env, id)?;
        let (inode, chunks, mut host) = self.parts(env.world, id)?;
        match &inode.body {
            Body::File(Content::Blocks(blocks)) => blocks.read(chunks, &mut host, offset, buf),
            Body::File(Content::Shared { object, len, below }) => {
                let n = len.saturating_sub(offset).min(buf.len() as u64) as usize;
                let content = (*object, *below);
                if n > 0 {
                    self.read_shared(env, content, offset, &mut buf[..n])?;
                }
                Ok(n)
            }
            Body::Text(text) => {
                let text = text.clone();
                Ok(slice(&self.text_of(env, 0, &text), offset, buf))
            }
            Body::Dir(_) => fail(Errno::EISDIR),
            _ => fail(Errno::EINVAL),
        }
    }

    /// The text of a file of `/proc` and the like as it is now; `None` for what has none.
    pub(crate) fn text_at(&self, env: &mut Env<'_>, id: InodeId) -> Option<Vec<u8>> {
        let (thread, text) = match ProcNode::of(id) {
            Some(node) if node.memory().is_some() => return None,
            Some(node) => node.text()?,
            None => match &self.inode(id).ok()?.body {
                Body::Text(text) => (0, text.clone()),
                _ => return None,
            },
        };
        Some(self.text_of(env, thread, &text))
    }

    /// Writes content at an offset, and extends the file where that is past its end. Short when
    /// room runs out in the middle.
    ///
    /// # Errors
    /// `EFBIG` past the longest file, `ENOSPC` without room, `EINVAL` for what has no content.
    pub fn write_at(&mut self, env: &mut Env<'_>, id: InodeId, offset: u64, data: &[u8]) -> FsResult<usize> {
        if let Some(pid) = ProcNode::of(id).and_then(ProcNode::memory) {
            let n = env.caller.write_memory(pid, offset, data)?;
            return if n == 0 && !data.is_empty() { fail(Errno::EIO) } else { Ok(n) };
        }
        if let Some(node) = ProcNode::of(id) {
            return match node.text() {
                Some((thread, Text::Proc(file))) => {
                    env.caller.set_proc(thread, file, data)?;
                    Ok(data.len())
                }
                _ => fail(Errno::EINVAL),
            };
        }
        self.ensure(env, id)?;
        let data = self.within_size_limit(env, id, offset, data)?;
        if !data.is_empty() && offset < MAX_FILE {
            self.before_change(env, id)?;
        }
        self.drop_set_id(env, id);
        let (inode, chunks, mut host) = self.parts(env.world, id)?;
        let now = env.caller.now();
        let n = match &mut inode.body {
            Body::Text(_) => return Ok(data.len()),
            Body::File(_) if data.is_empty() => return Ok(0),
            Body::File(_) if offset >= MAX_FILE => return fail(Errno::EFBIG),
            Body::File(content) => {
                let n = (MAX_FILE - offset).min(data.len() as u64) as usize;
                let data = &data[..n];
                match content {
                    Content::Blocks(blocks) => blocks.write(chunks, &mut host, offset, data)?,
                    Content::Shared { .. } => {
                        self.write_shared(env, id, offset, data)?;
                        n
                    }
                }
            }
            Body::Dir(_) => return fail(Errno::EISDIR),
            _ => return fail(Errno::EINVAL),
        };
        self.inode_mut(id)?.attr.modified(now);
        Ok(n)
    }

    /// What of a write to a regular file is within the caller's `RLIMIT_FSIZE`.
    pub(super) fn within_size_limit<'a>(
        &self,
        env: &mut Env<'_>,
        id: InodeId,
        offset: u64,
        data: &'a [u8],
    ) -> FsResult<&'a [u8]> {
        let limit = env.caller.file_size_limit();
        if limit == u64::MAX || data.is_empty() || !self.is_regular(id) {
            return Ok(data);
        }
        self.expect_size(env, offset.saturating_add(1))?;
        let room = usize::try_from(limit - offset).unwrap_or(usize::MAX);
        Ok(&data[..data.len().min(room)])
    }

    /// Bytes of a regular file.
    pub fn len(&self, id: InodeId) -> u64 {
        match self.inode(id).map(|inode| &inode.body) {
            Ok(Body::File(content)) => content.len(),
            Ok(Body::Output(file)) => file.len(),
            _ => 0,
        }
    }

    /// Reads an open file of any kind.
    pub(crate) fn read(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        offset: u64,
        buf: &mut [u8],
        nonblock: bool,
    ) -> FsResult<usize> {
        if ProcNode::of(id).is_some() {
            return self.read_at(env, id, offset, buf);
        }
        match &mut self.inode_mut(id)?.body {
            Body::Device(device) => {
                let device = *device;
                self.read_device(env, device, buf, nonblock)
            }
            Body::Pipe(_) => self.read_pipe(id, buf, nonblock),
            Body::Stream(stream) if stream.tty || stream.way == Way::Stdin => {
                let tty = stream.tty;
                self.read_input(env, tty, buf, nonblock)
            }
            Body::Stream(_) | Body::Output(_) => fail(Errno::EBADF),
            Body::Anon(Anon::Socket) => self.read_socket(id, buf, nonblock),
            Body::Anon(_) => self.read_anon(env, id, buf, nonblock),
            _ => self.read_at(env, id, offset, buf),
        }
    }

    /// Writes an open file of any kind.
    pub(crate) fn write(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        offset: u64,
        data: &[u8],
        nonblock: bool,
    ) -> FsResult<IoOutcome> {
        if ProcNode::of(id).is_some() {
            return self.write_at(env, id, offset, data).map(IoOutcome::Done);
        }
        match &mut self.inode_mut(id)?.body {
            Body::Device(device) => {
                let device = *device;
                self.write_device(env, device, data)
            }
            Body::Pipe(_) => self.write_pipe(id, data, nonblock, false),
            Body::Anon(Anon::Socket) => self.write_socket(env, id, data, nonblock),
            Body::Anon(_) => self.write_anon(id, data, nonblock),
            Body::Stream(stream) => {
                let stream = *stream;
                self.write_stream(env, stream, data).map(IoOutcome::Done)
            }
            Body::Output(_) => self.write_output(env, id, (offset, Spot::Offset), data).map(IoOutcome::Done),
            _ => self.write_at(env, id, offset, data).map(IoOutcome::Done),
        }
    }

    /// The pipe that an inode is.
    pub(crate) fn pipe(&mut self, id: InodeId) -> Option<&mut super::pipe::Pipe> {
        match self.inodes.get_mut(&id).map(|inode| &mut inode.body) {
            Some(Body::Pipe(pipe)) => Some(pipe),
            _ => None,
        }
    }

    /// The first offset from `offset` on with data, or with a hole.
    pub(crate) fn seek_data(&self, id: InodeId, offset: u64, hole: bool) -> FsResult<u64> {
        let found = match &self.inode(id)?.body {
            Body::File(Content::Blocks(blocks)) => blocks.seek(offset, hole),
            Body::File(Content::Shared { len, .. }) => {
                (offset < *len).then_some(if hole { *len } else { offset })
            }
            // All of it is data.
            Body::Output(file) => (offset < file.len()).then_some(if hole { file.len() } else { offset }),
            _ => return fail(Errno::EINVAL),
        };
        found.ok_or(FsError::Errno(Errno::ENXIO))
    }
}

/// Copies what a text has after `offset`.
fn slice(text: &[u8], offset: u64, buf: &mut [u8]) -> usize {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let n = (text.len() - from).min(buf.len());
    buf[..n].copy_from_slice(&text[from..from + n]);
    n
}
