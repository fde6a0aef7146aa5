//! userfaultfd: what it can do, and whether it can be had without privilege.

use std::fs;
use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::{Finding, Level};
use crate::ram::uffd::{FEATURE_POISON, FEATURE_SIGBUS, FEATURE_WP, Uffd};

/// The features that are tried, with their names.
const FEATURES: [(&str, u64); 3] = [
    ("write protection", FEATURE_WP),
    ("SIGBUS for missing pages", FEATURE_SIGBUS),
    ("poison", FEATURE_POISON),
];

/// Calls something on a thread that has given up all capabilities, as root's may be.
fn without_privilege<T: Send>(call: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let none = CapabilitySet::empty();
            // capset changes the calling thread alone (capabilities(7)).
            set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
            call()
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread died")))
    })
}

/// The row.
pub fn userfaultfd() -> Finding {
    if let Err(e) = Uffd::open(0) {
        return Finding::new(
            Level::Slower,
            format!("cannot be opened: {e}"),
            "brings every page in before the start",
            "starts take as long as reading all of the memory; look for a seccomp filter, or CONFIG_USERFAULTFD",
        );
    }
    let (has, lacks): (Vec<_>, Vec<_>) =
        FEATURES.iter().partition(|(_, feature)| Uffd::open(*feature).is_ok());
    let names =
        |list: &[&(&'static str, u64)]| list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let mut found = format!("has {}", names(&has));
    if !lacks.is_empty() {
        found += &format!("; lacks {}", names(&lacks));
    }
    let free = without_privilege(|| Uffd::open(0));
    found += match &free {
        Ok(_) => "; opens without privilege, for faults from user mode",
        Err(_) => "; does not open without privilege",
    };
    if let Ok(setting) = fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd") {
        found += &format!(" (vm.unprivileged_userfaultfd is {} and does not matter)", setting.trim());
    }
    let all = lacks.is_empty();
    let level = match (all, free.is_ok()) {
        (true, true) => Level::Ok,
        (false, true) => Level::Slower,
        (_, false) => Level::Limited,
    };
    let dejavm = "opens it with UFFD_USER_MODE_ONLY; never reads it, has no handler thread, leaves /dev/userfaultfd alone";
    let means = match (all, free.is_ok()) {
        (true, true) => "lazy memory needs no privilege",
        (false, true) => "Linux 6.6 would bring poison markers, which are faster",
        (_, false) => "lazy memory needs a privileged user here",
    };
    Finding::new(level, found, dejavm, means)
}
