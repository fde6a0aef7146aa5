//! What happened in a run: counts and times, for people and for scripts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::exit::{Rung, SourceKind};

/// Exits by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitCounts {
    /// System calls.
    pub syscalls: u64,
    /// Trapped instructions.
    pub instructions: u64,
    /// Exceptions that became signals.
    pub exceptions: u64,
    /// Timers that went off behind a stepped instruction.
    pub timers: u64,
    /// Turns that ended behind a stepped instruction, or a number of branches.
    pub preemptions: u64,
    /// Accesses of ports by a bare-metal guest.
    pub ports: u64,
}

/// Where time went, nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// In `KVM_RUN`.
    pub guest_ns: u64,
    /// Between two `KVM_RUN`s.
    pub monitor_ns: u64,
    /// Of that, in page sources: reading, decompressing, checking.
    pub fetch_ns: u64,
}

/// Statistics of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Exits by kind.
    pub exits: ExitCounts,
    /// Times that a program whose branches are counted came to code whose are not: that it makes itself, or may
    /// write. What it did from there to its next exit was not counted.
    pub uncounted: u64,
    /// Instructions that were stepped, so that time passed while a timer was armed. Each leaves
    /// guest mode, but is no exit that is compared.
    pub steps: u64,
    /// System calls by number.
    pub syscalls: BTreeMap<u64, u64>,
    /// Faults by how they were found.
    pub faults_by_rung: BTreeMap<Rung, u64>,
    /// Faults by where the page came from.
    pub faults_by_source: BTreeMap<SourceKind, u64>,
    /// Pages brought in.
    pub pages: u64,
    /// Pages made absent again by fault injection.
    pub evicted: u64,
    /// Memory slots given to KVM.
    pub slots: u64,
    /// Bytes of guest memory on the host at the end.
    pub resident_bytes: u64,
    /// Times.
    pub time: Times,
}

impl Stats {
    /// Counts a fault that brought in `pages` pages.
    pub fn count_fault(&mut self, rung: Rung, source: SourceKind, pages: u64) {
        *self.faults_by_rung.entry(rung).or_default() += 1;
        *self.faults_by_source.entry(source).or_default() += 1;
        self.pages += pages;
    }

    /// All faults.
    pub fn faults(&self) -> u64 {
        self.faults_by_rung.values().sum()
    }
}
