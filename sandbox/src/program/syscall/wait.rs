//! Waiting for children: there are none, which is said once the arguments were looked at.

use super::Args;
use crate::errno::Errno;
use crate::program::error::SysResult;

/// `W*` and `__W*` (`include/uapi/linux/wait.h`).
const NOHANG: u32 = 1;
const STOPPED: u32 = 2;
const EXITED: u32 = 4;
const CONTINUED: u32 = 8;
const NOWAIT: u32 = 0x100_0000;
/// `__WNOTHREAD`, `__WALL` and `__WCLONE`.
const KINDS: u32 = 0x2000_0000 | 0x4000_0000 | 0x8000_0000;

/// `P_*`
const ALL: u32 = 0;
const PID: u32 = 1;
const GROUP: u32 = 2;
const DESCRIPTOR: u32 = 3;

/// `wait4`
pub(super) fn wait4(a: Args) -> SysResult {
    if a[2] as u32 & !(NOHANG | STOPPED | CONTINUED | KINDS) != 0 {
        return Err(Errno::EINVAL.into());
    }
    Err(if a[0] as i32 == i32::MIN { Errno::ESRCH } else { Errno::ECHILD }.into())
}

/// `waitid`
pub(super) fn waitid(a: Args) -> SysResult {
    let (which, id, options) = (a[0] as u32, a[1] as i32, a[3] as u32);
    let wanted = EXITED | STOPPED | CONTINUED;
    if options & !(NOHANG | NOWAIT | wanted | KINDS) != 0 || options & wanted == 0 {
        return Err(Errno::EINVAL.into());
    }
    Err(match which {
        ALL => Errno::ECHILD,
        PID if id > 0 => Errno::ECHILD,
        GROUP if id >= 0 => Errno::ECHILD,
        // No descriptor is one of a process.
        DESCRIPTOR if id >= 0 => Errno::EBADF,
        _ => Errno::EINVAL,
    }
    .into())
}
