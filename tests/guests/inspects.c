/* What a program finds out of itself and of others, as Linux tells it, in lines. The first argument says which
 * part. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRY(call) told(#call, call)

static void told(const char *call, long result) {
    printf("%s: %ld %s\n", call, result, result < 0 ? strerrorname_np(errno) : "");
}

/* 0 when they are the same, 1 when they are not: which of them comes first is nobody's business. */
static long compare(pid_t one, pid_t other, int kind, unsigned long first, unsigned long second) {
    long result = syscall(SYS_kcmp, one, other, kind, first, second);
    return result > 0 ? 1 : result;
}

static void compare_all(const char *whom, pid_t other) {
    static const char *const names[] = {"file", "vm", "files", "fs", "sighand", "io", "sysvsem"};
    for (int kind = KCMP_VM; kind <= KCMP_SYSVSEM; kind++)
        if (kind != KCMP_IO) printf("%s %s: %ld\n", whom, names[kind], compare(getpid(), other, kind, 0, 0));
}

static volatile int thread_id;

static void *wait_for_nothing(void *unused) {
    thread_id = gettid();
    pause();
    return unused;
}

static void compares(void) {
    int fd = open("/dev/null", O_RDONLY), again = open("/dev/null", O_RDONLY), copy = dup(fd);
    pid_t self = getpid();
    TRY(compare(self, self, KCMP_FILE, fd, copy));
    TRY(compare(self, self, KCMP_FILE, fd, again));
    TRY(compare(self, self, KCMP_FILE, fd, 99));
    TRY(compare(self, self, KCMP_FILE, -1, fd));
    TRY(compare(self, self, 99, 0, 0));
    TRY(compare(self, 0, KCMP_VM, 0, 0));
    TRY(compare(-1, self, KCMP_VM, 0, 0));
    TRY(compare(99999999, self, 99, 0, 0));
    long forth = syscall(SYS_kcmp, self, self, KCMP_FILE, fd, again);
    long back = syscall(SYS_kcmp, self, self, KCMP_FILE, again, fd);
    printf("an order: %d\n", forth + back == 3);
    compare_all("self", self);

    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_nothing, NULL);
    while (!thread_id) usleep(1000);
    compare_all("a thread", thread_id);

    int set = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf up = {0, 1, SEM_UNDO};
    semop(set, &up, 1);
    pid_t child = fork();
    if (child == 0) {
        close(again);
        pause();
    }
    compare_all("a child", child);
    TRY(compare(self, child, KCMP_FILE, fd, copy));
    TRY(compare(child, self, KCMP_FILE, fd, again));
    usleep(100000);
    TRY(compare(child, self, KCMP_FILE, again, again));
    semctl(set, 0, IPC_RMID);

    /* What a set watches, also by a number that stands for something else by now. */
    int ends[2], others[2], epoll = epoll_create1(0);
    if (pipe(ends) || pipe(others)) return;
    struct epoll_event event = {EPOLLIN, {0}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
    int kept = dup(ends[0]);
    dup2(others[0], ends[0]);
    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
    struct kcmp_epoll_slot slot = {epoll, ends[0], 0};
    unsigned long at = (unsigned long)&slot;
    long seen = compare(self, self, KCMP_EPOLL_TFD, kept, at);
    slot.toff = 1;
    printf("one of them: %ld\n", seen + compare(self, self, KCMP_EPOLL_TFD, kept, at));
    slot.toff = 2;
    TRY(compare(self, self, KCMP_EPOLL_TFD, kept, at));
    slot.toff = 0, slot.tfd = 98;
    TRY(compare(self, self, KCMP_EPOLL_TFD, kept, at));
    slot.efd = 0;
    TRY(compare(self, self, KCMP_EPOLL_TFD, kept, at));
    slot.efd = 99;
    TRY(compare(self, self, KCMP_EPOLL_TFD, kept, at));
    TRY(compare(self, self, KCMP_EPOLL_TFD, 99, at));
    TRY(compare(self, self, KCMP_EPOLL_TFD, kept, 1));

    /* Without privileges only those who are alike, and may be looked into. */
    prctl(PR_SET_DUMPABLE, 0);
    pid_t hidden = fork();
    if (hidden == 0) pause();
    pid_t stranger = fork();
    if (stranger == 0) {
        if (setresuid(1, 1, 1)) _exit(1);
        TRY(compare(getpid(), self, KCMP_VM, 0, 0));
        TRY(compare(getpid(), getpid(), KCMP_VM, 0, 0));
        fflush(stdout);
        _exit(0);
    }
    waitpid(stranger, NULL, 0);
    TRY(compare(self, hidden, KCMP_VM, 0, 0));
    kill(hidden, SIGKILL);
    kill(child, SIGKILL);
}

int main(int count, char **args) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *part = count > 1 ? args[1] : "";
    if (!strcmp(part, "compares")) compares();
    puts("to the end");
    return 0;
}
