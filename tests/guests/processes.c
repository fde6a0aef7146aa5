/* Processes and threads: what Linux says of them, in lines. The first argument says which part. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))

static const char *error(long result) { return result < 0 ? strerrorname_np(errno) : "0"; }

static void caught_nothing(int signal) {}

/* One end of a FIFO is opened, used and closed before who waits for it has its turn. */
static void fifos(void) {
    char path[64];
    int status;
    signal(SIGPIPE, SIG_IGN);
    snprintf(path, sizeof path, "/tmp/fifo-%d", getpid());
    for (int writes = 0; writes < 2; writes++)
        for (int bytes = 0; bytes < 2; bytes++) {
            mkfifo(path, 0600);
            pid_t child = fork();
            if (!child) {
                char buffer[9] = "";
                alarm(20);
                int fd = open(path, O_RDONLY);
                int n = read(fd, buffer, 8);
                SAY("reader: %d, read %d %s\n", fd >= 0, n, buffer);
                _exit(3);
            }
            usleep(50000);
            int fd = open(path, writes ? O_RDWR : O_WRONLY);
            int n = bytes ? write(fd, "hi", 2) : 0;
            const char *said = error(n);
            if (bytes || !writes) close(fd);
            if (!bytes && writes) { write(fd, "late", 4); close(fd); }
            waitpid(child, &status, 0);
            SAY("wrote %d: %s, status %x\n", n, said, status);
            unlink(path);
        }
    /* Who waits to write. */
    mkfifo(path, 0600);
    pid_t writer = fork();
    if (!writer) {
        alarm(20);
        int fd = open(path, O_WRONLY);
        SAY("writer: %d\n", fd >= 0);
        _exit(4);
    }
    usleep(50000);
    close(open(path, O_RDONLY));
    waitpid(writer, &status, 0);
    SAY("status %x\n", status);
    /* Who is killed, or interrupted, waits no more. */
    pid_t child = fork();
    if (!child) {
        open(path, O_RDONLY);
        _exit(5);
    }
    usleep(50000);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    SAY("killed %x, open: %s\n", status, error(open(path, O_WRONLY | O_NONBLOCK)));
    struct sigaction act = {.sa_handler = caught_nothing};
    sigaction(SIGALRM, &act, 0);
    ualarm(20000, 0);
    SAY("interrupted: %s\n", error(open(path, O_RDONLY)));
    SAY("open: %s\n", error(open(path, O_WRONLY | O_NONBLOCK)));
    unlink(path);
}

/* Children, and every way to wait for them. */
static void waits(void) {
    int status;
    siginfo_t info;
    SAY("none: %s\n", error(waitpid(-1, &status, 0)));
    SAY("bad options: %s\n", error(waitpid(-1, &status, 0x10)));
    for (int n = 0; n < 4; n++)
        if (!fork()) {
            if (n == 2) abort();
            if (n == 3) raise(SIGUSR1);
            _exit(n + 40);
        }
    int seen[4] = {0};
    for (int n = 0; n < 4; n++) {
        wait(&status);
        seen[n] = status;
    }
    for (int i = 0; i < 4; i++)
        for (int k = i + 1; k < 4; k++)
            if (seen[k] < seen[i]) { int t = seen[i]; seen[i] = seen[k]; seen[k] = t; }
    for (int n = 0; n < 4; n++) SAY("status %x\n", seen[n] & ~0x80);
    pid_t child = fork();
    if (!child) { usleep(1000); _exit(7); }
    SAY("not yet: %d\n", waitpid(child, &status, WNOHANG));
    memset(&info, 0, sizeof info);
    SAY("kept: %s\n", error(waitid(P_PID, child, &info, WEXITED | WNOWAIT)));
    SAY("code %d status %d pid %d signal %d\n", info.si_code, info.si_status, info.si_pid == child, info.si_signo);
    pid_t taken = waitpid(child, &status, 0);
    SAY("taken: %d %x\n", taken == child, status);
    SAY("gone: %s\n", error(waitpid(child, &status, 0)));
    SAY("nobody: %s\n", error(kill(child, 0)));
    signal(SIGCHLD, SIG_IGN);
    if (!fork()) _exit(1);
    SAY("nobody is left: %s\n", error(wait(&status)));
    signal(SIGCHLD, SIG_DFL);
    signal(SIGCHLD, caught_nothing);
    if (!fork()) _exit(0);
    child = vfork();
    if (!child) { usleep(3000); _exit(1); }
    SAY("vfork waits whatever comes: %d\n", child > 0);
    while (wait(&status) > 0 || errno == EINTR);
    signal(SIGCHLD, SIG_DFL);
    child = vfork();
    if (!child) _exit(9);
    taken = waitpid(child, &status, 0);
    SAY("vfork: %d %x\n", taken == child, status);
    if (!(child = fork())) {
        setpgid(0, 0);
        pause();
    }
    setpgid(child, child);
    SAY("group: %d\n", getpgid(child) == child);
    SAY("to the group: %s\n", error(kill(-child, SIGTERM)));
    taken = waitpid(-child, &status, 0);
    SAY("ended: %d %x\n", taken == child, status);
    SAY("leader: %s\n", getpid() == getpgrp() ? error(setsid()) : "EPERM");
    if (!(child = fork())) {
        pid_t session = setsid();
        _exit(session == getpid() && getsid(0) == session && getpgrp() == session ? 3 : 4);
    }
    waitpid(child, &status, 0);
    SAY("session: %x\n", status);
}

/* What a child has of its parent, and the parent of it. */
static void copies(void) {
    static int here = 1;
    int *shared = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *large = mmap(0, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 8 << 20; i += 4096) large[i] = i >> 12;
    int file = open("/proc/self/exe", O_RDONLY), status;
    char *mapped = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    mapped[1] = 'X';
    if (!fork()) {
        here = 2;
        shared[0] = 3;
        int good = 1;
        for (int i = 0; i < 8 << 20; i += 4096) good &= large[i] == (char)(i >> 12);
        large[4096] = 99;
        good &= mapped[1] == 'X' && mapped[2] == 'L';
        mapped[1] = 'Y';
        lseek(file, 100, SEEK_SET);
        if (!fork()) {
            good &= large[4096] == 99 && here == 2;
            shared[1] = getppid() > 0;
            _exit(!good);
        }
        wait(&status);
        _exit(status || !good);
    }
    wait(&status);
    SAY("child %x here %d shared %d %d large %d mapped %c offset %ld\n", status, here, shared[0], shared[1], large[4096],
        mapped[1], (long)lseek(file, 0, SEEK_CUR));
    int p[2];
    pipe(p);
    if (!fork()) {
        close(p[0]);
        for (int i = 0; i < 3000; i++) write(p[1], "0123456789012345678901234567890123456789", 40);
        _exit(0);
    }
    close(p[1]);
    char buf[997];
    long n, sum = 0;
    while ((n = read(p[0], buf, sizeof buf)) > 0) sum += n;
    SAY("through the pipe %ld\n", sum);
    signal(SIGPIPE, SIG_IGN);
    pipe(p);
    close(p[0]);
    SAY("nobody reads: %s\n", error(write(p[1], "x", 1)));
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long counter;
static volatile int turn;

static void *count(void *arg) {
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        if (i % 100 == 0) sched_yield();
        pthread_mutex_unlock(&mutex);
    }
    return arg;
}

static void *ping(void *arg) {
    long own = (long)arg;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < 50; i++) {
        while (turn != own) pthread_cond_wait(&cond, &mutex);
        turn = !own;
        pthread_cond_signal(&cond);
    }
    pthread_mutex_unlock(&mutex);
    return arg;
}

static void caught(int signal, siginfo_t *info, void *context) { counter = signal + info->si_value.sival_int; }

static void *waits_for_signal(void *arg) {
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    int got = sigwaitinfo(&set, &info);
    SAY("thread got %d value %d\n", got - SIGRTMIN, info.si_value.sival_int);
    return arg;
}

static void threads(void) {
    pthread_t t[8];
    for (long i = 0; i < 8; i++) pthread_create(&t[i], 0, count, (void *)i);
    for (long i = 0; i < 8; i++) {
        void *result;
        pthread_join(t[i], &result);
        if ((long)result != i) SAY("joined another\n");
    }
    SAY("counted %ld\n", counter);
    pthread_create(&t[0], 0, ping, (void *)0);
    pthread_create(&t[1], 0, ping, (void *)1);
    pthread_join(t[0], 0);
    pthread_join(t[1], 0);
    SAY("turn %d\n", turn);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 1000000;
    if (soon.tv_nsec >= 1000000000) { soon.tv_sec++; soon.tv_nsec -= 1000000000; }
    pthread_mutex_lock(&mutex);
    SAY("timed out: %s\n", strerrorname_np(pthread_cond_timedwait(&cond, &mutex, &soon)));
    pthread_mutex_unlock(&mutex);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    pthread_create(&t[0], 0, waits_for_signal, 0);
    usleep(1000);
    union sigval value = {.sival_int = 77};
    pthread_sigqueue(t[0], SIGRTMIN, value);
    pthread_join(t[0], 0);
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, 0);
    value.sival_int = 100;
    sigqueue(getpid(), SIGUSR1, value);
    SAY("caught %ld\n", counter);
    pthread_mutexattr_t attr;
    pthread_mutex_t *robust = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(robust, &attr);
    if (!fork()) {
        pthread_mutex_lock(robust);
        _exit(0);
    }
    int status;
    wait(&status);
    SAY("its owner died: %s\n", strerrorname_np(pthread_mutex_lock(robust)));
}

/* Everything that is waited for, by every way to wait. */
static void readiness(void) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 5}, got[4];
    int set = epoll_create1(0), counter = eventfd(0, EFD_NONBLOCK), pair[2], timer = timerfd_create(CLOCK_MONOTONIC, 0);
    uint64_t value = 3;
    SAY("pair: %s\n", error(socketpair(AF_UNIX, SOCK_STREAM, 0, pair)));
    SAY("add: %s\n", error(epoll_ctl(set, EPOLL_CTL_ADD, counter, &event)));
    SAY("again: %s\n", error(epoll_ctl(set, EPOLL_CTL_ADD, counter, &event)));
    SAY("itself: %s\n", error(epoll_ctl(set, EPOLL_CTL_ADD, set, &event)));
    SAY("file: %s\n", error(epoll_ctl(set, EPOLL_CTL_ADD, open("/etc/passwd", O_RDONLY), &event)));
    SAY("nothing: %d\n", epoll_wait(set, got, 4, 0));
    write(counter, &value, 8);
    int count = epoll_wait(set, got, 4, -1);
    SAY("one: %d %x %lu\n", count, got[0].events, (unsigned long)got[0].data.u64);
    value = 0;
    ssize_t size = read(counter, &value, 8);
    SAY("read %zd %lu\n", size, (unsigned long)value);
    SAY("then %s\n", error(read(counter, &value, 8)));
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = 6;
    epoll_ctl(set, EPOLL_CTL_ADD, pair[0], &event);
    write(pair[1], "abc", 3);
    SAY("edge: %d", epoll_wait(set, got, 4, 0));
    SAY(" %d", epoll_wait(set, got, 4, 0));
    write(pair[1], "d", 1);
    SAY(" %d\n", epoll_wait(set, got, 4, 0));
    char buf[8];
    SAY("bytes %zd\n", recv(pair[0], buf, 8, MSG_DONTWAIT));
    SAY("later %s\n", error(recv(pair[0], buf, 8, MSG_DONTWAIT)));
    struct itimerspec when = {.it_value = {0, 5000000}, .it_interval = {0, 1000000}};
    timerfd_settime(timer, 0, &when, 0);
    size = read(timer, &value, 8);
    SAY("timer %zd %d\n", size, value >= 1);
    if (!fork()) {
        usleep(2000);
        write(pair[1], "late", 4);
        _exit(0);
    }
    struct pollfd fds[2] = {{.fd = pair[0], .events = POLLIN}, {.fd = counter, .events = POLLIN | POLLOUT}};
    count = poll(fds, 2, -1);
    SAY("polled %d %x\n", count, fds[1].revents);
    SAY("blocked %zd\n", read(pair[0], buf, 8));
    /* It has the other end open, too. */
    wait(NULL);
    shutdown(pair[1], SHUT_WR);
    SAY("end %zd\n", read(pair[0], buf, 8));
    close(pair[1]);
    signal(SIGPIPE, SIG_IGN);
    SAY("gone: %s\n", error(write(pair[0], "x", 1)));
    fds[0].events = POLLIN | POLLOUT;
    poll(fds, 1, 0);
    SAY("hung up %x\n", fds[0].revents);
    int d[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, d);
    write(d[0], "first", 5);
    write(d[0], "second message", 14);
    SAY("message %zd", read(d[1], buf, 3));
    SAY(" whole %zd\n", recv(d[1], buf, 8, MSG_TRUNC));
    int inner = epoll_create1(0);
    event.events = EPOLLIN;
    SAY("nested: %s", error(epoll_ctl(set, EPOLL_CTL_ADD, inner, &event)));
    SAY(" %s\n", error(epoll_ctl(inner, EPOLL_CTL_ADD, set, &event)));
}

/* A thread executes a program: the others end, and it is the process from then on. */
static void *executes(void *arg) {
    execl("/proc/self/exe", "processes", "executed", NULL);
    return arg;
}

static void threads_and_exec(void) {
    pthread_t t[3];
    for (int i = 0; i < 2; i++) pthread_create(&t[i], 0, ping, (void *)9);
    pthread_create(&t[2], 0, executes, 0);
    for (;;) pause();
}

static void executed(void) {
    volatile double x = 1.5;
    SAY("alone: %d\n", (int)syscall(SYS_gettid) == getpid());
    for (int i = 0; i < 20; i++) {
        int status;
        if (!fork()) { x *= 3; _exit(i); }
        x += 0.25;
        wait(&status);
    }
    SAY("sum %g\n", x);
}

/* Two threads that lose updates across a system call. */
static void *lose(void *arg) {
    for (int i = 0; i < 400; i++) {
        long seen = counter;
        syscall(SYS_getppid);
        counter = seen + 1;
    }
    return arg;
}

static void race(void) {
    pthread_t t[2];
    for (int i = 0; i < 2; i++) pthread_create(&t[i], 0, lose, 0);
    for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
    SAY("%ld\n", counter);
}

/* Locks in two orders. */
static pthread_mutex_t other = PTHREAD_MUTEX_INITIALIZER;

static void *backwards(void *arg) {
    pthread_mutex_lock(&other);
    usleep(1000);
    pthread_mutex_lock(&mutex);
    return arg;
}

static void deadlock(void) {
    pthread_t t;
    pthread_create(&t, 0, backwards, 0);
    pthread_mutex_lock(&mutex);
    usleep(1000);
    pthread_mutex_lock(&other);
}

/* Takes all there is of something. */
static void bomb(const char *what) {
    long n = 0;
    if (!strcmp(what, "fork")) {
        for (pid_t pid; (pid = fork()) >= 0; n++)
            if (!pid) for (;;) pause();
        SAY("%s %d\n", error(-1), n > 50);
        kill(-1, SIGKILL);
    } else if (!strcmp(what, "vfork")) {
        /* Each in the one before it. */
        for (pid_t pid; (pid = vfork()) >= 0; n++)
            if (pid) _exit(0);
        /* Those before it have the same stack: nothing may return there. */
        SAY("%s %d\nto the end\n", error(-1), n > 50);
        _exit(0);
    } else if (!strcmp(what, "clone")) {
        static char stack[65536];
        int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
        while (clone((int (*)(void *))pause, stack + sizeof stack, flags, 0) > 0) n++;
        SAY("%s %d\n", error(-1), n > 50);
    } else if (!strcmp(what, "pipes")) {
        for (int p[2];; n++)
            if (pipe(p)) {
                if (errno != EMFILE) break;
                pid_t pid = fork();
                if (pid < 0) break;
                if (pid) { pause(); }
                for (int fd = 3; fd < 4096; fd++) if (fd % 2) close(fd);
                if (n > 100000) break;
            }
        SAY("ended\n");
        kill(-1, SIGKILL);
    } else if (!strcmp(what, "signals")) {
        pid_t parent = getpid();
        signal(SIGUSR1, SIG_IGN);
        for (int i = 0; i < 8; i++)
            if (!fork()) for (;;) kill(parent, SIGUSR1);
        for (;;) pause();
    } else if (!strcmp(what, "exec")) {
        execl("/proc/self/exe", "processes", "bomb", "exec", NULL);
    } else if (!strcmp(what, "spin")) {
        fork();
        for (volatile unsigned long n = 0;; n++);
    }
}

static unsigned woken_at;

static void *waits_once(void *unused) {
    return (void *)syscall(SYS_futex, &woken_at, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

/* A signal for the process makes a waiting thread ready, and is another's by the time that its turn comes: who
 * wakes it meanwhile wakes it. */
static void wake_after_signal(void) {
    signal(SIGUSR1, caught_nothing);
    for (int n = 0; n < 100; n++) {
        pthread_t thread;
        woken_at = 0;
        pthread_create(&thread, NULL, waits_once, NULL);
        usleep(1000);
        kill(getpid(), SIGUSR1);
        woken_at = 1;
        syscall(SYS_futex, &woken_at, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        pthread_join(thread, NULL);
    }
    SAY("all woken\n");
}

static int watched_by_all;

static void *waits_for_any(void *unused) {
    struct epoll_event event = {0};
    long count = epoll_wait(watched_by_all, &event, 1, -1);
    return (void *)(count * 100 + event.data.fd);
}

/* What comes into a set, or is set anew, while a thread waits for the set, wakes it. */
static void watch(void) {
    int outer = epoll_create1(0), ends[2];
    for (int how = 0; how < 3; how++) {
        pthread_t thread;
        void *result;
        struct epoll_event event = {.events = how == 1 ? 0 : EPOLLIN, .data.fd = 40 + how};
        watched_by_all = how == 2 ? outer : epoll_create1(0);
        int set = how == 2 ? epoll_create1(0) : watched_by_all;
        pipe(ends);
        if (how == 1) epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event);
        if (how == 2) epoll_ctl(outer, EPOLL_CTL_ADD, set, &event);
        pthread_create(&thread, NULL, waits_for_any, NULL);
        usleep(1000);
        event.events = EPOLLIN;
        SAY("set: %s\n", error(epoll_ctl(set, how == 1 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, ends[0], &event)));
        usleep(1000);
        write(ends[1], "x", 1);
        pthread_join(thread, &result);
        SAY("woken: %ld\n", (long)result);
    }
}

/* Waits for ever while a timer goes off that nobody reads. */
static void unread(void) {
    struct itimerspec often = {{0, 1000000}, {0, 1000000}};
    timerfd_settime(timerfd_create(CLOCK_MONOTONIC, 0), 0, &often, NULL);
    pause();
}

/* What a thread does with what it has for itself. */
static void *unshares(void *flags) {
    int before = open("/dev/null", O_RDONLY);
    SAY("unshare %s\n", error(unshare((long)flags)));
    close(before);
    chdir("/usr");
    umask(077);
    char path[64];
    snprintf(path, sizeof path, "/proc/thread-self/fd/%d", 1);
    SAY("open %d\n", access(path, F_OK));
    return (void *)(long)before;
}

struct clone3_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static long clone3(int *numbers, long count) {
    struct clone3_args args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)numbers, .set_tid_size = count};
    pid_t child = syscall(SYS_clone3, &args, sizeof args);
    if (child == 0) _exit(getpid() == numbers[0]);
    int status = 0;
    if (child > 0) waitpid(child, &status, 0);
    return child > 0 ? status : child;
}

static void shares(void) {
    static const long flags[] = {0, CLONE_FILES, CLONE_FS, CLONE_FILES | CLONE_FS | CLONE_SYSVSEM, CLONE_VM, 4};
    char where[64];
    chdir("/");
    umask(022);
    for (int i = 0; i < 6; i++) {
        pthread_t thread;
        void *fd;
        pthread_create(&thread, 0, unshares, (void *)flags[i]);
        pthread_join(thread, &fd);
        SAY("%lx: open %d in %s mask %o\n", flags[i], fcntl((long)fd, F_GETFD), getcwd(where, 64), umask(022));
        close((long)fd);
        chdir("/");
    }
    /* Signals to who has ended, to nobody, and those that there are not. */
    pid_t gone = fork();
    if (!gone) _exit(0);
    siginfo_t info;
    waitid(P_PID, gone, &info, WEXITED | WNOWAIT);
    SAY("ended %s", error(kill(gone, 0)));
    SAY(" %s", error(kill(gone, SIGKILL)));
    SAY(" %s", error(kill(gone, 65)));
    SAY(" %s", error(syscall(SYS_tkill, gone, SIGTERM)));
    SAY(" %s", error(syscall(SYS_tgkill, gone, gone, 0)));
    SAY(" %s", error(syscall(SYS_tgkill, getpid(), gone, 0)));
    SAY(" %s\n", error(syscall(SYS_tgkill, gone, gone, 65)));
    pid_t stranger = fork();
    if (!stranger) {
        if (setresuid(5, 5, 5)) _exit(1);
        SAY("not his %s", error(kill(gone, 0)));
        SAY(" %s", error(kill(gone, SIGCONT)));
        SAY(" %s\n", error(syscall(SYS_tkill, gone, 0)));
        _exit(0);
    }
    waitpid(stranger, NULL, 0);
    waitpid(gone, NULL, 0);
    SAY("gone %s", error(kill(gone, 65)));
    SAY(" %s", error(kill(-99999, 65)));
    SAY(" %s\n", error(syscall(SYS_tkill, gone, 65)));
    /* A range that is closed, or marked, in a table of one's own from then on. */
    static const int ranges[] = {0, CLOSE_RANGE_CLOEXEC, CLOSE_RANGE_UNSHARE, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC};
    for (int i = 0; i < 4; i++) {
        int fd = open("/dev/null", O_RDONLY), status;
        pid_t child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
        if (child == 0) {
            long result = syscall(SYS_close_range, fd, ~0U, ranges[i]);
            SAY("range %d: %s, %d", ranges[i], error(result), fcntl(fd, F_GETFD));
            _exit(0);
        }
        waitpid(child, &status, 0);
        SAY(" and %d\n", fcntl(fd, F_GETFD));
        close(fd);
    }
    SAY("range %s", error(syscall(SYS_close_range, 5, 4, CLOSE_RANGE_UNSHARE)));
    SAY(" %s", error(syscall(SYS_close_range, 90, 99, 8)));
    SAY(" %s\n", error(syscall(SYS_close_range, 90, 99, 1L << 32)));
    SAY("alone %s\n", error(unshare(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)));
    /* The number of a child. */
    int status, numbers[33] = {0};
    pid_t child = fork();
    if (!child) _exit(0);
    waitpid(child, &status, 0);
    numbers[0] = child + 7;
    SAY("as wanted %lx\n", clone3(numbers, 1));
    SAY("none %s\n", error(clone3(numbers, 0)));
    SAY("nowhere %s\n", error(clone3(0, 1)));
    SAY("many %s\n", error(clone3(numbers, 33)));
    SAY("two %s\n", error(clone3(numbers, 2)));
    numbers[0] = getpid();
    SAY("in use %s\n", error(clone3(numbers, 1)));
    numbers[0] = 1;
    SAY("the first %s\n", error(clone3(numbers, 1)));
    numbers[0] = 0;
    SAY("0 %s\n", error(clone3(numbers, 1)));
    numbers[0] = -5;
    SAY("less %s\n", error(clone3(numbers, 1)));
    /* A private mapping that is brought in has copies. */
    char path[] = "/tmp/populateXXXXXX";
    int file = mkstemp(path);
    unlink(path);
    ftruncate(file, 8192);
    char *both = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    memset(both, 'a', 8192);
    for (int i = 0; i < 4; i++) {
        int protection = PROT_READ | (i & 1 ? PROT_WRITE : 0), brings = i & 2 ? MAP_POPULATE : 0;
        char *own = mmap(0, 8192, protection, MAP_PRIVATE | brings, file, 0);
        *both = 'b' + i;
        SAY("%d: %c\n", i, *own);
        munmap(own, 8192);
    }
}

int main(int argc, char **argv) {
    const char *part = argc > 1 ? argv[1] : "";
    if (!strcmp(part, "waits")) waits();
    if (!strcmp(part, "shares")) shares();
    if (!strcmp(part, "copies")) copies();
    if (!strcmp(part, "threads")) threads();
    if (!strcmp(part, "readiness")) readiness();
    if (!strcmp(part, "exec")) threads_and_exec();
    if (!strcmp(part, "executed")) executed();
    if (!strcmp(part, "fifos")) fifos();
    if (!strcmp(part, "wake")) wake_after_signal();
    if (!strcmp(part, "watch")) watch();
    if (!strcmp(part, "unread")) unread();
    if (!strcmp(part, "race")) race();
    if (!strcmp(part, "deadlock")) deadlock();
    if (!strcmp(part, "bomb")) bomb(argc > 2 ? argv[2] : "");
    SAY("to the end\n");
    return 0;
}
