//! What this host does, for people: `dejavm doctor`.
//!
//! Nothing is concluded from a kernel's version or a module's name. Each [`Row`] comes from a tiny
//! guest or a call that was tried, and every guest is bounded in time: some hosts stay in `KVM_RUN`
//! for ever when a page that KVM itself reads is absent.
//!
//! What sandboxes need to know is in [`HostProfile`], which is found out faster; the report says
//! the same and more. `docs/hosts.md` explains the rows.

mod confine;
mod cpu;
mod debug;
mod entry;
mod guest;
mod instructions;
mod kvm;
mod memory;
mod paging;
mod report;
mod speed;
#[cfg(test)]
mod tests;
mod userfault;

use std::sync::Arc;

use kvm_ioctls::Kvm;

use super::{HostError, HostProfile, open_kvm};
pub use report::{Level, Report, Row, UNKNOWN};

/// What the probes are given.
struct Host {
    kvm: Kvm,
    profile: Arc<HostProfile>,
}

/// What a probe found out.
struct Finding {
    found: String,
    dejavm: String,
    means: String,
    level: Level,
}

impl Finding {
    fn new(
        level: Level,
        found: impl Into<String>,
        dejavm: impl Into<String>,
        means: impl Into<String>,
    ) -> Finding {
        Finding { found: found.into(), dejavm: dejavm.into(), means: means.into(), level }
    }
}

/// What most rows mean.
const NOTHING: &str = "nothing to do";

/// How a row is found out.
enum Find {
    /// Without KVM.
    Alone(fn() -> Finding),
    /// With a host that runs guests.
    Guest(fn(&Host) -> Result<Finding, HostError>),
}

/// One row to be found out.
struct Probe {
    id: &'static str,
    name: &'static str,
    find: Find,
}

const fn alone(id: &'static str, name: &'static str, find: fn() -> Finding) -> Probe {
    Probe { id, name, find: Find::Alone(find) }
}

const fn guest(id: &'static str, name: &'static str, find: fn(&Host) -> Result<Finding, HostError>) -> Probe {
    Probe { id, name, find: Find::Guest(find) }
}

/// The rows, in the order of the report.
const PROBES: [Probe; 33] = [
    alone("kvm", "/dev/kvm", kvm::device),
    alone("capabilities", "needed capabilities", kvm::capabilities),
    alone("guests", "test guests", kvm::guests),
    guest("cpu", "CPU", cpu::identity),
    guest("memory-faults", "absent page, touched at CPL 3", memory::faults),
    guest("kernel-access", "absent page, touched at CPL 0", memory::kernel_access),
    alone("userfaultfd", "userfaultfd", userfault::userfaultfd),
    guest("huge-pages", "transparent huge pages", memory::huge_pages),
    guest("paging", "paging", paging::paging),
    guest("absent-table", "absent page-table page", paging::absent_table),
    guest("syscall", "SYSCALL at CPL 3", entry::syscall),
    guest("rdtsc", "RDTSC", entry::rdtsc),
    guest("cpuid", "CPUID at CPL 3", entry::cpuid),
    guest("rdrand", "RDRAND", instructions::rdrand),
    guest("rdseed", "RDSEED", instructions::rdseed),
    guest("rdpid", "RDPID", instructions::rdpid),
    guest("rdpmc", "RDPMC", instructions::rdpmc),
    guest("descriptor-tables", "SGDT and LSL", instructions::descriptor_tables),
    guest("xgetbv", "XGETBV", instructions::xgetbv),
    guest("vector-state", "AVX and AVX-512", instructions::vectors),
    guest("fsgsbase", "FSGSBASE", instructions::fsgsbase),
    guest("trap-flag", "single steps by TF", debug::trap_flag),
    guest("single-step", "single steps by KVM", debug::single_step),
    guest("breakpoints", "hardware breakpoints", debug::breakpoints),
    guest("kernel-speed", "code at CPL 0", speed::kernel_code),
    guest("deadline", "guest that never exits", speed::deadline),
    guest("exit-cost", "cost of a system call", speed::exit_cost),
    guest("vm-cost", "cost of a machine", speed::vm_cost),
    guest("written-pages", "log of written pages", kvm::written_pages),
    guest("extras", "what newer KVMs have", kvm::extras),
    alone("pmu", "performance counters", cpu::counters),
    alone("seccomp", "system-call filters", confine::seccomp),
    alone("landlock", "Landlock", confine::landlock),
];

/// Looks at everything. Takes about a tenth of a second.
///
/// It always has all rows: what cannot be found out, since KVM does not run guests, say, is a row
/// that says so.
pub fn report() -> Report {
    let host = host();
    Report::new(PROBES.iter().map(|probe| row(probe, &host)).collect())
}

fn host() -> Result<Host, HostError> {
    Ok(Host { kvm: open_kvm()?, profile: HostProfile::probe()? })
}

fn row(probe: &Probe, host: &Result<Host, HostError>) -> Row {
    let finding = match (&probe.find, host) {
        (Find::Alone(find), _) => find(),
        (Find::Guest(find), Ok(host)) => find(host).unwrap_or_else(|e| unknown(&e.to_string())),
        (Find::Guest(_), Err(_)) => not_tried(),
    };
    let Finding { found, dejavm, means, level } = finding;
    Row { id: probe.id, name: probe.name, found, dejavm, means, level }
}

/// A row that needs a guest where none runs. The rows that say why are found out without one.
fn not_tried() -> Finding {
    Finding::new(
        Level::Limited,
        format!("{UNKNOWN}no guest runs here"),
        "refuses to start",
        "nothing to do but to mend what is unusable",
    )
}

/// A row that came to nothing although guests run: not known to make the host unusable.
fn unknown(why: &str) -> Finding {
    Finding::new(
        Level::Limited,
        format!("{UNKNOWN}{why}"),
        "nothing that is known to be right for this host",
        "please report this table",
    )
}
