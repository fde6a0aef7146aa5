//! What the kernel has to confine the process with.

use std::io;

use super::{Finding, Level};

/// `LANDLOCK_CREATE_RULESET_VERSION` (`linux/landlock.h`).
const VERSION: libc::c_ulong = 1;
/// The version that can refuse all that is refused here: abstract sockets came last.
const ALL_OF_IT: libc::c_long = 6;

/// Whether system calls can be filtered so that a forbidden one ends the process.
pub fn seccomp() -> Finding {
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the operation reads the number that `action` holds, which lives for the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    let dejavm = "before the guest runs, leaves itself the calls that it needs; any other ends it by SIGSYS";
    if answer == 0 {
        let means = "a guest that took the monitor over could start no program, no connection, no machine";
        return Finding::new(Level::Ok, "filters calls of a process", dejavm, means);
    }
    Finding::new(
        Level::Limited,
        format!("cannot filter calls: {}", io::Error::last_os_error()),
        "goes on without",
        "the monitor's process keeps all system calls; look for CONFIG_SECCOMP_FILTER",
    )
}

/// Whether the files that a process can open can be restricted.
pub fn landlock() -> Finding {
    // SAFETY: with this flag and no attributes the call only gives a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    let dejavm = "before the guest runs, leaves itself what was granted to be read, and a recording's directory to be written";
    if version < 0 {
        return Finding::new(
            Level::Limited,
            format!("is not there: {}", io::Error::last_os_error()),
            "goes on without",
            "the monitor's process can read all that its user can; look for CONFIG_SECURITY_LANDLOCK and the boot option lsm=",
        );
    }
    let means = match version >= ALL_OF_IT {
        true => "a guest that took the monitor over could open nothing else",
        false => {
            "a guest that took the monitor over could open nothing else; what newer versions refuse besides is left to seccomp"
        }
    };
    Finding::new(Level::Ok, format!("version {version}"), dejavm, means)
}
