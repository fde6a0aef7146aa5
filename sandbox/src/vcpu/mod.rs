//! One virtual CPU: registers, `KVM_RUN`, and what came out of it.

#![allow(unsafe_code)]

mod exit;
pub mod registers;
mod state;

use std::io;
use std::os::fd::AsRawFd;

use kvm_bindings::{
    KVM_CAP_ENFORCE_PV_FEATURE_CPUID, Msrs, kvm_enable_cap, kvm_msr_entry, kvm_regs, kvm_sregs,
};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd, VmFd};

use crate::host::thread::{BlockedSignals, let_rdtsc_run, make_rdtsc_fault};
pub use exit::{Data, Exit};
use registers::ExtendedState;
pub use state::{CpuState, InFlight};

/// `KVM_SET_SIGNAL_MASK` (`include/uapi/linux/kvm.h`): `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`.
const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

/// `struct kvm_signal_mask` with the kernel's 8-byte set behind it.
#[repr(C)]
struct SignalMask {
    len: u32,
    set: [u8; 8],
}

/// A virtual CPU.
///
/// General registers travel in the shared run area (`KVM_CAP_SYNC_REGS`): they are read after each
/// exit and written back before the next entry only if they were changed.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    regs: kvm_regs,
    regs_changed: bool,
    /// System registers that the next entry takes along: a call of its own costs a load of the vCPU.
    next_sregs: Option<kvm_sregs>,
    /// Those that an entry took along last.
    last_sregs: Option<kvm_sregs>,
    /// Those that the last exit brought along, as long as they are the vCPU's.
    brought_sregs: Option<kvm_sregs>,
    /// Exits bring the system registers along: see [`Vcpu::bring_sregs`].
    brings_sregs: bool,
    mask: Option<u64>,
    /// RDTSC must be made to fault on the thread while the guest runs: where KVM ignores the
    /// guest's own CR4.TSD.
    thread_traps_tsc: bool,
    /// RDTSC goes on faulting between exits, until [`Vcpu::settle`].
    keeps_tsc_faulting: bool,
}

fn error(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> VcpuError {
    move |e| VcpuError::Ioctl { what, error: e.into() }
}

/// A vCPU that KVM does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VcpuError {
    /// A call that KVM refused.
    #[error("{what}: {error}")]
    Ioctl {
        /// The call.
        what: &'static str,
        /// What it said.
        #[source]
        error: io::Error,
    },
}

impl Vcpu {
    /// Makes vCPU `id` of a machine.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn new(vm: &VmFd, id: u64) -> Result<Vcpu, VcpuError> {
        let mut fd = vm.create_vcpu(id).map_err(error("KVM_CREATE_VCPU"))?;
        fd.set_sync_valid_reg(SyncReg::Register);
        let regs = fd.get_regs().map_err(error("KVM_GET_REGS"))?;
        Ok(Vcpu {
            fd,
            regs,
            regs_changed: false,
            next_sregs: None,
            last_sregs: None,
            brought_sregs: None,
            brings_sregs: false,
            mask: None,
            thread_traps_tsc: false,
            keeps_tsc_faulting: false,
        })
    }

    /// The general registers, as the last exit left them or as they were changed since.
    pub fn regs(&self) -> &kvm_regs {
        &self.regs
    }

    /// The general registers, to change.
    pub fn regs_mut(&mut self) -> &mut kvm_regs {
        self.regs_changed = true;
        &mut self.regs
    }

    /// The system registers.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn sregs(&self) -> Result<kvm_sregs, VcpuError> {
        if let Some(sregs) = self.next_sregs.or(self.brought_sregs) {
            return Ok(sregs);
        }
        self.fd.get_sregs().map_err(error("KVM_GET_SREGS"))
    }

    /// Sets the system registers.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn set_sregs(&mut self, sregs: &kvm_sregs) -> Result<(), VcpuError> {
        debug_assert!(self.next_sregs.is_none(), "two sets of system registers");
        self.brought_sregs = None;
        self.fd.set_sregs(sregs).map_err(error("KVM_SET_SREGS"))
    }

    /// Has every exit bring the system registers along, which takes some tenths of a microsecond, so that a
    /// call for them need not be made at those that want them: for hosts where each call takes several.
    pub fn bring_sregs(&mut self) {
        self.fd.set_sync_valid_reg(SyncReg::SystemRegister);
        self.brings_sregs = true;
    }

    /// The system registers as they were set last: what the guest has changed since is missing.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn sregs_set_last(&self) -> Result<kvm_sregs, VcpuError> {
        self.last_sregs.map_or_else(|| self.sregs(), Ok)
    }

    /// Sets the system registers at the next entry. They must be such as KVM takes.
    pub fn set_sregs_at_entry(&mut self, sregs: kvm_sregs) {
        (self.next_sregs, self.last_sregs) = (Some(sregs), Some(sregs));
    }

    /// Makes KVM refuse what it can do for guests and what the CPUID table does not tell of: its clock,
    /// stolen time, and whatever else it would write into memory by itself
    /// (`Documentation/virt/kvm/api.rst`, `KVM_CAP_ENFORCE_PV_FEATURE_CPUID`).
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn refuse_unadvertised(&self) -> Result<(), VcpuError> {
        let mut enforce = kvm_enable_cap { cap: KVM_CAP_ENFORCE_PV_FEATURE_CPUID, ..Default::default() };
        enforce.args[0] = 1;
        self.fd.enable_cap(&enforce).map_err(error("KVM_ENABLE_CAP"))
    }

    /// Sets model-specific registers.
    ///
    /// # Errors
    /// When KVM refuses one of them.
    pub fn set_msrs(&self, msrs: &[(u32, u64)]) -> Result<(), VcpuError> {
        let entries: Vec<_> =
            msrs.iter().map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() }).collect();
        let msrs = Msrs::from_entries(&entries).map_err(|_| VcpuError::Ioctl {
            what: "KVM_SET_MSRS",
            error: io::ErrorKind::InvalidInput.into(),
        })?;
        let set = self.fd.set_msrs(&msrs).map_err(error("KVM_SET_MSRS"))?;
        if set < entries.len() {
            let what = "KVM_SET_MSRS (a register was refused)";
            return Err(VcpuError::Ioctl { what, error: io::ErrorKind::Unsupported.into() });
        }
        Ok(())
    }

    /// Sets the CPUID table.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn set_cpuid(&self, cpuid: &kvm_bindings::CpuId) -> Result<(), VcpuError> {
        self.fd.set_cpuid2(cpuid).map_err(error("KVM_SET_CPUID2"))
    }

    /// The x87, SSE and AVX state.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn extended_state(&self) -> Result<ExtendedState, VcpuError> {
        let xsave = self.fd.get_xsave().map_err(error("KVM_GET_XSAVE"))?;
        Ok(ExtendedState::from_words(&xsave.region))
    }

    /// Sets the x87, SSE and AVX state.
    ///
    /// # Errors
    /// When KVM refuses it: a reserved bit of MXCSR, or a component that the CPU lacks.
    pub fn set_extended_state(&self, state: &ExtendedState) -> Result<(), VcpuError> {
        let xsave = kvm_bindings::kvm_xsave { region: state.to_words(), ..Default::default() };
        // SAFETY: KVM reads as many bytes as `KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2)` says, 4096
        // unless a process asked for dynamically enabled features (AMX), which this one does not.
        unsafe { self.fd.set_xsave(&xsave) }.map_err(error("KVM_SET_XSAVE"))
    }

    /// Enables extended-state components: XCR0.
    ///
    /// # Errors
    /// When KVM refuses the set.
    pub fn set_xcr0(&self, value: u64) -> Result<(), VcpuError> {
        let mut xcrs = kvm_bindings::kvm_xcrs { nr_xcrs: 1, ..Default::default() };
        xcrs.xcrs[0].value = value;
        self.fd.set_xcrs(&xcrs).map_err(error("KVM_SET_XCRS"))
    }

    /// Makes RDTSC fault by the thread's own setting while the guest runs.
    pub fn trap_tsc_by_thread(&mut self, trap: bool) {
        self.thread_traps_tsc = trap;
    }

    /// Leaves RDTSC faulting on this thread between exits, until somebody is asked who may read a clock:
    /// the outside, or an observer. Saves some microseconds each. Whatever runs there may allocate: it
    /// is for processes whose allocator reads no clock.
    pub fn keep_tsc_faulting(&mut self, keep: bool) {
        self.keeps_tsc_faulting = keep;
    }

    /// Runs the guest until something needs the monitor. The general registers are as at the exit
    /// afterwards.
    ///
    /// With [`Vcpu::keep_tsc_faulting`], RDTSC may fault on this thread from now on, until
    /// [`Vcpu::settle`]: only code that reads no clock may run before it is called.
    pub fn run(&mut self, signals: &BlockedSignals) -> Exit {
        let mask = signals.run_mask();
        if self.mask != Some(mask) {
            if let Err(error) = self.set_signal_mask(mask) {
                return Exit::Failed { errno: error.raw_os_error().unwrap_or(libc::EIO) };
            }
            self.mask = Some(mask);
        }
        if self.regs_changed {
            self.fd.sync_regs_mut().regs = self.regs;
            self.fd.set_sync_dirty_reg(SyncReg::Register);
        }
        let sets_sregs = self.next_sregs.is_some();
        if let Some(sregs) = self.next_sregs.take() {
            self.fd.sync_regs_mut().sregs = sregs;
            self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
        }
        if self.thread_traps_tsc {
            make_rdtsc_fault();
        }
        let exit = Exit::from_kvm(self.fd.run());
        if self.regs_changed {
            self.fd.clear_sync_dirty_reg(SyncReg::Register);
            self.regs_changed = false;
        }
        if sets_sregs {
            self.fd.clear_sync_dirty_reg(SyncReg::SystemRegister);
        }
        let came = self.fd.sync_regs();
        self.regs = came.regs;
        let brought = self.brings_sregs && !matches!(exit, Exit::Failed { .. });
        self.brought_sregs = brought.then_some(came.sregs);
        if !self.keeps_tsc_faulting {
            self.settle();
        }
        self.detail(exit)
    }

    /// Adds what only the run area knows.
    fn detail(&mut self, exit: Exit) -> Exit {
        match exit {
            Exit::InternalError { .. } => {
                let run = self.fd.get_kvm_run();
                // SAFETY: the exit reason is KVM_EXIT_INTERNAL_ERROR, for which KVM fills this
                // member of the union.
                let internal = unsafe { run.__bindgen_anon_1.internal };
                let n = (internal.ndata as usize).min(internal.data.len());
                Exit::InternalError { suberror: internal.suberror, data: internal.data[..n].to_vec() }
            }
            Exit::Out { port, data, .. } if data.len() > 1 => Exit::Out { port, size: self.io_size(), data },
            Exit::In { port, len, .. } if len > 1 => Exit::In { port, size: self.io_size(), len },
            other => other,
        }
    }

    /// Bytes of one access of the last port exit.
    fn io_size(&mut self) -> u8 {
        // SAFETY: the exit reason is KVM_EXIT_IO, for which KVM fills this member of the union.
        unsafe { self.fd.get_kvm_run().__bindgen_anon_1.io.size }
    }

    fn set_signal_mask(&self, mask: u64) -> io::Result<()> {
        let arg = SignalMask { len: 8, set: mask.to_ne_bytes() };
        // SAFETY: `arg` is a kvm_signal_mask followed by the 8 bytes that `len` names.
        let code = unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_SET_SIGNAL_MASK, &arg) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Answers the last [`Exit::In`]; the guest gets the bytes at the next entry. Bytes that are
    /// missing are as the exit left them.
    pub fn answer_in(&mut self, bytes: &[u8]) {
        let run = self.fd.get_kvm_run();
        // SAFETY: the last exit was KVM_EXIT_IO, for which this member of the union is in use.
        let io = unsafe { run.__bindgen_anon_1.io };
        let room = usize::from(io.size) * io.count as usize;
        let n = bytes.len().min(room);
        // SAFETY: KVM says that the data of this exit, `size` times `count` bytes, lies `data_offset`
        // bytes behind the start of the run area, all of which is mapped as long as `fd` lives;
        // `bytes` is no part of it.
        unsafe {
            let data = std::ptr::from_mut(run).cast::<u8>().add(io.data_offset as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), data, n);
        }
    }

    /// Finishes what KVM has begun for the last exit, without running the guest: the registers and
    /// the memory are those of a moment between two instructions then, if [`Exit::Signal`] comes. Else
    /// what comes is to be settled, and this called again. (`Documentation/virt/kvm/api.rst`, 5, on
    /// `KVM_EXIT_IO`.)
    pub fn complete(&mut self, signals: &BlockedSignals) -> Exit {
        self.fd.set_kvm_immediate_exit(1);
        let exit = self.run(signals);
        self.fd.set_kvm_immediate_exit(0);
        exit
    }

    /// Answers the last [`Exit::MmioRead`]; the guest gets the bytes at the next entry.
    pub fn answer_mmio(&mut self, bytes: &[u8]) {
        let run = self.fd.get_kvm_run();
        // SAFETY: the last exit was KVM_EXIT_MMIO, for which this member of the union is in use.
        let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
        let n = bytes.len().min(mmio.data.len());
        mmio.data[..n].copy_from_slice(&bytes[..n]);
    }

    /// Lets RDTSC run on this thread again: see [`let_rdtsc_run`].
    pub fn settle(&mut self) {
        let_rdtsc_run();
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.settle();
    }
}

/// For the exit module's tests and [`Exit::from_kvm`].
type KvmResult<'a> = Result<VcpuExit<'a>, kvm_ioctls::Error>;
