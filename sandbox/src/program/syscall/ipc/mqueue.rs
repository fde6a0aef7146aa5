//! `mq_open`, `mq_unlink`, `mq_timedsend`, `mq_timedreceive`, `mq_notify` and `mq_getsetattr`.

use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::fs::{FsError, InodeId, OpenFlags, R_OK, W_OK};
use crate::program::ipc::mqueue::{
    HARD_MSG_MAX, HARD_MSGSIZE_MAX, MSG_MAX, MSGSIZE_MAX, Notice, PRIORITIES, QUEUES_MAX, Queue, is_name,
};
use crate::program::ipc::msg::Message;
use crate::program::ipc::{Finished, Waiting};
use crate::program::kernel::Kernel;
use crate::program::limits;
use crate::program::signal::Info;
use crate::program::signal::number::MAX;
use crate::program::syscall::Args;
use crate::program::syscall::sigevent::{SigEvent, how};

/// Words of a `struct mq_attr`: flags, messages and bytes at most, messages, and four that are unused.
const ATTR_WORDS: usize = 8;

/// Bytes that a thread is told (`NOTIFY_COOKIE_LEN`).
const COOKIE_BYTES: usize = 32;
/// `SI_MESGQ`.
const SI_MESGQ: i32 = -3;

impl Kernel {
    pub(in super::super) fn sys_mq_open(&mut self, a: Args) -> SysResult {
        let [name, flags, mode, attr, ..] = a;
        let attr = match attr {
            0 => None,
            attr => Some(self.read_words::<ATTR_WORDS>(attr)?),
        };
        let (flags, mode) = (OpenFlags(flags as u32), mode as u32);
        let name = self.read_path(name)?;
        self.with_files(|_, files, _, _| files.expect_vacant())?;
        expect_name(&name)?;
        let inode = match self.ipc.queues.find(&name) {
            Some(inode) => self.open_queue(inode, flags)?,
            None if !flags.has(OpenFlags::CREAT) => return Err(Errno::ENOENT.into()),
            None => self.create_queue(name, mode, attr)?,
        };
        let kept = OpenFlags(flags.0 & (OpenFlags::NONBLOCK.0 | OpenFlags::WRONLY.0 | OpenFlags::RDWR.0));
        Ok(self.with_files(|_, files, _, _| files.install_held(inode, kept))? as u64)
    }

    /// Holds a queue that exists for a new descriptor, if that may be had.
    fn open_queue(&mut self, inode: InodeId, flags: OpenFlags) -> Result<InodeId, SysError> {
        if flags.has(OpenFlags::CREAT | OpenFlags::EXCL) {
            return Err(Errno::EEXIST.into());
        }
        let want = match (flags.reads(), flags.writes()) {
            (true, true) => R_OK | W_OK,
            (true, false) => R_OK,
            (false, true) => W_OK,
            (false, false) => return Err(Errno::EINVAL.into()),
        };
        self.with_files(|fs, _, env, _| fs.expect_permission(env, inode, want))?;
        self.outside.fs().hold(inode);
        Ok(inode)
    }

    /// Makes a queue of a name, held for its name and for a descriptor.
    fn create_queue(
        &mut self,
        name: Vec<u8>,
        mode: u32,
        attr: Option<[u64; ATTR_WORDS]>,
    ) -> Result<InodeId, SysError> {
        let privileged = self.task.credentials.can(cap::SYS_RESOURCE);
        if self.ipc.queues.count() >= QUEUES_MAX && !privileged || self.ipc.queues.is_full() {
            return Err(Errno::ENOSPC.into());
        }
        let [_, most, size, ..] = attr.unwrap_or([0, MSG_MAX, MSGSIZE_MAX, 0, 0, 0, 0, 0]);
        let (hard, hard_size) =
            if privileged { (HARD_MSG_MAX, HARD_MSGSIZE_MAX) } else { (MSG_MAX, MSGSIZE_MAX) };
        if !(1..=hard).contains(&most) || !(1..=hard_size).contains(&size) {
            return Err(Errno::EINVAL.into());
        }
        let user = self.task.credentials.user.real;
        let queue = Queue::new(most, size, user);
        let limit = self.process.limits[limits::MSGQUEUE].0;
        if self.queue_bytes_of(user).saturating_add(queue.bytes()) > limit {
            return Err(Errno::EMFILE.into());
        }
        let inode = self.with_files(|fs, _, env, context| {
            let inode = fs.make_queue(env, queue, mode & !context.umask)?;
            fs.hold(inode);
            Ok::<_, FsError>(inode)
        })?;
        self.ipc.queues.add(name, inode);
        Ok(inode)
    }

    /// Bytes of all queues of a user.
    fn queue_bytes_of(&mut self, user: u32) -> u64 {
        let fs = self.outside.fs();
        let all = self.ipc.queues.retain(|inode| fs.queue(inode).is_some());
        all.filter_map(|inode| fs.queue(inode)).filter(|queue| queue.user == user).map(Queue::bytes).sum()
    }

    pub(in super::super) fn sys_mq_unlink(&mut self, a: Args) -> SysResult {
        let name = self.read_path(a[0])?;
        expect_name(&name)?;
        let inode = self.ipc.queues.find(&name).ok_or(Errno::ENOENT)?;
        // The directory that queues lie in is everybody's, and sticky.
        let owns = self.with_files(|fs, _, env, _| fs.owns(env, inode))?;
        if !owns {
            return Err(Errno::EPERM.into());
        }
        self.ipc.queues.remove(&name);
        self.with_files(|fs, _, env, _| fs.release(env, inode))?;
        Ok(0)
    }

    /// The queue that a descriptor is of, and its flags.
    fn queue_of(&mut self, fd: u64) -> Result<(InodeId, OpenFlags), SysError> {
        self.with_files(|fs, files, _, _| {
            let description = files.get_open(fd as i32)?;
            match fs.queue(description.inode()) {
                Some(_) => Ok((description.inode(), description.flags())),
                None => Err(Errno::EBADF.into()),
            }
        })
    }

    /// The moment of monotonic time at which a moment of real time comes; 0 stands for none.
    fn queue_deadline(&mut self, address: u64) -> Result<Option<u64>, SysError> {
        if address == 0 {
            return Ok(None);
        }
        let wanted = self.read_timespec(address)?;
        self.refresh_clock()?;
        let now = self.clock.monotonic();
        Ok(Some(now.saturating_add(wanted.saturating_sub(self.clock.realtime()))))
    }

    /// Waits in a queue, unless it is too late for that.
    fn wait_in_queue(&mut self, waiting: Waiting, until: Option<u64>) -> SysError {
        if self.has_come(until) {
            return Errno::ETIMEDOUT.into();
        }
        let tid = self.tid();
        match &waiting {
            Waiting::Reader(inode) => {
                let _ = self.outside.fs().queue_mut(*inode).map(|queue| queue.readers.push_back(tid));
            }
            Waiting::Writer(inode, message) => {
                if let Err(errno) = self.memory.state.account.charge(message.cost()) {
                    return errno.into();
                }
                let _ = self.outside.fs().queue_mut(*inode).map(|queue| queue.writers.push_back(tid));
            }
            _ => {}
        }
        self.wait_in(waiting, until)
    }

    pub(in super::super) fn sys_mq_timedsend(&mut self, a: Args) -> SysResult {
        match self.ipc_wait() {
            Some(Waiting::Finished(_)) => return Ok(0),
            Some(_) => return Err(self.wait_on(Errno::ETIMEDOUT)),
            None => {}
        }
        let [fd, address, len, priority, timeout, _] = a;
        let until = self.queue_deadline(timeout)?;
        let priority = u64::from(priority as u32);
        if priority >= PRIORITIES {
            return Err(Errno::EINVAL.into());
        }
        let (inode, flags) = self.queue_of(fd)?;
        if !flags.writes() {
            return Err(Errno::EBADF.into());
        }
        let size = self.outside.fs().queue(inode).map_or(0, |queue| queue.size);
        if len > size {
            return Err(Errno::EMSGSIZE.into());
        }
        let mut text = vec![0u8; len as usize];
        self.read(address, &mut text)?;
        let message = Message { kind: priority as i64, text };
        let mut fs = self.outside.fs();
        let Some(queue) = fs.queue_mut(inode) else { return Err(Errno::EBADF.into()) };
        if queue.is_full() {
            drop(fs);
            if flags.has(OpenFlags::NONBLOCK) {
                return Err(Errno::EAGAIN.into());
            }
            return Err(self.wait_in_queue(Waiting::Writer(inode, message), until));
        }
        if let Some(tid) = queue.readers.front().copied() {
            self.memory.state.account.charge(message.cost())?;
            queue.readers.pop_front();
            drop(fs);
            self.finish(tid, Finished::Message(message));
            return Ok(0);
        }
        drop(fs);
        self.put_message(inode, message);
        Ok(0)
    }

    /// Puts a message into a queue that nobody waits at, and says so.
    fn put_message(&mut self, inode: InodeId, message: Message) {
        let mut fs = self.outside.fs();
        let Some(queue) = fs.queue_mut(inode) else { return };
        queue.put(message);
        let notice = if queue.count() == 1 { queue.notice.take() } else { None };
        fs.wake(inode);
        drop(fs);
        if let Some(Notice { pid, signal: Some((signal, extra)) }) = notice
            && signal != 0
            && self.process.has(pid)
        {
            let from = u64::from(self.pid()) | u64::from(self.task.credentials.user.real) << 32;
            let info = Info { signal, code: SI_MESGQ, value: from, extra, ..Info::default() };
            self.send(pid, info);
        }
    }

    pub(in super::super) fn sys_mq_timedreceive(&mut self, a: Args) -> SysResult {
        let [fd, address, len, priority, timeout, _] = a;
        match self.ipc_wait() {
            Some(Waiting::Finished(Finished::Message(message))) => {
                // It is given back when the call is over.
                let message = message.clone();
                return self.deliver_message(&message, address, priority);
            }
            Some(Waiting::Finished(Finished::Done(_))) => return Err(Errno::EINTR.into()),
            Some(_) => return Err(self.wait_on(Errno::ETIMEDOUT)),
            None => {}
        }
        let until = self.queue_deadline(timeout)?;
        let (inode, flags) = self.queue_of(fd)?;
        if !flags.reads() {
            return Err(Errno::EBADF.into());
        }
        let mut fs = self.outside.fs();
        let Some(queue) = fs.queue_mut(inode) else { return Err(Errno::EBADF.into()) };
        if len < queue.size {
            return Err(Errno::EMSGSIZE.into());
        }
        if queue.count() == 0 {
            drop(fs);
            if flags.has(OpenFlags::NONBLOCK) {
                return Err(Errno::EAGAIN.into());
            }
            return Err(self.wait_in_queue(Waiting::Reader(inode), until));
        }
        // Kept, charged, for the call that is made again, should it be left.
        let Some(message) = queue.take() else { return Err(Errno::EAGAIN.into()) };
        if let Err(errno) = self.memory.state.account.charge(message.cost()) {
            queue.put_back(message);
            return Err(errno.into());
        }
        // The message of a task that waited for room comes in: nobody is told (`pipelined_receive`).
        let writer = queue.writers.pop_front();
        let written = writer.and_then(|writer| self.ipc.take_written(writer));
        let writer = written.as_ref().and(writer);
        if let Some(message) = written {
            self.memory.state.account.refund(message.cost());
            queue.put(message);
        }
        fs.wake(inode);
        drop(fs);
        self.finish(self.tid(), Finished::Message(message.clone()));
        writer.into_iter().for_each(|writer| self.finish(writer, Finished::Done(Ok(()))));
        self.deliver_message(&message, address, priority)
    }

    fn deliver_message(&mut self, message: &Message, address: u64, priority: u64) -> SysResult {
        if priority != 0 {
            self.write(priority, &(message.kind as u32).to_le_bytes())?;
        }
        self.write(address, &message.text)?;
        Ok(message.text.len() as u64)
    }

    pub(in super::super) fn sys_mq_notify(&mut self, a: Args) -> SysResult {
        let [fd, event, ..] = a;
        let pid = self.pid();
        let notice = match event {
            0 => None,
            event => {
                let event = self.read_sigevent(event)?;
                Some(self.notice_of(event)?)
            }
        };
        let (inode, _) = self.queue_of(fd)?;
        let mut fs = self.outside.fs();
        let Some(queue) = fs.queue_mut(inode) else { return Err(Errno::EBADF.into()) };
        match (notice, queue.notice) {
            (None, _) => queue.closed(pid),
            (Some(_), Some(_)) => return Err(Errno::EBUSY.into()),
            (notice, None) => queue.notice = notice,
        }
        Ok(0)
    }

    /// What a `struct sigevent` asks for. Threads are told through a socket of a kind that is not there.
    fn notice_of(&mut self, event: SigEvent) -> Result<Notice, SysError> {
        let pid = self.pid();
        let SigEvent { value, signal, .. } = event;
        match event.how {
            how::NONE => Ok(Notice { pid, signal: None }),
            how::SIGNAL if signal <= MAX => Ok(Notice { pid, signal: Some((signal, value)) }),
            how::THREAD => {
                self.read(value, &mut [0u8; COOKIE_BYTES])?;
                self.with_files(|_, files, _, _| files.get_open(signal as i32).map(drop))?;
                Err(Errno::ENOTSOCK.into())
            }
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(in super::super) fn sys_mq_getsetattr(&mut self, a: Args) -> SysResult {
        let [fd, new, old, ..] = a;
        let nonblock = u64::from(OpenFlags::NONBLOCK.0);
        let new = match new {
            0 => None,
            new => Some(self.read_words::<ATTR_WORDS>(new)?[0]),
        };
        if new.is_some_and(|flags| flags & !nonblock != 0) {
            return Err(Errno::EINVAL.into());
        }
        let (inode, flags) = self.queue_of(fd)?;
        let attr = self.outside.fs().queue(inode).map(|queue| [queue.most, queue.size, queue.count()]);
        let [most, size, count] = attr.unwrap_or_default();
        if let Some(flags) = new {
            self.with_files(|_, files, _, _| files.set_nonblock(fd as i32, flags & nonblock != 0))?;
        }
        if old != 0 {
            self.write_words(old, &[u64::from(flags.0) & nonblock, most, size, count, 0, 0, 0, 0])?;
        }
        Ok(0)
    }
}

/// Refuses what is no name of a queue (`lookup_one_len`).
fn expect_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        b"" => Err(Errno::ENOENT),
        name if is_name(name) => Ok(()),
        name if name.contains(&b'/') || name.starts_with(b".") => Err(Errno::EACCES),
        _ => Err(Errno::ENAMETOOLONG),
    }
}
