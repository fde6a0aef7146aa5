/* One row of the table of system calls: the first argument says which, the second how often. Says how many
 * nanoseconds that took, by its own clock. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)
#define PAGE 4096

static char buffer[MIB];
static long count;

static void getpids(void) {
    for (long n = 0; n < count; n++) syscall(SYS_getpid);
}

static void clocks(void) {
    struct timespec now;
    for (long n = 0; n < count; n++) clock_gettime(CLOCK_MONOTONIC, &now);
}

static void pipe_within(void) {
    int ends[2];
    pipe(ends);
    for (long n = 0; n < count; n++) {
        write(ends[1], buffer, 1);
        read(ends[0], buffer, 1);
    }
}

static void pipe_between(void) {
    int there[2], back[2];
    pipe(there), pipe(back);
    pid_t child = fork();
    if (!child) {
        for (long n = 0; n < count; n++) {
            read(there[0], buffer, 1);
            write(back[1], buffer, 1);
        }
        _exit(0);
    }
    for (long n = 0; n < count; n++) {
        write(there[1], buffer, 1);
        read(back[0], buffer, 1);
    }
    waitpid(child, NULL, 0);
}

static void reads(size_t size) {
    int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    write(file, buffer, MIB);
    for (long n = 0; n < count; n++) pread(file, buffer, size, 0);
}

static void reads_page(void) { reads(PAGE); }
static void reads_mib(void) { reads(MIB); }

static _Atomic uint32_t turn;

static void take_turns(uint32_t mine) {
    for (long n = 0; n < count; n++) {
        while (turn != mine) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !mine, NULL);
        turn = !mine;
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1);
    }
}

static void *second_turn(void *nothing) {
    take_turns(1);
    return nothing;
}

static void with_thread(void *(*other)(void *), void (*this)(void)) {
    pthread_t thread;
    pthread_create(&thread, NULL, other, NULL);
    this();
    pthread_join(thread, NULL);
}

static void first_turn(void) { take_turns(0); }
static void futexes(void) { with_thread(second_turn, first_turn); }

static void yields(void) {
    for (long n = 0; n < count; n++) sched_yield();
}

static void *also_yields(void *nothing) {
    yields();
    return nothing;
}

/* On one CPU, as in the sandbox: each call gives it to the other thread. */
static void switches(void) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    with_thread(also_yields, yields);
}

static void *does_nothing(void *nothing) { return nothing; }

static void threads(void) {
    for (long n = 0; n < count; n++) {
        pthread_t thread;
        pthread_create(&thread, NULL, does_nothing, NULL);
        pthread_join(thread, NULL);
    }
}

static void forks(void) {
    for (long n = 0; n < count; n++) {
        pid_t child = fork();
        if (!child) _exit(0);
        waitpid(child, NULL, 0);
    }
}

static char *arguments[] = {"true", NULL};

static void executions(int in_place) {
    for (long n = 0; n < count; n++) {
        pid_t child = in_place ? vfork() : fork();
        if (!child) {
            execv("/bin/true", arguments);
            _exit(1);
        }
        waitpid(child, NULL, 0);
    }
}

static void vfork_exec(void) { executions(1); }
static void fork_exec(void) { executions(0); }

static void mappings(void) {
    for (long n = 0; n < count; n++) {
        char *at = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t page = 0; page < MIB; page += PAGE) at[page] = 1;
        munmap(at, MIB);
    }
}

static void epolls(void) {
    enum { WATCHED = 100 };
    int set = epoll_create1(0), last = -1;
    for (int n = 0; n < WATCHED; n++) {
        struct epoll_event event = {EPOLLIN, {0}};
        epoll_ctl(set, EPOLL_CTL_ADD, last = eventfd(0, 0), &event);
    }
    eventfd_write(last, 1);
    struct epoll_event ready[WATCHED];
    for (long n = 0; n < count; n++) epoll_wait(set, ready, WATCHED, -1);
}

static const struct {
    const char *name;
    void (*run)(void);
} rows[] = {
    {"getpid", getpids},       {"clock", clocks},         {"pipe-within", pipe_within}, {"pipe-between", pipe_between},
    {"read-4k", reads_page},   {"read-1m", reads_mib},    {"futex", futexes},           {"yield", switches},
    {"thread", threads},       {"fork", forks},           {"fork-200m", forks},         {"vfork-exec", vfork_exec},
    {"fork-exec", fork_exec},  {"mmap-1m", mappings},     {"epoll-100", epolls},
};

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    count = atol(argv[2]);
    if (!strcmp(argv[1], "fork-200m")) {
        size_t size = 200 * (size_t)MIB;
        char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(memory, 1, size);
    }
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++)
        if (!strcmp(argv[1], rows[n].name)) {
            struct timespec start, end;
            clock_gettime(CLOCK_MONOTONIC, &start);
            rows[n].run();
            clock_gettime(CLOCK_MONOTONIC, &end);
            printf("%lld\n", (end.tv_sec - start.tv_sec) * 1000000000ll + end.tv_nsec - start.tv_nsec);
            return 0;
        }
    return 2;
}
