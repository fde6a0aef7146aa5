//! System V message queues (`ipc/msg.c`).
//!
//! A message that somebody waits for goes to that task without a stay in the queue.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::ids::{Ids, Named, Perm};
use crate::errno::Errno;
use crate::machine::{BadState, expect};
use crate::program::mm::Account;

/// Queues at most.
pub const MSGMNI: usize = 32_000;
/// Bytes of a new queue at most.
pub const MSGMNB: u64 = 16_384;
/// Bytes of a message at most.
pub const MSGMAX: u64 = 8192;

/// Bytes that a queue costs, besides its messages.
const QUEUE_BYTES: u64 = 512;
/// Bytes that a message costs, besides its text.
const MESSAGE_BYTES: u64 = 96;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its type, or its priority.
    pub kind: i64,
    /// What it says.
    pub text: Vec<u8>,
}

impl Message {
    /// Bytes that it is charged with.
    pub fn cost(&self) -> u64 {
        MESSAGE_BYTES + self.text.len() as u64
    }
}

/// Which message is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// The first one.
    Any,
    /// The first one of a type.
    Type(i64),
    /// The first one of another type (`MSG_EXCEPT`).
    Except(i64),
    /// The first one of the lowest type, up to this.
    UpTo(i64),
}

impl Wanted {
    /// What `msgrcv`'s type means (`convert_mode`).
    pub fn from_type(kind: i64, except: bool) -> Wanted {
        match kind {
            0 => Wanted::Any,
            ..0 => Wanted::UpTo(kind.checked_neg().unwrap_or(i64::MAX)),
            _ if except => Wanted::Except(kind),
            _ => Wanted::Type(kind),
        }
    }

    fn takes(self, kind: i64) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Type(wanted) => kind == wanted,
            Wanted::Except(other) => kind != other,
            Wanted::UpTo(most) => kind <= most,
        }
    }
}

/// A task that waits for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// The task.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Which message it wants.
    pub wanted: Wanted,
    /// Bytes that it takes at most; `u64::MAX` where it takes a part of a longer one (`MSG_NOERROR`).
    pub most: u64,
}

/// A queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MsgQueue {
    perm: Perm,
    /// When a message was sent last, seconds.
    pub stime: u64,
    /// When a message was received last, seconds.
    pub rtime: u64,
    /// When it was changed last by `msgctl`, seconds.
    pub ctime: u64,
    /// Bytes at most.
    pub limit: u64,
    /// Who sent last.
    pub sender: u32,
    /// Who received last.
    pub receiver: u32,
    messages: VecDeque<Message>,
    /// Bytes of the messages.
    bytes: u64,
    receivers: VecDeque<Receiver>,
}

impl Named for MsgQueue {
    fn perm(&self) -> &Perm {
        &self.perm
    }

    fn perm_mut(&mut self) -> &mut Perm {
        &mut self.perm
    }
}

/// Where a message went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Into the queue.
    Queued,
    /// To a task that waited for it. It stays charged.
    To(u32, Message),
}

impl MsgQueue {
    /// Messages.
    pub fn count(&self) -> usize {
        self.messages.len()
    }

    /// Bytes of the messages.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a message of so many bytes fits (`msg_fits_inqueue`).
    pub fn has_room(&self, bytes: u64) -> bool {
        self.bytes.saturating_add(bytes) <= self.limit && (self.messages.len() as u64) < self.limit
    }

    /// Sends a message, which is charged. Also gives the tasks that waited for it, and take no message of
    /// its length.
    pub fn send(&mut self, message: Message, pid: u32, now: u64) -> (Vec<u32>, Sent) {
        (self.sender, self.stime) = (pid, now);
        let mut refused = Vec::new();
        let len = message.text.len() as u64;
        while let Some(at) = self.receivers.iter().position(|receiver| receiver.wanted.takes(message.kind)) {
            let Some(receiver) = self.receivers.remove(at) else { break };
            if receiver.most < len {
                refused.push(receiver.tid);
                continue;
            }
            (self.receiver, self.rtime) = (receiver.pid, now);
            return (refused, Sent::To(receiver.tid, message));
        }
        self.bytes += len;
        self.messages.push_back(message);
        (refused, Sent::Queued)
    }

    /// Takes a message, which stays charged; `None` when there is none that is wanted.
    ///
    /// # Errors
    /// `E2BIG` when it has more than `most` bytes.
    pub fn receive(&mut self, receiver: &Receiver, now: u64) -> Result<Option<Message>, Errno> {
        let wanted = |message: &&(usize, &Message)| receiver.wanted.takes(message.1.kind);
        let mut all = self.messages.iter().enumerate();
        let found = match receiver.wanted {
            Wanted::UpTo(_) => {
                self.messages.iter().enumerate().filter(|m| wanted(&m)).min_by_key(|m| m.1.kind)
            }
            _ => all.find(|message| wanted(&message)),
        };
        let Some((at, message)) = found else { return Ok(None) };
        if message.text.len() as u64 > receiver.most {
            return Err(Errno::E2BIG);
        }
        let message = self.messages.remove(at);
        self.bytes -= message.as_ref().map_or(0, |message| message.text.len() as u64);
        (self.receiver, self.rtime) = (receiver.pid, now);
        Ok(message)
    }

    /// A message by its place, which stays where it is.
    pub fn message(&self, place: usize) -> Option<&Message> {
        self.messages.get(place)
    }

    /// Lets a task wait.
    pub fn wait(&mut self, receiver: Receiver) {
        self.receivers.push_back(receiver);
    }

    /// The tasks that wait for a message look again for themselves.
    pub fn take_receivers(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.receivers).into_iter().map(|receiver| receiver.tid).collect()
    }

    fn cost(&self) -> u64 {
        QUEUE_BYTES + self.messages.iter().map(Message::cost).sum::<u64>()
    }
}

/// All queues.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Msgs {
    /// The queues.
    pub queues: Ids<MsgQueue>,
}

impl Msgs {
    /// Makes a queue; gives its identifier.
    ///
    /// # Errors
    /// `ENOSPC` beyond what there may be, `ENOMEM`.
    pub fn make(&mut self, account: &mut Account, perm: Perm, now: u64) -> Result<i32, Errno> {
        if self.queues.len() >= MSGMNI {
            return Err(Errno::ENOSPC);
        }
        account.charge(QUEUE_BYTES)?;
        let queue = MsgQueue {
            perm,
            stime: 0,
            rtime: 0,
            ctime: now,
            limit: MSGMNB,
            sender: 0,
            receiver: 0,
            messages: VecDeque::new(),
            bytes: 0,
            receivers: VecDeque::new(),
        };
        self.queues.add(queue, MSGMNI)
    }

    /// Removes a queue; gives the tasks that wait for a message of it.
    pub fn remove(&mut self, account: &mut Account, id: i32) -> Vec<u32> {
        let Some(mut queue) = self.queues.remove(id) else { return Vec::new() };
        account.refund(queue.cost());
        queue.take_receivers()
    }

    /// A task waits no more for a message.
    pub fn leave(&mut self, id: i32, tid: u32) {
        if let Ok(queue) = self.queues.get_mut(id) {
            queue.receivers.retain(|receiver| receiver.tid != tid);
        }
    }

    /// Bytes that are charged.
    pub fn cost(&self) -> u64 {
        self.queues.iter().map(|(_, queue)| queue.cost()).sum()
    }

    /// Messages of all queues, and their bytes.
    pub fn total(&self) -> (u64, u64) {
        self.queues.iter().fold((0, 0), |(messages, bytes), (_, queue)| {
            (messages + queue.count() as u64, bytes + queue.bytes())
        })
    }

    /// The tasks that wait for a message, with the queue of each.
    pub fn waiting(&self) -> impl Iterator<Item = (u32, i32)> {
        self.queues.iter().flat_map(|(id, queue)| queue.receivers.iter().map(move |r| (r.tid, id)))
    }

    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        let Msgs { queues } = self;
        queues.check()?;
        expect(queues.len() <= MSGMNI, "the number of message queues")?;
        for (_, queue) in queues.iter() {
            // Limits that were lowered leave what is there.
            let sum = queue.messages.iter().map(|m| m.text.len() as u64).fold(0, u64::saturating_add);
            let sound = |message: &Message| message.kind > 0 && message.text.len() as u64 <= MSGMAX;
            expect(sum == queue.bytes && queue.messages.iter().all(sound), "a message")?;
            let tids: BTreeSet<u32> = queue.receivers.iter().map(|receiver| receiver.tid).collect();
            expect(tids.len() == queue.receivers.len(), "who waits for a message")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::credentials::ROOT;

    fn message(kind: i64, text: &str) -> Message {
        Message { kind, text: text.as_bytes().to_vec() }
    }

    fn receiver(tid: u32, kind: i64, except: bool, most: u64) -> Receiver {
        Receiver { tid, pid: tid, wanted: Wanted::from_type(kind, except), most }
    }

    fn queue() -> (Msgs, Account, i32) {
        let (mut msgs, mut account) = (Msgs::default(), Account::new(1 << 20));
        let id = msgs.make(&mut account, Perm::new(&ROOT, 0, 0o600), 5).unwrap();
        (msgs, account, id)
    }

    #[test]
    fn the_message_that_is_wanted() {
        let (mut msgs, _, id) = queue();
        let q = msgs.queues.get_mut(id).unwrap();
        for (kind, text) in [(5, "a"), (3, "b"), (2, "c"), (2, "d"), (7, "e")] {
            assert_eq!(q.send(message(kind, text), 3, 9), (vec![], Sent::Queued));
        }
        let mut take = |kind, except| {
            let taken = q.receive(&receiver(4, kind, except, 10), 9).unwrap();
            taken.map(|m| String::from_utf8(m.text).unwrap()).unwrap_or_default()
        };
        assert_eq!(take(7, false), "e");
        assert_eq!(take(-4, false), "c");
        assert_eq!(take(5, true), "b");
        assert_eq!(take(i64::MIN, false), "d");
        assert_eq!(
            (take(9, false).as_str(), take(0, false).as_str(), take(0, false).as_str()),
            ("", "a", "")
        );
        assert_eq!((q.bytes(), q.count(), q.sender, q.receiver), (0, 0, 3, 4));
    }

    #[test]
    fn those_that_wait_get_it_in_order() {
        let (mut msgs, mut account, id) = queue();
        let q = msgs.queues.get_mut(id).unwrap();
        // The one that stays in the queue.
        account.charge(message(2, "two").cost()).unwrap();
        for (tid, kind, most) in [(3, 1, 10), (4, 2, 1), (5, -9, 10)] {
            q.wait(receiver(tid, kind, false, most));
        }
        let two = message(2, "two");
        assert_eq!(q.send(two.clone(), 9, 9), (vec![4], Sent::To(5, two.clone())));
        assert_eq!(q.send(two, 9, 9), (vec![], Sent::Queued));
        assert_eq!((q.count(), q.receive(&receiver(6, 2, false, 2), 9)), (1, Err(Errno::E2BIG)));
        assert_eq!(msgs.waiting().collect::<Vec<_>>(), [(3, id)]);
        msgs.check().unwrap();
        msgs.leave(id, 3);
        assert_eq!(msgs.cost(), account.charged());
        assert!(msgs.remove(&mut account, id).is_empty() && account.charged() == 0);
    }

    #[test]
    fn a_queue_is_full_by_bytes_or_by_messages() {
        let (mut msgs, _, id) = queue();
        let q = msgs.queues.get_mut(id).unwrap();
        q.limit = 4;
        q.send(message(1, "abc"), 3, 9);
        assert!(q.has_room(1) && !q.has_room(2) && !q.has_room(u64::MAX));
        for _ in 0..3 {
            q.send(message(1, ""), 3, 9);
        }
        assert!(!q.has_room(0));
        msgs.check().unwrap();
        let mut bad = msgs.clone();
        bad.queues.get_mut(id).unwrap().bytes = 4;
        assert!(bad.check().is_err());
        let mut bad = msgs.clone();
        bad.queues.get_mut(id).unwrap().messages[0].kind = 0;
        assert!(bad.check().is_err());
    }
}
