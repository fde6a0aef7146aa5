//! Sockets of the UNIX domain (`net/unix/af_unix.c`): the only ones that there are, since a sandbox has no
//! network.
//!
//! A socket is an inode of the file system, so that descriptors, `poll` and `epoll` know it as they know all
//! others; what it holds is here, by that inode. What is sent lies in the receiver's queue and counts in the
//! sender's buffer, as on Linux. Descriptors that travel in messages are references to open descriptions
//! like those that tables have: a queue that goes away leaves them in [`Sockets::take_dropped`], whoever has
//! the tables gives them up, and those that only sockets hold which only they hold are found by `collect`.

mod check;
mod close;
mod collect;
mod connect;
mod message;
mod options;
mod receive;
mod send;
mod socket;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use message::{Name, NameError, Ucred};
pub(crate) use options::{Flag, SOMAXCONN};
pub(crate) use receive::{Received, Take};
pub(crate) use send::Extras;
pub(crate) use socket::{Kind, State};

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use self::message::Message;
use self::socket::Socket;
use super::files::DescId;
use super::fs::{FsResult, InodeId, fail};
use crate::errno::Errno;

/// What a descriptor in a message takes of the quota: the open description that it may alone hold.
const PASSED_BYTES: u64 = 256;
/// Descriptors in messages at most, whoever sends them.
const PASSED_MAX: u64 = 1 << 16;
/// Messages at most in the queue of a datagram socket that others than its peer send to, less one
/// (`net.unix.max_dgram_qlen`).
const DATAGRAMS: u32 = 10;

/// Where a socket can be found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Bound {
    /// Behind a file of the file system.
    File(InodeId),
    /// By a name that no file has: each kind of socket has its own.
    Abstract(Kind, Name),
}

/// All sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sockets {
    map: BTreeMap<InodeId, Socket>,
    bound: BTreeMap<Bound, InodeId>,
    /// Bytes of the quota that messages take.
    used: u64,
    /// Descriptors in messages.
    passed: u64,
    /// Sockets that only messages have held since it was last looked for those that nobody can reach.
    lost: u64,
    /// Descriptions that were in messages which are gone: their references are yet to be given up.
    dropped: VecDeque<DescId>,
    /// Bytes of the quota that messages may take beyond [`Sockets::used`].
    #[serde(skip)]
    room: u64,
    /// Sockets of which something has changed that tasks may wait for.
    #[serde(skip)]
    woken: Vec<InodeId>,
}

impl Sockets {
    /// Says how many bytes messages may take more.
    pub fn set_room(&mut self, room: u64) {
        self.room = room;
    }

    /// Bytes of the quota that messages take.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Sockets that changed since the last call.
    pub fn take_woken(&mut self) -> Vec<InodeId> {
        std::mem::take(&mut self.woken)
    }

    /// The next description of which a reference is to be given up.
    pub fn take_dropped(&mut self) -> Option<DescId> {
        self.dropped.pop_front()
    }

    /// Adds a socket that is not connected.
    pub fn add(&mut self, id: InodeId, kind: Kind) {
        self.map.insert(id, Socket::new(kind));
    }

    /// Whether it is a socket.
    pub fn has(&self, id: InodeId) -> bool {
        self.map.contains_key(&id)
    }

    fn get(&self, id: InodeId) -> FsResult<&Socket> {
        self.map.get(&id).map_or_else(|| fail(Errno::ENOTSOCK), Ok)
    }

    fn get_mut(&mut self, id: InodeId) -> FsResult<&mut Socket> {
        self.map.get_mut(&id).map_or_else(|| fail(Errno::ENOTSOCK), Ok)
    }

    /// The socket at the other end, while it is there.
    fn peer_of(&self, id: InodeId) -> Option<InodeId> {
        self.map.get(&id)?.peer.as_ref().map(|peer| peer.id).filter(|peer| self.map.contains_key(peer))
    }

    fn wake(&mut self, id: InodeId) {
        self.woken.push(id);
    }

    /// Takes a message out of all accounts: its sender has room again, and its descriptors are dropped.
    fn free(&mut self, message: Message) {
        self.used = self.used.saturating_sub(message.cost());
        self.passed = self.passed.saturating_sub(message.passed.len() as u64);
        self.dropped.extend(&message.passed);
        let from = message.from;
        if let Some(sender) = self.map.get_mut(&from) {
            sender.sent = sender.sent.saturating_sub(message.size());
            if sender.has_space() {
                self.wake(from);
            }
        }
    }

    /// Throws away what is in a socket's queue.
    fn purge(&mut self, id: InodeId) {
        let Some(socket) = self.map.get_mut(&id) else { return };
        for message in std::mem::take(&mut socket.queue) {
            self.free(message);
        }
    }

    /// There is room in a socket's queue where there was none: those who are connected to it, and it not to
    /// them, can write again.
    fn wake_writers_to(&mut self, id: InodeId) {
        let waits =
            |(_, socket): &(&InodeId, &Socket)| socket.peer.as_ref().is_some_and(|peer| peer.id == id);
        let writers = self.map.iter().filter(waits).map(|(writer, _)| *writer);
        self.woken.extend(writers);
    }

    /// A socket's [`ready`](Socket::ready) set, as `poll` has it.
    pub fn ready(&self, id: InodeId) -> Option<u16> {
        let socket = self.map.get(&id)?;
        let peer = socket.peer.as_ref().and_then(|peer| self.map.get(&peer.id));
        let mutual = peer.and_then(|peer| peer.peer.as_ref()).is_some_and(|back| back.id == id);
        let full = socket.kind == Kind::Datagram && !mutual && peer.is_some_and(Socket::is_full);
        Some(socket.ready(full))
    }
}
