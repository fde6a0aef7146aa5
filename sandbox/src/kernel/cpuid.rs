//! What a bare-metal guest is told of its CPU, where CPUID traps.

use kvm_bindings::CpuId;

/// Leaves that KVM has for itself (`Documentation/virt/kvm/x86/cpuid.rst`). A guest that finds none
/// asks for no page that KVM would write to by itself: its clock, stolen time and the like.
const KVM_LEAVES: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x4fff_ffff;

// Feature bits (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.4).

/// Leaf 1 EDX, and AMD's copy of it: the time stamp counter, which nobody can trap at CPL 0, and the
/// local APIC, which is not there.
const TSC: u32 = 1 << 4;
const APIC: u32 = 1 << 9;
/// Leaf 1 ECX: VMX; leaf 0x80000001 ECX: SVM. KVM reads and writes by itself what a guest that has
/// guests of its own names to it.
const VMX: u32 = 1 << 5;
const SVM: u32 = 1 << 2;
/// Leaf 1 ECX: the x2APIC, its timer by the time stamp.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 7 EBX: the MSR that adjusts the time stamp.
const TSC_ADJUST: u32 = 1 << 1;
/// Leaf 0x80000001 EDX: RDTSCP.
const RDTSCP: u32 = 1 << 27;
/// Leaf 0x80000007 EDX: the time stamp counts evenly.
const INVARIANT_TSC: u32 = 1 << 8;

/// The host's table without what is not there, and without the time stamp counter: a guest that asks
/// before it reads one makes a run that can be repeated.
pub fn table(host: &CpuId) -> CpuId {
    let mut entries: Vec<_> =
        host.as_slice().iter().filter(|entry| !KVM_LEAVES.contains(&entry.function)).copied().collect();
    for entry in &mut entries {
        match entry.function {
            1 => {
                entry.edx &= !(TSC | APIC);
                entry.ecx &= !(VMX | X2APIC | TSC_DEADLINE);
            }
            7 if entry.index == 0 => entry.ebx &= !TSC_ADJUST,
            // The frequencies of the time stamp, the bus and the CPU.
            0x15 | 0x16 => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            0x8000_0001 => {
                entry.edx &= !(TSC | APIC | RDTSCP);
                entry.ecx &= !SVM;
            }
            0x8000_0007 => entry.edx &= !INVARIANT_TSC,
            _ => {}
        }
    }
    // It is no longer than it was.
    CpuId::from_entries(&entries).unwrap_or_else(|_| host.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::kvm_cpuid_entry2;

    #[test]
    fn what_is_not_there_is_not_told() {
        let all = |function| kvm_cpuid_entry2 {
            function,
            eax: !0,
            ebx: !0,
            ecx: !0,
            edx: !0,
            ..Default::default()
        };
        let host = CpuId::from_entries(&[all(0), all(1), all(0x15), all(0x4000_0001), all(0x8000_0007)]);
        let told = table(&host.expect("five entries"));
        let of = |function| told.as_slice().iter().find(|e| e.function == function);
        assert_eq!(of(0).map(|e| e.edx), Some(!0));
        assert_eq!(of(1).map(|e| (e.edx, e.ecx)), Some((!0x210, !0x120_0020)));
        assert_eq!(of(0x15).map(|e| e.ebx), Some(0));
        assert_eq!(of(0x8000_0007).map(|e| e.edx), Some(!0x100));
        assert!(of(0x4000_0001).is_none());
    }
}
