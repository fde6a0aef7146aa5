//! `mmap` and its kin.

use std::sync::Arc;

use super::Args;
use super::limits::is_data;
use crate::errno::Errno;
use crate::host::stop::Pace;
use crate::program::error::{SysError, SysResult};
use crate::program::fs::{FsError, MAX_FILE, Mapped, SEAL_FUTURE_WRITE, SEAL_WRITE};
use crate::program::kernel::Kernel;
use crate::program::mm::{Backing, CHUNK_BYTES, Protection, Remap, USER_END, USER_MIN, Vma};
use crate::ram::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

/// `MAP_*` (`include/uapi/asm-generic/mman-common.h`).
mod map {
    pub const SHARED: u64 = 1;
    pub const PRIVATE: u64 = 2;
    pub const SHARED_VALIDATE: u64 = 3;
    pub const DROPPABLE: u64 = 8;
    pub const TYPE: u64 = 0xf;
    pub const FIXED: u64 = 0x10;
    pub const ANONYMOUS: u64 = 0x20;
    pub const LOW_2G: u64 = 0x40;
    pub const GROWSDOWN: u64 = 0x100;
    pub const LOCKED: u64 = 0x2000;
    pub const NORESERVE: u64 = 0x4000;
    pub const POPULATE: u64 = 0x8000;
    pub const NONBLOCK: u64 = 0x1_0000;
    pub const HUGETLB: u64 = 0x4_0000;
    pub const SYNC: u64 = 0x8_0000;
    pub const FIXED_NOREPLACE: u64 = 0x10_0000;
    /// Base-two logarithm of the huge page's size.
    pub const HUGE_SHIFT: u64 = 26;
    pub const HUGE_MASK: u64 = 0x3f;
}

/// `PROT_*` that are no permission.
const PROT_SEM: u64 = 8;
const PROT_GROWSDOWN: u64 = 0x100_0000;
const PROT_GROWSUP: u64 = 0x200_0000;

/// `MREMAP_*`.
const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;
const MREMAP_DONTUNMAP: u64 = 4;

/// Logarithms of the sizes of huge pages: 2 MiB and 1 GiB. The guest has none of either.
const HUGE_SIZES: [u64; 3] = [0, 21, 30];

/// Where `MAP_32BIT` maps.
const LOW: std::ops::Range<u64> = 0x4000_0000..0x8000_0000;

/// What shared memory is called that is of no file (`shmem_zero_setup`).
const SHARED_ZEROS: &[u8] = b"/dev/zero (deleted)";

enum Source {
    File(Mapping),
    /// Zeros: of no descriptor, or of one of `/dev/zero`, which has a name.
    Zeros(&'static [u8]),
}

/// What a mapping of a descriptor needs of it.
struct Mapping {
    backing: Backing,
    name: Arc<[u8]>,
    may_write: bool,
}

impl Kernel {
    pub(super) fn sys_mmap(&mut self, a: Args) -> SysResult {
        let [hint, len, protection, flags, fd, offset] = a;
        if !offset.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        let anonymous = flags & map::ANONYMOUS != 0;
        if !anonymous {
            self.with_files(|_, files, _, _| files.get_open(fd as i32).map(|_| ()))?;
        }
        if flags & map::HUGETLB != 0 {
            let known = HUGE_SIZES.contains(&(flags >> map::HUGE_SHIFT & map::HUGE_MASK));
            return Err(if anonymous && known { Errno::ENOMEM } else { Errno::EINVAL }.into());
        }
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let len = len.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?;
        let start = self.place_mapping(hint, len, flags)?;
        let kind = flags & map::TYPE;
        let shared = matches!(kind, map::SHARED | map::SHARED_VALIDATE);
        let private = kind == map::PRIVATE || anonymous && kind == map::DROPPABLE;
        let grows_down = flags & map::GROWSDOWN != 0;
        if !shared && !private || anonymous && kind == map::SHARED_VALIDATE || grows_down && shared {
            return Err(Errno::EINVAL.into());
        }
        let protection = self.protection(protection);
        let source = match anonymous {
            true if shared => Source::Zeros(SHARED_ZEROS),
            true => Source::Zeros(b""),
            false => self.file_backing(fd, offset, len, flags, protection)?,
        };
        let mapping = match source {
            Source::File(_) if grows_down => return Err(Errno::EINVAL.into()),
            Source::File(mapping) => mapping,
            Source::Zeros(name) => Mapping {
                backing: match shared {
                    true => self.anonymous_object(len, flags & map::NORESERVE == 0)?,
                    false => Backing::Anonymous,
                },
                name: Arc::from(name),
                may_write: true,
            },
        };
        let vma = Vma {
            end: start + len,
            protection,
            backing: mapping.backing,
            no_reserve: flags & map::NORESERVE != 0,
            charged: false,
            may_write: mapping.may_write,
            locked: flags & map::LOCKED != 0 || self.space.state.lock_new,
            grows_down,
            name: mapping.name,
        };
        let held = vma.backing.held();
        let replaced = self.mapped_within(start..start + len);
        let data = if is_data(&vma) { len } else { 0 };
        let mapped = match self.expect_mappable(len - replaced, data) {
            Ok(()) => self.space.map(&mut self.memory, start, len, vma).map_err(SysError::from),
            Err(e) => Err(e),
        };
        if mapped.is_err() {
            // What was made for it is not mapped anywhere.
            self.space.note_lost(held);
        }
        self.release_unmapped()?;
        mapped?;
        let brought_in = flags & (map::POPULATE | map::NONBLOCK) == map::POPULATE || flags & map::LOCKED != 0;
        if brought_in && !shared && protection.write {
            self.copy_file(start, len)?;
        }
        Ok(start)
    }

    /// Takes copies of a file's pages in a new mapping, as by writes to all of them; how far that comes does not
    /// matter.
    fn copy_file(&mut self, start: u64, len: u64) -> Result<(), SysError> {
        let end = self.space.file_end(&self.memory, start).min(start + len);
        let stop = self.stop.clone();
        let copied = self.space.copy_range(&mut self.memory, start..end.max(start), &mut Pace::new(&stop));
        if let Err(e) = copied {
            // The call is made again when the run goes on.
            self.space.unmap(&mut self.memory, start, len)?;
            self.release_unmapped()?;
            return Err(e.into());
        }
        Ok(())
    }

    /// Where a mapping goes.
    pub(super) fn place_mapping(&mut self, hint: u64, len: u64, flags: u64) -> Result<u64, SysError> {
        if flags & (map::FIXED | map::FIXED_NOREPLACE) != 0 {
            let end = hint.checked_add(len).filter(|end| *end <= USER_END).ok_or(Errno::ENOMEM)?;
            if !hint.is_multiple_of(PAGE) {
                return Err(Errno::EINVAL.into());
            }
            if flags & map::FIXED_NOREPLACE != 0 && !self.space.is_free(&(hint..end)) {
                return Err(Errno::EEXIST.into());
            }
            return Ok(hint);
        }
        let window = if flags & map::LOW_2G != 0 { LOW } else { USER_MIN..USER_END };
        let hint = hint / PAGE * PAGE;
        if hint >= USER_MIN
            && let Some(end) = hint.checked_add(len)
            && end <= window.end
            && self.space.has_room(&(hint..end))
        {
            return Ok(hint);
        }
        if flags & map::LOW_2G != 0 {
            return self.space.find_free_in(len, window).ok_or(Errno::ENOMEM.into());
        }
        // Large private mappings start like their regions do, so that moving them later is cheap.
        let large = len >= CHUNK_BYTES && flags & map::ANONYMOUS != 0 && flags & map::TYPE != map::SHARED;
        let found = self.space.find_free(len, large.then_some(0)).or_else(|| self.space.find_free(len, None));
        found.ok_or(Errno::ENOMEM.into())
    }

    fn anonymous_object(&mut self, len: u64, reserved: bool) -> Result<Backing, SysError> {
        let object = self.memory.new_object(len, reserved)?;
        Ok(Backing::Shared { object, offset: 0 })
    }

    /// What stands behind a mapping of a descriptor. A shared mapping that cannot write is of frozen
    /// content too, as long as nobody changes the file.
    fn file_backing(
        &mut self,
        fd: u64,
        offset: u64,
        len: u64,
        flags: u64,
        protection: Protection,
    ) -> Result<Source, SysError> {
        let shared = flags & map::TYPE != map::PRIVATE;
        let (source, inode) = self.with_files(|fs, files, env, _| {
            let description = files.get_open(fd as i32)?;
            let (inode, open) = (description.inode(), description.flags());
            if fs.is_regular(inode) && offset.checked_add(len).is_none_or(|end| end > MAX_FILE) {
                return Err(Errno::EOVERFLOW.into());
            }
            // No file is on persistent memory; the other flag is none that can be validated
            // (`LEGACY_MAP_MASK`).
            let unknown = flags & map::TYPE == map::SHARED_VALIDATE && flags & map::FIXED_NOREPLACE != 0;
            if flags & map::SYNC != 0 || unknown {
                return Err(Errno::EOPNOTSUPP.into());
            }
            if !open.reads() || shared && protection.write && !open.writes() {
                return Err(Errno::EACCES.into());
            }
            if fs.is_zeros(inode) {
                let name = if shared { SHARED_ZEROS } else { b"/dev/zero" };
                return Ok::<_, SysError>((Source::Zeros(name), inode));
            }
            let name: Arc<[u8]> = Arc::from(&fs.path_of(inode)[..]);
            // What is sealed against writes is never mapped for them.
            let sealed = fs.seals(inode) & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0;
            if shared && protection.write && sealed {
                return Err(Errno::EPERM.into());
            }
            let may_write = !shared || open.writes() && !sealed;
            let backing = if fs.is_shared(inode) || shared && open.writes() {
                let object = fs.make_shared(env, inode).map_err(no_memory)?;
                match shared {
                    true => Backing::Shared { object, offset },
                    false => Backing::Private { object, offset },
                }
            } else {
                let Mapped { content, len, of_host } = fs.map_content(env, inode)?;
                Backing::File { content, offset, len, shared, tracked: !of_host }
            };
            Ok((Source::File(Mapping { backing, name, may_write }), inode))
        })?;
        if let Source::File(Mapping { backing, .. }) = &source {
            match backing {
                Backing::File { content, .. } => {
                    if !self.space.state.contents.insert(*content) {
                        self.outside.fs().release_frozen(*content);
                    }
                }
                // The file must live for as long as it is mapped.
                Backing::Shared { object, .. } | Backing::Private { object, .. } => {
                    if self.space.state.files.insert(*object, inode).is_none() {
                        self.outside.fs().hold(inode);
                    }
                }
                Backing::Anonymous => {}
            }
        }
        Ok(source)
    }

    pub(super) fn sys_munmap(&mut self, a: Args) -> SysResult {
        self.space.unmap(&mut self.memory, a[0], a[1])?;
        self.release_unmapped()?;
        Ok(0)
    }

    pub(super) fn sys_mprotect(&mut self, a: Args) -> SysResult {
        let [mut start, mut len, bits, ..] = a;
        let (grows, bits) = (bits & (PROT_GROWSDOWN | PROT_GROWSUP), bits & !(PROT_GROWSDOWN | PROT_GROWSUP));
        if grows == PROT_GROWSDOWN | PROT_GROWSUP || !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL.into());
        }
        if len == 0 {
            return Ok(0);
        }
        let rounded = len.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?;
        let end = start.checked_add(rounded).ok_or(Errno::ENOMEM)?;
        if bits & !(7 | PROT_SEM) != 0 {
            return Err(Errno::EINVAL.into());
        }
        if grows != 0 {
            let (first, vma) = self.space.first_from(start).ok_or(Errno::ENOMEM)?;
            if first >= end || grows == PROT_GROWSUP && first > start {
                return Err(Errno::ENOMEM.into());
            }
            // Nothing grows upwards on this architecture.
            if grows == PROT_GROWSUP || !vma.grows_down {
                return Err(Errno::EINVAL.into());
            }
            start = first;
            len = end - start;
        }
        let protection = self.protection(bits);
        // Mapping by mapping, up to the first that may not become data.
        let refused = if protection.write { self.first_beyond_data(start..end) } else { None };
        if let Some(until) = refused {
            if until > start {
                self.space.protect(&mut self.memory, start, until - start, protection)?;
            }
            return Err(Errno::ENOMEM.into());
        }
        self.space.protect(&mut self.memory, start, len, protection)?;
        Ok(0)
    }

    pub(super) fn sys_mremap(&mut self, a: Args) -> SysResult {
        let [old, old_len, new_len, flags, new, _] = a;
        if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) != 0 {
            return Err(Errno::EINVAL.into());
        }
        if let Some(grown) = new_len.checked_sub(old_len) {
            let data = self.space.find(old).is_some_and(|(_, vma)| is_data(vma));
            self.expect_mappable(grown, if data { grown } else { 0 })?;
        }
        let how = Remap {
            may_move: flags & MREMAP_MAYMOVE != 0,
            fixed: flags & MREMAP_FIXED != 0,
            keep: flags & MREMAP_DONTUNMAP != 0,
            address: new,
        };
        let moved = self.space.remap(&mut self.memory, old, old_len, new_len, how);
        self.release_unmapped()?;
        Ok(moved?)
    }

    /// Shows another part of a shared file at a range.
    pub(super) fn sys_remap_file_pages(&mut self, a: Args) -> SysResult {
        let [start, size, protection, offset, _, _] = a;
        let (start, size) = (start / PAGE * PAGE, size / PAGE * PAGE);
        let offset =
            offset.checked_mul(PAGE).filter(|o| o.checked_add(size).is_some_and(|end| end < 1 << 62));
        let (Some(offset), Some(end), 0) = (offset, start.checked_add(size), protection) else {
            return Err(Errno::EINVAL.into());
        };
        let found = self.space.find(start).filter(|(_, vma)| end <= vma.end && size > 0);
        let (_, vma) = found.ok_or(Errno::EINVAL)?;
        let Backing::Shared { object, .. } = vma.backing else { return Err(Errno::EINVAL.into()) };
        if !vma.may_write {
            return Err(Errno::EINVAL.into());
        }
        let vma = Vma { backing: Backing::Shared { object, offset }, ..vma.clone() };
        self.space.map(&mut self.memory, start, size, vma)?;
        Ok(0)
    }

    pub(super) fn sys_brk(&mut self, a: Args) -> SysResult {
        let before = self.space.state.brk;
        let grown = a[0].saturating_sub(before);
        if a[0] > before && self.expect_mappable(grown, grown).is_err() {
            return Ok(before);
        }
        Ok(self.space.set_brk(&mut self.memory, a[0])?)
    }
}

/// No room in guest memory is said so by `mmap`.
fn no_memory(e: FsError) -> FsError {
    match e {
        FsError::Errno(Errno::ENOSPC) => FsError::Errno(Errno::ENOMEM),
        other => other,
    }
}
