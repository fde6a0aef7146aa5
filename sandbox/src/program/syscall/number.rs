//! Numbers of the system calls that the monitor itself knows by name. All others are known to the
//! [`table`](super::table) only.

/// No system call: what `int 0x80` asks for where nothing answers it.
pub const NONE: u64 = u64::MAX;

macro_rules! numbers {
    ($($name:ident = $constant:ident,)*) => {
        $(
            #[allow(missing_docs)]
            pub const $name: u64 = linux_raw_sys::general::$constant as u64;
        )*
    };
}

numbers! {
    READ = __NR_read,
    WRITE = __NR_write,
    OPEN = __NR_open,
    CLOSE = __NR_close,
    POLL = __NR_poll,
    MPROTECT = __NR_mprotect,
    MUNMAP = __NR_munmap,
    BRK = __NR_brk,
    RT_SIGRETURN = __NR_rt_sigreturn,
    READV = __NR_readv,
    WRITEV = __NR_writev,
    ACCESS = __NR_access,
    PIPE = __NR_pipe,
    SELECT = __NR_select,
    SCHED_YIELD = __NR_sched_yield,
    MADVISE = __NR_madvise,
    DUP = __NR_dup,
    DUP2 = __NR_dup2,
    PAUSE = __NR_pause,
    GETPID = __NR_getpid,
    SENDFILE = __NR_sendfile,
    EXECVE = __NR_execve,
    EXIT = __NR_exit,
    KILL = __NR_kill,
    FCNTL = __NR_fcntl,
    FSYNC = __NR_fsync,
    GETCWD = __NR_getcwd,
    CHDIR = __NR_chdir,
    FCHDIR = __NR_fchdir,
    RENAME = __NR_rename,
    MKDIR = __NR_mkdir,
    RMDIR = __NR_rmdir,
    CREAT = __NR_creat,
    LINK = __NR_link,
    UNLINK = __NR_unlink,
    SYMLINK = __NR_symlink,
    READLINK = __NR_readlink,
    CHMOD = __NR_chmod,
    FCHMOD = __NR_fchmod,
    UMASK = __NR_umask,
    GETTIMEOFDAY = __NR_gettimeofday,
    GETUID = __NR_getuid,
    GETGID = __NR_getgid,
    GETEUID = __NR_geteuid,
    GETEGID = __NR_getegid,
    GETPPID = __NR_getppid,
    RT_SIGTIMEDWAIT = __NR_rt_sigtimedwait,
    RT_SIGSUSPEND = __NR_rt_sigsuspend,
    ARCH_PRCTL = __NR_arch_prctl,
    GETTID = __NR_gettid,
    TIME = __NR_time,
    FUTEX = __NR_futex,
    EXIT_GROUP = __NR_exit_group,
    TGKILL = __NR_tgkill,
    OPENAT = __NR_openat,
    MKDIRAT = __NR_mkdirat,
    UNLINKAT = __NR_unlinkat,
    PSELECT6 = __NR_pselect6,
    PPOLL = __NR_ppoll,
    GETCPU = __NR_getcpu,
    GETRANDOM = __NR_getrandom,
    EXECVEAT = __NR_execveat,
    WAIT4 = __NR_wait4,
    WAITID = __NR_waitid,
    FORK = __NR_fork,
    VFORK = __NR_vfork,
    CLONE = __NR_clone,
    CLONE3 = __NR_clone3,
    SENDMSG = __NR_sendmsg,
    GETSOCKOPT = __NR_getsockopt,
}
