//! Moving those that wait for a futex to another one (`kernel/futex/requeue.c`): all of them need not run at once
//! to wait for the next thing.

use super::futex::{ANY, Kind, op};
use super::futex_pi::Chains;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::wait::{Key, Wait};

impl Kernel {
    /// Wakes so many that wait for a futex, and moves so many more to another one; returns how many these are.
    pub(super) fn futex_requeue(&mut self, from: Key, to: Key, (wakes, moves): (usize, usize)) -> SysResult {
        let mut count = 0;
        for tid in self.sched.waiting_for(from) {
            if count >= wakes + moves {
                break;
            }
            match self.kind_of(tid) {
                Some(Kind::Plain) if count < wakes => self.wake_waiter(tid, from),
                Some(Kind::Plain) => self.requeue(tid, from, to),
                Some(_) => return Err(Errno::EINVAL.into()),
                None => continue,
            }
            count += 1;
        }
        Ok(count as u64)
    }

    /// Lets the first one who waits for a futex own another one, and so many more wait to own it.
    pub(super) fn futex_requeue_pi(
        &mut self,
        from: Key,
        (second, to): (u64, Key),
        moves: usize,
    ) -> SysResult {
        let waiting = self.sched.waiting_for(from);
        let (mut count, mut chains) = (0, Chains::new());
        for (place, tid) in waiting.into_iter().enumerate() {
            if place > 0 && count > moves {
                break;
            }
            if self.kind_of(tid) != Some(Kind::Moves) || self.moves_to(tid) != Some(to) {
                return Err(Errno::EINVAL.into());
            }
            let owns = self.take_pi(second, to, tid, moves > 0, &mut chains)?;
            let kind = Kind::Moved.with(ANY);
            let parked = self.task.of_mut(tid).and_then(|task| task.parked.as_mut());
            parked.into_iter().for_each(|parked| parked.wait.done = kind);
            if owns {
                self.wake_task(tid);
            } else {
                self.requeue(tid, from, to);
            }
            count += 1;
        }
        Ok(count as u64)
    }

    /// Waits for a futex until a moment, then to own the second one, to which somebody moves it.
    pub(super) fn futex_wait_requeue_pi(
        &mut self,
        (address, key): (u64, Key),
        value: u32,
        (op, timeout): (u64, u64),
        second: u64,
    ) -> SysResult {
        if let Some(parked) = self.resumed() {
            let (woken, moved, wait) = (parked.woken, Kind::of(parked) == Kind::Moved, parked.wait.clone());
            if woken {
                return Ok(0);
            }
            if self.has_come(wait.until) {
                return Err(Errno::ETIMEDOUT.into());
            }
            // Made again, it would wait for the first one.
            if moved && self.signals().any_deliverable() {
                return Err(Errno::EAGAIN.into());
            }
            if !wait.on.is_empty() {
                return Err(SysError::Wait(wait));
            }
        }
        let until = self.futex_until(timeout, op & op::CLOCK_REALTIME != 0)?;
        if address == second || !second.is_multiple_of(4) {
            return Err(Errno::EINVAL.into());
        }
        if self.read_u32(address)? != value {
            return Err(Errno::EAGAIN.into());
        }
        if self.futex_key(second, op & op::PRIVATE == 0) == key {
            return Err(Errno::EINVAL.into());
        }
        if self.has_come(until) {
            return Err(Errno::ETIMEDOUT.into());
        }
        Err(SysError::Wait(Wait { until, done: Kind::Moves.with(ANY), made_again: true, ..Wait::on(key) }))
    }

    fn kind_of(&self, tid: u32) -> Option<Kind> {
        self.task.of(tid)?.parked.as_ref().map(Kind::of)
    }

    /// Where a task will be moved.
    fn moves_to(&self, tid: u32) -> Option<Key> {
        let task = self.task.of(tid)?;
        let [_, op, _, _, second, _] = task.parked.as_ref()?.call.args;
        Some(self.futex_key_in(task.space, second, op & op::PRIVATE == 0))
    }
}
