//! How a machine is made from its state, and why it may not be.

use super::{BadState, Evict, RunError};
use crate::errno::Errno;
use crate::exit::Rung;
use crate::host::{CpuIdentity, HostError, HostProfile};
use crate::ram::{Marking, PageError};
use crate::x86::processor::Level;

/// Which pages of a bare-metal guest are searched for, as KVM reads them where it cannot say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// The CPU walks the guest's tables itself (two-dimensional paging), and an absent table makes
    /// an exit like any other page: only the pages that KVM reads by itself.
    Hardware,
    /// Shadow paging: also all tables that CR3 leads to, and every page that could be one.
    Shadow,
    /// Nothing is kept: for the test that shows what the search prevents.
    Off,
}

/// How a machine is made from its state.
#[derive(Clone, Debug, Default)]
pub struct MachineOptions {
    /// Uses only this rung of the fault ladder and those below it.
    pub rung: Option<Rung>,
    /// Fault injection.
    pub evict: Option<Evict>,
    /// Brings in more than what is touched: what the snapshot's working set says is wanted first
    /// before the first entry, its other pages with their clusters, and more of a row of pages that
    /// is touched in order. Without it, each page of the snapshot comes alone.
    pub prefetch: bool,
    /// Brings in everything before the first entry.
    pub eager: bool,
    /// Runs on a CPU that differs from the one the state comes from.
    pub any_cpu: bool,
    /// For tests: searches a bare-metal guest's memory for pages that KVM reads by itself in another
    /// way than the host needs.
    pub search: Option<Search>,
    /// The process's allocator reads no clock, so that RDTSC may go on faulting while pages come in.
    pub allocator_reads_no_clock: bool,
}

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The host cannot run sandboxes.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] dejavm_snapshot::Error),
    /// The snapshot's state makes no sense.
    #[error(transparent)]
    State(#[from] BadState),
    /// The CPU lacks what programs were shown of one.
    #[error(
        "this CPU is below {there}, which the programs run on; it has {here} \
             (use --any-cpu to try all the same)"
    )]
    Level {
        /// What this host's CPU has.
        here: Level,
        /// What the state needs.
        there: Level,
    },
    /// The CPUs differ.
    #[error(
        "this CPU differs from the one of the snapshot: here {here}; there {there}; programs may have chosen \
             code by it (use --any-cpu to try all the same)"
    )]
    Cpu {
        /// This host's.
        here: String,
        /// The snapshot's.
        there: String,
    },
    /// The program could not be loaded.
    #[error("{}: {errno}", String::from_utf8_lossy(.path))]
    Program {
        /// The program's path, or its interpreter's.
        path: Vec<u8>,
        /// The script or program that names this file as its interpreter.
        of: Option<Vec<u8>>,
        /// What `execve` said.
        errno: Errno,
    },
    /// The working directory is not there.
    #[error("working directory {}: {errno}", String::from_utf8_lossy(.path))]
    Workdir {
        /// Its path in the guest.
        path: Vec<u8>,
        /// What `chdir` said.
        errno: Errno,
    },
    /// This host lacks a rung that was asked for.
    #[error("this host has no {0} faults; `dejavm doctor` shows what it has")]
    Rung(&'static str),
    /// The machine could not be set up.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<PageError> for StartError {
    fn from(e: PageError) -> StartError {
        StartError::Run(e.into())
    }
}

impl From<crate::vcpu::VcpuError> for StartError {
    fn from(e: crate::vcpu::VcpuError) -> StartError {
        StartError::Run(e.into())
    }
}

/// How absent pages are marked for a forced rung.
pub(crate) fn marking(host: &HostProfile, rung: Option<Rung>) -> Result<Marking, StartError> {
    match rung {
        None => Ok(host.marking()),
        Some(Rung::Poison) if host.poison => Ok(Marking::Poison),
        Some(Rung::Poison) => Err(StartError::Rung("poison")),
        // The same marks as for bare faults; a kernel that annotates them says more.
        Some(Rung::Decode | Rung::Populate) if host.missing => Ok(Marking::Missing),
        Some(Rung::Decode | Rung::Populate) => Err(StartError::Rung("bare")),
        Some(Rung::Annotated) => Err(StartError::Rung("annotated")),
        Some(_) => Ok(Marking::Eager),
    }
}

/// Refuses a CPU that lacks what the programs of a state were shown, unless `any` will do.
///
/// # Errors
/// [`StartError::Level`].
pub(crate) fn check_level(there: Level, host: &HostProfile, any: bool) -> Result<(), StartError> {
    match there <= host.level || any {
        true => Ok(()),
        false => Err(StartError::Level { here: host.level, there }),
    }
}

/// Refuses a CPU that differs from the one of a state, unless `any` will do.
///
/// # Errors
/// [`StartError::Cpu`].
pub(crate) fn check_cpu(there: &CpuIdentity, host: &HostProfile, any: bool) -> Result<(), StartError> {
    match *there == host.cpu || any {
        true => Ok(()),
        false => Err(StartError::Cpu { here: host.cpu.to_string(), there: there.to_string() }),
    }
}
