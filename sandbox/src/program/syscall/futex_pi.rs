//! Futexes whose waiters lend their priority to the owner (`kernel/futex/pi.c`): the kernel hands them from one
//! owner to the next. Priorities do not matter here, so that those who wait get them in their order.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::futex::{ANY, Kind, op};
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;
use crate::program::wait::{Key, Parked, Wait};

/// Parts of the word: who has it, that the owner has ended, that others wait.
const TID: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

/// Owners who wait themselves that are looked at (`max_lock_depth`).
const DEPTH: usize = 1024;

/// What owners wait for, as far as a call has found out: none of those that it moves changes that.
pub(super) type Chains = BTreeMap<u32, BTreeSet<u32>>;

/// Whether a task waits to own a futex.
pub(super) fn waits(parked: &Parked) -> bool {
    !parked.woken && matches!(Kind::of(parked), Kind::Owns | Kind::Moved)
}

/// Where the futex lies that such a task waits for, in its address space.
fn place(parked: &Parked) -> u64 {
    let [first, .., second, _] = parked.call.args;
    if Kind::of(parked) == Kind::Moved { second } else { first }
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
            if self.has_come(until) {
                return Err(Errno::ETIMEDOUT.into());
            }
        }
        let real = op & op::COMMAND == op::LOCK_PI || op & op::CLOCK_REALTIME != 0;
        let until = self.futex_until(timeout, real)?;
        if self.take_pi(address, key, self.tid(), false, &mut Chains::new())? {
            return Ok(0);
        }
        if tries {
            return Err(Errno::EAGAIN.into());
        }
        if self.has_come(until) {
            return Err(Errno::ETIMEDOUT.into());
        }
        Err(SysError::Wait(Wait { until, done: Kind::Owns.with(ANY), made_again: true, ..Wait::on(key) }))
    }

    /// Takes one for a task, if nobody has it (`futex_lock_pi_atomic`). Else says in its word that somebody waits,
    /// who is about to.
    pub(super) fn take_pi(
        &mut self,
        address: u64,
        key: Key,
        tid: u32,
        others_wait: bool,
        chains: &mut Chains,
    ) -> Result<bool, SysError> {
        let word = self.read_u32(address)?;
        if word & TID == tid {
            return Err(Errno::EDEADLK.into());
        }
        if !self.is_for_owners(key) {
            return Err(Errno::EINVAL.into());
        }
        match word & TID {
            0 => {
                let waiters = if others_wait { WAITERS } else { 0 };
                self.write(address, &(word & (OWNER_DIED | WAITERS) | tid | waiters).to_le_bytes())?;
                return Ok(true);
            }
            owner if !self.task.has(owner) => return Err(Errno::ESRCH.into()),
            owner if self.chain_of(owner, chains)?.contains(&tid) => return Err(Errno::EDEADLK.into()),
            _ => self.write(address, &(word | WAITERS).to_le_bytes())?,
        }
        Ok(false)
    }

    /// Whether the first one who waits for a futex, if there is one, waits to own it.
    fn is_for_owners(&self, key: Key) -> bool {
        let first = self.sched.waiting_for(key).first().copied();
        let first = first.and_then(|tid| self.task.of(tid)?.parked.as_ref());
        first.is_none_or(waits)
    }

    /// Gives one to who waits for it, or to nobody.
    pub(super) fn futex_unlock_pi(&mut self, address: u64, key: Key) -> SysResult {
        if self.read_u32(address)? & TID != self.tid() {
            return Err(Errno::EPERM.into());
        }
        if !self.is_for_owners(key) {
            return Err(Errno::EINVAL.into());
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
        let (space, address) = (task.space, place(parked));
        let Some(key) = parked.wait.on.first().copied() else { return Ok(None) };
        let mut bytes = [0u8; 4];
        let Some(space) = self.space.of_mut(space) else { return Ok(None) };
        match space.read(&mut self.memory, address, &mut bytes).map_err(SysError::from) {
            Ok(()) => Ok(Some((u32::from_le_bytes(bytes), key))),
            Err(SysError::Errno(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The owners that an owner waits for, one by way of the other.
    fn chain_of<'a>(&mut self, owner: u32, chains: &'a mut Chains) -> Result<&'a BTreeSet<u32>, SysError> {
        match chains.entry(owner) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let (mut chain, mut next) = (BTreeSet::new(), owner);
                while chain.len() < DEPTH
                    && let Some((word, _)) = self.word_of(next)?
                {
                    next = word & TID;
                    if !chain.insert(next) {
                        break;
                    }
                }
                Ok(unknown.insert(chain))
            }
        }
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
            let address = place(parked);
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
