//! Pages that a guest may name to KVM, which reads and writes them by itself.

use iced_x86::code_asm::*;

use super::{DONE, GP, Row, UD, row};
use crate::guest::*;

// Where these are numbered: `arch/x86/include/uapi/asm/kvm_para.h`, and the Hypervisor Top Level
// Functional Specification.
const WALL_CLOCK: [u32; 2] = [0x4b56_4d00, 0x11];
const SYSTEM_TIME: [u32; 2] = [0x4b56_4d01, 0x12];
const ASYNC_PF: u32 = 0x4b56_4d02;
const STEAL_TIME: u32 = 0x4b56_4d03;
const PV_EOI: u32 = 0x4b56_4d04;
const HYPERCALL_PAGE: u32 = 0x4000_0001;
const REFERENCE_TSC: u32 = 0x4000_0021;
const ASSIST_PAGE: u32 = 0x4000_0073;
/// Of `kvm_pvm` (out of tree): the vCPU's structure.
const PVM_VCPU_STRUCT: u32 = 0x4b56_4df1;
/// `KVM_HC_CLOCK_PAIRING` (`include/uapi/linux/kvm_para.h`).
const CLOCK_PAIRING: u32 = 9;
/// EFER, and in it SVM; in CR4, VMX.
const EFER: u32 = 0xc000_0080;
const EFER_SVME: i32 = 1 << 12;
const CR4_VMXE: i32 = 1 << 13;

const UNADVERTISED: &str = "CPUID does not tell of it, and KVM refuses the MSR";
const NO_HYPERV: &str = "CPUID does not tell of Hyper-V, and KVM refuses its MSRs";
const NO_HYPERCALL: &str = "KVM does not patch hypercalls (`KVM_X86_QUIRK_FIX_HYPERCALL_INSN` is off)";
const HYPERCALL: &str = "\
    not prevented: the CPU's own hypercalls reach KVM, and give the host's time; no CPUID bit tells of \
    this one";
const NO_NESTED: &str = "CPUID does not tell of it";

const CLOCK: &str = "`kvm_setup_guest_pvclock`, `kvm_gpc_refresh` (x86.c): left out silently";
const WALL: &str = "`kvm_write_wall_clock`, `kvm_write_guest` (x86.c): left out silently";
const STEAL: &str = "`record_steal_time` (x86.c), `unsafe_put_user`: left out silently";
const EOI: &str = "`pv_eoi_put_user`, `kvm_write_guest_cached` (lapic.c): left out silently";
const ASYNC: &str = "`kvm_pv_enable_async_pf`, `apf_put_user_notpresent` (x86.c): left out silently";
const HYPERV: &str =
    "`kvm_hv_set_msr_pw`, `kvm_hv_set_msr` (hyperv.c), `__put_user`, `kvm_write_guest`: `#GP`, or left out";
const PAIRING: &str = "`kvm_pv_clock_pairing`, `kvm_write_guest` (x86.c): `-KVM_EFAULT` in RAX";
const NESTED: &str =
    "`kvm_vcpu_map` (virt/kvm/kvm_main.c), nested page faults (vmx/nested.c, svm/nested.c): failed VM entry";
const PVM: &str = "`kvm_gpc_activate` (virt/kvm/pfncache.c), by `kvm_pvm` (out of tree): `#GP`";

/// Names a page by a MSR, and makes some exits, at which KVM would write to it.
fn name(msr: u32, value: u64) -> Guest {
    Guest::kernel(|a| {
        a.mov(ecx, msr)?;
        a.mov(eax, value as u32)?;
        a.xor(edx, edx)?;
        a.wrmsr()?;
        for _ in 0..3 {
            a.out(i32::from(LOG), al)?;
        }
        exit(a, DONE)
    })
}

fn enabled(msr: u32) -> Guest {
    name(msr, at(DATA) | 1)
}

/// A hypercall that has a page written to, by the instruction that `call` writes.
fn pairing(call: impl FnOnce(&mut CodeAssembler) -> Code) -> Guest {
    Guest::kernel(|a| {
        a.mov(eax, CLOCK_PAIRING)?;
        a.mov(ebx, at(DATA) as u32)?;
        a.xor(ecx, ecx)?;
        call(a)?;
        exit(a, DONE)
    })
}

pub const ROWS: &[Row] = &[
    row("kvmclock", "`MSR_KVM_SYSTEM_TIME_NEW`", CLOCK, &[DATA], || enabled(SYSTEM_TIME[0]))
        .prevented(GP, UNADVERTISED),
    row("kvmclock-old", "`MSR_KVM_SYSTEM_TIME`", CLOCK, &[DATA], || enabled(SYSTEM_TIME[1]))
        .prevented(GP, UNADVERTISED),
    row("wall-clock", "`MSR_KVM_WALL_CLOCK_NEW`", WALL, &[DATA], || name(WALL_CLOCK[0], at(DATA)))
        .prevented(GP, UNADVERTISED),
    row("wall-clock-old", "`MSR_KVM_WALL_CLOCK`", WALL, &[DATA], || name(WALL_CLOCK[1], at(DATA)))
        .prevented(GP, UNADVERTISED),
    row("steal-time", "`MSR_KVM_STEAL_TIME`", STEAL, &[DATA], || enabled(STEAL_TIME))
        .prevented(GP, UNADVERTISED),
    row("pv-eoi", "`MSR_KVM_PV_EOI_EN`", EOI, &[DATA], || enabled(PV_EOI)).prevented(GP, UNADVERTISED),
    row("async-pf", "`MSR_KVM_ASYNC_PF_EN`", ASYNC, &[DATA], || enabled(ASYNC_PF))
        .prevented(GP, UNADVERTISED),
    row("hyperv-hypercall", "`HV_X64_MSR_HYPERCALL`", HYPERV, &[DATA], || enabled(HYPERCALL_PAGE))
        .prevented(GP, NO_HYPERV),
    row("hyperv-tsc", "`HV_X64_MSR_REFERENCE_TSC`", HYPERV, &[DATA], || enabled(REFERENCE_TSC))
        .prevented(GP, NO_HYPERV),
    row("hyperv-assist", "`HV_X64_MSR_VP_ASSIST_PAGE`", HYPERV, &[DATA], || enabled(ASSIST_PAGE))
        .prevented(GP, NO_HYPERV),
    row("pvm-vcpu-struct", "`MSR_PVM_VCPU_STRUCT`", PVM, &[DATA], || name(PVM_VCPU_STRUCT, at(DATA)))
        .prevented(GP, "CPUID does not tell of it, and KVM refuses the MSR"),
    row("clock-pairing-vmcall", "`KVM_HC_CLOCK_PAIRING` by `vmcall`", PAIRING, &[DATA], || {
        pairing(|a| a.vmcall())
    })
    .prevented(UD, NO_HYPERCALL)
    .needs(HYPERCALL),
    row("clock-pairing-vmmcall", "`KVM_HC_CLOCK_PAIRING` by `vmmcall`", PAIRING, &[DATA], || {
        pairing(|a| a.vmmcall())
    })
    .prevented(UD, NO_HYPERCALL)
    .needs(HYPERCALL),
    row("nested-vmx", "CR4.VMXE and `vmxon`", NESTED, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(rax, cr4)?;
            a.or(eax, CR4_VMXE)?;
            a.mov(cr4, rax)?;
            a.vmxon(qword_ptr(at(DATA)))?;
            exit(a, DONE)
        })
    })
    .prevented(GP, NO_NESTED),
    row("nested-svm", "EFER.SVME and `vmrun`", NESTED, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(ecx, EFER)?;
            a.rdmsr()?;
            a.or(eax, EFER_SVME)?;
            a.wrmsr()?;
            a.mov(eax, at(DATA) as u32)?;
            a.vmrun()?;
            exit(a, DONE)
        })
    })
    .prevented(GP, NO_NESTED),
];
