//! How sockets end.

use std::collections::VecDeque;

use super::Sockets;
use crate::program::fs::{FsResult, InodeId};

impl Sockets {
    /// `shutdown`: no more is received, or sent; nor does the other end send, or receive.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn shut(&mut self, id: InodeId, (receives, sends): (bool, bool)) -> FsResult<()> {
        let socket = self.get_mut(id)?;
        socket.receives_no_more |= receives;
        socket.sends_no_more |= sends;
        let connects = socket.kind.connects();
        self.wake(id);
        let peer = self.peer_of(id).filter(|_| connects);
        if let Some(peer) = peer
            && let Ok(other) = self.get_mut(peer)
        {
            other.receives_no_more |= sends;
            other.sends_no_more |= receives;
            self.wake(peer);
        }
        Ok(())
    }

    /// A socket is gone, and its peer learns of it: gives the connections that it has not accepted, which
    /// nobody holds any more.
    pub fn remove(&mut self, id: InodeId) -> VecDeque<InodeId> {
        self.wake_waiting_writers(id);
        let peer = self.peer_of(id);
        let Some(mut socket) = self.map.remove(&id) else { return VecDeque::new() };
        if let Some(bound) = &socket.bound {
            self.bound.remove(bound);
        }
        let unread = !socket.queue.is_empty() || socket.listener.is_some();
        if let Some(peer) = peer.filter(|_| socket.kind.connects())
            && let Ok(other) = self.get_mut(peer)
        {
            (other.receives_no_more, other.sends_no_more) = (true, true);
            other.reset |= unread;
            self.wake(peer);
        }
        for message in std::mem::take(&mut socket.queue) {
            self.free(message);
        }
        // Who waits to connect, or to send to it, finds that it is gone.
        self.wake(id);
        socket.pending
    }

    /// Wakes those who wait until a socket's queue takes their messages, since it goes away.
    fn wake_waiting_writers(&mut self, id: InodeId) {
        if self.get(id).is_ok_and(|socket| socket.is_full()) {
            self.wake_writers_to(id);
        }
    }
}
