/* Moving between a pipe and something else without the program in between. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *error(long result) { return result < 0 ? strerrorname_np(errno) : "ok"; }
#define TRY(call) \
    do { \
        errno = 0; \
        long result = (call); \
        printf("%s: %ld %s\n", #call, result, error(result)); \
    } while (0)

static int in[2], out[2], small[2], pair[2], file, other, append;
static char bytes[200000];

static void print(int fd) {
    char got[64];
    ssize_t n = read(fd, got, sizeof got);
    printf("read %zd %.*s\n", n, n > 0 ? (int)n : 0, got);
}

static void *unused;

static void errors(void) {
    loff_t at = 0, bad = -1;
    TRY(splice(file, NULL, other, NULL, 10, 0));
    TRY(splice(in[0], NULL, in[1], NULL, 10, 0));
    TRY(splice(99, NULL, in[1], NULL, 10, 0));
    TRY(splice(in[0], NULL, 99, NULL, 10, 0));
    TRY(splice(99, NULL, 99, NULL, 0, 0));
    TRY(splice(in[0], NULL, out[1], NULL, 10, 16));
    TRY(splice(in[0], NULL, out[1], NULL, 0, 16));
    TRY(splice(in[1], NULL, out[1], NULL, 10, 0));
    TRY(splice(in[0], NULL, out[0], NULL, 10, 0));
    TRY(splice(in[0], &at, file, NULL, 10, 0));
    TRY(splice(file, NULL, in[1], &at, 10, 0));
    TRY(splice(file, &bad, in[1], NULL, 10, 0));
    TRY(splice(file, (void *)1, in[1], NULL, 10, 0));
    TRY(splice(pair[0], &at, in[1], NULL, 10, SPLICE_F_NONBLOCK));
    TRY(splice(in[0], NULL, append, NULL, 10, SPLICE_F_NONBLOCK));
    TRY(splice(in[0], NULL, out[1], NULL, 10, SPLICE_F_NONBLOCK));
    TRY(splice(in[0], NULL, file, NULL, 10, SPLICE_F_NONBLOCK));
    TRY(tee(in[0], out[1], 10, SPLICE_F_NONBLOCK));
    TRY(tee(in[0], in[1], 10, 0));
    TRY(tee(file, in[1], 10, 0));
    TRY(tee(in[1], out[1], 10, 0));
    TRY(tee(in[0], out[1], 0, 0));
    TRY(tee(in[0], out[1], 1, 16));
    signal(SIGPIPE, SIG_IGN);
    int broken[2];
    pipe(broken);
    close(broken[0]);
    TRY(splice(file, NULL, broken[1], NULL, 10, 0));
    write(in[1], "left", 4);
    TRY(splice(in[0], NULL, broken[1], NULL, 10, 0));
    TRY(tee(in[0], broken[1], 10, 0));
    print(in[0]);
}

static void moves(void) {
    loff_t at = 3, to = 100;
    TRY(splice(file, NULL, in[1], NULL, 5, 0));
    TRY(splice(file, &at, in[1], NULL, 4, SPLICE_F_MORE));
    printf("at %ld position %ld\n", (long)at, (long)lseek(file, 0, SEEK_CUR));
    TRY(tee(in[0], out[1], 100, 0));
    print(out[0]);
    TRY(splice(in[0], NULL, other, &to, 6, 0));
    printf("to %ld\n", (long)to);
    TRY(splice(in[0], NULL, other, NULL, 100, 0));
    char back[128] = "";
    pread(other, back, sizeof back, 0);
    printf("%.3s %.6s\n", back, back + 100);
    /* A socket's. */
    write(in[1], "to a socket", 11);
    TRY(splice(in[0], NULL, pair[1], NULL, 4, 0));
    print(pair[0]);
    print(in[0]);
    /* As much as goes in. */
    TRY(splice(file, NULL, small[1], NULL, 100000, 0));
    TRY(splice(file, NULL, small[1], NULL, 100000, SPLICE_F_NONBLOCK));
    TRY(tee(small[0], out[1], 100000, 0));
    TRY(splice(small[0], NULL, out[1], NULL, 1000, 0));
    long all = 0, n;
    while ((n = splice(out[0], NULL, other, NULL, 1 << 20, SPLICE_F_NONBLOCK)) > 0) all += n;
    printf("all %ld\n", all);
    lseek(file, 0, SEEK_END);
    TRY(splice(file, NULL, in[1], NULL, 10, 0));
    close(in[1]);
    TRY(splice(in[0], NULL, other, NULL, 10, 0));
    TRY(tee(in[0], out[1], 10, 0));
}

static void waits(void) {
    if (fork() == 0) {
        usleep(5000);
        write(in[1], "later", 5);
        usleep(5000);
        char some[8192];
        long all = 0;
        for (int i = 0; i < 3; i++) all += read(small[0], some, 4096);
        _exit(all == 3 * 4096);
    }
    TRY(splice(in[0], NULL, out[1], NULL, 100, 0));
    print(out[0]);
    lseek(file, 0, SEEK_SET);
    TRY(splice(file, NULL, small[1], NULL, 8192, 0));
    long moved = splice(file, NULL, small[1], NULL, 8192, 0);
    printf("moved %d\n", moved > 0);
    int status;
    close(small[1]);
    wait(&status);
    printf("status %x\n", status);
}

static void sockets(void) {
    int grams[2], packets[2], alone = socket(AF_UNIX, SOCK_STREAM, 0);
    off_t at = 0;
    socketpair(AF_UNIX, SOCK_DGRAM, 0, grams);
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets);
    TRY(splice(pair[0], NULL, out[1], NULL, 10, SPLICE_F_NONBLOCK));
    TRY(splice(alone, NULL, out[1], NULL, 10, 0));
    TRY(splice(pair[0], NULL, other, NULL, 10, 0));
    write(pair[1], "first", 5);
    write(pair[1], "second", 6);
    TRY(splice(pair[0], NULL, out[1], NULL, 3, 0));
    print(out[0]);
    TRY(splice(pair[0], NULL, out[1], NULL, 100, 0));
    print(out[0]);
    write(pair[1], "for sendfile", 12);
    TRY(sendfile(file, pair[0], NULL, 4));
    TRY(sendfile(pair[0], pair[0], NULL, 4));
    TRY(sendfile(out[1], pair[0], &at, 4));
    TRY(sendfile(out[1], pair[0], NULL, 4));
    write(in[1], "pipe", 4);
    TRY(sendfile(file, in[0], NULL, 4));
    TRY(sendfile(out[1], in[0], NULL, 4));
    print(out[0]);
    TRY(splice(pair[0], NULL, out[1], NULL, 100, 0));
    print(out[0]);
    /* Messages: what does not fit is lost. */
    for (int i = 0; i < 2; i++) {
        int *two = i ? packets : grams;
        write(two[1], "a message", 9);
        write(two[1], "another", 7);
        TRY(splice(two[0], NULL, out[1], NULL, 5, 0));
        TRY(splice(two[0], NULL, out[1], NULL, 100, 0));
        print(out[0]);
        fcntl(two[0], F_SETFL, O_NONBLOCK);
        TRY(splice(two[0], NULL, out[1], NULL, 5, 0));
    }
    /* Descriptors that come along are lost. */
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {"with one", 8};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *passed = CMSG_FIRSTHDR(&message);
    *passed = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(passed), &small[1], sizeof(int));
    TRY(sendmsg(pair[1], &message, 0));
    close(small[1]);
    TRY(splice(pair[0], NULL, out[1], NULL, 100, 0));
    print(out[0]);
    print(small[0]);
    /* A time limit, something later, and the end. */
    struct timeval limit = {.tv_usec = 20000};
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    TRY(splice(pair[0], NULL, out[1], NULL, 100, 0));
    limit.tv_usec = 0;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (fork() == 0) {
        usleep(5000);
        write(pair[1], "later", 5);
        _exit(0);
    }
    close(pair[1]);
    TRY(splice(pair[0], NULL, out[1], NULL, 100, 0));
    print(out[0]);
    wait(NULL);
    TRY(splice(pair[0], NULL, out[1], NULL, 100, 0));
    close(out[0]);
    signal(SIGPIPE, SIG_IGN);
    TRY(splice(packets[0], NULL, out[1], NULL, 100, 0));
}

static void memory(void) {
    char to[64] = "";
    struct iovec two[2] = {{bytes, 5}, {bytes + 10, 3}}, bad[2] = {{bytes, 3}, {(void *)16, 5}};
    struct iovec none[1] = {{bytes, 0}}, all[1] = {{bytes, sizeof bytes}}, back[2] = {{to, 4}, {to + 32, 8}};
    TRY(vmsplice(in[1], two, 2, 16));
    TRY(vmsplice(99, two, 2, 0));
    TRY(vmsplice(file, two, 2, 0));
    TRY(vmsplice(file, none, 1, 0));
    TRY(vmsplice(in[1], none, 1, 0));
    TRY(vmsplice(in[1], two, 2000, 0));
    TRY(vmsplice(in[1], (void *)8, 2, 0));
    TRY(vmsplice(in[1], two, 2, SPLICE_F_GIFT | SPLICE_F_MORE));
    print(in[0]);
    TRY(vmsplice(in[1], bad, 2, 0));
    print(in[0]);
    TRY(vmsplice(in[1], bad + 1, 1, 0));
    TRY(vmsplice(in[0], two, 2, SPLICE_F_NONBLOCK));
    write(in[1], "into memory", 11);
    TRY(vmsplice(in[0], back, 2, 0));
    printf("%s %s\n", to, to + 32);
    write(in[1], "more", 4);
    TRY(vmsplice(in[0], bad + 1, 1, 0));
    print(in[0]);
    /* As many pages as there is room for. */
    char *pages = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 'x', 1 << 20);
    all[0].iov_base = pages;
    TRY(vmsplice(out[1], all, 1, 0));
    TRY(vmsplice(out[1], all, 1, SPLICE_F_NONBLOCK));
    all[0].iov_base = pages + 100;
    TRY(vmsplice(small[1], all, 1, 0));
    fcntl(small[1], F_SETFL, O_NONBLOCK);
    if (fork() == 0) {
        usleep(5000);
        char some[8192];
        long got = read(small[0], some, sizeof some);
        usleep(5000);
        got += read(small[0], some, sizeof some);
        _exit(got == 2 * 8092);
    }
    close(small[0]);
    TRY(vmsplice(small[1], all, 1, 0));
    int status;
    wait(&status);
    printf("status %x\n", status);
    signal(SIGPIPE, SIG_IGN);
    TRY(vmsplice(small[1], all, 1, 0));
    close(in[1]);
    TRY(vmsplice(in[0], back, 2, 0));
}

int main(int count, char **args) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *part = count > 1 ? args[1] : "";
    char dir[] = "/tmp/splicesXXXXXX";
    mkdtemp(dir);
    chdir(dir);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = 'a' + i % 26;
    file = open("file", O_RDWR | O_CREAT, 0600);
    write(file, bytes, sizeof bytes);
    lseek(file, 0, SEEK_SET);
    other = open("other", O_RDWR | O_CREAT, 0600);
    append = open("append", O_RDWR | O_CREAT | O_APPEND, 0600);
    pipe(in);
    pipe(out);
    pipe(small);
    fcntl(small[1], F_SETPIPE_SZ, 8192);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    if (!strcmp(part, "errors")) errors();
    if (!strcmp(part, "moves")) moves();
    if (!strcmp(part, "waits")) waits();
    if (!strcmp(part, "sockets")) sockets();
    if (!strcmp(part, "memory")) memory();
    unlink("file");
    unlink("other");
    unlink("append");
    rmdir(dir);
    puts("to the end");
    return 0;
}
