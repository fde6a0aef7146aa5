//! Who may do what with a file (`fs/namei.c`, `fs/attr.c`).

use super::Fs;
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::InodeId;
use super::proc::ProcNode;
use super::stat::{S_IFDIR, Stat};
use crate::errno::Errno;
use crate::program::credentials::{Credentials, cap};

/// To execute a file, or to find names in a directory.
pub const X_OK: u32 = 1;
/// To write.
pub const W_OK: u32 = 2;
/// To read.
pub const R_OK: u32 = 4;
/// The bit of directories from which only owners take names.
const STICKY: u32 = 0o1000;

/// Whether `who` may use a file so.
pub(super) fn allows(who: &Credentials, stat: &Stat, want: u32) -> bool {
    let shift = if who.user.fs == stat.uid {
        6
    } else if who.in_group(stat.gid) {
        3
    } else {
        0
    };
    if want & !(stat.mode >> shift) == 0 {
        return true;
    }
    let dir = stat.kind() == S_IFDIR;
    let reads = if dir { want & W_OK == 0 } else { want == R_OK };
    // Nobody executes what has no execute bit.
    let override_counts = dir || want & X_OK == 0 || stat.mode & 0o111 != 0;
    reads && who.can(cap::DAC_READ_SEARCH) || override_counts && who.can(cap::DAC_OVERRIDE)
}

impl Fs {
    /// Refuses what the caller may not do with a file: `want` is made of [`R_OK`], [`W_OK`] and
    /// [`X_OK`].
    ///
    /// # Errors
    /// `EACCES`
    pub fn expect_permission(&mut self, env: &mut Env<'_>, id: InodeId, want: u32) -> FsResult<()> {
        let stat = self.stat(env, id)?;
        if allows(env.caller.credentials(), &stat, want) { Ok(()) } else { fail(Errno::EACCES) }
    }

    /// Refuses to look for names in a directory where the caller may not.
    pub(super) fn expect_search(&mut self, env: &mut Env<'_>, dir: InodeId) -> FsResult<()> {
        // By far the most frequent question: answered without a look at the directory.
        let who = env.caller.credentials();
        if who.can(cap::DAC_OVERRIDE) || who.can(cap::DAC_READ_SEARCH) {
            return Ok(());
        }
        self.expect_permission(env, dir, X_OK)
    }

    /// Refuses to change a directory's names where the caller may not.
    pub(super) fn expect_writable_dir(&mut self, env: &mut Env<'_>, dir: InodeId) -> FsResult<()> {
        if env.caller.credentials().can(cap::DAC_OVERRIDE) {
            return Ok(());
        }
        self.expect_permission(env, dir, W_OK | X_OK)
    }

    /// Refuses to take `id` out of `dir` where the caller may not.
    pub(super) fn expect_may_remove(&mut self, env: &mut Env<'_>, dir: InodeId, id: InodeId) -> FsResult<()> {
        self.expect_writable_dir(env, dir)?;
        let dir = self.stat(env, dir)?;
        if dir.mode & STICKY == 0 {
            return Ok(());
        }
        let file = self.stat(env, id)?;
        let who = env.caller.credentials();
        let owns = who.user.fs == file.uid || who.user.fs == dir.uid || who.can(cap::FOWNER);
        if owns { Ok(()) } else { fail(Errno::EPERM) }
    }

    /// Whether the caller owns a file, or may act as if.
    pub(crate) fn owns(&mut self, env: &mut Env<'_>, id: InodeId) -> FsResult<bool> {
        let stat = self.stat(env, id)?;
        let who = env.caller.credentials();
        Ok(who.user.fs == stat.uid || who.can(cap::FOWNER))
    }

    /// Refuses to write to the program that runs.
    pub(super) fn expect_not_running(&self, env: &Env<'_>, id: InodeId) -> FsResult<()> {
        if env.caller.executable() == Some(id) { fail(Errno::ETXTBSY) } else { Ok(()) }
    }

    /// Takes the set-id bits of a file whose content somebody without `CAP_FSETID` changes.
    pub(super) fn drop_set_id(&mut self, env: &Env<'_>, id: InodeId) {
        if env.caller.credentials().can(cap::FSETID) || ProcNode::of(id).is_some() {
            return;
        }
        if let Ok(inode) = self.inode_mut(id) {
            let group_runs = inode.attr.mode & 0o010 != 0;
            inode.attr.mode &= if group_runs { !0o6000 } else { !0o4000 };
        }
    }

    /// Refuses a length or an end of a write beyond the caller's `RLIMIT_FSIZE`, and sends `SIGXFSZ`.
    pub(super) fn expect_size(&self, env: &mut Env<'_>, end: u64) -> FsResult<()> {
        if end <= env.caller.file_size_limit() {
            return Ok(());
        }
        env.caller.exceed_file_size();
        fail(Errno::EFBIG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::credentials::{ROOT, user};
    use crate::program::fs::S_IFREG;

    fn file(mode: u32) -> Stat {
        Stat {
            mode,
            uid: 10,
            gid: 20,
            dev: 0,
            ino: 0,
            nlink: 1,
            rdev: 0,
            size: 0,
            blocks: 0,
            atime: 0,
            mtime: 0,
            ctime: 0,
            btime: 0,
        }
    }

    #[test]
    fn one_class_of_bits_counts() {
        let mode = S_IFREG | 0o174;
        // The owner may not read what everybody else may.
        assert!(!allows(&user(10, 20), &file(mode), R_OK));
        assert!(allows(&user(10, 20), &file(mode), X_OK));
        assert!(allows(&user(11, 20), &file(mode), R_OK | W_OK | X_OK));
        assert!(allows(&user(11, 21), &file(mode), R_OK));
        assert!(!allows(&user(11, 21), &file(mode), W_OK));
    }

    #[test]
    fn root_may_all_but_execute_what_nobody_executes() {
        assert!(allows(&ROOT, &file(S_IFREG), R_OK | W_OK));
        assert!(!allows(&ROOT, &file(S_IFREG), X_OK));
        assert!(allows(&ROOT, &file(S_IFREG | 0o001), X_OK));
        assert!(allows(&ROOT, &file(S_IFDIR), X_OK | W_OK));
    }
}
