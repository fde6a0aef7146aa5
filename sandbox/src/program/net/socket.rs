//! One socket.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::message::{Message, Name, Ucred};
use super::options::Options;
use super::{Bound, DATAGRAMS};
use crate::program::files::{
    POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM, POLLWRBAND, POLLWRNORM,
};
use crate::program::fs::InodeId;

/// What kind of socket it is (`SOCK_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A stream of bytes (`SOCK_STREAM`).
    Stream,
    /// Messages to anybody (`SOCK_DGRAM`).
    Datagram,
    /// Messages over a connection (`SOCK_SEQPACKET`).
    Packets,
}

impl Kind {
    /// Whether it is connected before anything is sent.
    pub fn connects(self) -> bool {
        self != Kind::Datagram
    }
}

/// How far a socket is (`sk_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Neither of the others.
    Closed,
    /// It takes connections.
    Listening,
    /// It has or had a peer.
    Connected,
}

/// The other end of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peer {
    /// Its inode. It may be gone: numbers are never used again.
    pub id: InodeId,
    /// Its name when it became the peer.
    pub name: Option<Name>,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Socket {
    pub kind: Kind,
    pub state: State,
    /// What `getsockname` says.
    pub name: Option<Name>,
    /// Where others find it. An accepted socket has its listener's name, and nobody finds it there.
    pub bound: Option<Bound>,
    pub peer: Option<Peer>,
    /// What was sent to it.
    pub queue: VecDeque<Message>,
    /// Connections that nobody has accepted yet: sockets that the listener holds.
    pub pending: VecDeque<InodeId>,
    /// It is one of those, of this listener.
    pub listener: Option<InodeId>,
    /// Connections at most in `pending`, or datagrams in the queue, less one.
    pub backlog: u32,
    /// The other end went away with something unread: the next call fails.
    pub reset: bool,
    /// It receives nothing more (`RCV_SHUTDOWN`).
    pub receives_no_more: bool,
    /// It sends nothing more (`SEND_SHUTDOWN`).
    pub sends_no_more: bool,
    /// Bytes of its buffer that messages take which others have not received yet (`sk_wmem_alloc`).
    pub sent: u64,
    /// Who connected it, or listens at the other end (`SO_PEERCRED`).
    pub peer_cred: Option<Ucred>,
    pub options: Options,
}

impl Socket {
    pub fn new(kind: Kind) -> Socket {
        Socket {
            kind,
            state: State::Closed,
            name: None,
            bound: None,
            peer: None,
            queue: VecDeque::new(),
            pending: VecDeque::new(),
            listener: None,
            backlog: DATAGRAMS,
            reset: false,
            receives_no_more: false,
            sends_no_more: false,
            sent: 0,
            peer_cred: None,
            options: Options::default(),
        }
    }

    /// Whether those whom it is not connected to cannot send to it, or connect, without waiting
    /// (`unix_recvq_full`).
    pub fn is_full(&self) -> bool {
        let waiting = if self.state == State::Listening { self.pending.len() } else { self.queue.len() };
        waiting > self.backlog as usize
    }

    /// Whether its buffer takes another message, of whatever size (`sock_alloc_send_pskb`).
    pub fn takes_message(&self) -> bool {
        self.sent < self.options.send_buffer.into()
    }

    /// Whether there is enough space in its buffer for `poll`, and for who waits for it (`unix_writable`).
    pub fn has_space(&self) -> bool {
        self.state != State::Listening && (self.sent + 1) * 4 <= self.options.send_buffer.into()
    }

    /// Takes the error that the next call gets (`sock_error`).
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset)
    }

    /// What it is ready for, where the queue of whom it sends to is `full` (`unix_poll`,
    /// `unix_dgram_poll`).
    pub fn ready(&self, full: bool) -> u16 {
        let of = |is: bool, what: u16| if is { what } else { 0 };
        let readable = !self.queue.is_empty() || !self.pending.is_empty() || self.receives_no_more;
        let unconnected = self.kind.connects() && self.state == State::Closed;
        of(self.reset, POLLERR)
            | of(self.receives_no_more, POLLRDHUP)
            | of(self.receives_no_more && self.sends_no_more || unconnected, POLLHUP)
            | of(readable, POLLIN | POLLRDNORM)
            | of(self.has_space() && !full, POLLOUT | POLLWRNORM | POLLWRBAND)
    }
}
