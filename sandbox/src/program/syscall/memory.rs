//! `mmap` and its kin.

use std::sync::Arc;

use super::Args;
use crate::errno::Errno;
use crate::program::fs::OpenFlags;
use crate::program::mm::{Backing, MapError, Protection, Vma};
use crate::program::process::{Process, SysError, SysResult};
use crate::ram::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

/// `MAP_*` (`include/uapi/asm-generic/mman-common.h`).
mod map {
    pub const SHARED: u64 = 1;
    pub const PRIVATE: u64 = 2;
    pub const SHARED_VALIDATE: u64 = 3;
    pub const TYPE: u64 = 0xf;
    pub const FIXED: u64 = 0x10;
    pub const ANONYMOUS: u64 = 0x20;
    pub const GROWSDOWN: u64 = 0x100;
    pub const NORESERVE: u64 = 0x4000;
    pub const FIXED_NOREPLACE: u64 = 0x10_0000;
}

/// `MREMAP_*`.
const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;

/// `MADV_*`.
const MADV_REMOVE: u64 = 9;
const MADV_DONTNEED: u64 = 4;
const MADV_POPULATE_READ: u64 = 22;
const MADV_POPULATE_WRITE: u64 = 23;

/// `MEMBARRIER_CMD_QUERY`.
const MEMBARRIER_QUERY: u64 = 0;

impl Process {
    pub(super) fn sys_mmap(&mut self, a: Args) -> SysResult {
        let [hint, len, protection, flags, fd, offset] = a;
        if !offset.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        if flags & map::ANONYMOUS == 0 {
            self.with_files(|_, files, _, _| files.get(fd as i32).map(|_| ()))?;
        }
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let len = len.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?;
        let shared = match flags & map::TYPE {
            map::SHARED | map::SHARED_VALIDATE => true,
            map::PRIVATE => false,
            _ => return Err(Errno::EINVAL.into()),
        };
        if flags & map::GROWSDOWN != 0 && shared {
            return Err(Errno::EINVAL.into());
        }
        let protection = Protection::from_bits(protection);
        let (backing, name) = if flags & map::ANONYMOUS != 0 {
            (if shared { self.anonymous_object(len)? } else { Backing::Anonymous }, Arc::from(&b""[..]))
        } else {
            self.file_backing(fd, offset, shared, protection)?
        };
        let start = self.place_mapping(hint, len, flags, &backing)?;
        let vma =
            Vma { end: start + len, protection, backing, no_reserve: flags & map::NORESERVE != 0, name };
        self.space.map(&mut self.memory, start, len, vma)?;
        self.release_unmapped()?;
        Ok(start)
    }

    /// Where a mapping goes.
    fn place_mapping(&mut self, hint: u64, len: u64, flags: u64, backing: &Backing) -> Result<u64, SysError> {
        if flags & (map::FIXED | map::FIXED_NOREPLACE) != 0 {
            if !hint.is_multiple_of(PAGE) {
                return Err(Errno::EINVAL.into());
            }
            let end = hint.checked_add(len).ok_or(Errno::ENOMEM)?;
            if flags & map::FIXED_NOREPLACE != 0 && !self.space.is_free(&(hint..end)) {
                return Err(Errno::EEXIST.into());
            }
            return Ok(hint);
        }
        let hint = hint / PAGE * PAGE;
        if hint >= crate::program::mm::USER_MIN
            && let Some(end) = hint.checked_add(len)
            && end <= crate::program::mm::USER_END
            && self.space.is_free(&(hint..end))
        {
            return Ok(hint);
        }
        // Large private mappings start like their regions do, so that moving them later is cheap.
        let phase =
            (len >= crate::program::mm::CHUNK_BYTES && matches!(backing, Backing::Anonymous)).then_some(0);
        let found = self.space.find_free(len, phase).or_else(|| self.space.find_free(len, None));
        found.ok_or(Errno::ENOMEM.into())
    }

    fn anonymous_object(&mut self, len: u64) -> Result<Backing, SysError> {
        let object = self.memory.new_object();
        self.memory.resize_object(object, len).map_err(|_| Errno::ENOMEM)?;
        Ok(Backing::Shared { object, offset: 0 })
    }

    /// What stands behind a mapping of a descriptor. A shared mapping of a file that nobody can
    /// write is a private one: the host's files do not change under a running program.
    fn file_backing(
        &mut self,
        fd: u64,
        offset: u64,
        shared: bool,
        protection: Protection,
    ) -> Result<(Backing, Arc<[u8]>), SysError> {
        let (backing, name, inode) = self.with_files(|fs, files, env, _| {
            let description = files.get(fd as i32)?;
            let (inode, flags) = (description.inode(), description.flags());
            let (readable, writable) = (flags.reads(), flags.writes());
            if flags.has(OpenFlags::PATH) {
                return Err(Errno::EBADF.into());
            }
            if !readable || shared && protection.write && !writable {
                return Err(Errno::EACCES.into());
            }
            let name: Arc<[u8]> = Arc::from(&fs.path_of(inode)[..]);
            if shared && (writable || fs.is_shared(inode)) {
                let object = fs.make_shared(env, inode)?;
                return Ok::<_, SysError>((Backing::Shared { object, offset }, name, inode));
            }
            let content = fs.freeze(env, inode)?;
            let len = fs.frozen_len(content);
            Ok((Backing::File { content, offset, len }, name, inode))
        })?;
        match &backing {
            Backing::File { content, .. } => drop(self.task.frozen.insert(*content)),
            // The file must live for as long as it is mapped.
            Backing::Shared { object, .. } => {
                if self.task.shared.insert(*object, inode).is_none() {
                    self.outside.fs().hold(inode);
                }
            }
            Backing::Anonymous => {}
        }
        Ok((backing, name))
    }

    pub(super) fn sys_munmap(&mut self, a: Args) -> SysResult {
        self.space.unmap(&mut self.memory, a[0], a[1])?;
        self.release_unmapped()?;
        Ok(0)
    }

    pub(super) fn sys_mprotect(&mut self, a: Args) -> SysResult {
        self.space.protect(&mut self.memory, a[0], a[1], Protection::from_bits(a[2]))?;
        Ok(0)
    }

    pub(super) fn sys_mremap(&mut self, a: Args) -> SysResult {
        let [old, old_len, new_len, flags, new, _] = a;
        if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let fixed = (flags & MREMAP_FIXED != 0).then_some(new);
        let may_move = flags & MREMAP_MAYMOVE != 0;
        let address = self.space.remap(&mut self.memory, old, old_len, new_len, may_move, fixed)?;
        self.release_unmapped()?;
        Ok(address)
    }

    pub(super) fn sys_brk(&mut self, a: Args) -> SysResult {
        Ok(self.space.set_brk(&mut self.memory, a[0])?)
    }

    pub(super) fn sys_madvise(&mut self, a: Args) -> SysResult {
        let [start, len, advice, ..] = a;
        if !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        match advice {
            MADV_DONTNEED => match self.space.discard(&mut self.memory, start, len) {
                Ok(true) => Ok(0),
                Ok(false) => Err(Errno::ENOMEM.into()),
                Err(MapError::Errno(errno)) => Err(errno.into()),
                Err(MapError::Page(e)) => Err(e.into()),
            },
            MADV_REMOVE => Err(Errno::EINVAL.into()),
            // The rest are hints: that `MADV_FREE` never drops a page keeps runs alike.
            0..=25 if !matches!(advice, MADV_POPULATE_READ | MADV_POPULATE_WRITE) => Ok(0),
            MADV_POPULATE_READ | MADV_POPULATE_WRITE => Ok(0),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn sys_msync(&mut self, a: Args) -> SysResult {
        /// `MS_ASYNC | MS_INVALIDATE | MS_SYNC`.
        const FLAGS: u64 = 7;
        let [start, len, flags, ..] = a;
        if !start.is_multiple_of(PAGE) || flags & !FLAGS != 0 {
            return Err(Errno::EINVAL.into());
        }
        let len = len.checked_next_multiple_of(PAGE).unwrap_or(0);
        let end = start.checked_add(len).ok_or(Errno::ENOMEM)?;
        if self.space.mapped_until(&(start..end)) < end {
            return Err(Errno::ENOMEM.into());
        }
        Ok(0)
    }

    /// Everything that is mapped is said to be resident: what really is depends on the host.
    pub(super) fn sys_mincore(&mut self, a: Args) -> SysResult {
        let [start, len, vec, ..] = a;
        if !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        let pages = len.div_ceil(PAGE);
        let mapped = self.space.accessible(
            start,
            usize::try_from(len).map_err(|_| Errno::ENOMEM)?,
            crate::program::mm::Access::Read,
        );
        if (mapped as u64) < len {
            return Err(Errno::ENOMEM.into());
        }
        for i in 0..pages {
            self.write(vec + i, &[1])?;
        }
        Ok(0)
    }

    pub(super) fn sys_membarrier(&mut self, a: Args) -> SysResult {
        // One task: every barrier holds already. The query names the private expedited commands.
        const PRIVATE_EXPEDITED: u64 = 1 << 3 | 1 << 4;
        Ok(if a[0] == MEMBARRIER_QUERY { PRIVATE_EXPEDITED } else { 0 })
    }
}
