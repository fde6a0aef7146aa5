//! System call arguments.

use dejavm_sandbox::program::syscall::number;
use dejavm_sandbox::program::syscall::table::{Argument, Names};

use super::names::{self, flags, join};

/// What is known of the arguments of one call besides their values: each as text, where it is known.
pub(super) type Texts = [Option<String>; 6];

/// The arguments of a call.
pub(super) fn format(call: u64, kinds: &[Argument], args: &[u64; 6], texts: &Texts) -> Vec<String> {
    if call == number::CLONE {
        return format_clone(args);
    }
    let mut out = Vec::with_capacity(kinds.len());
    let mut makes_file = true;
    for (at, ((&kind, &value), text)) in kinds.iter().zip(args).zip(texts).enumerate() {
        if kind == Argument::Mode && !makes_file {
            // `open` looks at the mode only for a new file.
            continue;
        }
        if call == number::FUTEX && !futex_uses(args[1], at) {
            continue;
        }
        if kind == Argument::OpenFlags {
            makes_file = value & (O_CREAT | O_TMPFILE) != 0;
        }
        out.push(text.clone().unwrap_or_else(|| argument(kind, value)));
        if kind == Argument::Named(Names::Fcntl) && matches!(value, F_GETFD | F_GETFL | F_GETOWN) {
            // Nothing behind these.
            break;
        }
    }
    out
}

const F_GETFD: u64 = 1;
const F_GETFL: u64 = 3;
const F_GETOWN: u64 = 9;
const O_CREAT: u64 = 0o100;
/// Without `O_DIRECTORY`, which belongs to it.
const O_TMPFILE: u64 = 0o20000000;

/// Whether an operation of `futex` looks at this argument.
fn futex_uses(operation: u64, at: usize) -> bool {
    match operation & 0x7f {
        // Waking, and operations of priority inheritance that do not wait.
        1 => at < 3,
        7 | 8 => at < 2,
        // Waiting: the time at most, then a mask.
        0 | 6 | 13 => at < 4,
        9 => at != 4,
        10 => at < 3 || at == 5,
        _ => true,
    }
}

/// `clone` has its arguments in an order of its own, and most of them count only with a flag.
fn format_clone(args: &[u64; 6]) -> Vec<String> {
    const PARENT_TID: u64 = 0x10_0000 | 0x1000;
    const TLS: u64 = 0x8_0000;
    const CHILD_TID: u64 = 0x20_0000 | 0x100_0000;
    let [flags, stack, parent_tid, child_tid, tls, _] = *args;
    let address = |name: &str, value| format!("{name}={}", argument(Argument::Address, value));
    let mut out = vec![address("child_stack", stack), format!("flags={}", names::clone_flags(flags))];
    for (flag, name, value) in
        [(PARENT_TID, "parent_tid", parent_tid), (TLS, "tls", tls), (CHILD_TID, "child_tidptr", child_tid)]
    {
        if flags & flag != 0 {
            out.push(address(name, value));
        }
    }
    out
}

fn argument(kind: Argument, value: u64) -> String {
    let low = value as u32;
    match kind {
        // The kernel looks at 32 bits of these.
        Argument::Directory if low as i32 == -100 => "AT_FDCWD".into(),
        Argument::Directory | Argument::Descriptor | Argument::Signed => (low as i32).to_string(),
        Argument::Address | Argument::In(_) | Argument::Out(_) if value == 0 => "NULL".into(),
        Argument::Long => (value as i64).to_string(),
        Argument::Size => value.to_string(),
        Argument::Mode => names::octal(low),
        Argument::OpenFlags => open_flags(low),
        Argument::Protection => flags(low, "PROT_NONE", PROT),
        Argument::MapFlags => mmap_flags(low),
        Argument::Signal => names::signal(value),
        Argument::Named(set) => names::named(set, value),
        Argument::Hexadecimal if value == 0 => "0".into(),
        Argument::Hexadecimal | Argument::Address | Argument::In(_) | Argument::Out(_) => {
            format!("{value:#x}")
        }
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
    (0o400000, "O_NOFOLLOW"),
    (0o1000000, "O_NOATIME"),
    (0o2000000, "O_CLOEXEC"),
    (0o10000000, "O_PATH"),
    (0o200000, "O_DIRECTORY"),
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

pub(super) fn open_flags(value: u32) -> String {
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
        assert_eq!(
            format(90, &[Argument::Mode; 2], &[0o644, 0, 0, 0, 0, 0], &Texts::default()),
            ["0644", "0"]
        );
    }

    #[test]
    fn clones_name_what_counts() {
        let args = [0x120_0011, 0, 1, 0x7000, 2, 0];
        let expected = [
            "child_stack=NULL",
            "flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD",
            "child_tidptr=0x7000",
        ];
        assert_eq!(format(number::CLONE, &[], &args, &Texts::default()), expected);
    }
}
