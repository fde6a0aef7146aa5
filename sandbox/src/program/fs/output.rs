//! Standard output and standard error where they are regular files.
//!
//! What is in such a file stays outside: it can be written, cut and extended, but not read or mapped. Its
//! length is what the guest makes of it; whatever others write to it meanwhile the guest does not see. What
//! was before the guest's first byte is not the guest's to change: where there is something, opening the file
//! anew cuts what is behind it, and appends.

use serde::{Deserialize, Serialize};

use super::Fs;
use super::content::MAX_FILE;
use super::env::Env;
use super::error::{FsError, FsResult, fail};
use super::inode::{Body, InodeId};
use crate::errno::Errno;
use crate::world::{OutputChange, StandardFile, Stream};

/// Standard output or error where it is a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutputFile {
    stream: Stream,
    len: u64,
    /// Bytes at its start that were there before the guest.
    others: u64,
}

/// Where in the file a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// To the position that is shared with whoever gave the stream, and which it moves.
    Position,
    /// To its end.
    End,
    /// To the offset of the write.
    Offset,
}

impl OutputFile {
    pub fn new(stream: Stream, file: &StandardFile) -> OutputFile {
        OutputFile { stream, len: file.metadata.size, others: file.others() }
    }

    pub fn stream(&self) -> Stream {
        self.stream
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes at its start that are not the guest's.
    pub fn others(&self) -> u64 {
        self.others
    }

    /// Whether it can be one, after decoding.
    pub fn is_sound(&self) -> bool {
        let OutputFile { stream: _, len, others } = *self;
        others <= len && len <= MAX_FILE
    }
}

impl Fs {
    fn output(&mut self, id: InodeId) -> FsResult<&mut OutputFile> {
        match &mut self.inode_mut(id)?.body {
            Body::Output(file) => Ok(file),
            _ => fail(Errno::EINVAL),
        }
    }

    /// Whether it is a regular file that output goes to.
    pub(crate) fn is_output_file(&self, id: InodeId) -> bool {
        matches!(self.inode(id).map(|inode| &inode.body), Ok(Body::Output(_)))
    }

    /// Whether whoever opens it anew can only append to it: a write at its start would be to what is not the
    /// guest's.
    pub(crate) fn is_only_appended_to(&self, id: InodeId) -> bool {
        matches!(self.inode(id).map(|inode| &inode.body), Ok(Body::Output(file)) if file.others > 0)
    }

    /// Writes to it. What is written is out: it cannot be taken back.
    ///
    /// # Errors
    /// `EPERM` for what was there before the guest, `EFBIG`, and what the outside says.
    pub(crate) fn write_output(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        (offset, spot): (u64, Spot),
        data: &[u8],
    ) -> FsResult<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        if offset >= MAX_FILE {
            return fail(Errno::EFBIG);
        }
        let data = self.within_size_limit(env, id, offset, data)?;
        let data = &data[..data.len().min(usize::try_from(MAX_FILE - offset).unwrap_or(usize::MAX))];
        let file = *self.output(id)?;
        if offset < file.others {
            return fail(Errno::EPERM);
        }
        let taken = match spot {
            Spot::Position => env.world.output(file.stream, data)?,
            Spot::End => env.world.output_file(file.stream, OutputChange::Append { data })?,
            Spot::Offset => env.world.output_file(file.stream, OutputChange::Write { offset, data })?,
        };
        let n = match taken {
            Ok(n) if n <= data.len() => n,
            Ok(_) => return fail(Errno::EIO),
            Err(Errno::EINTR) => return Err(FsError::Signal),
            Err(errno) => return fail(errno),
        };
        self.drop_set_id(env, id);
        let file = self.output(id)?;
        file.len = file.len.max(offset + n as u64);
        self.inode_mut(id)?.attr.modified(env.caller.now());
        Ok(n)
    }

    /// Cuts or extends it.
    ///
    /// # Errors
    /// `EPERM` for what was there before the guest, and what the outside says.
    pub(super) fn resize_output(&mut self, env: &mut Env<'_>, id: InodeId, len: u64) -> FsResult<()> {
        let file = *self.output(id)?;
        if len < file.others {
            return fail(Errno::EPERM);
        }
        env.world.output_file(file.stream, OutputChange::Resize { len })??;
        self.output(id)?.len = len;
        self.inode_mut(id)?.attr.modified(env.caller.now());
        Ok(())
    }

    /// Has what was written to it on the disk; does nothing for any other file.
    ///
    /// # Errors
    /// What the outside says.
    pub(crate) fn sync_output(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<()> {
        if let Ok(&mut OutputFile { stream, .. }) = self.output(id) {
            env.world.output_file(stream, OutputChange::Sync)??;
        }
        Ok(())
    }

    /// Has what was written to all of them on the disk, as far as that goes.
    ///
    /// # Errors
    /// When the run must be over.
    pub(crate) fn sync_outputs(&mut self, env: &mut Env<'_>) -> FsResult<()> {
        for id in self.streams.inodes.clone() {
            if let Err(e) = self.sync_output(env, id)
                && !matches!(e, FsError::Errno(_))
            {
                return Err(e);
            }
        }
        Ok(())
    }
}
