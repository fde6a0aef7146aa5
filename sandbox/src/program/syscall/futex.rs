//! Futexes (`kernel/futex`).

use super::Args;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::mm::Backing;
use crate::program::wait::{Key, Parked, Wait};

/// `FUTEX_*` (`include/uapi/linux/futex.h`).
pub(super) mod op {
    pub const WAIT: u64 = 0;
    pub const WAKE: u64 = 1;
    pub const REQUEUE: u64 = 3;
    pub const CMP_REQUEUE: u64 = 4;
    pub const WAKE_OP: u64 = 5;
    pub const LOCK_PI: u64 = 6;
    pub const UNLOCK_PI: u64 = 7;
    pub const TRYLOCK_PI: u64 = 8;
    pub const WAIT_BITSET: u64 = 9;
    pub const WAKE_BITSET: u64 = 10;
    pub const LOCK_PI2: u64 = 13;
    pub const COMMAND: u64 = 0x7f;
    pub const PRIVATE: u64 = 0x80;
    pub const CLOCK_REALTIME: u64 = 0x100;
}

/// Waiters of any kind (`FUTEX_BITSET_MATCH_ANY`).
pub const ANY: u32 = u32::MAX;

/// Whether one waits for a futex to be woken at, and has one of these bits.
fn has_bits(parked: &Parked, bits: u32) -> bool {
    parked.wait.done as u32 & bits != 0
}

impl Kernel {
    /// What waiters at an address wait for: a private futex is its address space's, a shared one that of the
    /// memory behind it.
    pub fn futex_key(&self, address: u64, shared: bool) -> Key {
        if shared
            && let Some((start, vma)) = self.space.find(address)
            && let Backing::Shared { object, offset } = vma.backing
        {
            return Key::SharedFutex(object, offset + (address - start));
        }
        Key::Futex(self.space.id(), address)
    }

    pub(super) fn sys_futex(&mut self, a: Args) -> SysResult {
        let [address, op, value, timeout, second, value3] = a;
        let (command, shared) = (op & op::COMMAND, op & op::PRIVATE == 0);
        let timed = matches!(command, op::WAIT | op::WAIT_BITSET | op::LOCK_PI2);
        if op & op::CLOCK_REALTIME != 0 && !timed {
            return Err(Errno::ENOSYS.into());
        }
        let (waits, wakes) = ([op::WAIT, op::WAIT_BITSET], [op::WAKE, op::WAKE_BITSET, op::WAKE_OP]);
        let moves = [op::REQUEUE, op::CMP_REQUEUE];
        let locks = [op::LOCK_PI, op::LOCK_PI2, op::TRYLOCK_PI, op::UNLOCK_PI];
        let known: [&[u64]; 4] = [&waits, &wakes, &moves, &locks];
        if !known.iter().any(|commands| commands.contains(&command)) {
            return Err(Errno::ENOSYS.into());
        }
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL.into());
        }
        let bits = if matches!(command, op::WAIT_BITSET | op::WAKE_BITSET) { value3 as u32 } else { ANY };
        if bits == 0 {
            return Err(Errno::EINVAL.into());
        }
        let key = self.futex_key(address, shared);
        let count = |n: u64| usize::try_from(n as i32).unwrap_or(0);
        match command {
            op::WAIT | op::WAIT_BITSET => self.futex_wait(address, key, (value as u32, bits), op, timeout),
            op::LOCK_PI | op::LOCK_PI2 => self.futex_lock_pi(address, key, (op, timeout), false),
            op::TRYLOCK_PI => self.futex_lock_pi(address, key, (op, 0), true),
            op::UNLOCK_PI => self.futex_unlock_pi(address, key),
            op::WAKE | op::WAKE_BITSET => Ok(self.wake_futex(key, count(value).max(1), bits) as u64),
            op::REQUEUE | op::CMP_REQUEUE => {
                if !second.is_multiple_of(4) || (value as i32) < 0 || (timeout as i32) < 0 {
                    return Err(Errno::EINVAL.into());
                }
                if command == op::CMP_REQUEUE && self.read_u32(address)? != value3 as u32 {
                    return Err(Errno::EAGAIN.into());
                }
                let woken = self.wake_futex(key, count(value), ANY);
                let to = self.futex_key(second, shared);
                let moved = self.requeue(key, to, count(timeout), |parked| has_bits(parked, ANY));
                Ok((woken + moved) as u64)
            }
            _ => self.futex_wake_op(key, (second, shared), (count(value), count(timeout)), value3 as u32),
        }
    }

    /// Wakes those who wait for a futex and have one of these bits, and not those who wait to have it
    /// (`futex_lock_pi`). Returns how many.
    pub fn wake_futex(&mut self, key: Key, most: usize, bits: u32) -> usize {
        self.wake(key, most, |parked| has_bits(parked, bits))
    }

    fn futex_wait(
        &mut self,
        address: u64,
        key: Key,
        (value, bits): (u32, u32),
        op: u64,
        timeout: u64,
    ) -> SysResult {
        let again = self.resumed().map(|parked| (parked.woken, parked.wait.clone()));
        if let Some((woken, wait)) = again {
            if woken {
                return Ok(0);
            }
            if wait.until.is_some_and(|until| until <= self.clock.monotonic()) {
                return Err(Errno::ETIMEDOUT.into());
            }
            if wait.until.is_some() && self.signals().any_deliverable() {
                return Err(Errno::EINTR.into());
            }
            if !wait.on.is_empty() {
                return Err(SysError::Wait(wait));
            }
        }
        let until = match timeout {
            0 => None,
            timeout => {
                let wanted = self.read_timespec(timeout)?;
                self.refresh_clock()?;
                let now = self.clock.monotonic();
                Some(match op & op::COMMAND {
                    op::WAIT => now.saturating_add(wanted),
                    _ if op & op::CLOCK_REALTIME != 0 => {
                        now.saturating_add(wanted.saturating_sub(self.clock.realtime()))
                    }
                    _ => wanted,
                })
            }
        };
        if self.read_u32(address)? != value {
            return Err(Errno::EAGAIN.into());
        }
        if until.is_some_and(|until| until <= self.clock.monotonic()) {
            return Err(Errno::ETIMEDOUT.into());
        }
        Err(SysError::Wait(Wait { until, done: bits.into(), ..Wait::on(key) }))
    }

    /// `FUTEX_WAKE_OP`: changes a second futex and wakes waiters of the first, and of the second if it was
    /// as the operation says (`futex_atomic_op_inuser`).
    fn futex_wake_op(
        &mut self,
        key: Key,
        (second, shared): (u64, bool),
        (first, other): (usize, usize),
        encoded: u32,
    ) -> SysResult {
        if !second.is_multiple_of(4) {
            return Err(Errno::EINVAL.into());
        }
        let signed = |bits: u32| (bits << 20) as i32 >> 20;
        let (op, compare) = (encoded >> 28 & 7, encoded >> 24 & 15);
        let (mut operand, against) = (signed(encoded >> 12 & 0xfff), signed(encoded & 0xfff));
        if encoded >> 31 != 0 {
            operand = 1i32.wrapping_shl(operand as u32);
        }
        let old = self.read_u32(second)? as i32;
        let new = match op {
            0 => operand,
            1 => old.wrapping_add(operand),
            2 => old | operand,
            3 => old & !operand,
            4 => old ^ operand,
            _ => return Err(Errno::ENOSYS.into()),
        };
        let holds = match compare {
            0 => old == against,
            1 => old != against,
            2 => old < against,
            3 => old <= against,
            4 => old > against,
            5 => old >= against,
            _ => return Err(Errno::ENOSYS.into()),
        };
        self.write(second, &new.to_le_bytes())?;
        let mut woken = self.wake_futex(key, first.max(1), ANY);
        if holds {
            let key = self.futex_key(second, shared);
            woken += self.wake_futex(key, other.max(1), ANY);
        }
        Ok(woken as u64)
    }
}
