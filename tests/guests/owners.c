/* Threads that end while they hold what other processes wait for. The first argument says how they end. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    pthread_mutex_t plain, lends;
    uint32_t number;
} *shared;
static int ready[2], over[2];

static void make(pthread_mutex_t *mutex, int protocol) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, protocol);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(mutex, &attr);
}

static void *holds(void *arg) {
    pthread_mutex_lock(&shared->plain);
    pthread_mutex_lock(&shared->lends);
    write(ready[1], "", 1);
    for (;;) pause();
    return arg;
}

/* Its end is told in memory that another process waits at. */
static void *is_told_of(void *arg) {
    shared->number = syscall(SYS_set_tid_address, &shared->number);
    write(ready[1], "", 1);
    usleep(20000);
    syscall(SYS_exit, 0);
    return arg;
}

static void wait_for(pthread_mutex_t *mutex, const char *what) {
    int error = pthread_mutex_lock(mutex);
    printf("%s: %s\n", what, error ? strerrorname_np(error) : "ok");
    pthread_mutex_consistent(mutex);
    pthread_mutex_unlock(mutex);
}

int main(int count, char **args) {
    const char *how = count > 1 ? args[1] : "";
    char byte;
    if (!strcmp(how, "wait")) {
        /* The program that is executed: it ends when the locks are taken. */
        read(0, &byte, 1);
        return 0;
    }
    shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    make(&shared->plain, PTHREAD_PRIO_NONE);
    make(&shared->lends, PTHREAD_PRIO_INHERIT);
    pipe(ready), pipe(over);
    int told = !strcmp(how, "told");
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        close(over[1]);
        pthread_create(&thread, NULL, told ? is_told_of : holds, NULL);
        if (told) {
            read(over[0], &byte, 1);
            _exit(0);
        }
        /* Another process waits by then. */
        usleep(20000);
        if (!strcmp(how, "exit")) _exit(0);
        if (!strcmp(how, "signal")) kill(getpid(), SIGTERM);
        if (!strcmp(how, "exec")) {
            dup2(over[0], 0);
            execl("/proc/self/exe", "owners", "wait", NULL);
        }
        return 1;
    }
    read(ready[0], &byte, 1);
    if (told) {
        long seen = syscall(SYS_futex, &shared->number, FUTEX_WAIT, shared->number, NULL, NULL, 0);
        printf("told %ld, number %u\n", seen, shared->number);
    } else {
        wait_for(&shared->plain, "plain");
        wait_for(&shared->lends, "lends");
    }
    close(over[1]);
    int status;
    waitpid(child, &status, 0);
    printf("status %x\nto the end\n", status);
}
