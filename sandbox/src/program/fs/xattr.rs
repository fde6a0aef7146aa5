//! Extended attributes. The overlay keeps those that the guest sets; those of the host's files are not
//! shown.

use super::Fs;
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::{Body, Inode, InodeId, Place};
use super::permission::{R_OK, W_OK};
use super::proc::ProcNode;
use crate::errno::Errno;
use crate::program::credentials::cap;

/// Bytes of the longest name (`XATTR_NAME_MAX`).
pub const XATTR_NAME_MAX: usize = 255;
/// Bytes of the longest value (`XATTR_SIZE_MAX`), and of the longest list of names.
pub const XATTR_SIZE_MAX: usize = 65_536;
/// `XATTR_CREATE`: it must not be there yet.
pub const XATTR_CREATE: u32 = 1;
/// `XATTR_REPLACE`: it must be there.
pub const XATTR_REPLACE: u32 = 2;

/// Name spaces of attributes; `system` has none that can be set here.
const SPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// Attributes of the system's administrator.
const TRUSTED: &[u8] = b"trusted.";

/// What an attribute takes of the quota.
pub(super) fn xattr_cost(name: &[u8], value: &[u8]) -> u64 {
    128 + name.len() as u64 + value.len() as u64
}

/// What all of them take.
pub(super) fn xattrs_cost(inode: &Inode) -> u64 {
    inode.xattrs.iter().map(|(name, value)| xattr_cost(name, value)).sum()
}

/// Whether a decoded inode's attributes can be.
pub(super) fn xattrs_are_sound(inode: &Inode) -> bool {
    let sound = |(name, value): (&Vec<u8>, &Vec<u8>)| {
        name.len() <= XATTR_NAME_MAX && !name.contains(&0) && value.len() <= XATTR_SIZE_MAX
    };
    inode.xattrs.iter().all(sound) && xattrs_cost(inode) <= inode.charge
}

/// Refuses a name that no file system here has attributes for.
fn check_name(name: &[u8]) -> FsResult<()> {
    match SPACES.iter().find(|space| name.starts_with(space)) {
        None => fail(Errno::EOPNOTSUPP),
        Some(space) if name.len() == space.len() => fail(Errno::EINVAL),
        Some(_) => Ok(()),
    }
}

impl Fs {
    /// The inode, if it can have attributes.
    fn with_xattrs(&self, id: InodeId) -> FsResult<&Inode> {
        if ProcNode::of(id).is_some() {
            return fail(Errno::EOPNOTSUPP);
        }
        let inode = self.inode(id)?;
        match inode.place {
            Place::Tree | Place::Shm | Place::Dev => Ok(inode),
            _ => fail(Errno::EOPNOTSUPP),
        }
    }

    /// Whether a user's attributes are allowed: only on files and directories.
    fn allows_user(inode: &Inode) -> bool {
        matches!(inode.body, Body::File(_) | Body::Dir(_))
    }

    /// Refuses to change an attribute where it cannot be, or the caller may not.
    fn expect_xattr_change(&mut self, env: &mut Env<'_>, id: InodeId, name: &[u8]) -> FsResult<()> {
        let inode = self.with_xattrs(id)?;
        if name.starts_with(b"user.") {
            if !Fs::allows_user(inode) {
                return fail(Errno::EPERM);
            }
            self.expect_permission(env, id, W_OK)?;
        } else if !env.caller.credentials().can(cap::SYS_ADMIN) {
            return fail(Errno::EPERM);
        }
        check_name(name)
    }

    /// The value of an attribute.
    ///
    /// # Errors
    /// `ENODATA`; `EOPNOTSUPP` where there cannot be any.
    pub fn get_xattr(&mut self, env: &mut Env<'_>, id: InodeId, name: &[u8]) -> FsResult<Vec<u8>> {
        self.with_xattrs(id)?;
        check_name(name)?;
        if name.starts_with(b"user.") {
            self.expect_permission(env, id, R_OK)?;
        }
        if name.starts_with(TRUSTED) && !env.caller.credentials().can(cap::SYS_ADMIN) {
            return fail(Errno::ENODATA);
        }
        match self.with_xattrs(id)?.xattrs.get(name) {
            Some(value) => Ok(value.clone()),
            None => fail(Errno::ENODATA),
        }
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// As `setxattr(2)`.
    pub fn set_xattr(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        name: &[u8],
        value: Vec<u8>,
        flags: u32,
    ) -> FsResult<()> {
        if flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 {
            return fail(Errno::EINVAL);
        }
        if value.len() > XATTR_SIZE_MAX {
            return fail(Errno::E2BIG);
        }
        self.expect_xattr_change(env, id, name)?;
        let inode = self.with_xattrs(id)?;
        let before = inode.xattrs.get(name).map(|old| xattr_cost(name, old));
        match before {
            Some(_) if flags & XATTR_CREATE != 0 => return fail(Errno::EEXIST),
            None if flags & XATTR_REPLACE != 0 => return fail(Errno::ENODATA),
            _ => {}
        }
        let (before, after) = (before.unwrap_or(0), xattr_cost(name, &value));
        self.chunks.charge(after.saturating_sub(before))?;
        self.chunks.refund(before.saturating_sub(after));
        let now = env.caller.now();
        let inode = self.inode_mut(id)?;
        inode.charge = (inode.charge + after).saturating_sub(before);
        inode.xattrs.insert(name.to_vec(), value);
        inode.attr.ctime = now;
        Ok(())
    }

    /// Takes an attribute away.
    ///
    /// # Errors
    /// As `removexattr(2)`.
    pub fn remove_xattr(&mut self, env: &mut Env<'_>, id: InodeId, name: &[u8]) -> FsResult<()> {
        self.expect_xattr_change(env, id, name)?;
        let now = env.caller.now();
        let inode = self.inode_mut(id)?;
        let Some(value) = inode.xattrs.remove(name) else {
            return fail(Errno::ENODATA);
        };
        let cost = xattr_cost(name, &value);
        inode.charge = inode.charge.saturating_sub(cost);
        inode.attr.ctime = now;
        self.chunks.refund(cost);
        Ok(())
    }

    /// The names of a file's attributes, each with a NUL behind it.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where there cannot be any; `E2BIG` when they are too long in all.
    pub fn list_xattrs(&self, id: InodeId) -> FsResult<Vec<u8>> {
        let Ok(inode) = self.with_xattrs(id) else {
            return Ok(Vec::new());
        };
        let list: Vec<u8> = inode.xattrs.keys().flat_map(|name| [name, &b"\0"[..]].concat()).collect();
        if list.len() > XATTR_SIZE_MAX { fail(Errno::E2BIG) } else { Ok(list) }
    }
}
