//! Numbers and flags by the names that C gives them (Linux `include/uapi`, x86-64).

mod tables;

use dejavm_sandbox::program::syscall::table::Names;

pub(super) use tables::DOMAIN;
use tables::*;

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
