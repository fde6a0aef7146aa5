//! System call arguments.

use std::fmt::Write;

use dejavm_sandbox::program::syscall::table::Argument;

/// The arguments of these kinds, with commas.
pub(super) fn format(kinds: &[Argument], args: &[u64; 6]) -> String {
    let mut out = String::new();
    let mut makes_file = true;
    for (&kind, &value) in kinds.iter().zip(args) {
        if kind == Argument::Mode && !makes_file {
            // `open` looks at the mode only for a new file.
            continue;
        }
        if kind == Argument::OpenFlags {
            makes_file = value & (O_CREAT | O_TMPFILE) != 0;
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        argument(&mut out, kind, value);
    }
    out
}

const O_CREAT: u64 = 0o100;
/// Without `O_DIRECTORY`, which belongs to it.
const O_TMPFILE: u64 = 0o20000000;

fn argument(out: &mut String, kind: Argument, value: u64) {
    let low = value as u32;
    let written = match kind {
        // The kernel looks at 32 bits of these.
        Argument::Directory if low as i32 == -100 => write!(out, "AT_FDCWD"),
        Argument::Directory | Argument::Descriptor => write!(out, "{}", low as i32),
        Argument::Address if value == 0 => write!(out, "NULL"),
        Argument::Signed => write!(out, "{}", value as i64),
        Argument::Size => write!(out, "{value}"),
        Argument::Mode => write!(out, "{low:#o}").map(|()| octal_zero(out)),
        Argument::OpenFlags => write!(out, "{}", open_flags(low)),
        Argument::Protection => write!(out, "{}", flags(low, "PROT_NONE", PROT)),
        Argument::MapFlags => write!(out, "{}", mmap_flags(low)),
        Argument::Signal => write!(out, "{}", signal(value)),
        Argument::Hexadecimal if value == 0 => write!(out, "0"),
        Argument::Hexadecimal | Argument::Address => write!(out, "{value:#x}"),
    };
    // Writing to a string does not fail.
    debug_assert!(written.is_ok());
}

/// C writes octal with one zero in front.
fn octal_zero(out: &mut String) {
    if let Some(at) = out.rfind("0o") {
        let digits = out.split_off(at + 2);
        out.truncate(at);
        out.push_str(if digits == "0" { "" } else { "0" });
        out.push_str(&digits);
    }
}

const PROT: &[(u32, &str)] = &[(1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC")];

/// Linux `include/uapi/asm-generic/fcntl.h`; those that contain others come first.
const OPEN: &[(u32, &str)] = &[
    (0o20200000, "O_TMPFILE"),
    (0o4010000, "O_SYNC"),
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o10000, "O_DSYNC"),
    (0o40000, "O_DIRECT"),
    (0o100000, "O_LARGEFILE"),
    (0o200000, "O_DIRECTORY"),
    (0o400000, "O_NOFOLLOW"),
    (0o1000000, "O_NOATIME"),
    (0o2000000, "O_CLOEXEC"),
    (0o10000000, "O_PATH"),
];

/// Linux `include/uapi/asm-generic/mman-common.h` and `mman.h`.
const MMAP: &[(u32, &str)] = &[
    (0x10, "MAP_FIXED"),
    (0x20, "MAP_ANONYMOUS"),
    (0x40, "MAP_32BIT"),
    (0x100, "MAP_GROWSDOWN"),
    (0x800, "MAP_DENYWRITE"),
    (0x1000, "MAP_EXECUTABLE"),
    (0x2000, "MAP_LOCKED"),
    (0x4000, "MAP_NORESERVE"),
    (0x8000, "MAP_POPULATE"),
    (0x10000, "MAP_NONBLOCK"),
    (0x20000, "MAP_STACK"),
    (0x40000, "MAP_HUGETLB"),
    (0x80000, "MAP_SYNC"),
    (0x100000, "MAP_FIXED_NOREPLACE"),
];

fn open_flags(value: u32) -> String {
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][value as usize & 3];
    join(access, value & !3, OPEN)
}

fn mmap_flags(value: u32) -> String {
    match value & 0xf {
        1 => join("MAP_SHARED", value & !0xf, MMAP),
        2 => join("MAP_PRIVATE", value & !0xf, MMAP),
        3 => join("MAP_SHARED_VALIDATE", value & !0xf, MMAP),
        _ => flags(value, "0", MMAP),
    }
}

/// The names of the bits, or `none`.
fn flags(value: u32, none: &str, names: &[(u32, &str)]) -> String {
    if value == 0 { none.into() } else { join("", value, names) }
}

fn join(first: &str, value: u32, names: &[(u32, &str)]) -> String {
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

/// A signal by its name (x86-64 numbers).
pub(super) fn signal(number: u64) -> String {
    const NAMES: [&str; 32] = [
        "0", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
        "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match usize::try_from(number).ok().and_then(|n| NAMES.get(n)) {
        Some(&"0") => "0".into(),
        Some(name) => format!("SIG{name}"),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_by_name() {
        assert_eq!(open_flags(0o2000101), "O_WRONLY|O_CREAT|O_CLOEXEC");
        assert_eq!(open_flags(0x8000_0000), "O_RDONLY|0x80000000");
        assert_eq!(mmap_flags(0x32), "MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS");
        assert_eq!(flags(0, "PROT_NONE", PROT), "PROT_NONE");
        assert_eq!(flags(5, "PROT_NONE", PROT), "PROT_READ|PROT_EXEC");
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(format(&[Argument::Mode; 2], &[0o644, 0, 0, 0, 0, 0]), "0644, 0");
    }
}
