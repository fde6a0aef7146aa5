//! Memory that the guest names to KVM by an MSR, and that KVM reads and writes by itself.

use crate::ram::PAGE_SIZE;

/// An MSR that holds a guest-physical address.
struct Naming {
    /// Numbers of the MSR: the present one, and a deprecated one that works alike.
    msrs: &'static [u32],
    /// The bit that says that the address counts. 0: any value but 0 does.
    enable: u64,
    /// The bits that hold the address.
    address: u64,
    /// Bytes there.
    len: u64,
}

/// Every such MSR. Those of KVM itself are in Linux's `Documentation/virt/kvm/x86/msr.rst`, those of
/// Hyper-V in the Hypervisor Top Level Functional Specification.
const NAMING: &[Naming] = &[
    // MSR_KVM_WALL_CLOCK_NEW and MSR_KVM_WALL_CLOCK: written to when the MSR is set, also by a restore.
    Naming { msrs: &[0x4b56_4d00, 0x11], enable: 0, address: !0, len: 12 },
    // MSR_KVM_SYSTEM_TIME_NEW and MSR_KVM_SYSTEM_TIME.
    Naming { msrs: &[0x4b56_4d01, 0x12], enable: 1, address: !1, len: 32 },
    // MSR_KVM_ASYNC_PF_EN.
    Naming { msrs: &[0x4b56_4d02], enable: 1, address: !0x3f, len: 64 },
    // MSR_KVM_STEAL_TIME.
    Naming { msrs: &[0x4b56_4d03], enable: 1, address: !0x3f, len: 64 },
    // MSR_KVM_PV_EOI_EN.
    Naming { msrs: &[0x4b56_4d04], enable: 1, address: !3, len: 4 },
    // HV_X64_MSR_HYPERCALL, HV_X64_MSR_REFERENCE_TSC, HV_X64_MSR_VP_ASSIST_PAGE.
    Naming {
        msrs: &[0x4000_0001, 0x4000_0021, 0x4000_0073],
        enable: 1,
        address: !0xfff,
        len: PAGE_SIZE as u64,
    },
];

/// The pages, by their numbers, that an MSR with a value names.
pub(super) fn pages(msr: u32, value: u64) -> impl Iterator<Item = u64> {
    let naming = NAMING.iter().find(|naming| naming.msrs.contains(&msr));
    let naming = naming.filter(|naming| match naming.enable {
        0 => value != 0,
        bit => value & bit != 0,
    });
    naming.into_iter().flat_map(move |naming| {
        let first = value & naming.address;
        let last = first.saturating_add(naming.len - 1);
        first / PAGE_SIZE as u64..=last / PAGE_SIZE as u64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(msr: u32, value: u64) -> Vec<u64> {
        pages(msr, value).collect()
    }

    #[test]
    fn named_pages() {
        for clock in [0x11, 0x4b56_4d00] {
            assert_eq!(of(clock, 0x5ff0), [5]);
            assert_eq!(of(clock, 0x5ff8), [5, 6]);
            assert_eq!(of(clock, 0), [0u64; 0]);
        }
        for enabled in [0x12, 0x4b56_4d01, 0x4b56_4d02, 0x4b56_4d03, 0x4b56_4d04, 0x4000_0001] {
            assert_eq!(of(enabled, 0x5001), [5]);
            assert_eq!(of(enabled, 0x5000), [0u64; 0]);
        }
        assert_eq!(of(0x12, 0x5ff5), [5, 6]);
        assert_eq!(of(0x4000_0021, 0x5003), [5]);
        assert_eq!(of(0x4000_0073, !0), [!0 >> 12]);
        assert_eq!(of(0x4b56_4d01, !0), [!0 >> 12]);
        assert_eq!(of(0xc000_0080, 0x5001), [0u64; 0]);
    }
}
