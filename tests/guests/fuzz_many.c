/* Makes system calls from several processes and threads on objects that they share, with arguments drawn
 * from a seed that are mostly sensible. Arguments: seed, and how many calls all together make. What the calls
 * gave is folded into one number, which is written out now and then: two runs that differ show it. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "fuzz_many.h"

struct shared *const all = (struct shared *)SHARED;

/* One call: its number, and the kinds of its arguments, which `argument` knows. */
struct row {
    short number;
    const char *kinds;
};

static const struct row rows[] = {
    /* Descriptors and what lies behind them. */
    {SYS_read, "fbl"}, {SYS_read, "fbl"}, {SYS_write, "fbl"}, {SYS_write, "fbl"}, {SYS_readv, "fvi"},
    {SYS_writev, "fvi"}, {SYS_pread64, "fbll"}, {SYS_pwrite64, "fbll"}, {SYS_close, "f"}, {SYS_dup, "f"},
    {SYS_dup2, "ff"}, {SYS_dup3, "ffo"}, {SYS_fcntl, "fCi"}, {SYS_fcntl, "fCf"}, {SYS_fcntl, "f/r"},
    {SYS_fcntl, "f/r"}, {SYS_flock, "f!"}, {SYS_flock, "f!"}, {SYS_ioctl, "fXb"}, {SYS_lseek, "fli"},
    {SYS_ftruncate, "fl"}, {SYS_fallocate, "fxll"}, {SYS_fstat, "fb"}, {SYS_close_range, "ffx"},
    {SYS_pipe2, "bo"}, {SYS_pipe2, "bo"}, {SYS_eventfd2, "io"}, {SYS_signalfd4, "fS8o"},
    {SYS_signalfd4, "-S8o"}, {SYS_timerfd_create, "Yo"}, {SYS_timerfd_settime, "fxTB"},
    {SYS_timerfd_settime, "fxTB"}, {SYS_timerfd_gettime, "fb"}, {SYS_pidfd_open, "po"},
    {SYS_pidfd_getfd, "ffz"}, {SYS_pidfd_send_signal, "fszz"}, {SYS_epoll_create1, "o"},
    {SYS_epoll_ctl, "feEE"}, {SYS_epoll_ctl, "fefE"}, {SYS_epoll_ctl, "fefE"}, {SYS_epoll_ctl, "fefE"},
    {SYS_epoll_wait, "fbiL"}, {SYS_epoll_pwait, "fbiiS8"}, {SYS_poll, "Vii"}, {SYS_ppoll, "VitS8"},
    {SYS_select, "lBBBT"}, {SYS_splice, "fzfzlG"}, {SYS_splice, "fBfBlG"}, {SYS_splice, "fzfzlG"},
    {SYS_tee, "fflG"}, {SYS_tee, "fflG"}, {SYS_sendfile, "ffBl"}, {SYS_copy_file_range, "fBfBlz"},
    /* Names. */
    {SYS_openat, "*nom"}, {SYS_openat, "*nom"}, {SYS_openat, "*nom"}, {SYS_openat, "*nom"}, {SYS_unlink, "n"},
    {SYS_mknod, "nm"}, {SYS_mkdir, "nm"}, {SYS_rename, "nn"}, {SYS_link, "nn"}, {SYS_symlink, "nn"},
    {SYS_stat, "nb"}, {SYS_readlink, "nbl"}, {SYS_getdents64, "fbl"}, {SYS_chdir, "n"}, {SYS_fchdir, "f"},
    {SYS_truncate, "nl"}, {SYS_chmod, "nm"}, {SYS_chown, "n@@"}, {SYS_memfd_create, "nx"},
    /* Sockets. */
    {SYS_socket, "#dz"}, {SYS_socketpair, "#dzb"}, {SYS_socketpair, "#dzb"}, {SYS_bind, "fkK"},
    {SYS_listen, "fi"}, {SYS_connect, "fkK"}, {SYS_connect, "fkK"}, {SYS_accept4, "fzzo"},
    {SYS_accept, "fzz"}, {SYS_sendmsg, "fMh"}, {SYS_sendmsg, "fMh"}, {SYS_sendmsg, "fMh"}, {SYS_sendmsg, "fMh"},
    {SYS_recvmsg, "fMh"}, {SYS_recvmsg, "fMh"}, {SYS_recvmsg, "fMh"}, {SYS_sendto, "fblhkK"},
    {SYS_sendto, "fblhzz"}, {SYS_recvfrom, "fblhzz"}, {SYS_shutdown, "fi"}, {SYS_setsockopt, "f1lb4"},
    {SYS_getsockopt, "f1lbb"}, {SYS_getsockname, "fbb"}, {SYS_getpeername, "fbb"},
    /* Processes, groups and what they are. */
    {SYS_wait4, "pBWB"}, {SYS_wait4, "pBWB"}, {SYS_waitid, "wpbWB"}, {SYS_waitid, "wfbWB"}, {SYS_setpgid, "pp"},
    {SYS_setsid, ""}, {SYS_getpgid, "p"}, {SYS_getsid, "p"}, {SYS_setresuid, "@@@"}, {SYS_setresgid, "@@@"},
    {SYS_setuid, "@"}, {SYS_setgid, "@"}, {SYS_setgroups, "ib"}, {SYS_prlimit64, "pIRB"}, {SYS_prctl, "Plzzz"},
    {SYS_prctl, "Pszzz"}, {SYS_capset, "bb"}, {SYS_umask, "m"}, {SYS_getpriority, "ip"},
    {SYS_setpriority, "ipi"}, {SYS_sched_yield, ""}, {SYS_sched_yield, ""}, {SYS_sched_setscheduler, "pib"},
    {SYS_getrusage, "ib"}, {SYS_kcmp, "ppiff"}, {SYS_ptrace, "ip"}, {SYS_membarrier, "xzz"},
    /* Signals. */
    {SYS_kill, "ps"}, {SYS_kill, "ps"}, {SYS_kill, "ps"}, {SYS_tgkill, "pps"}, {SYS_tkill, "ps"},
    {SYS_tkill, "ps"}, {SYS_rt_sigqueueinfo, "psq"}, {SYS_rt_tgsigqueueinfo, "ppsq"}, {SYS_rt_sigaction, "sAB8"},
    {SYS_rt_sigprocmask, "HSB8"}, {SYS_rt_sigprocmask, "HSB8"}, {SYS_rt_sigpending, "b8"},
    {SYS_rt_sigtimedwait, "SBt8"}, {SYS_rt_sigsuspend, "S8"}, {SYS_sigaltstack, "JB"}, {SYS_pause, ""},
    /* Threads' own. */
    {SYS_futex, "uOUtuU"}, {SYS_futex, "uOUtuU"}, {SYS_futex, "uOUtuU"}, {SYS_futex, "uOUtuU"},
    {SYS_futex, "uOUiuU"}, {SYS_futex, "uOUiuU"}, {SYS_futex, "uOUtuU"}, {SYS_futex, "uOUtuU"},
    {SYS_set_robust_list, "N$"}, {SYS_set_robust_list, "N$"}, {SYS_get_robust_list, "pbb"},
    {SYS_set_tid_address, "u"}, {SYS_rseq, "blxx"}, {SYS_sched_setaffinity, "plb"},
    /* Memory. */
    {SYS_mmap, "aLRDfp"}, {SYS_mmap, "aLRDfL"}, {SYS_mmap, "aLRD-z"}, {SYS_munmap, "aL"}, {SYS_mprotect, "aLR"},
    {SYS_mprotect, "aLR"}, {SYS_mremap, "aLLia"}, {SYS_madvise, "aLl"}, {SYS_msync, "aLi"}, {SYS_mlock, "aL"},
    {SYS_remap_file_pages, "aLzii"}, {SYS_mincore, "aLb"}, {SYS_brk, "z"},
    /* IPC. */
    {SYS_shmget, "jLF"}, {SYS_shmat, "gag"}, {SYS_shmat, "gzz"}, {SYS_shmdt, "a"}, {SYS_shmctl, "gcb"},
    {SYS_semget, "jiF"}, {SYS_semop, "g%i"}, {SYS_semtimedop, "g%it"}, {SYS_semtimedop, "g%it"},
    {SYS_semctl, "gicb"}, {SYS_semctl, "giyi"}, {SYS_msgget, "jF"}, {SYS_msgsnd, "g&lF"}, {SYS_msgsnd, "g&lF"},
    {SYS_msgrcv, "gbliF"}, {SYS_msgrcv, "gbliF"}, {SYS_msgctl, "gcb"}, {SYS_mq_open, "Qomz"},
    {SYS_mq_timedsend, "fblit"}, {SYS_mq_timedsend, "fblit"}, {SYS_mq_timedreceive, "fb?Bt"},
    {SYS_mq_timedreceive, "fb?Bt"}, {SYS_mq_notify, "fz"}, {SYS_mq_notify, "f~"}, {SYS_mq_unlink, "Q"},
    {SYS_mq_getsetattr, "fBB"},
    /* Time. */
    {SYS_timer_create, "Y~b"}, {SYS_timer_create, "Y~b"}, {SYS_timer_settime, "ixTB"},
    {SYS_timer_settime, "ixTB"}, {SYS_timer_delete, "i"}, {SYS_timer_getoverrun, "i"}, {SYS_timer_gettime, "ib"},
    {SYS_setitimer, "iTB"}, {SYS_alarm, "i"}, {SYS_nanosleep, "tB"}, {SYS_clock_nanosleep, "YxtB"},
    {SYS_clock_gettime, "Yb"},
};

/* Any call with any arguments, besides those that end the task. */
static void nonsense(struct task *t) {
    uint64_t number = below(t, 8) ? below(t, 335) : 424 + below(t, 50), a[6];
    if (number == SYS_exit || number == SYS_exit_group || number == SYS_rt_sigreturn || number == SYS_clone ||
        number == SYS_vfork || number == SYS_fork || number == SYS_clone3)
        return;
    for (int i = 0; i < 6; i++)
        a[i] = argument(t, "fblixapu"[below(t, 8)]);
    made(t, number, call(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

static void one_of_the_rows(struct task *t) {
    const struct row *row = &rows[below(t, sizeof rows / sizeof *rows)];
    uint64_t a[6] = {0};
    for (int i = 0; row->kinds[i]; i++)
        a[i] = argument(t, below(t, 24) ? row->kinds[i] : '?');
    made(t, row->number, call(row->number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

static void step(struct task *t) {
    t->used = 0;
    switch (below(t, 40)) {
    case 0: case 1: spawn(t); break;
    case 2: if (below(t, 8) == 0) execute(t); break;
    case 3: case 4: case 5: poke(t); break;
    case 6: nonsense(t); break;
    default: one_of_the_rows(t);
    }
}

/* The first process only looks after the others. */
static int looks_after;

void handler(int signal) {
    static struct task own;
    static int depth;
    if (signal == SIGSEGV || signal == SIGBUS) {
        /* An area was taken away: there is one again, for some time. */
        if (__atomic_add_fetch(&all->faults, 1, __ATOMIC_SEQ_CST) > 200)
            call(SYS_exit_group, 3, 0, 0, 0, 0, 0);
        call(SYS_mmap, AREA, AREA_SIZE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        return;
    }
    if (looks_after || depth > 3)
        return;
    depth++;
    own.state += all->hash;
    if (below(&own, 4) == 0)
        step(&own);
    depth--;
}

int work(void *arg) {
    struct task *t = arg;
    for (; t->left > 0 && below(t, 100); t->left--) {
        int left = __atomic_sub_fetch(&all->left, 1, __ATOMIC_SEQ_CST);
        if (left <= 0)
            break;
        if (left % 32 == 0)
            report();
        step(t);
    }
    if (below(t, 4) == 0)
        call(SYS_exit_group, below(t, 256), 0, 0, 0, 0, 0);
    return below(t, 256);
}

/* Starts processes for as long as calls are left, and lets those go on that nothing else does. */
static void look_after(struct task *t) {
    struct itimerval often = {{0, 20000}, {0, 20000}};
    int alone = 0;
    looks_after = 1;
    /* Without this the run may come to where nothing can happen. */
    if (below(t, 4))
        setitimer(ITIMER_REAL, &often, 0);
    for (int turn = 0; turn < 3000 && all->left > 0; turn++) {
        if (turn < 3 || alone) {
            struct task *child = &tasks[0];
            if (call(SYS_fork, 0, 0, 0, 0, 0, 0) == 0) {
                looks_after = 0;
                child->state += turn;
                child->left = 200;
                call(SYS_exit, work(child), 0, 0, 0, 0, 0);
            }
            draw(t);
        }
        alone = 0;
        long ended = turn < 2 ? -EAGAIN : call(SYS_wait4, -1, 0, __WALL, 0, 0, 0);
        made(t, SYS_wait4, ended);
        if (ended == -ECHILD)
            alone = 1;
        else if (ended == -EINTR)
            call(SYS_kill, -1, below(t, 8) ? ONE_OF(t, SIGCONT, SIGUSR1, SIGUSR2, 34) : SIGKILL, 0, 0, 0, 0);
    }
    report();
}

/* Objects of all kinds, of which every process has descriptors. */
static void make_objects(struct task *t) {
    int pair[2], none = below(t, 2) ? O_NONBLOCK : 0;
    sigset_t some;
    mkdir("/tmp/d", 0755);
    mkfifo("/tmp/fifo", 0600);
    open("/tmp/a", O_RDWR | O_CREAT, 0600);
    open("/tmp/b", O_RDWR | O_CREAT, 0600);
    open("/tmp/fifo", O_RDWR | none);
    pipe2(pair, none);
    pipe2(pair, 0);
    eventfd(below(t, 3), none);
    eventfd(1, EFD_SEMAPHORE | none);
    sigemptyset(&some);
    for (int i = 0; i < 6; i++)
        sigaddset(&some, 1 + below(t, 40));
    signalfd(-1, &some, none);
    timerfd_create(1, none);
    call(SYS_pidfd_open, getpid(), 0, 0, 0, 0, 0);
    epoll_create1(0);
    epoll_create1(0);
    socketpair(AF_UNIX, SOCK_STREAM | none, 0, pair);
    socketpair(AF_UNIX, SOCK_DGRAM | none, 0, pair);
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
    for (int i = 0; i < 3; i++) {
        struct sockaddr_un name = {AF_UNIX, "/tmp/s0"};
        name.sun_path[6] += i;
        int fd = socket(AF_UNIX, i == 1 ? SOCK_DGRAM : SOCK_STREAM, 0);
        bind(fd, (void *)&name, sizeof name);
        listen(fd, 2);
    }
    ftruncate(memfd_create("m", 0), 4 * 4096);
    call(SYS_mq_open, "q0", O_RDWR | O_CREAT | none, 0600, 0, 0, 0);
    call(SYS_mq_open, "q1", O_RDWR | O_CREAT, 0600, 0, 0, 0);
    open("/proc/self/status", O_RDONLY);
    open("/dev/ptmx", O_RDWR | none);
    for (int key = 1; key < 4; key++) {
        shmget(key, 3 * 4096, IPC_CREAT | 0600);
        semget(key, 3, IPC_CREAT | 0600);
        msgget(key, IPC_CREAT | 0600);
    }
}

int main(int count, char **args) {
    struct task *t = &tasks[0];
    if (count < 3)
        return 2;
    int first = count == 3, fd = open("/dev/shm/fuzz", O_RDWR | O_CREAT, 0600);
    ftruncate(fd, 4096);
    if (mmap(all, 4096, 3, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        return 3;
    close(fd);
    fd = open("/dev/shm/area", O_RDWR | O_CREAT, 0600);
    ftruncate(fd, AREA_SIZE / 2);
    mmap((void *)AREA, AREA_SIZE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mmap((void *)AREA, AREA_SIZE / 2, 3, MAP_SHARED | MAP_FIXED, fd, 0);
    close(fd);
    t->state = strtoull(args[1], 0, 0) * 0xd1342543de82ef95;
    for (int signal = 1; signal <= 64; signal++)
        if (signal != SIGKILL && signal != SIGSTOP)
            act(signal, signal != SIGALRM && below(t, 4) ? SA_RESTART : 0);
    if (!first) {
        t->left = 60;
        return work(t);
    }
    all->left = atoi(args[2]);
    make_objects(t);
    look_after(t);
    return 0;
}
