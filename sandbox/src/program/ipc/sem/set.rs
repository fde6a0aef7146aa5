//! A set of semaphores, and operations on it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::ids::{Named, Perm};
use super::SEMVMX;
use crate::errno::Errno;

/// Fail rather than wait.
pub(super) const IPC_NOWAIT: u16 = 0o4000;
/// Undo it when the process ends.
pub(super) const SEM_UNDO: u16 = 0x1000;

/// Bytes that a set costs, besides its semaphores.
pub(super) const SET_BYTES: u64 = 512;
/// Bytes that a semaphore costs.
pub(super) const SEMAPHORE_BYTES: u64 = 8;
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
    pub(super) blocking: u16,
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

    pub(super) fn undoes(&self) -> bool {
        self.parts.iter().any(|part| part.flags & SEM_UNDO != 0)
    }

    pub(super) fn cost(&self) -> u64 {
        PENDING_BYTES + (self.parts.len() * size_of::<Part>()) as u64
    }
}

/// A set of semaphores.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SemSet {
    pub(super) perm: Perm,
    /// The semaphores.
    pub semaphores: Vec<Semaphore>,
    /// When an operation was done last, seconds.
    pub otime: u64,
    /// When it was changed last by `semctl`, seconds.
    pub ctime: u64,
    /// Operations that wait, in the order in which they came.
    pub(super) pending: VecDeque<Operation>,
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
pub(super) enum Attempt {
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
    pub(super) fn attempt(&mut self, operation: &Operation, mut undo: Option<&mut Vec<i16>>) -> Attempt {
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

    pub(super) fn cost(&self) -> u64 {
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
