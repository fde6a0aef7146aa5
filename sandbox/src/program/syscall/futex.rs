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
    pub const WAIT_REQUEUE_PI: u64 = 11;
    pub const CMP_REQUEUE_PI: u64 = 12;
    pub const LOCK_PI2: u64 = 13;
    pub const COMMAND: u64 = 0x7f;
    pub const PRIVATE: u64 = 0x80;
    pub const CLOCK_REALTIME: u64 = 0x100;
}

/// Waiters of any kind (`FUTEX_BITSET_MATCH_ANY`).
pub(in crate::program) const ANY: u32 = u32::MAX;

/// What a task in a futex's queue is there for: the upper half of [`Wait::done`]. The lower half are the bits of
/// which a wake-up must have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To be woken, or moved to another futex.
    Plain = 0,
    /// To own it (`FUTEX_LOCK_PI`).
    Owns = 1,
    /// To be moved to one that it will own (`FUTEX_WAIT_REQUEUE_PI`).
    Moves = 2,
    /// To own it, since it was moved there.
    Moved = 3,
}

impl Kind {
    /// Of a waiting task.
    pub fn of(parked: &Parked) -> Kind {
        match parked.wait.done >> 32 {
            0 => Kind::Plain,
            1 => Kind::Owns,
            2 => Kind::Moves,
            _ => Kind::Moved,
        }
    }

    /// With the bits of a wake-up: [`Wait::done`].
    pub fn with(self, bits: u32) -> u64 {
        (self as u64) << 32 | u64::from(bits)
    }
}

impl Kernel {
    /// What waiters at an address wait for: a private futex is its address space's, a shared one that of the
    /// memory behind it.
    pub fn futex_key(&self, address: u64, shared: bool) -> Key {
        self.futex_key_in(self.space.id(), address, shared)
    }

    /// The same of another address space.
    pub(super) fn futex_key_in(&self, space: u32, address: u64, shared: bool) -> Key {
        if shared
            && let Some((start, vma)) = self.space.of(space).and_then(|space| space.find(address))
            && let Backing::Shared { object, offset } = vma.backing
        {
            return Key::SharedFutex(object, offset + (address - start));
        }
        Key::Futex(space, address)
    }

    pub(super) fn sys_futex(&mut self, a: Args) -> SysResult {
        let [address, op, value, timeout, second, value3] = a;
        let (command, shared) = (op & op::COMMAND, op & op::PRIVATE == 0);
        let timed = matches!(command, op::WAIT | op::WAIT_BITSET | op::LOCK_PI2 | op::WAIT_REQUEUE_PI);
        if op & op::CLOCK_REALTIME != 0 && !timed {
            return Err(Errno::ENOSYS.into());
        }
        let moves = matches!(command, op::REQUEUE | op::CMP_REQUEUE);
        if !moves && !matches!(command, op::WAIT | op::WAKE | op::WAKE_OP..=op::LOCK_PI2) {
            return Err(Errno::ENOSYS.into());
        }
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL.into());
        }
        let of_bits = matches!(command, op::WAIT_BITSET | op::WAKE_BITSET);
        let bits = if of_bits { value3 as u32 } else { ANY };
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
            op::WAIT_REQUEUE_PI => {
                self.futex_wait_requeue_pi((address, key), value as u32, (op, timeout), second)
            }
            op::WAKE | op::WAKE_BITSET => {
                let woken = self.wake_futex(key, count(value).max(1), bits)?;
                if woken > 0 {
                    self.sched.give_way();
                }
                Ok(woken as u64)
            }
            op::REQUEUE | op::CMP_REQUEUE | op::CMP_REQUEUE_PI => {
                if !second.is_multiple_of(4) || (value as i32) < 0 || (timeout as i32) < 0 {
                    return Err(Errno::EINVAL.into());
                }
                let to = self.futex_key(second, shared);
                let inherits = command == op::CMP_REQUEUE_PI;
                if inherits && (address == second || key == to || value as u32 != 1) {
                    return Err(Errno::EINVAL.into());
                }
                if command != op::REQUEUE && self.read_u32(address)? != value3 as u32 {
                    return Err(Errno::EAGAIN.into());
                }
                if inherits {
                    return self.futex_requeue_pi(key, (second, to), count(timeout));
                }
                self.futex_requeue(key, to, (count(value), count(timeout)))
            }
            _ => self.futex_wake_op(key, (second, shared), (count(value), count(timeout)), value3 as u32),
        }
    }

    /// Wakes at most `most` of those that wait for a futex with one of these bits; returns how many.
    ///
    /// # Errors
    /// `EINVAL` when one comes who waits to own it.
    pub(in crate::program) fn wake_futex(
        &mut self,
        key: Key,
        most: usize,
        bits: u32,
    ) -> Result<usize, Errno> {
        let mut count = 0;
        for tid in self.sched.waiting_for(key) {
            if count == most {
                break;
            }
            let Some(parked) = self.task.of(tid).and_then(|task| task.parked.as_ref()) else { continue };
            if Kind::of(parked) != Kind::Plain {
                return Err(Errno::EINVAL);
            }
            if parked.wait.done as u32 & bits != 0 {
                self.wake_waiter(tid, key);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Wakes one that waits for a futex. If it waits for others, too, it learns which one it was.
    pub(super) fn wake_waiter(&mut self, tid: u32, key: Key) {
        let Some(parked) = self.task.of_mut(tid).and_then(|task| task.parked.as_mut()) else { return };
        let place = parked.wait.on.iter().position(|on| *on == key);
        parked.wait.done = place.unwrap_or(0) as u64;
        self.wake_task(tid);
    }

    /// The monotonic moment that a time limit at an address says, 0 for none. `real` if it is one of the clock of
    /// real time, and not of the monotonic one.
    pub(super) fn futex_until(&mut self, timeout: u64, real: bool) -> Result<Option<u64>, SysError> {
        if timeout == 0 {
            return Ok(None);
        }
        let wanted = self.read_timespec(timeout)?;
        self.refresh_clock()?;
        if !real {
            return Ok(Some(wanted));
        }
        let left = wanted.saturating_sub(self.clock.realtime());
        Ok(Some(self.clock.monotonic().saturating_add(left)))
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
            if self.has_come(wait.until) {
                return Err(Errno::ETIMEDOUT.into());
            }
            if wait.until.is_some() && self.signals().any_deliverable() {
                return Err(Errno::EINTR.into());
            }
            if !wait.on.is_empty() {
                return Err(SysError::Wait(wait));
            }
        }
        let until = match op & op::COMMAND {
            op::WAIT if timeout != 0 => {
                let wanted = self.read_timespec(timeout)?;
                Some(self.deadline(wanted)?)
            }
            _ => self.futex_until(timeout, op & op::CLOCK_REALTIME != 0)?,
        };
        if self.read_u32(address)? != value {
            return Err(Errno::EAGAIN.into());
        }
        if self.has_come(until) {
            return Err(Errno::ETIMEDOUT.into());
        }
        Err(SysError::Wait(Wait { until, done: Kind::Plain.with(bits), ..Wait::on(key) }))
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
        let mut woken = self.wake_futex(key, first.max(1), ANY)?;
        if holds {
            let key = self.futex_key(second, shared);
            woken += self.wake_futex(key, other.max(1), ANY)?;
        }
        Ok(woken as u64)
    }
}
