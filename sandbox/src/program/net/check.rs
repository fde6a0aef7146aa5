//! Whether sockets that came out of a file can be some.

use std::collections::BTreeMap;

use super::message::{Message, Name};
use super::socket::{Peer, Socket, State};
use super::{Bound, Kind, Sockets};
use crate::program::files::DescId;
use crate::program::fs::InodeId;

impl Sockets {
    /// Whether they can be some: of the inodes that are sockets there are `count`, and only such that are
    /// old have numbers that no new one gets.
    pub fn is_sound(
        &self,
        count: usize,
        is_socket: impl Fn(InodeId) -> bool,
        is_old: impl Fn(InodeId) -> bool,
    ) -> bool {
        let Sockets { map, bound, used, passed, lost: _, dropped: _, room: _, woken: _ } = self;
        let messages = || map.values().flat_map(|socket| &socket.queue);
        let mut sent = BTreeMap::new();
        for message in messages() {
            *sent.entry(message.from).or_insert(0u64) += message.size();
        }
        let of = |(id, socket): (&InodeId, &Socket)| {
            is_socket(*id)
                && self.is_one(*id, socket, &is_old)
                && sent.get(id).copied().unwrap_or(0) == socket.sent
        };
        let pending = map.iter().flat_map(|(id, socket)| socket.pending.iter().map(|new| (*new, *id)));
        let mut pending: Vec<(InodeId, InodeId)> = pending.collect();
        pending.sort_unstable();
        let waiting = map.iter().filter_map(|(id, socket)| Some((*id, socket.listener?)));
        map.len() == count
            && waiting.eq(pending)
            && map.iter().all(of)
            && messages().all(|message| message.is_sound() && is_old(message.from))
            && messages().map(Message::cost).fold(0, u64::saturating_add) == *used
            && messages().map(|message| message.passed.len() as u64).sum::<u64>() == *passed
            && map.values().filter(|socket| socket.bound.is_some()).count() == bound.len()
    }

    fn is_one(&self, id: InodeId, socket: &Socket, is_old: impl Fn(InodeId) -> bool) -> bool {
        let Socket {
            kind,
            state,
            name,
            bound,
            peer,
            queue,
            pending,
            listener,
            // These only say what is refused, or told.
            backlog: _,
            reset: _,
            receives_no_more: _,
            sends_no_more: _,
            // With all messages.
            sent: _,
            peer_cred: _,
            options,
        } = socket;
        let named = match bound {
            None => true,
            Some(Bound::File(file)) => {
                is_old(*file) && name.as_ref().is_some_and(|name| name.path().is_some())
            }
            Some(Bound::Abstract(of, known)) => {
                of == kind && name.as_ref() == Some(known) && known.path().is_none()
            }
        };
        let found = bound.as_ref().is_none_or(|bound| self.bound.get(bound) == Some(&id));
        named
            && found
            && name.as_ref().is_none_or(Name::is_sound)
            && options.is_sound()
            && peer.as_ref().is_none_or(|peer| self.is_peer(id, *kind, peer, &is_old))
            && (peer.is_some() || !kind.connects() || *state != State::Connected)
            && (queue.is_empty() || *state == State::Connected || !kind.connects())
            && (pending.is_empty() || *state == State::Listening)
            && (listener.is_none() || *state == State::Connected)
            && (*state != State::Listening || kind.connects() && name.is_some())
    }

    /// Whether it can be a socket's peer: one that is there knows of a connection, too.
    fn is_peer(&self, id: InodeId, kind: Kind, peer: &Peer, is_old: impl Fn(InodeId) -> bool) -> bool {
        let Peer { id: other, name } = peer;
        let mutual = |other: &Socket| {
            other.kind == kind && (!kind.connects() || other.peer.as_ref().is_some_and(|peer| peer.id == id))
        };
        is_old(*other) && name.as_ref().is_none_or(Name::is_sound) && self.map.get(other).is_none_or(mutual)
    }

    /// Counts, by description, the references that messages have, and those that are yet to be given up.
    pub fn count_passed(&self, references: &mut BTreeMap<DescId, u32>) {
        let passed = self.map.values().flat_map(|socket| &socket.queue).flat_map(|message| &message.passed);
        for id in passed.chain(&self.dropped) {
            *references.entry(*id).or_insert(0) += 1;
        }
    }

    /// Counts, by socket, the connections that listeners hold.
    pub fn count_held(&self, uses: &mut BTreeMap<InodeId, u32>) {
        let held = self.map.values().flat_map(|socket| &socket.pending);
        held.for_each(|id| *uses.entry(*id).or_insert(0) += 1);
    }
}
