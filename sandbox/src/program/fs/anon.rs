//! What descriptors without a name stand for: event counters, timers, sockets of a pair, sets of watched
//! descriptors.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::env::Env;
use super::error::{FsError, FsResult, fail};
use super::inode::{Body, InodeId};
use super::life::INODE_COST;
use super::{Fs, IoOutcome};
use crate::errno::Errno;
use crate::program::ipc::mqueue::Queue;

/// Bytes that a socket holds (`net.core.wmem_default`).
pub(crate) const SOCKET_SIZE: usize = 212_992;
/// Messages that a socket holds (`net.unix.max_dgram_qlen`).
const SOCKET_MESSAGES: usize = 10;

/// Something without a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Anon {
    /// `eventfd`.
    Event(Event),
    /// `timerfd_create`.
    Timer(Timer),
    /// One end of a `socketpair`.
    Socket(Socket),
    /// `epoll_create`: what it watches, the descriptors have.
    Epoll,
    /// A POSIX message queue.
    Queue(Box<Queue>),
}

/// A counter that wakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// What was added and not read yet: below `u64::MAX`.
    pub count: u64,
    /// A read takes one, not all (`EFD_SEMAPHORE`).
    pub semaphore: bool,
}

/// A timer that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Timer {
    /// It counts real time.
    pub real: bool,
    /// When it expires next, nanoseconds of monotonic time.
    pub at: Option<u64>,
    /// Nanoseconds from one expiry to the next; 0 for one alone.
    pub interval: u64,
    /// Expiries that nobody has read.
    pub expired: u64,
}

/// One end of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Socket {
    /// The other end, while it is there.
    pub peer: Option<InodeId>,
    /// It keeps messages apart: their lengths.
    pub messages: Option<VecDeque<u32>>,
    /// It has no end of file, and messages may be empty (`SOCK_DGRAM`).
    pub datagrams: bool,
    /// What was sent to it.
    queue: VecDeque<u8>,
    /// Nothing more is sent to it, or taken from it.
    pub no_more: bool,
    /// It sends nothing more.
    pub sends_no_more: bool,
}

impl Socket {
    fn new(messages: bool, datagrams: bool) -> Socket {
        Socket {
            peer: None,
            messages: messages.then(VecDeque::new),
            datagrams,
            queue: VecDeque::new(),
            no_more: false,
            sends_no_more: false,
        }
    }

    fn is_readable(&self) -> bool {
        self.has_data() || self.no_more || self.peer.is_none() && !self.datagrams
    }

    fn has_data(&self) -> bool {
        !self.queue.is_empty() || self.messages.as_ref().is_some_and(|messages| !messages.is_empty())
    }

    fn room(&self) -> usize {
        let full = self.messages.as_ref().is_some_and(|messages| messages.len() >= SOCKET_MESSAGES);
        if full { 0 } else { SOCKET_SIZE - self.queue.len() }
    }

    fn is_sound(&self) -> bool {
        let Socket { peer: _, messages, datagrams, queue, no_more: _, sends_no_more: _ } = self;
        let of_messages = messages.as_ref().is_none_or(|messages| {
            messages.len() <= SOCKET_MESSAGES
                && messages.iter().map(|len| *len as usize).fold(0, usize::saturating_add) == queue.len()
        });
        queue.len() <= SOCKET_SIZE && of_messages && (messages.is_some() || !datagrams)
    }
}

impl Anon {
    /// Whether it can be one: for a state out of a file.
    pub fn is_sound(&self) -> bool {
        match self {
            Anon::Event(event) => event.count < u64::MAX,
            Anon::Timer(_) | Anon::Epoll => true,
            Anon::Socket(socket) => socket.is_sound(),
            Anon::Queue(queue) => queue.is_sound(),
        }
    }

    /// What `/proc/self/fd` says that it is.
    pub fn label(&self) -> &'static str {
        match self {
            Anon::Event(_) => "[eventfd]",
            Anon::Timer(_) => "[timerfd]",
            Anon::Epoll => "[eventpoll]",
            Anon::Socket(_) => "socket",
            Anon::Queue(_) => "mqueue",
        }
    }

    /// What it costs of the quota.
    fn cost(&self) -> u64 {
        match self {
            Anon::Socket(_) => INODE_COST + SOCKET_SIZE as u64,
            Anon::Queue(queue) => INODE_COST + queue.bytes(),
            _ => INODE_COST,
        }
    }
}

impl Fs {
    /// Makes something without a name, held once.
    ///
    /// # Errors
    /// `ENFILE` without room.
    pub(crate) fn make_anon(&mut self, env: &mut Env<'_>, anon: Anon) -> FsResult<InodeId> {
        let cost = anon.cost();
        self.chunks.charge(cost).map_err(|_| FsError::Errno(Errno::ENFILE))?;
        let id = self.make_anonymous(env, Body::Anon(anon));
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.charge = cost;
        }
        Ok(id)
    }

    /// Makes two sockets that are connected.
    ///
    /// # Errors
    /// `ENFILE` without room.
    pub(crate) fn make_socket_pair(
        &mut self,
        env: &mut Env<'_>,
        (messages, datagrams): (bool, bool),
    ) -> FsResult<[InodeId; 2]> {
        let first = self.make_anon(env, Anon::Socket(Socket::new(messages, datagrams)))?;
        let second = match self.make_anon(env, Anon::Socket(Socket::new(messages, datagrams))) {
            Ok(second) => second,
            Err(e) => {
                self.release(env, first)?;
                return Err(e);
            }
        };
        for (end, peer) in [(first, second), (second, first)] {
            if let Some(Anon::Socket(socket)) = self.anon_mut(end) {
                socket.peer = Some(peer);
            }
        }
        Ok([first, second])
    }

    /// What an inode without a name is.
    pub(crate) fn anon(&self, id: InodeId) -> Option<&Anon> {
        match self.inodes.get(&id).map(|inode| &inode.body) {
            Some(Body::Anon(anon)) => Some(anon),
            _ => None,
        }
    }

    /// The same to change.
    pub(crate) fn anon_mut(&mut self, id: InodeId) -> Option<&mut Anon> {
        match self.inodes.get_mut(&id).map(|inode| &mut inode.body) {
            Some(Body::Anon(anon)) => Some(anon),
            _ => None,
        }
    }

    /// Whether it can be read, and written.
    pub(crate) fn anon_io(&self, id: InodeId) -> (bool, bool) {
        match self.anon(id) {
            Some(Anon::Event(_) | Anon::Socket(_)) => (true, true),
            Some(Anon::Timer(_)) => (true, false),
            Some(Anon::Epoll | Anon::Queue(_)) | None => (false, false),
        }
    }

    /// Whether it is readable, writable, whether its other end is gone, and whether that sends no more.
    pub(crate) fn anon_ready(&self, id: InodeId) -> [bool; 4] {
        match self.anon(id) {
            Some(Anon::Event(event)) => [event.count > 0, event.count < u64::MAX - 1, false, false],
            Some(Anon::Timer(timer)) => [timer.expired > 0, false, false, false],
            Some(Anon::Socket(socket)) => {
                let peer = socket.peer.and_then(|peer| self.anon(peer));
                let room = match peer {
                    Some(Anon::Socket(peer)) => peer.room() > 0 || peer.no_more,
                    _ => true,
                };
                let gone = socket.peer.is_none() && !socket.datagrams;
                [socket.is_readable(), room, gone, gone || socket.no_more]
            }
            Some(Anon::Queue(queue)) => [queue.count() > 0, !queue.is_full(), false, false],
            Some(Anon::Epoll) | None => [false; 4],
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// `EINVAL` for a buffer that is too small; [`FsError::Block`] when there is nothing yet.
    pub(super) fn read_anon(&mut self, id: InodeId, buf: &mut [u8], nonblock: bool) -> FsResult<usize> {
        if matches!(self.anon(id), Some(Anon::Socket(_))) {
            return Ok(self.receive(id, buf, nonblock, false)?.0);
        }
        let Some(to) = buf.first_chunk_mut::<8>() else { return fail(Errno::EINVAL) };
        let value = match self.anon_mut(id) {
            Some(Anon::Event(event)) => {
                let taken = if event.semaphore { event.count.min(1) } else { event.count };
                event.count -= taken;
                taken
            }
            Some(Anon::Timer(timer)) => std::mem::take(&mut timer.expired),
            _ => return fail(Errno::EINVAL),
        };
        if value == 0 {
            return if nonblock { fail(Errno::EAGAIN) } else { Err(FsError::Block(id)) };
        }
        *to = value.to_le_bytes();
        self.wake(id);
        Ok(8)
    }

    /// Writes.
    ///
    /// # Errors
    /// `EINVAL`; `EPIPE` and `ENOTCONN` of sockets; [`FsError::Block`] when there is no room.
    pub(super) fn write_anon(&mut self, id: InodeId, data: &[u8], nonblock: bool) -> FsResult<IoOutcome> {
        match self.anon_mut(id) {
            Some(Anon::Event(event)) => {
                let Some(value) = data.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
                    return fail(Errno::EINVAL);
                };
                if value == u64::MAX {
                    return fail(Errno::EINVAL);
                }
                match event.count.checked_add(value).filter(|sum| *sum < u64::MAX) {
                    Some(sum) => event.count = sum,
                    None if nonblock => return fail(Errno::EAGAIN),
                    None => return Err(FsError::Block(id)),
                }
                self.wake(id);
                Ok(IoOutcome::Done(8))
            }
            Some(Anon::Socket(_)) => self.send(id, data, nonblock),
            _ => fail(Errno::EINVAL),
        }
    }

    /// Takes what was sent to a socket: how much was copied, and how long the message was. With `peek` it
    /// stays there.
    ///
    /// # Errors
    /// `EAGAIN`; [`FsError::Block`] when there is nothing yet.
    pub(crate) fn receive(
        &mut self,
        id: InodeId,
        buf: &mut [u8],
        nonblock: bool,
        peek: bool,
    ) -> FsResult<(usize, usize)> {
        let Some(Anon::Socket(socket)) = self.anon_mut(id) else { return fail(Errno::ENOTSOCK) };
        if !socket.has_data() {
            let end = socket.no_more || socket.peer.is_none() && !socket.datagrams;
            return match (end, nonblock) {
                (true, _) => Ok((0, 0)),
                (false, true) => fail(Errno::EAGAIN),
                (false, false) => Err(FsError::Block(id)),
            };
        }
        let whole = match &socket.messages {
            Some(messages) => messages.front().map_or(0, |len| *len as usize),
            None => socket.queue.len().min(buf.len()),
        };
        let n = whole.min(buf.len());
        for (to, from) in buf.iter_mut().zip(socket.queue.iter().take(n)) {
            *to = *from;
        }
        if !peek {
            socket.queue.drain(..whole);
            if let Some(messages) = &mut socket.messages {
                messages.pop_front();
            }
            let peer = socket.peer;
            self.wake(id);
            peer.into_iter().for_each(|peer| self.wake(peer));
        }
        Ok((n, whole))
    }

    /// Sends to a socket's other end.
    ///
    /// # Errors
    /// `EPIPE`, `EMSGSIZE`, `EAGAIN`; [`FsError::Block`] when there is no room.
    pub(crate) fn send(&mut self, id: InodeId, data: &[u8], nonblock: bool) -> FsResult<IoOutcome> {
        let Some(Anon::Socket(socket)) = self.anon(id) else { return fail(Errno::ENOTSOCK) };
        let gone = if socket.datagrams { Errno::ECONNREFUSED } else { Errno::EPIPE };
        if socket.sends_no_more {
            return fail(Errno::EPIPE);
        }
        let Some(peer) = socket.peer else { return fail(gone) };
        let Some(Anon::Socket(to)) = self.anon_mut(peer) else { return fail(gone) };
        if to.no_more {
            return fail(Errno::EPIPE);
        }
        if to.messages.is_some() && data.len() > SOCKET_SIZE {
            return fail(Errno::EMSGSIZE);
        }
        let room = to.room();
        let enough = if to.messages.is_some() { room >= data.len() && room > 0 } else { room > 0 };
        let nothing = data.is_empty() && to.messages.is_none();
        if !enough && !nothing {
            return if nonblock { fail(Errno::EAGAIN) } else { Err(FsError::Block(id)) };
        }
        let n = data.len().min(room);
        to.queue.extend(&data[..n]);
        if let Some(messages) = &mut to.messages {
            messages.push_back(n as u32);
        }
        self.wake(peer);
        Ok(if n < data.len() && !nonblock { IoOutcome::Partial(n) } else { IoOutcome::Done(n) })
    }

    /// `shutdown`: no more is received, or sent.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub(crate) fn shut(&mut self, id: InodeId, (receives, sends): (bool, bool)) -> FsResult<()> {
        let Some(Anon::Socket(socket)) = self.anon_mut(id) else { return fail(Errno::ENOTSOCK) };
        socket.no_more |= receives;
        socket.sends_no_more |= sends;
        let peer = socket.peer;
        self.wake(id);
        if let Some(peer) = peer {
            if let (true, Some(Anon::Socket(other))) = (sends, self.anon_mut(peer)) {
                other.no_more = true;
            }
            self.wake(peer);
        }
        Ok(())
    }

    /// A socket is gone: its other end learns of it.
    pub(super) fn drop_anon(&mut self, id: InodeId, anon: Anon) {
        match anon {
            Anon::Timer(_) => {
                self.timers.remove(&id);
            }
            Anon::Socket(Socket { peer: Some(peer), .. }) => {
                if let Some(Anon::Socket(other)) = self.anon_mut(peer) {
                    other.peer = None;
                }
                self.wake(peer);
            }
            _ => {}
        }
    }

    /// Sets a timer; gives how it was.
    ///
    /// # Errors
    /// `EINVAL` for what is none.
    pub(crate) fn set_timer(&mut self, id: InodeId, at: Option<u64>, interval: u64) -> FsResult<Timer> {
        let Some(Anon::Timer(timer)) = self.anon_mut(id) else { return fail(Errno::EINVAL) };
        let before = *timer;
        (timer.at, timer.interval, timer.expired) = (at, interval, 0);
        match at {
            Some(_) => self.timers.insert(id),
            None => self.timers.remove(&id),
        };
        Ok(before)
    }

    /// When the next timer expires, of those that are waited for: the others come about when time passes,
    /// and nothing follows from them.
    pub(crate) fn next_timer(&self, is_awaited: impl Fn(InodeId) -> bool) -> Option<u64> {
        self.timers
            .iter()
            .filter(|id| is_awaited(**id))
            .filter_map(|id| match self.anon(*id) {
                Some(Anon::Timer(timer)) => timer.at,
                _ => None,
            })
            .min()
    }

    /// Counts the expiries of timers by now, nanoseconds of monotonic time.
    pub(crate) fn expire_timers(&mut self, now: u64) {
        let armed: Vec<InodeId> = self.timers.iter().copied().collect();
        for id in armed {
            let Some(Anon::Timer(timer)) = self.anon_mut(id) else { continue };
            let Some(at) = timer.at.filter(|at| *at <= now) else { continue };
            let Some(more) = (now - at).checked_div(timer.interval) else {
                timer.expired += 1;
                timer.at = None;
                self.timers.remove(&id);
                self.wake(id);
                continue;
            };
            let times = more + 1;
            timer.expired = timer.expired.saturating_add(times);
            timer.at = Some(at.saturating_add(times.saturating_mul(timer.interval)));
            self.wake(id);
        }
    }

    /// Whether the armed timers are those that are set: for a state out of a file.
    pub(super) fn timers_are_sound(&self) -> bool {
        let armed = self
            .inodes
            .iter()
            .filter(|(_, inode)| matches!(inode.body, Body::Anon(Anon::Timer(Timer { at: Some(_), .. }))));
        armed.map(|(id, _)| id).eq(&self.timers)
    }
}
