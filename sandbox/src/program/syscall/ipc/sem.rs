//! `semget`, `semop`, `semtimedop` and `semctl`.

use super::{IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Stat, id, words};
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::ipc::sem::{
    Asked, Operation, PART_BYTES, Part, SEMMNI, SEMMNS, SEMMSL, SEMOPM, SEMVMX, SemSet,
};
use crate::program::ipc::{Finished, Named, Perm, READ, WRITE, Waiting};
use crate::program::kernel::Kernel;
use crate::program::syscall::Args;

const SECOND: u64 = 1_000_000_000;

const GETPID: u32 = 11;
const GETVAL: u32 = 12;
const GETALL: u32 = 13;
const GETNCNT: u32 = 14;
const GETZCNT: u32 = 15;
const SETVAL: u32 = 16;
const SETALL: u32 = 17;
const SEM_STAT: u32 = 18;
const SEM_INFO: u32 = 19;
const SEM_STAT_ANY: u32 = 20;

/// `SEMUSZ`: what Linux says that an undo structure takes.
const SEMUSZ: u32 = 20;

impl Kernel {
    pub(in super::super) fn sys_semget(&mut self, a: Args) -> SysResult {
        let (key, flags) = (a[0] as i32, a[2] as u32);
        let count = u64::try_from(a[1] as i32).ok().filter(|count| *count <= SEMMSL).ok_or(Errno::EINVAL)?;
        let who = &self.task.credentials;
        let fits = |set: &SemSet| set.semaphores.len() as u64 >= count;
        if let Some(id) = self.ipc.sem.sets.find(who, key, flags, fits)? {
            return Ok(id as u64);
        }
        if count == 0 {
            return Err(Errno::EINVAL.into());
        }
        let (perm, now) = (Perm::new(who, key, flags), self.ipc_time());
        Ok(self.ipc.sem.make(&mut self.memory.state.account, perm, count, now)? as u64)
    }

    pub(in super::super) fn sys_semop(&mut self, a: Args) -> SysResult {
        self.sys_semtimedop([a[0], a[1], a[2], 0, 0, 0])
    }

    pub(in super::super) fn sys_semtimedop(&mut self, a: Args) -> SysResult {
        match self.ipc_wait() {
            Some(Waiting::Finished(Finished::Done(result))) => {
                let result = *result;
                // It may have been left in the middle of this.
                self.update_semaphores(a[0] as i32)?;
                return result.map(|()| 0).map_err(SysError::from);
            }
            Some(_) => return Err(self.wait_on(Errno::EAGAIN)),
            None => {}
        }
        let [id, address, count, timeout, ..] = a;
        let (id, count) = (id as i32, u64::from(count as u32));
        let timeout = match timeout {
            0 => None,
            timeout => Some(self.read_words::<2>(timeout)?),
        };
        if count < 1 || id < 0 {
            return Err(Errno::EINVAL.into());
        }
        if count > SEMOPM {
            return Err(Errno::E2BIG.into());
        }
        let mut bytes = vec![0u8; count as usize * PART_BYTES];
        self.read(address, &mut bytes)?;
        let parts: Vec<Part> = bytes.as_chunks::<PART_BYTES>().0.iter().map(Part::from_bytes).collect();
        let timeout = timeout.map(nanoseconds).transpose()?;
        let operation = Operation::new(self.tid(), self.pid(), parts);
        let set = self.ipc.sem.sets.get(id)?;
        if operation.parts.iter().any(|part| usize::from(part.number) >= set.semaphores.len()) {
            return Err(Errno::EFBIG.into());
        }
        let wanted = if operation.alters() { WRITE } else { READ };
        set.perm().expect(&self.task.credentials, wanted)?;
        let now = self.ipc_time();
        match self.ipc.sem.ask(&mut self.memory.state.account, id, operation, now)? {
            Asked::Done(alters) => {
                if alters {
                    let tid = self.tid();
                    self.finish(tid, Finished::Done(Ok(())));
                    self.update_semaphores(id)?;
                }
                Ok(0)
            }
            Asked::Waits => {
                let until = match timeout {
                    Some(ns) => Some(self.deadline(ns)?),
                    None => None,
                };
                let wait = self.wait_in(Waiting::Semaphores(id), until);
                if timeout == Some(0) { Err(Errno::EAGAIN.into()) } else { Err(wait) }
            }
        }
    }

    pub(in super::super) fn sys_semctl(&mut self, a: Args) -> SysResult {
        let (id, number, command, argument) = (id(a[0])?, a[1] as i32, a[2] as u32, a[3]);
        match command {
            IPC_INFO | SEM_INFO => self.semaphore_info(command == SEM_INFO, argument),
            IPC_STAT => self.stat_set(id, Stat::Id, argument),
            SEM_STAT => self.stat_set(id, Stat::Index, argument),
            SEM_STAT_ANY => self.stat_set(id, Stat::Any, argument),
            GETALL | GETVAL | GETPID | GETNCNT | GETZCNT => self.get_semaphore(id, number, command, argument),
            SETVAL => self.set_semaphore(id, number, argument),
            SETALL => self.set_semaphores(id, argument),
            IPC_SET => {
                let new = self.read_perm(argument)?;
                let now = self.ipc_time();
                let set = self.ipc.sem.sets.get_mut(id)?;
                set.perm().expect_owner(&self.task.credentials)?;
                set.perm_mut().update(&new)?;
                set.ctime = now;
                Ok(0)
            }
            IPC_RMID => {
                self.ipc.sem.sets.get(id)?.perm().expect_owner(&self.task.credentials)?;
                let waiting = self.ipc.sem.remove(&mut self.memory.state.account, id);
                self.finish_all(waiting, Errno::EIDRM);
                Ok(0)
            }
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// `struct seminfo`.
    fn semaphore_info(&mut self, in_use: bool, address: u64) -> SysResult {
        let (size, adjust) = match in_use {
            true => (self.ipc.sem.sets.len() as u32, self.ipc.sem.used() as u32),
            false => (SEMUSZ, u32::from(SEMVMX)),
        };
        let (all, operations) = (SEMMNS as u32, SEMOPM as u32);
        let info = [
            all,
            SEMMNI as u32,
            all,
            all,
            SEMMSL as u32,
            operations,
            operations,
            size,
            SEMVMX.into(),
            adjust,
        ];
        let bytes: Vec<u8> = info.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(address, &bytes)?;
        Ok(self.ipc.sem.sets.highest().into())
    }

    fn stat_set(&mut self, id: i32, stat: Stat, address: u64) -> SysResult {
        let (id, set) = match stat {
            Stat::Id => (id, self.ipc.sem.sets.get(id)?),
            _ => self.ipc.sem.sets.at(id)?,
        };
        if stat != Stat::Any {
            set.perm().expect(&self.task.credentials, READ)?;
        }
        let mut bytes = set.perm().to_bytes(id);
        words(&mut bytes, &[set.otime, 0, set.ctime, 0, set.semaphores.len() as u64, 0, 0]);
        self.write(address, &bytes)?;
        Ok(if stat == Stat::Id { 0 } else { id as u64 })
    }

    fn get_semaphore(&mut self, id: i32, number: i32, command: u32, address: u64) -> SysResult {
        let set = self.ipc.sem.sets.get(id)?;
        set.perm().expect(&self.task.credentials, READ)?;
        if command == GETALL {
            let bytes: Vec<u8> = set.semaphores.iter().flat_map(|s| s.value.to_le_bytes()).collect();
            self.write(address, &bytes)?;
            return Ok(0);
        }
        let semaphore = usize::try_from(number).ok().and_then(|at| set.semaphores.get(at));
        let semaphore = semaphore.ok_or(Errno::EINVAL)?;
        Ok(match command {
            GETVAL => semaphore.value.into(),
            GETPID => semaphore.pid.into(),
            _ => set.waiting(number as u16, command == GETZCNT),
        })
    }

    fn set_semaphore(&mut self, id: i32, number: i32, value: u64) -> SysResult {
        let value = u16::try_from(value as i32).ok().filter(|value| *value <= SEMVMX).ok_or(Errno::ERANGE)?;
        let (pid, now) = (self.pid(), self.ipc_time());
        let set = self.ipc.sem.sets.get_mut(id)?;
        let at = usize::try_from(number).ok().filter(|at| *at < set.semaphores.len()).ok_or(Errno::EINVAL)?;
        set.perm().expect(&self.task.credentials, WRITE)?;
        (set.semaphores[at].value, set.semaphores[at].pid, set.ctime) = (value, pid, now);
        self.ipc.sem.forget_undo(id, Some(at));
        self.update_semaphores(id)?;
        Ok(0)
    }

    fn set_semaphores(&mut self, id: i32, address: u64) -> SysResult {
        let set = self.ipc.sem.sets.get(id)?;
        set.perm().expect(&self.task.credentials, WRITE)?;
        let mut bytes = vec![0u8; set.semaphores.len() * size_of::<u16>()];
        self.read(address, &mut bytes)?;
        let values: Vec<u16> =
            bytes.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
        if values.iter().any(|value| *value > SEMVMX) {
            return Err(Errno::ERANGE.into());
        }
        let (pid, now) = (self.pid(), self.ipc_time());
        let set = self.ipc.sem.sets.get_mut(id)?;
        for (semaphore, value) in set.semaphores.iter_mut().zip(values) {
            (semaphore.value, semaphore.pid) = (value, pid);
        }
        set.ctime = now;
        self.ipc.sem.forget_undo(id, None);
        self.update_semaphores(id)?;
        Ok(0)
    }
}

/// Nanoseconds of a `struct timespec`.
fn nanoseconds([seconds, ns]: [u64; 2]) -> Result<u64, Errno> {
    if (seconds as i64) < 0 || ns >= SECOND {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(SECOND).saturating_add(ns))
}
