//! Sending.

use super::message::{Message, Name, Ucred};
use super::options::Flag;
use super::socket::{Kind, State};
use super::{PASSED_MAX, Sockets};
use crate::errno::Errno;
use crate::program::files::DescId;
use crate::program::fs::{FsError, FsResult, InodeId, fail};

/// Bytes of a packet that lie behind its head (`SKB_MAX_ALLOC`); the rest is in pages, so many at most.
const PACKET_HEAD: usize = 16_064;
const PACKET_PAGED: usize = 17 * PAGE;
/// The same of a part of a stream (`SKB_MAX_HEAD(0)`, `UNIX_SKB_FRAGS_SZ`).
const STREAM_HEAD: usize = 3776;
const STREAM_PAGED: usize = 32_768;
const PAGE: usize = 4096;

/// What goes along with data.
#[derive(Clone, Debug)]
pub(crate) struct Extras {
    /// Who the sender is.
    pub sender: Ucred,
    /// Whom it says that the message is of (`SCM_CREDENTIALS`).
    pub creds: Option<Ucred>,
    /// Descriptions to pass (`SCM_RIGHTS`).
    pub passed: Vec<DescId>,
    /// Descriptors in messages that there may be for the sender to add some.
    pub limit: u64,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Bytes.
    pub bytes: usize,
    /// The descriptions are in a message.
    pub passed: bool,
    /// The call waits for room for the rest.
    pub waits: bool,
}

impl Sockets {
    /// Whether a socket keeps messages apart.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn kind(&self, id: InodeId) -> FsResult<Kind> {
        Ok(self.get(id)?.kind)
    }

    /// Finds out whether a socket can send a packet, before its receiver is looked for.
    ///
    /// # Errors
    /// As `sendmsg(2)`; [`FsError::Block`] when its buffer is full.
    pub fn start_packet(&mut self, id: InodeId, len: usize, nonblock: bool) -> FsResult<()> {
        /// What a packet must leave of the buffer.
        const LEFT: u64 = 32;
        let socket = self.get_mut(id)?;
        if socket.kind == Kind::Packets {
            if socket.take_reset() {
                return fail(Errno::ECONNRESET);
            }
            if socket.state != State::Connected {
                return fail(Errno::ENOTCONN);
            }
        }
        if len as u64 + LEFT > socket.options.send_buffer.into() {
            return fail(Errno::EMSGSIZE);
        }
        self.expect_space(id, nonblock)
    }

    /// Waits for space in a socket's own buffer (`sock_alloc_send_pskb`).
    fn expect_space(&mut self, id: InodeId, nonblock: bool) -> FsResult<()> {
        let socket = self.get_mut(id)?;
        match () {
            () if socket.take_reset() => fail(Errno::ECONNRESET),
            () if socket.sends_no_more => fail(Errno::EPIPE),
            () if socket.takes_message() => Ok(()),
            () if nonblock => fail(Errno::EAGAIN),
            () => Err(FsError::Block(id)),
        }
    }

    /// Sends a packet to a socket, or to the peer; [`Sockets::start_packet`] has allowed it.
    ///
    /// # Errors
    /// As `sendmsg(2)`; [`FsError::Block`] when the receiver has too many.
    pub fn send_packet(
        &mut self,
        id: InodeId,
        to: Option<InodeId>,
        data: &[u8],
        extras: &Extras,
        nonblock: bool,
    ) -> FsResult<Sent> {
        self.expect_may_pass(extras)?;
        let socket = self.get(id)?;
        let (kind, is_peer) = (socket.kind, socket.peer.as_ref().map(|peer| peer.id));
        let Some(other) = to.or(is_peer) else { return fail(Errno::ENOTCONN) };
        let Some(receiver) = self.map.get(&other) else {
            if kind == Kind::Packets {
                return fail(Errno::EPIPE);
            }
            // The peer is gone.
            self.change_peer(id, None);
            return fail(Errno::ECONNREFUSED);
        };
        let back = receiver.peer.as_ref().map(|peer| peer.id);
        if back.is_some_and(|back| back != id) {
            return fail(Errno::EPERM);
        }
        if receiver.receives_no_more {
            return fail(Errno::EPIPE);
        }
        if other != id && back != Some(id) && receiver.is_full() {
            return if nonblock { fail(Errno::EAGAIN) } else { Err(FsError::Block(other)) };
        }
        let paged = (data.len().saturating_sub(PACKET_HEAD)).min(PACKET_PAGED).next_multiple_of(PAGE);
        self.push(id, other, data, paged, extras, true)?;
        Ok(Sent { bytes: data.len(), passed: !extras.passed.is_empty(), waits: false })
    }

    /// Finds out whether a socket can send bytes of a stream: gives how many one part of it has at most.
    ///
    /// # Errors
    /// `ENOTCONN`, `EPIPE`.
    pub fn start_bytes(&self, id: InodeId, begun: bool) -> FsResult<usize> {
        let socket = self.get(id)?;
        match &socket.peer {
            None => fail(Errno::ENOTCONN),
            Some(_) if socket.sends_no_more && !begun => fail(Errno::EPIPE),
            // Two of them fit into the buffer.
            Some(_) => Ok((socket.options.send_buffer as usize / 2 - 64).min(STREAM_HEAD + STREAM_PAGED)),
        }
    }

    /// Sends bytes of a stream, as many as there is room for: descriptions with the first if it `passes`
    /// them. A call that has `begun` waited for room, or sent something.
    ///
    /// # Errors
    /// As `sendmsg(2)`; [`FsError::Block`] when there is no room.
    pub fn send_bytes(
        &mut self,
        id: InodeId,
        data: &[u8],
        extras: &Extras,
        nonblock: bool,
        passes: bool,
        begun: bool,
    ) -> FsResult<Sent> {
        let most = self.start_bytes(id, begun)?;
        let Some(other) = self.get(id)?.peer.as_ref().map(|peer| peer.id) else {
            return fail(Errno::ENOTCONN);
        };
        let mut sent = Sent { bytes: 0, passed: false, waits: false };
        while sent.bytes < data.len() {
            let part = &data[sent.bytes..data.len().min(sent.bytes + most)];
            let first = passes && sent.bytes == 0;
            match self.send_part(id, other, part, extras, nonblock, first) {
                Ok(()) => {}
                Err(FsError::Block(_)) if sent.bytes > 0 => {
                    sent.waits = true;
                    break;
                }
                Err(FsError::Errno(_)) if sent.bytes > 0 => break,
                Err(e) => return Err(e),
            }
            sent.bytes += part.len();
            sent.passed |= first && !extras.passed.is_empty();
        }
        Ok(sent)
    }

    fn send_part(
        &mut self,
        id: InodeId,
        other: InodeId,
        part: &[u8],
        extras: &Extras,
        nonblock: bool,
        first: bool,
    ) -> FsResult<()> {
        self.expect_space(id, nonblock)?;
        if first {
            self.expect_may_pass(extras)?;
        }
        if self.map.get(&other).is_none_or(|other| other.receives_no_more) {
            return fail(Errno::EPIPE);
        }
        let paged = part.len().saturating_sub(STREAM_HEAD).next_multiple_of(PAGE);
        self.push(id, other, part, paged, extras, first)
    }

    fn expect_may_pass(&self, extras: &Extras) -> FsResult<()> {
        let more = extras.passed.len() as u64;
        let within = self.passed <= extras.limit && self.passed + more <= PASSED_MAX;
        if more == 0 || within { Ok(()) } else { fail(Errno::ETOOMANYREFS) }
    }

    /// Puts a message into a queue.
    ///
    /// # Errors
    /// `ENOBUFS` when the quota has no room for it.
    fn push(
        &mut self,
        id: InodeId,
        other: InodeId,
        data: &[u8],
        paged: usize,
        extras: &Extras,
        passes: bool,
    ) -> FsResult<()> {
        let (from, to) = (self.get(id)?, self.get(other)?);
        let tells = |socket: &super::Socket| socket.options.has(Flag::PassCredentials);
        // Who accepts a connection may ask for credentials later.
        let tells = tells(from) || tells(to) || to.listener.is_some();
        let message = Message {
            from: id,
            name: from.name.clone(),
            data: data.to_vec(),
            read: 0,
            creds: extras.creds.or(tells.then_some(extras.sender)),
            passed: if passes { extras.passed.clone() } else { Vec::new() },
            paged: paged.min(data.len()) as u32,
        };
        let cost = message.cost();
        if cost > self.room {
            return fail(Errno::ENOBUFS);
        }
        self.room -= cost;
        self.used += cost;
        self.passed += message.passed.len() as u64;
        self.get_mut(id)?.sent += message.size();
        self.get_mut(other)?.queue.push_back(message);
        self.wake(other);
        Ok(())
    }

    /// The name of a socket.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn name(&self, id: InodeId) -> FsResult<Option<&Name>> {
        Ok(self.get(id)?.name.as_ref())
    }

    /// The name of a socket's peer.
    ///
    /// # Errors
    /// `ENOTCONN`, `ENOTSOCK`.
    pub fn peer_name(&self, id: InodeId) -> FsResult<Option<&Name>> {
        let Some(peer) = &self.get(id)?.peer else { return fail(Errno::ENOTCONN) };
        Ok(match self.map.get(&peer.id) {
            Some(socket) => socket.name.as_ref(),
            None => peer.name.as_ref(),
        })
    }
}
