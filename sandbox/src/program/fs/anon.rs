//! What descriptors without a name stand for: event counters, timers, sockets, sets of watched descriptors.

use serde::{Deserialize, Serialize};

use super::env::Env;
use super::error::{FsError, FsResult, fail};
use super::inode::{Body, InodeId};
use super::life::INODE_COST;
use super::notice::Stage;
use super::socket::SOCKET_COST;
use super::{Fs, IoOutcome};
use crate::errno::Errno;
use crate::program::ipc::mqueue::Queue;

/// Something without a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Anon {
    /// `eventfd`.
    Event(Event),
    /// `timerfd_create`.
    Timer(Timer),
    /// A socket: what it has is in the table of sockets.
    Socket,
    /// `epoll_create`: what it watches, the descriptors have.
    Epoll,
    /// `signalfd`: signals of this set can be read.
    Signals {
        /// The set, a bit for each.
        mask: u64,
    },
    /// `pidfd_open`: a process.
    Process {
        /// Its number, which no other gets meanwhile.
        pid: u32,
        /// How far it is.
        stage: Stage,
    },
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

impl Anon {
    /// Whether it can be one: for a state out of a file.
    pub fn is_sound(&self) -> bool {
        match self {
            Anon::Event(event) => event.count < u64::MAX,
            Anon::Timer(_) | Anon::Epoll | Anon::Socket | Anon::Signals { .. } | Anon::Process { .. } => true,
            Anon::Queue(queue) => queue.is_sound(),
        }
    }

    /// What `/proc/self/fd` says that it is.
    pub fn label(&self) -> &'static str {
        match self {
            Anon::Event(_) => "[eventfd]",
            Anon::Timer(_) => "[timerfd]",
            Anon::Epoll => "[eventpoll]",
            Anon::Signals { .. } => "[signalfd]",
            Anon::Process { .. } => "[pidfd]",
            Anon::Socket => "socket",
            Anon::Queue(_) => "mqueue",
        }
    }

    /// What it costs of the quota.
    fn cost(&self) -> u64 {
        match self {
            Anon::Socket => INODE_COST + SOCKET_COST,
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
        let note = matches!(anon, Anon::Signals { .. } | Anon::Process { .. });
        let id = self.make_anonymous(env, Body::Anon(anon));
        if note {
            self.notices.insert(id);
        }
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.charge = cost;
        }
        Ok(id)
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
            Some(Anon::Event(_) | Anon::Socket) => (true, true),
            Some(Anon::Timer(_) | Anon::Signals { .. }) => (true, false),
            Some(Anon::Epoll | Anon::Process { .. } | Anon::Queue(_)) | None => (false, false),
        }
    }

    /// Whether it is readable, and writable, and what it is of is no more. Sockets and sets of watched
    /// descriptors are asked elsewhere.
    pub(crate) fn anon_ready(&self, env: &Env<'_>, id: InodeId) -> [bool; 3] {
        match self.anon(id) {
            Some(Anon::Signals { mask }) => [env.caller.has_signal(*mask), false, false],
            Some(Anon::Process { stage, .. }) => [*stage != Stage::Alive, false, *stage == Stage::Gone],
            Some(Anon::Event(event)) => [event.count > 0, event.count < u64::MAX - 1, false],
            Some(Anon::Timer(timer)) => [timer.expired > 0, false, false],
            Some(Anon::Queue(queue)) => [queue.count() > 0, !queue.is_full(), false],
            Some(Anon::Socket | Anon::Epoll) | None => [false; 3],
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// `EINVAL` for a buffer that is too small; [`FsError::Block`] when there is nothing yet.
    pub(super) fn read_anon(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        buf: &mut [u8],
        nonblock: bool,
    ) -> FsResult<usize> {
        if let Some(Anon::Signals { mask }) = self.anon(id) {
            let mask = *mask;
            return self.read_signals(env, id, mask, buf, nonblock);
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
    /// `EINVAL`; [`FsError::Block`] when there is no room.
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
            _ => fail(Errno::EINVAL),
        }
    }

    /// It is gone.
    pub(super) fn drop_anon(&mut self, env: &mut Env<'_>, id: InodeId, anon: &Anon) -> FsResult<()> {
        match anon {
            Anon::Timer(_) => {
                self.timers.remove(&id);
                Ok(())
            }
            Anon::Signals { .. } | Anon::Process { .. } => {
                self.notices.remove(&id);
                Ok(())
            }
            Anon::Socket => self.drop_socket(env, id),
            Anon::Event(_) | Anon::Epoll | Anon::Queue(_) => Ok(()),
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
