/* Storms of signals, timers and stops, which only a deadline ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void handler(int signal) { (void)signal; }

/* As many timers as there may be, each as fast as it goes. */
static int arms(void) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec spec = {{0, 1}, {0, 1}};
    timer_t timer;
    int count = 0;
    for (; timer_create(CLOCK_MONOTONIC, &event, &timer) == 0; count++) timer_settime(timer, 0, &spec, NULL);
    return count;
}

int main(int count, char **args) {
    const char *part = count > 1 ? args[1] : "";
    pid_t self = getpid();
    if (!strcmp(part, "timers")) {
        signal(SIGUSR1, handler);
        arms();
        for (;;) pause();
    }
    if (!strcmp(part, "timers-of-many")) {
        signal(SIGUSR1, SIG_IGN);
        for (int i = 0; i < 300; i++) {
            if (fork()) continue;
            arms();
            for (;;) usleep(1);
        }
        for (;;) usleep(1);
    }
    if (!strcmp(part, "descriptors")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        while (signalfd(-1, &all, 0) >= 0) {}
        for (;;) kill(self, SIGRTMIN);
    }
    if (!strcmp(part, "stops")) {
        for (int i = 0; i < 5; i++) {
            if (fork()) continue;
            for (;;) {
                kill(self, SIGSTOP);
                kill(self, SIGCONT);
                kill(0, SIGTSTP);
                kill(0, SIGCONT);
            }
        }
        for (;;) pause();
    }
    if (!strcmp(part, "limits")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        int queued = 0;
        while (sigqueue(self, SIGRTMIN, (union sigval){0}) == 0) queued++;
        printf("queued %d %s\n", queued, strerrorname_np(errno));
        timer_t timer;
        int made = timer_create(CLOCK_MONOTONIC, NULL, &timer);
        printf("timer %s\n", made ? strerrorname_np(errno) : "ok");
        /* What the kernel itself sends still comes, and so does kill. */
        printf("kill %d\n", kill(self, SIGRTMIN + 1) | kill(self, SIGUSR1));
        sigset_t pending;
        sigpending(&pending);
        printf("pending %d %d\n", sigismember(&pending, SIGRTMIN + 1), sigismember(&pending, SIGUSR1));
        siginfo_t info;
        int taken = 0;
        struct timespec none = {0, 0};
        sigset_t first;
        sigemptyset(&first);
        sigaddset(&first, SIGRTMIN);
        while (sigtimedwait(&first, &info, &none) > 0) taken++;
        printf("taken %d\n", taken);
        made = timer_create(CLOCK_MONOTONIC, NULL, &timer);
        printf("timer %s\n", made ? strerrorname_np(errno) : "ok");
    }
    return 0;
}
