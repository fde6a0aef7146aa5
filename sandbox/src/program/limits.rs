//! Resource limits (`include/uapi/asm-generic/resource.h`).

/// Soft and hard limits, by number.
pub type Limits = [(u64, u64); 16];

/// `RLIM_INFINITY`.
const INFINITY: u64 = u64::MAX;

/// `RLIMIT_CPU`: seconds.
pub const CPU: usize = 0;
/// `RLIMIT_FSIZE`: bytes.
pub const FSIZE: usize = 1;
/// `RLIMIT_DATA`: bytes.
pub const DATA: usize = 2;
/// `RLIMIT_STACK`: bytes.
pub const STACK: usize = 3;
const CORE: usize = 4;
/// `RLIMIT_NPROC`: tasks of a user.
pub const NPROC: usize = 6;
/// `RLIMIT_NOFILE`: descriptors.
pub const NOFILE: usize = 7;
/// `RLIMIT_MEMLOCK`: bytes.
pub const MEMLOCK: usize = 8;
/// `RLIMIT_AS`: bytes.
pub const AS: usize = 9;
/// `RLIMIT_SIGPENDING`: signals that wait, and timers that were made.
pub const SIGPENDING: usize = 11;
/// `RLIMIT_MSGQUEUE`: bytes of POSIX message queues of a user.
pub const MSGQUEUE: usize = 12;
/// `RLIMIT_NICE`: 20 less the lowest nice value.
pub const NICE: usize = 13;
/// `RLIMIT_RTPRIO`: the highest real-time priority.
pub const RTPRIO: usize = 14;

/// Signals that wait.
const SIGNALS: u64 = 8192;

/// Tasks of a user that is not privileged.
const TASKS: u64 = 2048;

/// The limits that the first processes have.
pub fn first() -> Limits {
    let mut limits = [(INFINITY, INFINITY); 16];
    limits[STACK] = (super::exec::STACK_BYTES, INFINITY);
    limits[CORE] = (0, INFINITY);
    limits[NPROC] = (TASKS, TASKS);
    limits[NOFILE] = (1024, 4096);
    limits[MEMLOCK] = (8 << 20, 8 << 20);
    limits[SIGPENDING] = (SIGNALS, SIGNALS);
    limits[MSGQUEUE] = (819_200, 819_200);
    limits[NICE] = (0, 0);
    limits[RTPRIO] = (0, 0);
    limits
}
