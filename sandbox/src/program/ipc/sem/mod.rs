//! System V semaphores (`ipc/sem.c`).
//!
//! An operation that cannot be done waits in its set. Whoever changes the set does those operations that
//! have become possible, in the order in which they came, on behalf of the tasks that wait for them.

mod set;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

pub use set::{Operation, PART_BYTES, Part, SemSet, Semaphore};

use set::{Attempt, SEMAPHORE_BYTES, SET_BYTES};

use super::ids::{Ids, Perm};
use crate::errno::Errno;
use crate::machine::{BadState, expect};
use crate::program::mm::Account;

/// Sets at most.
pub const SEMMNI: usize = 32_000;
/// Semaphores of a set at most.
pub const SEMMSL: u64 = 32_000;
/// Semaphores at most.
pub const SEMMNS: u64 = SEMMNI as u64 * SEMMSL;
/// Operations of one call at most.
pub const SEMOPM: u64 = 500;
/// The highest value.
pub const SEMVMX: u16 = 32_767;

/// Bytes that what a process undoes of a set costs, besides its adjustments.
const UNDO_BYTES: u64 = 128;
/// What was found out of an operation that a task asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was done. With `true` others may be possible now.
    Done(bool),
    /// It waits in the set.
    Waits,
}

/// All sets.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sems {
    /// The sets.
    pub sets: Ids<SemSet>,
    /// Semaphores of all sets.
    used: u64,
    /// By process and set: what is added to each semaphore when the process ends.
    undo: BTreeMap<(u32, i32), Vec<i16>>,
}

impl Sems {
    /// Whether a process wants anything undone when it ends.
    pub fn undoes(&self, pid: u32) -> bool {
        self.undo.range((pid, i32::MIN)..=(pid, i32::MAX)).next().is_some()
    }

    /// Semaphores of all sets.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Makes a set; gives its identifier.
    ///
    /// # Errors
    /// `ENOSPC` beyond what there may be, `ENOMEM`.
    pub fn make(&mut self, account: &mut Account, perm: Perm, count: u64, now: u64) -> Result<i32, Errno> {
        if self.sets.len() >= SEMMNI || self.used + count > SEMMNS {
            return Err(Errno::ENOSPC);
        }
        account.charge(SET_BYTES + count * SEMAPHORE_BYTES)?;
        let semaphores = vec![Semaphore::default(); count as usize];
        let set = SemSet { perm, semaphores, otime: 0, ctime: now, pending: VecDeque::new() };
        self.used += count;
        self.sets.add(set, SEMMNI)
    }

    /// Removes a set; gives the tasks that wait in it.
    pub fn remove(&mut self, account: &mut Account, id: i32) -> Vec<u32> {
        let Some(set) = self.sets.remove(id) else { return Vec::new() };
        account.refund(set.cost());
        self.used = self.used.saturating_sub(set.semaphores.len() as u64);
        self.undo.retain(|(_, of), adjustments| {
            if *of == id {
                account.refund(undo_cost(adjustments));
            }
            *of != id
        });
        set.pending.iter().map(|operation| operation.tid).collect()
    }

    /// Does an operation of a task, or lets it wait.
    ///
    /// # Errors
    /// As `semop(2)`, behind the checks of its arguments.
    pub fn ask(
        &mut self,
        account: &mut Account,
        id: i32,
        mut operation: Operation,
        now: u64,
    ) -> Result<Asked, Errno> {
        let set = self.sets.get_mut(id)?;
        let undo = match operation.undoes() {
            true => {
                let key = (operation.pid, id);
                if let Entry::Vacant(vacant) = self.undo.entry(key) {
                    let adjustments = vec![0; set.semaphores.len()];
                    account.charge(undo_cost(&adjustments))?;
                    vacant.insert(adjustments);
                }
                self.undo.get_mut(&key)
            }
            false => None,
        };
        match set.attempt(&operation, undo) {
            Attempt::Done => {
                set.otime = now;
                Ok(Asked::Done(operation.alters()))
            }
            Attempt::Failed(errno) => Err(errno),
            Attempt::Blocked(part) => {
                account.charge(operation.cost())?;
                operation.blocking = part;
                set.pending.push_back(operation);
                Ok(Asked::Waits)
            }
        }
    }

    /// Does one of the operations that wait in a set and have become possible; gives its task, and the
    /// result. Those that change nothing come first, since the next change may be the end of what they
    /// wait for.
    pub fn next_possible(
        &mut self,
        account: &mut Account,
        id: i32,
        now: u64,
    ) -> Option<(u32, Result<(), Errno>)> {
        let set = self.sets.get_mut(id).ok()?;
        for alters in [false, true] {
            for at in 0..set.pending.len() {
                if set.pending[at].alters() != alters {
                    continue;
                }
                let operation = set.pending[at].clone();
                let undo = match operation.undoes() {
                    true => self.undo.get_mut(&(operation.pid, id)),
                    false => None,
                };
                let result = match set.attempt(&operation, undo) {
                    Attempt::Blocked(part) => {
                        set.pending[at].blocking = part;
                        continue;
                    }
                    Attempt::Done => {
                        set.otime = now;
                        Ok(())
                    }
                    Attempt::Failed(errno) => Err(errno),
                };
                set.pending.remove(at);
                account.refund(operation.cost());
                return Some((operation.tid, result));
            }
        }
        None
    }

    /// A task waits no more in a set.
    pub fn leave(&mut self, account: &mut Account, id: i32, tid: u32) {
        let Ok(set) = self.sets.get_mut(id) else { return };
        set.pending.retain(|operation| {
            if operation.tid == tid {
                account.refund(operation.cost());
            }
            operation.tid != tid
        });
    }

    /// No process undoes anything of a semaphore, or of a whole set, that was set anew.
    pub fn forget_undo(&mut self, id: i32, number: Option<usize>) {
        for (_, adjustments) in self.undo.iter_mut().filter(|((_, of), _)| *of == id) {
            match number {
                Some(number) => adjustments.iter_mut().skip(number).take(1).for_each(|a| *a = 0),
                None => adjustments.fill(0),
            }
        }
    }

    /// Undoes what a process that has ended wanted undone; gives the sets that have changed (`exit_sem`).
    pub fn undo_all(&mut self, account: &mut Account, pid: u32, now: u64) -> Vec<i32> {
        let ids: Vec<i32> =
            self.undo.range((pid, i32::MIN)..=(pid, i32::MAX)).map(|((_, id), _)| *id).collect();
        for id in &ids {
            let Some(adjustments) = self.undo.remove(&(pid, *id)) else { continue };
            account.refund(undo_cost(&adjustments));
            let Ok(set) = self.sets.get_mut(*id) else { continue };
            for (semaphore, adjustment) in set.semaphores.iter_mut().zip(&adjustments) {
                if *adjustment != 0 {
                    let value = i32::from(semaphore.value) + i32::from(*adjustment);
                    semaphore.value = value.clamp(0, SEMVMX.into()) as u16;
                    semaphore.pid = pid;
                }
            }
            set.otime = now;
        }
        ids
    }

    /// Bytes that are charged.
    pub fn cost(&self) -> u64 {
        let sets = self.sets.iter().map(|(_, set)| set.cost());
        sets.chain(self.undo.values().map(|adjustments| undo_cost(adjustments))).sum()
    }

    /// The tasks that wait, with the set that each waits in.
    pub fn waiting(&self) -> impl Iterator<Item = (u32, i32)> {
        self.sets.iter().flat_map(|(id, set)| set.pending.iter().map(move |operation| (operation.tid, id)))
    }

    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        let Sems { sets, used, undo } = self;
        sets.check()?;
        expect(sets.len() <= SEMMNI, "the number of semaphore sets")?;
        let all: usize = sets.iter().map(|(_, set)| set.semaphores.len()).sum();
        expect(all as u64 == *used, "the number of semaphores")?;
        for (_, set) in sets.iter() {
            let SemSet { perm: _, semaphores, otime: _, ctime: _, pending } = set;
            let count = semaphores.len();
            let values = semaphores.iter().all(|semaphore| semaphore.value <= SEMVMX);
            expect(values && (1..=SEMMSL as usize).contains(&count), "a set of semaphores")?;
            let in_set = |part: &Part| usize::from(part.number) < count;
            let sound = |operation: &Operation| {
                let parts = operation.parts.len();
                usize::from(operation.blocking) < parts
                    && parts <= SEMOPM as usize
                    && operation.parts.iter().all(in_set)
            };
            expect(pending.iter().all(sound), "an operation on semaphores")?;
            let tids: BTreeSet<u32> = pending.iter().map(|operation| operation.tid).collect();
            expect(tids.len() == pending.len(), "who waits for semaphores")?;
        }
        let sound = |((_, id), adjustments): (&(u32, i32), &Vec<i16>)| {
            sets.get(*id).is_ok_and(|set| set.semaphores.len() == adjustments.len())
        };
        expect(undo.iter().all(sound), "what is undone of semaphores")
    }
}

fn undo_cost(adjustments: &[i16]) -> u64 {
    UNDO_BYTES + size_of_val(adjustments) as u64
}

#[cfg(test)]
mod tests {
    use super::set::{IPC_NOWAIT, SEM_UNDO};
    use super::*;
    use crate::program::credentials::ROOT;

    fn part(number: u16, change: i16, flags: u16) -> Part {
        Part { number, change, flags }
    }

    fn sems(count: u64) -> (Sems, Account, i32) {
        let (mut sems, mut account) = (Sems::default(), Account::new(1 << 20));
        let id = sems.make(&mut account, Perm::new(&ROOT, 0, 0o600), count, 5).unwrap();
        (sems, account, id)
    }

    impl Sems {
        fn op(&mut self, account: &mut Account, id: i32, tid: u32, parts: &[Part]) -> Result<Asked, Errno> {
            self.ask(account, id, Operation::new(tid, tid, parts.to_vec()), 9)
        }

        fn values(&self, id: i32) -> Vec<u16> {
            self.sets.get(id).unwrap().semaphores.iter().map(|s| s.value).collect()
        }
    }

    #[test]
    fn all_of_an_operation_or_nothing() {
        let (mut s, mut a, id) = sems(2);
        let parts = [part(0, 2, SEM_UNDO), part(1, -1, IPC_NOWAIT)];
        assert_eq!(s.op(&mut a, id, 3, &parts), Err(Errno::EAGAIN));
        assert_eq!(s.values(id), [0, 0]);
        assert_eq!(s.op(&mut a, id, 3, &[part(0, 1, 0), part(0, -1, 0)]), Ok(Asked::Done(true)));
        assert_eq!(s.op(&mut a, id, 3, &[part(0, 32767, 0), part(0, 1, 0)]), Err(Errno::ERANGE));
        assert_eq!(s.undo_all(&mut a, 3, 9), [id]);
        assert_eq!(s.values(id), [0, 0]);
        assert_eq!(a.charged(), s.cost());
    }

    #[test]
    fn those_that_wait_are_done_in_order() {
        let (mut s, mut a, id) = sems(2);
        assert_eq!(s.op(&mut a, id, 3, &[part(0, -2, 0)]), Ok(Asked::Waits));
        assert_eq!(s.op(&mut a, id, 4, &[part(0, -1, 0), part(1, -1, 0)]), Ok(Asked::Waits));
        assert_eq!(s.op(&mut a, id, 5, &[part(0, -1, 0)]), Ok(Asked::Waits));
        assert_eq!((s.sets.get(id).unwrap().waiting(0, false), s.waiting().count()), (3, 3));
        assert_eq!(s.op(&mut a, id, 6, &[part(0, 2, 0)]), Ok(Asked::Done(true)));
        assert_eq!(s.next_possible(&mut a, id, 9), Some((3, Ok(()))));
        assert_eq!(s.next_possible(&mut a, id, 9), None);
        s.leave(&mut a, id, 5);
        assert_eq!(s.op(&mut a, id, 6, &[part(0, 1, 0)]), Ok(Asked::Done(true)));
        assert_eq!(s.next_possible(&mut a, id, 9), None);
        // The second one waits for another semaphore now.
        let set = s.sets.get(id).unwrap();
        assert_eq!((set.waiting(0, false), set.waiting(1, false), set.waiting(1, true)), (0, 1, 0));
        s.check().unwrap();
        assert_eq!(a.charged(), s.cost());
        assert_eq!(s.remove(&mut a, id), [4]);
        assert_eq!(a.charged(), 0);
    }

    #[test]
    fn zero_is_seen_before_it_passes() {
        let (mut s, mut a, id) = sems(1);
        s.op(&mut a, id, 3, &[part(0, 1, 0)]).unwrap();
        assert_eq!(s.op(&mut a, id, 4, &[part(0, -2, 0), part(0, 2, 0)]), Ok(Asked::Waits));
        assert_eq!(s.op(&mut a, id, 5, &[part(0, 0, 0), part(0, 3, 0)]), Ok(Asked::Waits));
        assert_eq!(s.op(&mut a, id, 6, &[part(0, 0, 0)]), Ok(Asked::Waits));
        s.op(&mut a, id, 3, &[part(0, -1, 0)]).unwrap();
        let order: Vec<u32> = std::iter::from_fn(|| s.next_possible(&mut a, id, 9)).map(|(t, _)| t).collect();
        assert_eq!(order, [6, 5, 4]);
        assert_eq!(s.values(id), [3]);
    }

    #[test]
    fn what_a_process_did_is_undone() {
        let (mut s, mut a, id) = sems(2);
        s.op(&mut a, id, 3, &[part(0, 5, SEM_UNDO), part(1, 2, 0)]).unwrap();
        s.op(&mut a, id, 3, &[part(0, -1, SEM_UNDO)]).unwrap();
        s.op(&mut a, id, 4, &[part(1, -2, SEM_UNDO)]).unwrap();
        assert_eq!(s.undo_all(&mut a, 3, 9), [id]);
        assert_eq!(s.values(id), [0, 0]);
        s.forget_undo(id, Some(1));
        s.undo_all(&mut a, 4, 9);
        assert_eq!(s.values(id), [0, 0]);
        assert!(s.undo_all(&mut a, 4, 9).is_empty());
        assert_eq!(a.charged(), s.cost());
    }

    #[test]
    fn a_state_out_of_a_file_is_checked() {
        let (s, mut a, id) = sems(2);
        let bad = |change: fn(&mut Sems, i32)| {
            let mut bad = s.clone();
            change(&mut bad, id);
            bad.check().is_err()
        };
        assert!(s.check().is_ok());
        assert!(bad(|s, id| s.sets.get_mut(id).unwrap().semaphores.clear()));
        assert!(bad(|s, id| s.sets.get_mut(id).unwrap().semaphores[0].value = 40_000));
        assert!(bad(|s, id| {
            let parts = vec![part(2, 1, 0)];
            s.sets.get_mut(id).unwrap().pending.push_back(Operation::new(3, 3, parts));
        }));
        assert!(bad(|s, id| drop(s.undo.insert((3, id), vec![0; 3]))));
        assert!(bad(|s, _| drop(s.undo.insert((3, 99), vec![0; 2]))));
        assert!(Sems::default().make(&mut a, Perm::new(&ROOT, 0, 0), 200_000, 0).is_err());
    }
}
