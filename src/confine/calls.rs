//! The system calls that a confined process may make.
//!
//! Everything that is not listed here ends the process by `SIGSYS`: a call that nobody thought of is
//! a bug of dejavm or somebody's attack, and an error code would hide either. `libc` has the numbers,
//! seccomp compares them (`seccomp(2)`).

use libc::{c_long, c_ulong};

/// Calls that may be made with any arguments.
pub(super) const ANY: &[c_long] = &[
    // Memory. Making some executable is another list's.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Descriptors that are open already.
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_sync_file_range,
    libc::SYS_write,
    libc::SYS_writev,
    // Looking at names. What may be opened for reading is up to Landlock; `openat2` has its flags in
    // memory, where seccomp cannot see them.
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_openat2,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_stat,
    libc::SYS_statfs,
    libc::SYS_statx,
    // Descriptors that lead nowhere outside.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_memfd_create,
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    // Waiting, and time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_futex,
    libc::SYS_getitimer,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_select,
    libc::SYS_setitimer,
    libc::SYS_time,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    // Signals to oneself; sending them is another list's.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    // Threads, and their ends. Starting one is another list's.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // Questions about this process and machine.
    libc::SYS_capget,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getpgrp,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_umask,
    libc::SYS_uname,
];

/// Calls that change names or modes: only where a directory was granted for writing, and Landlock
/// keeps them to it.
pub(super) const WRITING: &[c_long] = &[
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

/// A condition on one argument.
#[derive(Clone, Copy)]
pub(super) enum Is {
    /// It is this number.
    Equal(u64),
    /// Under this mask it is that.
    Masked(u64, u64),
    /// It is this process's id.
    OwnProcess,
}

/// Calls that may be made if an argument, counted from 0, is right: the two low halves of 32 bits are
/// compared, which is what the kernel looks at of these.
pub(super) const GIVEN: &[(c_long, u32, Is)] = &[
    // No memory becomes executable.
    (libc::SYS_mmap, 2, Is::Masked(libc::PROT_EXEC as u64, 0)),
    (libc::SYS_mprotect, 2, Is::Masked(libc::PROT_EXEC as u64, 0)),
    // A thread, never a process: `clone3`, which has its flags in memory, says that it is not there.
    (libc::SYS_clone, 0, Is::Masked(THREAD, THREAD)),
    // Signals reach this process alone.
    (libc::SYS_kill, 0, Is::OwnProcess),
    (libc::SYS_tgkill, 0, Is::OwnProcess),
    (libc::SYS_rt_sigqueueinfo, 0, Is::OwnProcess),
    (libc::SYS_rt_tgsigqueueinfo, 0, Is::OwnProcess),
    // Limits of this process; without privilege they can only sink.
    (libc::SYS_prlimit64, 0, Is::Equal(0)),
    // A descriptor's flags and locks, but not who gets its signals.
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_DUPFD as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_DUPFD_CLOEXEC as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_GETFD as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_SETFD as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_GETFL as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_SETFL as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_SETLK as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_SETLKW as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_GETPIPE_SZ as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_SETPIPE_SZ as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_ADD_SEALS as u64)),
    (libc::SYS_fcntl, 1, Is::Equal(libc::F_GET_SEALS as u64)),
    // What the standard library does with a socket that was open before: no address is given.
    (libc::SYS_sendto, 4, Is::Equal(0)),
    (libc::SYS_recvfrom, 4, Is::Equal(0)),
    (libc::SYS_shutdown, 1, Is::Masked(!3, 0)),
    // Whether RDTSC faults on this thread; names of threads and of memory.
    (libc::SYS_prctl, 0, Is::Equal(libc::PR_SET_TSC as u64)),
    (libc::SYS_prctl, 0, Is::Equal(libc::PR_GET_TSC as u64)),
    (libc::SYS_prctl, 0, Is::Equal(libc::PR_SET_NAME as u64)),
    (libc::SYS_prctl, 0, Is::Equal(libc::PR_GET_NAME as u64)),
    (libc::SYS_prctl, 0, Is::Equal(libc::PR_SET_VMA as u64)),
];

/// What every thread has in common with the others (`pthread_create(3)`).
const THREAD: u64 = (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;

/// Calls that open a file, with the place of their flags. Where nothing is granted for writing they
/// may open for reading alone.
pub(super) const OPENING: &[(c_long, u32)] = &[(libc::SYS_open, 1), (libc::SYS_openat, 2)];

/// Flags of an open that changes something: `O_ACCMODE`, `O_CREAT`, `O_TRUNC` and the bit of
/// `O_TMPFILE` that is its own.
pub(super) const OPEN_WRITES: u64 =
    (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64 | (libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;

/// Calls that say that the kernel does not have them, so that the C library takes an older one.
pub(super) const ABSENT: &[c_long] = &[libc::SYS_clone3];

/// Requests of `ioctl`, the frequent ones first. A machine, a vCPU and a userfaultfd are open
/// already; none can be made.
pub(super) const IOCTLS: &[(c_ulong, &str)] = &[
    (0xae80, "KVM_RUN"),
    (0xc028_aa03, "UFFDIO_COPY"),
    (0xc020_aa08, "UFFDIO_POISON"),
    (0xc020_aa04, "UFFDIO_ZEROPAGE"),
    (0xc018_aa06, "UFFDIO_WRITEPROTECT"),
    (0xc020_aa00, "UFFDIO_REGISTER"),
    (0x8010_aa01, "UFFDIO_UNREGISTER"),
    (0x8010_aa02, "UFFDIO_WAKE"),
    (0xc020_aa07, "UFFDIO_CONTINUE"),
    (0x4020_ae46, "KVM_SET_USER_MEMORY_REGION"),
    (0x8090_ae81, "KVM_GET_REGS"),
    (0x4090_ae82, "KVM_SET_REGS"),
    (0x8138_ae83, "KVM_GET_SREGS"),
    (0x4138_ae84, "KVM_SET_SREGS"),
    (0x8140_aecc, "KVM_GET_SREGS2"),
    (0x4140_aecd, "KVM_SET_SREGS2"),
    (0xc018_ae85, "KVM_TRANSLATE"),
    (0x4004_ae86, "KVM_INTERRUPT"),
    (0xc008_ae88, "KVM_GET_MSRS"),
    (0x4008_ae89, "KVM_SET_MSRS"),
    (0x4004_ae8b, "KVM_SET_SIGNAL_MASK"),
    (0x81a0_ae8c, "KVM_GET_FPU"),
    (0x41a0_ae8d, "KVM_SET_FPU"),
    (0x4008_ae90, "KVM_SET_CPUID2"),
    (0xc008_ae91, "KVM_GET_CPUID2"),
    (0x8004_ae98, "KVM_GET_MP_STATE"),
    (0x4004_ae99, "KVM_SET_MP_STATE"),
    (0x4048_ae9b, "KVM_SET_GUEST_DEBUG"),
    (0x8040_ae9f, "KVM_GET_VCPU_EVENTS"),
    (0x4040_aea0, "KVM_SET_VCPU_EVENTS"),
    (0x8080_aea1, "KVM_GET_DEBUGREGS"),
    (0x4080_aea2, "KVM_SET_DEBUGREGS"),
    (0xaea2, "KVM_SET_TSC_KHZ"),
    (0xaea3, "KVM_GET_TSC_KHZ"),
    (0x4068_aea3, "KVM_ENABLE_CAP"),
    (0x9000_aea4, "KVM_GET_XSAVE"),
    (0x5000_aea5, "KVM_SET_XSAVE"),
    (0x9000_aecf, "KVM_GET_XSAVE2"),
    (0x8188_aea6, "KVM_GET_XCRS"),
    (0x4188_aea7, "KVM_SET_XCRS"),
    (0x4010_ae42, "KVM_GET_DIRTY_LOG"),
    (0xc018_aec0, "KVM_CLEAR_DIRTY_LOG"),
    (0xae44, "KVM_SET_NR_MMU_PAGES"),
    (0xae03, "KVM_CHECK_EXTENSION"),
    (0xc060_6610, "PAGEMAP_SCAN"),
    // The user's terminal and pipes, but for typing into them (TIOCSTI, TIOCLINUX).
    (0x5401, "TCGETS"),
    (0x5402, "TCSETS"),
    (0x5403, "TCSETSW"),
    (0x5404, "TCSETSF"),
    (0x802c_542a, "TCGETS2"),
    (0x402c_542b, "TCSETS2"),
    (0x402c_542c, "TCSETSW2"),
    (0x402c_542d, "TCSETSF2"),
    (0x540b, "TCFLSH"),
    (0x5409, "TCSBRK"),
    (0x540f, "TIOCGPGRP"),
    (0x5410, "TIOCSPGRP"),
    (0x5411, "TIOCOUTQ"),
    (0x5413, "TIOCGWINSZ"),
    (0x5414, "TIOCSWINSZ"),
    (0x5429, "TIOCGSID"),
    (0x541b, "FIONREAD"),
    (0x5421, "FIONBIO"),
    (0x5450, "FIONCLEX"),
    (0x5451, "FIOCLEX"),
];
