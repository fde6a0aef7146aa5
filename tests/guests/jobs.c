/* Processes that stop and go on, and who is told. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *error(long result) { return result < 0 ? strerrorname_np(errno) : "ok"; }

static volatile int *shared;

static void status_of(pid_t child, int options) {
    int status = -1;
    pid_t got = waitpid(child, &status, options);
    printf("wait %x: %s", options, got < 0 ? strerrorname_np(errno) : got == 0 ? "nobody" : "child");
    if (got > 0) printf(" status %x", status);
    puts("");
}

static void info_of(pid_t child, int options) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    int got = waitid(P_PID, child, &info, options);
    printf("waitid %x: %s signal %d code %d status %d pid %d\n", options, error(got), info.si_signo, info.si_code,
           info.si_status, info.si_pid == child);
}

static char state_of(pid_t pid) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return '?';
    fgets(line, sizeof line, file);
    fclose(file);
    return strrchr(line, ')')[2];
}

static volatile sig_atomic_t told;
static void handler(int signal, siginfo_t *info, void *context) {
    (void)context;
    (void)signal;
    told = info->si_code * 1000 + info->si_status;
}

static void waits(void) {
    pid_t child = fork();
    if (child == 0) {
        for (;;) {
            (*shared)++;
            usleep(1000);
        }
    }
    status_of(child, WNOHANG | WUNTRACED | WCONTINUED);
    kill(child, SIGSTOP);
    status_of(child, WUNTRACED);
    printf("state %c\n", state_of(child));
    status_of(child, WNOHANG | WUNTRACED | WCONTINUED);
    int before = *shared;
    usleep(20000);
    printf("stood still %d\n", *shared == before);
    kill(child, SIGSTOP);
    kill(child, SIGUSR2 == 0);
    status_of(child, WNOHANG | WUNTRACED);
    kill(child, SIGCONT);
    status_of(child, WCONTINUED);
    status_of(child, WNOHANG | WCONTINUED);
    while (*shared == before) usleep(1000);
    puts("goes on");
    kill(child, SIGSTOP);
    info_of(child, WSTOPPED | WNOWAIT);
    info_of(child, WSTOPPED);
    info_of(child, WSTOPPED | WNOHANG);
    kill(child, SIGCONT);
    info_of(child, WCONTINUED | WEXITED | WSTOPPED);
    kill(child, SIGSTOP);
    info_of(child, WSTOPPED);
    kill(child, SIGTERM);
    usleep(10000);
    printf("state %c\n", state_of(child));
    kill(child, SIGCONT);
    info_of(child, WEXITED);
    info_of(child, WSTOPPED);
    child = fork();
    if (child == 0) {
        kill(getpid(), SIGSTOP);
        _exit(7);
    }
    status_of(child, WUNTRACED);
    kill(child, SIGKILL);
    status_of(child, 0);
}

static void tells(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGCHLD, &action, NULL);
    for (int quiet = 0; quiet < 2; quiet++) {
        pid_t child = fork();
        if (child == 0) {
            for (;;) pause();
        }
        int steps[] = {SIGSTOP, SIGCONT, SIGKILL};
        for (int i = 0; i < 3; i++) {
            told = 0;
            kill(child, steps[i]);
            siginfo_t info;
            waitid(P_PID, child, &info, WEXITED | WSTOPPED | WCONTINUED);
            for (int n = 0; n < 20 && !told; n++) usleep(1000);
            printf("signal %d told %d\n", steps[i], told);
        }
        action.sa_flags |= SA_NOCLDSTOP;
        sigaction(SIGCHLD, &action, NULL);
    }
}

/* A wait goes on behind a stop. */
static void calls(void) {
    int ends[2];
    pipe(ends);
    for (int what = 0; what < 4; what++) {
        pid_t child = fork();
        if (child == 0) {
            char byte = 0;
            struct timespec left = {0, 30000000};
            struct pollfd one = {ends[0], POLLIN, 0};
            if (what == 0) printf("read %s\n", error(read(ends[0], &byte, 1)));
            if (what == 1) printf("nanosleep %s\n", error(nanosleep(&left, &left)));
            if (what == 2) printf("poll %s\n", error(poll(&one, 1, -1)));
            if (what == 3) {
                sigset_t set;
                sigfillset(&set);
                sigdelset(&set, SIGTSTP);
                sigdelset(&set, SIGTERM);
                printf("sigsuspend %s\n", error(sigsuspend(&set)));
            }
            _exit(0);
        }
        usleep(5000);
        kill(child, SIGSTOP);
        status_of(child, WUNTRACED);
        usleep(2000);
        if (what == 0 || what == 2) write(ends[1], "x", 1);
        kill(child, SIGCONT);
        if (what == 3) kill(child, SIGKILL);
        status_of(child, 0);
    }
}

static void keyboard(void) {
    /* In the parent's group there is nobody of the session who could let it go on. */
    if (fork() == 0) {
        setsid();
        raise(SIGTSTP);
        raise(SIGTTIN);
        puts("not stopped");
        pid_t child = fork();
        if (child == 0) {
            setpgid(0, 0);
            raise(SIGTSTP);
            puts("went on");
            signal(SIGTTOU, SIG_IGN);
            raise(SIGTTOU);
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGTSTP);
            sigprocmask(SIG_BLOCK, &set, NULL);
            raise(SIGTSTP);
            puts("blocked");
            sigprocmask(SIG_UNBLOCK, &set, NULL);
            puts("unblocked");
            sigprocmask(SIG_BLOCK, &set, NULL);
            raise(SIGTSTP);
            raise(SIGCONT);
            sigprocmask(SIG_UNBLOCK, &set, NULL);
            puts("taken back");
            _exit(0);
        }
        for (int i = 0; i < 2; i++) {
            status_of(child, WUNTRACED);
            kill(child, SIGCONT);
        }
        status_of(child, WUNTRACED);
        /* Its parent goes, and nobody could let it go on. */
        child = fork();
        if (child == 0) {
            setpgid(0, 0);
            pid_t grandchild = fork();
            if (grandchild == 0) {
                setpgid(0, 0);
                signal(SIGHUP, SIG_DFL);
                raise(SIGSTOP);
                puts("not reached");
                _exit(0);
            }
            status_of(grandchild, WUNTRACED);
            _exit(0);
        }
        status_of(child, WUNTRACED);
        _exit(0);
    }
    status_of(-1, 0);
}

static void *counts(void *arg) {
    volatile int *count = arg;
    for (;;) {
        (*count)++;
        usleep(1000);
    }
    return NULL;
}

static void threads(void) {
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        for (int i = 0; i < 3; i++) pthread_create(&thread, NULL, counts, (void *)&shared[i]);
        for (;;) pause();
    }
    while (!shared[0] || !shared[1] || !shared[2]) usleep(1000);
    kill(child, SIGSTOP);
    status_of(child, WUNTRACED);
    int before[3] = {shared[0], shared[1], shared[2]};
    usleep(20000);
    printf("all stood still %d\n", !memcmp(before, (void *)shared, sizeof before));
    kill(child, SIGCONT);
    while (shared[0] == before[0] || shared[1] == before[1] || shared[2] == before[2]) usleep(1000);
    puts("all go on");
    kill(child, SIGKILL);
    status_of(child, 0);
}

/* What another process has set. */
static void others(void) {
    int down[2], up[2];
    pipe(down);
    pipe(up);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        setpgid(0, 0);
        write(up[1], "x", 1);
        read(down[0], &byte, 1);
        struct rlimit limit;
        getrlimit(RLIMIT_NOFILE, &limit);
        printf("nice %d descriptors %ld %ld policy %d\n", getpriority(PRIO_PROCESS, 0), (long)limit.rlim_cur,
               (long)limit.rlim_max, sched_getscheduler(0));
        int last = 0, fd;
        while ((fd = dup(0)) >= 0) last = fd;
        printf("last %d %s\n", last, error(fd));
        _exit(0);
    }
    char byte;
    read(up[0], &byte, 1);
    int own = getpriority(PRIO_PROCESS, 0);
    printf("set %s\n", error(setpriority(PRIO_PROCESS, child, 7)));
    printf("got %d own %d\n", getpriority(PRIO_PROCESS, child), getpriority(PRIO_PROCESS, 0) == own);
    printf("group %s\n", error(setpriority(PRIO_PGRP, child, 8)));
    printf("got %d\n", getpriority(PRIO_PGRP, child));
    struct rlimit limit = {40, 50}, old;
    printf("prlimit %s\n", error(prlimit(child, RLIMIT_NOFILE, &limit, &old)));
    printf("prlimit %s", error(prlimit(child, RLIMIT_NOFILE, NULL, &old)));
    printf(" %ld\n", (long)old.rlim_cur);
    struct sched_param parameter = {0};
    printf("policy %s %d\n", error(sched_setscheduler(child, SCHED_BATCH, &parameter)), sched_getscheduler(child));
    errno = 0;
    printf("nobody %s", error(setpriority(PRIO_PROCESS, 4000000, 0)));
    printf(" %s", error(prlimit(4000000, RLIMIT_NOFILE, NULL, &old)));
    printf(" %s", error(sched_getscheduler(4000000)));
    cpu_set_t set;
    printf(" %s %s", error(sched_getaffinity(-1, sizeof set, &set)), error(sched_setaffinity(-1, sizeof set, &set)));
    printf(" %s\n", error(sched_getscheduler(-1)));
    write(down[1], "x", 1);
    status_of(child, 0);
    pid_t other = fork();
    if (other == 0) {
        read(down[0], &byte, 1);
        _exit(0);
    }
    if (setresuid(1000, 1000, 1000) == 0) {
        printf("refused %s", error(setpriority(PRIO_PROCESS, other, 9)));
        printf(" %s", error(prlimit(other, RLIMIT_NOFILE, NULL, &old)));
        printf(" %s\n", error(sched_setscheduler(other, SCHED_BATCH, &parameter)));
    }
    write(down[1], "x", 1);
    waitpid(other, NULL, 0);
}

static long by_number(long number) {
    __asm__ volatile("syscall" : "+a"(number) : : "rcx", "r11", "memory");
    return number;
}

static void barriers(void) {
    /* The upper half of a call's number is not looked at. */
    printf("upper half %d %d %ld\n", by_number(39 | 1L << 32) == getpid(), by_number(39 | 1L << 63) == getpid(),
           by_number(0xffffffff));
    long got = syscall(SYS_membarrier, 0, 0, 0);
    printf("query %d\n", (got & 0xff) == 0xff);
    for (int round = 0; round < 2; round++) {
        for (int bit = 0; bit < 9; bit++)
            for (int flags = 0; flags < 3; flags++)
                printf("%d %d %s\n", bit, flags, error(syscall(SYS_membarrier, 1 << bit, flags, 0)));
        if (fork() == 0) {
            printf("child %s\n", error(syscall(SYS_membarrier, 1 << 3, 0, 0)));
            execl("/proc/self/exe", "jobs", round ? "barriers-again" : "", NULL);
        }
        wait(NULL);
    }
    printf("%s %s\n", error(syscall(SYS_membarrier, 1 << 20, 0, 0)), error(syscall(SYS_membarrier, 3, 0, 0)));
}

int main(int count, char **args) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const char *part = count > 1 ? args[1] : "";
    if (!strcmp(part, "waits")) waits();
    if (!strcmp(part, "tells")) tells();
    if (!strcmp(part, "calls")) calls();
    if (!strcmp(part, "keyboard")) keyboard();
    if (!strcmp(part, "threads")) threads();
    if (!strcmp(part, "others")) others();
    if (!strcmp(part, "barriers")) barriers();
    if (!strcmp(part, "barriers-again")) printf("again %s\n", error(syscall(SYS_membarrier, 1 << 3, 0, 0)));
    if (!strcmp(part, "for-ever")) raise(SIGSTOP);
    puts("to the end");
    return 0;
}
