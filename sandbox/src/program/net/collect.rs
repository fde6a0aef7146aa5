//! Sockets that nobody can reach any more: descriptors of theirs are in messages that only they could
//! receive (`net/unix/garbage.c`).

use std::collections::BTreeSet;

use super::Sockets;
use crate::program::files::DescId;
use crate::program::fs::InodeId;

impl Sockets {
    /// Notes that only messages hold `more` descriptions from now on, out of so many. Whether to look for
    /// those that nobody can reach: only when that is no more work than what was done since the last time.
    pub fn lose(&mut self, more: u64, descriptions: usize) -> bool {
        /// What may be looked at for one that is lost.
        const WORK: u64 = 16;
        self.lost = if self.passed == 0 { 0 } else { self.lost.saturating_add(more) };
        self.lost > 0 && self.lost.saturating_mul(WORK) >= self.passed + descriptions as u64 / WORK
    }

    /// Whether there may be some that nobody can reach.
    pub fn any_lost(&self) -> bool {
        self.lost > 0
    }

    /// Throws away what is in the queues of those sockets that cannot be reached from `roots`, which are
    /// held by more than messages. `inode_of` says what a description is open on.
    pub fn collect(
        &mut self,
        roots: impl Iterator<Item = InodeId>,
        inode_of: impl Fn(DescId) -> Option<InodeId>,
    ) {
        self.lost = 0;
        let mut reached: BTreeSet<InodeId> = BTreeSet::new();
        let mut left: Vec<InodeId> = roots.collect();
        while let Some(id) = left.pop() {
            let Some(socket) = self.map.get(&id) else { continue };
            if !reached.insert(id) {
                continue;
            }
            let passed = socket.queue.iter().flat_map(|message| &message.passed);
            left.extend(passed.filter_map(|description| inode_of(*description)));
            left.extend(&socket.pending);
        }
        let holds = |socket: &super::Socket| socket.queue.iter().any(|message| !message.passed.is_empty());
        let lost = self.map.iter().filter(|(id, socket)| !reached.contains(id) && holds(socket));
        let lost: Vec<InodeId> = lost.map(|(id, _)| *id).collect();
        lost.into_iter().for_each(|id| self.purge(id));
    }
}
