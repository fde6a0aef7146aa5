/* Timers that a program makes: what it sees of them that does not depend on how fast it is. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *error(long result) { return result < 0 ? strerrorname_np(errno) : "ok"; }

#define TRY(call) printf("%s: %s\n", #call, error(call))

static long create(clockid_t clock, struct sigevent *event, int *id) {
    return syscall(SYS_timer_create, clock, event, id);
}

static long settime(int id, int flags, long seconds, long ns, long every_s, long every_ns) {
    struct itimerspec spec = {{every_s, every_ns}, {seconds, ns}};
    return syscall(SYS_timer_settime, id, flags, &spec, NULL);
}

static struct sigevent event(int how, int signal, long value) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = how;
    event.sigev_signo = signal;
    event.sigev_value.sival_ptr = (void *)value;
    return event;
}

/* Prints the next signal of a set; of overruns only whether there were any. */
static void next(int signal, int may_wait) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    siginfo_t info;
    memset(&info, 0xee, sizeof info);
    struct timespec wait = {may_wait ? 20 : 0, 0};
    int got = sigtimedwait(&set, &info, &wait);
    if (got < 0) {
        printf("signal %d: %s\n", signal, error(got));
        return;
    }
    printf("signal %d code %d timer %d overruns %d value %p\n", got, info.si_code, info.si_timerid,
           info.si_overrun > 0, info.si_value.sival_ptr);
}

static void block(int how, int first, int second) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, first);
    sigaddset(&set, second);
    sigprocmask(how, &set, NULL);
}

static void errors(void) {
    int id = -1;
    struct sigevent none = event(SIGEV_NONE, 0, 0);
    for (int clock = -8; clock < 20; clock++) {
        /* Alarm clocks need a device; clocks of processes are below. */
        if (clock == 8 || clock == 9) continue;
        int made = -1;
        long result = create(clock, &none, &made);
        printf("clock %d: %s\n", clock, error(result));
        if (result == 0) syscall(SYS_timer_delete, made);
    }
    for (int how = -1; how < 8; how++) {
        for (int signal = 0; signal <= 65; signal += 13) {
            struct sigevent bad = event(how, signal, 0);
            bad._sigev_un._tid = getpid();
            int made = -1;
            long result = create(CLOCK_MONOTONIC, &bad, &made);
            printf("notify %d signal %d: %s\n", how, signal, error(result));
            if (result == 0) syscall(SYS_timer_delete, made);
        }
    }
    struct sigevent other = event(SIGEV_THREAD_ID, SIGUSR1, 0);
    other._sigev_un._tid = getppid();
    TRY(create(CLOCK_MONOTONIC, &other, &id));
    TRY(create(CLOCK_MONOTONIC, (void *)1, &id));
    TRY(create(CLOCK_MONOTONIC, NULL, NULL));
    TRY(create(CLOCK_MONOTONIC, NULL, &id));
    struct itimerspec spec = {{0, 0}, {0, 1000000000}}, old;
    TRY(syscall(SYS_timer_settime, id, 0, NULL, NULL));
    TRY(syscall(SYS_timer_settime, id, 0, (void *)1, NULL));
    TRY(syscall(SYS_timer_settime, id, 0, &spec, &old));
    spec.it_value.tv_nsec = -1;
    TRY(syscall(SYS_timer_settime, id, 0, &spec, &old));
    spec.it_value.tv_nsec = 0;
    spec.it_value.tv_sec = -1;
    TRY(syscall(SYS_timer_settime, id, 0, &spec, &old));
    spec.it_value.tv_sec = 1000;
    TRY(syscall(SYS_timer_settime, id, 0xf0, &spec, (void *)1));
    TRY(syscall(SYS_timer_settime, id, 0xf0, &spec, &old));
    printf("left %d\n", old.it_value.tv_sec >= 999 && old.it_value.tv_sec <= 1000);
    TRY(syscall(SYS_timer_settime, -1, 0, &spec, &old));
    TRY(syscall(SYS_timer_gettime, id, (void *)1));
    TRY(syscall(SYS_timer_gettime, id + 100, &old));
    TRY(syscall(SYS_timer_getoverrun, id));
    TRY(syscall(SYS_timer_getoverrun, id + 100));
    TRY(syscall(SYS_timer_delete, id));
    TRY(syscall(SYS_timer_delete, id));
}

static void signals(void) {
    int first, second;
    block(SIG_BLOCK, SIGALRM, SIGRTMIN);
    /* Two of a standard signal, and one by kill, all at once. */
    create(CLOCK_MONOTONIC, NULL, &first);
    struct sigevent also = event(SIGEV_SIGNAL, SIGALRM, 0x1234567890);
    create(CLOCK_REALTIME, &also, &second);
    printf("numbers %d %d\n", first, second);
    settime(first, 0, 0, 1000, 0, 0);
    usleep(2000);
    settime(second, 0, 0, 1000, 0, 0);
    usleep(2000);
    kill(getpid(), SIGALRM);
    for (int i = 0; i < 4; i++) next(SIGALRM, 0);
    /* One at an interval stands still until its signal is taken. */
    struct sigevent rt = event(SIGEV_SIGNAL, SIGRTMIN, -1);
    int third;
    create(CLOCK_BOOTTIME, &rt, &third);
    settime(third, 0, 0, 1000000, 0, 1000000);
    usleep(50000);
    next(SIGRTMIN, 1);
    printf("overruns %d\n", (int)syscall(SYS_timer_getoverrun, third) > 10);
    syscall(SYS_timer_delete, third);
    printf("next number %d\n", (create(CLOCK_MONOTONIC, NULL, &third), third));
}

/* What is pending of a setting that is no more does not come: so since Linux 6.13 (posix-timers.c). */
static void stale(void) {
    block(SIG_BLOCK, SIGALRM, SIGRTMIN);
    struct sigevent rt = event(SIGEV_SIGNAL, SIGRTMIN, -1);
    int timer;
    create(CLOCK_BOOTTIME, &rt, &timer);
    settime(timer, 0, 0, 1000000, 0, 1000000);
    usleep(5000);
    next(SIGRTMIN, 1);
    next(SIGRTMIN, 1);
    usleep(5000);
    settime(timer, 0, 0, 0, 0, 0);
    next(SIGRTMIN, 0);
    /* In the past, at once. */
    settime(timer, TIMER_ABSTIME, 0, 1, 0, 0);
    next(SIGRTMIN, 1);
    settime(timer, 0, 0, 1, 0, 0);
    usleep(2000);
    syscall(SYS_timer_delete, timer);
    next(SIGRTMIN, 0);
}

static volatile sig_atomic_t handled;
static void handler(int signal, siginfo_t *info, void *context) {
    (void)context;
    handled = signal * 1000 + (info->si_code == SI_TIMER) * 100 + info->si_value.sival_int;
}

static void ignored(void) {
    int id;
    struct sigevent one = event(SIGEV_SIGNAL, SIGUSR1, 7);
    signal(SIGUSR1, SIG_IGN);
    create(CLOCK_MONOTONIC, &one, &id);
    settime(id, 0, 0, 1000, 0, 1000000);
    usleep(20000);
    struct itimerspec now;
    syscall(SYS_timer_gettime, id, &now);
    printf("runs %d %ld\n", now.it_value.tv_sec == 0 && now.it_value.tv_nsec > 0, now.it_interval.tv_nsec);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 1000 && !handled; i++) usleep(1000);
    printf("handled %d\n", handled);
    syscall(SYS_timer_delete, id);
    handled = 0;
    usleep(5000);
    printf("handled %d\n", handled);
}

static int cpu_timer;
static void *spins(void *arg) {
    (void)arg;
    int id;
    struct sigevent own = event(SIGEV_THREAD_ID, SIGUSR2, 9);
    own._sigev_un._tid = gettid();
    TRY(create(CLOCK_THREAD_CPUTIME_ID, &own, &id));
    struct itimerspec spec = {{0, 0}, {0, 20000000}};
    TRY(syscall(SYS_timer_settime, id, 0, &spec, NULL));
    while (!handled) getppid();
    printf("thread's time %d\n", handled);
    cpu_timer = id;
    return NULL;
}

static void cpu(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR2, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    block(SIG_BLOCK, SIGUSR2, SIGUSR2);
    pthread_t thread;
    block(SIG_UNBLOCK, SIGUSR2, SIGUSR2);
    pthread_create(&thread, NULL, spins, NULL);
    pthread_join(thread, NULL);
    struct itimerspec spec;
    printf("after the thread: %s\n", error(syscall(SYS_timer_gettime, cpu_timer, &spec)) ? "answered" : "");
    handled = 0;
    int id;
    struct sigevent of_process = event(SIGEV_SIGNAL, SIGUSR1, 3);
    TRY(create(CLOCK_PROCESS_CPUTIME_ID, &of_process, &id));
    settime(id, 0, 0, 10000000, 0, 5000000);
    int count = 0;
    while (count < 3) {
        while (!handled) getppid();
        count++;
        handled = 0;
    }
    printf("process's time %d\n", count);
    settime(id, 0, 0, 0, 0, 0);
    handled = 0;
    for (int i = 0; i < 3000; i++) getppid();
    printf("stopped %d\n", handled);
}

static void *waits(void *arg) {
    long *tid = arg;
    *tid = gettid();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    siginfo_t info;
    for (int i = 0; i < 3; i++) {
        if (sigwaitinfo(&set, &info) < 0) return NULL;
        printf("thread got %d value %d\n", info.si_signo, info.si_value.sival_int);
    }
    return NULL;
}

static void notified(union sigval value) { handled = value.sival_int; }

static void threads(void) {
    block(SIG_BLOCK, SIGRTMIN + 1, SIGRTMIN + 1);
    pthread_t thread;
    volatile long tid = 0;
    pthread_create(&thread, NULL, waits, (void *)&tid);
    while (!tid) usleep(1000);
    int id;
    struct sigevent one = event(SIGEV_THREAD_ID, SIGRTMIN + 1, 5);
    one._sigev_un._tid = tid;
    TRY(create(CLOCK_MONOTONIC, &one, &id));
    settime(id, 0, 0, 1000000, 0, 1000000);
    pthread_join(thread, NULL);
    usleep(5000);
    printf("after the thread: %d\n", (int)syscall(SYS_timer_getoverrun, id) >= 0);
    /* The C library's own, in a thread that it makes. */
    timer_t timer;
    struct sigevent call = event(SIGEV_THREAD, 0, 77);
    call.sigev_notify_function = notified;
    TRY(timer_create(CLOCK_MONOTONIC, &call, &timer));
    struct itimerspec spec = {{0, 0}, {0, 1000000}};
    TRY(timer_settime(timer, 0, &spec, NULL));
    for (int i = 0; i < 10000 && handled != 77; i++) usleep(1000);
    printf("called with %d\n", handled);
    TRY(timer_delete(timer));
}

static void processes(const char *self) {
    int id;
    struct sigevent one = event(SIGEV_SIGNAL, SIGUSR1, 0);
    create(CLOCK_MONOTONIC, &one, &id);
    settime(id, 0, 0, 50000000, 0, 0);
    pid_t child = fork();
    if (child == 0) {
        TRY(syscall(SYS_timer_delete, id));
        fflush(stdout);
        execl(self, self, "exec", NULL);
        _exit(1);
    }
    waitpid(child, NULL, 0);
    block(SIG_BLOCK, SIGUSR1, SIGUSR1);
    next(SIGUSR1, 1);
    settime(id, 0, 0, 1, 0, 1);
    usleep(1000);
    execl(self, self, "exec", NULL);
}

static volatile int over, runs;

static void *calls(void *arg) {
    pthread_getcpuclockid(pthread_self(), arg);
    runs = 1;
    while (!over) getppid();
    return NULL;
}

static void noted(int signal) { (void)signal; }

/* Sleeping until CPU time has passed, which others have. */
static void sleeps(void) {
    struct timespec some = {0, 20000000}, left, before, after;
    clockid_t other;
    pthread_t thread;
    struct sigaction action = {.sa_handler = noted};
    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&thread, NULL, calls, &other);
    while (!runs) usleep(100);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    printf("of the process %s\n", strerrorname_np(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &some, &left)));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    printf("passed %d\n", (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec >= 20000000);
    printf("over %d\n", clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &before, NULL));
    after.tv_nsec += 10000000;
    after.tv_sec += after.tv_nsec / 1000000000;
    after.tv_nsec %= 1000000000;
    printf("until %d\n", clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &after, NULL));
    printf("of another thread %d\n", clock_nanosleep(other, 0, &some, NULL));
    printf("own %s\n", strerrorname_np(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &some, NULL)));
    over = 1;
    pthread_join(thread, NULL);
    /* Nobody's time passes. */
    some.tv_sec = 1000;
    struct sigevent tells = event(SIGEV_SIGNAL, SIGUSR1, 0);
    timer_t id;
    timer_create(CLOCK_MONOTONIC, &tells, &id);
    struct itimerspec soon = {{0, 0}, {0, 10000000}};
    timer_settime(id, 0, &soon, NULL);
    int result = clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &some, &left);
    printf("interrupted %s %d\n", strerrorname_np(result), left.tv_sec >= 998);
}

static void limits(void) {
    int id, count = 0;
    struct sigevent none = event(SIGEV_NONE, 0, 0);
    while (count < 3000 && create(CLOCK_MONOTONIC, &none, &id) == 0) count++;
    printf("made %d\n", count);
}

int main(int count, char **args) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *part = count > 1 ? args[1] : "";
    if (!strcmp(part, "errors")) errors();
    if (!strcmp(part, "signals")) signals();
    if (!strcmp(part, "stale")) stale();
    if (!strcmp(part, "ignored")) ignored();
    if (!strcmp(part, "cpu")) cpu();
    if (!strcmp(part, "threads")) threads();
    if (!strcmp(part, "processes")) processes(args[0]);
    if (!strcmp(part, "limits")) limits();
    if (!strcmp(part, "sleeps")) sleeps();
    if (!strcmp(part, "exec")) {
        sigset_t pending;
        sigpending(&pending);
        printf("pending %d timer %s\n", sigismember(&pending, SIGUSR1), error(syscall(SYS_timer_delete, 0)));
    }
    puts("to the end");
    return 0;
}
