//! Files whose content lives in guest memory, since they are mapped shared.
//!
//! What a file of the host's holds is not moved there: its object has memory where it is touched, and
//! below it lies the content as it was before, which shows everywhere else ([`Content::Shared`]). So a
//! mapping costs what is used of it, whatever the length of the file.

use std::ops::Range;

use super::Fs;
use super::cache::Cached;
use super::content::{Blocks, Content};
use super::env::Env;
use super::error::{FsResult, fail};
use super::frozen::ContentRef;
use super::inode::{Body, InodeId};
use super::proc::ProcNode;
use crate::errno::Errno;
use crate::ram::PAGE_SIZE;

/// Bytes moved at once between the file system and guest memory.
const MOVE: usize = 64 * 1024;

const PAGE: u64 = PAGE_SIZE as u64;

impl Fs {
    /// Whether a file's content is in guest memory.
    pub fn is_shared(&self, id: InodeId) -> bool {
        matches!(self.inode(id).map(|inode| &inode.body), Ok(Body::File(Content::Shared { .. })))
    }

    /// Moves a file's content into guest memory, where a shared mapping and `write` see the same
    /// bytes, and gives the object's number (the inode's). Does nothing if it is there already.
    ///
    /// # Errors
    /// `ENODEV` for what is no regular file; what [`Caller`](super::Caller) says, after which the
    /// content is where it was.
    pub fn make_shared(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<u64> {
        if ProcNode::of(id).is_some() {
            return fail(Errno::ENODEV);
        }
        self.ensure(env, id)?;
        let (inode, chunks, mut host) = self.parts(env.world, id)?;
        let blocks = match &mut inode.body {
            Body::File(Content::Shared { object, .. }) => return Ok(*object),
            Body::File(Content::Blocks(blocks)) => blocks,
            _ => return fail(Errno::ENODEV),
        };
        let object = id.0;
        let len = blocks.len;
        let lies_below = blocks.lower_file().is_some();
        let mut buf = vec![0; MOVE];
        let mut at = 0;
        let mut moved = env.caller.resize_shared(object, len);
        // New bytes of an object are zero, so holes need not be moved.
        while !lies_below
            && moved.is_ok()
            && let Some(data) = blocks.seek(at, false)
        {
            moved = blocks.read(chunks, &mut host, data, &mut buf).and_then(|n| {
                at = data + n as u64;
                env.caller.write_shared(object, data, &buf[..n])
            });
        }
        if let Err(e) = moved {
            env.caller.drop_shared(object)?;
            return Err(e);
        }
        let mut below = None;
        if lies_below {
            let mut blocks = std::mem::take(blocks);
            blocks.len = blocks.data_end();
            let len = blocks.len;
            let content = self.add_frozen(blocks, 0);
            env.caller.put_below(object, content, len);
            below = Some(content);
        } else {
            blocks.clear(chunks);
        }
        let inode = self.inode_mut(id)?;
        inode.body = Body::File(Content::Shared { object, len, below });
        if let Some(content) = inode.mapped.take()
            && let Some(frozen) = self.frozen.get_mut(&content)
        {
            frozen.of = None;
            let (blocks, chunks) = (&frozen.blocks, &self.chunks);
            let mut host = Cached { cache: &mut self.cache, kept: &self.kept, world: env.world };
            let mut read = |offset: u64, out: &mut [u8]| {
                let n = blocks.read(chunks, &mut host, offset, out)?;
                out[n..].fill(0);
                Ok(())
            };
            env.caller.content_moved(content, id, object, &mut read)?;
        }
        Ok(object)
    }

    /// Moves a file's content back from guest memory, once no mapping shares it.
    ///
    /// # Errors
    /// `ENOSPC`, after which the content is where it was.
    pub fn make_unshared(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<()> {
        let Body::File(Content::Shared { object, len, below }) = self.inode(id)?.body else {
            return Ok(());
        };
        let blocks = match below {
            None => self.read_object(env, object, len, None)?,
            Some(content) => {
                let frozen = self.frozen.get_mut(&content).ok_or(Errno::EIO)?;
                // What lies below memory of the object does not show, so that it may be written there.
                let mut blocks = std::mem::take(&mut frozen.blocks);
                let copied = self.copy_object(env, object, len, &mut blocks);
                if let Err(e) = copied {
                    env.caller.put_below(object, content, blocks.len);
                    if let Some(frozen) = self.frozen.get_mut(&content) {
                        frozen.blocks = blocks;
                    }
                    return Err(e);
                }
                self.release_frozen(content);
                blocks.len = len;
                blocks
            }
        };
        self.inode_mut(id)?.body = Body::File(Content::Blocks(blocks));
        env.caller.drop_shared(object)
    }

    /// Reads a shared file. The range lies within its length.
    pub(super) fn read_shared(
        &mut self,
        env: &mut Env<'_>,
        (object, below): (u64, Option<ContentRef>),
        offset: u64,
        buf: &mut [u8],
    ) -> FsResult<()> {
        for part in env.caller.read_shared(object, offset, buf)? {
            let at = offset + part.start as u64;
            self.read_below(env, below, at, &mut buf[part])?;
        }
        Ok(())
    }

    fn read_below(
        &mut self,
        env: &mut Env<'_>,
        below: Option<ContentRef>,
        offset: u64,
        out: &mut [u8],
    ) -> FsResult<()> {
        let n = match below {
            Some(content) => self.read_frozen(env, content, offset, out)?,
            None => 0,
        };
        out[n..].fill(0);
        Ok(())
    }

    /// Writes a shared file, which grows if need be.
    pub(super) fn write_shared(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        offset: u64,
        data: &[u8],
    ) -> FsResult<()> {
        let Body::File(Content::Shared { object, len: old, below }) = self.inode(id)?.body else {
            return fail(Errno::EIO);
        };
        let end = offset + data.len() as u64;
        if end > old {
            env.caller.resize_shared(object, end)?;
            self.inode_mut(id)?.body = Body::File(Content::Shared { object, len: end, below });
        }
        // Pages that are written in part need the rest.
        let (first, last) = (offset / PAGE * PAGE, (end - 1) / PAGE * PAGE);
        let first_is_whole = first == offset && end - first >= PAGE;
        for (page, whole) in [(first, first_is_whole), (last, end == last + PAGE)] {
            if !whole && env.caller.lacks_shared(object, page) {
                let mut content = [0; PAGE_SIZE];
                self.read_below(env, below, page, &mut content)?;
                env.caller.write_shared(object, page, &content)?;
            }
        }
        env.caller.write_shared(object, offset, data)
    }

    /// Cuts or extends a shared file.
    pub(super) fn resize_shared(&mut self, env: &mut Env<'_>, id: InodeId, len: u64) -> FsResult<()> {
        let Body::File(Content::Shared { object, len: _, below }) = self.inode(id)?.body else {
            return fail(Errno::EIO);
        };
        let frozen = below.and_then(|content| self.frozen.get_mut(&content));
        if let Some(frozen) = frozen.filter(|frozen| len < frozen.blocks.len) {
            frozen.blocks.resize(&mut self.chunks, len)?;
        }
        env.caller.resize_shared(object, len)?;
        self.inode_mut(id)?.body = Body::File(Content::Shared { object, len, below });
        Ok(())
    }

    /// Zeroes a range within a shared file.
    pub(super) fn zero_shared(
        &mut self,
        env: &mut Env<'_>,
        (object, below): (u64, Option<ContentRef>),
        range: Range<u64>,
    ) -> FsResult<()> {
        if let Some(frozen) = below.and_then(|content| self.frozen.get_mut(&content)) {
            let mut host = Cached { cache: &mut self.cache, kept: &self.kept, world: env.world };
            frozen.blocks.zero(&mut self.chunks, &mut host, range.start, range.end - range.start)?;
        }
        env.caller.zero_shared(object, range)
    }

    /// A shared file's content as blocks; those of zeros take no room.
    pub(super) fn read_object(
        &mut self,
        env: &mut Env<'_>,
        object: u64,
        len: u64,
        below: Option<ContentRef>,
    ) -> FsResult<Blocks> {
        let mut blocks = match below.and_then(|content| self.frozen.get(&content)) {
            Some(frozen) => frozen.blocks.share(&mut self.chunks)?,
            None => Blocks::default(),
        };
        if let Err(e) = self.copy_object(env, object, len, &mut blocks) {
            blocks.clear(&mut self.chunks);
            return Err(e);
        }
        blocks.len = len;
        Ok(blocks)
    }

    /// Writes to blocks what an object has memory for and holds otherwise than they.
    fn copy_object(&mut self, env: &mut Env<'_>, object: u64, len: u64, blocks: &mut Blocks) -> FsResult<()> {
        let (mut new, mut old) = (vec![0; MOVE], vec![0; MOVE]);
        let mut at = 0;
        while let Some(data) = env.caller.shared_data(object, at)
            && data < len
        {
            at = data;
            let n = (len - at).min(MOVE as u64) as usize;
            let (new, old) = (&mut new[..n], &mut old[..n]);
            let lacking = env.caller.read_shared(object, at, new)?;
            if lacking.first() != Some(&(0..n)) {
                let mut host = Cached { cache: &mut self.cache, kept: &self.kept, world: env.world };
                let seen = blocks.read(&self.chunks, &mut host, at, old)?;
                old[seen..].fill(0);
                for part in lacking {
                    new[part.clone()].copy_from_slice(&old[part]);
                }
                if let Some(part) = changed_pages(old, new) {
                    let start = at + part.start as u64;
                    let wanted = part.len();
                    if blocks.write(&mut self.chunks, &mut host, start, &new[part])? < wanted {
                        return fail(Errno::ENOSPC);
                    }
                }
            }
            at += n as u64;
        }
        Ok(())
    }
}

/// From the first to the last page in which two contents differ.
fn changed_pages(old: &[u8], new: &[u8]) -> Option<Range<usize>> {
    let pages = || old.chunks(PAGE_SIZE).zip(new.chunks(PAGE_SIZE));
    let first = pages().position(|(old, new)| old != new)?;
    let last = pages().rposition(|(old, new)| old != new)?;
    Some(first * PAGE_SIZE..((last + 1) * PAGE_SIZE).min(new.len()))
}
