//! Numbers and flags by the names that C gives them (Linux `include/uapi`, x86-64).

use dejavm_sandbox::program::syscall::table::Names;

/// Names of numbers or of bits.
type Table = &'static [(u32, &'static str)];

/// A number by its name or names.
pub(super) fn named(names: Names, value: u64) -> String {
    let low = value as u32;
    match names {
        Names::Whence => number(low, WHENCE),
        Names::Access => flags(low, "F_OK", ACCESS),
        Names::At => flags(low, "0", AT),
        Names::Domain => number(low, DOMAIN),
        Names::SocketType => {
            let base = number(low & 0xf, SOCKET_TYPE);
            join(&base, low & !0xf, SOCKET_FLAGS)
        }
        Names::Message => flags(low, "0", MESSAGE),
        Names::Shutdown => number(low, SHUTDOWN),
        Names::Clock => number(low, CLOCK),
        Names::MaskHow => number(low, MASK_HOW),
        Names::Futex => {
            let base = number(low & 0x7f, FUTEX);
            let private = if low & FUTEX_PRIVATE != 0 { "_PRIVATE" } else { "" };
            join(
                &format!("{base}{private}"),
                low & !(0x7f | FUTEX_PRIVATE),
                &[(0x100, "FUTEX_CLOCK_REALTIME")],
            )
        }
        Names::Advice => number(low, ADVICE),
        Names::Wait => flags(low, "0", WAIT),
        Names::Ioctl => number(low, IOCTL),
        Names::Resource => number(low, RESOURCE),
        Names::Fcntl => number(low, FCNTL),
        Names::Clone => clone_flags(value),
        Names::EpollOperation => number(low, EPOLL_OPERATION),
        Names::Prctl => number(low, PRCTL),
        Names::ArchPrctl => number(low, ARCH_PRCTL),
        Names::Random => flags(low, "0", RANDOM),
        Names::Remap => flags(low, "0", REMAP),
        Names::SocketLevel => number(low, SOCKET_LEVEL),
        Names::SocketOption => number(low, SOCKET_OPTION),
        Names::Memfd => flags(low, "0", MEMFD),
        Names::TimerFlags => flags(low, "0", &[(1, "TIMER_ABSTIME")]),
        Names::DescriptorFlags => descriptor_flags(low, "O"),
        Names::EpollFlags => descriptor_flags(low, "EPOLL"),
        Names::EventFlags => descriptor_flags(low, "EFD"),
        Names::SocketFlags => descriptor_flags(low, "SOCK"),
        Names::SignalFlags => descriptor_flags(low, "SFD"),
        Names::TimerDescriptorFlags => descriptor_flags(low, "TFD"),
        Names::StatxMask => statx_mask(low),
        Names::Usage => number(low, USAGE),
        Names::Interval => number(low, INTERVAL),
    }
}

/// One of several numbers by its name, else the number.
pub(super) fn number(value: u32, names: Table) -> String {
    match names.iter().find(|(number, _)| *number == value) {
        Some((_, name)) => (*name).into(),
        None if value < 10 => value.to_string(),
        None => format!("{value:#x}"),
    }
}

/// The names of the bits, or `none`.
pub(super) fn flags(value: u32, none: &str, names: &[(u32, &str)]) -> String {
    if value == 0 { none.into() } else { join("", value, names) }
}

/// The names of the bits behind a first name, if there is one.
pub(super) fn join(first: &str, value: u32, names: &[(u32, &str)]) -> String {
    let mut rest = value;
    let mut parts: Vec<String> = if first.is_empty() { Vec::new() } else { vec![first.into()] };
    for &(bits, name) in names {
        if rest & bits == bits {
            rest &= !bits;
            parts.push(name.into());
        }
    }
    if rest != 0 {
        parts.push(format!("{rest:#x}"));
    }
    parts.join("|")
}

/// Flags of a clone, with the signal of its end in the lowest byte.
pub(super) fn clone_flags(value: u64) -> String {
    /// `CSIGNAL`.
    const SIGNAL: u32 = 0xff;
    let low = value as u32;
    let mut parts = Vec::new();
    if low & !SIGNAL != 0 {
        parts.push(join("", low & !SIGNAL, CLONE));
    }
    if value >> 32 != 0 {
        parts.push(format!("{:#x}", value >> 32 << 32));
    }
    if low & SIGNAL != 0 {
        parts.push(signal(u64::from(low & SIGNAL)));
    }
    if parts.is_empty() { "0".into() } else { parts.join("|") }
}

fn descriptor_flags(value: u32, prefix: &str) -> String {
    const NONBLOCK: u32 = 0o4000;
    const CLOEXEC: u32 = 0o2000000;
    let mut parts = Vec::new();
    for (bit, name) in [(CLOEXEC, "CLOEXEC"), (NONBLOCK, "NONBLOCK")] {
        if value & bit != 0 {
            parts.push(format!("{prefix}_{name}"));
        }
    }
    match value & !(CLOEXEC | NONBLOCK) {
        0 => {}
        rest => parts.push(format!("{rest:#x}")),
    }
    if parts.is_empty() { "0".into() } else { parts.join("|") }
}

pub(super) fn statx_mask(value: u32) -> String {
    flags(value, "0", STATX)
}

/// Mode of a file with its type, such as `S_IFREG|0644`.
pub(super) fn file_mode(mode: u32) -> String {
    let kind = match mode & 0o170000 {
        0o140000 => "S_IFSOCK|",
        0o120000 => "S_IFLNK|",
        0o100000 => "S_IFREG|",
        0o060000 => "S_IFBLK|",
        0o040000 => "S_IFDIR|",
        0o020000 => "S_IFCHR|",
        0o010000 => "S_IFIFO|",
        _ => "",
    };
    let set = [(0o4000, "S_ISUID|"), (0o2000, "S_ISGID|"), (0o1000, "S_ISVTX|")];
    let set: String = set.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, name)| *name).collect();
    format!("{kind}{set}{}", octal(mode & 0o777))
}

/// As C writes octal: one zero in front.
pub(super) fn octal(value: u32) -> String {
    if value == 0 { "0".into() } else { format!("0{value:o}") }
}

/// A signal by its name, such as `SIGINT`; a number that is none as that.
pub fn signal(number: u64) -> String {
    match signal_name(number) {
        Some(name) => format!("SIG{name}"),
        None => number.to_string(),
    }
}

/// A signal's name without `SIG`.
pub(super) fn signal_name(number: u64) -> Option<String> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    /// The first of the real-time ones.
    const REAL_TIME: u64 = 32;
    match number {
        1..REAL_TIME => Some(NAMES[number as usize - 1].into()),
        REAL_TIME => Some("RTMIN".into()),
        33..=64 => Some(format!("RT_{}", number - REAL_TIME)),
        _ => None,
    }
}

/// Events of `poll`.
pub(super) fn poll_events(events: u16) -> String {
    flags(events.into(), "0", POLL)
}

/// Events of epoll.
pub(super) fn epoll_events(events: u32) -> String {
    flags(events, "0", EPOLL)
}

/// Flags of `sigaction`.
pub(super) fn action_flags(value: u64) -> String {
    flags(value as u32, "0", ACTION)
}

/// Why a child's `SIGCHLD` came.
pub(super) fn child_code(code: i32) -> String {
    number(code as u32, CHILD)
}

const WHENCE: Table =
    &[(0, "SEEK_SET"), (1, "SEEK_CUR"), (2, "SEEK_END"), (3, "SEEK_DATA"), (4, "SEEK_HOLE")];
const ACCESS: Table = &[(4, "R_OK"), (2, "W_OK"), (1, "X_OK")];
const AT: Table = &[
    (0x100, "AT_SYMLINK_NOFOLLOW"),
    (0x200, "AT_REMOVEDIR"),
    (0x400, "AT_SYMLINK_FOLLOW"),
    (0x800, "AT_NO_AUTOMOUNT"),
    (0x1000, "AT_EMPTY_PATH"),
    (0x2000, "AT_STATX_FORCE_SYNC"),
    (0x4000, "AT_STATX_DONT_SYNC"),
];
pub(super) const DOMAIN: Table = &[
    (0, "AF_UNSPEC"),
    (1, "AF_UNIX"),
    (2, "AF_INET"),
    (10, "AF_INET6"),
    (16, "AF_NETLINK"),
    (17, "AF_PACKET"),
    (40, "AF_VSOCK"),
];
const SOCKET_TYPE: Table = &[
    (1, "SOCK_STREAM"),
    (2, "SOCK_DGRAM"),
    (3, "SOCK_RAW"),
    (4, "SOCK_RDM"),
    (5, "SOCK_SEQPACKET"),
    (10, "SOCK_PACKET"),
];
const SOCKET_FLAGS: Table = &[(0o2000000, "SOCK_CLOEXEC"), (0o4000, "SOCK_NONBLOCK")];
const MESSAGE: Table = &[
    (1, "MSG_OOB"),
    (2, "MSG_PEEK"),
    (4, "MSG_DONTROUTE"),
    (8, "MSG_CTRUNC"),
    (0x20, "MSG_TRUNC"),
    (0x40, "MSG_DONTWAIT"),
    (0x80, "MSG_EOR"),
    (0x100, "MSG_WAITALL"),
    (0x4000, "MSG_NOSIGNAL"),
    (0x8000, "MSG_MORE"),
    (0x10000, "MSG_WAITFORONE"),
    (0x4000_0000, "MSG_CMSG_CLOEXEC"),
];
const SHUTDOWN: Table = &[(0, "SHUT_RD"), (1, "SHUT_WR"), (2, "SHUT_RDWR")];
const CLOCK: Table = &[
    (0, "CLOCK_REALTIME"),
    (1, "CLOCK_MONOTONIC"),
    (2, "CLOCK_PROCESS_CPUTIME_ID"),
    (3, "CLOCK_THREAD_CPUTIME_ID"),
    (4, "CLOCK_MONOTONIC_RAW"),
    (5, "CLOCK_REALTIME_COARSE"),
    (6, "CLOCK_MONOTONIC_COARSE"),
    (7, "CLOCK_BOOTTIME"),
    (11, "CLOCK_TAI"),
];
const MASK_HOW: Table = &[(0, "SIG_BLOCK"), (1, "SIG_UNBLOCK"), (2, "SIG_SETMASK")];
const FUTEX_PRIVATE: u32 = 0x80;
const FUTEX: Table = &[
    (0, "FUTEX_WAIT"),
    (1, "FUTEX_WAKE"),
    (3, "FUTEX_REQUEUE"),
    (4, "FUTEX_CMP_REQUEUE"),
    (5, "FUTEX_WAKE_OP"),
    (6, "FUTEX_LOCK_PI"),
    (7, "FUTEX_UNLOCK_PI"),
    (8, "FUTEX_TRYLOCK_PI"),
    (9, "FUTEX_WAIT_BITSET"),
    (10, "FUTEX_WAKE_BITSET"),
    (11, "FUTEX_WAIT_REQUEUE_PI"),
    (12, "FUTEX_CMP_REQUEUE_PI"),
    (13, "FUTEX_LOCK_PI2"),
];
const ADVICE: Table = &[
    (0, "MADV_NORMAL"),
    (1, "MADV_RANDOM"),
    (2, "MADV_SEQUENTIAL"),
    (3, "MADV_WILLNEED"),
    (4, "MADV_DONTNEED"),
    (8, "MADV_FREE"),
    (9, "MADV_REMOVE"),
    (10, "MADV_DONTFORK"),
    (11, "MADV_DOFORK"),
    (12, "MADV_MERGEABLE"),
    (13, "MADV_UNMERGEABLE"),
    (14, "MADV_HUGEPAGE"),
    (15, "MADV_NOHUGEPAGE"),
    (16, "MADV_DONTDUMP"),
    (17, "MADV_DODUMP"),
    (18, "MADV_WIPEONFORK"),
    (19, "MADV_KEEPONFORK"),
    (20, "MADV_COLD"),
    (21, "MADV_PAGEOUT"),
    (22, "MADV_POPULATE_READ"),
    (23, "MADV_POPULATE_WRITE"),
    (24, "MADV_DONTNEED_LOCKED"),
    (25, "MADV_COLLAPSE"),
];
const WAIT: Table = &[
    (1, "WNOHANG"),
    (2, "WSTOPPED"),
    (4, "WEXITED"),
    (8, "WCONTINUED"),
    (0x0100_0000, "WNOWAIT"),
    (0x2000_0000, "__WNOTHREAD"),
    (0x4000_0000, "__WALL"),
    (0x8000_0000, "__WCLONE"),
];
const IOCTL: Table = &[
    (0x5401, "TCGETS"),
    (0x5402, "TCSETS"),
    (0x5403, "TCSETSW"),
    (0x5404, "TCSETSF"),
    (0x5409, "TCSBRK"),
    (0x540a, "TCXONC"),
    (0x540b, "TCFLSH"),
    (0x540e, "TIOCSCTTY"),
    (0x540f, "TIOCGPGRP"),
    (0x5410, "TIOCSPGRP"),
    (0x5411, "TIOCOUTQ"),
    (0x5413, "TIOCGWINSZ"),
    (0x5414, "TIOCSWINSZ"),
    (0x541b, "FIONREAD"),
    (0x5421, "FIONBIO"),
    (0x5422, "TIOCNOTTY"),
    (0x5429, "TIOCGSID"),
    (0x5450, "FIONCLEX"),
    (0x5451, "FIOCLEX"),
    (0x5452, "FIOASYNC"),
    (0x5460, "FIOQSIZE"),
    (0x4004_9409, "FICLONE"),
    (0x8004_5430, "TIOCGPTN"),
];
const RESOURCE: Table = &[
    (0, "RLIMIT_CPU"),
    (1, "RLIMIT_FSIZE"),
    (2, "RLIMIT_DATA"),
    (3, "RLIMIT_STACK"),
    (4, "RLIMIT_CORE"),
    (5, "RLIMIT_RSS"),
    (6, "RLIMIT_NPROC"),
    (7, "RLIMIT_NOFILE"),
    (8, "RLIMIT_MEMLOCK"),
    (9, "RLIMIT_AS"),
    (10, "RLIMIT_LOCKS"),
    (11, "RLIMIT_SIGPENDING"),
    (12, "RLIMIT_MSGQUEUE"),
    (13, "RLIMIT_NICE"),
    (14, "RLIMIT_RTPRIO"),
    (15, "RLIMIT_RTTIME"),
];
const FCNTL: Table = &[
    (0, "F_DUPFD"),
    (1, "F_GETFD"),
    (2, "F_SETFD"),
    (3, "F_GETFL"),
    (4, "F_SETFL"),
    (5, "F_GETLK"),
    (6, "F_SETLK"),
    (7, "F_SETLKW"),
    (8, "F_SETOWN"),
    (9, "F_GETOWN"),
    (10, "F_SETSIG"),
    (11, "F_GETSIG"),
    (15, "F_SETOWN_EX"),
    (16, "F_GETOWN_EX"),
    (36, "F_OFD_GETLK"),
    (37, "F_OFD_SETLK"),
    (38, "F_OFD_SETLKW"),
    (1024, "F_SETLEASE"),
    (1025, "F_GETLEASE"),
    (1026, "F_NOTIFY"),
    (1030, "F_DUPFD_CLOEXEC"),
    (1031, "F_SETPIPE_SZ"),
    (1032, "F_GETPIPE_SZ"),
    (1033, "F_ADD_SEALS"),
    (1034, "F_GET_SEALS"),
];
const CLONE: Table = &[
    (0x100, "CLONE_VM"),
    (0x200, "CLONE_FS"),
    (0x400, "CLONE_FILES"),
    (0x800, "CLONE_SIGHAND"),
    (0x1000, "CLONE_PIDFD"),
    (0x2000, "CLONE_PTRACE"),
    (0x4000, "CLONE_VFORK"),
    (0x8000, "CLONE_PARENT"),
    (0x1_0000, "CLONE_THREAD"),
    (0x2_0000, "CLONE_NEWNS"),
    (0x4_0000, "CLONE_SYSVSEM"),
    (0x8_0000, "CLONE_SETTLS"),
    (0x10_0000, "CLONE_PARENT_SETTID"),
    (0x20_0000, "CLONE_CHILD_CLEARTID"),
    (0x40_0000, "CLONE_DETACHED"),
    (0x80_0000, "CLONE_UNTRACED"),
    (0x100_0000, "CLONE_CHILD_SETTID"),
    (0x200_0000, "CLONE_NEWCGROUP"),
    (0x400_0000, "CLONE_NEWUTS"),
    (0x800_0000, "CLONE_NEWIPC"),
    (0x1000_0000, "CLONE_NEWUSER"),
    (0x2000_0000, "CLONE_NEWPID"),
    (0x4000_0000, "CLONE_NEWNET"),
    (0x8000_0000, "CLONE_IO"),
];
const EPOLL_OPERATION: Table = &[(1, "EPOLL_CTL_ADD"), (2, "EPOLL_CTL_DEL"), (3, "EPOLL_CTL_MOD")];
const PRCTL: Table = &[
    (1, "PR_SET_PDEATHSIG"),
    (2, "PR_GET_PDEATHSIG"),
    (3, "PR_GET_DUMPABLE"),
    (4, "PR_SET_DUMPABLE"),
    (7, "PR_GET_KEEPCAPS"),
    (8, "PR_SET_KEEPCAPS"),
    (15, "PR_SET_NAME"),
    (16, "PR_GET_NAME"),
    (21, "PR_GET_SECCOMP"),
    (22, "PR_SET_SECCOMP"),
    (23, "PR_CAPBSET_READ"),
    (24, "PR_CAPBSET_DROP"),
    (29, "PR_SET_TIMERSLACK"),
    (30, "PR_GET_TIMERSLACK"),
    (36, "PR_SET_CHILD_SUBREAPER"),
    (37, "PR_GET_CHILD_SUBREAPER"),
    (38, "PR_SET_NO_NEW_PRIVS"),
    (39, "PR_GET_NO_NEW_PRIVS"),
    (0x5356_4d41, "PR_SET_VMA"),
];
const ARCH_PRCTL: Table = &[
    (0x1001, "ARCH_SET_GS"),
    (0x1002, "ARCH_SET_FS"),
    (0x1003, "ARCH_GET_FS"),
    (0x1004, "ARCH_GET_GS"),
    (0x1011, "ARCH_GET_CPUID"),
    (0x1012, "ARCH_SET_CPUID"),
];
const RANDOM: Table = &[(1, "GRND_NONBLOCK"), (2, "GRND_RANDOM"), (4, "GRND_INSECURE")];
const REMAP: Table = &[(1, "MREMAP_MAYMOVE"), (2, "MREMAP_FIXED"), (4, "MREMAP_DONTUNMAP")];
const SOCKET_LEVEL: Table =
    &[(0, "SOL_IP"), (1, "SOL_SOCKET"), (6, "SOL_TCP"), (17, "SOL_UDP"), (41, "SOL_IPV6")];
const SOCKET_OPTION: Table = &[
    (1, "SO_DEBUG"),
    (2, "SO_REUSEADDR"),
    (3, "SO_TYPE"),
    (4, "SO_ERROR"),
    (5, "SO_DONTROUTE"),
    (6, "SO_BROADCAST"),
    (7, "SO_SNDBUF"),
    (8, "SO_RCVBUF"),
    (9, "SO_KEEPALIVE"),
    (10, "SO_OOBINLINE"),
    (13, "SO_LINGER"),
    (15, "SO_REUSEPORT"),
    (16, "SO_PASSCRED"),
    (17, "SO_PEERCRED"),
    (18, "SO_RCVLOWAT"),
    (19, "SO_SNDLOWAT"),
    (20, "SO_RCVTIMEO_OLD"),
    (21, "SO_SNDTIMEO_OLD"),
    (30, "SO_ACCEPTCONN"),
    (31, "SO_PEERSEC"),
    (38, "SO_PROTOCOL"),
    (39, "SO_DOMAIN"),
];
const MEMFD: Table = &[
    (1, "MFD_CLOEXEC"),
    (2, "MFD_ALLOW_SEALING"),
    (4, "MFD_HUGETLB"),
    (8, "MFD_NOEXEC_SEAL"),
    (16, "MFD_EXEC"),
];
const STATX: Table = &[
    (0xfff, "STATX_ALL"),
    (0x7ff, "STATX_BASIC_STATS"),
    (0x1, "STATX_TYPE"),
    (0x2, "STATX_MODE"),
    (0x4, "STATX_NLINK"),
    (0x8, "STATX_UID"),
    (0x10, "STATX_GID"),
    (0x20, "STATX_ATIME"),
    (0x40, "STATX_MTIME"),
    (0x80, "STATX_CTIME"),
    (0x100, "STATX_INO"),
    (0x200, "STATX_SIZE"),
    (0x400, "STATX_BLOCKS"),
    (0x800, "STATX_BTIME"),
    (0x1000, "STATX_MNT_ID"),
];
const USAGE: Table = &[(0, "RUSAGE_SELF"), (1, "RUSAGE_THREAD"), (u32::MAX, "RUSAGE_CHILDREN")];
const INTERVAL: Table = &[(0, "ITIMER_REAL"), (1, "ITIMER_VIRTUAL"), (2, "ITIMER_PROF")];
const POLL: Table = &[
    (1, "POLLIN"),
    (2, "POLLPRI"),
    (4, "POLLOUT"),
    (0x40, "POLLRDNORM"),
    (0x100, "POLLWRNORM"),
    (0x80, "POLLRDBAND"),
    (0x200, "POLLWRBAND"),
    (8, "POLLERR"),
    (0x10, "POLLHUP"),
    (0x20, "POLLNVAL"),
    (0x2000, "POLLRDHUP"),
];
const EPOLL: Table = &[
    (1, "EPOLLIN"),
    (2, "EPOLLPRI"),
    (4, "EPOLLOUT"),
    (0x40, "EPOLLRDNORM"),
    (0x80, "EPOLLRDBAND"),
    (0x100, "EPOLLWRNORM"),
    (0x200, "EPOLLWRBAND"),
    (8, "EPOLLERR"),
    (0x10, "EPOLLHUP"),
    (0x2000, "EPOLLRDHUP"),
    (0x1000_0000, "EPOLLEXCLUSIVE"),
    (0x2000_0000, "EPOLLWAKEUP"),
    (0x4000_0000, "EPOLLONESHOT"),
    (0x8000_0000, "EPOLLET"),
];
const ACTION: Table = &[
    (0x400_0000, "SA_RESTORER"),
    (0x800_0000, "SA_ONSTACK"),
    (0x1000_0000, "SA_RESTART"),
    (1, "SA_NOCLDSTOP"),
    (2, "SA_NOCLDWAIT"),
    (4, "SA_SIGINFO"),
    (0x4000_0000, "SA_NODEFER"),
    (0x8000_0000, "SA_RESETHAND"),
];
const CHILD: Table = &[
    (1, "CLD_EXITED"),
    (2, "CLD_KILLED"),
    (3, "CLD_DUMPED"),
    (4, "CLD_TRAPPED"),
    (5, "CLD_STOPPED"),
    (6, "CLD_CONTINUED"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_flags_by_name() {
        let cases = [
            (Names::Whence, 1, "SEEK_CUR"),
            (Names::Access, 0, "F_OK"),
            (Names::Access, 5, "R_OK|X_OK"),
            (Names::SocketType, 0o2000001, "SOCK_STREAM|SOCK_CLOEXEC"),
            (Names::Futex, 0x81, "FUTEX_WAKE_PRIVATE"),
            (Names::Futex, 0x189, "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME"),
            (Names::Clone, 0x120_0011, "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"),
            (Names::Clone, 0, "0"),
            (Names::DescriptorFlags, 0o2000000, "O_CLOEXEC"),
            (Names::EventFlags, 0o2004000, "EFD_CLOEXEC|EFD_NONBLOCK"),
            (Names::Usage, u64::MAX, "RUSAGE_CHILDREN"),
            (Names::Ioctl, 0xdead_beef, "0xdeadbeef"),
            (Names::StatxMask, 0x17ff, "STATX_BASIC_STATS|STATX_MNT_ID"),
        ];
        for (names, value, text) in cases {
            assert_eq!(named(names, value), text, "{names:?}");
        }
        assert_eq!(
            (signal(2), signal(0), signal(33), signal(65)),
            ("SIGINT".into(), "0".into(), "SIGRT_1".into(), "65".into())
        );
        assert_eq!(
            (file_mode(0o100644), file_mode(0o41777)),
            ("S_IFREG|0644".into(), "S_IFDIR|S_ISVTX|0777".into())
        );
    }
}
