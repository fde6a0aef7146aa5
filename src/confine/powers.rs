//! What the process may do beyond any other of its user: capabilities; and limits.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    set_capabilities, set_capabilities_secure_bits,
};

use super::files::Files;

/// Descriptors that a confined process may have: its files, pipes and timers are fewer.
const DESCRIPTORS: u64 = 1024;

/// User id 0 gives a program that it executes no capabilities, and none can be handed on to one, for
/// good (`capabilities(7)`, "The securebits flags"). It leaves as little as an empty bounding set does,
/// by one call instead of one of 1 µs and more for each capability there is.
const ROOT_GIVES_NONE: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

/// Drops all capabilities of the calling thread, for good, and those that a program that it executes
/// would get.
///
/// A user who is root only by the capability to look past permissions would lose sight of what was
/// granted. So where a granted path itself cannot be read or written without it, and Landlock keeps
/// the process to what was granted, that one capability stays. Returns what stays.
pub(super) fn drop_capabilities(files: &Files, only_granted: bool) -> rustix::io::Result<CapabilitySet> {
    let had = capabilities(None)?;
    if had.permitted.is_empty() && had.inheritable.is_empty() {
        return Ok(CapabilitySet::empty());
    }
    if had.effective.contains(CapabilitySet::SETPCAP) {
        // Where somebody has locked them otherwise, `no_new_privs` alone keeps programs from getting more.
        let _ = set_capabilities_secure_bits(capabilities_secure_bits()? | ROOT_GIVES_NONE);
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: had.permitted, inheritable: none })?;
    let mut kept = none;
    if only_granted {
        if !files.read.iter().all(|path| may(path, Access::READ_OK)) {
            kept |= CapabilitySet::DAC_READ_SEARCH;
        }
        if !files.write.iter().all(|path| may(path, Access::WRITE_OK)) {
            kept |= CapabilitySet::DAC_OVERRIDE;
        }
        kept &= had.permitted;
    }
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })?;
    Ok(kept)
}

/// Whether a path may be used, and searched if it is a directory, as the process is now.
fn may(path: &Path, access: Access) -> bool {
    let can = |access| accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    can(access | Access::EXEC_OK) || (!path.is_dir() && can(access))
}

/// Lowers limits: no core file, which would hold the guest's memory and the monitor's, and no more
/// descriptors than sandboxes need.
pub(super) fn limit() -> rustix::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let lower = |now: Option<u64>| Some(now.unwrap_or(DESCRIPTORS).min(DESCRIPTORS));
    let now = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: lower(now.current), maximum: lower(now.maximum) })
}
