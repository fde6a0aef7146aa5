//! The rows of the table: see [`syscalls`](super::syscalls) for how they are written.

use linux_raw_sys::general::*;

use super::{Arguments, Completeness, Syscall, syscalls};
use crate::errno::Errno;
use crate::program::error::SysResult;
use crate::program::files::{RwFlags, Where};
use crate::program::fs::DirFormat;
use crate::program::kernel::Kernel;
use crate::program::syscall::xattr::Of;
use crate::program::syscall::{
    AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, After, O_CREAT, O_TRUNC, O_WRONLY,
};

syscalls! {
__NR_read "f>bn" |p, a| p.sys_read(a), complete;
__NR_write "f<bn" |p, a| p.sys_write(a), complete;
__NR_open "<sod" |p, a| p.sys_openat([AT_FDCWD, a[0], a[1], a[2], 0, 0]), complete;
__NR_close "f" |p, a| p.sys_close(a), complete;
__NR_stat "<s>S" |p, a| p.sys_newfstatat([AT_FDCWD, a[0], a[1], 0, 0, 0]), complete;
__NR_fstat "f>S" |p, a| p.sys_fstat(a), complete;
__NR_lstat "<s>S" |p, a| p.sys_newfstatat([AT_FDCWD, a[0], a[1], AT_SYMLINK_NOFOLLOW, 0, 0]), complete;
__NR_poll "<pni" [once] |p, a| p.sys_poll(a), complete;
__NR_lseek "fl#w" |p, a| p.sys_lseek(a), complete;
__NR_mmap "pnrmfx" |p, a| p.sys_mmap(a),
    partial("MAP_HUGETLB is ENOMEM; MAP_DROPPABLE memory is never dropped; the last 2 MiB are ENOMEM");
__NR_mprotect "pnr" |p, a| p.sys_mprotect(a), complete;
__NR_munmap "pn" |p, a| p.sys_munmap(a), complete;
__NR_brk "p" |p, a| p.sys_brk(a), complete;
__NR_rt_sigaction "g<k>kn" |p, a| p.sys_rt_sigaction(a), complete;
__NR_rt_sigprocmask "#m<m>mn" |p, a| p.sys_rt_sigprocmask(a), complete;
__NR_rt_sigreturn "" [whole] |p, _| p.sigreturn().map(|()| After::Replaced), complete;
__NR_ioctl "f#ip" |p, a| p.sys_ioctl(a),
    partial("only requests of terminals, FIONREAD, FIONBIO, FIOASYNC, FIOCLEX and FIONCLEX: else ENOTTY");
__NR_pread64 "f>bnl" |p, a| p.sys_pread(a), complete;
__NR_pwrite64 "f<bnl" |p, a| p.sys_pwrite(a), complete;
__NR_readv "f>in" |p, a| p.sys_readv(a, Where::Position, RwFlags::default()), complete;
__NR_writev "f<in" |p, a| p.sys_writev(a, Where::Position, RwFlags::default()), complete;
__NR_access "<s#c" |p, a| p.sys_faccessat([AT_FDCWD, a[0], a[1], 0, 0, 0]), complete;
__NR_pipe ">2" |p, a| p.sys_pipe2([a[0], 0, 0, 0, 0, 0]), complete;
__NR_select "n<f<f<f<V" [once] |p, a| p.sys_select(a),
    partial("the time that is left is not written back; descriptors from 1024 on are not looked at");
__NR_sched_yield "" |p, _| p.sys_sched_yield(), complete;
__NR_mremap "pnn#Mp" |p, a| p.sys_mremap(a),
    partial("not to the last 2 MiB of addresses, which are the monitor's: EINVAL");
__NR_msync "pnx" |p, a| p.sys_msync(a), complete;
__NR_mincore "pnp" |p, a| p.sys_mincore(a),
    partial("every mapped page is said to be resident");
__NR_madvise "pn#v" |p, a| p.sys_madvise(a),
    partial("MADV_COLLAPSE and guard pages are EINVAL; MADV_FREE drops nothing");
__NR_shmget "inx" |p, a| p.sys_shmget(a),
    partial("no huge pages: SHM_HUGETLB is ENOMEM");
__NR_shmat "ipx" |p, a| p.sys_shmat(a), complete;
__NR_shmctl "iip" |p, a| p.sys_shmctl(a), complete;
__NR_dup "f" |p, a| p.sys_dup(a), complete;
__NR_dup2 "ff" |p, a| p.sys_dup2(a), complete;
__NR_pause "" [once] |_, _| Kernel::wait_for_ever(), complete;
__NR_nanosleep "<T>T" [once] |p, a| p.sys_nanosleep(a), complete;
__NR_getitimer "#z>I" |p, a| p.sys_getitimer(a), complete;
__NR_alarm "n" |p, a| p.sys_alarm(a),
    partial("in a loop without exits it expires only with --timer-step");
__NR_setitimer "#z<I>I" |p, a| p.sys_setitimer(a),
    partial("ITIMER_VIRTUAL counts system calls, too; in a loop without exits only with --timer-step");
__NR_getpid "" |p, _| Ok(p.pid().into()), complete;
__NR_sendfile "ff<Nn" |p, a| p.sys_sendfile(a), complete;
__NR_socket "#d#ti" |p, a| p.sys_socket(a),
    partial("AF_UNIX only; all others are EAFNOSUPPORT");
__NR_connect "f<An" |p, a| p.sys_connect(a), complete;
__NR_accept "f>A>n" |p, a| p.sys_accept4([a[0], a[1], a[2], 0, 0, 0]), complete;
__NR_sendto "f<bn#s<An" |p, a| p.sys_sendto(a),
    partial("MSG_OOB is EOPNOTSUPP");
__NR_recvfrom "f>bn#s>A>n" |p, a| p.sys_recvfrom(a), complete;
__NR_sendmsg "f<M#s" |p, a| p.sys_sendmsg(a),
    partial("MSG_OOB is EOPNOTSUPP");
__NR_recvmsg "f>M#s" |p, a| p.sys_recvmsg(a), complete;
__NR_shutdown "f#h" |p, a| p.sys_shutdown(a), complete;
__NR_bind "f<An" |p, a| p.sys_bind(a), complete;
__NR_listen "fi" |p, a| p.sys_listen(a), complete;
__NR_getsockname "f>A>n" |p, a| p.sys_getsockname(a), complete;
__NR_getpeername "f>A>n" |p, a| p.sys_getpeername(a), complete;
__NR_socketpair "#d#ti>2" |p, a| p.sys_socketpair(a), complete;
__NR_setsockopt "f#L#O<nn" |p, a| p.sys_setsockopt(a),
    partial("SO_RCVLOWAT is not kept; no timestamps, filters, SO_PEEK_OFF, SO_PASSPIDFD: ENOPROTOOPT");
__NR_getsockopt "f#L#O>n>n" |p, a| p.sys_getsockopt(a),
    partial("no SO_PEERGROUPS, SO_PEERPIDFD, and what cannot be set: ENOPROTOOPT");
__NR_clone "#Cpppp" |p, a| p.sys_clone(a),
    partial("no namespaces; CLONE_IO, CLONE_SYSVSEM and tracing change nothing");
__NR_fork "" |p, _| p.sys_fork(), complete;
__NR_vfork "" |p, _| p.sys_vfork(), complete;
__NR_execve "<s<v<e" [whole] |p, a| p.sys_execve(a).map(|()| After::Replaced),
    partial("no capabilities of files; binary formats are x86-64 ELF and scripts");
__NR_exit "i" [whole] |p, a| p.sys_exit(a[0], false).map(|()| After::Ended), complete;
__NR_wait4 "i>w#op" |p, a| p.sys_wait4(a),
    partial("threads wait for each other's children always");
__NR_kill "ig" |p, a| p.sys_kill(a), complete;
__NR_uname ">u" |p, a| p.sys_uname(a), complete;
__NR_semget "inx" |p, a| p.sys_semget(a), complete;
__NR_semop "ipn" [once] |p, a| p.sys_semop(a), complete;
__NR_semctl "iiix" |p, a| p.sys_semctl(a), complete;
__NR_shmdt "p" |p, a| p.sys_shmdt(a), complete;
__NR_msgget "ix" |p, a| p.sys_msgget(a), complete;
__NR_msgsnd "ipnx" [once] |p, a| p.sys_msgsnd(a), complete;
__NR_msgrcv "ipnlx" [once] |p, a| p.sys_msgrcv(a), complete;
__NR_msgctl "iip" |p, a| p.sys_msgctl(a), complete;
__NR_fcntl "f#nx" |p, a| p.sys_fcntl(a),
    partial("no leases, directory notification, F_SETSIG or write hints; nobody is sent SIGIO");
__NR_flock "fi" |p, a| p.sys_flock(a), complete;
__NR_fsync "f" |p, a| p.sys_fsync(a), complete;
__NR_fdatasync "f" |p, a| p.sys_fsync(a), complete;
__NR_truncate "<sn" |p, a| p.sys_truncate(a), complete;
__NR_ftruncate "fn" |p, a| p.sys_ftruncate(a), complete;
__NR_getdents "f>dn" |p, a| p.sys_getdents(a, DirFormat::Old), complete;
__NR_getcwd ">sn" |p, a| p.sys_getcwd(a), complete;
__NR_chdir "<s" |p, a| p.sys_chdir(a), complete;
__NR_fchdir "f" |p, a| p.sys_fchdir(a), complete;
__NR_rename "<s<s" |p, a| p.sys_renameat2([AT_FDCWD, a[0], AT_FDCWD, a[1], 0, 0]), complete;
__NR_mkdir "<sd" |p, a| p.sys_mkdirat([AT_FDCWD, a[0], a[1], 0, 0, 0]), complete;
__NR_rmdir "<s" |p, a| p.sys_unlinkat([AT_FDCWD, a[0], AT_REMOVEDIR, 0, 0, 0]), complete;
__NR_creat "<sd" |p, a| p.sys_openat([AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1], 0, 0]), complete;
__NR_link "<s<s" |p, a| p.sys_linkat([AT_FDCWD, a[0], AT_FDCWD, a[1], 0, 0]), complete;
__NR_unlink "<s" |p, a| p.sys_unlinkat([AT_FDCWD, a[0], 0, 0, 0, 0]), complete;
__NR_symlink "<t<s" |p, a| p.sys_symlinkat([a[0], AT_FDCWD, a[1], 0, 0, 0]), complete;
__NR_readlink "<s>bn" |p, a| p.sys_readlinkat([AT_FDCWD, a[0], a[1], a[2], 0, 0]), complete;
__NR_chmod "<sd" |p, a| p.sys_fchmodat([AT_FDCWD, a[0], a[1], 0, 0, 0]), complete;
__NR_fchmod "fd" |p, a| p.sys_fchmod(a), complete;
__NR_chown "<sii" |p, a| p.sys_fchownat([AT_FDCWD, a[0], a[1], a[2], 0, 0]), complete;
__NR_fchown "fii" |p, a| p.sys_fchown(a), complete;
__NR_lchown "<sii" |p, a| p.sys_fchownat([AT_FDCWD, a[0], a[1], a[2], AT_SYMLINK_NOFOLLOW, 0]), complete;
__NR_umask "d" |p, a| p.sys_umask(a), complete;
__NR_gettimeofday ">Vp" |p, a| p.sys_gettimeofday(a), complete;
__NR_getrlimit "#l>l" |p, a| p.sys_getrlimit(a), complete;
__NR_getrusage "#up" |p, a| p.sys_getrusage(a),
    partial("only maximum memory and CPU time, all of it as the user's");
__NR_sysinfo "p" |p, a| p.sys_sysinfo(a),
    partial("no load, swap or shared memory");
__NR_times "p" |p, a| p.sys_times(a),
    partial("all CPU time is the user's");
__NR_ptrace "iipp" absent(ENOSYS);
__NR_getuid "" |p, _| Ok(p.task.credentials.user.real.into()), complete;
__NR_syslog "ipn" absent(ENOSYS);
__NR_getgid "" |p, _| Ok(p.task.credentials.group.real.into()), complete;
__NR_setuid "i" |p, a| p.sys_setuid(a), complete;
__NR_setgid "i" |p, a| p.sys_setgid(a), complete;
__NR_geteuid "" |p, _| Ok(p.task.credentials.user.effective.into()), complete;
__NR_getegid "" |p, _| Ok(p.task.credentials.group.effective.into()), complete;
__NR_setpgid "ii" |p, a| p.sys_setpgid(a),
    partial("a child may be moved after it has executed a program, too");
__NR_getppid "" |p, _| Ok(p.process.parent.into()), complete;
__NR_getpgrp "" |p, _| Ok(p.process.group.into()), complete;
__NR_setsid "" |p, _| p.sys_setsid(), complete;
__NR_setreuid "ii" |p, a| p.sys_setreuid(a), complete;
__NR_setregid "ii" |p, a| p.sys_setregid(a), complete;
__NR_getgroups "ip" |p, a| p.sys_getgroups(a), complete;
__NR_setgroups "np" |p, a| p.sys_setgroups(a), complete;
__NR_setresuid "iii" |p, a| p.sys_setresuid(a), complete;
__NR_getresuid "ppp" |p, a| p.sys_getresuid(a), complete;
__NR_setresgid "iii" |p, a| p.sys_setresgid(a), complete;
__NR_getresgid "ppp" |p, a| p.sys_getresgid(a), complete;
__NR_getpgid "i" |p, a| p.sys_getpgid(a), complete;
__NR_setfsuid "i" |p, a| p.sys_setfsuid(a), complete;
__NR_setfsgid "i" |p, a| p.sys_setfsgid(a), complete;
__NR_getsid "i" |p, a| p.sys_getsid(a), complete;
__NR_capget "pp" |p, a| p.sys_capget(a), complete;
__NR_capset "pp" |p, a| p.sys_capset(a), complete;
__NR_rt_sigpending ">mn" |p, a| p.sys_rt_sigpending(a), complete;
__NR_rt_sigtimedwait "<mp<Tn" [once] |p, a| p.sys_rt_sigtimedwait(a), complete;
__NR_rt_sigqueueinfo "igp" |p, a| p.sys_rt_sigqueueinfo(a),
    partial("of the information, the first 32 bytes arrive");
__NR_rt_sigsuspend "<mn" [once] |p, a| p.sys_rt_sigsuspend(a), complete;
__NR_sigaltstack "pp" |p, a| p.sys_sigaltstack(a), complete;
__NR_utime "<sp" |p, a| p.sys_utime(a), complete;
__NR_mknod "<sdx" |p, a| p.sys_mknodat([AT_FDCWD, a[0], a[1], a[2], 0, 0]),
    partial("no device nodes: EPERM");
__NR_uselib "<s" absent(ENOSYS);
__NR_personality "x" |p, a| p.sys_personality(a),
    partial("kept; only READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE and the machine that uname names follow it");
__NR_ustat "*" absent(ENOSYS);
__NR_statfs "<sp" |p, a| p.sys_statfs(a), complete;
__NR_fstatfs "fp" |p, a| p.sys_fstatfs(a), complete;
__NR_sysfs "*" absent(ENOSYS);
__NR_getpriority "ii" |p, a| p.sys_getpriority(a), complete;
__NR_setpriority "iii" |p, a| p.sys_setpriority(a),
    partial("kept, and without effect on who runs");
__NR_sched_setparam "ip" |p, a| p.sys_sched_setparam(a),
    partial("kept, and without effect on who runs");
__NR_sched_getparam "ip" |p, a| p.sys_sched_getparam(a), complete;
__NR_sched_setscheduler "iip" |p, a| p.sys_sched_setscheduler(a),
    partial("kept, and without effect on who runs");
__NR_sched_getscheduler "i" |p, a| p.sys_sched_getscheduler(a), complete;
__NR_sched_get_priority_max "i" |_, a| Kernel::sched_priority(a[0], 99), complete;
__NR_sched_get_priority_min "i" |_, a| Kernel::sched_priority(a[0], 1), complete;
__NR_sched_rr_get_interval "i>T" |p, a| p.sys_sched_rr_get_interval(a),
    partial("of the caller only: EPERM of others");
__NR_mlock "pn" |p, a| p.sys_mlock(a, 0),
    partial("RLIMIT_MEMLOCK is not looked at");
__NR_munlock "pn" |p, a| p.sys_munlock(a), complete;
__NR_mlockall "x" |p, a| p.sys_mlockall(a),
    partial("RLIMIT_MEMLOCK is not looked at");
__NR_munlockall "" |p, _| p.sys_munlockall(), complete;
__NR_vhangup "*" absent(ENOSYS);
__NR_modify_ldt "*" absent(ENOSYS);
__NR_pivot_root "<s<s" absent(ENOSYS);
__NR__sysctl "*" absent(ENOSYS);
__NR_prctl "#pxxxx" |p, a| p.sys_prctl(a),
    partial("no seccomp filters or PR_SET_VMA: EINVAL; death signal, subreaper and slack have no effect");
__NR_arch_prctl "#rx" |p, a| p.sys_arch_prctl(a),
    partial("FS, GS and whether CPUID faults, which it never does; EINVAL for all else");
__NR_adjtimex "*" |p, a| p.sys_adjtimex(a[0]),
    partial("reads only: EPERM for changes");
__NR_setrlimit "#l<l" |p, a| p.sys_setrlimit(a),
    partial("kept; only CPU, FSIZE, DATA, STACK, NOFILE, AS, NICE and RTPRIO are enforced");
__NR_chroot "<s" absent(EPERM);
__NR_sync "" |p, _| p.sys_sync(), complete;
__NR_acct "<s" absent(ENOSYS);
__NR_settimeofday "*" |p, a| p.sys_settimeofday(a),
    partial("no clock can be set: EPERM");
__NR_mount "<t<s<txp" absent(EPERM);
__NR_umount2 "<sx" absent(EPERM);
__NR_swapon "<sx" absent(ENOSYS);
__NR_swapoff "<s" absent(ENOSYS);
__NR_reboot "*" absent(ENOSYS);
__NR_sethostname "<bn" |p, a| p.set_system_name(a, false), complete;
__NR_setdomainname "<bn" |p, a| p.set_system_name(a, true), complete;
__NR_iopl "*" absent(ENOSYS);
__NR_ioperm "*" absent(ENOSYS);
__NR_create_module "*" absent(ENOSYS);
__NR_init_module "*" absent(ENOSYS);
__NR_delete_module "*" absent(ENOSYS);
__NR_get_kernel_syms "*" absent(ENOSYS);
__NR_query_module "*" absent(ENOSYS);
__NR_quotactl "x<sxp" absent(ENOSYS);
__NR_nfsservctl "*" absent(ENOSYS);
__NR_getpmsg "*" absent(ENOSYS);
__NR_putpmsg "*" absent(ENOSYS);
__NR_afs_syscall "*" absent(ENOSYS);
__NR_tuxcall "*" absent(ENOSYS);
__NR_security "*" absent(ENOSYS);
__NR_gettid "" |p, _| Ok(p.tid().into()), complete;
__NR_readahead "fln" |p, a| p.sys_readahead(a), complete;
__NR_setxattr "<s<t<bni" |p, a| p.sys_setxattr(a, Of::Path { follow: true }),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_lsetxattr "<s<t<bni" |p, a| p.sys_setxattr(a, Of::Path { follow: false }),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_fsetxattr "f<t<bni" |p, a| p.sys_setxattr(a, Of::Descriptor),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_getxattr "<s<t>bn" |p, a| p.sys_getxattr(a, Of::Path { follow: true }),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_lgetxattr "<s<t>bn" |p, a| p.sys_getxattr(a, Of::Path { follow: false }),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_fgetxattr "f<t>bn" |p, a| p.sys_getxattr(a, Of::Descriptor),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_listxattr "<s>bn" |p, a| p.sys_listxattr(a, Of::Path { follow: true }),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_llistxattr "<s>bn" |p, a| p.sys_listxattr(a, Of::Path { follow: false }),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_flistxattr "f>bn" |p, a| p.sys_listxattr(a, Of::Descriptor),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_removexattr "<s<t" |p, a| p.sys_removexattr(a, Of::Path { follow: true }),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_lremovexattr "<s<t" |p, a| p.sys_removexattr(a, Of::Path { follow: false }),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_fremovexattr "f<t" |p, a| p.sys_removexattr(a, Of::Descriptor),
    partial("those of the host's files are not shown; no system.* (ACLs)");
__NR_tkill "ig" |p, a| p.sys_tkill(a), complete;
__NR_time "p" |p, a| p.sys_time(a), complete;
__NR_futex "p#fippx" |p, a| p.sys_futex(a),
    partial("waiters lend no priority");
__NR_sched_setaffinity "inp" |p, a| p.sys_sched_setaffinity(a),
    partial("there is one CPU");
__NR_sched_getaffinity "inp" |p, a| p.sys_sched_getaffinity(a), complete;
__NR_set_thread_area "p" absent(ENOSYS);
__NR_io_setup "*" absent(ENOSYS);
__NR_io_destroy "*" absent(ENOSYS);
__NR_io_getevents "*" [once] absent(ENOSYS);
__NR_io_submit "*" absent(ENOSYS);
__NR_io_cancel "*" absent(ENOSYS);
__NR_get_thread_area "*" absent(ENOSYS);
__NR_lookup_dcookie "*" absent(ENOSYS);
__NR_epoll_create "i" |p, a| p.sys_epoll_create(a), complete;
__NR_epoll_ctl_old "*" absent(ENOSYS);
__NR_epoll_wait_old "*" absent(ENOSYS);
__NR_remap_file_pages "*" |p, a| p.sys_remap_file_pages(a), complete;
__NR_getdents64 "f>dn" |p, a| p.sys_getdents(a, DirFormat::Large), complete;
__NR_set_tid_address "p" |p, a| p.sys_set_tid_address(a), complete;
__NR_restart_syscall "" absent(ENOSYS);
__NR_semtimedop "ipn<T" [once] |p, a| p.sys_semtimedop(a), complete;
__NR_fadvise64 "flni" |p, a| p.sys_fadvise(a), complete;
__NR_timer_create "#kpp" |p, a| p.sys_timer_create(a),
    partial("not on the CPU clock of another process: EINVAL");
__NR_timer_settime "i#A<P>P" |p, a| p.sys_timer_settime(a), complete;
__NR_timer_gettime "i>P" |p, a| p.sys_timer_gettime(a), complete;
__NR_timer_getoverrun "i" |p, a| p.sys_timer_getoverrun(a), complete;
__NR_timer_delete "i" |p, a| p.sys_timer_delete(a), complete;
__NR_clock_settime "#k<T" |p, a| p.sys_clock_settime(a),
    partial("no clock can be set: EPERM");
__NR_clock_gettime "#k>T" |p, a| p.sys_clock_gettime(a), complete;
__NR_clock_getres "#k>T" |p, a| p.sys_clock_getres(a), complete;
__NR_clock_nanosleep "#k#A<T>T" [once] |p, a| p.sys_clock_nanosleep(a), complete;
__NR_exit_group "i" [whole] |p, a| p.sys_exit(a[0], true).map(|()| After::Ended), complete;
__NR_epoll_wait "f>Eii" [once] |p, a| p.sys_epoll_wait(a), complete;
__NR_epoll_ctl "f#ef<E" |p, a| p.sys_epoll_ctl(a),
    partial("EPOLLEXCLUSIVE wakes all that wait");
__NR_tgkill "iig" |p, a| p.sys_tgkill(a), complete;
__NR_utimes "<sp" |p, a| p.sys_utimes(a, AT_FDCWD), complete;
__NR_vserver "*" absent(ENOSYS);
__NR_mbind "pnipnx" absent(ENOSYS);
__NR_set_mempolicy "*" absent(ENOSYS);
__NR_get_mempolicy "*" absent(ENOSYS);
__NR_mq_open "<todp" |p, a| p.sys_mq_open(a), complete;
__NR_mq_unlink "<t" |p, a| p.sys_mq_unlink(a), complete;
__NR_mq_timedsend "f<bnn<T" |p, a| p.sys_mq_timedsend(a), complete;
__NR_mq_timedreceive "f>bnp<T" |p, a| p.sys_mq_timedreceive(a), complete;
__NR_mq_notify "fp" |p, a| p.sys_mq_notify(a),
    partial("no SIGEV_THREAD, since there are no netlink sockets");
__NR_mq_getsetattr "fpp" |p, a| p.sys_mq_getsetattr(a), complete;
__NR_kexec_load "*" absent(ENOSYS);
__NR_waitid "ii>g#op" |p, a| p.sys_waitid(a),
    partial("threads wait for each other's children always");
__NR_add_key "*" absent(ENOSYS);
__NR_request_key "*" absent(ENOSYS);
__NR_keyctl "*" absent(ENOSYS);
__NR_ioprio_set "*" |p, a| p.sys_ioprio_set(a),
    partial("kept, and without effect");
__NR_ioprio_get "*" |p, a| p.sys_ioprio_get(a), complete;
__NR_inotify_init "" absent(ENOSYS);
__NR_inotify_add_watch "f<sx" absent(ENOSYS);
__NR_inotify_rm_watch "fi" absent(ENOSYS);
__NR_migrate_pages "*" absent(ENOSYS);
__NR_openat "a<sod" |p, a| p.sys_openat(a), complete;
__NR_mkdirat "a<sd" |p, a| p.sys_mkdirat(a), complete;
__NR_mknodat "a<sdx" |p, a| p.sys_mknodat(a),
    partial("no device nodes: EPERM");
__NR_fchownat "a<sii#a" |p, a| p.sys_fchownat(a), complete;
__NR_futimesat "a<sp" |p, a| p.sys_utimes([a[1], a[2], 0, 0, 0, 0], a[0]), complete;
__NR_newfstatat "a<s>S#a" |p, a| p.sys_newfstatat(a), complete;
__NR_unlinkat "a<s#a" |p, a| p.sys_unlinkat(a), complete;
__NR_renameat "a<sa<s" |p, a| p.sys_renameat2([a[0], a[1], a[2], a[3], 0, 0]), complete;
__NR_linkat "a<sa<s#a" |p, a| p.sys_linkat(a), complete;
__NR_symlinkat "<ta<s" |p, a| p.sys_symlinkat(a), complete;
__NR_readlinkat "a<s>bn" |p, a| p.sys_readlinkat(a), complete;
__NR_fchmodat "a<sd" |p, a| p.sys_fchmodat([a[0], a[1], a[2], 0, 0, 0]), complete;
__NR_faccessat "a<s#c" |p, a| p.sys_faccessat([a[0], a[1], a[2], 0, 0, 0]), complete;
__NR_pselect6 "n<f<f<f<Tp" [once] |p, a| p.sys_pselect6(a),
    partial("the time that is left is not written back; descriptors from 1024 on are not looked at");
__NR_ppoll "<pn<T<mn" [once] |p, a| p.sys_ppoll(a),
    partial("the time that is left is not written back");
__NR_unshare "#C" |p, a| p.sys_unshare(a),
    partial("no namespaces: EPERM");
__NR_set_robust_list "pn" |p, a| p.sys_set_robust_list(a), complete;
__NR_get_robust_list "ipp" |p, a| p.sys_get_robust_list(a), complete;
__NR_splice "f<Nf<Nnx" |p, a| p.sys_splice(a), complete;
__NR_tee "ffnx" |p, a| p.sys_tee(a), complete;
__NR_sync_file_range "flnx" |p, a| p.sys_sync_file_range(a), complete;
__NR_vmsplice "f<inx" |p, a| p.sys_vmsplice(a),
    partial("what is moved to a pipe is copied: later changes of the memory do not show");
__NR_move_pages "*" absent(ENOSYS);
__NR_utimensat "a<s<U#a" |p, a| p.sys_utimensat(a), complete;
__NR_epoll_pwait "f>Eii<mn" [once] |p, a| p.sys_epoll_pwait(a), complete;
__NR_signalfd "f<mn" |p, a| p.sys_signalfd4([a[0], a[1], a[2], 0, 0, 0]), complete;
__NR_timerfd_create "#k#I" |p, a| p.sys_timerfd_create(a), complete;
__NR_eventfd "n" |p, a| p.sys_eventfd2([a[0], 0, 0, 0, 0, 0]), complete;
__NR_fallocate "fill" |p, a| p.sys_fallocate(a),
    partial("no collapsing, inserting or unsharing of ranges: EOPNOTSUPP");
__NR_timerfd_settime "f#A<P>P" |p, a| p.sys_timerfd_settime(a), complete;
__NR_timerfd_gettime "f>P" |p, a| p.sys_timerfd_gettime(a), complete;
__NR_accept4 "f>A>n#K" |p, a| p.sys_accept4(a), complete;
__NR_signalfd4 "f<mn#G" |p, a| p.sys_signalfd4(a), complete;
__NR_eventfd2 "n#V" |p, a| p.sys_eventfd2(a), complete;
__NR_epoll_create1 "#E" |p, a| p.sys_epoll_create1(a), complete;
__NR_dup3 "ff#x" |p, a| p.sys_dup3(a), complete;
__NR_pipe2 ">2#x" |p, a| p.sys_pipe2(a), complete;
__NR_inotify_init1 "x" absent(ENOSYS);
__NR_preadv "f>inll" |p, a| p.sys_readv(a, Where::Offset(a[3] as i64), RwFlags::default()), complete;
__NR_pwritev "f<inll" |p, a| p.sys_writev(a, Where::Offset(a[3] as i64), RwFlags::default()), complete;
__NR_rt_tgsigqueueinfo "iigp" |p, a| p.sys_rt_tgsigqueueinfo(a), partial("of the information, the first 32 bytes arrive");
__NR_perf_event_open "piifx" absent(ENOSYS);
__NR_recvmmsg "fpn#sp" |p, a| p.sys_recvmmsg(a),
    partial("a call that waited forgets its timeout, which is not written back");
__NR_fanotify_init "*" absent(ENOSYS);
__NR_fanotify_mark "*" absent(ENOSYS);
__NR_prlimit64 "i#l<l>l" |p, a| p.sys_prlimit64(a),
    partial("kept; only CPU, FSIZE, DATA, STACK, NOFILE, AS, NICE and RTPRIO are enforced");
__NR_name_to_handle_at "a<sppx" |p, a| p.sys_name_to_handle_at(a),
    partial("files have no handles: EOPNOTSUPP");
__NR_open_by_handle_at "*" absent(ENOSYS);
__NR_clock_adjtime "*" |p, a| p.sys_clock_adjtime(a),
    partial("reads only: EPERM for changes");
__NR_syncfs "f" |p, a| p.sys_fsync(a), complete;
__NR_sendmmsg "fpn#s" |p, a| p.sys_sendmmsg(a),
    partial("MSG_OOB is EOPNOTSUPP");
__NR_setns "*" absent(ENOSYS);
__NR_getcpu "ppp" |p, a| p.sys_getcpu(a), complete;
__NR_process_vm_readv "*" absent(ENOSYS);
__NR_process_vm_writev "*" absent(ENOSYS);
__NR_kcmp "iixxx" |p, a| p.sys_kcmp(a),
    partial("KCMP_IO finds all alike; not of processes that have ended: ESRCH");
__NR_finit_module "*" absent(ENOSYS);
__NR_sched_setattr "ipx" |p, a| p.sys_sched_setattr(a),
    partial("as sched_setscheduler; no SCHED_DEADLINE, and utilization clamps are ignored");
__NR_sched_getattr "ipnx" |p, a| p.sys_sched_getattr(a), complete;
__NR_renameat2 "a<sa<sx" |p, a| p.sys_renameat2(a),
    partial("no RENAME_WHITEOUT: EINVAL");
__NR_seccomp "ixp" absent(ENOSYS);
__NR_getrandom ">bn#R" |p, a| p.sys_getrandom(a), complete;
__NR_memfd_create "<t#F" |p, a| p.sys_memfd_create(a),
    partial("no huge pages: MFD_HUGETLB is ENOSYS");
__NR_kexec_file_load "*" absent(ENOSYS);
__NR_bpf "*" absent(ENOSYS);
__NR_execveat "a<s<v<e#a" [whole] |p, a| p.sys_execveat(a).map(|()| After::Replaced),
    partial("no capabilities of files; binary formats are x86-64 ELF and scripts");
__NR_userfaultfd "x" absent(ENOSYS);
__NR_membarrier "ixi" |p, a| p.sys_membarrier(a), complete;
__NR_mlock2 "pnx" |p, a| p.sys_mlock(a, a[2]),
    partial("RLIMIT_MEMLOCK is not looked at");
__NR_copy_file_range "f<Nf<Nnx" |p, a| p.sys_copy_file_range(a), complete;
__NR_preadv2 "f>inllx" |p, a| {
    let (at, flags) = Kernel::second_where(a);
    p.sys_readv(a, at, flags)
}, complete;
__NR_pwritev2 "f<inllx" |p, a| {
    let (at, flags) = Kernel::second_where(a);
    p.sys_writev(a, at, flags)
}, complete;
__NR_pkey_mprotect "pnri" absent(ENOSYS);
__NR_pkey_alloc "xx" absent(ENOSYS);
__NR_pkey_free "i" absent(ENOSYS);
__NR_statx "a<s#a#X>X" |p, a| p.sys_statx(a),
    partial("the basic fields and birth time: no attributes, mount id or direct I/O alignment");
__NR_io_pgetevents "*" [once] absent(ENOSYS);
__NR_rseq "pnxx" |p, a| p.sys_rseq(a),
    partial("not kept: a critical section that a signal interrupts is not aborted");
__NR_uretprobe "*" absent(ENOSYS);
__NR_pidfd_send_signal "fgpx" |p, a| p.sys_pidfd_send_signal(a),
    partial("no descriptors of threads");
__NR_io_uring_setup "np" absent(ENOSYS);
__NR_io_uring_enter "fnnxpn" absent(ENOSYS);
__NR_io_uring_register "fipn" absent(ENOSYS);
__NR_open_tree "*" absent(ENOSYS);
__NR_move_mount "*" absent(ENOSYS);
__NR_fsopen "*" absent(ENOSYS);
__NR_fsconfig "*" absent(ENOSYS);
__NR_fsmount "*" absent(ENOSYS);
__NR_fspick "*" absent(ENOSYS);
__NR_pidfd_open "io" |p, a| p.sys_pidfd_open(a),
    partial("not of a thread: PIDFD_THREAD is EINVAL");
__NR_clone3 "<cn" |p, a| p.sys_clone3(a),
    partial("no namespaces, no CLONE_INTO_CGROUP; CLONE_PIDFD not of a thread");
__NR_close_range "ffx" |p, a| p.sys_close_range(a), complete;
__NR_openat2 "a<s<on" |p, a| p.sys_openat2(a), complete;
__NR_pidfd_getfd "ffx" |p, a| p.sys_pidfd_getfd(a), complete;
__NR_faccessat2 "a<s#c#a" |p, a| p.sys_faccessat(a), complete;
__NR_process_madvise "fpnix" |p, a| p.sys_process_madvise(a),
    partial("of the caller only, by PIDFD_SELF: EBADF for all else");
__NR_epoll_pwait2 "f>Ei<T<mn" [once] |p, a| p.sys_epoll_pwait2(a), complete;
__NR_mount_setattr "*" absent(ENOSYS);
__NR_quotactl_fd "*" absent(ENOSYS);
__NR_landlock_create_ruleset "*" absent(ENOSYS);
__NR_landlock_add_rule "*" absent(ENOSYS);
__NR_landlock_restrict_self "*" absent(ENOSYS);
__NR_memfd_secret "*" absent(ENOSYS);
__NR_process_mrelease "*" absent(ENOSYS);
__NR_futex_waitv "pnxpi" |p, a| p.sys_futex_waitv(a), complete;
__NR_set_mempolicy_home_node "*" absent(ENOSYS);
__NR_cachestat "fppx" absent(ENOSYS);
__NR_fchmodat2 "a<sd#a" |p, a| p.sys_fchmodat2(a), complete;
__NR_map_shadow_stack "pnx" absent(ENOSYS);
__NR_futex_wake "pxix" absent(ENOSYS);
__NR_futex_wait "pxxxpi" absent(ENOSYS);
__NR_futex_requeue "pxii" absent(ENOSYS);
__NR_statmount "*" absent(ENOSYS);
__NR_listmount "*" absent(ENOSYS);
__NR_lsm_get_self_attr "*" absent(ENOSYS);
__NR_lsm_set_self_attr "*" absent(ENOSYS);
__NR_lsm_list_modules "*" absent(ENOSYS);
__NR_mseal "*" absent(ENOSYS);
__NR_setxattrat "*" absent(ENOSYS);
__NR_getxattrat "*" absent(ENOSYS);
__NR_listxattrat "*" absent(ENOSYS);
__NR_removexattrat "*" absent(ENOSYS);
__NR_open_tree_attr "*" absent(ENOSYS);
__NR_file_getattr "*" absent(ENOSYS);
__NR_file_setattr "*" absent(ENOSYS);}
