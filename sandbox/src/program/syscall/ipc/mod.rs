//! System V IPC and POSIX message queues.

mod mqueue;
mod msg;
mod sem;
mod shm;

use crate::errno::Errno;
use crate::program::error::SysError;
use crate::program::ipc::PERM_BYTES;
use crate::program::kernel::Kernel;

/// Commands that all have in common (`include/uapi/linux/ipc.h`).
const IPC_RMID: u32 = 0;
const IPC_SET: u32 = 1;
const IPC_STAT: u32 = 2;
const IPC_INFO: u32 = 3;

/// Fail rather than wait.
const IPC_NOWAIT: u32 = 0o4000;

/// Whose statistics are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stat {
    /// What has an identifier.
    Id,
    /// What lies at an index, if it may be read.
    Index,
    /// What lies at an index, whoever asks.
    Any,
}

impl Kernel {
    /// Reads the part of a `struct *id_ds` that says who owns something.
    fn read_perm(&mut self, address: u64) -> Result<[u8; PERM_BYTES], SysError> {
        let mut bytes = [0u8; PERM_BYTES];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }
}

/// An identifier, or an index, from a register.
///
/// # Errors
/// `EINVAL` for a negative one.
fn id(register: u64) -> Result<i32, Errno> {
    let id = register as i32;
    if id < 0 { Err(Errno::EINVAL) } else { Ok(id) }
}

/// Words of 64 bits behind each other.
fn words(bytes: &mut Vec<u8>, words: &[u64]) {
    words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
}

/// Two numbers of 32 bits as a word.
fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}
