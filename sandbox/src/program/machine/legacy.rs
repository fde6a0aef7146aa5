//! The ways into the kernel that programs took once: `int 0x80`, and the vsyscall page.
//!
//! Neither is there in the guest: an interrupt without a gate is a general protection fault, a call to
//! the vsyscall page a page fault. Both are answered as the system calls that they stand for.

use super::Machine;
use crate::machine::{RunEnd, RunError, RunOptions};
use crate::program::error::SysError;
use crate::program::signal::Info;
use crate::program::signal::number::SIGSEGV;
use crate::program::syscall::number;
use crate::program::wait::{Call, Way};
use crate::ram::PAGE_SIZE;
use crate::x86::flags::page_fault;
use crate::x86::frame::Frame;
use crate::x86::vector;

/// `int 0x80`.
const INT80: [u8; 2] = [0xcd, 0x80];

/// Lowest address of the vsyscall page, and what lies in it (`arch/x86/entry/vsyscall`).
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;
const VSYSCALLS: [(u64, u64); 3] =
    [(VSYSCALL, number::GETTIMEOFDAY), (VSYSCALL + 0x400, number::TIME), (VSYSCALL + 0x800, number::GETCPU)];

/// Whether an instruction is `int 0x80`.
pub(super) fn is_int80(code: &[u8]) -> bool {
    code.starts_with(&INT80)
}

/// Whether an address lies in the vsyscall page.
pub(super) fn is_vsyscall(address: u64) -> bool {
    (VSYSCALL..VSYSCALL + PAGE_SIZE as u64).contains(&address)
}

impl Machine {
    /// `int 0x80`: a call by the table of 32-bit programs, with arguments of 32 bits. Those calls are
    /// answered that mean the same in both tables.
    pub(super) fn int80(
        &mut self,
        frame: &Frame,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.take_frame(frame);
        let general = &mut self.kernel.task.regs.general;
        general.rip = frame.rip.wrapping_add(INT80.len() as u64);
        let args = [general.rbx, general.rcx, general.rdx, general.rsi, general.rdi, general.rbp]
            .map(|register| register & 0xffff_ffff);
        let rax = general.rax;
        let number = of_32_bit(rax as u32).unwrap_or(number::NONE);
        self.answer_call(Call { number, args, rax, way: Way::Int80 }, options)
    }

    /// A call into the vsyscall page (`emulate_vsyscall`): it returns to where the stack says. Another
    /// address than those of its calls, a bad stack, or a pointer that cannot be written is a `SIGSEGV`.
    pub(super) fn vsyscall(
        &mut self,
        frame: &Frame,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.take_frame(frame);
        let number = VSYSCALLS.into_iter().find(|(at, _)| *at == frame.rip).map(|(_, number)| number);
        let caller = match self.kernel.read_u64(frame.rsp) {
            Ok(caller) => Some(caller),
            Err(SysError::Errno(_)) => None,
            Err(e) => return Err(e.into()),
        };
        let (Some(number), Some(caller)) = (number, caller) else {
            let error = page_fault::PRESENT | page_fault::USER | page_fault::FETCH;
            self.record_exception(vector::PAGE_FAULT, error, frame.rip, options)?;
            return self.raise(Info::by_kernel(SIGSEGV), options);
        };
        let general = &mut self.kernel.task.regs.general;
        (general.rip, general.rsp) = (caller, frame.rsp.wrapping_add(8));
        let (rax, args) = (general.rax, [general.rdi, general.rsi, general.rdx, 0, 0, 0]);
        self.answer_call(Call { number, args, rax, way: Way::Vsyscall }, options)
    }
}

/// The number of a 32-bit program's call (`arch/x86/entry/syscalls/syscall_32.tbl`) in the table of 64-bit
/// ones, for calls whose arguments are the same but for their width.
fn of_32_bit(number: u32) -> Option<u64> {
    Some(match number {
        1 => number::EXIT,
        3 => number::READ,
        4 => number::WRITE,
        5 => number::OPEN,
        6 => number::CLOSE,
        8 => number::CREAT,
        9 => number::LINK,
        10 => number::UNLINK,
        12 => number::CHDIR,
        15 => number::CHMOD,
        20 => number::GETPID,
        29 => number::PAUSE,
        33 => number::ACCESS,
        37 => number::KILL,
        38 => number::RENAME,
        39 => number::MKDIR,
        40 => number::RMDIR,
        41 => number::DUP,
        42 => number::PIPE,
        45 => number::BRK,
        60 => number::UMASK,
        63 => number::DUP2,
        64 => number::GETPPID,
        83 => number::SYMLINK,
        85 => number::READLINK,
        91 => number::MUNMAP,
        94 => number::FCHMOD,
        118 => number::FSYNC,
        125 => number::MPROTECT,
        133 => number::FCHDIR,
        158 => number::SCHED_YIELD,
        168 => number::POLL,
        183 => number::GETCWD,
        199 => number::GETUID,
        200 => number::GETGID,
        201 => number::GETEUID,
        202 => number::GETEGID,
        219 => number::MADVISE,
        224 => number::GETTID,
        252 => number::EXIT_GROUP,
        270 => number::TGKILL,
        295 => number::OPENAT,
        296 => number::MKDIRAT,
        301 => number::UNLINKAT,
        355 => number::GETRANDOM,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_ways_are_known() {
        assert!(is_int80(&[0xcd, 0x80, 0x90]) && !is_int80(&[0xcd, 0x81]) && !is_int80(&[0xcd]));
        assert!(is_vsyscall(VSYSCALL) && is_vsyscall(VSYSCALL + 0xfff));
        assert!(!is_vsyscall(VSYSCALL - 1) && !is_vsyscall(VSYSCALL + 0x1000));
    }
}
