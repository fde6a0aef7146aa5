//! Single steps and breakpoints: by the guest's own flags and tables, and by KVM's debugging.
//!
//! TF works everywhere. What KVM offers is tried on a bare vCPU, since nothing else in this crate
//! uses it.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, Msrs, kvm_debugregs,
    kvm_guest_debug, kvm_msr_entry, kvm_regs,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::guest::strange;
use super::{Finding, Host, Level, NOTHING};
use crate::entry::{EXCEPTION_PORT, SYSCALL_PORT};
use crate::host::HostError;
use crate::host::thread::{BlockedSignals, KickTimer};
use crate::host::tiny::{Event, Ring, START, Tables, msrs};
use crate::x86::flags::rflags;
use crate::x86::vector::DEBUG;

/// `nop; nop; syscall`.
const PROGRAM: [u8; 4] = [0x90, 0x90, 0x0f, 0x05];
/// The second instruction.
const SECOND: u64 = START + 1;
/// DR7: breakpoint 0 for execution, globally enabled, and the bit that is always one (Intel SDM
/// volume 3, section 18.2.4).
const DR7: u64 = 1 << 10 | 1 << 1;

/// TF, set by the monitor, and the guest's IDT.
pub fn trap_flag(host: &Host) -> Result<Finding, HostError> {
    let mut guest = host.guest(Ring::User, &PROGRAM)?;
    guest.vcpu.regs_mut().rflags |= rflags::TRAP_FLAG;
    match guest.run()? {
        Event::Exception { vector: DEBUG, frame } if frame.rip == SECOND => Ok(Finding::new(
            Level::Ok,
            "#DB through the guest's IDT after one instruction",
            "relies on it for single steps",
            "guests can be stepped",
        )),
        Event::Syscall => Ok(Finding::new(
            Level::Limited,
            "has no effect",
            "nothing that helps",
            "guests can be stopped at exits only",
        )),
        other => Err(strange("TF", &other)),
    }
}

/// What became of a guest that KVM debugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// `KVM_EXIT_DEBUG`.
    Exit,
    /// A debug exception in the guest.
    Guest,
    /// Nothing: it ran to its end.
    None,
}

/// Runs [`PROGRAM`] on a vCPU that `prepare` has made ready to stop.
fn run(
    host: &Host,
    prepare: impl FnOnce(&VcpuFd) -> Result<(), kvm_ioctls::Error>,
) -> Result<Stop, HostError> {
    let call = |what| move |e: kvm_ioctls::Error| HostError::Kvm { what, error: e.into() };
    let vm = Arc::new(host.kvm.create_vm().map_err(call("KVM_CREATE_VM"))?);
    let tables = Tables::new(&vm)?;
    tables.load(&PROGRAM);
    // After the tables, so that it is dropped before them.
    let mut vcpu = vm.create_vcpu(0).map_err(call("KVM_CREATE_VCPU"))?;
    vcpu.set_cpuid2(&host.profile.cpuid).map_err(call("KVM_SET_CPUID2"))?;
    let entries = msrs().map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
    let entries = Msrs::from_entries(&entries).map_err(|e| HostError::Guest(format!("{e:?}")))?;
    vcpu.set_msrs(&entries).map_err(call("KVM_SET_MSRS"))?;
    let mut sregs = vcpu.get_sregs().map_err(call("KVM_GET_SREGS"))?;
    tables.set_sregs(&mut sregs, Ring::User, false, false);
    vcpu.set_sregs(&sregs).map_err(call("KVM_SET_SREGS"))?;
    let regs =
        kvm_regs { rip: START, rsp: tables.stack(Ring::User), rflags: rflags::FIXED, ..Default::default() };
    vcpu.set_regs(&regs).map_err(call("KVM_SET_REGS"))?;
    prepare(&vcpu).map_err(call("KVM_SET_GUEST_DEBUG"))?;

    let stop = match run_bounded(&mut vcpu)? {
        Bounded::Debug => return Ok(Stop::Exit),
        Bounded::Out(SYSCALL_PORT) => Stop::None,
        Bounded::Out(EXCEPTION_PORT) => Stop::Guest,
        other => return Err(HostError::Guest(format!("a guest that is debugged gave {other:?}"))),
    };
    let regs = vcpu.get_regs().map_err(call("KVM_GET_REGS"))?;
    match (stop, tables.exception(regs.rip, regs.rsp)) {
        (Stop::Guest, Some((DEBUG, _))) | (Stop::None, None) => Ok(stop),
        (_, other) => Err(HostError::Guest(format!("a guest that is debugged gave {other:?}"))),
    }
}

/// The exits that a debugged guest may come to.
#[derive(Debug)]
enum Bounded {
    Debug,
    Out(u16),
    Other(#[expect(dead_code, reason = "printed")] String),
}

/// Longest stay in `KVM_RUN`.
const LIMIT: Duration = Duration::from_secs(2);

/// `KVM_SET_SIGNAL_MASK` (`include/uapi/linux/kvm.h`): `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`.
const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

/// `struct kvm_signal_mask` with the kernel's 8-byte set behind it.
#[repr(C)]
struct SignalMask {
    len: u32,
    set: [u8; 8],
}

fn run_bounded(vcpu: &mut VcpuFd) -> Result<Bounded, HostError> {
    let signals = BlockedSignals::new();
    let mask = SignalMask { len: 8, set: signals.run_mask().to_ne_bytes() };
    // SAFETY: `mask` is a kvm_signal_mask followed by the 8 bytes that `len` names; KVM copies it.
    if unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK, &mask) } < 0 {
        return Err(HostError::Kvm { what: "KVM_SET_SIGNAL_MASK", error: std::io::Error::last_os_error() });
    }
    let _timer = KickTimer::start(LIMIT, LIMIT).map_err(|e| HostError::Guest(format!("no timer: {e}")))?;
    Ok(match vcpu.run() {
        Ok(VcpuExit::Debug(_)) => Bounded::Debug,
        Ok(VcpuExit::IoOut(port, _)) => Bounded::Out(port),
        other => Bounded::Other(format!("{other:?}")),
    })
}

/// KVM's own single steps.
pub fn single_step(host: &Host) -> Result<Finding, HostError> {
    let debug =
        kvm_guest_debug { control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, ..Default::default() };
    let found = match run(host, |vcpu| vcpu.set_guest_debug(&debug))? {
        Stop::Exit => "KVM_EXIT_DEBUG after one instruction",
        Stop::Guest => "no exit: the #DB goes to the guest's IDT",
        Stop::None => "have no effect",
    };
    Ok(Finding::new(Level::Ok, found, "does not rely on them: TF does the same everywhere", NOTHING))
}

/// Hardware breakpoints: those that KVM sets for the monitor, and the guest's own.
pub fn breakpoints(host: &Host) -> Result<Finding, HostError> {
    let mut debug =
        kvm_guest_debug { control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, ..Default::default() };
    debug.arch.debugreg[0] = SECOND;
    debug.arch.debugreg[7] = DR7;
    let by_kvm = match run(host, |vcpu| vcpu.set_guest_debug(&debug))? {
        Stop::Exit => "KVM_EXIT_DEBUG at the address",
        Stop::Guest => "no exit: the #DB goes to the guest's IDT",
        Stop::None => "never stop",
    };
    let own = kvm_debugregs { db: [SECOND, 0, 0, 0], dr7: DR7, ..Default::default() };
    let by_guest = match run(host, |vcpu| vcpu.set_debug_regs(&own))? {
        Stop::Guest => "#DB through its IDT",
        Stop::Exit => "KVM_EXIT_DEBUG",
        Stop::None => "never stop",
    };
    Ok(Finding::new(
        Level::Ok,
        format!("set by KVM: {by_kvm}; in the guest's own DR7: {by_guest}"),
        "does not rely on them",
        "a debugger's breakpoints have to stand in the code, and its watchpoints cost single steps",
    ))
}
