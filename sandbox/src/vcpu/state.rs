//! All of a vCPU's state that outlives a machine: what a snapshot of a bare-metal guest keeps.

use kvm_bindings::{kvm_debugregs, kvm_regs, kvm_sregs, kvm_vcpu_events};
use serde::{Deserialize, Serialize};

use super::registers::ExtendedState;
use super::{Vcpu, VcpuError, error};
use crate::x86::flags::cr0;
use crate::x86::{msr, vector, xstate};

/// Model-specific registers that a guest sets and that KVM keeps besides those in the system
/// registers. The time stamp is not among them: it is the host's.
const MSRS: [u32; 10] = [
    msr::SYSENTER_CS,
    msr::SYSENTER_ESP,
    msr::SYSENTER_EIP,
    msr::PAT,
    msr::STAR,
    msr::LSTAR,
    msr::CSTAR,
    msr::FMASK,
    msr::KERNEL_GS_BASE,
    msr::TSC_AUX,
];

/// DR6 and DR7 after a reset (Intel SDM volume 3, table 10-1).
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;
/// `IA32_APIC_BASE` of the first CPU after a reset (Intel SDM volume 3, section 12.4.4).
const APIC_BASE: u64 = 0xfee0_0900;
/// XCR0 after a reset: x87 alone (Intel SDM volume 1, section 13.3).
const XCR0_RESET: u64 = xstate::X87;

/// Whether an exception is on its way to the guest. To set registers then would lose it, or have it told of another
/// place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// None is.
    No,
    /// One is.
    Yes,
    /// A breakpoint is, if RIP is behind one: KVM does not tell of exceptions that an instruction raises by itself
    /// (`kvm_vcpu_ioctl_x86_get_vcpu_events`, `arch/x86/kvm/x86.c`), but for the vector of the last one.
    IfBehindBreakpoint,
}

/// The state of a vCPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CpuState {
    /// General registers.
    pub regs: kvm_regs,
    /// Segments, descriptor tables, control registers, EFER.
    pub sregs: kvm_sregs,
    /// Debug registers.
    pub debug: kvm_debugregs,
    /// Exceptions and interrupts on their way.
    pub events: kvm_vcpu_events,
    /// Enabled components of the extended state.
    pub xcr0: u64,
    /// x87, SSE and AVX state.
    pub extended: ExtendedState,
    /// Model-specific registers, by number; those that are not there are as after a reset.
    pub msrs: Vec<(u32, u64)>,
}

impl CpuState {
    /// A CPU that was just reset, but for these registers.
    pub fn reset(regs: kvm_regs, sregs: kvm_sregs) -> CpuState {
        CpuState {
            regs,
            sregs: kvm_sregs { apic_base: APIC_BASE, ..sregs },
            debug: kvm_debugregs { dr6: DR6_RESET, dr7: DR7_RESET, ..Default::default() },
            events: kvm_vcpu_events::default(),
            xcr0: XCR0_RESET,
            extended: ExtendedState::initial(),
            msrs: Vec::new(),
        }
    }
}

impl CpuState {
    /// Whether a machine can have been in it, as far as KVM does not check it when it is put in: for
    /// a state out of a file.
    pub fn is_valid(&self) -> bool {
        let CpuState { regs: _, sregs: _, debug: _, events: _, xcr0: _, extended, msrs } = self;
        // In their order, none twice, and no other: some would change the host's view of the guest.
        let mut known = MSRS.iter();
        extended.is_valid(u64::MAX) && msrs.iter().all(|(index, _)| known.any(|msr| msr == index))
    }
}

impl Vcpu {
    /// Takes all of the state. The vCPU must be between two instructions: see [`Vcpu::complete`].
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn state(&self) -> Result<CpuState, VcpuError> {
        let xcrs = self.fd.get_xcrs().map_err(error("KVM_GET_XCRS"))?;
        let xcr0 = xcrs.xcrs.iter().take(xcrs.nr_xcrs as usize).find(|xcr| xcr.xcr == 0);
        Ok(CpuState {
            regs: self.regs,
            sregs: self.sregs()?,
            debug: self.fd.get_debug_regs().map_err(error("KVM_GET_DEBUGREGS"))?,
            events: self.fd.get_vcpu_events().map_err(error("KVM_GET_VCPU_EVENTS"))?,
            xcr0: xcr0.map_or(XCR0_RESET, |xcr| xcr.value),
            extended: self.extended_state()?,
            msrs: self.msrs(&MSRS)?,
        })
    }

    /// Puts all of the state in. The CPUID table must be set before.
    ///
    /// # Errors
    /// When KVM refuses some of it, as it may when the state comes from a forged file.
    pub fn set_state(&mut self, state: &CpuState) -> Result<(), VcpuError> {
        self.set_sregs(&state.sregs)?;
        self.set_msrs(&state.msrs)?;
        self.set_xcr0(state.xcr0)?;
        self.set_extended_state(&state.extended)?;
        self.fd.set_debug_regs(&state.debug).map_err(error("KVM_SET_DEBUGREGS"))?;
        self.fd.set_vcpu_events(&state.events).map_err(error("KVM_SET_VCPU_EVENTS"))?;
        *self.regs_mut() = state.regs;
        Ok(())
    }

    /// Whether an exception is on its way to the guest.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn exception(&self) -> Result<InFlight, VcpuError> {
        let exception = self.fd.get_vcpu_events().map_err(error("KVM_GET_VCPU_EVENTS"))?.exception;
        Ok(match (exception.injected != 0 || exception.pending != 0, exception.nr) {
            (true, _) => InFlight::Yes,
            (false, vector::BREAKPOINT) => InFlight::IfBehindBreakpoint,
            (false, _) => InFlight::No,
        })
    }

    /// Those of the model-specific registers that KVM has.
    ///
    /// # Errors
    /// When KVM refuses to tell any.
    pub fn msrs(&self, wanted: &[u32]) -> Result<Vec<(u32, u64)>, VcpuError> {
        let mut found = Vec::with_capacity(wanted.len());
        for index in wanted {
            let entry = kvm_bindings::kvm_msr_entry { index: *index, ..Default::default() };
            let mut msrs = kvm_bindings::Msrs::from_entries(&[entry]).map_err(|_| VcpuError::Ioctl {
                what: "KVM_GET_MSRS",
                error: std::io::ErrorKind::InvalidInput.into(),
            })?;
            let got = self.fd.get_msrs(&mut msrs).map_err(error("KVM_GET_MSRS"))?;
            found.extend(msrs.as_slice().iter().take(got).map(|msr| (msr.index, msr.data)));
        }
        Ok(found)
    }

    /// The vector of the exception that KVM dealt with last.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn undelivered_exception(&self) -> Result<u8, VcpuError> {
        Ok(self.fd.get_vcpu_events().map_err(error("KVM_GET_VCPU_EVENTS"))?.exception.nr)
    }

    /// Whether the vCPU is where a reset puts it (Intel SDM volume 3, table 10-1): at 0xfff0, in real
    /// mode. No guest that is run here comes there by itself.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn was_reset(&self) -> Result<bool, VcpuError> {
        Ok(self.regs().rip == 0xfff0 && self.sregs()?.cr0 & cr0::PE == 0)
    }

    /// Drops an exception that is on its way.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn clear_exception(&mut self) -> Result<(), VcpuError> {
        let mut events = self.fd.get_vcpu_events().map_err(error("KVM_GET_VCPU_EVENTS"))?;
        events.exception = Default::default();
        self.fd.set_vcpu_events(&events).map_err(error("KVM_SET_VCPU_EVENTS"))
    }

    /// Makes the guest take an exception without an error code before its next instruction.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn inject_exception(&mut self, vector: u8) -> Result<(), VcpuError> {
        let mut events = self.fd.get_vcpu_events().map_err(error("KVM_GET_VCPU_EVENTS"))?;
        events.exception.injected = 1;
        events.exception.nr = vector;
        events.exception.has_error_code = 0;
        self.fd.set_vcpu_events(&events).map_err(error("KVM_SET_VCPU_EVENTS"))
    }
}
