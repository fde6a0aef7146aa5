//! Files without a name that live in memory (`memfd_create`), and seals: what can no longer be done to
//! one.

use super::content::{Blocks, Content};
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::{Attr, Body, InodeId, Place};
use super::life::INODE_COST;
use super::{Fs, FsError};
use crate::errno::Errno;

/// `F_SEAL_SEAL`: no more seals.
pub const SEAL_SEAL: u32 = 1;
/// `F_SEAL_SHRINK`
pub const SEAL_SHRINK: u32 = 2;
/// `F_SEAL_GROW`
pub const SEAL_GROW: u32 = 4;
/// `F_SEAL_WRITE`
pub const SEAL_WRITE: u32 = 8;
/// `F_SEAL_FUTURE_WRITE`: no writes but by mappings that there are.
pub const SEAL_FUTURE_WRITE: u32 = 0x10;
/// `F_SEAL_EXEC`: whether it can be executed stays as it is.
pub const SEAL_EXEC: u32 = 0x20;
/// All of them.
pub(super) const SEALS: u32 = 0x3f;

impl Fs {
    /// Makes a file without a name, held once. `name` is what `/proc/self/fd` calls it.
    ///
    /// # Errors
    /// `ENOSPC`
    pub fn make_memfd(&mut self, env: &mut Env<'_>, name: &[u8], mode: u32, seals: u32) -> FsResult<InodeId> {
        let charge = INODE_COST + name.len() as u64;
        self.chunks.charge(charge)?;
        let attr = Attr::of(env.caller.credentials(), mode, env.caller.now());
        let body = Body::File(Content::Blocks(Blocks::default()));
        let id = self.insert_inode(self.root, Place::Shm, attr, body, charge);
        let inode = self.inode_mut(id)?;
        inode.holds = 1;
        inode.seals = seals;
        inode.name = [b"memfd:", name].concat();
        Ok(id)
    }

    /// The seals of a file; 0 where there are none.
    pub fn seals(&self, id: InodeId) -> u32 {
        self.get_seals(id).unwrap_or(0)
    }

    /// `F_GET_SEALS`
    ///
    /// # Errors
    /// `EINVAL` for what cannot be sealed.
    pub fn get_seals(&self, id: InodeId) -> FsResult<u32> {
        match self.inodes.get(&id) {
            Some(inode) if inode.place == Place::Shm && matches!(inode.body, Body::File(_)) => {
                Ok(inode.seals)
            }
            _ => fail(Errno::EINVAL),
        }
    }

    /// `F_ADD_SEALS`
    ///
    /// # Errors
    /// `EINVAL` for unknown seals and what cannot be sealed, `EPERM` when it takes no more, `EBUSY`
    /// to forbid writes to what is mapped for them.
    pub fn add_seals(&mut self, id: InodeId, seals: u32) -> FsResult<()> {
        let before = self.get_seals(id)?;
        if seals & !SEALS != 0 {
            return fail(Errno::EINVAL);
        }
        if before & SEAL_SEAL != 0 {
            return fail(Errno::EPERM);
        }
        if seals & !before & SEAL_WRITE != 0 && self.is_shared(id) {
            return fail(Errno::EBUSY);
        }
        let inode = self.inode_mut(id)?;
        inode.seals |= seals;
        // What can be executed and no longer changed in that must not be changed in what it does.
        if seals & SEAL_EXEC != 0 && inode.attr.mode & 0o111 != 0 {
            inode.seals |= SEAL_SHRINK | SEAL_GROW | SEAL_WRITE | SEAL_FUTURE_WRITE;
        }
        Ok(())
    }

    /// Refuses a new length that a file is sealed against.
    pub(super) fn expect_resizable(&self, id: InodeId, len: u64) -> FsResult<()> {
        let (seals, now) = (self.seals(id), self.len(id));
        let refused = seals & SEAL_SHRINK != 0 && len < now || seals & SEAL_GROW != 0 && len > now;
        if refused { Err(FsError::Errno(Errno::EPERM)) } else { Ok(()) }
    }

    /// Whether it is `/dev/null`.
    pub(crate) fn is_null(&self, id: InodeId) -> bool {
        use super::inode::Device;
        matches!(self.inodes.get(&id), Some(inode) if matches!(inode.body, Body::Device(Device::Null)))
    }
}
