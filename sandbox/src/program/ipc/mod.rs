//! System V IPC and POSIX message queues: what tasks share besides files and mappings.
//!
//! Who waits in a set of semaphores or a queue is known there, in the order in which they came, and is
//! served there by whoever makes it possible, as in Linux: the task that waited finds the result when it
//! runs again ([`Waiting::Finished`]).
//!
//! All that a program can make here is charged to the sandbox's memory, but for what POSIX queues hold,
//! which is charged to the quota of the file system when they are made.

mod ids;
pub mod mqueue;
pub mod msg;
pub mod sem;
pub mod shm;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use ids::{EXECUTE, IPC_PRIVATE, Ids, Named, PERM_BYTES, Perm, READ, WRITE};
use mqueue::Names;
use msg::{Message, Msgs};
use sem::{SemSet, Sems};
use shm::Shms;
pub use text::text;

use super::error::SysError;
use super::fs::{Fs, InodeId};
use super::kernel::Kernel;
use super::mm::MemoryState;
use super::wait::{Key, Wait};
use crate::errno::Errno;
use crate::host::stop::Pace;
use crate::machine::{BadState, expect};

const SECOND: u64 = 1_000_000_000;

/// What a task waits in, or what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// Its operation waits in a set of semaphores.
    Semaphores(i32),
    /// It waits for a message of a System V queue.
    Receiver(i32),
    /// It waits for a message of a POSIX queue.
    Reader(InodeId),
    /// It waits for room in a POSIX queue for this message, which is charged.
    Writer(InodeId, Message),
    /// What it waited for has come about, or cannot any more.
    Finished(Finished),
}

/// What came of a wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finished {
    /// It was done, or this is the error.
    Done(Result<(), Errno>),
    /// This message came, which is charged.
    Message(Message),
}

impl Waiting {
    fn cost(&self) -> u64 {
        match self {
            Waiting::Writer(_, message) | Waiting::Finished(Finished::Message(message)) => message.cost(),
            _ => 0,
        }
    }
}

/// All of IPC.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ipc {
    /// Shared memory.
    pub shm: Shms,
    /// Semaphores.
    pub sem: Sems,
    /// System V message queues.
    pub msg: Msgs,
    /// Names of POSIX message queues.
    pub queues: Names,
    /// By task: what it waits in.
    waits: BTreeMap<u32, Waiting>,
}

impl Ipc {
    /// Bytes that are charged to the sandbox's memory.
    pub fn cost(&self) -> u64 {
        let waits = self.waits.values().map(Waiting::cost).sum::<u64>();
        self.shm.cost() + self.sem.cost() + self.msg.cost() + waits
    }

    /// Checks what a file claims; `is_task` says whether there is a task of a number.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(
        &self,
        memory: &MemoryState,
        fs: &Fs,
        is_task: impl Fn(u32) -> bool,
    ) -> Result<(), BadState> {
        let Ipc { shm, sem, msg, queues, waits } = self;
        shm.check(memory)?;
        sem.check()?;
        msg.check()?;
        queues.check(|inode| fs.queue(inode).is_some())?;
        expect(waits.keys().all(|tid| is_task(*tid)), "a task that waits")?;
        let of_sem = sem.waiting().all(|(tid, id)| waits.get(&tid) == Some(&Waiting::Semaphores(id)));
        let of_msg = msg.waiting().all(|(tid, id)| waits.get(&tid) == Some(&Waiting::Receiver(id)));
        let of_queue = fs.queues().all(|(inode, queue)| {
            let reads = |tid: &u32| waits.get(tid) == Some(&Waiting::Reader(inode));
            let writes = |tid: &u32| match waits.get(tid) {
                Some(Waiting::Writer(queue_of, message)) => {
                    *queue_of == inode && mqueue::is_message(queue.size, message)
                }
                _ => false,
            };
            queue.readers.iter().all(reads) && queue.writers.iter().all(writes)
        });
        expect(of_sem && of_msg && of_queue, "who waits for IPC")
    }

    /// The message that a task which waits for room sends, which is charged; it waits no more.
    pub fn take_written(&mut self, tid: u32) -> Option<Message> {
        match self.waits.remove(&tid) {
            Some(Waiting::Writer(_, message)) => Some(message),
            _ => None,
        }
    }
}

impl Kernel {
    /// Seconds since the Unix epoch.
    pub fn ipc_time(&self) -> u64 {
        self.clock.realtime() / SECOND
    }

    /// What the running task's call waits in, when it is made again.
    pub fn ipc_wait(&self) -> Option<&Waiting> {
        self.ipc.waits.get(&self.tid())
    }

    /// The running task's call waits, until this moment of monotonic time at most.
    pub fn wait_in(&mut self, waiting: Waiting, until: Option<u64>) -> SysError {
        let tid = self.tid();
        self.ipc.waits.insert(tid, waiting);
        SysError::Wait(Wait { until, ..Wait::on(Key::Ipc(tid)) })
    }

    /// The running task's call goes on waiting, since nothing has come of it yet, unless its time is over.
    pub fn wait_on(&mut self, late: Errno) -> SysError {
        let Some(wait) = self.resumed().map(|parked| parked.wait.clone()) else { return Errno::EINTR.into() };
        match wait.until {
            Some(until) if until <= self.clock.monotonic() => late.into(),
            _ => SysError::Wait(wait),
        }
    }

    /// Tells a task what came of its wait. A message must be charged.
    pub fn finish(&mut self, tid: u32, finished: Finished) {
        self.ipc.waits.insert(tid, Waiting::Finished(finished));
        self.wake(Key::Ipc(tid), 1, |_| true);
    }

    /// Tells several that they wait in vain.
    pub fn finish_all(&mut self, tids: Vec<u32>, errno: Errno) {
        tids.into_iter().for_each(|tid| self.finish(tid, Finished::Done(Err(errno))));
    }

    /// Lets several look again for themselves.
    pub fn look_again(&mut self, tids: Vec<u32>) {
        for tid in tids {
            self.ipc.waits.remove(&tid);
            self.wake(Key::Ipc(tid), 1, |_| true);
        }
    }

    /// A task waits no more, whatever came of it.
    pub(super) fn leave_ipc(&mut self, tid: u32) {
        let Some(waiting) = self.ipc.waits.remove(&tid) else { return };
        self.memory.state.account.refund(waiting.cost());
        match waiting {
            Waiting::Semaphores(id) => self.ipc.sem.leave(&mut self.memory.state.account, id, tid),
            Waiting::Receiver(id) => self.ipc.msg.leave(id, tid),
            Waiting::Reader(inode) | Waiting::Writer(inode, _) => {
                if let Some(queue) = self.outside.fs().queue_mut(inode) {
                    queue.leave(tid);
                }
            }
            Waiting::Finished(_) => {}
        }
    }

    /// Does the operations on semaphores that have become possible.
    ///
    /// # Errors
    /// When the run must be over: called again, it goes on.
    pub fn update_semaphores(&mut self, id: i32) -> Result<(), SysError> {
        let stop = self.stop.clone();
        let mut pace = Pace::new(&stop);
        loop {
            let parts = self.ipc.sem.sets.get(id).map_or(0, SemSet::pending_parts);
            pace.bytes(parts.saturating_mul(size_of::<sem::Part>()))?;
            if !self.finish_possible(id) {
                return Ok(());
            }
        }
    }

    fn finish_possible(&mut self, id: i32) -> bool {
        let now = self.ipc_time();
        let next = self.ipc.sem.next_possible(&mut self.memory.state.account, id, now);
        next.map(|(tid, result)| self.finish(tid, Finished::Done(result))).is_some()
    }

    /// A process has ended: what it wanted undone of semaphores is.
    pub(super) fn undo_semaphores(&mut self, pid: u32) {
        let now = self.ipc_time();
        for id in self.ipc.sem.undo_all(&mut self.memory.state.account, pid, now) {
            while self.finish_possible(id) {}
        }
    }

    /// How often a segment's object is attached.
    pub fn attachments(&self, object: u64) -> u64 {
        let vmas = self.space.iter().flat_map(|(_, space)| space.state.vmas.values());
        vmas.filter(|vma| vma.backing.object().is_some_and(|(number, _)| number == object)).count() as u64
    }

    /// A process has made a copy of its address space: its segments are attached once more.
    pub(super) fn note_forked(&mut self) {
        if self.ipc.shm.segments.is_empty() {
            return;
        }
        let objects = self.space.state.vmas.values().filter_map(|vma| Some(vma.backing.object()?.0));
        let objects: BTreeSet<u64> = objects.collect();
        let (pid, now) = (self.pid(), self.ipc_time());
        self.ipc.shm.note(|object| objects.contains(&object), true, pid, now);
    }

    /// An address space maps an object no more, which is nobody's file; `mapped` says whether another one
    /// does. Whether the object is to go.
    pub(super) fn note_unmapped(&mut self, object: u64, mapped: bool, pid: u32) -> bool {
        if !self.ipc.shm.segments.is_empty() {
            let now = self.ipc_time();
            self.ipc.shm.note(|of| of == object, false, pid, now);
        }
        !mapped && self.ipc.shm.unmapped(&mut self.memory.state.account, object)
    }
}

#[cfg(test)]
mod tests {
    use super::msg::{Receiver, Wanted};
    use super::sem::{Operation, Part};
    use super::shm::Segment;
    use super::*;
    use crate::program::credentials::ROOT;
    use crate::program::fs::FsOptions;
    use crate::program::mm::{Account, Object};

    const TID: u32 = 7;
    /// The number of an object that belongs to no file.
    const OBJECT: u64 = 1 << 63;

    fn check(ipc: &Ipc, memory: &MemoryState) -> Result<(), BadState> {
        let options = FsOptions::default();
        ipc.check(memory, &Fs::new(options).unwrap(), |tid| tid == TID)
    }

    fn perm() -> Perm {
        Perm::new(&ROOT, 0, 0o600)
    }

    #[test]
    fn who_waits_is_known_on_both_sides() {
        let (mut ipc, mut account, memory) = (Ipc::default(), Account::new(1 << 20), MemoryState::default());
        let set = ipc.sem.make(&mut account, perm(), 1, 0).unwrap();
        let parts = vec![Part { number: 0, change: -1, flags: 0 }];
        ipc.sem.ask(&mut account, set, Operation::new(TID, TID, parts), 0).unwrap();
        assert!(check(&ipc, &memory).is_err());
        ipc.waits.insert(TID, Waiting::Semaphores(set));
        assert!(check(&ipc, &memory).is_ok());
        assert_eq!(ipc.cost(), account.charged());
        // The same task cannot wait for a message, too.
        let queue = ipc.msg.make(&mut account, perm(), 0).unwrap();
        let receiver = Receiver { tid: TID, pid: TID, wanted: Wanted::Any, most: 1 };
        ipc.msg.queues.get_mut(queue).unwrap().wait(receiver);
        assert!(check(&ipc, &memory).is_err());
        ipc.msg.leave(queue, TID);
        assert!(check(&ipc, &memory).is_ok());
        ipc.waits.insert(TID + 1, Waiting::Finished(Finished::Done(Ok(()))));
        assert!(check(&ipc, &memory).is_err());
    }

    #[test]
    fn a_segment_has_an_object_of_its_own() {
        let (mut ipc, mut account, mut memory) =
            (Ipc::default(), Account::new(1 << 20), MemoryState::default());
        let segment = Segment {
            perm: perm(),
            size: 5,
            object: OBJECT,
            atime: 0,
            dtime: 0,
            ctime: 0,
            creator: TID,
            last: 0,
        };
        let id = ipc.shm.add(&mut account, segment.clone()).unwrap();
        assert!(check(&ipc, &memory).is_err());
        memory.objects.insert(OBJECT, Object { len: 6, ..Object::default() });
        assert!(check(&ipc, &memory).is_err());
        memory.objects.insert(OBJECT, Object { len: 5, ..Object::default() });
        assert!(check(&ipc, &memory).is_ok());
        let second = ipc.shm.add(&mut account, segment).unwrap();
        assert!(check(&ipc, &memory).is_err());
        ipc.shm.remove(&mut account, second);
        // Nobody maps it any more: it stays, until it is to go.
        assert!(!ipc.shm.unmapped(&mut account, OBJECT) && ipc.shm.unmapped(&mut account, OBJECT + 1));
        ipc.shm.segments.get_mut(id).unwrap().perm.mode |= shm::SHM_DEST;
        assert!(ipc.shm.unmapped(&mut account, OBJECT) && ipc.shm.segments.is_empty());
        assert_eq!(account.charged(), 0);
    }
}
