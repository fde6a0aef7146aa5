//! From a bare-metal guest's state to its machine, and from the machine to a snapshot.

use std::path::Path;
use std::sync::Arc;

use dejavm_snapshot::{Summary, WriteOptions};
use kvm_bindings::{
    KVM_CAP_DISABLE_QUIRKS2, KVM_CAP_EXIT_ON_EMULATION_FAILURE, KVM_X86_QUIRK_FIX_HYPERCALL_INSN,
    kvm_enable_cap,
};
use kvm_ioctls::VmFd;

use super::cpuid;
use super::machine::Machine;
use super::state::KernelState;
use crate::exit::{Rung, SourceKind};
use crate::host::stop::StopHandle;
use crate::host::{HostError, HostProfile, create_vm, open_kvm};
use crate::machine::{
    CheckpointPages, Core, MachineOptions, Memory, RamContents, RunError, SaveError, Search, SnapshotPages,
    StartError, check_cpu, marking,
};
use crate::ram::{Marking, PageSource, Ram, Zeros};
use crate::vcpu::Vcpu;
use crate::world::World;

/// Where KVM keeps three pages for itself on Intel's CPUs, and before them one more: below the end of
/// 32-bit addresses, where no guest has memory (`KVM_SET_TSS_ADDR`, `KVM_SET_IDENTITY_MAP_ADDR`).
const KVM_TSS: usize = 0xfffb_d000;
const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// What KVM reads by itself on a host.
///
/// # Errors
/// When that cannot be found out.
pub fn search_on(host: &HostProfile, options: &MachineOptions) -> Result<Search, HostError> {
    Ok(match options.search {
        Some(search) => search,
        None if host.bare_metal()?.shadow_paging => Search::Shadow,
        None => Search::Hardware,
    })
}

/// Chooses how a machine behaves, where KVM lets one choose.
fn choose(vm: &VmFd) {
    let choices = [
        // Else a failed emulation at CPL 0 exits all the same, with an exception queued.
        ("KVM_CAP_EXIT_ON_EMULATION_FAILURE", KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1),
        // KVM does not write the vendor's hypercall instruction over the other one. Where code of CPL 0
        // is emulated, it would do that for ever, in KVM_RUN; now either is an invalid opcode.
        ("KVM_CAP_DISABLE_QUIRKS2", KVM_CAP_DISABLE_QUIRKS2, u64::from(KVM_X86_QUIRK_FIX_HYPERCALL_INSN)),
    ];
    for (name, cap, argument) in choices {
        let mut choice = kvm_enable_cap { cap, ..Default::default() };
        choice.args[0] = argument;
        if let Err(error) = vm.enable_cap(&choice) {
            tracing::debug!(%error, name, "an old KVM");
        }
    }
}

impl Machine {
    /// Makes a machine from its state; the contents of its memory come from `memory`.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        state: KernelState,
        memory: Memory,
        world: Box<dyn World>,
        host: Arc<HostProfile>,
        stop: StopHandle,
        options: &MachineOptions,
    ) -> Result<Machine, StartError> {
        state.check(memory.page_count())?;
        check_cpu(&state.cpu, &host, options.any_cpu)?;
        let marking = marking(&host, options.rung)?;
        let search = search_on(&host, options)?;
        let out_retires = host.bare_metal()?.out_retires;
        let kvm = open_kvm()?;
        let refused = |what| move |e: kvm_ioctls::Error| HostError::Kvm { what, error: e.into() };
        let vm = Arc::new(create_vm(&kvm)?);
        vm.set_identity_map_address(KVM_IDENTITY_MAP).map_err(refused("KVM_SET_IDENTITY_MAP_ADDR"))?;
        vm.set_tss_address(KVM_TSS).map_err(refused("KVM_SET_TSS_ADDR"))?;
        choose(&vm);
        let mut vcpu = Vcpu::new(&vm, 0)?;
        if let Err(error) = vcpu.refuse_unadvertised() {
            // Before Linux 5.10: a guest that names a page to KVM without having been told that it may
            // gets what it asked for, and cannot be repeated.
            tracing::debug!(%error, "KVM_CAP_ENFORCE_PV_FEATURE_CPUID");
        }
        vcpu.keep_tsc_faulting(options.allocator_reads_no_clock);
        vcpu.set_cpuid(&cpuid::table(&host.cpuid))?;

        let stored = memory
            .snapshot()
            .map(|snapshot| Arc::new(SnapshotPages::new(snapshot.clone()).by_cluster(options.prefetch)));
        let source = memory.over(stored.clone().map(|pages| pages as Arc<dyn PageSource>));
        let source = source.unwrap_or_else(|| Arc::new(Zeros));
        let ram = Ram::new(vm, 0, state.pages(), marking, source)?
            .with_readahead(options.prefetch)
            .with_whole_slots();
        ram.stop_by(stop.clone());
        let pages = ram.pages();
        let cpus = host.cpus;
        let core = Core::new(vcpu, host, stop, memory, options, state.exits, state.seed);
        let mut machine = Machine::assemble(core, ram, world, state, search, out_retires);
        // A CPU that walks the guest's tables by itself, and finds one where KVM knows of no memory, takes it
        // for a device's: KVM emulates the instruction, cannot walk there either, and gives the guest a page
        // fault. Under shadow paging, tables are kept present.
        if marking == Marking::Eager || !machine.core.host.bare_metal()?.shadow_paging {
            machine.ram.attach(0..pages)?;
        }
        if let (true, Some(pages)) = (options.prefetch, &stored) {
            let brought = pages.prefetch(&machine.ram, cpus)?;
            machine.core.stats.count_fault(Rung::Prefetch, SourceKind::Snapshot, brought);
        }
        machine.bring_in_kept()?;
        // Not before there is memory: for PAE paging, KVM reads the topmost table now.
        machine.core.vcpu.set_state(&machine.start.vcpu)?;
        if options.eager {
            let brought = machine.ram.populate()?;
            machine.core.stats.count_fault(Rung::Populate, SourceKind::Snapshot, brought);
        }
        machine.set_double_fault_trap()?;
        Ok(machine)
    }

    /// The machine's state as of now.
    ///
    /// # Errors
    /// When pages that are wanted on the way to it cannot be had.
    pub fn state(&mut self) -> Result<KernelState, RunError> {
        let vcpu = self.cpu_state()?;
        let kept = self.kept_in(&vcpu)?;
        Ok(KernelState {
            vcpu,
            kept,
            devices: self.devices.state(),
            exits: self.core.exits,
            ..self.start.clone()
        })
    }

    /// The machine's state as of now, and its memory.
    ///
    /// # Errors
    /// As [`Machine::state`].
    pub fn checkpoint(&mut self) -> Result<(KernelState, Memory), RunError> {
        let state = self.state()?;
        let last = self.core.memory.checkpoint();
        let pages = CheckpointPages::of(&self.ram, self.ram.pages(), last.map(|last| &**last), |_| false)?;
        self.core.memory = self.core.memory.with(Arc::new(pages));
        Ok((state, self.core.memory.clone()))
    }

    /// Writes a snapshot. With `options.parent`, the snapshot that this machine was restored from,
    /// only pages that differ from it. `encode` makes of the state what a snapshot holds.
    ///
    /// # Errors
    /// [`SaveError`].
    pub fn save(
        &mut self,
        path: &Path,
        options: &WriteOptions,
        progress: &mut dyn FnMut(u64, u64),
        encode: impl FnOnce(KernelState) -> Result<Vec<u8>, SaveError>,
    ) -> Result<Summary, SaveError> {
        if self.end.is_some() {
            return Err(SaveError::Ended);
        }
        let encoded = encode(self.state()?)?;
        let mut contents = RamContents::new(&self.ram, self.ram.pages(), |_| false)?;
        Ok(dejavm_snapshot::write(path, options, &encoded, &mut contents, progress)?)
    }
}
