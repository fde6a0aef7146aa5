//! POSIX message queues (`ipc/mqueue.c`): what one holds, and the names of them all.
//!
//! A queue is an inode without a name in the file system, so that a descriptor of it is like any other.
//! Names lead to such inodes, and hold them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::msg::Message;
use crate::machine::{BadState, expect};
use crate::program::fs::{InodeId, NAME_MAX};

/// Queues with names at most, for who is not privileged (`queues_max`).
pub const QUEUES_MAX: usize = 256;
/// Messages of a queue at most, and of one that says nothing about it (`msg_max`, `msg_default`).
pub const MSG_MAX: u64 = 10;
/// Bytes of a message at most, and of a queue that says nothing about it (`msgsize_max`, `msgsize_default`).
pub const MSGSIZE_MAX: u64 = 8192;
/// Messages of a queue at most whoever makes it (`HARD_MSGMAX`).
pub const HARD_MSG_MAX: u64 = 65_536;
/// Bytes of a message at most whoever makes it (`HARD_MSGSIZEMAX`).
pub const HARD_MSGSIZE_MAX: u64 = 16 << 20;
/// Behind the highest priority (`MQ_PRIO_MAX`).
pub const PRIORITIES: u64 = 32_768;
/// Queues with names at most whoever makes them: each costs of the quota, too.
const NAMES_MAX: usize = 4096;

/// Bytes that Linux counts for a message besides its text, and for a priority.
const MESSAGE_BYTES: u64 = 48;
const PRIORITY_BYTES: u64 = 48;

/// Who is told when a message comes into an empty queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The process.
    pub pid: u32,
    /// The signal and what comes along; nothing with `SIGEV_NONE`.
    pub signal: Option<(u32, u64)>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Messages at most.
    pub most: u64,
    /// Bytes of a message at most.
    pub size: u64,
    /// The user whose limit it counts against.
    pub user: u32,
    /// By priority.
    messages: BTreeMap<u32, VecDeque<Vec<u8>>>,
    /// How many messages.
    count: u64,
    /// Tasks that wait for a message.
    pub readers: VecDeque<u32>,
    /// Tasks that wait for room, whose messages are kept with them.
    pub writers: VecDeque<u32>,
    /// Who is told.
    pub notice: Option<Notice>,
}

impl Queue {
    /// An empty one.
    pub fn new(most: u64, size: u64, user: u32) -> Queue {
        Queue {
            most,
            size,
            user,
            messages: BTreeMap::new(),
            count: 0,
            readers: VecDeque::new(),
            writers: VecDeque::new(),
            notice: None,
        }
    }

    /// Bytes that it counts with against `RLIMIT_MSGQUEUE`, and costs of the quota, full or not.
    pub fn bytes(&self) -> u64 {
        let treesize = self.most * MESSAGE_BYTES + self.most.min(PRIORITIES) * PRIORITY_BYTES;
        treesize + self.most * self.size
    }

    /// Messages.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether no more fit.
    pub fn is_full(&self) -> bool {
        self.count >= self.most
    }

    /// Adds a message, for which there is room.
    pub fn put(&mut self, message: Message) {
        self.messages.entry(message.kind as u32).or_default().push_back(message.text);
        self.count += 1;
    }

    /// Takes the oldest message of the highest priority.
    pub fn take(&mut self) -> Option<Message> {
        let mut highest = self.messages.last_entry()?;
        let priority = *highest.key();
        let text = highest.get_mut().pop_front();
        if highest.get().is_empty() {
            highest.remove();
        }
        self.count = self.count.saturating_sub(1);
        text.map(|text| Message { kind: priority.into(), text })
    }

    /// Puts a message back that was taken just now.
    pub fn put_back(&mut self, message: Message) {
        self.messages.entry(message.kind as u32).or_default().push_front(message.text);
        self.count += 1;
    }

    /// A task waits no more.
    pub fn leave(&mut self, tid: u32) {
        self.readers.retain(|waiting| *waiting != tid);
        self.writers.retain(|waiting| *waiting != tid);
    }

    /// A process has closed a descriptor of it: it is told nothing any more.
    pub fn closed(&mut self, pid: u32) {
        self.notice = self.notice.filter(|notice| notice.pid != pid);
    }

    /// Whether it can be one: for a state out of a file.
    pub fn is_sound(&self) -> bool {
        let Queue { most, size, user: _, messages, count, readers, writers, notice } = self;
        let fits = |text: &Vec<u8>| text.len() as u64 <= *size;
        let priorities = messages.iter().all(|(priority, texts)| {
            u64::from(*priority) < PRIORITIES && !texts.is_empty() && texts.iter().all(fits)
        });
        let waiting: BTreeSet<&u32> = readers.iter().chain(writers).collect();
        let signal = notice.and_then(|notice| notice.signal).is_none_or(|(signal, _)| signal <= 64);
        (1..=HARD_MSG_MAX).contains(most)
            && (1..=HARD_MSGSIZE_MAX).contains(size)
            && priorities
            && messages.values().map(|texts| texts.len() as u64).sum::<u64>() == *count
            && count <= most
            && waiting.len() == readers.len() + writers.len()
            && signal
    }
}

/// The names of all queues.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Names {
    names: BTreeMap<Vec<u8>, InodeId>,
    /// All queues, those that have lost their names included, and some that are no more.
    all: BTreeSet<InodeId>,
}

impl Names {
    /// How many names there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Whether there may be no more, whoever asks.
    pub fn is_full(&self) -> bool {
        self.names.len() >= NAMES_MAX
    }

    /// The queue of a name.
    pub fn find(&self, name: &[u8]) -> Option<InodeId> {
        self.names.get(name).copied()
    }

    /// Gives a queue a name that is free, which holds it.
    pub fn add(&mut self, name: Vec<u8>, queue: InodeId) {
        self.names.insert(name, queue);
        self.all.insert(queue);
    }

    /// Takes a name away; what it led to is to be released.
    pub fn remove(&mut self, name: &[u8]) -> Option<InodeId> {
        self.names.remove(name)
    }

    /// All queues of which `is_there` knows.
    pub fn retain(&mut self, is_there: impl Fn(InodeId) -> bool) -> impl Iterator<Item = InodeId> {
        self.all.retain(|queue| is_there(*queue));
        self.all.iter().copied()
    }

    /// What the names hold.
    pub fn held(&self) -> impl Iterator<Item = InodeId> {
        self.names.values().copied()
    }

    /// Checks what a file claims; `is_queue` says whether an inode is one.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self, is_queue: impl Fn(InodeId) -> bool) -> Result<(), BadState> {
        let Names { names, all } = self;
        let named = names.values().all(|queue| is_queue(*queue) && all.contains(queue));
        let sound = |name: &Vec<u8>| is_name(name);
        expect(named && names.len() <= NAMES_MAX && names.keys().all(sound), "a message queue's name")
    }
}

/// Whether a queue may be called so.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && name != b"." && name != b".." && !name.contains(&b'/')
}

/// Whether it can be a message of a queue whose messages have at most `size` bytes.
pub(super) fn is_message(size: u64, message: &Message) -> bool {
    u64::try_from(message.kind).is_ok_and(|priority| priority < PRIORITIES)
        && message.text.len() as u64 <= size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: i64, text: &str) -> Message {
        Message { kind, text: text.as_bytes().to_vec() }
    }

    #[test]
    fn the_highest_priority_comes_first() {
        let mut queue = Queue::new(4, 8, 0);
        for (priority, text) in [(1, "a"), (9, "b"), (1, "c"), (9, "d")] {
            queue.put(message(priority, text));
        }
        assert!(queue.is_full() && queue.is_sound());
        let order: Vec<_> = std::iter::from_fn(|| queue.take()).map(|m| (m.kind, m.text)).collect();
        let expected = [(9, "b"), (9, "d"), (1, "a"), (1, "c")].map(|(p, t)| (p, t.as_bytes().to_vec()));
        assert_eq!((order, queue.count()), (expected.to_vec(), 0));
        // As `mqueue_get_inode` counts a queue of ten messages of 8192 bytes.
        assert_eq!(Queue::new(10, 8192, 0).bytes(), 82_880);
    }

    #[test]
    fn a_state_out_of_a_file_is_checked() {
        let mut queue = Queue::new(2, 3, 0);
        queue.put(message(1, "abc"));
        queue.readers.extend([3, 4]);
        assert!(queue.is_sound());
        let bad = |change: fn(&mut Queue)| {
            let mut bad = queue.clone();
            change(&mut bad);
            !bad.is_sound()
        };
        assert!(bad(|q| q.size = 2) && bad(|q| q.count = 2) && bad(|q| q.most = 0));
        assert!(bad(|q| q.writers.push_back(3)));
        assert!(bad(|q| q.notice = Some(Notice { pid: 3, signal: Some((65, 0)) })));
        assert!(bad(|q| drop(q.messages.insert(7, VecDeque::new()))));
        queue.leave(3);
        assert_eq!(queue.readers, [4]);
    }

    #[test]
    fn names_of_queues() {
        assert!(is_name(b"queue") && is_name(&[b'x'; 255]));
        assert!(
            !is_name(b"") && !is_name(b".") && !is_name(b"..") && !is_name(b"a/b") && !is_name(&[b'x'; 256])
        );
    }
}
