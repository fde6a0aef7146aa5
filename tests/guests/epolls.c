/* Sets of watched descriptors: what they tell, how often, and in which order. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static int set, counters[8];

static void add(int to, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    if (epoll_ctl(to, EPOLL_CTL_ADD, fd, &event)) printf("add %s\n", strerrorname_np(errno));
}

static void change(int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    if (epoll_ctl(set, EPOLL_CTL_MOD, fd, &event)) printf("change %s\n", strerrorname_np(errno));
}

static void look(const char *what, int at, int most, int timeout) {
    struct epoll_event events[16];
    int count = epoll_wait(at, events, most, timeout);
    printf("%s: %d", what, count);
    for (int i = 0; i < count; i++) printf(" %d/%x", (int)events[i].data.u64, events[i].events);
    puts("");
}

static void up(int which) {
    uint64_t one = 1;
    write(counters[which], &one, 8);
}

static void down(int which) {
    uint64_t value;
    read(counters[which], &value, 8);
}

static void order(void) {
    for (int i = 7; i >= 0; i--) add(set, counters[i], EPOLLIN, i);
    look("none", set, 16, 0);
    up(5), up(2), up(7), up(2);
    look("as they came", set, 16, 0);
    look("again", set, 16, 0);
    for (int i = 0; i < 4; i++) look("one by one", set, 1, 0);
    look("two", set, 2, 0);
    down(2);
    up(0);
    look("changed", set, 16, 0);
    down(5), down(7), down(0);
    look("none", set, 16, 0);
    /* Added when it is ready already, or set anew. */
    up(3);
    change(counters[1], EPOLLOUT, 11);
    look("set anew", set, 16, 0);
    change(counters[3], EPOLLIN | EPOLLOUT, 13);
    look("set anew", set, 16, 0);
    change(counters[1], 0, 11);
    down(3);
    look("one", set, 16, 0);
    epoll_ctl(set, EPOLL_CTL_DEL, counters[3], NULL);
    look("none", set, 16, 0);
}

static void kinds(void) {
    add(set, counters[0], EPOLLIN | EPOLLET, 0);
    add(set, counters[1], EPOLLIN | EPOLLONESHOT, 1);
    add(set, counters[2], EPOLLIN | EPOLLET | EPOLLONESHOT, 2);
    add(set, counters[3], EPOLLIN | EPOLLEXCLUSIVE, 3);
    for (int i = 0; i < 4; i++) up(i);
    look("all", set, 16, 0);
    look("level", set, 16, 0);
    for (int i = 0; i < 4; i++) up(i);
    look("edge", set, 16, 0);
    change(counters[1], EPOLLIN | EPOLLONESHOT, 21);
    change(counters[2], EPOLLIN | EPOLLONESHOT, 22);
    change(counters[3], EPOLLIN, 3);
    look("armed", set, 16, 0);
    look("level", set, 16, 0);
    down(3);
    /* A pipe's end, a socket's, a descriptor twice, one that is closed. */
    int pipes[2], pair[2], twice = dup(counters[4]);
    pipe(pipes);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    add(set, pipes[0], EPOLLIN, 30);
    add(set, pair[0], EPOLLIN | EPOLLRDHUP, 31);
    add(set, pair[1], EPOLLOUT | EPOLLET, 32);
    add(set, counters[4], EPOLLIN, 33);
    add(set, twice, EPOLLIN, 34);
    look("a writer", set, 16, 0);
    write(pipes[1], "x", 1);
    write(pair[1], "x", 1);
    up(4);
    look("both", set, 16, 0);
    close(counters[4]);
    look("one is closed", set, 16, 0);
    close(twice);
    close(pipes[1]);
    close(pair[1]);
    look("ends", set, 16, 0);
    close(pipes[0]);
    close(pair[0]);
    look("none", set, 16, 0);
}

static void within(void) {
    int inner = epoll_create1(0), middle = epoll_create1(0);
    add(inner, counters[0], EPOLLIN, 1);
    add(inner, counters[1], EPOLLIN, 2);
    add(middle, inner, EPOLLIN, 10);
    add(set, middle, EPOLLIN, 20);
    look("none", set, 16, 0);
    up(1);
    look("outer", set, 16, 0);
    look("outer", set, 16, 0);
    look("middle", middle, 16, 0);
    look("inner", inner, 16, 0);
    down(1);
    look("none", set, 16, 0);
    if (fork() == 0) {
        usleep(10000);
        up(0);
        _exit(0);
    }
    look("later", set, 16, 1000);
    wait(NULL);
    look("inner", inner, 1, 0);
    struct epoll_event event = {.events = EPOLLIN};
    printf("circle %d\n", epoll_ctl(inner, EPOLL_CTL_ADD, set, &event) ? errno : 0);
    down(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    add(inner, timer, EPOLLIN, 3);
    struct itimerspec soon = {.it_value.tv_nsec = 5000000};
    timerfd_settime(timer, 0, &soon, NULL);
    look("a timer", set, 16, 1000);
    look("a timer", inner, 16, 0);
}

static void *waiter(void *arg) {
    struct epoll_event event;
    for (int i = 0; i < 50; i++) {
        if (epoll_wait(set, &event, 1, -1) != 1) puts("no event");
        uint64_t value;
        if (read(event.data.fd, &value, 8) == 8) __atomic_add_fetch((int *)arg, value, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void waits(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int signal = signalfd(-1, &signals, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    add(set, signal, EPOLLIN, 40);
    add(set, timer, EPOLLIN | EPOLLET, 41);
    add(set, counters[0], EPOLLIN, 42);
    look("times out", set, 16, 5);
    if (fork() == 0) {
        usleep(5000);
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    look("a signal", set, 16, 1000);
    wait(NULL);
    look("a signal", set, 16, 0);
    struct signalfd_siginfo info;
    read(signal, &info, sizeof info);
    look("none", set, 16, 0);
    struct itimerspec soon = {.it_value.tv_nsec = 3000000};
    timerfd_settime(timer, 0, &soon, NULL);
    look("a timer", set, 16, 1000);
    look("none", set, 16, 0);
    timerfd_settime(timer, 0, &soon, NULL);
    usleep(10000);
    look("a timer", set, 16, 0);
    look("none", set, 16, 0);
    if (fork() == 0) {
        usleep(5000);
        up(0);
        _exit(0);
    }
    look("a counter", set, 16, 1000);
    wait(NULL);
    down(0);
    /* What is added while somebody waits. */
    pthread_t threads[3];
    epoll_ctl(set, EPOLL_CTL_DEL, signal, NULL);
    epoll_ctl(set, EPOLL_CTL_DEL, timer, NULL);
    epoll_ctl(set, EPOLL_CTL_DEL, counters[0], NULL);
    int got = 0, given = 0;
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, waiter, &got);
    usleep(10000);
    for (int i = 0; i < 4; i++) {
        fcntl(counters[i], F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN | (i % 2 ? EPOLLET : 0), .data.fd = counters[i]};
        epoll_ctl(set, EPOLL_CTL_ADD, counters[i], &event);
    }
    for (int i = 0; i < 200; i++) {
        up(i % 4), given++;
        usleep(500);
    }
    for (int i = 0; i < 3; i++) {
        while (pthread_tryjoin_np(threads[i], NULL)) up(0), given++, usleep(500);
    }
    for (int i = 0; i < 4; i++) {
        uint64_t value;
        if (read(counters[i], &value, 8) == 8) got += value;
    }
    printf("all %d\n", got == given);
}

int main(int count, char **args) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *part = count > 1 ? args[1] : "";
    set = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 8; i++) counters[i] = eventfd(0, 0);
    if (!strcmp(part, "order")) order();
    if (!strcmp(part, "kinds")) kinds();
    if (!strcmp(part, "within")) within();
    if (!strcmp(part, "waits")) waits();
    puts("to the end");
    return 0;
}
