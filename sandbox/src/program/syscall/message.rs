//! What calls that send and calls that receive have in common.

use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::wait::Wait;

/// Flags of calls (`MSG_*`, `include/linux/socket.h`).
#[allow(missing_docs)]
pub(super) mod flag {
    pub const OOB: u32 = 1;
    pub const PEEK: u32 = 2;
    pub const CTRUNC: u32 = 8;
    pub const TRUNC: u32 = 0x20;
    pub const DONTWAIT: u32 = 0x40;
    pub const WAITALL: u32 = 0x100;
    pub const NOSIGNAL: u32 = 0x4000;
    pub const WAITFORONE: u32 = 0x1_0000;
    pub const CMSG_CLOEXEC: u32 = 0x4000_0000;
}

/// Bytes of control messages at most (`net.core.optmem_max`).
pub(super) const CONTROL_MOST: u64 = 131_072;
/// Bytes of `struct mmsghdr`, and where it has the length.
pub(super) const MMSGHDR: u64 = 64;
pub(super) const MMSG_LEN: u64 = 56;
/// Bytes of an address that are looked at.
const ADDRESS_MOST: u32 = 128;
/// `UIO_MAXIOV`.
const VECTOR_MOST: u64 = 1024;

/// `struct msghdr`.
pub(super) struct Header {
    /// Where it is.
    pub at: u64,
    /// Address of the socket's address.
    pub name: u64,
    /// Its length.
    pub name_len: u32,
    /// Vector of buffers.
    pub vector: u64,
    /// How many.
    pub count: u64,
    /// Control messages.
    pub control: u64,
    /// Their bytes.
    pub control_len: u64,
}

impl Kernel {
    pub(super) fn read_header(&mut self, at: u64) -> Result<Header, SysError> {
        let [name, name_len, vector, count, control, control_len, _] = self.read_words::<7>(at)?;
        let name_len = name_len as u32;
        if name_len > i32::MAX as u32 {
            return Err(Errno::EINVAL.into());
        }
        if count > VECTOR_MOST {
            return Err(Errno::EMSGSIZE.into());
        }
        Ok(Header { at, name, name_len: name_len.min(ADDRESS_MOST), vector, count, control, control_len })
    }

    /// What the call had done before it waited.
    pub(super) fn done_before(&self) -> u64 {
        self.resumed().map_or(0, |parked| parked.wait.done)
    }

    /// Does something with each of many messages, until a moment after which no other is begun; gives how
    /// many there were. `act` gets the number of the message, and what was done of it before the call
    /// waited.
    pub(super) fn each_message(
        &mut self,
        count: u64,
        until: Option<u64>,
        act: impl Fn(&mut Kernel, u64, u64) -> Result<(), SysError>,
    ) -> SysResult {
        /// Bits of what was done of a message: less than 2^31 bytes.
        const BITS: u32 = 32;
        let before = self.done_before();
        let (start, mut done) = (before >> BITS, before & u64::from(u32::MAX));
        for n in start..count.min(VECTOR_MOST) {
            match act(self, n, done) {
                Ok(()) => done = 0,
                Err(SysError::Wait(wait)) => {
                    if n > 0 && self.signals().any_deliverable() {
                        return Ok(n);
                    }
                    return Err(SysError::Wait(Wait { done: n << BITS | wait.done, limit: until, ..wait }));
                }
                Err(SysError::Errno(_)) if n > 0 => return Ok(n),
                Err(e) => return Err(e),
            }
            if self.has_come(until) {
                return Ok(n + 1);
            }
        }
        Ok(count.min(VECTOR_MOST))
    }
}
