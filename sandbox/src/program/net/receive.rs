//! Receiving.

use super::message::{Name, Ucred};
use super::options::Flag;
use super::socket::{Kind, Socket, State};
use super::{PASSED_BYTES, Sockets};
use crate::errno::Errno;
use crate::program::files::DescId;
use crate::program::fs::{FsError, FsResult, InodeId, fail};

/// How something is received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Take {
    /// It stays in the queue.
    pub peek: bool,
    /// The call does not wait.
    pub nonblock: bool,
}

/// What was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes in the buffer.
    pub bytes: usize,
    /// Bytes of the message.
    pub whole: usize,
    /// The sender's name, if there was a sender and it had one.
    pub name: Option<Name>,
    /// Who sent it, if the socket is to tell.
    pub creds: Option<Ucred>,
    /// Descriptions that came along. Their references are dropped: who wants them takes his own before
    /// he gives those up.
    pub passed: Vec<DescId>,
}

impl Sockets {
    /// Takes what was sent to a socket.
    ///
    /// # Errors
    /// As `recvmsg(2)`; [`FsError::Block`] when there is nothing yet.
    pub fn receive(&mut self, id: InodeId, buf: &mut [u8], take: Take) -> FsResult<Received> {
        match self.get(id)?.kind {
            Kind::Stream => self.receive_bytes(id, buf, take),
            Kind::Datagram | Kind::Packets => self.receive_packet(id, buf, take),
        }
    }

    fn receive_packet(&mut self, id: InodeId, buf: &mut [u8], take: Take) -> FsResult<Received> {
        let socket = self.get_mut(id)?;
        let packets = socket.kind == Kind::Packets;
        if packets && socket.state != State::Connected {
            return fail(Errno::ENOTCONN);
        }
        if socket.take_reset() {
            return fail(Errno::ECONNRESET);
        }
        let Some(message) = socket.queue.front() else {
            return match (socket.receives_no_more, take.nonblock) {
                (true, nonblock) if packets || !nonblock => Ok(Received::default()),
                (_, true) => fail(Errno::EAGAIN),
                (_, false) => Err(FsError::Block(id)),
            };
        };
        let bytes = message.data.len().min(buf.len());
        buf[..bytes].copy_from_slice(&message.data[..bytes]);
        let received = Received {
            bytes,
            whole: message.data.len(),
            name: message.name.clone(),
            creds: creds_for(socket, message.creds),
            passed: message.passed.clone(),
        };
        if take.peek {
            return Ok(received);
        }
        let was_full = socket.is_full();
        if let Some(message) = socket.queue.pop_front() {
            self.free(message);
        }
        if was_full && !self.get(id)?.is_full() {
            // Who waits to send to it waits for it.
            self.wake(id);
            self.wake_writers_to(id);
        }
        Ok(received)
    }

    fn receive_bytes(&mut self, id: InodeId, buf: &mut [u8], take: Take) -> FsResult<Received> {
        let socket = self.get_mut(id)?;
        if socket.state != State::Connected {
            return fail(Errno::EINVAL);
        }
        if socket.queue.is_empty() {
            return match () {
                () if socket.take_reset() => fail(Errno::ECONNRESET),
                () if socket.receives_no_more => Ok(Received::default()),
                () if take.nonblock => fail(Errno::EAGAIN),
                () => Err(FsError::Block(id)),
            };
        }
        if take.peek { Ok(peek_bytes(socket, buf)) } else { self.take_bytes(id, buf) }
    }

    fn take_bytes(&mut self, id: InodeId, buf: &mut [u8]) -> FsResult<Received> {
        let mut received = Received::default();
        let mut first = true;
        loop {
            let Sockets { map, used, passed, dropped, .. } = self;
            let Some(socket) = map.get_mut(&id) else { return fail(Errno::ENOTSOCK) };
            let Some(front) = socket.queue.front() else { break };
            let creds = creds_for(socket, front.creds);
            if !first && creds != received.creds {
                // What others have sent is not glued to it.
                break;
            }
            let Some(message) = socket.queue.front_mut() else { break };
            if first {
                (received.name, received.creds) = (message.name.clone(), creds);
            }
            first = false;
            let n = copy(message.unread(), &mut buf[received.bytes..]);
            received.bytes += n;
            message.read += n;
            received.passed = std::mem::take(&mut message.passed);
            let gone = received.passed.len() as u64;
            *passed = passed.saturating_sub(gone);
            *used = used.saturating_sub(gone * PASSED_BYTES);
            dropped.extend(&received.passed);
            if message.read < message.data.len() {
                break;
            }
            if let Some(message) = socket.queue.pop_front() {
                self.free(message);
            }
            if !received.passed.is_empty() || received.bytes == buf.len() {
                break;
            }
        }
        received.whole = received.bytes;
        Ok(received)
    }

    /// Bytes that can be received: of a datagram socket those of the next message (`unix_inq_len`).
    ///
    /// # Errors
    /// `EINVAL` for a listener, `ENOTSOCK`.
    pub fn available(&self, id: InodeId) -> FsResult<u64> {
        let socket = self.get(id)?;
        let most = if socket.kind == Kind::Datagram { 1 } else { usize::MAX };
        match socket.state {
            State::Listening => fail(Errno::EINVAL),
            _ => Ok(socket.queue.iter().take(most).map(|message| message.unread().len() as u64).sum()),
        }
    }

    /// Bytes of a socket's buffer that messages take which nobody has received (`unix_outq_len`).
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn unreceived(&self, id: InodeId) -> FsResult<u64> {
        Ok(self.get(id)?.sent)
    }

    /// Takes the error that waits for the next call (`SO_ERROR`).
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn take_error(&mut self, id: InodeId) -> FsResult<Option<Errno>> {
        Ok(self.get_mut(id)?.take_reset().then_some(Errno::ECONNRESET))
    }
}

fn peek_bytes(socket: &Socket, buf: &mut [u8]) -> Received {
    let mut received = Received::default();
    for (n, message) in socket.queue.iter().enumerate() {
        let creds = creds_for(socket, message.creds);
        match n {
            0 => (received.name, received.creds) = (message.name.clone(), creds),
            _ if creds != received.creds || received.bytes == buf.len() => break,
            _ => {}
        }
        received.bytes += copy(message.unread(), &mut buf[received.bytes..]);
        received.passed = message.passed.clone();
        if !received.passed.is_empty() {
            break;
        }
    }
    received.whole = received.bytes;
    received
}

/// Whom a message is of, if the socket that receives it is to tell.
fn creds_for(socket: &Socket, creds: Option<Ucred>) -> Option<Ucred> {
    socket.options.has(Flag::PassCredentials).then_some(creds.unwrap_or(Ucred::UNKNOWN))
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let n = from.len().min(to.len());
    to[..n].copy_from_slice(&from[..n]);
    n
}
