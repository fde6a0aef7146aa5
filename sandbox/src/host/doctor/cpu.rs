//! The CPU: what it is, and whether it counts.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::{Finding, Host, Level};
use crate::host::HostError;

/// What snapshots and recordings remember of the CPU.
pub fn identity(host: &Host) -> Result<Finding, HostError> {
    let cpu = &host.profile.cpu;
    let (family, model, stepping) = family_model_stepping(cpu.signature);
    Ok(Finding::new(
        Level::Ok,
        format!(
            "{} family {family:#x} model {model:#x} stepping {stepping}, XCR0 {:#x}",
            cpu.vendor, cpu.xcr0
        ),
        "keeps it with every snapshot and recording, with the feature bits, and compares it",
        "snapshots and recordings made here start on the same kind of CPU",
    ))
}

/// Takes CPUID leaf 1 EAX apart (Intel SDM volume 2, figure 3-6).
fn family_model_stepping(signature: u32) -> (u32, u32, u32) {
    let field = |shift: u32, bits: u32| signature >> shift & ((1 << bits) - 1);
    let (base, extended) = (field(8, 4), field(20, 8));
    let family = if base == 0xf { base + extended } else { base };
    let model = if base == 0xf || base == 6 { field(16, 4) << 4 | field(4, 4) } else { field(4, 4) };
    (family, model, field(0, 4))
}

/// `struct perf_event_attr` as it was first (`include/uapi/linux/perf_event.h`): kernels take it by
/// its `size`.
#[repr(C)]
#[derive(Default)]
struct EventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

/// `PERF_COUNT_HW_INSTRUCTIONS`, of kind `PERF_TYPE_HARDWARE` (0).
const INSTRUCTIONS: u64 = 1;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOEXEC: libc::c_ulong = 1 << 3;
/// `disabled`, `exclude_kernel` and `exclude_hv`.
const FLAGS: u64 = 1 << 0 | 1 << 5 | 1 << 6;

/// Asks for a counter of this thread's own instructions in user mode.
fn open_counter() -> io::Result<OwnedFd> {
    let size = size_of::<EventAttr>() as u32;
    let attr = EventAttr { size, config: INSTRUCTIONS, flags: FLAGS, ..EventAttr::default() };
    // SAFETY: `attr` is a perf_event_attr of the size that it says, and valid for the call.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &attr, 0, -1, -1, CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Performance counters.
pub fn counters() -> Finding {
    let found = match open_counter() {
        Ok(_) => "there".to_string(),
        Err(e) => match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP) => "none".to_string(),
            Some(libc::EACCES | libc::EPERM) => "not permitted".to_string(),
            _ => format!("not usable: {e}"),
        },
    };
    Finding::new(
        Level::Ok,
        found,
        "needs none: it replays by exits, not by counting instructions",
        "recording and replay work in virtual machines of clouds",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_taken_apart() {
        assert_eq!(family_model_stepping(0x00a1_0f11), (0x19, 0x11, 1));
        assert_eq!(family_model_stepping(0x0005_0657), (6, 0x55, 7));
    }
}
