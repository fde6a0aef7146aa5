//! `membarrier` (`kernel/sched/membarrier.c`). On one CPU, whose tasks change places at exits alone, every
//! barrier holds already: what is left is who may ask for which.

use super::Args;
use crate::errno::Errno;
use crate::program::error::SysResult;
use crate::program::kernel::Kernel;

/// `MEMBARRIER_CMD_*` (`include/uapi/linux/membarrier.h`).
mod command {
    pub const QUERY: u32 = 0;
    pub const GLOBAL: u32 = 1 << 0;
    pub const GLOBAL_EXPEDITED: u32 = 1 << 1;
    pub const REGISTER_GLOBAL: u32 = 1 << 2;
    pub const PRIVATE: u32 = 1 << 3;
    pub const REGISTER_PRIVATE: u32 = 1 << 4;
    pub const PRIVATE_SYNC_CORE: u32 = 1 << 5;
    pub const REGISTER_SYNC_CORE: u32 = 1 << 6;
    pub const PRIVATE_RSEQ: u32 = 1 << 7;
    pub const REGISTER_RSEQ: u32 = 1 << 8;
    pub const REGISTRATIONS: u32 = 1 << 9;
}

/// All of them.
const ALL: u32 = (1 << 10) - 1;
/// `MEMBARRIER_CMD_FLAG_CPU`
const FLAG_CPU: u32 = 1;

impl Kernel {
    pub(super) fn sys_membarrier(&mut self, a: Args) -> SysResult {
        let (asked, flags) = (a[0] as u32, a[1] as u32);
        if flags != 0 && !(asked == command::PRIVATE_RSEQ && flags == FLAG_CPU) {
            return Err(Errno::EINVAL.into());
        }
        let registered = &mut self.space.state.image.barriers;
        match asked {
            command::QUERY => return Ok(ALL.into()),
            command::GLOBAL | command::GLOBAL_EXPEDITED => {}
            command::REGISTER_GLOBAL
            | command::REGISTER_PRIVATE
            | command::REGISTER_SYNC_CORE
            | command::REGISTER_RSEQ => *registered |= asked,
            // What is registered is the next bit.
            command::PRIVATE | command::PRIVATE_SYNC_CORE | command::PRIVATE_RSEQ => {
                if *registered & asked << 1 == 0 {
                    return Err(Errno::EPERM.into());
                }
            }
            command::REGISTRATIONS => return Ok((*registered).into()),
            _ => return Err(Errno::EINVAL.into()),
        }
        Ok(0)
    }
}
