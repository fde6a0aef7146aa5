/* A ring of processes and threads that hand a number on, each by a way to wait that is drawn from a seed, while
 * others are interrupted, stopped and let go on: the number comes down to nothing, or a wake-up was lost.
 * Arguments: seed, and the number. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PIPE, EVENT, STREAM, DGRAM, PACKET, QUEUE, SPLICED, SIGNAL, LAST_WITH_FD = SIGNAL,
       MSG, SEM, FUTEX, CHILD, FIFO, LISTEN, COND, POSIX_SEM, LOCK, DEATH, STOP, SUSPEND, KINDS };
#define MEMBERS 6

struct member {
    int kind, in, out, thread;
    volatile int pid, tid, word, value;
    uint64_t state;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    sem_t sem;
    pthread_t handle;
    int through[2];
};
static struct { int members, id; volatile int over; struct member of[MEMBERS]; } *all;

static uint64_t draw(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}
static int below(uint64_t *state, int n) { return draw(state) % n; }

static void fail(const char *what) {
    dprintf(2, "%s: %s\n", what, strerror(errno));
    _exit(9);
}
/* Makes a call again that a signal has interrupted. */
#define AGAIN(call) ({ long r_; while ((r_ = (long)(call)) == -1 && errno == EINTR) {} if (r_ == -1) fail(#call); r_; })

static int signal_of(struct member *m) { return SIGRTMIN + 2 + (m - all->of); }
static char *path_of(struct member *m, const char *what) {
    static __thread char path[64];
    sprintf(path, "/tmp/ring-%s-%d-%d", what, all->id, (int)(m - all->of));
    return path;
}

static void make_robust(struct member *m) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, 1);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    if (below(&m->state, 2)) pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&m->mutex, &attr);
}

/* The number comes as what a signal says. */
static void told(int signal, siginfo_t *info, void *context) {
    struct member *m = &all->of[signal - SIGRTMIN - 2];
    m->value = info->si_value.sival_int;
    __atomic_store_n(&m->word, 1, __ATOMIC_SEQ_CST);
}

static void prepare(struct member *m) {
    int pair[2] = {-1, -1};
    struct mq_attr attr = {.mq_maxmsg = 2, .mq_msgsize = 4};
    switch (m->kind) {
    case SPLICED: pipe(m->through); /* fall through */
    case PIPE: case CHILD: case LOCK: case STOP: pipe(pair); break;
    case EVENT: pair[0] = pair[1] = eventfd(0, 0); break;
    case STREAM: socketpair(AF_UNIX, SOCK_STREAM, 0, pair); break;
    case DGRAM: socketpair(AF_UNIX, SOCK_DGRAM, 0, pair); break;
    case PACKET: socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair); break;
    case QUEUE: {
        char name[16];
        sprintf(name, "/ring-%d", (int)(m - all->of));
        pair[0] = pair[1] = mq_open(name, O_RDWR | O_CREAT, 0600, &attr);
        mq_unlink(name);
        break;
    }
    case MSG: pair[0] = msgget(IPC_PRIVATE, 0600); break;
    case SEM: pair[0] = semget(IPC_PRIVATE, 1, 0600); break;
    case FIFO: unlink(path_of(m, "fifo")), pair[0] = mkfifo(path_of(m, "fifo"), 0600); break;
    case LISTEN: {
        struct sockaddr_un name = {AF_UNIX};
        strcpy(name.sun_path, path_of(m, "socket"));
        unlink(name.sun_path);
        pair[0] = socket(AF_UNIX, SOCK_STREAM, 0);
        if (bind(pair[0], (void *)&name, sizeof name) || listen(pair[0], 3)) fail("listen");
        break;
    }
    case COND: {
        pthread_mutexattr_t attr;
        pthread_condattr_t cond;
        pthread_mutexattr_init(&attr), pthread_condattr_init(&cond);
        pthread_mutexattr_setpshared(&attr, 1), pthread_condattr_setpshared(&cond, 1);
        if (below(&m->state, 2)) pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
        pthread_mutex_init(&m->mutex, &attr), pthread_cond_init(&m->cond, &cond);
        break;
    }
    case DEATH: pipe(pair), make_robust(m); break;
    case POSIX_SEM: sem_init(&m->sem, 1, 0); break;
    }
    m->in = pair[0], m->out = pair[1];
    if (m->kind <= LAST_WITH_FD && m->kind != SIGNAL && m->in < 0) fail("an inbox");
}

static void put(struct member *m, int value) {
    switch (m->kind) {
    case EVENT: AGAIN(write(m->out, &(uint64_t){value + MEMBERS}, 8)); break;
    case QUEUE: AGAIN(mq_send(m->out, (char *)&value, 4, 0)); break;
    case SIGNAL: case SUSPEND: {
        siginfo_t info = {.si_signo = signal_of(m), .si_code = SI_QUEUE};
        info.si_value.sival_int = value;
        info.si_pid = getpid();
        if (value & 1) AGAIN(syscall(SYS_rt_sigqueueinfo, m->pid, signal_of(m), &info));
        else AGAIN(syscall(SYS_rt_tgsigqueueinfo, m->pid, m->tid, signal_of(m), &info));
        break;
    }
    case MSG: {
        struct { long kind; int value; } text = {1 + (value & 3) % 3, value};
        AGAIN(msgsnd(m->in, &text, 4, 0));
        break;
    }
    case SEM: m->value = value; AGAIN(semop(m->in, &(struct sembuf){0, 2, 0}, 1)); break;
    case FUTEX:
        m->value = value;
        __atomic_store_n(&m->word, 1, __ATOMIC_SEQ_CST);
        if (value & 1) syscall(SYS_futex, &m->word, FUTEX_WAKE, 1, 0, 0, 0);
        else syscall(SYS_futex, &m->value, FUTEX_WAKE_OP, 1, 1, &m->word, FUTEX_OP(FUTEX_OP_OR, 1, FUTEX_OP_CMP_EQ, 1));
        break;
    case FIFO: {
        /* A reader that was interrupted is gone, and comes again. */
        for (long done = -1; done < 0;) {
            int fd = AGAIN(open(path_of(m, "fifo"), O_WRONLY));
            done = write(fd, &value, 4);
            close(fd);
        }
        __atomic_store_n(&m->word, 1, __ATOMIC_SEQ_CST);
        break;
    }
    case LISTEN: {
        struct sockaddr_un name = {AF_UNIX};
        strcpy(name.sun_path, path_of(m, "socket"));
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        AGAIN(connect(fd, (void *)&name, sizeof name));
        AGAIN(write(fd, &value, 4));
        close(fd);
        break;
    }
    case COND:
        pthread_mutex_lock(&m->mutex);
        m->value = value, m->word = 1;
        if (value & 1) pthread_cond_signal(&m->cond);
        else pthread_cond_broadcast(&m->cond);
        pthread_mutex_unlock(&m->mutex);
        break;
    case POSIX_SEM: m->value = value; sem_post(&m->sem); break;
    default: AGAIN(write(m->out, &value, 4));
    }
}

/* A process of which a thread has a mutex as it ends, once the number has come. */
struct holding { struct member *m; int ready; };
static void *holds(void *arg) {
    struct holding *h = arg;
    int value;
    pthread_mutex_lock(&h->m->mutex);
    write(h->ready, "", 1);
    AGAIN(read(h->m->in, &value, 4));
    h->m->value = value;
    if (value % 4 == 1) return NULL;
    if (value % 4 == 2) kill(getpid(), SIGKILL);
    /* Linux does not find what another thread than the first has. */
    if (value % 4 == 3 && gettid() == getpid()) execl("/proc/self/exe", "ring", NULL);
    _exit(0);
}

/* Waits until a descriptor can be read, in one of the ways there are. */
static void wait_for(uint64_t *s, int fd) {
    struct epoll_event event = {EPOLLIN}, got;
    struct pollfd one = {fd, POLLIN};
    struct timespec soon = {0, 300000};
    switch (below(s, 8)) {
    case 0: AGAIN(poll(&one, 1, -1)); break;
    case 1: while (poll(&one, 1, 1) < 1) {} break;
    case 2: while (ppoll(&one, 1, &soon, NULL) < 1) {} break;
    case 3: {
        fd_set set;
        do {
            FD_ZERO(&set);
            FD_SET(fd, &set);
        } while (select(fd + 1, &set, NULL, NULL, NULL) < 1);
        break;
    }
    case 4: case 5: {
        int inner = epoll_create1(0), outer = epoll_create1(0), wait = outer;
        if (below(s, 2)) event.events |= EPOLLET;
        if (below(s, 2)) event.events |= EPOLLONESHOT;
        epoll_ctl(inner, EPOLL_CTL_ADD, fd, &event);
        event.events = EPOLLIN | (below(s, 2) ? EPOLLET : 0);
        epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event);
        if (below(s, 2)) wait = inner;
        AGAIN(epoll_wait(wait, &got, 1, -1));
        close(inner), close(outer);
        break;
    }
    default: break;
    }
}

static int take(struct member *m) {
    uint64_t *s = &m->state, many;
    int value = -1, status;
    char text[128];
    struct timespec soon;
    if (m->kind < LAST_WITH_FD) wait_for(s, m->in);
    switch (m->kind) {
    case EVENT: AGAIN(read(m->in, &many, 8)); return many - MEMBERS;
    case QUEUE: AGAIN(mq_receive(m->in, (char *)&value, 4, NULL)); return value;
    case SPLICED:
        if (below(s, 2)) AGAIN(tee(m->in, m->through[1], 4, 0)), AGAIN(read(m->in, text, 4));
        else AGAIN(splice(m->in, NULL, m->through[1], NULL, 4, 0));
        AGAIN(read(m->through[0], &value, 4));
        return value;
    case SIGNAL: {
        sigset_t set;
        siginfo_t info;
        sigemptyset(&set), sigaddset(&set, signal_of(m));
        if (below(s, 2)) {
            int fd = signalfd(-1, &set, 0);
            struct signalfd_siginfo got;
            wait_for(s, fd);
            AGAIN(read(fd, &got, sizeof got));
            close(fd);
            return got.ssi_int;
        }
        soon = (struct timespec){0, 200000};
        if (below(s, 2)) while (sigtimedwait(&set, &info, &soon) < 0) {}
        else AGAIN(sigwaitinfo(&set, &info));
        return info.si_value.sival_int;
    }
    case MSG: {
        struct { long kind; int value; } got;
        AGAIN(msgrcv(m->in, &got, 4, below(s, 2) ? 0 : -3, 0));
        return got.value;
    }
    case SEM: {
        struct sembuf two = {0, -2, 0}, each[2] = {{0, -1, 0}, {0, -1, 0}};
        if (below(s, 2)) AGAIN(semop(m->in, each, 2));
        else AGAIN(semop(m->in, &two, 1));
        return m->value;
    }
    case FUTEX:
        soon = (struct timespec){0, 500000};
        while (__atomic_load_n(&m->word, __ATOMIC_SEQ_CST) == 0)
            syscall(SYS_futex, &m->word, FUTEX_WAIT, 0, below(s, 2) ? &soon : NULL, NULL, 0);
        m->word = 0;
        return m->value;
    case CHILD: {
        pid_t child = fork();
        if (child == 0) {
            AGAIN(read(m->in, &value, 4));
            m->value = value;
            _exit(0);
        }
        int how = below(s, 4), fd;
        if (how == 0) fd = syscall(SYS_pidfd_open, child, 0), wait_for(s, fd), close(fd);
        if (how == 1) AGAIN(waitid(P_PID, child, &(siginfo_t){0}, WEXITED | WNOWAIT));
        AGAIN(waitpid(child, &status, 0));
        return m->value;
    }
    case LOCK: {
        /* A child has a lock for as long as nothing comes. */
        int ready[2], fd;
        pipe(ready);
        fd = AGAIN(open(path_of(m, "lock"), O_RDWR | O_CREAT, 0600));
        pid_t child = fork();
        int how = below(s, 2);
        struct flock lock = {F_WRLCK, SEEK_SET, 0, 1};
        if (child == 0) {
            int own = AGAIN(open(path_of(m, "lock"), O_RDWR));
            if (how) AGAIN(flock(own, LOCK_EX));
            else AGAIN(fcntl(own, F_SETLKW, &lock));
            write(ready[1], "", 1);
            AGAIN(read(m->in, &value, 4));
            m->value = value;
            if (value & 1) close(own);
            _exit(0);
        }
        AGAIN(read(ready[0], text, 1));
        if (how) AGAIN(flock(fd, LOCK_EX));
        else AGAIN(fcntl(fd, F_SETLKW, &lock));
        flock(fd, LOCK_UN), close(fd), close(ready[0]), close(ready[1]);
        AGAIN(waitpid(child, &status, 0));
        return m->value;
    }
    case DEATH: {
        int ready[2];
        pthread_t thread;
        pipe(ready);
        struct holding h = {m, ready[1]};
        pid_t child = fork();
        if (child == 0) {
            if (below(s, 2)) holds(&h), _exit(0);
            pthread_create(&thread, NULL, holds, &h);
            pthread_join(thread, NULL);
            _exit(0);
        }
        below(s, 2);
        AGAIN(read(ready[0], text, 1));
        int error = pthread_mutex_lock(&m->mutex);
        if (error != EOWNERDEAD) errno = error, fail("a dead owner");
        pthread_mutex_consistent(&m->mutex), pthread_mutex_unlock(&m->mutex);
        AGAIN(waitpid(child, &status, 0));
        close(ready[0]), close(ready[1]);
        return m->value;
    }
    case STOP: {
        pid_t child = fork();
        if (child == 0) {
            AGAIN(read(m->in, &value, 4));
            m->value = value;
            raise(SIGSTOP);
            _exit(0);
        }
        siginfo_t info;
        if (below(s, 2)) AGAIN(waitid(P_PID, child, &info, WSTOPPED));
        else AGAIN(waitpid(child, &status, WUNTRACED));
        kill(child, SIGCONT);
        if (below(s, 2)) AGAIN(waitid(P_PID, child, &info, WCONTINUED | WEXITED | WNOWAIT));
        AGAIN(waitpid(child, &status, 0));
        return m->value;
    }
    case SUSPEND: {
        sigset_t set;
        pthread_sigmask(SIG_BLOCK, NULL, &set);
        sigdelset(&set, signal_of(m));
        while (!__atomic_exchange_n(&m->word, 0, __ATOMIC_SEQ_CST))
            switch (below(s, 3)) {
            case 0: sigsuspend(&set); break;
            case 1: ppoll(NULL, 0, NULL, &set); break;
            default: pselect(0, NULL, NULL, NULL, NULL, &set);
            }
        return m->value;
    }
    case FIFO: {
        int fd = AGAIN(open(path_of(m, "fifo"), O_RDONLY));
        while (AGAIN(read(fd, &value, 4)) == 0) usleep(50);
        close(fd);
        while (!__atomic_exchange_n(&m->word, 0, __ATOMIC_SEQ_CST)) usleep(50);
        return value;
    }
    case LISTEN: {
        wait_for(s, m->in);
        int fd = AGAIN(accept(m->in, NULL, NULL));
        wait_for(s, fd);
        AGAIN(read(fd, &value, 4));
        close(fd);
        return value;
    }
    case COND:
        pthread_mutex_lock(&m->mutex);
        while (!m->word) {
            clock_gettime(CLOCK_REALTIME, &soon);
            soon.tv_nsec = (soon.tv_nsec + 300000) % 1000000000;
            if (below(s, 2)) pthread_cond_wait(&m->cond, &m->mutex);
            else pthread_cond_timedwait(&m->cond, &m->mutex, &soon);
        }
        m->word = 0, value = m->value;
        pthread_mutex_unlock(&m->mutex);
        return value;
    case POSIX_SEM: AGAIN(sem_wait(&m->sem)); return m->value;
    default:
        if (AGAIN(read(m->in, &value, 4)) != 4) fail("a part");
        return value;
    }
}

static void *nothing(void *arg) { return arg; }

static void *work(void *arg) {
    struct member *m = arg, *next = &all->of[(m - all->of + 1) % all->members];
    int value, status;
    m->pid = getpid();
    __atomic_store_n(&m->tid, gettid(), __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &m->tid, FUTEX_WAKE, 100, 0, 0, 0);
    do {
        value = take(m);
        switch (below(&m->state, 10)) {
        case 0: usleep(below(&m->state, 300)); break;
        case 1: {
            pid_t child = fork();
            if (child == 0) _exit(0);
            AGAIN(waitpid(child, &status, 0));
            break;
        }
        case 2: {
            pthread_t thread;
            pthread_create(&thread, NULL, nothing, NULL);
            pthread_join(thread, NULL);
            break;
        }
        case 3: {
            pid_t child = vfork();
            if (child == 0) {
                if (value % 4 == 0) execl("/proc/self/exe", "ring", NULL);
                _exit(0);
            }
            AGAIN(waitpid(child, &status, 0));
            break;
        }
        }
        if (value > 1 - all->members) put(next, value - 1);
    } while (value > 0);
    return NULL;
}

static void interrupted(int signal) {}

/* Interrupts and stops the others, and lets them go on. */
static void disturb(uint64_t state) {
    while (!all->over) {
        struct member *m = &all->of[below(&state, all->members)];
        switch (below(&state, 4)) {
        case 0:
            if (!m->thread) {
                kill(m->pid, SIGSTOP);
                usleep(below(&state, 200));
                kill(m->pid, SIGCONT);
            }
            break;
        case 1: kill(m->pid, SIGUSR1); break;
        default: syscall(SYS_tgkill, m->pid, m->tid, SIGUSR1);
        }
        usleep(below(&state, 400));
    }
    _exit(0);
}

int main(int count, char **args) {
    if (count < 3) return 0;
    all = mmap(0, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t state = strtoull(args[1], 0, 0);
    int status, disturbers = below(&state, 3);
    struct sigaction action = {.sa_handler = interrupted, .sa_flags = below(&state, 2) ? SA_RESTART : 0};
    sigset_t set;
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    for (int i = 0; i < MEMBERS; i++) {
        struct sigaction tells = {.sa_sigaction = told, .sa_flags = SA_SIGINFO};
        sigaction(SIGRTMIN + 2 + i, &tells, NULL);
        sigaddset(&set, SIGRTMIN + 2 + i);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    all->id = getpid();
    all->members = 2 + below(&state, MEMBERS - 1);
    printf("ring");
    for (int i = 0; i < all->members; i++) {
        struct member *m = &all->of[i];
        m->state = draw(&state);
        m->kind = below(&state, KINDS);
        m->thread = below(&state, 2);
    }
    for (int i = 0; i < all->members; i++) {
        struct member *m = &all->of[i], *before = &all->of[(i + all->members - 1) % all->members];
        /* A fork of another thread would have the FIFO open, too. */
        if (m->kind == FIFO && (i == 0 || m->thread || before->thread)) m->kind = PIPE;
        printf(" %d%s", m->kind, m->thread ? "t" : "p");
        prepare(m);
    }
    printf("\n");
    fflush(stdout);
    pid_t children[MEMBERS], disturbing[2];
    for (int i = 0; i < all->members; i++) {
        struct member *m = &all->of[i];
        if (!m->thread && (children[i] = fork()) == 0) work(m), _exit(0);
    }
    for (int i = 0; i < all->members; i++) {
        struct member *m = &all->of[i];
        if (m->thread) pthread_create(&m->handle, NULL, work, m);
        while (__atomic_load_n(&m->tid, __ATOMIC_SEQ_CST) == 0) syscall(SYS_futex, &m->tid, FUTEX_WAIT, 0, 0, 0, 0);
    }
    for (int i = 0; i < disturbers; i++)
        if ((disturbing[i] = fork()) == 0) disturb(draw(&state) + i);
    put(&all->of[0], atoi(args[2]));
    for (int i = 0; i < all->members; i++) {
        struct member *m = &all->of[i];
        if (m->thread) pthread_join(m->handle, NULL);
        else AGAIN(waitpid(children[i], &status, 0));
        if (!m->thread && status) printf("%d ended with %x\n", i, status);
    }
    all->over = 1;
    for (int i = 0; i < disturbers; i++) AGAIN(waitpid(disturbing[i], &status, 0));
    printf("to the end\n");
    return 0;
}
