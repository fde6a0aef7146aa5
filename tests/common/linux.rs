//! The host's Linux as the one that the sandbox is compared with.
//!
//! The sandbox answers as Linux 6.18 does. Older ones find some errors in another order, and refuse what was
//! allowed later: what they say is no measure there.

use std::path::Path;

/// The version that the sandbox is like.
const LIKE: (u32, u32) = (6, 18);

/// Beginnings of lines that test guests print of calls which 6.12 was seen to answer otherwise.
const OTHERWISE: [&str; 6] = [
    // Names of extended attributes are looked at before files (fs/xattr.c).
    "getxattr arg",
    "fgetxattr arg",
    "fsetxattr(99, \"\"",
    // A process may give itself any advice by process_madvise (mm/madvise.c).
    "advice ",
    // mm/mremap.c was written anew: errors have another order, flags of an equal size are looked at.
    "mremap(",
    "mremap arg",
];

/// Whether the host's kernel is older than what the sandbox is like.
fn older() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc is mounted");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < LIKE
}

/// Whether QEMU emulates the host's CPU, as `scripts/on-svm` says: it takes bits that CPUs refuse, and some
/// code that a CPU refuses makes the kernel there fail.
pub fn emulated() -> bool {
    std::env::var_os("DEJAVM_EMULATED_CPU").is_some()
}

/// Whether guests run by AMD's SVM.
pub fn has_svm() -> bool {
    Path::new("/sys/module/kvm_amd").exists()
}

/// Pairs of lines that differ, of what a guest printed natively and in the sandbox; without those that say
/// nothing on an older kernel.
pub fn differences<'a>(native: &'a str, sandboxed: &'a str) -> Vec<(&'a str, &'a str)> {
    let older = older();
    let says_nothing = |line: &str| older && OTHERWISE.iter().any(|call| line.starts_with(call));
    let pairs = native.lines().zip(sandboxed.lines());
    pairs.filter(|(native, seen)| native != seen && !says_nothing(native)).collect()
}
