//! Extended attributes.

use super::Args;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::files::{AT_SYMLINK_NOFOLLOW, FdTable};
use crate::program::fs::{Env, Fs, FsResult, InodeId, XATTR_NAME_MAX, XATTR_SIZE_MAX};
use crate::program::kernel::Kernel;

/// What the first argument names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    /// A path.
    Path {
        /// A link at its end is followed.
        follow: bool,
    },
    /// An open descriptor.
    Descriptor,
}

impl Kernel {
    fn with_xattr_of<T>(
        &mut self,
        what: u64,
        of: Of,
        act: impl FnOnce(&mut Fs, &mut Env<'_>, InodeId) -> FsResult<T>,
    ) -> Result<T, SysError> {
        let act = |fs: &mut Fs, _: &mut FdTable, env: &mut Env<'_>, inode| act(fs, env, inode);
        match of {
            Of::Path { follow } => {
                let flags = if follow { 0 } else { AT_SYMLINK_NOFOLLOW.into() };
                self.at_path(super::AT_FDCWD, what, flags, act)
            }
            Of::Descriptor => self.at_fd(what, act),
        }
    }

    /// The name of an attribute: looked at before the file is.
    fn xattr_name(&mut self, address: u64) -> Result<Vec<u8>, SysError> {
        match self.space.read_string(&mut self.memory, address, XATTR_NAME_MAX + 1)? {
            Some(name) if !name.is_empty() => Ok(name),
            _ => Err(Errno::ERANGE.into()),
        }
    }

    /// Gives a value or list to the program, or with no room for it its length.
    fn give(&mut self, out: u64, size: u64, bytes: &[u8]) -> SysResult {
        if size > 0 && (bytes.len() as u64) > size {
            return Err(Errno::ERANGE.into());
        }
        if size > 0 && !bytes.is_empty() {
            self.write(out, bytes)?;
        }
        Ok(bytes.len() as u64)
    }

    pub(super) fn sys_setxattr(&mut self, a: Args, of: Of) -> SysResult {
        let [what, name, value, size, flags, _] = a;
        if flags as u32 & !3 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let name = self.xattr_name(name)?;
        if size > XATTR_SIZE_MAX as u64 {
            return Err(Errno::E2BIG.into());
        }
        let mut bytes = vec![0; size as usize];
        self.read(value, &mut bytes)?;
        self.with_xattr_of(what, of, |fs, env, inode| fs.set_xattr(env, inode, &name, bytes, flags as u32))?;
        Ok(0)
    }

    pub(super) fn sys_getxattr(&mut self, a: Args, of: Of) -> SysResult {
        let [what, name, out, size, ..] = a;
        let name = self.xattr_name(name)?;
        let value = self.with_xattr_of(what, of, |fs, env, inode| fs.get_xattr(env, inode, &name))?;
        self.give(out, size, &value)
    }

    pub(super) fn sys_listxattr(&mut self, a: Args, of: Of) -> SysResult {
        let [what, out, size, ..] = a;
        let list = self.with_xattr_of(what, of, |fs, _, inode| fs.list_xattrs(inode))?;
        self.give(out, size, &list)
    }

    pub(super) fn sys_removexattr(&mut self, a: Args, of: Of) -> SysResult {
        let name = self.xattr_name(a[1])?;
        self.with_xattr_of(a[0], of, |fs, env, inode| fs.remove_xattr(env, inode, &name))?;
        Ok(0)
    }
}
