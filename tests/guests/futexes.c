/* Waiting for many futexes, and being moved from one to another that inherits priorities. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PRIVATE FUTEX_PRIVATE_FLAG
static const char *error(long result) { return result < 0 ? strerrorname_np(errno) : "ok"; }
#define TRY(call) \
    do { \
        errno = 0; \
        long result = (call); \
        printf("%s: %ld %s\n", #call, result, error(result)); \
    } while (0)

static long futex(void *word, int op, uint32_t value, uintptr_t timeout, void *second, uint32_t value3) {
    return syscall(SYS_futex, word, op, value, timeout, second, value3);
}

static long waitv(struct futex_waitv *waiters, unsigned count, unsigned flags, struct timespec *until, int clock) {
    return syscall(SYS_futex_waitv, waiters, count, flags, until, clock);
}

static struct timespec *in(int clock, long ms) {
    static _Thread_local struct timespec at;
    clock_gettime(clock, &at);
    at.tv_nsec += 1000000000 + ms * 1000000;
    at.tv_sec--;
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    return &at;
}

static uint32_t words[4], *shared, first, second, third;
static struct futex_waitv some[4];
static void handler(int signal) { (void)signal; write(1, "handler\n", 8); }

static void *wakes(void *place) {
    usleep(10000);
    return (void *)futex(place, FUTEX_WAKE | PRIVATE, 1, 0, NULL, 0);
}

static void ended(pthread_t thread) {
    void *result;
    pthread_join(thread, &result);
    printf("ended %ld\n", (long)result);
}

static void fill(void) {
    memset(some, 0, sizeof some);
    for (int i = 0; i < 4; i++) some[i] = (struct futex_waitv){.uaddr = (uintptr_t)&words[i], .flags = FUTEX_32 | PRIVATE};
}

static void *signals(void *thread) {
    usleep(10000);
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    usleep(10000);
    return (void *)futex(&words[1], FUTEX_WAKE | PRIVATE, 9, 0, NULL, 0);
}

static void many(void) {
    pthread_t thread, self = pthread_self();
    fill();
    TRY(waitv(some, 4, 1, NULL, 0));
    TRY(waitv(some, 0, 0, NULL, 0));
    TRY(waitv(some, 129, 0, NULL, 0));
    TRY(waitv(NULL, 4, 0, NULL, 0));
    TRY(waitv((void *)8, 4, 0, NULL, 0));
    TRY(waitv(some, 4, 0, in(CLOCK_MONOTONIC, 1), CLOCK_TAI));
    TRY(waitv(some, 4, 0, (void *)8, CLOCK_MONOTONIC));
    TRY(waitv(some, 4, 0, in(CLOCK_MONOTONIC, -5), CLOCK_MONOTONIC));
    TRY(waitv(some, 4, 0, in(CLOCK_MONOTONIC, 5), CLOCK_MONOTONIC));
    TRY(waitv(some, 4, 0, in(CLOCK_REALTIME, 5), CLOCK_REALTIME));
    some[2].val = 1;
    TRY(waitv(some, 4, 0, NULL, 0));
    TRY(waitv(some, 2, 0, in(CLOCK_MONOTONIC, 1), CLOCK_MONOTONIC));
    some[1].__reserved = 1;
    TRY(waitv(some, 2, 0, NULL, 0));
    fill();
    some[1].flags = PRIVATE;
    TRY(waitv(some, 2, 0, NULL, 0));
    some[1].flags = FUTEX_32 | 64;
    TRY(waitv(some, 2, 0, NULL, 0));
    fill();
    some[1].uaddr++;
    TRY(waitv(some, 2, 0, NULL, 0));
    some[1].uaddr = 16;
    TRY(waitv(some, 2, 0, NULL, 0));
    for (int i = 0; i < 4; i++) {
        fill();
        pthread_create(&thread, NULL, wakes, &words[i]);
        TRY(waitv(some, 4, 0, NULL, 0));
        ended(thread);
    }
    for (int restarts = 0; restarts < 2; restarts++) {
        struct sigaction action = {.sa_handler = handler, .sa_flags = restarts ? SA_RESTART : 0};
        sigaction(SIGUSR1, &action, NULL);
        pthread_create(&thread, NULL, signals, &self);
        TRY(waitv(some, 4, 0, in(CLOCK_MONOTONIC, 500), CLOCK_MONOTONIC));
        ended(thread);
    }
    /* Of another process, and moved meanwhile. */
    some[3] = (struct futex_waitv){.uaddr = (uintptr_t)shared, .flags = FUTEX_32};
    if (fork() == 0) {
        usleep(10000);
        long moved = futex(shared, FUTEX_REQUEUE, 0, 1, shared + 1, 0);
        long early = futex(shared, FUTEX_WAKE, 1, 0, NULL, 0);
        long woken = futex(shared + 1, FUTEX_WAKE, 1, 0, NULL, 0);
        _exit(moved * 16 + early * 4 + woken);
    }
    TRY(waitv(some, 4, 0, NULL, 0));
    int status;
    wait(&status);
    printf("status %x\n", status);
}

/* How a waiter's call ended, by its number. */
static long results[4];
static volatile int begun, flag;

static void *moves(void *number) {
    begun++;
    long result = futex(&first, FUTEX_WAIT_REQUEUE_PI | flag, 0, 0, &second, 0);
    results[(long)number] = result < 0 ? -errno : result;
    if (result == 0) {
        if ((second & FUTEX_TID_MASK) != (uint32_t)gettid()) puts("not the owner");
        usleep(2000);
        if (futex(&second, FUTEX_UNLOCK_PI | flag, 0, 0, NULL, 0)) puts("cannot unlock");
    }
    return NULL;
}

static void start(pthread_t *threads, int count) {
    begun = 0;
    for (long i = 0; i < count; i++) results[i] = 99, pthread_create(&threads[i], NULL, moves, (void *)i);
    while (begun < count) usleep(1000);
    usleep(10000);
}

static void finish(pthread_t *threads, int count) {
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < count; i++) printf("%ld ", results[i]);
    printf("word %x\n", second);
    second = 0;
}

static void *waits(void *arg) {
    return (void *)futex(arg, FUTEX_WAIT | PRIVATE, 0, 0, NULL, 0);
}

static void move(void) {
    pthread_t threads[4];
    flag = PRIVATE;
    TRY(futex(&first, FUTEX_WAIT_REQUEUE_PI | PRIVATE, 0, 0, &first, 0));
    TRY(futex(&first, FUTEX_WAIT_REQUEUE_PI | PRIVATE, 1, 0, &second, 0));
    TRY(futex(&first, FUTEX_WAIT_REQUEUE_PI | PRIVATE, 0, 8, &second, 0));
    TRY(futex(&first, FUTEX_WAIT_REQUEUE_PI | PRIVATE, 0, 0, (char *)&second + 1, 0));
    TRY(futex((char *)&first + 1, FUTEX_WAIT_REQUEUE_PI | PRIVATE, 0, 0, &second, 0));
    TRY(futex(&first, FUTEX_WAIT_REQUEUE_PI | PRIVATE, 0, (uintptr_t)in(CLOCK_MONOTONIC, 3), &second, 0));
    TRY(futex(&first, FUTEX_WAIT_REQUEUE_PI | PRIVATE | FUTEX_CLOCK_REALTIME, 0, (uintptr_t)in(CLOCK_REALTIME, 3), &second, 0));
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | PRIVATE, 1, 1, &first, 0));
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | PRIVATE, 2, 1, &second, 0));
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | PRIVATE, 1, -1, &second, 0));
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | PRIVATE, 1, 1, &second, 1));
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | PRIVATE, 1, 1, &second, 0));
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | PRIVATE | FUTEX_CLOCK_REALTIME, 1, 1, &second, 0));
    for (int shares = 0; shares < 2; shares++) {
        flag = shares ? 0 : PRIVATE;
        /* Nobody has it: the first one gets it, the others one after the other. */
        start(threads, 3);
        TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | flag, 1, 0x7fffffff, &second, 0));
        finish(threads, 3);
        /* One at a time. */
        start(threads, 3);
        TRY(futex(&first, FUTEX_WAKE | flag, 1, 0, NULL, 0));
        TRY(futex(&first, FUTEX_REQUEUE | flag, 1, 1, &third, 0));
        TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | flag, 1, 1, &third, 0));
        for (int i = 0; i < 3; i++) {
            TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | flag, 1, 0, &second, 0));
            usleep(10000);
        }
        finish(threads, 3);
        /* Somebody has it. */
        TRY(futex(&second, FUTEX_LOCK_PI | flag, 0, 0, NULL, 0));
        start(threads, 2);
        TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | flag, 1, 1, &second, 0));
        printf("others wait %x\n", second & FUTEX_WAITERS);
        TRY(futex(&second, FUTEX_WAKE | flag, 1, 0, NULL, 0));
        TRY(futex(&second, FUTEX_UNLOCK_PI | flag, 0, 0, NULL, 0));
        finish(threads, 2);
    }
    /* Whom it knows not, and what others wait for. */
    second = 12345678;
    flag = PRIVATE;
    start(threads, 1);
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | PRIVATE, 1, 1, &second, 0));
    second = gettid();
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | PRIVATE, 1, 1, &second, 0));
    TRY(futex(&second, FUTEX_UNLOCK_PI | PRIVATE, 0, 0, NULL, 0));
    finish(threads, 1);
    pthread_create(threads, NULL, waits, &first);
    usleep(10000);
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | PRIVATE, 1, 1, &second, 0));
    TRY(futex(&first, FUTEX_LOCK_PI | PRIVATE, 0, 0, NULL, 0));
    first = gettid();
    TRY(futex(&first, FUTEX_UNLOCK_PI | PRIVATE, 0, 0, NULL, 0));
    first = 0;
    TRY(futex(&first, FUTEX_WAKE | PRIVATE, 1, 0, NULL, 0));
    ended(threads[0]);
}

static void interrupt(void) {
    pthread_t threads[4];
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    flag = PRIVATE;
    /* Before it is moved the wait goes on, behind it there is nothing to go on with. */
    TRY(futex(&second, FUTEX_LOCK_PI | PRIVATE, 0, 0, NULL, 0));
    start(threads, 2);
    pthread_kill(threads[0], SIGUSR1);
    usleep(10000);
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PI | PRIVATE, 1, 1, &second, 0));
    pthread_kill(threads[0], SIGUSR1);
    usleep(10000);
    TRY(futex(&second, FUTEX_UNLOCK_PI | PRIVATE, 0, 0, NULL, 0));
    finish(threads, 2);
    /* The value is another one by then. */
    start(threads, 1);
    first = 1;
    pthread_kill(threads[0], SIGUSR1);
    usleep(10000);
    finish(threads, 1);
    first = 0;
}

int main(int count, char **args) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *part = count > 1 ? args[1] : "";
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!strcmp(part, "many")) many();
    if (!strcmp(part, "move")) move();
    if (!strcmp(part, "interrupt")) interrupt();
    puts("to the end");
    return 0;
}
