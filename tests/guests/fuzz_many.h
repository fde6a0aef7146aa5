/* What fuzz_many.c draws its arguments from, and how it makes tasks. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SHARED 0x10000000ul
#define AREA 0x20000000ul
#define AREA_SIZE (32 * 4096ul)
#define TASKS 64
#define STACK (48 * 1024)

/* What all processes share, besides the first half of the area. */
struct shared {
    int left, tasks, faults, seen;
    uint64_t hash;
    int pids[16];
};
extern struct shared *const all;

struct task {
    uint64_t state;
    int left;
    size_t used;
    char scratch[4096] __attribute__((aligned(16)));
};
static struct task tasks[TASKS];
static char stacks[TASKS][STACK] __attribute__((aligned(16)));

int work(void *task);
void handler(int signal);

/* Without errno: threads here have no storage of their own. */
static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
    asm volatile("syscall"
                 : "+a"(number)
                 : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return number;
}
#define call(n, a, b, c, d, e, f) \
    call((long)(n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

void restorer(void);
asm(".text\nrestorer: mov $15, %eax\nsyscall\n");

static uint64_t draw(struct task *t) {
    /* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators) */
    uint64_t z = (t->state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static uint64_t below(struct task *t, uint64_t n) {
    return draw(t) % n;
}

#define ONE_OF(t, ...) \
    ({ static const int64_t of[] = {__VA_ARGS__}; of[below(t, sizeof of / sizeof *of)]; })

static void made(struct task *t, long number, long result) {
    if (result < -4095 || result > 1 << 20)
        result = 1;
    all->hash = all->hash * 31 + number * 7 + result;
    (void)t;
}

static void report(void) {
    char line[24];
    uint64_t hash = all->hash, n = ++all->seen;
    for (int i = 0; i < 16; i++, hash >>= 4)
        line[6 + i] = "0123456789abcdef"[hash & 15];
    for (int i = 4; i >= 0; i--, n /= 10)
        line[i] = '0' + n % 10;
    line[5] = ' ';
    line[22] = '\n';
    call(SYS_write, 1, line, 23, 0, 0, 0);
}

/* Room for an argument of this call. */
static void *room(struct task *t, size_t bytes) {
    void *at = t->scratch + t->used;
    t->used = (t->used + bytes + 15) / 16 * 16 % 3072;
    return memset(at, 0, bytes);
}

static int descriptor(struct task *t) {
    switch (below(t, 40)) {
    case 0: return below(t, 3);
    case 1: return ONE_OF(t, -1, -100, 63, 255, 1023, 1 << 30);
    case 2: return below(t, 100);
    default: return 3 + below(t, 42);
    }
}

static int pid(struct task *t) {
    int known = all->pids[below(t, 16)];
    switch (below(t, 16)) {
    case 0: return 0;
    case 1: return -1;
    case 2: return -known;
    case 3: return below(t, 70);
    case 4: return call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    case 5: case 6: return call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    default: return known;
    }
}

static int signal_number(struct task *t) {
    switch (below(t, 12)) {
    case 0: return below(t, 66);
    case 1: return below(t, 4) ? SIGCHLD : SIGKILL;
    case 2: return ONE_OF(t, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU);
    case 3: case 4: case 5: return SIGCONT;
    default: return ONE_OF(t, SIGUSR1, SIGUSR2, SIGALRM, SIGIO, SIGHUP, SIGTERM, 34, 35, 64);
    }
}

static char *path(struct task *t) {
    static const char *const fixed[] = {
        "/tmp/a", "/tmp/b", "/tmp/d", "/tmp/d/x", "/tmp/link", "/tmp/fifo", "/tmp/fifo", "/tmp/s0", "/tmp/s1",
        "/tmp/s2", "/dev/ptmx", "/dev/null", "/dev/zero", "/dev/tty", "/dev/shm/s", ".", "..", "/proc", "",
        "/proc/self/fd/5", "/proc/sysvipc/shm", "/dev/pts/0", "/dev/fd/7", "/proc/thread-self/status",
    };
    static const char *const of_process[] = {
        "status", "maps", "mem", "stat", "fd", "fd/4", "fd/9", "task", "cmdline", "environ", "exe", "cwd", "root",
        "comm", "fdinfo/6", "limits", "smaps", "oom_score_adj", "statm", "wchan", "timers", "fdinfo", "",
    };
    char *text = room(t, 64), *at = text;
    if (below(t, 3))
        return strcpy(text, fixed[below(t, sizeof fixed / sizeof *fixed)]);
    at = stpcpy(at, "/proc/");
    int n = pid(t) % 1000;
    if (n < 0)
        n = -n;
    *at++ = '0' + n / 100, *at++ = '0' + n / 10 % 10, *at++ = '0' + n % 10;
    /* Numbers have no leading zeros there. */
    for (int i = 0; i < 2 && text[6] == '0'; i++, at--)
        memmove(text + 6, text + 7, 3);
    *at++ = '/';
    strcpy(at, of_process[below(t, sizeof of_process / sizeof *of_process)]);
    return text;
}

static struct timespec *some_time(struct task *t) {
    struct timespec *time = room(t, sizeof *time);
    time->tv_nsec = below(t, 8) ? below(t, 30000000) : below(t, 2);
    return time;
}

static void *message(struct task *t) {
    struct msghdr *m = room(t, sizeof *m);
    struct iovec *part = room(t, sizeof *part);
    *part = (struct iovec){(void *)AREA + below(t, 4096), below(t, 64)};
    m->msg_iov = part;
    m->msg_iovlen = below(t, 8) != 0;
    if (below(t, 3) == 0)
        return m;
    int count = below(t, 5);
    struct cmsghdr *control = room(t, CMSG_SPACE(5 * sizeof(int)));
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = below(t, 8) ? SCM_RIGHTS : SCM_CREDENTIALS;
    control->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (int i = 0; i < count; i++)
        ((int *)CMSG_DATA(control))[i] = 3 + below(t, 42);
    m->msg_control = control;
    m->msg_controllen = CMSG_SPACE(count * sizeof(int));
    return m;
}

/* The list of futexes that a task holds, of which some lie in the area. */
static void *robust_list(struct task *t) {
    uint64_t *words = (uint64_t *)(AREA + 2048 + below(t, 4) * 128);
    words[0] = (uint64_t)&words[3];
    words[1] = (uint64_t)-24 + below(t, 3) * 8;
    words[2] = below(t, 2) ? (uint64_t)&words[5] : 0;
    words[3] = (uint64_t)&words[5] | below(t, 2);
    words[5] = below(t, 8) ? (uint64_t)words : (uint64_t)&words[3];
    ((int *)words)[below(t, 24)] = call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    return words;
}

static void *action(struct task *t) {
    uint64_t *words = room(t, 32);
    words[0] = below(t, 4) ? (uint64_t)handler : below(t, 2);
    words[1] = 0x04000000 | ONE_OF(t, 0, SA_RESTART, SA_NODEFER, SA_RESETHAND, SA_NOCLDWAIT, SA_NOCLDSTOP, SA_ONSTACK);
    words[2] = (uint64_t)restorer;
    words[3] = below(t, 2) ? draw(t) & draw(t) & draw(t) : 0;
    return words;
}

static void act(int signal, int flags) {
    uint64_t words[4] = {(uint64_t)handler, 0x04000000 | flags, (uint64_t)restorer, 0};
    call(SYS_rt_sigaction, signal, words, 0, 8, 0, 0);
}

/* Memory that calls read and write. */
static uint64_t buffer(struct task *t) {
    if (below(t, 4) == 0)
        return (uint64_t)room(t, 512);
    return AREA + below(t, 16) * 8192 + below(t, 64) * 8;
}

static uint64_t argument(struct task *t, char kind) {
    switch (kind) {
    case 'f': return descriptor(t);
    case 'p': return pid(t);
    case 's': return signal_number(t);
    case 'b': return buffer(t);
    case 'B': return below(t, 2) ? 0 : buffer(t);
    case 'l': return below(t, 8) ? below(t, 200) : below(t, 1 << 17);
    case 'L': return below(t, 8) * 4096;
    case 'i': return below(t, 5);
    case 'z': return 0;
    case '1': return 1;
    case '4': return 4;
    case '8': return 8;
    case '$': return 24;
    case '-': return -1;
    case '*': return AT_FDCWD;
    case '#': return AF_UNIX;
    case 'x': return below(t, 2) ? 0 : 1ull << below(t, 24);
    case 'a': return AREA + below(t, 32) * 4096;
    case 'n': return (uint64_t)path(t);
    case 'm': return ONE_OF(t, 0600, 0777, 0, S_IFIFO | 0600, S_IFSOCK | 0600, 07777);
    case 'o': return ONE_OF(t, 0, O_RDWR, O_WRONLY, O_NONBLOCK, O_RDWR | O_NONBLOCK, O_RDWR | O_CREAT, O_CLOEXEC,
                            O_RDWR | O_CREAT | O_NONBLOCK, O_APPEND | O_WRONLY, O_PATH, O_DIRECT | O_RDWR, O_EXCL,
                            O_TRUNC | O_RDWR, O_DIRECTORY);
    case 'v': {
        struct iovec *parts = room(t, 5 * sizeof *parts);
        for (int i = 0; i < 5; i++)
            parts[i] = (struct iovec){(void *)buffer(t), below(t, 300)};
        return (uint64_t)parts;
    }
    case 'V': {
        struct pollfd *fds = room(t, 5 * sizeof *fds);
        for (int i = 0; i < 5; i++)
            fds[i] = (struct pollfd){descriptor(t), ONE_OF(t, POLLIN, POLLOUT, POLLIN | POLLOUT, POLLPRI, 0)};
        return (uint64_t)fds;
    }
    case 'r': {
        struct flock *lock = room(t, sizeof *lock);
        *lock = (struct flock){below(t, 3), below(t, 3), below(t, 30), below(t, 30)};
        return (uint64_t)lock;
    }
    case '/': return ONE_OF(t, F_SETLK, F_SETLKW, F_SETLKW, F_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_OFD_GETLK);
    case '!': return ONE_OF(t, 1, 2, 2, 8, 1 | 4, 2 | 4);
    case 'C': return ONE_OF(t, F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_SETOWN, F_GETOWN, F_SETPIPE_SZ,
                            F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS, F_DUPFD_CLOEXEC, F_SETSIG, F_SETLEASE);
    case 'X': return ONE_OF(t, 0x541b, 0x5421, 0x5401, 0x5402, 0x540e, 0x540f, 0x5410, 0x5413, 0x5414, 0x80045430,
                            0x40045431, 0x5422, 0x540b, 0x5420);
    case 'e': return 1 + below(t, 3);
    case 'E': {
        struct epoll_event *event = room(t, sizeof *event);
        event->events = ONE_OF(t, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLET, EPOLLIN | EPOLLONESHOT, EPOLLOUT | EPOLLET, 0,
                               EPOLLIN | EPOLLEXCLUSIVE, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
        return (uint64_t)event;
    }
    case 'T': {
        struct timespec *times = room(t, 2 * sizeof *times);
        times[0].tv_nsec = below(t, 2) ? below(t, 1000000) : 0;
        times[1].tv_nsec = below(t, 4) ? below(t, 10000000) : 0;
        return (uint64_t)times;
    }
    case 't': return below(t, 6) ? (uint64_t)some_time(t) : 0;
    case 'G': return below(t, 8);
    case 'd': return ONE_OF(t, 1, 2, 5) | ONE_OF(t, 0, O_NONBLOCK, O_CLOEXEC);
    case 'k': {
        struct sockaddr_un *name = room(t, sizeof *name);
        name->sun_family = AF_UNIX;
        strcpy(name->sun_path + below(t, 5) / 4, "/tmp/s0");
        name->sun_path[6] += below(t, 4);
        return (uint64_t)name;
    }
    case 'K': return below(t, 8) ? 10 : ONE_OF(t, 0, 2, 110, 3);
    case 'M': return (uint64_t)message(t);
    case 'h': return ONE_OF(t, 0, 0, MSG_DONTWAIT, MSG_DONTWAIT, MSG_PEEK | MSG_DONTWAIT, MSG_WAITALL, MSG_NOSIGNAL,
                            MSG_TRUNC, MSG_CMSG_CLOEXEC | MSG_DONTWAIT, MSG_EOR);
    case 'W': return ONE_OF(t, 0, WNOHANG, WUNTRACED, WCONTINUED | WNOHANG, WEXITED, WEXITED | WNOWAIT | WNOHANG,
                            WSTOPPED | WCONTINUED, WEXITED | WNOHANG, __WALL, __WCLONE, __WALL | WNOHANG);
    case 'w': return below(t, 4);
    case '@': return below(t, 3) ? -1 : ONE_OF(t, 0, 0, 1000, 65534);
    case 'I': return below(t, 17);
    case 'R': return kind == 'R' && below(t, 3) ? 3 : ONE_OF(t, 0, 1, 2, 5, 7, 0x01000003, 0x02000001);
    case 'P': return ONE_OF(t, 1, 2, 3, 4, 15, 16, 36, 37, 29, 30, 8, 7, 38, 39, 24, 40, 59, 60);
    case 'q': {
        int *info = room(t, 128);
        info[2] = ONE_OF(t, -1, -6, -60, 0);
        info[0] = signal_number(t);
        return (uint64_t)info;
    }
    case 'A': return below(t, 8) ? (uint64_t)action(t) : 0;
    case 'H': return below(t, 3);
    case 'S': {
        uint64_t *set = room(t, 8);
        *set = below(t, 3) ? 1ull << (signal_number(t) - 1 & 63) | 1ull << below(t, 64) : ONE_OF(t, 0, 0, -1, 0x2000);
        return (uint64_t)set;
    }
    case 'J': {
        stack_t *stack = room(t, sizeof *stack);
        *stack = (stack_t){(void *)AREA + 20 * 4096, below(t, 4) ? 0 : SS_DISABLE, 4 * 4096};
        return (uint64_t)stack;
    }
    case 'u': return AREA + below(t, 6) * 4 + below(t, 2) * 17 * 4096;
    case 'U': return below(t, 3);
    case 'O': return ONE_OF(t, 0, 0, 0, 1, 1, 1, 3, 4, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13) | ONE_OF(t, 0, 128, 0, 256);
    case 'N': return (uint64_t)robust_list(t);
    case 'D': return ONE_OF(t, MAP_SHARED | MAP_FIXED, MAP_PRIVATE | MAP_FIXED, MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS,
                            MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, MAP_SHARED, MAP_PRIVATE, MAP_SHARED | MAP_FIXED,
                            MAP_SHARED | MAP_POPULATE, MAP_PRIVATE | MAP_FIXED | MAP_GROWSDOWN | MAP_ANONYMOUS);
    case 'j': return below(t, 8) ? 1 + below(t, 4) : 0;
    case 'g': return below(t, 8) ? below(t, 4) : draw(t) & 0x7fff;
    case 'c': return below(t, 4) ? ONE_OF(t, 1, 2, 3, 11, 12, 13, 14, 15, 17, 18, 19) : 0;
    case 'y': return ONE_OF(t, 11, 12, 14, 15, 16, 16, 16);
    case 'F': return ONE_OF(t, 0, 0600 | IPC_CREAT, 0600 | IPC_CREAT, IPC_NOWAIT, IPC_NOWAIT, IPC_EXCL | IPC_CREAT | 0600);
    case '%': {
        struct sembuf *parts = room(t, 5 * sizeof *parts);
        for (int i = 0; i < 5; i++)
            parts[i] = (struct sembuf){below(t, 3), (short)below(t, 5) - 2, ONE_OF(t, 0, 0, SEM_UNDO, IPC_NOWAIT)};
        return (uint64_t)parts;
    }
    case '&': {
        long *text = room(t, 256);
        *text = 1 + below(t, 3);
        return (uint64_t)text;
    }
    case 'Q': {
        char *name = room(t, 8);
        return (uint64_t)strcpy(name, below(t, 2) ? "q0" : "q1");
    }
    case '~': {
        struct sigevent *event = room(t, sizeof *event);
        event->sigev_notify = ONE_OF(t, 0, 0, 1, 4);
        event->sigev_signo = signal_number(t);
        ((int *)event)[4] = pid(t);
        return (uint64_t)event;
    }
    case 'Y': return ONE_OF(t, 0, 1, 1, 2, 3, 7);
    default:
        switch (below(t, 8)) {
        case 0: return draw(t);
        case 1: return 1ull << below(t, 64);
        case 2: return -1;
        case 3: return 0;
        case 4: return below(t, 10000);
        case 5: return -4096;
        default: return buffer(t);
        }
    }
}

/* Writes into memory that others look at. */
static void poke(struct task *t) {
    uint64_t at = below(t, 2) ? argument(t, 'u') : buffer(t);
    int value = below(t, 2) ? below(t, 3) : ONE_OF(t, 0, -1, FUTEX_WAITERS, 1 << 30) | pid(t);
    *(volatile int *)at = value;
}

/* Makes a task that shares any of what tasks can share. */
static void spawn(struct task *t) {
    int place = __atomic_add_fetch(&all->tasks, 1, __ATOMIC_SEQ_CST);
    if (place >= TASKS)
        return;
    struct task *child = &tasks[place];
    child->state = draw(t);
    child->left = 10 + below(t, 60);
    const int thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    long id = -1;
    int way = below(t, 12), word = below(t, 6) * 4;
    switch (way) {
    case 0: case 1: id = call(SYS_fork, 0, 0, 0, 0, 0, 0); break;
    case 2: id = call(SYS_vfork, 0, 0, 0, 0, 0, 0); break;
    case 3: {
        uint64_t *args = room(t, 88);
        args[0] = ONE_OF(t, 0, CLONE_PIDFD, CLONE_FILES, CLONE_FS, CLONE_PARENT, 1ll << 32, CLONE_VFORK, CLONE_PARENT_SETTID);
        args[1] = buffer(t), args[3] = buffer(t), args[4] = below(t, 2) ? SIGCHLD : signal_number(t);
        id = call(SYS_clone3, args, 88, 0, 0, 0, 0);
        break;
    }
    default: {
        int flags = thread | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
        if (way > 8)
            flags = ONE_OF(t, 0, CLONE_VM, CLONE_VM | CLONE_FILES, CLONE_FILES | CLONE_FS, CLONE_VM | CLONE_SIGHAND,
                           CLONE_VM | CLONE_VFORK, CLONE_PARENT, CLONE_VM | CLONE_FS | CLONE_CHILD_CLEARTID, CLONE_PTRACE,
                           CLONE_CHILD_SETTID, CLONE_VM | CLONE_SIGHAND | CLONE_FILES | CLONE_PARENT, CLONE_IO) |
                    (below(t, 4) ? SIGCHLD : signal_number(t) & 63);
        void *top = stacks[place] + STACK - 64;
        id = clone(work, top, flags, child, (int *)AREA + word / 4, 0, (int *)AREA + word / 4);
        break;
    }
    }
    if (id == 0)
        call(SYS_exit, work(child), 0, 0, 0, 0, 0);
    if (id > 0)
        all->pids[below(t, 16)] = id;
    made(t, 1000, id);
}

/* Goes on as another image of this program. */
static void execute(struct task *t) {
    char *seed = room(t, 24), *end = seed + 20;
    for (uint64_t n = draw(t) >> 8; n; n /= 10)
        *--end = '0' + n % 10;
    char *args[] = {"again", end, "0", "again", 0}, *env[] = {0};
    made(t, 1001, call(SYS_execve, "/proc/self/exe", args, env, 0, 0, 0));
}
