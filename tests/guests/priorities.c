/* Mutexes whose waiters lend their priority. */
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

static const char *name(int error) { return error ? strerrorname_np(error) : "ok"; }

static pthread_mutex_t *make(pthread_mutex_t *mutex, int type, int robust, int shared) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, type);
    pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    if (robust) pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    if (shared) pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    printf("init %s\n", name(pthread_mutex_init(mutex, &attr)));
    return mutex;
}

static pthread_mutex_t lock, second;
static volatile int total;

static void *adds(void *arg) {
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&lock);
        int before = total;
        if (i % 10 == 0) usleep(100);
        total = before + 1;
        pthread_mutex_unlock(&lock);
    }
    return arg;
}

static void threads(void) {
    make(&lock, PTHREAD_MUTEX_NORMAL, 0, 0);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, adds, NULL);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    printf("total %d\n", total);
}

static void *tries(void *arg) {
    printf("trylock %s\n", name(pthread_mutex_trylock(&lock)));
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    printf("past %s\n", name(pthread_mutex_timedlock(&lock, &until)));
    until.tv_nsec += 5000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    printf("timedlock %s\n", name(pthread_mutex_timedlock(&lock, &until)));
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 5000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    printf("clocklock %s\n", name(pthread_mutex_clocklock(&lock, CLOCK_MONOTONIC, &until)));
    printf("unlock %s\n", name(pthread_mutex_unlock(&lock)));
    return arg;
}

static void *crosses(void *arg) {
    pthread_mutex_lock(&second);
    usleep(10000);
    int error = pthread_mutex_lock(&lock);
    printf("crossed %s\n", name(error));
    if (!error) pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&second);
    return arg;
}

static void errors(void) {
    make(&lock, PTHREAD_MUTEX_ERRORCHECK, 0, 0);
    printf("unlock %s\n", name(pthread_mutex_unlock(&lock)));
    pthread_mutex_lock(&lock);
    printf("lock %s\n", name(pthread_mutex_lock(&lock)));
    pthread_t thread;
    pthread_create(&thread, NULL, tries, NULL);
    pthread_join(thread, NULL);
    printf("unlock %s\n", name(pthread_mutex_unlock(&lock)));
    uint32_t word = 12345678;
    long result = syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    printf("nobody's %s\n", name(result < 0 ? errno : 0));
    word = gettid();
    result = syscall(SYS_futex, &word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0);
    printf("own %s\n", name(result < 0 ? errno : 0));
    result = syscall(SYS_futex, &word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    printf("given up %s %x\n", name(result < 0 ? errno : 0), word);
    result = syscall(SYS_futex, &word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    printf("not had %s\n", name(result < 0 ? errno : 0));
    result = syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    printf("had %s %d\n", name(result < 0 ? errno : 0), word == (uint32_t)gettid());
    result = syscall(SYS_futex, (char *)&word + 1, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    printf("askew %s\n", name(result < 0 ? errno : 0));
    result = syscall(SYS_futex, (void *)16, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    printf("nowhere %s\n", name(result < 0 ? errno : 0));
    /* A lock that waits for itself by way of another thread: one of the two is told. */
    make(&second, PTHREAD_MUTEX_ERRORCHECK, 0, 0);
    pthread_mutex_lock(&lock);
    pthread_create(&thread, NULL, crosses, NULL);
    usleep(30000);
    result = syscall(SYS_futex, &second.__data.__lock, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
    printf("circle %s\n", name(result < 0 ? errno : 0));
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
}

static void *dies(void *arg) {
    pthread_mutex_lock(arg);
    total = 1;
    usleep(20000);
    return NULL;
}

static void handler(int signal) { (void)signal; write(1, "handler\n", 8); }

static void *holds(void *arg) {
    pthread_mutex_lock(&lock);
    total = 1;
    usleep(20000);
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
    usleep(20000);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void has_locked(void) {
    while (!total) usleep(1000);
    total = 0;
}

static void owners(void) {
    /* One who waits, and one who comes later, for a lock whose owner ends. */
    for (int waits = 0; waits < 2; waits++) {
        make(&lock, PTHREAD_MUTEX_NORMAL, 1, 0);
        pthread_t thread;
        pthread_create(&thread, NULL, dies, &lock);
        if (waits) has_locked();
        else pthread_join(thread, NULL), total = 0;
        printf("lock %s\n", name(pthread_mutex_lock(&lock)));
        printf("consistent %s\n", name(pthread_mutex_consistent(&lock)));
        printf("unlock %s\n", name(pthread_mutex_unlock(&lock)));
        if (waits) pthread_join(thread, NULL);
        printf("lock %s\n", name(pthread_mutex_lock(&lock)));
        pthread_mutex_unlock(&lock);
    }
    /* A handler runs, and the wait goes on. */
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    make(&lock, PTHREAD_MUTEX_NORMAL, 0, 0);
    pthread_t self = pthread_self(), thread;
    pthread_create(&thread, NULL, holds, &self);
    has_locked();
    printf("lock %s\n", name(pthread_mutex_lock(&lock)));
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
    /* Of two processes. */
    pthread_mutex_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    make(shared, PTHREAD_MUTEX_NORMAL, 1, 1);
    pid_t child = fork();
    if (child == 0) {
        pthread_mutex_lock(shared);
        usleep(20000);
        _exit(0);
    }
    usleep(5000);
    printf("lock %s\n", name(pthread_mutex_lock(shared)));
    waitpid(child, NULL, 0);
}

int main(int count, char **args) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *part = count > 1 ? args[1] : "";
    if (!strcmp(part, "threads")) threads();
    if (!strcmp(part, "errors")) errors();
    if (!strcmp(part, "owners")) owners();
    puts("to the end");
    return 0;
}
