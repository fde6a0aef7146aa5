/* What a program finds out of itself and of others, as Linux tells it, in lines. The first argument says which
 * part. */
#define _GNU_SOURCE
#include <dirent.h>
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
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
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

/* Links by the addresses of what is mapped of files. */
static void mapped(void) {
    char name[96], path[64];
    int fd = open("/proc/self/exe", O_RDONLY), zeros = open("/dev/zero", O_RDWR);
    char *hint = (char *)0x10000000;
    int flags = MAP_FIXED | MAP_PRIVATE;
    mmap(hint, 4096, PROT_READ, flags, fd, 0);
    mmap(hint + 0x10000, 8192, PROT_NONE, flags, zeros, 0);
    mmap(hint + 0x20000, 8192, PROT_READ, MAP_FIXED | MAP_SHARED, zeros, 0);
    mmap(hint + 0x30000, 8192, PROT_READ, MAP_FIXED | MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    mmap(hint + 0x40000, 8192, PROT_READ, flags | MAP_ANONYMOUS, -1, 0);
    static const char *const names[] = {
        "10000000-10001000", "10010000-10012000", "10020000-10022000", "10030000-10032000", "10040000-10042000",
        "10000000-10002000", "10010000-10011000", "10011000-10012000", "010000000-10001000", "10000000-010001000",
        " 10000000-10001000", "10000000 -10001000", "10000000-10001000 ", "10000000", "0x10000000-0x10001000",
        "10000000000010000000-10001000", "10000000-10000000000010001000", "", "-", "10000000-", "1000A000-1000B000",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(name, sizeof name, "/proc/self/map_files/%s", names[i]);
        memset(path, 0, sizeof path);
        long size = readlink(name, path, sizeof path - 1);
        const char *file = strrchr(path, '/');
        printf("%s: %s %s\n", names[i], size < 0 ? strerrorname_np(errno) : "", file ? file : "");
    }
    struct stat one, other;
    TRY(stat("/proc/self/map_files/10000000-10001000", &one));
    TRY(fstat(fd, &other));
    printf("the same file: %d\n", one.st_ino == other.st_ino);
    TRY(lstat("/proc/self/map_files/10000000-10001000", &one));
    printf("mode %o, size %ld\n", one.st_mode, (long)one.st_size);
    TRY(stat("/proc/self/map_files", &one));
    printf("mode %o\n", one.st_mode);
    TRY(open("/proc/self/map_files/10000000-10001000", O_WRONLY | O_CREAT, 0600) < 0);
    TRY(unlink("/proc/self/map_files/10000000-10001000"));
    int listed = 0;
    DIR *directory = opendir("/proc/self/map_files");
    for (struct dirent *entry; (entry = readdir(directory));)
        if (!strncmp(entry->d_name, "100", 3)) listed++, printf("%s %d\n", entry->d_name, entry->d_type);
    munmap(hint, 4096);
    TRY(readlink("/proc/self/map_files/10000000-10001000", path, sizeof path));
}

static void show_call(int pid) {
    char name[64], text[256] = "";
    snprintf(name, sizeof name, "/proc/%d/syscall", pid);
    int fd = open(name, O_RDONLY);
    read(fd, text, sizeof text - 1);
    close(fd);
    /* Where it was made depends on where things lie. */
    long number = -1;
    unsigned long args[6], stack = 0, at = 0;
    int found = sscanf(text, "%ld %lx %lx %lx %lx %lx %lx %lx %lx", &number, args, args + 1, args + 2, args + 3,
                       args + 4, args + 5, &stack, &at);
    if (found < 9) printf("%s", text);
    else printf("%ld %lx, places: %d\n", number, args[0] < 99 ? args[0] : 99, stack > at && at > 0x1000);
}

/* The call that is made, and those that others wait in. */
static void calls(void) {
    char text[256] = "", expected[64];
    int ends[2], fd = open("/proc/self/syscall", O_RDONLY);
    if (pipe(ends)) return;
    unsigned long where;
    register unsigned long stack __asm__("rsp");
    long size = syscall(SYS_read, fd, text, sizeof text);
    snprintf(expected, sizeof expected, "%ld 0x%x 0x%lx 0x%lx ", (long)SYS_read, fd, (long)text, sizeof text);
    printf("%d %d\n", size > 0, !strncmp(text, expected, strlen(expected)));
    sscanf(strrchr(text, ' '), "%lx", &where);
    /* The two bytes before are the instruction. */
    printf("%x, stack %d\n", *(unsigned short *)(where - 2), stack > 0);
    struct stat seen;
    fstat(fd, &seen);
    printf("mode %o\n", seen.st_mode);
    pid_t reads = fork();
    if (reads == 0) {
        close(ends[1]);
        char byte;
        syscall(SYS_read, ends[0], &byte, 1);
        _exit(0);
    }
    pid_t pauses = fork();
    if (pauses == 0) {
        close(ends[1]);
        syscall(SYS_nanosleep, &(struct timespec){1000, 0}, 0);
    }
    usleep(100000);
    show_call(reads);
    show_call(pauses);
    kill(pauses, SIGKILL);
    close(ends[1]);
    waitpid(reads, NULL, 0);
}

/* What the vDSO says of clocks, and what the kernel says. */
static void clocks(void) {
    for (clockid_t clock = -1; clock < 12; clock++) {
        struct timespec one = {7, 7}, other = {7, 7};
        int result = clock_getres(clock, &one);
        int called = syscall(SYS_clock_getres, clock, &other);
        int same = result == called && one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
        /* Those of alarms need a clock of the machine. */
        if (clock != CLOCK_REALTIME_ALARM && clock != CLOCK_BOOTTIME_ALARM)
            printf("%d: %s, the same %d, coarse %d\n", clock, called ? strerrorname_np(errno) : "", same,
                   one.tv_nsec >= 1000000);
    }
}

int main(int count, char **args) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *part = count > 1 ? args[1] : "";
    if (!strcmp(part, "compares")) compares();
    if (!strcmp(part, "mapped")) mapped();
    if (!strcmp(part, "clocks")) clocks();
    if (!strcmp(part, "calls")) calls();
    puts("to the end");
    return 0;
}
