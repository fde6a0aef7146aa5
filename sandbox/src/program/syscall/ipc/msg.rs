//! `msgget`, `msgsnd`, `msgrcv` and `msgctl`.

use super::{IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, Stat, id, pair, words};
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::ipc::msg::{MSGMAX, MSGMNB, MSGMNI, Message, Receiver, Sent, Wanted};
use crate::program::ipc::{Finished, Named, PERM_BYTES, Perm, READ, WRITE, Waiting};
use crate::program::kernel::Kernel;
use crate::program::syscall::Args;
use crate::program::wait::{Key, Wait};

const MSG_STAT: u32 = 11;
const MSG_INFO: u32 = 12;
const MSG_STAT_ANY: u32 = 13;

/// Flags of `msgrcv`.
const MSG_NOERROR: u32 = 0o10000;
const MSG_EXCEPT: u32 = 0o20000;
const MSG_COPY: u32 = 0o40000;

/// Bytes of the type in front of a message.
const TYPE_BYTES: u64 = 8;
/// Where `msg_qbytes` is in `struct msqid64_ds`, and its size.
const QBYTES_AT: usize = 88;
const DS_BYTES: usize = 120;
/// What Linux says of limits that it does not have: `MSGSSZ` and `MSGSEG`.
const MSGSSZ: u32 = 16;
const MSGSEG: u32 = 0xffff;

impl Kernel {
    pub(in super::super) fn sys_msgget(&mut self, a: Args) -> SysResult {
        let (key, flags) = (a[0] as i32, a[1] as u32);
        let who = &self.task.credentials;
        if let Some(id) = self.ipc.msg.queues.find(who, key, flags, |_| true)? {
            return Ok(id as u64);
        }
        let (perm, now) = (Perm::new(who, key, flags), self.ipc_time());
        Ok(self.ipc.msg.make(&mut self.memory.state.account, perm, now)? as u64)
    }

    pub(in super::super) fn sys_msgsnd(&mut self, a: Args) -> SysResult {
        let [id, address, size, flags, ..] = a;
        let (id, flags) = (id as i32, flags as u32);
        let kind = self.read_u64(address)? as i64;
        if size > MSGMAX || id < 0 || kind < 1 {
            return Err(Errno::EINVAL.into());
        }
        let mut text = vec![0u8; size as usize];
        self.read(address.wrapping_add(TYPE_BYTES), &mut text)?;
        let (pid, now) = (self.pid(), self.ipc_time());
        let Ok(queue) = self.ipc.msg.queues.get_mut(id) else {
            // It may have been removed while the call waited for room.
            let waited = self.resumed().is_some_and(|parked| parked.wait.on.contains(&Key::MessageRoom(id)));
            return Err(if waited { Errno::EIDRM } else { Errno::EINVAL }.into());
        };
        queue.perm().expect(&self.task.credentials, WRITE)?;
        if !queue.has_room(size) {
            if flags & IPC_NOWAIT != 0 {
                return Err(Errno::EAGAIN.into());
            }
            return Err(SysError::Wait(Wait::on(Key::MessageRoom(id))));
        }
        let message = Message { kind, text };
        self.memory.state.account.charge(message.cost())?;
        let (refused, sent) = queue.send(message, pid, now);
        self.finish_all(refused, Errno::E2BIG);
        if let Sent::To(tid, message) = sent {
            self.finish(tid, Finished::Message(message));
        }
        Ok(0)
    }

    pub(in super::super) fn sys_msgrcv(&mut self, a: Args) -> SysResult {
        let [id, address, size, kind, flags, _] = a;
        let (id, flags) = (id as i32, flags as u32);
        match self.ipc_wait() {
            Some(Waiting::Finished(Finished::Message(message))) => {
                // It is given back when the call is over.
                let message = message.clone();
                return self.hand_over(&message, address, size);
            }
            Some(Waiting::Finished(Finished::Done(result))) => {
                return Err(result.err().unwrap_or(Errno::EIDRM).into());
            }
            Some(_) => return Err(self.wait_on(Errno::EINTR)),
            None => {}
        }
        if id < 0 || (size as i64) < 0 {
            return Err(Errno::EINVAL.into());
        }
        if flags & MSG_COPY != 0 {
            if flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0 {
                return Err(Errno::EINVAL.into());
            }
            return self.copy_message(id, address, size, kind as i64, flags & MSG_NOERROR != 0);
        }
        let receiver = Receiver {
            tid: self.tid(),
            pid: self.pid(),
            wanted: Wanted::from_type(kind as i64, flags & MSG_EXCEPT != 0),
            most: if flags & MSG_NOERROR != 0 { u64::MAX } else { size },
        };
        let now = self.ipc_time();
        let queue = self.ipc.msg.queues.get_mut(id)?;
        queue.perm().expect(&self.task.credentials, READ)?;
        match queue.receive(&receiver, now)? {
            Some(message) => {
                // Kept for the call that is made again, should it be left.
                let tid = self.tid();
                self.finish(tid, Finished::Message(message.clone()));
                self.wake(Key::MessageRoom(id), usize::MAX, |_| true);
                self.hand_over(&message, address, size)
            }
            None if flags & IPC_NOWAIT != 0 => Err(Errno::ENOMSG.into()),
            None => {
                queue.wait(receiver);
                Err(self.wait_in(Waiting::Receiver(id), None))
            }
        }
    }

    /// Gives the program a message by its place in a queue, where it stays (`MSG_COPY`).
    fn copy_message(&mut self, id: i32, address: u64, size: u64, place: i64, parts: bool) -> SysResult {
        let queue = self.ipc.msg.queues.get_mut(id)?;
        queue.perm().expect(&self.task.credentials, READ)?;
        let message = usize::try_from(place).ok().and_then(|place| queue.message(place));
        let message = message.cloned().ok_or(Errno::ENOMSG)?;
        if message.text.len() as u64 > size {
            // The copy has room for what was asked for, and for nothing else (`copy_msg`).
            return Err(if parts { Errno::EINVAL } else { Errno::E2BIG }.into());
        }
        self.hand_over(&message, address, size)
    }

    /// Gives the program a message. It is lost where it cannot be written.
    fn hand_over(&mut self, message: &Message, address: u64, size: u64) -> SysResult {
        let n = message.text.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        self.write(address, &message.kind.to_le_bytes())?;
        self.write(address.wrapping_add(TYPE_BYTES), &message.text[..n])?;
        Ok(n as u64)
    }

    pub(in super::super) fn sys_msgctl(&mut self, a: Args) -> SysResult {
        let (id, command, address) = (id(a[0])?, a[1] as u32, a[2]);
        match command {
            IPC_INFO | MSG_INFO => self.message_info(command == MSG_INFO, address),
            IPC_STAT => self.stat_queue(id, Stat::Id, address),
            MSG_STAT => self.stat_queue(id, Stat::Index, address),
            MSG_STAT_ANY => self.stat_queue(id, Stat::Any, address),
            IPC_SET => self.set_queue(id, address),
            IPC_RMID => {
                self.ipc.msg.queues.get(id)?.perm().expect_owner(&self.task.credentials)?;
                let waiting = self.ipc.msg.remove(&mut self.memory.state.account, id);
                self.finish_all(waiting, Errno::EIDRM);
                self.wake(Key::MessageRoom(id), usize::MAX, |_| true);
                Ok(0)
            }
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// `struct msginfo`.
    fn message_info(&mut self, in_use: bool, address: u64) -> SysResult {
        let (max, bytes, most) = (MSGMAX as u32, MSGMNB as u32, MSGMNI as u32);
        let (pool, map, total) = match in_use {
            true => {
                let (messages, bytes) = self.ipc.msg.total();
                (self.ipc.msg.queues.len() as u32, messages as u32, bytes as u32)
            }
            // As `MSGPOOL`, `MSGMAP` and `MSGTQL`.
            false => (most * (bytes / 1024), bytes, bytes),
        };
        let info = [pool, map, max, bytes, most, MSGSSZ, total, MSGSEG];
        let bytes: Vec<u8> = info.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(address, &bytes)?;
        Ok(self.ipc.msg.queues.highest().into())
    }

    fn stat_queue(&mut self, id: i32, stat: Stat, address: u64) -> SysResult {
        let (id, q) = match stat {
            Stat::Id => (id, self.ipc.msg.queues.get(id)?),
            _ => self.ipc.msg.queues.at(id)?,
        };
        if stat != Stat::Any {
            q.perm().expect(&self.task.credentials, READ)?;
        }
        let mut bytes = q.perm().to_bytes(id);
        words(&mut bytes, &[q.stime, q.rtime, q.ctime, q.bytes(), q.count() as u64, q.limit]);
        words(&mut bytes, &[pair(q.sender, q.receiver), 0, 0]);
        self.write(address, &bytes)?;
        Ok(if stat == Stat::Id { 0 } else { id as u64 })
    }

    fn set_queue(&mut self, id: i32, address: u64) -> SysResult {
        let mut new = [0u8; DS_BYTES];
        self.read(address, &mut new)?;
        let limit = u64::from_le_bytes(std::array::from_fn(|i| new[QBYTES_AT + i]));
        let perm: [u8; PERM_BYTES] = std::array::from_fn(|i| new[i]);
        let now = self.ipc_time();
        let who = &self.task.credentials;
        let queue = self.ipc.msg.queues.get_mut(id)?;
        queue.perm().expect_owner(who)?;
        if limit > MSGMNB && !who.can(cap::SYS_RESOURCE) {
            return Err(Errno::EPERM.into());
        }
        queue.perm_mut().update(&perm)?;
        (queue.limit, queue.ctime) = (limit, now);
        // Those that wait may be allowed less, or fit now.
        let waiting = queue.take_receivers();
        self.look_again(waiting);
        self.wake(Key::MessageRoom(id), usize::MAX, |_| true);
        Ok(0)
    }
}
