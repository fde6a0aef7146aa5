//! The alternate signal stack.

use serde::{Deserialize, Serialize};

use super::TaskSignals;
use crate::errno::Errno;

/// `SS_ONSTACK`.
pub const SS_ONSTACK: u32 = 1;
/// `SS_DISABLE`.
const SS_DISABLE: u32 = 2;
/// `SS_AUTODISARM`: there is none while a handler runs on it.
const SS_AUTODISARM: u32 = 1 << 31;
/// Bytes of the smallest (`MINSIGSTKSZ`).
const MIN_BYTES: u64 = 2048;

/// An alternate signal stack; none when its size is 0, as `execve` leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AltStack {
    /// Lowest address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// As it was set.
    pub flags: u32,
}

impl AltStack {
    /// Whether a stack pointer lies on it: it grows downwards, and starts at its end.
    pub fn holds(&self, rsp: u64) -> bool {
        rsp > self.base && rsp - self.base <= self.size
    }

    /// Whether the program runs on it.
    pub fn is_used(&self, rsp: u64) -> bool {
        !self.disarms() && self.holds(rsp)
    }

    /// Whether it is gone while a handler runs on it.
    pub fn disarms(&self) -> bool {
        self.flags & SS_AUTODISARM != 0
    }

    /// `ss_flags` for a program that asks.
    pub fn told_flags(&self, rsp: u64) -> u32 {
        let state = match self.size {
            0 => SS_DISABLE,
            _ if self.is_used(rsp) => SS_ONSTACK,
            _ => 0,
        };
        state | self.flags & SS_AUTODISARM
    }
}

impl TaskSignals {
    /// Sets the alternate stack, for a program whose stack pointer is `rsp` (`do_sigaltstack`,
    /// `kernel/signal.c`).
    ///
    /// # Errors
    /// `EPERM` on it, `EINVAL` for unknown flags, `ENOMEM` when it is too small.
    pub fn set_alt(&mut self, rsp: u64, new: AltStack) -> Result<(), Errno> {
        if self.alt.is_used(rsp) {
            return Err(Errno::EPERM);
        }
        let mode = new.flags & !SS_AUTODISARM;
        if ![0, SS_ONSTACK, SS_DISABLE].contains(&mode) {
            return Err(Errno::EINVAL);
        }
        if new == self.alt {
            return Ok(());
        }
        self.alt = match mode {
            SS_DISABLE => AltStack { base: 0, size: 0, flags: new.flags },
            _ if new.size < MIN_BYTES => return Err(Errno::ENOMEM),
            _ => new,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_set_as_linux_sets_it() {
        let mut signals = TaskSignals::default();
        let stack = AltStack { base: 0x10000, size: 0x4000, flags: 0 };
        assert_eq!(signals.set_alt(0x9000, AltStack { size: 100, ..stack }), Err(Errno::ENOMEM));
        assert_eq!(signals.set_alt(0x9000, AltStack { flags: 4, ..stack }), Err(Errno::EINVAL));
        assert_eq!(signals.set_alt(0x9000, stack), Ok(()));
        assert_eq!(signals.set_alt(0x14000, AltStack::default()), Err(Errno::EPERM));
        assert_eq!(signals.alt.told_flags(0x14000), SS_ONSTACK);
        assert_eq!(signals.alt.told_flags(0x10000), 0, "the lowest address is the end");
        assert_eq!(signals.set_alt(0x9000, AltStack { flags: SS_AUTODISARM, ..stack }), Ok(()));
        assert_eq!(signals.alt.told_flags(0x14000), SS_AUTODISARM);
    }
}
