//! Futexes whose waiters lend their priority to the owner (`kernel/futex/pi.c`): the kernel hands them from one
//! owner to the next. Priorities do not matter here, so that those who wait get them in their order.

use super::futex::op;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::wait::{Key, Parked, Wait};

/// Parts of the word: who has it, that the owner has ended, that others wait.
const TID: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

/// What a wait for such a futex has done, which no wait for another kind has.
const WAITS: u64 = 1 << 32;

/// Owners who wait themselves that are looked at (`max_lock_depth`).
const DEPTH: usize = 1024;

fn waits(parked: &Parked) -> bool {
    parked.wait.done == WAITS && !parked.woken
}

impl Kernel {
    /// Takes one for the running task, or waits for it until a moment; with `tries` it does not wait.
    pub(super) fn futex_lock_pi(
        &mut self,
        address: u64,
        key: Key,
        (op, timeout): (u64, u64),
        tries: bool,
    ) -> SysResult {
        if let Some(parked) = self.resumed() {
            let until = parked.wait.until;
            if parked.woken {
                return Ok(0);
            }
            if until.is_some_and(|until| until <= self.clock.monotonic()) {
                return Err(Errno::ETIMEDOUT.into());
            }
        }
        let until = match timeout {
            0 => None,
            timeout => {
                let wanted = self.read_timespec(timeout)?;
                self.refresh_clock()?;
                let real = op & op::COMMAND == op::LOCK_PI || op & op::CLOCK_REALTIME != 0;
                let now = self.clock.monotonic();
                Some(if real {
                    now.saturating_add(wanted.saturating_sub(self.clock.realtime()))
                } else {
                    wanted
                })
            }
        };
        let (tid, word) = (self.tid(), self.read_u32(address)?);
        match word & TID {
            owner if owner == tid => return Err(Errno::EDEADLK.into()),
            0 => {
                self.write(address, &(word & (OWNER_DIED | WAITERS) | tid).to_le_bytes())?;
                return Ok(0);
            }
            owner if !self.task.has(owner) => return Err(Errno::ESRCH.into()),
            owner if self.waits_for_running(owner)? => return Err(Errno::EDEADLK.into()),
            _ => {}
        }
        if tries {
            return Err(Errno::EAGAIN.into());
        }
        self.write(address, &(word | WAITERS).to_le_bytes())?;
        if until.is_some_and(|until| until <= self.clock.monotonic()) {
            return Err(Errno::ETIMEDOUT.into());
        }
        Err(SysError::Wait(Wait { until, done: WAITS, made_again: true, ..Wait::on(key) }))
    }

    /// Gives one to who waits for it, or to nobody.
    pub(super) fn futex_unlock_pi(&mut self, address: u64, key: Key) -> SysResult {
        if self.read_u32(address)? & TID != self.tid() {
            return Err(Errno::EPERM.into());
        }
        let new = self.next_for(key).map_or(0, |next| next | WAITERS);
        self.write(address, &new.to_le_bytes())?;
        if new != 0 {
            self.wake(key, 1, waits);
        }
        Ok(0)
    }

    /// Who gets it next.
    fn next_for(&self, key: Key) -> Option<u32> {
        let waiting = self.sched.waiting_for(key);
        waiting
            .into_iter()
            .find(|tid| self.task.of(*tid).and_then(|task| task.parked.as_ref()).is_some_and(waits))
    }

    /// The word that a task waits for.
    fn word_of(&mut self, tid: u32) -> Result<Option<(u32, Key)>, SysError> {
        let Some(task) = self.task.of(tid) else { return Ok(None) };
        let Some(parked) = task.parked.as_ref().filter(|parked| waits(parked)) else { return Ok(None) };
        let (space, address) = (task.space, parked.call.args[0]);
        let Some(key) = parked.wait.on.first().copied() else { return Ok(None) };
        let mut bytes = [0u8; 4];
        let Some(space) = self.space.of_mut(space) else { return Ok(None) };
        match space.read(&mut self.memory, address, &mut bytes).map_err(SysError::from) {
            Ok(()) => Ok(Some((u32::from_le_bytes(bytes), key))),
            Err(SysError::Errno(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether an owner waits for another one, and so on, up to the running task.
    fn waits_for_running(&mut self, owner: u32) -> Result<bool, SysError> {
        let mut owner = owner;
        for _ in 0..DEPTH {
            match self.word_of(owner)? {
                Some((word, _)) if word & TID == self.tid() => return Ok(true),
                Some((word, _)) => owner = word & TID,
                None => break,
            }
        }
        Ok(false)
    }

    /// The running task ends: what it has goes to those who wait for it (`exit_pi_state_list`).
    pub(in crate::program) fn release_pi(&mut self) -> Result<(), SysError> {
        let tid = self.tid();
        let waiting: Vec<u32> = self
            .task
            .iter()
            .filter(|(_, task)| task.parked.as_ref().is_some_and(waits))
            .map(|(tid, _)| tid)
            .collect();
        for waiter in waiting {
            let Some((word, key)) = self.word_of(waiter)? else { continue };
            if word & TID != tid || self.next_for(key) != Some(waiter) {
                continue;
            }
            let new = waiter | WAITERS | OWNER_DIED;
            let of_waiter = self.task.of(waiter).map(|task| (task.space, task.parked.as_ref()));
            let Some((space, Some(parked))) = of_waiter else { continue };
            let address = parked.call.args[0];
            let Some(space) = self.space.of_mut(space) else { continue };
            match space.write(&mut self.memory, address, &new.to_le_bytes()).map_err(SysError::from) {
                Ok(()) => self.effects.add(address, &new.to_le_bytes()),
                Err(SysError::Errno(_)) => continue,
                Err(e) => return Err(e),
            }
            self.wake(key, 1, waits);
        }
        Ok(())
    }
}
