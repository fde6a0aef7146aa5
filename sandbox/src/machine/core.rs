//! What all machines have, whatever runs on them.

use std::sync::Arc;

use super::run::{Evict, RunOptions};
use super::{MachineOptions, Memory, RunError};
use crate::exit::{Exit, Fault, Rung, SourceKind};
use crate::fault::Ladder;
use crate::host::HostProfile;
use crate::host::stop::StopHandle;
use crate::random::Random;
use crate::stats::Stats;
use crate::vcpu::Vcpu;

/// Faults of which who watches is told at once, at most.
const FAULTS_KEPT: usize = 256;

/// The random stream that fault injection draws from.
const EVICT_STREAM: u64 = 2;

/// The vCPU, the faults, and the counts. In a machine it comes before the memory, so that the vCPU is
/// gone before the memory that it maps.
pub struct Core {
    pub(crate) vcpu: Vcpu,
    pub(crate) ladder: Ladder,
    pub(crate) host: Arc<HostProfile>,
    pub(crate) stop: StopHandle,
    /// Where the contents of memory came from; with checkpoints, as of the last.
    pub(crate) memory: Memory,
    /// The last run ended where the guest made no exit of its own: KVM may have something on its way to it.
    pub(crate) interrupted: bool,
    /// Compared exits so far.
    pub exits: u64,
    /// The run's seed.
    pub seed: u64,
    /// What happened so far.
    pub stats: Stats,
    pub(crate) evict: Option<(Evict, Random)>,
    /// Faults that who watches has not been told of. Never longer than [`FAULTS_KEPT`], so that it
    /// never grows.
    faults: Vec<Fault>,
}

impl Core {
    /// With nothing counted yet.
    pub(crate) fn new(
        vcpu: Vcpu,
        host: Arc<HostProfile>,
        stop: StopHandle,
        memory: Memory,
        options: &MachineOptions,
        exits: u64,
        seed: u64,
    ) -> Core {
        Core {
            vcpu,
            ladder: Ladder::new(options.rung),
            host,
            stop,
            memory,
            interrupted: false,
            exits,
            seed,
            stats: Stats::default(),
            evict: options.evict.map(|e| (e, Random::new(e.seed, EVICT_STREAM))),
            faults: Vec::with_capacity(FAULTS_KEPT),
        }
    }

    /// What the machine knows of its host.
    pub fn host_profile(&self) -> &HostProfile {
        &self.host
    }

    /// Counts a fault, and keeps it for who watches.
    pub(crate) fn count_fault(
        &mut self,
        page: u64,
        rung: Rung,
        source: SourceKind,
        brought: u64,
        options: &mut RunOptions<'_>,
    ) {
        self.stats.count_fault(rung, source, brought);
        if options.observer.is_some() {
            if self.faults.len() == FAULTS_KEPT {
                self.tell_faults(options);
            }
            self.faults.push(Fault { page, rung, source });
        }
    }

    /// Tells who watches of the faults since the last exit. Not at each fault: who watches may do
    /// anything, and RDTSC must not fault in this thread meanwhile, which takes as long to bring
    /// about as a third of the fault itself.
    pub(crate) fn tell_faults(&mut self, options: &mut RunOptions<'_>) {
        if let Some(observer) = &mut options.observer {
            if !observer.reads_no_clock() {
                self.vcpu.settle();
            }
            self.faults.drain(..).for_each(|fault| observer.fault(&fault));
        }
    }

    /// Forgets faults that nobody was told of.
    pub(crate) fn forget_faults(&mut self) {
        self.faults.clear();
    }

    /// Counts a compared exit, which gets its number here, and tells who watches.
    pub(crate) fn record(&mut self, exit: &mut Exit, options: &mut RunOptions<'_>) -> Result<(), RunError> {
        self.tell_faults(options);
        self.exits += 1;
        exit.number = self.exits;
        if let Some(observer) = &mut options.observer {
            observer.exit(exit)?;
        }
        Ok(())
    }
}
