//! How a program leaves guest mode, and which instructions leave it: what [`HostProfile`] says.
//!
//! [`HostProfile`]: crate::host::HostProfile

use super::{Finding, Host, Level, NOTHING};
use crate::host::HostError;

/// Where `SYSCALL` lands.
pub fn syscall(host: &Host) -> Result<Finding, HostError> {
    Ok(if host.profile.syscall_stays_user {
        Finding::new(
            Level::Ok,
            "stays at CPL 3: RIP is LSTAR's, CS is the program's",
            "has its stub where programs can run it, and returns by setting RIP",
            "nothing to do: a program that jumps to the stub makes a system call, no more",
        )
    } else {
        Finding::new(Level::Ok, "enters CPL 0 at LSTAR", "has an OUT and a SYSRET there", NOTHING)
    })
}

/// What makes RDTSC trap.
pub fn rdtsc(host: &Host) -> Result<Finding, HostError> {
    const VIRTUAL: &str = "programs see the virtual clock";
    Ok(if host.profile.tsc_by_cr4 {
        Finding::new(Level::Ok, "traps by CR4.TSD", "sets it, and answers from the virtual clock", VIRTUAL)
    } else if host.profile.tsc_by_thread {
        Finding::new(
            Level::Ok,
            "traps by CR4.TSD only while the thread itself may not read it (PR_SET_TSC)",
            "sets both while the guest runs, and answers from the virtual clock",
            VIRTUAL,
        )
    } else {
        Finding::new(
            Level::Limited,
            "does not trap",
            "nothing that helps",
            "programs that use it see the real time; their runs cannot be repeated",
        )
    })
}

/// Whose CPUID a program sees.
pub fn cpuid(host: &Host) -> Result<Finding, HostError> {
    Ok(if host.profile.cpuid_traps {
        Finding::new(
            Level::Ok,
            "gives the table that dejavm sets",
            "takes out of the table what is not deterministic",
            "programs see a CPU without RDRAND, RDSEED, RDPID and TSX",
        )
    } else {
        Finding::new(
            Level::Limited,
            "gives the CPU's own values, whatever table is set",
            "keeps the CPU's identity with every snapshot and recording, and compares it",
            "programs see RDRAND and the like, and the number of the CPU they are on; a replay needs the same kind of CPU",
        )
    })
}
