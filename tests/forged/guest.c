// Has some of everything that a machine state keeps; after the snapshot, uses it and ends.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static volatile int caught;
static void handler(int signal) { caught += signal; }

static void drain(const char *path) {
    char buffer[4096];
    int fd = open(path, O_RDONLY);
    while (fd >= 0 && read(fd, buffer, sizeof buffer) > 0) {}
    close(fd);
}

static int sockets[8];

static void pass(int to, int fd) {
    char control[CMSG_SPACE(sizeof fd)] = "";
    struct iovec bytes = { "passed", 6 };
    struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    sendmsg(to, &message, 0);
}

// A connection, one that waits, one of datagrams with itself in its queue, and what only a message holds.
static void make_sockets(void) {
    struct sockaddr_un name = { AF_UNIX, "/tmp/socket" };
    int kind = SOCK_STREAM | SOCK_NONBLOCK;
    for (int i = 0; i < 3; i++) sockets[i] = socket(AF_UNIX, kind, 0);
    bind(sockets[0], (void *)&name, sizeof name);
    listen(sockets[0], 3);
    for (int i = 1; i < 3; i++) connect(sockets[i], (void *)&name, sizeof name), write(sockets[i], "early", 5);
    sockets[3] = accept4(sockets[0], 0, 0, SOCK_NONBLOCK);
    write(sockets[3], "answer", 6);
    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, sockets + 4);
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sockets + 6);
    name.sun_path[0] = 0;
    bind(sockets[4], (void *)&name, 10);
    pass(sockets[4], sockets[5]);
    int gone = open("/tmp/passed", O_RDWR | O_CREAT, 0600);
    pass(sockets[6], gone);
    close(gone);
    pass(sockets[2], sockets[0]);
}

static void use_sockets(void) {
    char bytes[100], control[100];
    struct iovec to = { bytes, sizeof bytes };
    for (int i = 0; i < 8; i++) {
        struct msghdr message = { .msg_iov = &to, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
        recvmsg(sockets[i], &message, 0);
        write(sockets[i], "more", 4);
        getpeername(sockets[i], (void *)bytes, &(socklen_t){ sizeof bytes });
    }
    accept4(sockets[0], 0, 0, SOCK_NONBLOCK);
    shutdown(sockets[1], SHUT_RDWR);
    for (int i = 0; i < 8; i++) close(sockets[i]);
}

int main(void) {
    char buffer[8192];
    signal(SIGPIPE, SIG_IGN);
    make_sockets();
    memset(buffer, 'x', sizeof buffer);
    int file = open("/tmp/file", O_RDWR | O_CREAT, 0644);
    for (int i = 0; i < 40; i++) write(file, buffer, sizeof buffer);
    char *shared = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 4096);
    char *private = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, open("/proc/self/exe", O_RDONLY), 0);
    char *anonymous = mmap(0, 3 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *lazy = mmap(0, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    shared[1] = private[1] = anonymous[1] = lazy[1] = 1;
    munmap(mmap(0, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0), 8 << 20);
    int ends[2];
    pipe(ends);
    write(ends[1], "hello", 5);
    mkdir("/tmp/dir", 0755);
    symlink("/tmp/file", "/tmp/dir/link");
    link("/tmp/file", "/tmp/dir/name");
    mkfifo("/tmp/fifo", 0600);
    int gone = open("/tmp/gone", O_RDWR | O_CREAT, 0600);
    write(gone, buffer, 100);
    unlink("/tmp/gone");
    chdir("/tmp/dir");
    DIR *dir = opendir("/tmp");
    readdir(dir);
    dup2(file, 40);
    stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536 };
    sigaltstack(&stack, 0);
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART };
    sigaction(SIGUSR1, &action, 0);
    sigaction(SIGUSR2, &action, 0);
    sigaction(SIGALRM, &action, 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, 0);
    raise(SIGUSR2);
    setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 500 }, { 0, 500 } }, 0);

    int control = open("/dev/dejavm", O_WRONLY);
    write(control, "snapshot", 8);

    raise(SIGUSR1);
    use_sockets();
    drain("/proc/net/unix");
    sigprocmask(SIG_UNBLOCK, &set, 0);
    read(ends[0], buffer, sizeof buffer);
    const char *texts[] = { "/proc/self/maps", "/proc/self/stat", "/proc/self/status", "/proc/self/cmdline",
        "/proc/self/comm", "/proc/self/auxv", "/proc/self/environ", "/proc/meminfo", "/proc/mounts", "link" };
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) drain(texts[i]);
    for (int i = 0; i < 20; i++) {
        shared[i % 2 * 4096] += 1, private[i % 2 * 4096] += 1, anonymous[i * 4096] += 1, lazy[i * (3 << 20)] += 1;
    }
    lseek(file, 0, SEEK_SET);
    for (int i = 0; i < 10; i++) read(file, buffer, sizeof buffer), write(40, buffer, 100);
    pread(gone, buffer, 100, 0);
    while (readdir(dir)) {}
    struct stat status;
    fstat(gone, &status);
    rename("name", "other");
    unlink("link");
    ftruncate(file, 100000);
    mremap(shared, 8192, 65536, MREMAP_MAYMOVE);
    munmap(private, 8192);
    mprotect(anonymous, 1 << 20, PROT_READ);
    madvise(lazy, 32 << 20, MADV_DONTNEED);
    sbrk(1 << 20);
    sbrk(-(1 << 20));
    struct rlimit limit = { 100, 200 };
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < 20; i++) {
        char *p = malloc(300000);
        memset(p, 1, 300000);
        if (i % 2) free(p);
    }
    printf("%d\n", caught > 0);
    return 0;
}
