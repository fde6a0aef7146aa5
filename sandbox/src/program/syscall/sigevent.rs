//! How a program asks to be told of something: `struct sigevent`.

use crate::program::error::SysError;
use crate::program::kernel::Kernel;

/// Its bytes (`include/uapi/asm-generic/siginfo.h`).
const BYTES: usize = 64;

/// Ways of telling (`SIGEV_*`).
pub(super) mod how {
    pub const SIGNAL: u32 = 0;
    pub const NONE: u32 = 1;
    /// The C library makes the thread.
    pub const THREAD: u32 = 2;
    pub const THREAD_ID: u32 = 4;
}

/// What a `struct sigevent` asks for, as it stands there.
#[derive(Clone, Copy, Debug)]
pub(super) struct SigEvent {
    /// What comes along.
    pub value: u64,
    /// The signal.
    pub signal: u32,
    /// [`how`].
    pub how: u32,
    /// Whom, for [`how::THREAD_ID`].
    pub tid: u32,
}

impl Kernel {
    pub(super) fn read_sigevent(&mut self, address: u64) -> Result<SigEvent, SysError> {
        let mut bytes = [0u8; BYTES];
        self.read(address, &mut bytes)?;
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let value = u64::from(word(0)) | u64::from(word(4)) << 32;
        Ok(SigEvent { value, signal: word(8), how: word(12), tid: word(16) })
    }
}
