//! Structures of the kernel's interface (Linux `include/uapi`, x86-64) as strace shows them.

use std::net::{Ipv4Addr, Ipv6Addr};

use dejavm_sandbox::exit::GuestMemory;

use super::reading::{bytes, field, quoted, u16_in, u32_in, u64_in};
use crate::text::names;

pub(super) fn stat(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    let stat: [u8; 144] = bytes(memory, address)?;
    let (mode, device) = (u32_in(&stat, 24), u64_in(&stat, 40));
    let what = match mode & 0o170000 {
        0o020000 | 0o060000 => {
            // `MAJOR` and `MINOR` of `include/linux/kdev_t.h`, as they are encoded for programs.
            let major = device >> 8 & 0xfff | device >> 32 & !0xfff;
            let minor = device & 0xff | device >> 12 & 0xffff_ff00;
            format!("st_rdev=makedev({major:#x}, {minor:#x})")
        }
        _ => format!("st_size={}", u64_in(&stat, 48) as i64),
    };
    Some(format!("{{st_mode={}, {what}, ...}}", names::file_mode(mode)))
}

pub(super) fn statx(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    let statx: [u8; 48] = bytes(memory, address)?;
    Some(format!(
        "{{stx_mask={}, stx_attributes={}, stx_mode={}, stx_size={}, ...}}",
        names::statx_mask(u32_in(&statx, 0)),
        hexadecimal(u64_in(&statx, 8)),
        names::file_mode(u16_in(&statx, 28).into()),
        u64_in(&statx, 40)
    ))
}

pub(super) fn timespec(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    Some(time(&bytes::<16>(memory, address)?, "tv_nsec"))
}

pub(super) fn timeval(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    Some(time(&bytes::<16>(memory, address)?, "tv_usec"))
}

/// The times of `utimensat`.
pub(super) fn timespecs(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    let both: [u8; 32] = bytes(memory, address)?;
    let one = |of: &[u8]| match u64_in(of, 8) {
        0x3fff_ffff => "UTIME_NOW".into(),
        0x3fff_fffe => "UTIME_OMIT".into(),
        _ => time(of, "tv_nsec"),
    };
    Some(format!("[{}, {}]", one(&both[..16]), one(&both[16..])))
}

/// `struct itimerval` and `struct itimerspec`, by the name of the fraction.
pub(super) fn timer(memory: &dyn GuestMemory, address: u64, fraction: &str) -> Option<String> {
    let both: [u8; 32] = bytes(memory, address)?;
    let (interval, value) = (time(&both[..16], fraction), time(&both[16..], fraction));
    Some(format!("{{it_interval={interval}, it_value={value}}}"))
}

fn time(of: &[u8], fraction: &str) -> String {
    format!("{{tv_sec={}, {fraction}={}}}", u64_in(of, 0) as i64, u64_in(of, 8) as i64)
}

/// What `wait4` says of a child, in the words of its macros.
pub(super) fn wait_status(status: u32) -> String {
    let signal = |number: u32| names::signal(number.into());
    match (status & 0x7f, status >> 8 & 0xff) {
        _ if status == 0xffff => "{WIFCONTINUED(s)}".into(),
        (0, code) => format!("{{WIFEXITED(s) && WEXITSTATUS(s) == {code}}}"),
        (0x7f, number) => format!("{{WIFSTOPPED(s) && WSTOPSIG(s) == {}}}", signal(number)),
        (number, _) => {
            let core = if status & 0x80 != 0 { " && WCOREDUMP(s)" } else { "" };
            format!("{{WIFSIGNALED(s) && WTERMSIG(s) == {}{core}}}", signal(number))
        }
    }
}

/// What `waitid` says of a child.
pub(super) fn child_info(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    let info: [u8; 32] = bytes(memory, address)?;
    if u32_in(&info, 0) == 0 {
        return Some("{}".into());
    }
    let code = u32_in(&info, 8) as i32;
    let status = u32_in(&info, 24);
    let status = if code == 1 { status.to_string() } else { names::signal(status.into()) };
    Some(format!(
        "{{si_signo={}, si_code={}, si_pid={}, si_uid={}, si_status={status}, ...}}",
        names::signal(u32_in(&info, 0).into()),
        names::child_code(code),
        u32_in(&info, 16) as i32,
        u32_in(&info, 20)
    ))
}

pub(super) fn sig_action(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    const SA_SIGINFO: u64 = 4;
    const SA_RESTORER: u64 = 0x400_0000;
    let action: [u8; 32] = bytes(memory, address)?;
    let [handler, flags, restorer, mask] = [0, 8, 16, 24].map(|at| u64_in(&action, at));
    let handler = match handler {
        0 => "SIG_DFL".into(),
        1 => "SIG_IGN".into(),
        at => format!("{at:#x}"),
    };
    let kind = if flags & SA_SIGINFO != 0 { "sa_sigaction" } else { "sa_handler" };
    let restorer =
        if flags & SA_RESTORER != 0 { format!(", sa_restorer={restorer:#x}") } else { String::new() };
    Some(format!(
        "{{{kind}={handler}, sa_mask={}, sa_flags={}{restorer}}}",
        signals(mask),
        names::action_flags(flags)
    ))
}

/// A set of signals; of nearly all of them, those that are not in it.
pub(super) fn signals(set: u64) -> String {
    let (sign, shown) = if set.count_ones() >= 32 { ("~", !set) } else { ("", set) };
    let names: Vec<String> =
        (1..=64).filter(|n| shown >> (n - 1) & 1 == 1).filter_map(names::signal_name).collect();
    format!("{sign}[{}]", names.join(" "))
}

/// What `clone3` is given; as much of it as the caller knows of.
pub(super) fn clone_args(memory: &dyn GuestMemory, address: u64, len: u64) -> Option<String> {
    const LEAST: u64 = 64;
    if len < LEAST {
        return None;
    }
    let args: [u8; LEAST as usize] = bytes(memory, address)?;
    let [flags, pidfd, child, parent, signal, stack, size, tls] =
        [0, 8, 16, 24, 32, 40, 48, 56].map(|at| u64_in(&args, at));
    let mut out = format!("{{flags={}", names::clone_flags(flags));
    for (name, at) in [("pidfd", pidfd), ("child_tid", child), ("parent_tid", parent)] {
        if at != 0 {
            out.push_str(&format!(", {name}={at:#x}"));
        }
    }
    out.push_str(&format!(", exit_signal={}, stack=", names::signal(signal)));
    out.push_str(&pointer(stack));
    out.push_str(&format!(", stack_size={}", hexadecimal(size)));
    if tls != 0 {
        out.push_str(&format!(", tls={tls:#x}"));
    }
    out.push('}');
    Some(out)
}

pub(super) fn utsname(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    const FIELD: usize = 65;
    let all: [u8; FIELD * 2] = bytes(memory, address)?;
    let text = |at: usize| {
        let of = &all[at * FIELD..(at + 1) * FIELD];
        quoted(&of[..of.iter().position(|b| *b == 0).unwrap_or(FIELD)], false)
    };
    Some(format!("{{sysname={}, nodename={}, ...}}", text(0), text(1)))
}

pub(super) fn rlimit(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    let both: [u8; 16] = bytes(memory, address)?;
    let limit = |value: u64| match value {
        u64::MAX => "RLIM64_INFINITY".into(),
        value if value > 1024 && value.is_multiple_of(1024) => format!("{}*1024", value / 1024),
        value => value.to_string(),
    };
    Some(format!("{{rlim_cur={}, rlim_max={}}}", limit(u64_in(&both, 0)), limit(u64_in(&both, 8))))
}

pub(super) fn open_how(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    let how: [u8; 24] = bytes(memory, address)?;
    let [flags, mode, resolve] = [0, 8, 16].map(|at| u64_in(&how, at));
    Some(format!(
        "{{flags={}, mode={}, resolve={}}}",
        crate::text::args::open_flags(flags as u32),
        names::octal(mode as u32),
        hexadecimal(resolve)
    ))
}

pub(super) fn epoll_event(event: &[u8; 12]) -> String {
    let data = u64::from_le_bytes(field(event, 4));
    format!("{{events={}, data={{u32={}, u64={data}}}}}", names::epoll_events(u32_in(event, 0)), data as u32)
}

/// A socket's address of so many bytes.
pub(super) fn socket_address(memory: &dyn GuestMemory, address: u64, len: u64) -> Option<String> {
    /// `struct sockaddr_storage`.
    const MOST: u64 = 128;
    let mut all = [0; MOST as usize];
    let len = len.min(MOST) as usize;
    if len < 2 || memory.read(address, &mut all[..len]) < len {
        return None;
    }
    let (family, rest) = (u16_in(&all, 0), &all[2..len]);
    let name = names::number(family.into(), names::DOMAIN);
    // The network's order of bytes.
    let port = u16::from_be_bytes(field(&all, 2));
    let text = match family {
        1 => match rest {
            [] => String::new(),
            [0, name @ ..] => format!(", sun_path=@{}", quoted(name, false)),
            path => {
                let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
                format!(", sun_path={}", quoted(&path[..end], false))
            }
        },
        2 if len >= 16 => {
            let ip = Ipv4Addr::from(field(&all, 4));
            format!(", sin_port=htons({port}), sin_addr=inet_addr(\"{ip}\")")
        }
        10 if len >= 28 => {
            let (flow, scope) = (u32::from_be_bytes(field(&all, 4)), u32_in(&all, 24));
            let ip = Ipv6Addr::from(field::<16>(&all, 8));
            format!(
                ", sin6_port=htons({port}), sin6_flowinfo=htonl({flow}), \
                 inet_pton(AF_INET6, \"{ip}\", &sin6_addr), sin6_scope_id={scope}"
            )
        }
        16 if len >= 12 => format!(", nl_pid={}, nl_groups={:08x}", u32_in(&all, 4), u32_in(&all, 8)),
        _ => format!(", sa_data={}", quoted(rest, false)),
    };
    Some(format!("{{sa_family={name}{text}}}"))
}

pub(super) fn pointer(address: u64) -> String {
    if address == 0 { "NULL".into() } else { format!("{address:#x}") }
}

fn hexadecimal(value: u64) -> String {
    if value == 0 { "0".into() } else { format!("{value:#x}") }
}
