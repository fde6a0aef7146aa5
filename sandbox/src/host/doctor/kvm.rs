//! KVM itself: whether it may be used, what it must have, and what it may have.

use kvm_bindings::{
    KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_GUEST_MEMFD,
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_MEMORY_FAULT_INFO, KVM_CAP_PRE_FAULT_MEMORY,
    KVM_CAP_X86_USER_SPACE_MSR,
};

use super::{Finding, Host, Level};
use crate::host::basics::missing_capabilities;
use crate::host::{HostError, HostProfile, create_vm, open_kvm};

/// `/dev/kvm` present, permitted, and of the one version there is.
pub fn device() -> Finding {
    match open_kvm() {
        Ok(_) => Finding::new(
            Level::Ok,
            "opens; API version 12",
            "needs no other privilege",
            "sandboxes run without root",
        ),
        Err(e) => Finding::new(
            Level::Unusable,
            e.to_string(),
            "refuses to start",
            "no sandbox runs until this is mended",
        ),
    }
}

/// The capabilities that sandboxes cannot do without.
pub fn capabilities() -> Finding {
    let missing = open_kvm().map(|kvm| missing_capabilities(&kvm));
    match missing {
        Ok(missing) if missing.is_empty() => {
            Finding::new(Level::Ok, "all there", "uses them", "nothing is missing")
        }
        Ok(missing) => Finding::new(
            Level::Unusable,
            format!("missing: {}", missing.join(", ")),
            "refuses to start",
            "a newer kernel is needed",
        ),
        Err(_) => Finding::new(Level::Unusable, "none: no KVM", "refuses to start", "see /dev/kvm"),
    }
}

/// Whether the guest runs that every start of dejavm begins with.
pub fn guests() -> Finding {
    match HostProfile::probe() {
        Ok(_) => Finding::new(
            Level::Ok,
            "run as on a known kind of host",
            "runs one at its start to choose its ways",
            "sandboxes run",
        ),
        Err(e) => Finding::new(Level::Unusable, e.to_string(), "refuses to start", "no sandbox runs here"),
    }
}

/// Whether KVM logs which pages are written, and keeps the log until it is told to forget pages of it.
pub fn written_pages(host: &Host) -> Result<Finding, HostError> {
    let vm = create_vm(&host.kvm)?;
    let has = vm.check_extension_raw(u64::from(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)) > 0;
    Ok(match has {
        true => Finding::new(
            Level::Ok,
            "KVM keeps one, until it is told which pages of it to forget",
            "finds by it what a run has written, and puts that back",
            "a sandbox is put back, as `dejavm fuzz` does for each input, at a cost that follows from what was written",
        ),
        false => Finding::new(
            Level::Limited,
            "KVM's is empty once it is read (Linux before 5.2)",
            "puts no sandbox back",
            "`Sandbox::reset_point` and `dejavm fuzz` fail; nothing else needs it",
        ),
    })
}

/// What KVM may have, none of which is needed.
const EXTRAS: [(&str, &[u32]); 5] = [
    ("memory-fault exits", &[KVM_CAP_MEMORY_FAULT_INFO]),
    ("KVM_PRE_FAULT_MEMORY", &[KVM_CAP_PRE_FAULT_MEMORY]),
    ("guest_memfd", &[KVM_CAP_GUEST_MEMFD]),
    ("dirty ring", &[KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL]),
    ("user-space MSR exits", &[KVM_CAP_X86_USER_SPACE_MSR]),
];

/// Present or not, as a machine says it.
pub fn extras(host: &Host) -> Result<Finding, HostError> {
    let vm = create_vm(&host.kvm)?;
    let (has, lacks): (Vec<_>, Vec<_>) = EXTRAS
        .iter()
        .partition(|(_, caps)| caps.iter().any(|cap| vm.check_extension_raw(u64::from(*cap)) > 0));
    let names = |extras: Vec<&(&'static str, &[u32])>| {
        let names: Vec<_> = extras.into_iter().map(|(name, _)| *name).collect();
        if names.is_empty() { "nothing".to_string() } else { names.join(", ") }
    };
    Ok(Finding::new(
        Level::Ok,
        format!("has {}; lacks {}", names(has), names(lacks)),
        "needs none of them",
        "nothing to do",
    ))
}
