//! Waiting for any of many futexes (`kernel/futex/waitwake.c`).

use super::Args;
use super::futex::{ANY, Kind};
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::wait::Wait;

/// The most futexes (`FUTEX_WAITV_MAX`).
const MOST: u64 = 128;
/// Flags of each: that it has 32 bits, as all have, and that it is the address space's own.
const BITS_32: u32 = 2;
const PRIVATE: u32 = 0x80;
/// Clocks of the time limit.
const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;

/// One of the futexes (`struct futex_waitv`).
struct Waiter {
    value: u32,
    address: u64,
    shared: bool,
}

impl Kernel {
    /// Futexes, how many, flags, a time limit or 0, its clock: waits until one of them is woken, and says which.
    pub(super) fn sys_futex_waitv(&mut self, a: Args) -> SysResult {
        let [waiters, count, flags, timeout, clock, _] = a;
        if let Some(parked) = self.resumed() {
            let (woken, wait) = (parked.woken, parked.wait.clone());
            if woken {
                return Ok(wait.done);
            }
            if self.has_come(wait.until) {
                return Err(Errno::ETIMEDOUT.into());
            }
            if !wait.on.is_empty() {
                return Err(SysError::Wait(wait));
            }
        }
        let count = u64::from(count as u32);
        if flags as u32 != 0 || count == 0 || count > MOST || waiters == 0 {
            return Err(Errno::EINVAL.into());
        }
        if timeout != 0 && !matches!(clock as i32, CLOCK_REALTIME | CLOCK_MONOTONIC) {
            return Err(Errno::EINVAL.into());
        }
        let until = self.futex_until(timeout, clock as i32 == CLOCK_REALTIME)?;
        let waiters = (0..count).map(|i| self.read_waiter(waiters.wrapping_add(24 * i)));
        let waiters: Vec<Waiter> = waiters.collect::<Result<_, _>>()?;
        if waiters.iter().any(|waiter| !waiter.address.is_multiple_of(4)) {
            return Err(Errno::EINVAL.into());
        }
        for waiter in &waiters {
            if self.read_u32(waiter.address)? != waiter.value {
                return Err(Errno::EAGAIN.into());
            }
        }
        if self.has_come(until) {
            return Err(Errno::ETIMEDOUT.into());
        }
        let on = waiters.iter().map(|waiter| self.futex_key(waiter.address, waiter.shared)).collect();
        Err(SysError::Wait(Wait { on, until, done: Kind::Plain.with(ANY), ..Wait::default() }))
    }

    fn read_waiter(&mut self, at: u64) -> Result<Waiter, SysError> {
        let [value, address, rest] = self.read_words::<3>(at)?;
        let (flags, reserved) = (rest as u32, rest >> 32);
        if flags & !(BITS_32 | PRIVATE) != 0 || reserved != 0 || flags & BITS_32 == 0 {
            return Err(Errno::EINVAL.into());
        }
        let value = u32::try_from(value).map_err(|_| Errno::EINVAL)?;
        Ok(Waiter { value, address, shared: flags & PRIVATE == 0 })
    }
}
