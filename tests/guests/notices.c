/* Descriptors of signals and of processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *error(long result) { return result < 0 ? strerrorname_np(errno) : "ok"; }
#define TRY(call) printf("%s: %s\n", #call, error(call))

static sigset_t set_of(int a, int b) {
    sigset_t set;
    sigemptyset(&set);
    if (a) sigaddset(&set, a);
    if (b) sigaddset(&set, b);
    return set;
}

static void print(const struct signalfd_siginfo *info) {
    printf("signal %u errno %d code %d pid %d uid %u tid %u overruns %d status %d int %d ptr %lx\n", info->ssi_signo,
           info->ssi_errno, info->ssi_code, info->ssi_pid == (uint32_t)getpid() ? 1 : info->ssi_pid ? 2 : 0,
           info->ssi_uid, info->ssi_tid, info->ssi_overrun > 0, info->ssi_status, info->ssi_int,
           (unsigned long)info->ssi_ptr);
}

static void read_all(int fd) {
    struct signalfd_siginfo infos[4];
    ssize_t got = read(fd, infos, sizeof infos);
    printf("read %zd %s\n", got < 0 ? got : got / (ssize_t)sizeof infos[0], error(got));
    for (ssize_t i = 0; i < got / (ssize_t)sizeof infos[0]; i++) print(&infos[i]);
}

static void *sends_later(void *arg) {
    usleep(20000);
    kill(getpid(), (int)(intptr_t)arg);
    return NULL;
}

static void signals(void) {
    sigset_t set = set_of(SIGUSR1, SIGRTMIN);
    sigset_t more = set_of(SIGCHLD, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigprocmask(SIG_BLOCK, &more, NULL);
    TRY(signalfd(-1, &set, 1));
    TRY(syscall(SYS_signalfd4, -1, &set, 7, 0));
    TRY(syscall(SYS_signalfd4, -1, (void *)1, 8, 0));
    TRY(signalfd(0, &set, 0));
    TRY(signalfd(99, &set, 0));
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    char link[64] = "";
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    readlink(path, link, sizeof link - 1);
    printf("%s flags %x %x\n", link, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    read_all(fd);
    TRY(write(fd, "x", 1));
    char small[100];
    TRY(read(fd, small, sizeof small));
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 5; i++) sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i + 7});
    struct pollfd poll_one = {fd, POLLIN | POLLOUT, 0};
    printf("poll %d %x\n", poll(&poll_one, 1, 0), poll_one.revents);
    read_all(fd);
    read_all(fd);
    read_all(fd);
    /* Of a timer, and of a child. */
    TRY(signalfd(fd, &more, 0));
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM, .sigev_value.sival_ptr = (void *)0x1122334455};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    struct itimerspec spec = {{0, 1000000}, {0, 1000000}};
    timer_settime(timer, 0, &spec, NULL);
    usleep(20000);
    poll(&poll_one, 1, -1);
    read_all(fd);
    timer_delete(timer);
    read_all(fd);
    if (fork() == 0) _exit(3);
    poll(&poll_one, 1, -1);
    read_all(fd);
    wait(NULL);
    /* Waiting: in a read, in a poll, in an epoll. */
    sigprocmask(SIG_BLOCK, &set, NULL);
    int slow = signalfd(-1, &set, 0);
    for (int how = 0; how < 3; how++) {
        pthread_t thread;
        pthread_create(&thread, NULL, sends_later, (void *)(intptr_t)SIGUSR1);
        if (how == 1) {
            struct pollfd one = {slow, POLLIN, 0};
            printf("poll %d\n", poll(&one, 1, -1));
        } else if (how == 2) {
            int epoll = epoll_create1(0);
            struct epoll_event event = {EPOLLIN | EPOLLET, {.u32 = 5}};
            epoll_ctl(epoll, EPOLL_CTL_ADD, slow, &event);
            printf("epoll %d\n", epoll_wait(epoll, &event, 1, -1));
        }
        read_all(slow);
        pthread_join(thread, NULL);
    }
}

static void processes(void) {
    TRY(syscall(SYS_pidfd_open, 0, 0));
    TRY(syscall(SYS_pidfd_open, -1, 0));
    TRY(syscall(SYS_pidfd_open, getpid(), 1));
    TRY(syscall(SYS_pidfd_open, 4000000, 0));
    TRY(syscall(SYS_pidfd_send_signal, 0, 0, NULL, 0));
    TRY(syscall(SYS_pidfd_send_signal, 99, 0, NULL, 0));
    int self = syscall(SYS_pidfd_open, getpid(), 0);
    printf("flags %x %x\n", fcntl(self, F_GETFL), fcntl(self, F_GETFD));
    TRY(syscall(SYS_pidfd_send_signal, self, 0, NULL, 0));
    TRY(syscall(SYS_pidfd_send_signal, self, 65, NULL, 0));
    TRY(syscall(SYS_pidfd_send_signal, self, 0, NULL, 8));
    TRY(syscall(SYS_pidfd_send_signal, self, 0, (void *)1, 0));
    char own[32];
    snprintf(own, sizeof own, "/proc/%d", getpid());
    int directory = open(own, O_DIRECTORY);
    TRY(syscall(SYS_pidfd_send_signal, directory, 0, NULL, 0));
    TRY(syscall(SYS_pidfd_send_signal, open("/proc", O_DIRECTORY), 0, NULL, 0));
    TRY(waitid(P_PIDFD, directory, NULL, WEXITED));
    char byte;
    TRY(read(self, &byte, 1));
    siginfo_t info = {0};
    TRY(waitid(P_PIDFD, self, &info, WEXITED));
    TRY(waitid(P_PIDFD, 0, &info, WEXITED));
    TRY(waitid(P_PIDFD, 99, &info, WEXITED));

    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(1);
    }
    int fd = syscall(SYS_pidfd_open, child, O_NONBLOCK);
    TRY(syscall(SYS_pidfd_getfd, fd, 1, 1));
    TRY(syscall(SYS_pidfd_getfd, fd, 99, 0));
    TRY(syscall(SYS_pidfd_getfd, 0, 1, 0));
    int theirs = syscall(SYS_pidfd_getfd, fd, 1, 0);
    printf("theirs %d %x\n", theirs > 2, fcntl(theirs, F_GETFD));
    dprintf(theirs, "written to it\n");
    close(theirs);
    struct pollfd one = {fd, POLLIN, 0};
    printf("poll %d\n", poll(&one, 1, 0));
    TRY(waitid(P_PIDFD, fd, &info, WEXITED));
    TRY(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
    printf("poll %d", poll(&one, 1, -1));
    printf(" %x\n", one.revents);
    TRY(waitid(P_PIDFD, fd, &info, WEXITED | WNOWAIT));
    printf("child %d code %d status %d\n", info.si_pid == child, info.si_code, info.si_status);
    TRY(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    TRY(waitid(P_PIDFD, fd, &info, WEXITED));
    TRY(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    TRY(syscall(SYS_pidfd_getfd, fd, 1, 0));
    TRY(waitid(P_PIDFD, fd, &info, WEXITED));
    printf("poll %d %x\n", poll(&one, 1, -1), one.revents);
    char path[64], link[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    readlink(path, link, sizeof link - 1);
    printf("%s\n", link);

    /* Made with the process. */
    int made = -1;
    long result = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &made, 0, 0);
    if (result == 0) _exit(fcntl(made, F_GETFD) < 0 ? 5 : 6);
    printf("made %d flags %x\n", made > 0, fcntl(made, F_GETFD));
    TRY(waitid(P_PIDFD, made, &info, WEXITED));
    printf("status %d\n", info.si_status);
    TRY(syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &made, 0, 0));
    TRY(syscall(SYS_clone, CLONE_PIDFD | CLONE_DETACHED | SIGCHLD, 0, &made, 0, 0));
}

int main(int count, char **args) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *part = count > 1 ? args[1] : "";
    if (!strcmp(part, "signals")) signals();
    if (!strcmp(part, "processes")) processes();
    puts("to the end");
    return 0;
}
