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
            "sets that of one documented processor, by the CPU's level",
            "programs see that processor, whichever CPU this is",
        )
    } else {
        Finding::new(
            Level::Limited,
            "gives the CPU's own values, whatever table is set",
            "replaces CPUID in code that comes from files, and answers it from a table of its own",
            "programs that make code with CPUID in it see this CPU, and its number; their runs may not be repeatable elsewhere",
        )
    })
}
