//! System calls: from a number and six arguments to RAX, one file a family.
//!
//! A call that is not here returns `ENOSYS` and is counted; the run names it at its end.

mod advice;
mod credentials;
mod descriptor;
mod event;
mod exec;
mod futex;
mod info;
mod limits;
mod memory;
pub mod number;
mod path;
mod poll;
mod prctl;
mod process;
mod schedule;
mod signal;
mod socket;
mod time;
mod transfer;
mod wait;
mod xattr;

use super::error::{SysError, SysResult};
use super::files::{RwFlags, Where};
use super::fs::DirFormat;
use super::kernel::Kernel;
use crate::errno::Errno;
use xattr::Of;

/// A call's arguments: RDI, RSI, RDX, R10, R8, R9.
pub type Args = [u64; 6];

/// What the monitor does after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The program goes on with this in RAX.
    Return(u64),
    /// The registers were replaced (`rt_sigreturn`, `execve`).
    Replaced,
    /// The program has ended.
    Ended,
}

/// Answers a system call.
///
/// # Errors
/// What ends the run: never [`SysError::Errno`].
pub fn call(process: &mut Kernel, number: u64, args: Args) -> Result<After, SysError> {
    match number {
        number::RT_SIGRETURN => return process.sigreturn().map(|()| After::Replaced),
        number::EXIT | number::EXIT_GROUP => {
            process.sys_exit(args[0], number == number::EXIT_GROUP)?;
            return Ok(After::Ended);
        }
        _ => {}
    }
    let result = match number {
        number::EXECVE => process.sys_execve(args).map(|()| After::Replaced),
        number::EXECVEAT => process.sys_execveat(args).map(|()| After::Replaced),
        _ => dispatch(process, number, args).map(After::Return),
    };
    match result {
        Ok(after) => Ok(after),
        Err(SysError::Errno(errno)) => {
            if errno == Errno::ENOSYS && number != number::NONE {
                process.count_unknown(number);
            }
            Ok(After::Return(errno.to_rax()))
        }
        Err(e) => Err(e),
    }
}

/// Whether a wait that a signal ended is made again where its handler asks for that (`SA_RESTART`;
/// signal(7)): not one that has a limit of its own, or is for signals.
pub fn restarts(number: u64) -> bool {
    !matches!(
        number,
        number::PAUSE
            | number::RT_SIGSUSPEND
            | number::RT_SIGTIMEDWAIT
            | number::POLL
            | number::PPOLL
            | number::SELECT
            | number::PSELECT6
            | number::NANOSLEEP
            | number::CLOCK_NANOSLEEP
    )
}

fn dispatch(p: &mut Kernel, call: u64, a: Args) -> SysResult {
    match call {
        number::READ => p.sys_read(a),
        number::WRITE => p.sys_write(a),
        number::OPEN => p.sys_openat([AT_FDCWD, a[0], a[1], a[2], 0, 0]),
        number::CREAT => p.sys_openat([AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1], 0, 0]),
        number::OPENAT => p.sys_openat(a),
        number::OPENAT2 => p.sys_openat2(a),
        number::MEMFD_CREATE => p.sys_memfd_create(a),
        number::CLOSE => p.sys_close(a),
        number::CLOSE_RANGE => p.sys_close_range(a),
        number::LSEEK => p.sys_lseek(a),
        number::PREAD64 => p.sys_pread(a),
        number::PWRITE64 => p.sys_pwrite(a),
        number::READV => p.sys_readv(a, Where::Position, RwFlags::default()),
        number::WRITEV => p.sys_writev(a, Where::Position, RwFlags::default()),
        number::PREADV => p.sys_readv(a, Where::Offset(a[3] as i64), RwFlags::default()),
        number::PWRITEV => p.sys_writev(a, Where::Offset(a[3] as i64), RwFlags::default()),
        number::PREADV2 => {
            let (at, flags) = Kernel::second_where(a);
            p.sys_readv(a, at, flags)
        }
        number::PWRITEV2 => {
            let (at, flags) = Kernel::second_where(a);
            p.sys_writev(a, at, flags)
        }
        number::SENDFILE => p.sys_sendfile(a),
        number::COPY_FILE_RANGE => p.sys_copy_file_range(a),
        number::DUP => p.sys_dup(a),
        number::DUP2 => p.sys_dup2(a),
        number::DUP3 => p.sys_dup3(a),
        number::PIPE => p.sys_pipe2([a[0], 0, 0, 0, 0, 0]),
        number::PIPE2 => p.sys_pipe2(a),
        number::FCNTL => p.sys_fcntl(a),
        number::IOCTL => p.sys_ioctl(a),
        number::FLOCK => p.sys_flock(a),
        number::FSYNC | number::FDATASYNC | number::SYNCFS => p.sys_fsync(a),
        number::SYNC => p.sys_sync(),
        number::FADVISE64 => p.sys_fadvise(a),
        number::FTRUNCATE => p.sys_ftruncate(a),
        number::FALLOCATE => p.sys_fallocate(a),
        number::GETDENTS => p.sys_getdents(a, DirFormat::Old),
        number::GETDENTS64 => p.sys_getdents(a, DirFormat::Large),
        number::READAHEAD => p.sys_readahead(a),
        number::SYNC_FILE_RANGE => p.sys_sync_file_range(a),
        number::NAME_TO_HANDLE_AT => p.sys_name_to_handle_at(a),
        number::FSTAT => p.sys_fstat(a),

        number::STAT => p.sys_newfstatat([AT_FDCWD, a[0], a[1], 0, 0, 0]),
        number::LSTAT => p.sys_newfstatat([AT_FDCWD, a[0], a[1], AT_SYMLINK_NOFOLLOW, 0, 0]),
        number::NEWFSTATAT => p.sys_newfstatat(a),
        number::STATX => p.sys_statx(a),
        number::ACCESS => p.sys_faccessat([AT_FDCWD, a[0], a[1], 0, 0, 0]),
        number::FACCESSAT => p.sys_faccessat([a[0], a[1], a[2], 0, 0, 0]),
        number::FACCESSAT2 => p.sys_faccessat(a),
        number::READLINK => p.sys_readlinkat([AT_FDCWD, a[0], a[1], a[2], 0, 0]),
        number::READLINKAT => p.sys_readlinkat(a),
        number::GETCWD => p.sys_getcwd(a),
        number::CHDIR => p.sys_chdir(a),
        number::FCHDIR => p.sys_fchdir(a),
        number::MKDIR => p.sys_mkdirat([AT_FDCWD, a[0], a[1], 0, 0, 0]),
        number::MKDIRAT => p.sys_mkdirat(a),
        number::RMDIR => p.sys_unlinkat([AT_FDCWD, a[0], AT_REMOVEDIR, 0, 0, 0]),
        number::UNLINK => p.sys_unlinkat([AT_FDCWD, a[0], 0, 0, 0, 0]),
        number::UNLINKAT => p.sys_unlinkat(a),
        number::RENAME => p.sys_renameat2([AT_FDCWD, a[0], AT_FDCWD, a[1], 0, 0]),
        number::RENAMEAT => p.sys_renameat2([a[0], a[1], a[2], a[3], 0, 0]),
        number::RENAMEAT2 => p.sys_renameat2(a),
        number::LINK => p.sys_linkat([AT_FDCWD, a[0], AT_FDCWD, a[1], 0, 0]),
        number::LINKAT => p.sys_linkat(a),
        number::SYMLINK => p.sys_symlinkat([a[0], AT_FDCWD, a[1], 0, 0, 0]),
        number::SYMLINKAT => p.sys_symlinkat(a),
        number::MKNOD => p.sys_mknodat([AT_FDCWD, a[0], a[1], a[2], 0, 0]),
        number::MKNODAT => p.sys_mknodat(a),
        number::CHMOD => p.sys_fchmodat([AT_FDCWD, a[0], a[1], 0, 0, 0]),
        number::FCHMODAT => p.sys_fchmodat([a[0], a[1], a[2], 0, 0, 0]),
        number::FCHMODAT2 => p.sys_fchmodat2(a),
        number::FCHMOD => p.sys_fchmod(a),
        number::CHOWN => p.sys_fchownat([AT_FDCWD, a[0], a[1], a[2], 0, 0]),
        number::LCHOWN => p.sys_fchownat([AT_FDCWD, a[0], a[1], a[2], AT_SYMLINK_NOFOLLOW, 0]),
        number::FCHOWNAT => p.sys_fchownat(a),
        number::FCHOWN => p.sys_fchown(a),
        number::UTIMENSAT => p.sys_utimensat(a),
        number::UTIMES => p.sys_utimes(a, AT_FDCWD),
        number::FUTIMESAT => p.sys_utimes([a[1], a[2], 0, 0, 0, 0], a[0]),
        number::UTIME => p.sys_utime(a),
        number::TRUNCATE => p.sys_truncate(a),
        number::STATFS => p.sys_statfs(a),
        number::FSTATFS => p.sys_fstatfs(a),
        number::GETXATTR => p.sys_getxattr(a, Of::Path { follow: true }),
        number::LGETXATTR => p.sys_getxattr(a, Of::Path { follow: false }),
        number::FGETXATTR => p.sys_getxattr(a, Of::Descriptor),
        number::LISTXATTR => p.sys_listxattr(a, Of::Path { follow: true }),
        number::LLISTXATTR => p.sys_listxattr(a, Of::Path { follow: false }),
        number::FLISTXATTR => p.sys_listxattr(a, Of::Descriptor),
        number::SETXATTR => p.sys_setxattr(a, Of::Path { follow: true }),
        number::LSETXATTR => p.sys_setxattr(a, Of::Path { follow: false }),
        number::FSETXATTR => p.sys_setxattr(a, Of::Descriptor),
        number::REMOVEXATTR => p.sys_removexattr(a, Of::Path { follow: true }),
        number::LREMOVEXATTR => p.sys_removexattr(a, Of::Path { follow: false }),
        number::FREMOVEXATTR => p.sys_removexattr(a, Of::Descriptor),
        number::UMASK => p.sys_umask(a),

        number::MMAP => p.sys_mmap(a),
        number::MUNMAP => p.sys_munmap(a),
        number::MPROTECT => p.sys_mprotect(a),
        number::MREMAP => p.sys_mremap(a),
        number::BRK => p.sys_brk(a),
        number::MADVISE => p.sys_madvise(a),
        number::PROCESS_MADVISE => p.sys_process_madvise(a),
        number::MSYNC => p.sys_msync(a),
        number::MINCORE => p.sys_mincore(a),
        number::MLOCK => p.sys_mlock(a, 0),
        number::MLOCK2 => p.sys_mlock(a, a[2]),
        number::MUNLOCK => p.sys_munlock(a),
        number::MLOCKALL => p.sys_mlockall(a),
        number::MUNLOCKALL => p.sys_munlockall(),
        number::REMAP_FILE_PAGES => p.sys_remap_file_pages(a),
        number::MEMBARRIER => p.sys_membarrier(a),

        number::POLL => p.sys_poll(a),
        number::PPOLL => p.sys_ppoll(a),
        number::SELECT => p.sys_select(a),
        number::PSELECT6 => p.sys_pselect6(a),

        number::CLOCK_GETTIME => p.sys_clock_gettime(a),
        number::CLOCK_GETRES => p.sys_clock_getres(a),
        number::CLOCK_SETTIME => p.sys_clock_settime(a),
        number::CLOCK_ADJTIME => p.sys_clock_adjtime(a),
        number::ADJTIMEX => p.sys_adjtimex(a[0]),
        number::SETTIMEOFDAY => p.sys_settimeofday(a),
        number::GETTIMEOFDAY => p.sys_gettimeofday(a),
        number::TIME => p.sys_time(a),
        number::NANOSLEEP => p.sys_nanosleep(a),
        number::CLOCK_NANOSLEEP => p.sys_clock_nanosleep(a),
        number::TIMES => p.sys_times(a),
        number::GETRUSAGE => p.sys_getrusage(a),
        number::ALARM => p.sys_alarm(a),
        number::SETITIMER => p.sys_setitimer(a),
        number::GETITIMER => p.sys_getitimer(a),

        number::RT_SIGACTION => p.sys_rt_sigaction(a),
        number::RT_SIGPROCMASK => p.sys_rt_sigprocmask(a),
        number::RT_SIGPENDING => p.sys_rt_sigpending(a),
        number::RT_SIGSUSPEND => p.sys_rt_sigsuspend(a),
        number::RT_SIGTIMEDWAIT => p.sys_rt_sigtimedwait(a),
        number::SIGALTSTACK => p.sys_sigaltstack(a),
        number::KILL => p.sys_kill(a),
        number::TKILL => p.sys_tkill(a),
        number::RT_SIGQUEUEINFO => p.sys_rt_sigqueueinfo(a),
        number::TGKILL => p.sys_tgkill(a),
        number::PAUSE => Kernel::wait_for_ever(),

        number::FUTEX => p.sys_futex(a),
        number::ARCH_PRCTL => p.sys_arch_prctl(a),
        number::PRCTL => p.sys_prctl(a),
        number::UNAME => p.sys_uname(a),
        number::SYSINFO => p.sys_sysinfo(a),
        number::GETRLIMIT => p.sys_getrlimit(a),
        number::SETRLIMIT => p.sys_setrlimit(a),
        number::PRLIMIT64 => p.sys_prlimit64(a),
        number::GETRANDOM => p.sys_getrandom(a),
        number::GETPID => Ok(p.pid().into()),
        number::GETTID => Ok(p.tid().into()),
        number::SET_TID_ADDRESS => p.sys_set_tid_address(a),
        number::GETPGRP => Ok(p.process.group.into()),
        number::GETPGID => p.sys_getpgid(a),
        number::GETSID => p.sys_getsid(a),
        number::SETPGID => p.sys_setpgid(a),
        number::SETSID => p.sys_setsid(),
        number::FORK => p.sys_fork(),
        number::VFORK => p.sys_vfork(),
        number::CLONE => p.sys_clone(a),
        number::CLONE3 => p.sys_clone3(a),
        number::GETPPID => Ok(p.process.parent.into()),
        number::GETUID => Ok(p.task.credentials.user.real.into()),
        number::GETEUID => Ok(p.task.credentials.user.effective.into()),
        number::GETGID => Ok(p.task.credentials.group.real.into()),
        number::GETEGID => Ok(p.task.credentials.group.effective.into()),
        number::GETRESUID => p.sys_getresuid(a),
        number::GETRESGID => p.sys_getresgid(a),
        number::SETUID => p.sys_setuid(a),
        number::SETGID => p.sys_setgid(a),
        number::SETREUID => p.sys_setreuid(a),
        number::SETREGID => p.sys_setregid(a),
        number::SETRESUID => p.sys_setresuid(a),
        number::SETRESGID => p.sys_setresgid(a),
        number::SETFSUID => p.sys_setfsuid(a),
        number::SETFSGID => p.sys_setfsgid(a),
        number::GETGROUPS => p.sys_getgroups(a),
        number::SETGROUPS => p.sys_setgroups(a),
        number::CAPGET => p.sys_capget(a),
        number::CAPSET => p.sys_capset(a),
        number::SCHED_YIELD => p.sys_sched_yield(),
        number::SCHED_GETAFFINITY => p.sys_sched_getaffinity(a),
        number::SCHED_SETAFFINITY => p.sys_sched_setaffinity(a),
        number::SCHED_GETPARAM => p.sys_sched_getparam(a),
        number::SCHED_SETPARAM => p.sys_sched_setparam(a),
        number::SCHED_GETSCHEDULER => p.sys_sched_getscheduler(a),
        number::SCHED_SETSCHEDULER => p.sys_sched_setscheduler(a),
        number::SCHED_GET_PRIORITY_MAX => Kernel::sched_priority(a[0], 99),
        number::SCHED_GET_PRIORITY_MIN => Kernel::sched_priority(a[0], 1),
        number::SCHED_RR_GET_INTERVAL => p.sys_sched_rr_get_interval(a),
        number::SCHED_SETATTR => p.sys_sched_setattr(a),
        number::SCHED_GETATTR => p.sys_sched_getattr(a),
        number::GETPRIORITY => p.sys_getpriority(a),
        number::SETPRIORITY => p.sys_setpriority(a),
        number::IOPRIO_SET => p.sys_ioprio_set(a),
        number::IOPRIO_GET => p.sys_ioprio_get(a),
        number::GETCPU => p.sys_getcpu(a),
        number::WAIT4 => p.sys_wait4(a),
        number::WAITID => p.sys_waitid(a),
        number::EVENTFD => p.sys_eventfd2([a[0], 0, 0, 0, 0, 0]),
        number::EVENTFD2 => p.sys_eventfd2(a),
        number::TIMERFD_CREATE => p.sys_timerfd_create(a),
        number::TIMERFD_SETTIME => p.sys_timerfd_settime(a),
        number::TIMERFD_GETTIME => p.sys_timerfd_gettime(a),
        number::EPOLL_CREATE => p.sys_epoll_create(a),
        number::EPOLL_CREATE1 => p.sys_epoll_create1(a),
        number::EPOLL_CTL => p.sys_epoll_ctl(a),
        number::EPOLL_WAIT => p.sys_epoll_wait(a),
        number::EPOLL_PWAIT => p.sys_epoll_pwait(a),
        number::EPOLL_PWAIT2 => p.sys_epoll_pwait2(a),
        number::SOCKET => Err(Errno::EAFNOSUPPORT.into()),
        number::SOCKETPAIR => p.sys_socketpair(a),
        number::SENDTO => p.sys_sendto(a),
        number::RECVFROM => p.sys_recvfrom(a),
        number::SENDMSG => p.sys_sendmsg(a),
        number::RECVMSG => p.sys_recvmsg(a),
        number::SHUTDOWN => p.sys_shutdown(a),
        number::GETSOCKNAME | number::GETPEERNAME => p.sys_getsockname(a),
        number::GETSOCKOPT => p.sys_getsockopt(a),
        number::SET_ROBUST_LIST => p.sys_set_robust_list(a),
        number::GET_ROBUST_LIST => p.sys_get_robust_list(a),
        number::RSEQ => p.sys_rseq(a),
        number::PERSONALITY => p.sys_personality(a),
        number::SETHOSTNAME => p.set_system_name(a, false),
        number::SETDOMAINNAME => p.set_system_name(a, true),
        // As in a container whose capabilities end at its own files.
        number::MOUNT | number::UMOUNT2 | number::CHROOT => Err(Errno::EPERM.into()),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// `AT_FDCWD`.
const AT_FDCWD: u64 = -100i64 as u64;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_REMOVEDIR: u64 = 0x200;
const AT_EMPTY_PATH: u64 = 0x1000;
const AT_SYMLINK_FOLLOW: u64 = 0x400;
const O_CREAT: u64 = 0o100;
const O_WRONLY: u64 = 1;
const O_TRUNC: u64 = 0o1000;
