//! Calls on paths.

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, Args};
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::files::{AT_SYMLINK_NOFOLLOW, FdTable};
use crate::program::fs::{Env, Fs, FsError, FsResult, InodeId, OpenFlags, Scope, SetTime, W_OK, X_OK, fail};
use crate::program::kernel::Kernel;
use crate::ram::PAGE_SIZE;

/// `AT_EACCESS`.
const AT_EACCESS: u64 = 0x200;
/// `AT_STATX_SYNC_TYPE` and `AT_NO_AUTOMOUNT`: hints.
const STATX_HINTS: u64 = 0x6000 | 0x800;
/// `AT_STATX_SYNC_TYPE`: one of its two bits at most.
const STATX_SYNC_TYPE: u64 = 0x6000;
/// What calls that act on what a path names take.
const LOOKUP_FLAGS: u64 = AT_SYMLINK_NOFOLLOW as u64 | AT_EMPTY_PATH;
const RENAME_NOREPLACE: u64 = 1;
/// `RENAME_WHITEOUT` is not offered, as on Linux's own overlays.
const RENAME_EXCHANGE: u64 = 2;
/// Bytes of `struct open_how` in its first version.
const OPEN_HOW: u64 = 24;
/// Flags that `openat2` knows; `openat` ignores all others.
const OPEN_FLAGS: u64 = 0o37_777_703;

/// What `openat2` refuses and `openat` ignores or cannot say (`build_open_flags`).
fn checked_how(flags: u64, mode: u64, scope: u64) -> Result<OpenFlags, Errno> {
    let of_path = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    let creates = flags & u64::from((OpenFlags::CREAT | OpenFlags::TMPFILE).0) != 0;
    let path_only = flags & u64::from(OpenFlags::PATH.0) != 0;
    let both = Scope::BENEATH | Scope::IN_ROOT;
    if flags & !OPEN_FLAGS != 0
        || scope & !Scope::ALL != 0
        || scope & both == both
        || mode & !(if creates { 0o7777 } else { 0 }) != 0
        || path_only && flags & !u64::from(of_path.0) != 0
    {
        return Err(Errno::EINVAL);
    }
    // What can be had without waiting may be in no cache: callers then ask without the flag.
    if scope & Scope::CACHED != 0 { Err(Errno::EAGAIN) } else { Ok(OpenFlags(flags as u32)) }
}

/// An owner that is not to be changed.
fn owner(id: u64) -> Option<u32> {
    (id as u32 != u32::MAX).then_some(id as u32)
}

impl Kernel {
    /// Finds an inode by directory descriptor, path and `AT_*` flags, and acts on it.
    pub(super) fn at_path<T>(
        &mut self,
        dirfd: u64,
        path: u64,
        flags: u64,
        act: impl FnOnce(&mut Fs, &mut FdTable, &mut Env<'_>, InodeId) -> FsResult<T>,
    ) -> Result<T, SysError> {
        let path = match path {
            0 if flags & AT_EMPTY_PATH != 0 => Vec::new(),
            address => self.read_path(address)?,
        };
        Ok(self.with_files(|fs, files, env, task| {
            let inode = files.lookup_at(fs, env, (dirfd as i32, task.cwd), &path, flags as u32)?;
            act(fs, files, env, inode)
        })?)
    }

    /// Acts on an open descriptor's inode. Descriptors for paths only are none.
    pub(super) fn at_fd<T>(
        &mut self,
        fd: u64,
        act: impl FnOnce(&mut Fs, &mut FdTable, &mut Env<'_>, InodeId) -> FsResult<T>,
    ) -> Result<T, SysError> {
        Ok(self.with_files(|fs, files, env, _| {
            let inode = files.get_open(fd as i32)?.inode();
            act(fs, files, env, inode)
        })?)
    }

    pub(super) fn sys_openat(&mut self, a: Args) -> SysResult {
        let [dirfd, path, flags, mode, ..] = a;
        let path = self.read_path(path)?;
        let fd = self.with_files(|fs, files, env, task| {
            let mode = mode as u32 & 0o7777 & !task.umask;
            files.open(fs, env, (dirfd as i32, task.cwd), &path, OpenFlags(flags as u32), mode)
        })?;
        Ok(fd as u64)
    }

    pub(super) fn sys_openat2(&mut self, a: Args) -> SysResult {
        let [dirfd, path, how, size, ..] = a;
        if size < OPEN_HOW {
            return Err(Errno::EINVAL.into());
        }
        if size > PAGE_SIZE as u64 {
            return Err(Errno::E2BIG.into());
        }
        let mut bytes = vec![0; size as usize];
        self.read(how, &mut bytes)?;
        if bytes[OPEN_HOW as usize..].iter().any(|b| *b != 0) {
            return Err(Errno::E2BIG.into());
        }
        let field = |n: usize| bytes.as_chunks::<8>().0.get(n).map_or(0, |w| u64::from_le_bytes(*w));
        let (flags, mode, scope) = (field(0), field(1), field(2));
        let flags = checked_how(flags, mode, scope)?;
        let path = self.read_path(path)?;
        let fd = self.with_files(|fs, files, env, task| {
            let mode = mode as u32 & !task.umask;
            files.open_within(fs, env, (dirfd as i32, task.cwd), &path, (flags, mode), Scope(scope))
        })?;
        Ok(fd as u64)
    }

    pub(super) fn sys_name_to_handle_at(&mut self, a: Args) -> SysResult {
        let [dirfd, path, _, _, flags, _] = a;
        if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let follow = if flags & AT_SYMLINK_FOLLOW != 0 { 0 } else { AT_SYMLINK_NOFOLLOW.into() };
        self.at_path(dirfd, path, follow | flags & AT_EMPTY_PATH, |_, _, _, _| Ok(()))?;
        // An overlay has no handles.
        Err(Errno::EOPNOTSUPP.into())
    }

    pub(super) fn sys_newfstatat(&mut self, a: Args) -> SysResult {
        let [dirfd, path, out, flags, ..] = a;
        if flags as u32 as u64 & !(LOOKUP_FLAGS | STATX_HINTS) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let stat =
            self.at_path(dirfd, path, flags, |fs, files, env, inode| files.stat_inode(fs, env, inode))?;
        self.write(out, &stat.to_bytes())?;
        Ok(0)
    }

    pub(super) fn sys_fstat(&mut self, a: Args) -> SysResult {
        let stat = self.with_files(|fs, files, env, _| files.stat(fs, env, a[0] as i32))?;
        self.write(a[1], &stat.to_bytes())?;
        Ok(0)
    }

    pub(super) fn sys_statx(&mut self, a: Args) -> SysResult {
        let [dirfd, path, flags, mask, out, _] = a;
        let known = LOOKUP_FLAGS | STATX_HINTS;
        if flags & !known != 0 || mask & 1 << 31 != 0 || flags & STATX_SYNC_TYPE == STATX_SYNC_TYPE {
            return Err(Errno::EINVAL.into());
        }
        let stat =
            self.at_path(dirfd, path, flags, |fs, files, env, inode| files.stat_inode(fs, env, inode))?;
        self.write(out, &stat.to_statx())?;
        Ok(0)
    }

    pub(super) fn sys_faccessat(&mut self, a: Args) -> SysResult {
        let [dirfd, path, mode, flags, ..] = a;
        if flags & !(u64::from(AT_SYMLINK_NOFOLLOW) | AT_EMPTY_PATH | AT_EACCESS) != 0 || mode & !7 != 0 {
            return Err(Errno::EINVAL.into());
        }
        // By default the real ids count, on the way to the file as well.
        let effective = self.task.credentials.clone();
        if flags & AT_EACCESS == 0 {
            self.task.credentials = effective.real();
        }
        let access = self.at_path(dirfd, path, flags & !AT_EACCESS, |fs, _, env, inode| {
            fs.expect_permission(env, inode, mode as u32)
        });
        self.task.credentials = effective;
        access.map(|()| 0)
    }

    pub(super) fn sys_readlinkat(&mut self, a: Args) -> SysResult {
        let [dirfd, path, out, size, ..] = a;
        if size as i32 <= 0 {
            return Err(Errno::EINVAL.into());
        }
        let path = self.read_path(path)?;
        let target = self.with_files(|fs, files, env, task| {
            // An empty path stands for the descriptor itself: a link opened with `O_PATH`.
            let of_fd = path.is_empty() && dirfd as i32 != AT_FDCWD as i32;
            let flags = AT_SYMLINK_NOFOLLOW | if of_fd { AT_EMPTY_PATH as u32 } else { 0 };
            let inode = files.lookup_at(fs, env, (dirfd as i32, task.cwd), &path, flags)?;
            let at = files.at(dirfd as i32, task.cwd, &path)?;
            match fs.readlink(env, at, inode) {
                Err(FsError::Errno(Errno::EINVAL)) if of_fd => fail(Errno::ENOENT),
                target => target,
            }
        })?;
        let n = target.len().min(size as u32 as usize);
        self.write(out, &target[..n])?;
        Ok(n as u64)
    }

    pub(super) fn sys_getcwd(&mut self, a: Args) -> SysResult {
        let mut path = self.with_files(|fs, _, _, task| fs.getcwd(task.cwd))?;
        path.push(0);
        if path.len() as u64 > a[1] {
            return Err(Errno::ERANGE.into());
        }
        self.write(a[0], &path)?;
        Ok(path.len() as u64)
    }

    fn set_cwd(&mut self, inode: InodeId) -> SysResult {
        let old = self.context.cwd;
        self.with_files(|fs, _, env, _| {
            if !fs.is_dir(inode) {
                return Err(Errno::ENOTDIR.into());
            }
            fs.expect_permission(env, inode, X_OK)?;
            fs.hold(inode);
            fs.release(env, old)
        })?;
        self.context.cwd = inode;
        Ok(0)
    }

    pub(super) fn sys_chdir(&mut self, a: Args) -> SysResult {
        let inode = self.at_path(AT_FDCWD, a[0], 0, |_, _, _, inode| Ok(inode))?;
        self.set_cwd(inode)
    }

    pub(super) fn sys_fchdir(&mut self, a: Args) -> SysResult {
        let inode = self.with_files(|_, files, _, _| files.get(a[0] as i32).map(|d| d.inode()))?;
        self.set_cwd(inode)
    }

    /// Acts on a path whose last component need not exist.
    fn on_path<T>(
        &mut self,
        dirfd: u64,
        path: u64,
        act: impl FnOnce(&mut Fs, &mut Env<'_>, crate::program::fs::At<'_>, &[u8]) -> FsResult<T>,
    ) -> Result<T, SysError> {
        let path = self.read_path(path)?;
        Ok(self.with_files(|fs, files, env, task| {
            let at = files.at(dirfd as i32, task.cwd, &path)?;
            act(fs, env, at, &path)
        })?)
    }

    pub(super) fn sys_mkdirat(&mut self, a: Args) -> SysResult {
        let mode = a[2] as u32 & 0o7777 & !self.context.umask;
        self.on_path(a[0], a[1], |fs, env, at, path| fs.mkdir(env, at, path, mode))?;
        Ok(0)
    }

    pub(super) fn sys_mknodat(&mut self, a: Args) -> SysResult {
        let mode = a[2] as u32 & !self.context.umask;
        self.on_path(a[0], a[1], |fs, env, at, path| fs.mknod(env, at, path, mode))?;
        Ok(0)
    }

    pub(super) fn sys_unlinkat(&mut self, a: Args) -> SysResult {
        let [dirfd, path, flags, ..] = a;
        if flags & !AT_REMOVEDIR != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.on_path(dirfd, path, |fs, env, at, path| {
            if flags & AT_REMOVEDIR != 0 { fs.rmdir(env, at, path) } else { fs.unlink(env, at, path) }
        })?;
        Ok(0)
    }

    pub(super) fn sys_renameat2(&mut self, a: Args) -> SysResult {
        let [old_dir, old, new_dir, new, flags, _] = a;
        let flags = flags as u32 as u64;
        let both = RENAME_NOREPLACE | RENAME_EXCHANGE;
        if flags & !both != 0 || flags == both {
            return Err(Errno::EINVAL.into());
        }
        let old = self.read_path(old)?;
        if old.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        let new = self.read_path(new)?;
        self.with_files(|fs, files, env, task| {
            let from = files.at(old_dir as i32, task.cwd, &old)?;
            let to = files.at(new_dir as i32, task.cwd, &new)?;
            if flags & RENAME_EXCHANGE != 0 {
                return fs.exchange(env, (from, &old), (to, &new));
            }
            fs.rename(env, (from, &old), (to, &new), flags & RENAME_NOREPLACE != 0)
        })?;
        Ok(0)
    }

    pub(super) fn sys_linkat(&mut self, a: Args) -> SysResult {
        let [old_dir, old, new_dir, new, flags, _] = a;
        if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::EINVAL.into());
        }
        // The old path is looked up before the new one is looked at.
        let follow = if flags & AT_SYMLINK_FOLLOW != 0 { 0 } else { AT_SYMLINK_NOFOLLOW.into() };
        let inode = self.at_path(old_dir, old, follow | flags & AT_EMPTY_PATH, |_, _, _, inode| Ok(inode))?;
        let new = self.read_path(new)?;
        self.with_files(|fs, files, env, task| {
            let to = files.at(new_dir as i32, task.cwd, &new)?;
            fs.link(env, inode, to, &new)
        })?;
        Ok(0)
    }

    pub(super) fn sys_symlinkat(&mut self, a: Args) -> SysResult {
        let target = self.read_path(a[0])?;
        if target.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        self.on_path(a[1], a[2], |fs, env, at, path| fs.symlink(env, at, path, &target))?;
        Ok(0)
    }

    pub(super) fn sys_fchmodat2(&mut self, a: Args) -> SysResult {
        if a[3] as u32 as u64 & !LOOKUP_FLAGS != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.sys_fchmodat(a)
    }

    pub(super) fn sys_fchmodat(&mut self, a: Args) -> SysResult {
        self.at_path(a[0], a[1], a[3], |fs, _, env, inode| fs.chmod(env, inode, a[2] as u32))?;
        Ok(0)
    }

    pub(super) fn sys_fchmod(&mut self, a: Args) -> SysResult {
        self.at_fd(a[0], |fs, _, env, inode| fs.chmod(env, inode, a[1] as u32))?;
        Ok(0)
    }

    pub(super) fn sys_fchownat(&mut self, a: Args) -> SysResult {
        if a[4] as u32 as u64 & !LOOKUP_FLAGS != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.at_path(a[0], a[1], a[4], |fs, _, env, inode| fs.chown(env, inode, owner(a[2]), owner(a[3])))?;
        Ok(0)
    }

    pub(super) fn sys_fchown(&mut self, a: Args) -> SysResult {
        self.at_fd(a[0], |fs, _, env, inode| fs.chown(env, inode, owner(a[1]), owner(a[2])))?;
        Ok(0)
    }

    fn set_times(&mut self, dirfd: u64, path: u64, flags: u64, times: [SetTime; 2]) -> SysResult {
        let [atime, mtime] = times;
        if path == 0 && dirfd as i32 != AT_FDCWD as i32 {
            self.at_fd(dirfd, |fs, _, env, inode| fs.set_times(env, inode, atime, mtime))?;
        } else {
            self.at_path(dirfd, path, flags, |fs, _, env, inode| fs.set_times(env, inode, atime, mtime))?;
        }
        Ok(0)
    }

    pub(super) fn sys_utimensat(&mut self, a: Args) -> SysResult {
        let times = if a[2] == 0 {
            [SetTime::Now, SetTime::Now]
        } else {
            let w = self.read_words::<4>(a[2])?.map(|w| w as i64);
            [SetTime::from_timespec(w[0], w[1])?, SetTime::from_timespec(w[2], w[3])?]
        };
        if times == [SetTime::Omit, SetTime::Omit] {
            // Linux does not even look at the path.
            return Ok(0);
        }
        let flags = a[3] as u32 as u64;
        let of_descriptor = a[1] == 0 && a[0] as i32 != AT_FDCWD as i32;
        if flags & !LOOKUP_FLAGS != 0 || of_descriptor && flags != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.set_times(a[0], a[1], flags, times)
    }

    /// `utimes` and `futimesat`: path and `struct timeval` pair.
    pub(super) fn sys_utimes(&mut self, a: Args, dirfd: u64) -> SysResult {
        let times = if a[1] == 0 {
            [SetTime::Now, SetTime::Now]
        } else {
            let w = self.read_words::<4>(a[1])?.map(|w| w as i64);
            if !(0..1_000_000).contains(&w[1]) || !(0..1_000_000).contains(&w[3]) {
                return Err(Errno::EINVAL.into());
            }
            [SetTime::from_timespec(w[0], w[1] * 1000)?, SetTime::from_timespec(w[2], w[3] * 1000)?]
        };
        self.set_times(dirfd, a[0], 0, times)
    }

    pub(super) fn sys_utime(&mut self, a: Args) -> SysResult {
        let times = if a[1] == 0 {
            [SetTime::Now, SetTime::Now]
        } else {
            let [atime, mtime] = self.read_words::<2>(a[1])?;
            [SetTime::from_timespec(atime as i64, 0)?, SetTime::from_timespec(mtime as i64, 0)?]
        };
        self.set_times(AT_FDCWD, a[0], 0, times)
    }

    pub(super) fn sys_truncate(&mut self, a: Args) -> SysResult {
        if a[1] as i64 <= -1 {
            return Err(Errno::EINVAL.into());
        }
        self.at_path(AT_FDCWD, a[0], 0, |fs, _, env, inode| {
            if fs.is_regular(inode) {
                fs.expect_permission(env, inode, W_OK)?;
            }
            fs.truncate(env, inode, a[1] as i64)
        })?;
        Ok(0)
    }

    pub(super) fn sys_statfs(&mut self, a: Args) -> SysResult {
        let statfs = self.at_path(AT_FDCWD, a[0], 0, |fs, _, _, inode| Ok(fs.statfs(inode)))?;
        self.write(a[1], &statfs.to_bytes())?;
        Ok(0)
    }

    pub(super) fn sys_fstatfs(&mut self, a: Args) -> SysResult {
        let statfs =
            self.with_files(|fs, files, _, _| Ok::<_, FsError>(fs.statfs(files.get(a[0] as i32)?.inode())))?;
        self.write(a[1], &statfs.to_bytes())?;
        Ok(0)
    }

    pub(super) fn sys_umask(&mut self, a: Args) -> SysResult {
        let before = self.context.umask;
        self.context.umask = a[0] as u32 & 0o777;
        Ok(before.into())
    }
}
