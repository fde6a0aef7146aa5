//! The sites that the KVM_CAP_MEMORY_FAULT_EXIT series annotated, or that its reviews named
//! (<https://lore.kernel.org/kvm/20230602161921.208564-1-amoorthy@google.com/>).

use crate::kind::Kind;

/// A site, and where it is met here.
pub struct Site {
    /// The site, in the thread's words, with the function.
    pub site: &'static str,
    /// Rows of the tables above.
    pub rows: &'static [&'static str],
    /// What keeps a guest from it on this kind of host, if something does, and what shows that.
    pub not_here: fn(Kind) -> Option<&'static str>,
}

fn reached(_: Kind) -> Option<&'static str> {
    None
}

fn direct_map(kind: Kind) -> Option<&'static str> {
    kind.shadow.then_some(
        "not reachable: the walker's probe (`HostProfile::bare_metal`) finds shadow paging. By the source, \
         as `user-read`",
    )
}

fn shadow(kind: Kind) -> Option<&'static str> {
    (!kind.shadow).then_some("not reachable: the CPU walks the tables, and their absence is as any page's")
}

fn nested(_: Kind) -> Option<&'static str> {
    Some("not reachable: a guest gets neither VMX nor SVM. By the source, `-EFAULT` as for `user-read`")
}

fn lapic(_: Kind) -> Option<&'static str> {
    Some(
        "not reachable: no interrupt controller in the kernel, shown by the test `there_is_no_lapic`. By the \
         source, left out silently",
    )
}

/// All of them.
pub const SITES: [Site; 15] = [
    Site {
        site: "direct map: `direct_page_fault`, `kvm_faultin_pfn`",
        rows: &["user-read"],
        not_here: direct_map,
    },
    Site {
        site: "error pfn: `kvm_handle_error_pfn`",
        rows: &["user-read", "user-write", "user-execute"],
        not_here: reached,
    },
    Site {
        site: "nested page fault: `nested_ept_inject_page_fault`, `nested_svm_inject_npf_exit`",
        rows: &["nested-vmx", "nested-svm"],
        not_here: nested,
    },
    Site {
        site: "shadow fetch: `FNAME(fetch)`",
        rows: &["user-walk-page", "user-read-row"],
        not_here: shadow,
    },
    Site {
        site: "shadow walk: `FNAME(walk_addr_generic)`",
        rows: &["user-walk-pt", "kernel-walk-pt"],
        not_here: shadow,
    },
    Site {
        site: "accessed and dirty update: `FNAME(update_accessed_dirty_bits)`",
        rows: &["user-accessed", "user-dirty", "accessed-absent"],
        not_here: shadow,
    },
    Site {
        site: "guest read: `kvm_vcpu_read_guest_page`",
        rows: &["kernel-read", "kernel-execute", "mov-ds"],
        not_here: reached,
    },
    Site {
        site: "atomic guest read: `kvm_vcpu_read_guest_atomic`",
        rows: &["user-walk-page"],
        not_here: shadow,
    },
    Site {
        site: "guest write: `kvm_vcpu_write_guest_page`",
        rows: &["kernel-write", "sgdt"],
        not_here: reached,
    },
    Site {
        site: "atomic guest write: `emulator_cmpxchg_emulated`",
        rows: &["kernel-cmpxchg", "kernel-lock-cross"],
        not_here: reached,
    },
    Site {
        site: "cached guest access: `kvm_read_guest_offset_cached`, `kvm_write_guest_offset_cached`",
        rows: &["pv-eoi", "async-pf"],
        not_here: lapic,
    },
    Site {
        site: "kvmclock and its pairing: `kvm_setup_guest_pvclock`, `kvm_pv_clock_pairing`",
        rows: &["kvmclock", "wall-clock", "clock-pairing-vmcall", "clock-pairing-vmmcall"],
        not_here: reached,
    },
    Site { site: "steal time: `record_steal_time`", rows: &["steal-time"], not_here: reached },
    Site { site: "vCPU map: `kvm_vcpu_map`", rows: &["nested-vmx", "nested-svm"], not_here: nested },
    Site {
        site: "Hyper-V assist page: `kvm_hv_set_msr`, `kvm_hv_get_assist_page`",
        rows: &["hyperv-assist"],
        not_here: reached,
    },
];
