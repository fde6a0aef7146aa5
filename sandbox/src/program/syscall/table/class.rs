//! Classes of system calls, as strace has them.

use super::{Argument, Pointee, Syscall};

/// A class of system calls. A call may be in several, or in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It is given a path, or gives one.
    File,
    /// It begins or ends a process, waits for one, or sends one a signal.
    Process,
    /// It is about sockets.
    Network,
    /// It is about signals.
    Signal,
    /// It is about System V shared memory, semaphores and messages.
    Ipc,
    /// It is given a file descriptor, or gives one, and is not of [`Class::Network`].
    Descriptor,
    /// It is about mappings of memory.
    Memory,
    /// It is about the time.
    Clock,
}

impl Class {
    /// All classes.
    pub const ALL: [Class; 8] = [
        Class::File,
        Class::Process,
        Class::Network,
        Class::Signal,
        Class::Ipc,
        Class::Descriptor,
        Class::Memory,
        Class::Clock,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Class::File => "file",
            Class::Process => "process",
            Class::Network => "network",
            Class::Signal => "signal",
            Class::Ipc => "ipc",
            Class::Descriptor => "desc",
            Class::Memory => "memory",
            Class::Clock => "clock",
        }
    }

    /// Whether a call is in it.
    pub fn has(self, call: &Syscall) -> bool {
        let listed = |names: &[&str]| names.contains(&call.name());
        let takes = |wanted: fn(&Argument) -> bool| call.arguments().iter().any(wanted);
        match self {
            Class::File => {
                takes(|kind| matches!(kind, Argument::In(Pointee::Path) | Argument::Out(Pointee::Path)))
            }
            Class::Descriptor => {
                call.name() == "sendfile"
                    || listed(GIVE_DESCRIPTORS)
                    || takes(is_descriptor) && !Class::Network.has(call)
            }
            Class::Process => listed(PROCESS),
            Class::Network => listed(NETWORK),
            Class::Signal => listed(SIGNAL),
            Class::Ipc => listed(IPC),
            Class::Memory => listed(MEMORY),
            Class::Clock => listed(CLOCK),
        }
    }
}

fn is_descriptor(kind: &Argument) -> bool {
    use Pointee::{FdSet, IntPair, PollFds};
    matches!(
        kind,
        Argument::Descriptor | Argument::Directory | Argument::In(PollFds | FdSet) | Argument::Out(IntPair)
    )
}

/// Calls that give a descriptor and are given none.
const GIVE_DESCRIPTORS: &[&str] = &[
    "open",
    "creat",
    "epoll_create",
    "epoll_create1",
    "eventfd",
    "eventfd2",
    "timerfd_create",
    "memfd_create",
    "inotify_init",
    "inotify_init1",
    "fanotify_init",
    "mq_open",
    "perf_event_open",
    "pidfd_open",
    "userfaultfd",
    "bpf",
    "io_uring_setup",
    "open_by_handle_at",
    "memfd_secret",
];

const PROCESS: &[&str] = &[
    "clone",
    "clone3",
    "fork",
    "vfork",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "wait4",
    "waitid",
    "kill",
    "tkill",
    "tgkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "pidfd_send_signal",
];

const NETWORK: &[&str] = &[
    "sendfile",
    "socket",
    "connect",
    "accept",
    "accept4",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "sendmmsg",
    "recvmmsg",
    "shutdown",
    "bind",
    "listen",
    "getsockname",
    "getpeername",
    "socketpair",
    "setsockopt",
    "getsockopt",
    "getpmsg",
    "putpmsg",
];

const SIGNAL: &[&str] = &[
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "rt_sigsuspend",
    "sigaltstack",
    "pause",
    "kill",
    "tkill",
    "tgkill",
    "signalfd",
    "signalfd4",
    "pidfd_send_signal",
];

const IPC: &[&str] = &[
    "shmget",
    "shmat",
    "shmctl",
    "shmdt",
    "semget",
    "semop",
    "semtimedop",
    "semctl",
    "msgget",
    "msgsnd",
    "msgrcv",
    "msgctl",
];

const MEMORY: &[&str] = &[
    "mmap",
    "mprotect",
    "pkey_mprotect",
    "munmap",
    "mremap",
    "brk",
    "msync",
    "mincore",
    "madvise",
    "mlock",
    "mlock2",
    "munlock",
    "mlockall",
    "munlockall",
    "shmat",
    "shmdt",
    "remap_file_pages",
    "mbind",
    "set_mempolicy",
    "get_mempolicy",
    "set_mempolicy_home_node",
    "migrate_pages",
    "move_pages",
    "io_setup",
    "io_destroy",
    "map_shadow_stack",
    "mseal",
];

const CLOCK: &[&str] = &[
    "gettimeofday",
    "settimeofday",
    "time",
    "adjtimex",
    "clock_gettime",
    "clock_settime",
    "clock_getres",
    "clock_adjtime",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::syscall::table;

    #[test]
    fn classes_are_of_calls() {
        let rows = table::all();
        for list in [GIVE_DESCRIPTORS, PROCESS, NETWORK, SIGNAL, IPC, MEMORY, CLOCK] {
            for name in list {
                assert!(rows.iter().any(|row| row.name() == *name), "{name}");
            }
        }
        let classes = |name: &str| {
            let row = rows.iter().find(|row| row.name() == name).expect("a row");
            let has = Class::ALL.into_iter().filter(|class| class.has(row));
            has.map(Class::name).collect::<Vec<_>>().join(" ")
        };
        // As strace has them (its `syscallent.h`).
        let known = [
            ("openat", "file desc"),
            ("read", "desc"),
            ("execve", "file process"),
            ("connect", "network"),
            ("sendfile", "network desc"),
            ("socketpair", "network"),
            ("mmap", "desc memory"),
            ("kill", "process signal"),
            ("shmat", "ipc memory"),
            ("getcwd", "file"),
            ("pipe2", "desc"),
            ("poll", "desc"),
            ("select", "desc"),
            ("symlink", "file"),
            ("memfd_create", "desc"),
            ("clock_gettime", "clock"),
            ("getpid", ""),
            ("futex", ""),
        ];
        for (name, expected) in known {
            assert_eq!(classes(name), expected, "{name}");
        }
    }
}
