//! Names and connections.

use super::message::{Name, Ucred};
use super::options::Flag;
use super::socket::{Kind, Peer, State};
use super::{Bound, Sockets};
use crate::errno::Errno;
use crate::program::fs::{FsError, FsResult, InodeId, fail};

impl Sockets {
    /// Connects two new sockets with each other.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn pair(&mut self, ends: [InodeId; 2], who: Ucred) -> FsResult<()> {
        let [first, second] = ends;
        for (end, other) in [(first, second), (second, first)] {
            let socket = self.get_mut(end)?;
            socket.state = State::Connected;
            socket.peer = Some(Peer { id: other, name: None });
            socket.peer_cred = Some(who);
        }
        Ok(())
    }

    /// Gives a socket the name of a file that was made for it.
    ///
    /// # Errors
    /// `EINVAL` when it has a name.
    pub fn bind_file(&mut self, id: InodeId, name: Name, file: InodeId) -> FsResult<()> {
        self.bind(id, name, Bound::File(file))
    }

    /// Gives a socket an abstract name.
    ///
    /// # Errors
    /// `EINVAL` when it has a name, `EADDRINUSE`.
    pub fn bind_abstract(&mut self, id: InodeId, name: Name) -> FsResult<()> {
        let kind = self.get(id)?.kind;
        self.bind(id, name.clone(), Bound::Abstract(kind, name))
    }

    fn bind(&mut self, id: InodeId, name: Name, bound: Bound) -> FsResult<()> {
        if self.get(id)?.name.is_some() {
            return fail(Errno::EINVAL);
        }
        if self.bound.contains_key(&bound) {
            return fail(Errno::EADDRINUSE);
        }
        self.bound.insert(bound.clone(), id);
        let socket = self.get_mut(id)?;
        (socket.name, socket.bound) = (Some(name), Some(bound));
        Ok(())
    }

    /// Gives a socket without a name the first free one from a number on (`unix_autobind`).
    ///
    /// # Errors
    /// `ENOSPC` when there is none.
    pub fn bind_any(&mut self, id: InodeId, number: u32) -> FsResult<()> {
        /// Names that there are.
        const NAMES: u32 = 1 << 20;
        let socket = self.get(id)?;
        if socket.name.is_some() {
            return Ok(());
        }
        let kind = socket.kind;
        let names = (1..=NAMES).map(|n| Name::automatic(number.wrapping_add(n)));
        let free = |name: &Name| !self.bound.contains_key(&Bound::Abstract(kind, name.clone()));
        match names.into_iter().find(free) {
            Some(name) => self.bind_abstract(id, name),
            None => fail(Errno::ENOSPC),
        }
    }

    /// Whether a socket gets a name by itself before it connects or sends: messages tell of its sender.
    pub fn wants_name(&self, id: InodeId) -> bool {
        self.get(id).is_ok_and(|socket| socket.name.is_none() && socket.options.has(Flag::PassCredentials))
    }

    /// Who is found behind a file.
    ///
    /// # Errors
    /// `ECONNREFUSED`; `EPROTOTYPE` for a socket of another kind.
    pub fn find_file(&self, id: InodeId, file: InodeId) -> FsResult<InodeId> {
        let Some(found) = self.bound.get(&Bound::File(file)) else { return fail(Errno::ECONNREFUSED) };
        if self.get(*found)?.kind == self.get(id)?.kind { Ok(*found) } else { fail(Errno::EPROTOTYPE) }
    }

    /// Who has an abstract name.
    ///
    /// # Errors
    /// `ECONNREFUSED`.
    pub fn find_abstract(&self, id: InodeId, name: &Name) -> FsResult<InodeId> {
        let bound = Bound::Abstract(self.get(id)?.kind, name.clone());
        self.bound.get(&bound).map_or_else(|| fail(Errno::ECONNREFUSED), |found| Ok(*found))
    }

    /// `listen`.
    ///
    /// # Errors
    /// As `listen(2)`.
    pub fn listen(&mut self, id: InodeId, backlog: u32, who: Ucred) -> FsResult<()> {
        let socket = self.get_mut(id)?;
        if !socket.kind.connects() {
            return fail(Errno::EOPNOTSUPP);
        }
        if socket.name.is_none() || socket.state == State::Connected {
            return fail(Errno::EINVAL);
        }
        socket.backlog = backlog;
        socket.state = State::Listening;
        socket.peer_cred = Some(who);
        // Those who wait to connect may have room now; what `poll` says of it has changed.
        self.wake(id);
        Ok(())
    }

    /// Connects a socket to a listener, which gets `new` as the other end: a new socket.
    ///
    /// # Errors
    /// As `connect(2)`; [`FsError::Block`] while too many wait to be accepted.
    pub fn connect(
        &mut self,
        id: InodeId,
        listener: InodeId,
        new: InodeId,
        who: Ucred,
        nonblock: bool,
    ) -> FsResult<()> {
        let other = self.get(listener)?;
        if other.state != State::Listening || other.receives_no_more {
            return fail(Errno::ECONNREFUSED);
        }
        if other.is_full() {
            return if nonblock { fail(Errno::EAGAIN) } else { Err(FsError::Block(listener)) };
        }
        let (name, flags, cred) = (other.name.clone(), other.options.flags, other.peer_cred);
        let socket = self.get_mut(id)?;
        match socket.state {
            State::Closed => {}
            State::Connected => return fail(Errno::EISCONN),
            State::Listening => return fail(Errno::EINVAL),
        }
        socket.state = State::Connected;
        socket.peer = Some(Peer { id: new, name: name.clone() });
        socket.peer_cred = cred;
        let own = socket.name.clone();
        let accepted = self.get_mut(new)?;
        accepted.state = State::Connected;
        accepted.peer = Some(Peer { id, name: own });
        accepted.peer_cred = Some(who);
        accepted.listener = Some(listener);
        accepted.name = name;
        accepted.options.flags = flags & Flag::PassCredentials as u32;
        self.get_mut(listener)?.pending.push_back(new);
        self.wake(listener);
        self.wake(id);
        Ok(())
    }

    /// Takes the next connection of a listener. Who accepts it has the hold that the listener had.
    ///
    /// # Errors
    /// As `accept(2)`; [`FsError::Block`] when there is none yet.
    pub fn accept(&mut self, id: InodeId, nonblock: bool) -> FsResult<InodeId> {
        let socket = self.get_mut(id)?;
        if !socket.kind.connects() {
            return fail(Errno::EOPNOTSUPP);
        }
        if socket.state != State::Listening {
            return fail(Errno::EINVAL);
        }
        let Some(new) = socket.pending.pop_front() else {
            return match (nonblock, socket.receives_no_more) {
                (true, _) => fail(Errno::EAGAIN),
                (false, true) => fail(Errno::EINVAL),
                (false, false) => Err(FsError::Block(id)),
            };
        };
        let waited = socket.pending.len() == socket.backlog as usize;
        self.get_mut(new)?.listener = None;
        if waited {
            self.wake(id);
        }
        Ok(new)
    }

    /// Connects a datagram socket: what it sends goes to `other`, and only from there it gets anything.
    ///
    /// # Errors
    /// `EPERM` when `other` is connected to somebody else.
    pub fn connect_datagram(&mut self, id: InodeId, other: InodeId) -> FsResult<()> {
        let to = self.get(other)?;
        if to.peer.as_ref().is_some_and(|peer| peer.id != id) {
            return fail(Errno::EPERM);
        }
        let peer = Peer { id: other, name: to.name.clone() };
        self.change_peer(id, Some(peer));
        Ok(())
    }

    /// Gives a datagram socket another peer, or none. What the old one sent is lost, and it learns of that
    /// if it was connected back (`unix_dgram_disconnected`).
    pub(super) fn change_peer(&mut self, id: InodeId, peer: Option<Peer>) {
        let Some(socket) = self.map.get_mut(&id) else { return };
        socket.state = if peer.is_some() { State::Connected } else { State::Closed };
        let new = peer.as_ref().map(|peer| peer.id);
        let Some(old) = std::mem::replace(&mut socket.peer, peer) else { return };
        let lost = !socket.queue.is_empty();
        self.wake(id);
        if new == Some(old.id) || !lost {
            return;
        }
        self.purge(id);
        self.wake_writers_to(id);
        if let Some(other) = self.map.get_mut(&old.id)
            && other.peer.as_ref().is_some_and(|peer| peer.id == id)
        {
            other.reset = true;
            self.wake(old.id);
        }
    }

    /// Ends a datagram socket's connection (`AF_UNSPEC`).
    pub fn disconnect(&mut self, id: InodeId) {
        self.change_peer(id, None);
    }

    /// Who is at the other end (`SO_PEERCRED`).
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn peer_cred(&self, id: InodeId) -> FsResult<Ucred> {
        Ok(self.get(id)?.peer_cred.unwrap_or(Ucred::NONE))
    }

    /// How far a socket is.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn state(&self, id: InodeId) -> FsResult<State> {
        Ok(self.get(id)?.state)
    }
}

impl Kind {
    /// `SOCK_*`.
    pub fn number(self) -> u32 {
        match self {
            Kind::Stream => 1,
            Kind::Datagram => 2,
            Kind::Packets => 5,
        }
    }
}
