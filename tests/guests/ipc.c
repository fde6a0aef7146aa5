/* System V IPC and POSIX message queues: what Linux does with them, in lines. The first argument says which
 * part. Everything is private, or named by the process's number, and is removed at the end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))
#define PAGE 4096

static const char *error(long result) { return result < 0 ? strerrorname_np(errno) : "0"; }
static const char *attached(void *at) { return at == (void *)-1 ? strerrorname_np(errno) : "0"; }

static int operate(int set, int number, int change, int flags) {
    struct sembuf part = {number, change, flags};
    return semop(set, &part, 1);
}

static long attachments(int id) {
    struct shmid_ds ds;
    return shmctl(id, IPC_STAT, &ds) ? -1 : (long)ds.shm_nattch;
}

/* Waits until so many operations wait for a semaphore. */
static void until_waiting(int set, int number, int count, int zero) {
    while (semctl(set, number, zero ? GETZCNT : GETNCNT) < count) usleep(1000);
}

static int status_of(pid_t child) {
    int status;
    waitpid(child, &status, 0);
    return status;
}

/* A counter in shared memory, with a semaphore as its lock. */
static void counter(void) {
    enum { CHILDREN = 4, TURNS = 200 };
    int id = shmget(IPC_PRIVATE, 100, IPC_CREAT | 0600), set = semget(IPC_PRIVATE, 1, 0600);
    volatile int *value = shmat(id, NULL, 0);
    semctl(set, 0, SETVAL, 1);
    for (int n = 0; n < CHILDREN; n++)
        if (!fork()) {
            for (int i = 0; i < TURNS; i++) {
                operate(set, 0, -1, 0);
                int seen = *value;
                if (i % 8 == 0) sched_yield();
                *value = seen + 1;
                operate(set, 0, 1, 0);
            }
            _exit(0);
        }
    for (int n = 0; n < CHILDREN; n++) wait(NULL);
    SAY("counted %d, lock %d, attached %ld\n", *value, semctl(set, 0, GETVAL), attachments(id));
    struct semid_ds ds;
    semctl(set, 0, IPC_STAT, &ds);
    SAY("%lu semaphores, mode %o, used %d\n", ds.sem_nsems, ds.sem_perm.mode, ds.sem_otime > 0);
    semctl(set, 0, IPC_RMID);
    shmctl(id, IPC_RMID, NULL);
    SAY("gone: %s, still there: %d\n", error(semctl(set, 0, GETVAL)), *value);
}

static void *attach_thread(void *id) { return shmat(*(int *)id, NULL, 0); }

/* What counts as an attachment, and when a segment goes. */
static void shared(void) {
    int id = shmget(IPC_PRIVATE, 3 * PAGE + 1, 0640);
    struct shmid_ds ds;
    shmctl(id, IPC_STAT, &ds);
    SAY("size %zu, mode %o, attached %ld, mine %d, last %d, times %d %d %d\n", ds.shm_segsz, ds.shm_perm.mode,
        (long)ds.shm_nattch, ds.shm_cpid == getpid(), ds.shm_lpid, ds.shm_atime > 0, ds.shm_dtime > 0,
        ds.shm_ctime > 0);
    char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    strcpy(a, "hello");
    SAY("same %s, attached %ld\n", b, attachments(id));
    SAY("write protected: %s\n", error(mprotect(b, PAGE, PROT_READ | PROT_WRITE)));
    munmap(a + PAGE, PAGE);
    SAY("hole: attached %ld\n", attachments(id));
    SAY("wrong address %s", error(shmdt(a + PAGE + 1)));
    SAY(", between %s\n", error(shmdt(a + 3 * PAGE)));
    SAY("detach all parts: %s", error(shmdt(a)));
    SAY(", attached %ld\n", attachments(id));
    SAY("again: %s\n", error(shmdt(a)));
    munmap(b, PAGE);
    SAY("tail: attached %ld\n", attachments(id));
    SAY("tail detached at its old start: %s", error(shmdt(b)));
    SAY(", attached %ld\n", attachments(id));

    a = shmat(id, NULL, 0);
    SAY("kept: %s\n", a);
    pid_t child = fork();
    if (!child) {
        SAY("child: attached %ld\n", attachments(id));
        a[0] = 'j';
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    status_of(child);
    shmctl(id, IPC_STAT, &ds);
    SAY("after exec and exit: %s, attached %ld, last %d\n", a, (long)ds.shm_nattch, ds.shm_lpid == child);

    char *at = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SAY("taken: %s\n", attached(shmat(id, at, 0)));
    SAY("remap: %d\n", shmat(id, at, SHM_REMAP) == at);
    SAY("rounded: %d\n", shmat(id, at + PAGE + 5, SHM_REMAP | SHM_RND) == at + PAGE);
    SAY("unaligned: %s\n", attached(shmat(id, at + 5, 0)));
    SAY("nowhere: %s", attached(shmat(id, NULL, SHM_REMAP)));
    SAY(" %s\n", attached(shmat(id, (void *)5, SHM_REMAP | SHM_RND)));
    SAY("attached %ld, %s %s\n", attachments(id), at, at + PAGE);
    munmap(at, 8 * PAGE);
    char *code = shmat(id, NULL, SHM_EXEC);
    memcpy(code, "\xb8\x2a\0\0\0\xc3", 6);
    SAY("executed: %d\n", ((int (*)(void))code)());
    char line[256], name[32];
    snprintf(name, sizeof name, "%lx-", (long)code);
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        if (!strncmp(line, name, strlen(name))) SAY("%.4s %s", strchr(line, ' ') + 1, strchr(line, '/'));
    fclose(maps);
    shmdt(code);
    pthread_t thread;
    void *other;
    pthread_create(&thread, NULL, attach_thread, &id);
    pthread_join(thread, &other);
    SAY("a thread's: %.0s%ld\n", (char *)other, attachments(id));
    shmdt(other);

    SAY("removed: %s", error(shmctl(id, IPC_RMID, NULL)));
    SAY(", attached %ld", attachments(id));
    SAY(", again %s\n", error(shmctl(id, IPC_RMID, NULL)));
    shmctl(id, IPC_STAT, &ds);
    SAY("mode %o, key %d\n", ds.shm_perm.mode, ds.shm_perm.__key);
    b = shmat(id, NULL, 0);
    SAY("still: %d\n", b[0] == a[0]);
    shmdt(a);
    SAY("and still: attached %ld\n", attachments(id));
    child = fork();
    if (!child) {
        SAY("child's own: %ld\n", attachments(id));
        pause();
    }
    while (attachments(id) != 2) usleep(1000);
    usleep(10000);
    shmdt(b);
    SAY("the child's: %ld\n", attachments(id));
    kill(child, SIGKILL);
    SAY("killed %x:", status_of(child));
    SAY(" %s", error(attachments(id)));
    SAY(" %s\n", attached(shmat(id, NULL, 0)));

    id = shmget(getpid(), 5, IPC_CREAT | IPC_EXCL | 0600);
    SAY("by key: %d %d", id == shmget(getpid(), 0, 0), id == shmget(getpid(), 5, IPC_CREAT | 0600));
    SAY(" %s", error(shmget(getpid(), 6, 0)));
    SAY(" %s\n", error(shmget(getpid(), 5, IPC_CREAT | IPC_EXCL)));
    shmctl(id, IPC_STAT, &ds);
    ds.shm_perm.mode = 0444 | 07000;
    SAY("set: %s", error(shmctl(id, IPC_SET, &ds)));
    shmctl(id, IPC_STAT, &ds);
    SAY(" %o\n", ds.shm_perm.mode);
    SAY("lock: %s", error(shmctl(id, SHM_LOCK, NULL)));
    shmctl(id, IPC_STAT, &ds);
    SAY(" %o, unlock %s\n", ds.shm_perm.mode, error(shmctl(id, SHM_UNLOCK, NULL)));
    struct shminfo info;
    struct shm_info used;
    int highest = shmctl(id, IPC_INFO, (void *)&info);
    SAY("info %d: %lx %lu %lu %lu %lx\n", highest >= 0, info.shmmax, info.shmmin, info.shmmni,
        info.shmseg, info.shmall);
    int index = shmctl(0, SHM_INFO, (void *)&used), found = 0;
    for (int n = 0; n <= index; n++) found |= shmctl(n, SHM_STAT, &ds) == id;
    SAY("used %d, found %d %d\n", used.used_ids > 0, found, shmctl(id & 32767, SHM_STAT_ANY, &ds) == id);
    shmctl(id, IPC_RMID, NULL);
    SAY("key: %s\n", error(shmget(getpid(), 0, 0)));
}

static void caught(int signal) {}

/* Operations that wait: their order, and how a wait ends. */
static void semaphores(void) {
    int set = semget(IPC_PRIVATE, 3, 0600);
    unsigned short values[3] = {1, 2, 3}, seen[3];
    semctl(set, 0, SETALL, values);
    semctl(set, 0, GETALL, seen);
    SAY("values %d %d %d, by %d\n", seen[0], seen[1], seen[2], semctl(set, 1, GETPID) == getpid());
    struct sembuf both[] = {{0, -1, 0}, {1, -3, IPC_NOWAIT}};
    SAY("all or nothing: %s", error(semop(set, both, 2)));
    SAY(" %d\n", semctl(set, 0, GETVAL));
    struct sembuf twice[] = {{0, -1, 0}, {0, 0, 0}, {0, 5, 0}, {2, 0, IPC_NOWAIT}};
    SAY("in order: %s", error(semop(set, twice, 3)));
    SAY(" %d", semctl(set, 0, GETVAL));
    semctl(set, 0, SETVAL, 1);
    SAY(", %s", error(semop(set, twice, 4)));
    SAY(" %d\n", semctl(set, 0, GETVAL));
    SAY("too much: %s", error(operate(set, 0, 32767, 0)));
    SAY(" %s\n", error(operate(set, 0, -32768, IPC_NOWAIT)));

    semctl(set, 0, SETVAL, 0);
    int pipes[2];
    pipe(pipes);
    /* Whoever came first goes first, if it can. */
    static const int wanted[] = {-3, -1, -2, -1};
    for (int n = 0; n < 4; n++) {
        if (!fork()) {
            operate(set, 0, wanted[n], 0);
            char name = 'a' + n;
            write(pipes[1], &name, 1);
            operate(set, 1, 1, 0);
            _exit(0);
        }
        until_waiting(set, 0, n + 1, 0);
    }
    semctl(set, 1, SETVAL, 0);
    SAY("waiting %d\n", semctl(set, 0, GETNCNT));
    char order[5] = "";
    static const int given[] = {1, 1, 1, 4}, ready[] = {1, 2, 2, 4};
    for (int n = 0; n < 4; n++) {
        operate(set, 0, given[n], 0);
        while (semctl(set, 1, GETVAL) < ready[n]) usleep(1000);
        SAY("gave %d: %d left, %d wait\n", given[n], semctl(set, 0, GETVAL), semctl(set, 0, GETNCNT));
    }
    for (int n = 0; n < 4; n++) wait(NULL);
    read(pipes[0], order, 4);
    SAY("first %c, then %c\n", order[0], order[1]);

    /* Zero is seen by who waits for it, even if it does not last. */
    semctl(set, 2, SETVAL, 1);
    for (int n = 0; n < 2; n++) {
        if (!fork()) _exit(operate(set, 2, 0, 0) ? 1 : 7);
        until_waiting(set, 2, n + 1, 1);
    }
    pid_t child = fork();
    if (!child) {
        struct sembuf down_up[] = {{2, -2, 0}, {2, 3, 0}};
        _exit(semop(set, down_up, 2) ? 1 : 8);
    }
    until_waiting(set, 2, 1, 0);
    operate(set, 2, -1, 0);
    int sum = 0, status;
    for (int n = 0; n < 2; n++) wait(&status), sum += WEXITSTATUS(status);
    SAY("saw zero: %d, one waits: %d\n", sum, semctl(set, 2, GETNCNT));
    operate(set, 2, 2, 0);
    SAY("status %x", status_of(child));
    SAY(", value %d\n", semctl(set, 2, GETVAL));

    /* Time, signals and removal. */
    struct timespec short_time = {0, 20000000}, none = {0, 0}, bad = {0, 1000000000};
    struct sembuf down = {0, -100, 0};
    SAY("times: %s", error(semtimedop(set, &down, 1, &short_time)));
    SAY(" %s", error(semtimedop(set, &down, 1, &none)));
    SAY(" %s", error(semtimedop(set, &down, 1, &bad)));
    SAY(" waiting %d\n", semctl(set, 0, GETNCNT));
    signal(SIGALRM, caught);
    alarm(1);
    SAY("signal: %s", error(semop(set, &down, 1)));
    SAY(" waiting %d\n", semctl(set, 0, GETNCNT));
    child = fork();
    if (!child) {
        SAY("removed: %s\n", error(semop(set, &down, 1)));
        _exit(0);
    }
    until_waiting(set, 0, 1, 0);
    semctl(set, 0, IPC_RMID);
    status_of(child);
    SAY("gone: %s\n", error(semop(set, &down, 1)));
    struct seminfo info;
    int highest = semctl(0, 0, IPC_INFO, &info);
    SAY("info %d: %d %d %d %d %d %d %d\n", highest >= 0, info.semmni, info.semmns, info.semmnu,
        info.semmsl, info.semopm, info.semvmx, info.semaem);
}

/* What is undone when a process ends, and what a killed one leaves. */
static void undo(void) {
    int set = semget(IPC_PRIVATE, 2, 0600);
    semctl(set, 0, SETVAL, 1);
    semctl(set, 1, SETVAL, 5);
    pid_t child = fork();
    if (!child) {
        operate(set, 0, -1, SEM_UNDO);
        operate(set, 1, -2, SEM_UNDO);
        operate(set, 1, 1, 0);
        pause();
    }
    while (semctl(set, 1, GETVAL) != 4) usleep(1000);
    SAY("held %d\n", semctl(set, 0, GETVAL));
    pid_t waiter = fork();
    if (!waiter) _exit(operate(set, 0, -1, SEM_UNDO) ? 1 : 9);
    until_waiting(set, 0, 1, 0);
    kill(child, SIGKILL);
    SAY("killed %x", status_of(child));
    SAY(", undone %d", semctl(set, 1, GETVAL));
    SAY(", waiter %x\n", status_of(waiter));
    SAY("by %d, value %d\n", semctl(set, 0, GETPID) == waiter, semctl(set, 0, GETVAL));

    /* Not by a fork, not by an exec, only by the end of whoever did it. */
    operate(set, 0, -1, SEM_UNDO);
    if (!(child = fork())) _exit(0);
    status_of(child);
    SAY("a fork: %d\n", semctl(set, 0, GETVAL));
    operate(set, 0, 1, SEM_UNDO);
    if (!(child = fork())) {
        operate(set, 0, 3, SEM_UNDO);
        execl("/bin/sh", "sh", "-c", "sleep 0.05", NULL);
    }
    while (semctl(set, 0, GETVAL) != 4) usleep(1000);
    status_of(child);
    SAY("an exec: %d\n", semctl(set, 0, GETVAL));
    /* A value that is set is set. */
    if (!(child = fork())) {
        operate(set, 0, 2, SEM_UNDO);
        semctl(set, 0, SETVAL, 7);
        _exit(0);
    }
    status_of(child);
    SAY("set: %d\n", semctl(set, 0, GETVAL));
    /* It stays within what a semaphore can be. */
    if (!(child = fork())) {
        operate(set, 0, 20, SEM_UNDO);
        operate(set, 0, -27, 0);
        SAY("range: %s", error(operate(set, 1, 32000, SEM_UNDO)));
        operate(set, 1, -32000, 0);
        SAY(" %s\n", error(operate(set, 1, 800, SEM_UNDO)));
        _exit(0);
    }
    status_of(child);
    SAY("clamped: %d %d\n", semctl(set, 0, GETVAL), semctl(set, 1, GETVAL));
    /* Killed while it waits. */
    if (!(child = fork())) _exit(operate(set, 0, -1, SEM_UNDO));
    until_waiting(set, 0, 1, 0);
    kill(child, SIGKILL);
    status_of(child);
    SAY("killed while it waits: %d waiting\n", semctl(set, 0, GETNCNT));
    semctl(set, 0, IPC_RMID);
}

struct message {
    long type;
    char text[64];
};

static int sends(int queue, long type, const char *text, int flags) {
    struct message message = {type};
    strcpy(message.text, text);
    return msgsnd(queue, &message, strlen(text) + 1, flags);
}

static const char *takes(int queue, long type, size_t size, int flags) {
    static struct message message;
    static char said[100];
    memset(&message, 0, sizeof message);
    long n = msgrcv(queue, &message, size, type, flags);
    if (n < 0) return strerrorname_np(errno);
    snprintf(said, sizeof said, "%ld %ld %.*s", n, message.type, (int)n, message.text);
    return said;
}

static void messages(void) {
    int queue = msgget(IPC_PRIVATE, 0600);
    struct msqid_ds ds;
    static const struct { long type; const char *text; } all[] = {{5, "five"}, {3, "three"}, {2, "two"}, {3, "drei"}, {9, "nine"}};
    for (int n = 0; n < 5; n++) sends(queue, all[n].type, all[n].text, 0);
    msgctl(queue, IPC_STAT, &ds);
    SAY("%lu messages, %lu bytes of %lu, by %d, times %d %d\n", ds.msg_qnum, ds.__msg_cbytes, ds.msg_qbytes,
        ds.msg_lspid == getpid(), ds.msg_stime > 0, ds.msg_rtime > 0);
    /* By their places, where they stay (MSG_COPY). */
    for (int n = -1; n < 6; n++) SAY("place %d: %s\n", n, takes(queue, n, 64, 040000 | IPC_NOWAIT));
    SAY("too long to copy: %s\n", takes(queue, 0, 2, 040000 | IPC_NOWAIT));
    SAY("copied in part: %s\n", takes(queue, 0, 2, 040000 | IPC_NOWAIT | MSG_NOERROR));
    SAY("of all but some: %s\n", takes(queue, 0, 64, 040000 | IPC_NOWAIT | MSG_EXCEPT));
    msgctl(queue, IPC_STAT, &ds);
    SAY("%lu messages, times %d\n", ds.msg_qnum, ds.msg_rtime > 0);
    SAY("by type: %s\n", takes(queue, 3, 64, 0));
    SAY("up to: %s\n", takes(queue, -4, 64, 0));
    SAY("except: %s\n", takes(queue, 5, 64, MSG_EXCEPT));
    SAY("too long: %s\n", takes(queue, 0, 2, 0));
    SAY("cut: %s\n", takes(queue, 0, 2, MSG_NOERROR));
    SAY("none: %s\n", takes(queue, 7, 64, IPC_NOWAIT));
    SAY("any: %s\n", takes(queue, 0, 64, 0));
    SAY("empty: %s\n", takes(queue, 0, 64, IPC_NOWAIT));

    /* Producer and consumer, with little room. */
    msgctl(queue, IPC_STAT, &ds);
    ds.msg_qbytes = 30;
    SAY("set: %s\n", error(msgctl(queue, IPC_SET, &ds)));
    pid_t child = fork();
    if (!child) {
        char text[16];
        for (int n = 0; n < 100; n++) {
            snprintf(text, sizeof text, "%d", n);
            sends(queue, n % 3 + 1, text, 0);
        }
        sends(queue, 4, "end", 0);
        _exit(0);
    }
    long sum = 0, count = 0;
    struct message message;
    do {
        msgrcv(queue, &message, 64, 0, 0);
        sum += message.type == 4 ? 0 : atoi(message.text) * message.type;
        count++;
    } while (message.type != 4);
    status_of(child);
    SAY("received %ld, sum %ld\n", count, sum);
    while (sends(queue, 1, "123456789", IPC_NOWAIT) == 0) {}
    SAY("full: %s", error(-1));
    SAY(", %s", takes(queue, 0, 64, 0));
    SAY(", empty messages count: ");
    for (count = 0; !msgsnd(queue, &(struct message){1}, 0, IPC_NOWAIT); count++) {}
    SAY("%ld\n", count);
    while (strcmp(takes(queue, 0, 64, IPC_NOWAIT), "ENOMSG")) {}

    /* To those that wait, in the order in which they came. */
    int set = semget(IPC_PRIVATE, 1, 0600);
    static const struct { long type; size_t size; } wanted[] = {{2, 64}, {0, 3}, {-3, 64}, {0, 64}};
    int pipes[2];
    pipe(pipes);
    for (int n = 0; n < 4; n++) {
        if (!fork()) {
            operate(set, 0, 1, 0);
            char line[128];
            int len = snprintf(line, sizeof line, "%d: %s\n", n, takes(queue, wanted[n].type, wanted[n].size, 0));
            write(pipes[1], line, len);
            _exit(0);
        }
        operate(set, 0, -1, 0);
        usleep(30000);
    }
    char line[512];
    static const struct { long type; const char *text; } given[] = {{3, "three"}, {2, "two"}, {8, "last"}};
    for (int n = 0; n < 3; n++) {
        sends(queue, given[n].type, given[n].text, 0);
        for (int lines = n ? 1 : 2, at = 0; lines--;) {
            while (read(pipes[0], line + at, 1) == 1 && line[at++] != '\n') {}
            line[at] = 0;
            if (!lines) SAY("%s", n ? line : "one was too long\n");
        }
    }
    for (int n = 0; n < 4; n++) wait(NULL);
    signal(SIGALRM, caught);
    alarm(1);
    SAY("signal: %s\n", takes(queue, 0, 64, 0));
    msgctl(queue, IPC_STAT, &ds);
    ds.msg_qbytes = 2;
    msgctl(queue, IPC_SET, &ds);
    sends(queue, 1, "x", 0);
    alarm(1);
    SAY("signal: %s\n", error(sends(queue, 1, "x", 0)));
    for (int n = 0; n < 2; n++)
        if (!fork()) {
            operate(set, 0, 1, 0);
            const char *said = n ? takes(queue, 2, 64, 0) : error(sends(queue, 1, "x", 0));
            _exit(!strcmp(said, "EIDRM") ? 3 : 1);
        }
    operate(set, 0, -2, 0);
    usleep(50000);
    msgctl(queue, IPC_RMID, NULL);
    int status, removed = 0;
    while (wait(&status) > 0) removed += status == 0x300;
    SAY("removed: %d, gone: %s\n", removed, takes(queue, 0, 64, 0));
    semctl(set, 0, IPC_RMID);
    queue = msgget(getpid(), IPC_CREAT | 0600);
    SAY("by key: %d %s\n", queue == msgget(getpid(), 0), error(msgget(getpid(), IPC_CREAT | IPC_EXCL)));
    msgctl(queue, IPC_RMID, NULL);
    struct msginfo info;
    int highest = msgctl(0, IPC_INFO, (void *)&info);
    SAY("info %d: %d %d %d %d %d %d %d %d\n", highest >= 0, info.msgpool, info.msgmap,
        info.msgmax, info.msgmnb, info.msgmni, info.msgssz, info.msgtql, info.msgseg);
}

static char name[32];

static const char *mq_takes(mqd_t queue) {
    static char said[128];
    char text[65] = "";
    unsigned priority = 0;
    ssize_t n = mq_receive(queue, text, 64, &priority);
    if (n < 0) return strerrorname_np(errno);
    snprintf(said, sizeof said, "%zd %u %.*s", n, priority, (int)n, text);
    return said;
}

static void notified(int signal, siginfo_t *info, void *context) {
    SAY("signal %d code %d value %d from %d\n", signal - SIGRTMIN, info->si_code, info->si_value.sival_int,
        info->si_pid == getpid());
}

static struct timespec in_ms(long ms) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_nsec += ms * 1000000;
    time.tv_sec += time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    return time;
}

static void *receives(void *queue) {
    static char said[128];
    strcpy(said, mq_takes(*(mqd_t *)queue));
    return said;
}

static void posix(void) {
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 64}, got;
    snprintf(name, sizeof name, "/dejavm-%d", getpid());
    mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &attr);
    SAY("made %d, again %s\n", queue >= 0, error(mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attr)));
    SAY("close on exec %d, flags %o\n", fcntl(queue, F_GETFD), fcntl(queue, F_GETFL) & O_ACCMODE);
    struct pollfd poll_for = {queue, POLLIN | POLLOUT};
    poll(&poll_for, 1, 0);
    SAY("empty: ready %x, %s\n", poll_for.revents, mq_takes(queue));
    static const struct { unsigned priority; const char *text; } all[] = {{1, "low"}, {7, "high"}, {1, "lower"}, {32767, "top"}};
    for (int n = 0; n < 4; n++) mq_send(queue, all[n].text, strlen(all[n].text), all[n].priority);
    poll(&poll_for, 1, 0);
    mq_getattr(queue, &got);
    SAY("full: ready %x, %s, %ld of %ld, %ld bytes, flags %d\n", poll_for.revents, error(mq_send(queue, "x", 1, 0)),
        got.mq_curmsgs, got.mq_maxmsg, got.mq_msgsize, got.mq_flags == O_NONBLOCK);
    SAY("first %s\n", mq_takes(queue));
    poll(&poll_for, 1, 0);
    SAY("some: ready %x\n", poll_for.revents);
    SAY("then %s", mq_takes(queue));
    SAY(", %s", mq_takes(queue));
    SAY(", %s\n", mq_takes(queue));
    SAY("errors: %s", error(mq_send(queue, "x", 1, 32768)));
    SAY(" %s", error(mq_send(queue, (char[65]){0}, 65, 0)));
    SAY(" %s", error(mq_receive(queue, (char[64]){0}, 63, NULL)));
    SAY(" %s", error(mq_send(0, "x", 1, 0)));
    SAY(" %s\n", error(write(queue, "x", 1)));

    /* Waiting, with a limit. */
    struct mq_attr flags = {.mq_flags = 0};
    mq_setattr(queue, &flags, &got);
    SAY("were non-blocking %d\n", got.mq_flags == O_NONBLOCK);
    struct timespec soon = in_ms(20), past = {1, 0}, bad = {1, 1000000000};
    char text[64];
    SAY("receive: %s", error(mq_timedreceive(queue, text, 64, NULL, &soon)));
    SAY(" %s", error(mq_timedreceive(queue, text, 64, NULL, &past)));
    SAY(" %s\n", error(mq_timedreceive(queue, text, 64, NULL, &bad)));
    for (int n = 0; n < 4; n++) mq_timedsend(queue, "m", 1, n, &past);
    soon = in_ms(20);
    SAY("send: %s", error(mq_timedsend(queue, "m", 1, 0, &soon)));
    SAY(" %s\n", error(mq_timedsend(queue, "m", 1, 0, &past)));
    pid_t child = fork();
    if (!child) {
        mq_send(queue, "waited", 6, 40000 - 7233);
        _exit(0);
    }
    usleep(30000);
    SAY("room: %s", mq_takes(queue));
    status_of(child);
    SAY(", %s\n", mq_takes(queue));
    for (int n = 0; n < 3; n++) mq_takes(queue);
    signal(SIGALRM, caught);
    siginterrupt(SIGALRM, 1);
    alarm(1);
    SAY("signal: %s", mq_takes(queue));
    siginterrupt(SIGALRM, 0);
    alarm(1);
    child = fork();
    if (!child) {
        sleep(2);
        mq_send(queue, "late", 4, 1);
        _exit(0);
    }
    SAY(", restarted: %s\n", mq_takes(queue));
    status_of(child);

    /* Whoever asked is told once, if nobody waits. */
    struct sigaction action = {.sa_sigaction = notified, .sa_flags = SA_SIGINFO};
    sigaction(SIGRTMIN + 1, &action, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 77};
    SAY("notify: %s", error(mq_notify(queue, &event)));
    SAY(" %s\n", error(mq_notify(queue, &event)));
    mq_send(queue, "one", 3, 0);
    mq_send(queue, "two", 3, 0);
    SAY("taken %s", mq_takes(queue));
    SAY(", %s", mq_takes(queue));
    SAY(", %s\n", error(mq_notify(queue, &event)));
    pthread_t thread;
    void *said;
    pthread_create(&thread, NULL, receives, &queue);
    usleep(50000);
    mq_send(queue, "direct", 6, 3);
    pthread_join(thread, &said);
    SAY("to who waits: %s\n", (char *)said);
    mq_send(queue, "told", 4, 3);
    SAY("then: %s\n", mq_takes(queue));
    mq_notify(queue, &event);
    SAY("taken back: %s\n", error(mq_notify(queue, NULL)));
    mq_send(queue, "silent", 6, 3);
    mq_takes(queue);
    event.sigev_notify = SIGEV_NONE;
    mq_notify(queue, &event);
    SAY("none: %s", error(mq_notify(queue, &event)));
    mq_send(queue, "x", 1, 3);
    mq_takes(queue);
    SAY(" %s\n", error(mq_notify(queue, &event)));
    int copy = dup(queue);
    close(copy);
    SAY("a close takes it back: %s", error(mq_notify(queue, &event)));
    child = fork();
    if (!child) _exit(mq_notify(queue, &event) ? errno : 0);
    SAY(", another's: %d\n", WEXITSTATUS(status_of(child)) == EBUSY);
    event.sigev_notify = 9;
    SAY("bad: %s", error(mq_notify(queue, &event)));
    event.sigev_notify = SIGEV_SIGNAL, event.sigev_signo = 65;
    SAY(" %s\n", error(mq_notify(queue, &event)));
    mq_notify(queue, NULL);

    /* Whoever polls is woken. */
    int set = epoll_create1(0);
    struct epoll_event watch = {EPOLLIN, {0}}, seen;
    SAY("watched: %s", error(epoll_ctl(set, EPOLL_CTL_ADD, queue, &watch)));
    child = fork();
    if (!child) {
        usleep(20000);
        mq_send(queue, "wake", 4, 0);
        _exit(0);
    }
    SAY(" %d", epoll_wait(set, &seen, 1, 20000));
    SAY(" %x\n", seen.events);
    status_of(child);
    close(set);

    /* It goes with its last descriptor. */
    mqd_t reader = mq_open(name, O_RDONLY), writer = mq_open(name, O_WRONLY);
    SAY("one way: %s", error(mq_send(reader, "x", 1, 0)));
    SAY(" %s\n", mq_takes(writer));
    SAY("unlinked: %s", error(mq_unlink(name)));
    SAY(" %s", error(mq_unlink(name)));
    SAY(" %s\n", error(mq_open(name, O_RDONLY)));
    SAY("still: %s\n", mq_takes(queue));
    struct stat stat;
    fstat(queue, &stat);
    SAY("mode %o\n", stat.st_mode);
    mq_close(queue);
    mqd_t other = mq_open(name, O_CREAT | O_RDWR, 0600, NULL);
    mq_getattr(other, &got);
    SAY("default: %ld %ld\n", got.mq_maxmsg, got.mq_msgsize);
    mq_unlink(name);
}

/* What is refused, and how. */
static void errors(void) {
    struct shmid_ds shm;
    struct sembuf part = {0, 1, 0}, many[501] = {{0}};
    struct message message = {1};
    char *bad = (char *)8;
    int queue = msgget(IPC_PRIVATE, 0600), set = semget(IPC_PRIVATE, 2, 0600), id = shmget(IPC_PRIVATE, 1, 0600);
#define TRY(call) SAY("%s: %s\n", #call, error((long)(call)))
    TRY(shmget(IPC_PRIVATE, 0, 0600));
    TRY(shmget(IPC_PRIVATE, -1, 0600));
    TRY(shmget(getpid(), 1, 0600));
    TRY(shmat(-1, NULL, 0));
    TRY(shmat(id + 32768, NULL, 0));
    TRY(shmat(id, (void *)0x800000000000, 0));
    TRY(shmdt(NULL));
    TRY(shmdt((void *)1));
    TRY(shmctl(-1, IPC_STAT, &shm));
    TRY(shmctl(id, IPC_STAT, (void *)bad));
    TRY(shmctl(id, IPC_SET, (void *)bad));
    TRY(shmctl(id, 99, NULL));
    TRY(shmctl(32767, SHM_STAT, &shm));
    TRY(semget(IPC_PRIVATE, 0, 0600));
    TRY(semget(IPC_PRIVATE, -1, 0600));
    TRY(semget(IPC_PRIVATE, 32001, 0600));
    TRY(semget(getpid(), 1, 0600));
    TRY(semop(set, NULL, 0));
    TRY(semop(set, many, 501));
    TRY(semop(set, (void *)bad, 1));
    TRY(semop(-1, &part, 1));
    TRY(semop(set + 32768, &part, 1));
    part.sem_num = 2;
    TRY(semop(set, &part, 1));
    TRY(syscall(SYS_semtimedop, set, &part, 1, bad));
    TRY(semctl(set, 2, GETVAL));
    TRY(semctl(set, -1, GETVAL));
    TRY(semctl(set, 2, SETVAL, 1));
    TRY(semctl(set, 0, SETVAL, -1));
    TRY(semctl(set, 0, SETVAL, 32768));
    TRY(semctl(set, 0, SETALL, bad));
    TRY(semctl(set, 0, GETALL, bad));
    unsigned short large[2] = {1, 40000};
    TRY(semctl(set, 0, SETALL, large));
    TRY(semctl(set, 0, IPC_STAT, bad));
    TRY(semctl(set, 0, 99));
    TRY(semctl(-1, 0, GETVAL));
    TRY(msgget(getpid(), 0600));
    TRY(msgsnd(queue, &message, 8193, 0));
    TRY(msgsnd(queue, &message, -1, 0));
    TRY(msgsnd(queue, (void *)bad, 1, 0));
    TRY(msgsnd(-1, &message, 1, 0));
    TRY(msgsnd(queue + 32768, &message, 1, 0));
    message.type = 0;
    TRY(msgsnd(queue, &message, 1, 0));
    TRY(msgrcv(queue, &message, -1, 0, 0));
    TRY(msgrcv(-1, &message, 1, 0, 0));
    TRY(msgrcv(queue, &message, 64, 0, 040000 /* MSG_COPY */));
    message.type = 1;
    msgsnd(queue, &message, 1, 0);
    TRY(msgrcv(queue, (void *)bad, 64, 0, 0));
    TRY(msgrcv(queue, &message, 64, 0, IPC_NOWAIT));
    TRY(msgctl(queue, IPC_STAT, (void *)bad));
    TRY(msgctl(queue, IPC_SET, (void *)bad));
    TRY(msgctl(queue, 99, NULL));
    TRY(mq_open("/", O_RDWR));
    TRY(mq_open("none", O_RDWR));
    TRY(syscall(SYS_mq_open, "a/b", O_CREAT | O_RDWR, 0600, NULL));
    TRY(syscall(SYS_mq_open, ".", O_CREAT | O_RDWR, 0600, NULL));
    TRY(syscall(SYS_mq_open, "", O_CREAT | O_RDWR, 0600, NULL));
    TRY(syscall(SYS_mq_open, bad, O_CREAT | O_RDWR, 0600, NULL));
    TRY(syscall(SYS_mq_open, "x", O_CREAT | O_RDWR, 0600, bad));
    char longest[300];
    memset(longest, 'x', 299), longest[299] = 0;
    TRY(syscall(SYS_mq_open, longest, O_CREAT | O_RDWR, 0600, NULL));
    snprintf(name, sizeof name, "/dejavm-%d", getpid());
    TRY(mq_open(name, O_RDWR));
    struct mq_attr attr = {.mq_maxmsg = 0, .mq_msgsize = 8};
    TRY(mq_open(name, O_CREAT | O_RDWR, 0600, &attr));
    attr.mq_maxmsg = 1, attr.mq_msgsize = -1;
    TRY(mq_open(name, O_CREAT | O_RDWR, 0600, &attr));
    attr.mq_maxmsg = 70000, attr.mq_msgsize = 1;
    TRY(mq_open(name, O_CREAT | O_RDWR, 0600, &attr));
    attr.mq_maxmsg = 10, attr.mq_msgsize = 17 << 20;
    TRY(mq_open(name, O_CREAT | O_RDWR, 0600, &attr));
    struct rlimit limit = {100000, 819200};
    setrlimit(RLIMIT_MSGQUEUE, &limit);
    mqd_t first = mq_open(name, O_CREAT | O_RDWR, 0600, NULL);
    TRY(mq_open("/dejavm-second", O_CREAT | O_RDWR, 0600, NULL));
    TRY(mq_unlink("/dejavm-none"));
    TRY(syscall(SYS_mq_unlink, "a/b"));
    TRY(syscall(SYS_mq_getsetattr, 0, NULL, NULL));
    TRY(syscall(SYS_mq_getsetattr, first, bad, NULL));
    attr.mq_flags = O_APPEND;
    TRY(mq_setattr(first, &attr, NULL));
    TRY(syscall(SYS_mq_getsetattr, first, NULL, bad));
    TRY(syscall(SYS_mq_notify, first, bad));
    TRY(syscall(SYS_mq_notify, 0, NULL));
    struct sigevent thread = {.sigev_notify = SIGEV_THREAD, .sigev_signo = 99, .sigev_value.sival_ptr = longest};
    TRY(syscall(SYS_mq_notify, first, &thread));
    thread.sigev_signo = first;
    TRY(syscall(SYS_mq_notify, first, &thread));
    thread.sigev_value.sival_ptr = bad;
    TRY(syscall(SYS_mq_notify, first, &thread));
    TRY(mq_send(first, bad, 5, 0));
    TRY(mq_send(77, "x", 1, 0));

    /* Somebody else. */
    mq_unlink(name);
    mq_close(first);
    first = mq_open(name, O_CREAT | O_RDWR, 0640, NULL);
    SAY("made again: %d\n", first >= 0);
    int key = getpid();
    int public = semget(IPC_PRIVATE, 1, 0604);
    shmctl(id, IPC_RMID, NULL);
    id = shmget(key, 8, IPC_CREAT | 0640);
    SAY("in between\n");
    pid_t child = fork();
    if (!child) {
        setgid(1234);
        setuid(1234);
        TRY(shmget(key, 8, 0400));
        TRY(shmat(id, NULL, SHM_RDONLY));
        TRY(shmctl(id, IPC_STAT, &shm));
        TRY(shmctl(id, IPC_RMID, NULL));
        TRY(shmctl(id, IPC_SET, &shm));
        TRY(shmctl(id, SHM_LOCK, NULL));
        TRY(semctl(set, 0, GETVAL));
        TRY(semctl(public, 0, GETVAL));
        TRY(semctl(public, 0, SETVAL, 1));
        TRY(operate(public, 0, 0, 0));
        TRY(operate(public, 0, 1, 0));
        TRY(semctl(public, 0, IPC_RMID));
        message.type = 1;
        TRY(msgsnd(queue, &message, 1, 0));
        TRY(msgrcv(queue, &message, 1, 0, IPC_NOWAIT));
        TRY(msgctl(queue, IPC_RMID, NULL));
        TRY(mq_open(name, O_RDONLY));
        TRY(mq_unlink(name));
        attr.mq_maxmsg = 11, attr.mq_msgsize = 8, attr.mq_flags = 0;
        TRY(mq_open("/dejavm-mine", O_CREAT | O_RDWR, 0600, &attr));
        TRY(mq_unlink("/dejavm-mine"));
        _exit(0);
    }
    status_of(child);
    mq_unlink(name);
    shmctl(id, IPC_RMID, NULL);
    semctl(set, 0, IPC_RMID);
    semctl(public, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, NULL);
}

/* A server and a client that talk by all three kinds for a while: to be stopped and gone on with. */
static void talk(void) {
    int id = shmget(IPC_PRIVATE, 64 * PAGE, 0600), set = semget(IPC_PRIVATE, 2, 0600), queue = msgget(IPC_PRIVATE, 0600);
    struct mq_attr attr = {.mq_maxmsg = 2, .mq_msgsize = 64};
    snprintf(name, sizeof name, "/dejavm-%d", getpid());
    mqd_t posix = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
    mq_unlink(name);
    char *shared = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    struct message message;
    pid_t child = fork();
    if (!child) {
        for (int n = 0;; n++) {
            operate(set, 0, -1, SEM_UNDO);
            int len = sprintf(shared + n % 64 * PAGE, "turn %d", n);
            sends(queue, 1 + n % 5, shared + n % 64 * PAGE, 0);
            if (mq_send(posix, shared + n % 64 * PAGE, len, n % 7)) _exit(1);
            operate(set, 1, 1, 0);
        }
    }
    unsigned long sum = 0;
    char line[32];
    for (int n = 0; n < 300; n++) {
        /* A line from standard input for the first few turns: a place to stop at. */
        if (n < 3) SAY("%zd\n", read(0, line, sizeof line));
        operate(set, 0, 1, 0);
        long got = msgrcv(queue, &message, 64, 1 + n % 5, 0);
        const char *other = mq_takes(posix);
        operate(set, 1, -1, 0);
        for (const char *c = message.text; *c; c++) sum = sum * 31 + *c;
        for (const char *c = other; *c; c++) sum = sum * 31 + *c;
        if (n % 50 == 0) SAY("%d: %ld %s, %s, %s\n", n, got, message.text, other, shared + n % 64 * PAGE);
    }
    until_waiting(set, 0, 1, 0);
    kill(child, SIGKILL);
    SAY("killed %x, sum %lx", status_of(child), sum);
    SAY(", undone %d, attached %ld\n", semctl(set, 0, GETVAL), attachments(id));
    semctl(set, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, NULL);
}

/* As many as there can be, of everything. Not to be run natively. */
static void greedy(void) {
    static char text[8192 + 8] = {1};
    const char *last[6];
    long count[6] = {0};
    while (shmget(IPC_PRIVATE, PAGE, 0600) >= 0) count[0]++;
    last[0] = strerrorname_np(errno);
    while (semget(IPC_PRIVATE, 32000, 0600) >= 0) count[1]++;
    last[1] = strerrorname_np(errno);
    int queue, last_queue = -1;
    while ((queue = msgget(IPC_PRIVATE, 0600)) >= 0) {
        last_queue = queue, count[2]++;
        for (int n = 0; n < 2; n++) msgsnd(queue, text, 8192, IPC_NOWAIT);
    }
    last[2] = strerrorname_np(errno);
    for (; count[3] < 100000; count[3]++) {
        char name[32];
        snprintf(name, sizeof name, "/%ld", count[3]);
        mqd_t made = mq_open(name, O_CREAT | O_RDWR, 0600, NULL);
        if (made < 0) break;
        mq_close(made);
    }
    last[3] = strerrorname_np(errno);
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_MSGQUEUE, &all);
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 16 << 20};
    for (; count[4] < 100000; count[4]++) {
        char name[32];
        snprintf(name, sizeof name, "/large-%ld", count[4]);
        mqd_t made = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
        if (made < 0) break;
        mq_close(made);
    }
    last[4] = strerrorname_np(errno);
    while (shmget(IPC_PRIVATE, 1 << 20, 0600) >= 0) count[5]++;
    last[5] = strerrorname_np(errno);
    for (int n = 0; n < 6; n++) SAY("%d: some %d, then %s\n", n, count[n] > 0, last[n]);
    /* All of it can be given back. */
    struct shmid_ds ds;
    for (int n = shmctl(0, SHM_INFO, &(struct shmid_ds){}); n >= 0; n--) shmctl(shmctl(n, SHM_STAT, &ds), IPC_RMID, NULL);
    for (int n = 0; n < 32768; n++) {
        struct semid_ds sem;
        struct msqid_ds msg;
        int id = semctl(n, 0, SEM_STAT, &sem);
        if (id >= 0) semctl(id, 0, IPC_RMID);
        id = msgctl(n, MSG_STAT, &msg);
        if (id >= 0) msgctl(id, IPC_RMID, NULL);
    }
    void *memory = mmap(NULL, 100 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SAY("given back: %d\n", memory != MAP_FAILED);
}

int main(int argc, char **argv) {
    const char *part = argc > 1 ? argv[1] : "";
    if (!strcmp(part, "counter")) counter();
    if (!strcmp(part, "shared")) shared();
    if (!strcmp(part, "semaphores")) semaphores();
    if (!strcmp(part, "undo")) undo();
    if (!strcmp(part, "messages")) messages();
    if (!strcmp(part, "posix")) posix();
    if (!strcmp(part, "errors")) errors();
    if (!strcmp(part, "talk")) talk();
    if (!strcmp(part, "greedy")) greedy();
    SAY("to the end\n");
    return 0;
}
