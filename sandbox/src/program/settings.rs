//! What tasks and processes have set of themselves that the monitor keeps and gives back: `prctl`, `nice`,
//! `personality` and the like.
//!
//! Who runs is a function of the seed and the exits, so priorities change nothing: they are kept, since
//! programs read them.

use serde::{Deserialize, Serialize};

/// `ADDR_NO_RANDOMIZE`: the next program's address space is not laid out at random.
pub const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
/// `READ_IMPLIES_EXEC`: what may be read may be executed.
pub const READ_IMPLIES_EXEC: u32 = 0x040_0000;
/// The part of a personality that says which system it is, and the 32-bit one of Linux.
pub const PERSONALITY_KIND: u32 = 0xff;
/// See [`PERSONALITY_KIND`].
pub const PERSONALITY_LINUX32: u32 = 8;
/// What a program with more privileges than its starter does not take over (`PER_CLEAR_ON_SETID`).
const CLEARED_FOR_SECURE: u32 = READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE | 0x020_0000 | 0x010_0000;

/// Nanoseconds that a timer may be late by default.
pub const DEFAULT_TIMER_SLACK: u64 = 50_000;
/// Bytes of a host's or domain's name at most.
pub const NAME_MAX: usize = 64;

/// How a task is scheduled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// -20 to 19: higher is nicer.
    pub nice: i32,
    /// `SCHED_*`.
    pub policy: u32,
    /// Priority under a real-time policy, else 0.
    pub priority: u32,
    /// `SCHED_RESET_ON_FORK`.
    pub reset_on_fork: bool,
    /// `ioprio_set`: class and level; 0 is none.
    pub io: u32,
    /// Nanoseconds that its timers may be late.
    pub slack: u64,
}

/// What a task has set of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How it is scheduled.
    pub scheduling: Scheduling,
    /// `personality`.
    pub personality: u32,
    /// `PR_SET_PDEATHSIG`.
    pub death_signal: u32,
    /// `PR_MCE_KILL`: what becomes of a process whose memory fails.
    pub memory_failure: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            scheduling: Scheduling { slack: DEFAULT_TIMER_SLACK, ..Scheduling::default() },
            personality: 0,
            death_signal: 0,
            memory_failure: 2,
        }
    }
}

impl Settings {
    /// What executing a program leaves of them; `secure`: it has more privileges than its starter.
    pub fn execute(&mut self, secure: bool) {
        self.personality &= !READ_IMPLIES_EXEC;
        if secure {
            self.death_signal = 0;
            self.personality &= !CLEARED_FOR_SECURE;
        }
    }

    /// What a task that is made from one with these does not take over.
    pub fn fork(&mut self) {
        self.death_signal = 0;
        let scheduling = &mut self.scheduling;
        if std::mem::take(&mut scheduling.reset_on_fork) {
            let real_time = scheduling.priority > 0;
            let nice = if real_time || scheduling.nice < 0 { 0 } else { scheduling.nice };
            *scheduling = Scheduling { nice, policy: 0, priority: 0, ..*scheduling };
        }
    }

    /// Whether a decoded state can be one.
    pub fn is_sound(&self) -> bool {
        let Scheduling { nice, policy, priority, .. } = self.scheduling;
        (-20..=19).contains(&nice)
            && matches!(policy, 0..=3 | 5 | 6)
            && priority <= 99
            && self.death_signal <= super::signal::number::MAX
            && self.memory_failure <= 2
    }
}

/// What a process has set of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSettings {
    /// `PR_SET_DUMPABLE`.
    pub dumpable: bool,
    /// `PR_SET_CHILD_SUBREAPER`.
    pub subreaper: bool,
    /// `PR_SET_THP_DISABLE`.
    pub no_huge_pages: bool,
    /// `/proc/self/oom_score_adj`.
    pub oom_score: i32,
    /// `/proc/self/coredump_filter`.
    pub core_filter: u32,
}

impl Default for ProcessSettings {
    fn default() -> ProcessSettings {
        ProcessSettings {
            dumpable: true,
            subreaper: false,
            no_huge_pages: false,
            oom_score: 0,
            core_filter: 0x33,
        }
    }
}

impl ProcessSettings {
    /// Whether a decoded state can be one.
    pub fn is_sound(&self) -> bool {
        (-1000..=1000).contains(&self.oom_score)
    }
}

/// What the machine is called (`struct new_utsname`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemNames {
    /// The machine's name.
    pub host_name: Vec<u8>,
    /// Its domain's.
    pub domain_name: Vec<u8>,
}

impl Default for SystemNames {
    fn default() -> SystemNames {
        SystemNames { host_name: b"dejavm".to_vec(), domain_name: b"(none)".to_vec() }
    }
}

impl SystemNames {
    /// Whether a decoded state can be one.
    pub fn is_sound(&self) -> bool {
        self.host_name.len() <= NAME_MAX && self.domain_name.len() <= NAME_MAX
    }
}
