//! System V semaphores (`ipc/sem.c`).
//!
//! An operation that cannot be done waits in its set. Whoever changes the set does those operations that
//! have become possible, in the order in which they came, on behalf of the tasks that wait for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::ids::{Ids, Named, Perm};
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

/// Fail rather than wait.
const IPC_NOWAIT: u16 = 0o4000;
/// Undo it when the process ends.
const SEM_UNDO: u16 = 0x1000;

/// Bytes that a set costs, besides its semaphores.
const SET_BYTES: u64 = 512;
/// Bytes that a semaphore costs.
const SEMAPHORE_BYTES: u64 = 8;
/// Bytes that what a process undoes of a set costs, besides its adjustments.
const UNDO_BYTES: u64 = 128;
/// Bytes that an operation that waits costs, besides its parts.
const PENDING_BYTES: u64 = 128;

/// A semaphore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Semaphore {
    /// Its value.
    pub value: u16,
    /// The last process that changed it.
    pub pid: u32,
}

/// A part of an operation (`struct sembuf`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The semaphore.
    pub number: u16,
    /// What is added; 0 waits for 0.
    pub change: i16,
    /// Flags.
    pub flags: u16,
}

/// Bytes of a `struct sembuf`.
pub const PART_BYTES: usize = 6;

impl Part {
    /// From a `struct sembuf`.
    pub fn from_bytes(bytes: &[u8; PART_BYTES]) -> Part {
        let [n0, n1, c0, c1, f0, f1] = *bytes;
        Part {
            number: u16::from_le_bytes([n0, n1]),
            change: i16::from_le_bytes([c0, c1]),
            flags: u16::from_le_bytes([f0, f1]),
        }
    }
}

/// An operation: all of its parts or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The task that it is of.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// The parts.
    pub parts: Vec<Part>,
    /// The part that cannot be done, while it waits.
    blocking: u16,
}

impl Operation {
    /// Of a task.
    pub fn new(tid: u32, pid: u32, parts: Vec<Part>) -> Operation {
        Operation { tid, pid, parts, blocking: 0 }
    }

    /// Whether it changes anything.
    pub fn alters(&self) -> bool {
        self.parts.iter().any(|part| part.change != 0)
    }

    fn undoes(&self) -> bool {
        self.parts.iter().any(|part| part.flags & SEM_UNDO != 0)
    }

    fn cost(&self) -> u64 {
        PENDING_BYTES + (self.parts.len() * size_of::<Part>()) as u64
    }
}

/// A set of semaphores.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SemSet {
    perm: Perm,
    /// The semaphores.
    pub semaphores: Vec<Semaphore>,
    /// When an operation was done last, seconds.
    pub otime: u64,
    /// When it was changed last by `semctl`, seconds.
    pub ctime: u64,
    /// Operations that wait, in the order in which they came.
    pending: VecDeque<Operation>,
}

impl Named for SemSet {
    fn perm(&self) -> &Perm {
        &self.perm
    }

    fn perm_mut(&mut self) -> &mut Perm {
        &mut self.perm
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// All was done.
    Done,
    /// Nothing: this part must wait.
    Blocked(u16),
    /// Nothing: this is the error.
    Failed(Errno),
}

impl SemSet {
    /// Does an operation, or nothing of it (`perform_atomic_semop`). `undo` has the adjustments of its
    /// process, if it undoes anything.
    fn attempt(&mut self, operation: &Operation, mut undo: Option<&mut Vec<i16>>) -> Attempt {
        let mut result = Attempt::Done;
        let mut done = 0;
        for (at, part) in operation.parts.iter().enumerate() {
            let Some(semaphore) = self.semaphores.get_mut(usize::from(part.number)) else {
                result = Attempt::Failed(Errno::EFBIG);
                break;
            };
            let new = i32::from(semaphore.value) + i32::from(part.change);
            if part.change == 0 && new != 0 || new < 0 {
                result = match part.flags & IPC_NOWAIT {
                    0 => Attempt::Blocked(at as u16),
                    _ => Attempt::Failed(Errno::EAGAIN),
                };
                break;
            }
            let Some(value) = u16::try_from(new).ok().filter(|value| *value <= SEMVMX) else {
                result = Attempt::Failed(Errno::ERANGE);
                break;
            };
            if let Some(adjustment) = adjustment_of(&mut undo, part) {
                let Some(new) = adjustment.checked_sub(part.change) else {
                    result = Attempt::Failed(Errno::ERANGE);
                    break;
                };
                *adjustment = new;
            }
            semaphore.value = value;
            done += 1;
        }
        if result == Attempt::Done {
            for part in &operation.parts {
                self.semaphores[usize::from(part.number)].pid = operation.pid;
            }
            return result;
        }
        for part in operation.parts[..done].iter().rev() {
            let semaphore = &mut self.semaphores[usize::from(part.number)];
            semaphore.value = (i32::from(semaphore.value) - i32::from(part.change)) as u16;
            if let Some(adjustment) = adjustment_of(&mut undo, part) {
                *adjustment = adjustment.wrapping_add(part.change);
            }
        }
        result
    }

    /// How many operations wait until a semaphore is 0, or until it is greater.
    pub fn waiting(&self, number: u16, for_zero: bool) -> u64 {
        let counts = |operation: &&Operation| {
            let part = operation.parts.get(usize::from(operation.blocking));
            part.is_some_and(|part| part.number == number && (part.change == 0) == for_zero)
        };
        self.pending.iter().filter(counts).count() as u64
    }

    /// Parts of the operations that wait, for who counts work.
    pub fn pending_parts(&self) -> usize {
        self.pending.iter().map(|operation| operation.parts.len()).sum()
    }

    fn cost(&self) -> u64 {
        let pending = self.pending.iter().map(Operation::cost).sum::<u64>();
        SET_BYTES + self.semaphores.len() as u64 * SEMAPHORE_BYTES + pending
    }
}

/// The adjustment that a part changes, if it is to be undone.
fn adjustment_of<'a>(undo: &'a mut Option<&mut Vec<i16>>, part: &Part) -> Option<&'a mut i16> {
    if part.flags & SEM_UNDO == 0 {
        return None;
    }
    undo.as_mut()?.get_mut(usize::from(part.number))
}

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
                if !self.undo.contains_key(&key) {
                    let adjustments = vec![0; set.semaphores.len()];
                    account.charge(undo_cost(&adjustments))?;
                    self.undo.insert(key, adjustments);
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
