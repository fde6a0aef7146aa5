/* Sockets of the UNIX domain: what Linux says of them, in lines. The first argument says which part. Names
   lie in the current directory, or are of this process. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SIOCOUTQ
#define SIOCOUTQ 0x5411
#endif

#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))

static const char *error(long result) { return result < 0 ? strerrorname_np(errno) : "0"; }
#define TELL(what, call) do { errno = 0; long r_ = (call); SAY("%s: %ld %s\n", what, r_, error(r_)); } while (0)

static char directory[64];

static void in_directory(void) {
    strcpy(directory, "/tmp/sockets-XXXXXX");
    mkdtemp(directory);
    chdir(directory);
}

static socklen_t address(struct sockaddr_un *to, const char *name) {
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    if (name[0] == '@') {
        int n = snprintf(to->sun_path + 1, sizeof to->sun_path - 1, "%s-%s", name + 1, directory);
        return offsetof(struct sockaddr_un, sun_path) + 1 + n;
    }
    strcpy(to->sun_path, name);
    return offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1;
}

static int bind_to(int s, const char *name) {
    struct sockaddr_un a;
    socklen_t n = address(&a, name);
    return bind(s, (void *)&a, n);
}

static int connect_to(int s, const char *name) {
    struct sockaddr_un a;
    socklen_t n = address(&a, name);
    return connect(s, (void *)&a, n);
}

static long send_to(int s, const char *text, int flags, const char *name) {
    struct sockaddr_un a;
    socklen_t n = address(&a, name);
    return sendto(s, text, strlen(text), flags, (void *)&a, n);
}

static int listener(int type, const char *name, int backlog) {
    int s = socket(AF_UNIX, type, 0);
    if (bind_to(s, name) || listen(s, backlog)) SAY("no listener %s\n", error(-1));
    return s;
}

/* An address, with what differs from run to run taken out. */
static void say_address(const char *what, const struct sockaddr_un *a, socklen_t len) {
    int n = (int)len - (int)offsetof(struct sockaddr_un, sun_path);
    if (n <= 0) { SAY("%s: length %d family %d\n", what, (int)len, len >= 2 ? a->sun_family : 0); return; }
    char text[120];
    memcpy(text, a->sun_path, n);
    text[n] = 0;
    if (!text[0]) {
        text[0] = '@';
        char *own = strstr(text, directory);
        if (own) *own = 0;
    }
    SAY("%s: length %d %s\n", what, (int)len, text);
}

static void say_names(const char *what, int s) {
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    char text[80];
    if (getsockname(s, (void *)&a, &n)) { SAY("%s: %s\n", what, error(-1)); return; }
    snprintf(text, sizeof text, "%s own", what);
    say_address(text, &a, n);
    n = sizeof a;
    snprintf(text, sizeof text, "%s peer", what);
    if (getpeername(s, (void *)&a, &n)) SAY("%s: %s\n", text, error(-1));
    else say_address(text, &a, n);
}

static int ready(int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI | POLLRDNORM | POLLWRNORM | POLLWRBAND, 0};
    poll(&p, 1, 0);
    return p.revents;
}

static void nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

/* A server that forks, as many connections at once. */
static void echo(void) {
    int s = listener(SOCK_STREAM, "echo", 8);
    pid_t server = fork();
    if (!server) {
        for (int n = 0; n < 3; n++) {
            int c = accept(s, 0, 0);
            if (!fork()) {
                char buffer[100];
                long got;
                close(s);
                while ((got = read(c, buffer, sizeof buffer)) > 0) {
                    for (int i = 0; i < got; i++) buffer[i] ^= 32;
                    write(c, buffer, got);
                }
                _exit(0);
            }
            close(c);
        }
        while (wait(0) > 0);
        _exit(0);
    }
    close(s);
    int client[3];
    for (int i = 0; i < 3; i++) {
        client[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        TELL("connect", connect_to(client[i], "echo"));
    }
    for (int round = 0; round < 2; round++)
        for (int i = 2; i >= 0; i--) {
            char text[30], back[30] = "";
            int n = snprintf(text, sizeof text, "round %d client %d", round, i);
            write(client[i], text, n);
            long got = 0;
            while (got < n) got += read(client[i], back + got, sizeof back - got);
            SAY("%s\n", back);
        }
    for (int i = 0; i < 3; i++) {
        char c;
        shutdown(client[i], SHUT_WR);
        TELL("end", read(client[i], &c, 1));
        close(client[i]);
    }
    int status;
    waitpid(server, &status, 0);
    SAY("status %x\n", status);
    /* More than fits into buffers, both ways of writing. */
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    if (!fork()) {
        close(pair[0]);
        static char big[3 << 20];
        for (int i = 0; i < sizeof big; i++) big[i] = i * 7 + (i >> 8);
        long wrote = write(pair[1], big, sizeof big);
        long sent = send(pair[1], big, sizeof big, 0);
        _exit(wrote == sizeof big && sent == sizeof big ? 3 : 4);
    }
    close(pair[1]);
    unsigned sum = 0;
    long all = 0, got;
    static unsigned char part[70000];
    while ((got = read(pair[0], part, sizeof part)) > 0) {
        for (int i = 0; i < got; i++) sum = sum * 31 + part[i];
        all += got;
    }
    wait(&status);
    SAY("%ld bytes, sum %u, status %x\n", all, sum, status);
}

static void names(void) {
    struct sockaddr_un a;
    struct stat st;
    int s = socket(AF_UNIX, SOCK_STREAM, 0), t = socket(AF_UNIX, SOCK_STREAM, 0);
    say_names("unbound", s);
    umask(027);
    TELL("bind", bind_to(s, "name"));
    stat("name", &st);
    SAY("mode %o size %ld links %d\n", st.st_mode, (long)st.st_size, (int)st.st_nlink);
    TELL("bound twice", bind_to(s, "other"));
    TELL("other is there", access("other", F_OK));
    TELL("name in use", bind_to(t, "name"));
    say_names("bound", s);
    TELL("open", open("name", O_RDWR));
    TELL("no directory", bind_to(t, "none/name"));
    TELL("not listening", connect_to(t, "name"));
    TELL("listen unbound", listen(t, 1));
    TELL("listen", listen(s, 1));
    TELL("connect", connect_to(t, "name"));
    say_names("client", t);
    TELL("connect twice", connect_to(t, "name"));
    TELL("listen connected", listen(t, 1));
    socklen_t n = sizeof a;
    int c = accept(s, (void *)&a, &n);
    say_address("accepted from", &a, n);
    say_names("accepted", c);
    fstat(c, &st);
    SAY("mode %o\n", st.st_mode);
    TELL("bind accepted", bind_to(c, "third"));
    close(c);
    say_names("client of nobody", t);
    unlink("name");
    int u = socket(AF_UNIX, SOCK_STREAM, 0);
    TELL("unlinked", connect_to(u, "name"));
    symlink("second", "link");
    TELL("bind to a link", bind_to(u, "link"));
    TELL("bind", bind_to(u, "second"));
    close(u);
    u = socket(AF_UNIX, SOCK_STREAM, 0);
    TELL("closed", connect_to(u, "link"));
    TELL("in use", bind_to(u, "second"));
    close(open("file", O_CREAT | O_RDWR, 0600));
    TELL("a file", connect_to(u, "file"));
    TELL("missing", connect_to(u, "missing"));
    TELL("a directory", connect_to(u, "."));
    mkdir("closed", 0700);
    /* Abstract names. */
    int v = listener(SOCK_STREAM, "@abstract", 5), w = socket(AF_UNIX, SOCK_STREAM, 0);
    say_names("abstract", v);
    TELL("in use", bind_to(w, "@abstract"));
    TELL("connect", connect_to(w, "@abstract"));
    say_names("to abstract", w);
    int d = socket(AF_UNIX, SOCK_DGRAM, 0);
    TELL("another kind", bind_to(d, "@abstract"));
    close(d);
    close(v);
    close(w);
    v = socket(AF_UNIX, SOCK_STREAM, 0);
    TELL("free again", bind_to(v, "@abstract"));
    memset(&a, 0, sizeof a);
    a.sun_family = AF_UNIX;
    w = socket(AF_UNIX, SOCK_DGRAM, 0);
    TELL("any name", bind(w, (void *)&a, 2));
    n = sizeof a;
    getsockname(w, (void *)&a, &n);
    int hex = 1;
    for (int i = 1; i < 6; i++) hex &= strchr("0123456789abcdef", a.sun_path[i]) != 0;
    SAY("length %d first %d hex %d\n", (int)n, a.sun_path[0], hex);
    TELL("any name twice", bind(w, (void *)&a, 2));
    /* Lengths. */
    memset(&a, 0, sizeof a);
    a.sun_family = AF_UNIX;
    memset(a.sun_path, 'x', sizeof a.sun_path);
    u = socket(AF_UNIX, SOCK_STREAM, 0);
    TELL("longest", bind(u, (void *)&a, sizeof a));
    n = sizeof a;
    struct { struct sockaddr_un a; char more[8]; } wide = {0};
    n = sizeof wide;
    getsockname(u, (void *)&wide, &n);
    SAY("length %d\n", (int)n);
    n = 5;
    memset(&a, 'y', sizeof a);
    getsockname(u, (void *)&a, &n);
    SAY("length %d family %d %.4s\n", (int)n, a.sun_family, a.sun_path);
    for (int len = 0; len < 5; len++) {
        u = socket(AF_UNIX, SOCK_STREAM, 0);
        struct sockaddr_un b = {AF_UNIX, "q"};
        char what[20];
        sprintf(what, "length %d", len);
        if (len != 2) TELL(what, bind(u, (void *)&b, len));
        TELL(what, connect(u, (void *)&b, len));
        close(u);
        unlink("q");
    }
    u = socket(AF_UNIX, SOCK_STREAM, 0);
    a.sun_family = AF_INET;
    TELL("family", bind(u, (void *)&a, 20));
    TELL("too long", bind(u, (void *)&a, 111));
    TELL("far too long", bind(u, (void *)&a, 129));
    TELL("negative", bind(u, (void *)&a, -1));
    TELL("nowhere", bind(u, (void *)8, 20));
    a.sun_family = AF_UNSPEC;
    TELL("unspecified", connect(u, (void *)&a, 20));
}

/* What is refused, by kind of socket. */
static void errors(void) {
    int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    signal(SIGPIPE, SIG_IGN);
    TELL("socket family", socket(77, SOCK_STREAM, 0));
    TELL("socket type 0", socket(AF_UNIX, 0, 0));
    TELL("socket raw", socket(AF_UNIX, SOCK_RAW, 0) >= 0 ? 0 : -1);
    TELL("socket type 4", socket(AF_UNIX, 4, 0));
    TELL("socket type 10", socket(AF_UNIX, 10, 0));
    TELL("socket type 11", socket(AF_UNIX, 11, 0));
    TELL("socket protocol 2", socket(AF_UNIX, SOCK_STREAM, 2));
    TELL("socket protocol 1", socket(AF_UNIX, SOCK_STREAM, 1) >= 0 ? 0 : -1);
    TELL("socket flags", socket(AF_UNIX, SOCK_STREAM | 0x10, 0));
    TELL("pair family", socketpair(AF_UNIX, SOCK_STREAM, 5, (int[2]){0}));
    TELL("pair nowhere", socketpair(AF_UNIX, SOCK_STREAM, 0, (void *)8));
    TELL("no descriptor", listen(99, 1));
    TELL("no socket", listen(1, 1));
    TELL("no socket", accept(1, 0, 0));
    TELL("no socket", send(1, "", 0, 0));
    for (int i = 0; i < 3; i++) {
        char name[20], b[10];
        sprintf(name, "server%d", i);
        int server = socket(AF_UNIX, types[i], 0), s = socket(AF_UNIX, types[i], 0), other;
        SAY("type %d\n", types[i]);
        TELL("bind", bind_to(server, name));
        TELL("listen", listen(server, 0));
        nonblocking(server);
        nonblocking(s);
        TELL("accept", accept(server, 0, 0));
        TELL("accept flags", accept4(server, 0, 0, 3));
        TELL("send", send(s, "x", 1, 0));
        TELL("write", write(s, "x", 1));
        TELL("recv", recv(s, b, 1, 0));
        TELL("recv server", recv(server, b, 1, 0));
        TELL("accept", accept(s, 0, 0));
        TELL("getpeername", getpeername(s, (void *)b, &(socklen_t){0}));
        TELL("shutdown", shutdown(s, 5));
        for (int j = 0; j < 3; j++) {
            other = socket(AF_UNIX, types[j], 0);
            TELL("connect", connect_to(other, name));
            close(other);
        }
        other = socket(AF_UNIX, types[i], 0);
        nonblocking(other);
        for (int n = 0; n < 3; n++) {
            int t = socket(AF_UNIX, types[i], 0);
            nonblocking(t);
            TELL("connect", connect_to(t, name));
        }
        TELL("connect itself", connect_to(server, name));
        TELL("sendto", send_to(other, "x", 0, name));
        TELL("write", write(other, "x", 1));
        TELL("pwrite", pwrite(other, "x", 1, 0));
        TELL("pread", pread(other, b, 1, 0));
        TELL("lseek", lseek(other, 0, SEEK_SET));
        TELL("ftruncate", ftruncate(other, 0));
        /* Of datagrams, kernels differ in what they look at first. */
        if (types[i] != SOCK_DGRAM) TELL("nowhere", send(other, (void *)8, 10, 0));
        TELL("ready server", ready(server));
        TELL("ready", ready(other));
        TELL("fionread", ioctl(server, FIONREAD, b));
        int pair[2];
        socketpair(AF_UNIX, types[i] | SOCK_NONBLOCK, 0, pair);
        TELL("sendto connected", send_to(pair[0], "x", 0, name));
        TELL("big", send(pair[0], malloc(1 << 20), 1 << 20, 0) > 0 ? 1 : -1);
        static char most[1 << 20];
        while (recv(pair[1], most, sizeof most, 0) > 0);
        TELL("recv", recv(pair[1], b, 1, 0));
        TELL("zero", send(pair[0], "", 0, 0));
        TELL("recv zero", recv(pair[1], b, 1, 0));
        TELL("shutdown", shutdown(pair[0], SHUT_WR));
        TELL("send", send(pair[0], "x", 1, 0));
        TELL("recv", recv(pair[1], b, 1, 0));
        TELL("ready", ready(pair[0]));
        TELL("ready", ready(pair[1]));
        TELL("send back", send(pair[1], "x", 1, 0));
        TELL("shutdown", shutdown(pair[0], SHUT_RD));
        TELL("send back", send(pair[1], "x", 1, 0));
        TELL("recv", recv(pair[0], b, 1, 0));
        TELL("recv", recv(pair[0], b, 1, 0));
        TELL("ready", ready(pair[0]));
        TELL("ready", ready(pair[1]));
        close(pair[0]);
        TELL("ready", ready(pair[1]));
        TELL("send", send(pair[1], "x", 1, 0));
        TELL("again", send(pair[1], "x", 1, 0));
        TELL("recv", recv(pair[1], b, 1, 0));
        say_names("alone", pair[1]);
        close(pair[1]);
        close(server);
        close(s);
        close(other);
    }
    /* What signals. */
    for (int i = 0; i < 3; i++)
        for (int how = 0; how < 3; how++) {
            pid_t child = fork();
            if (!child) {
                int pair[2];
                signal(SIGPIPE, SIG_DFL);
                socketpair(AF_UNIX, types[i], 0, pair);
                close(pair[1]);
                if (how == 0) send(pair[0], "x", 1, MSG_NOSIGNAL);
                if (how == 1) send(pair[0], "x", 1, 0);
                if (how == 2) write(pair[0], "x", 1);
                _exit(errno == EPIPE ? 1 : errno == ECONNREFUSED ? 2 : 3);
            }
            int status;
            waitpid(child, &status, 0);
            SAY("type %d way %d: %x\n", types[i], how, status);
        }
    /* Who may not write to the file may not connect. */
    mkdir("open", 0777);
    chmod("open", 0777);
    chmod(".", 0755);
    int s = listener(SOCK_STREAM, "private", 1);
    chmod("private", 0600);
    if (!fork()) {
        setresuid(1000, 1000, 1000);
        TELL("private", connect_to(socket(AF_UNIX, SOCK_STREAM, 0), "private"));
        TELL("cannot make", bind_to(socket(AF_UNIX, SOCK_STREAM, 0), "mine"));
        TELL("can make", bind_to(socket(AF_UNIX, SOCK_STREAM, 0), "open/mine"));
        _exit(0);
    }
    wait(0);
}

static void options(void) {
    int pair[2], value;
    socklen_t n;
    int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (int i = 0; i < 3; i++) {
        socketpair(AF_UNIX, types[i], 0, pair);
        int numbers[] = {SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN, SO_SNDBUF, SO_RCVBUF,
            SO_REUSEADDR, SO_PASSCRED, SO_BROADCAST, SO_KEEPALIVE, SO_RCVLOWAT, SO_SNDLOWAT, SO_REUSEPORT, 999};
        for (int k = 0; k < sizeof numbers / sizeof *numbers; k++) {
            value = -1;
            n = sizeof value;
            int r = getsockopt(pair[0], SOL_SOCKET, numbers[k], &value, &n);
            SAY("option %d: %s %d length %d\n", numbers[k], error(r), value, (int)n);
        }
        for (int k = 0; k < 5; k++) {
            int set[] = {SO_REUSEADDR, SO_PASSCRED, SO_KEEPALIVE, SO_TYPE, SO_ACCEPTCONN};
            value = 7;
            TELL("set", setsockopt(pair[0], SOL_SOCKET, set[k], &value, sizeof value));
            getsockopt(pair[0], SOL_SOCKET, set[k], &value, &n);
            SAY("value %d\n", value);
        }
        int sizes[] = {0, 1000, 2304, 50000, 106496};
        for (int k = 0; k < 5; k++) {
            setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &sizes[k], 4);
            getsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &value, &n);
            int send = value;
            setsockopt(pair[0], SOL_SOCKET, SO_RCVBUF, &sizes[k], 4);
            getsockopt(pair[0], SOL_SOCKET, SO_RCVBUF, &value, &n);
            SAY("buffers %d %d\n", send, value);
        }
        TELL("short", setsockopt(pair[0], SOL_SOCKET, SO_REUSEADDR, &value, 3));
        TELL("nowhere", setsockopt(pair[0], SOL_SOCKET, SO_REUSEADDR, (void *)8, 4));
        TELL("level", setsockopt(pair[0], 6, 1, &value, 4));
        TELL("level", getsockopt(pair[0], 6, 1, &value, &n));
        TELL("unknown", setsockopt(pair[0], SOL_SOCKET, 999, &value, 4));
        value = -1;
        n = 2;
        TELL("part", getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &value, &n));
        SAY("%x length %d\n", value, (int)n);
        n = -1;
        TELL("negative", getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &value, &n));
        struct timeval t = {0, 30000}, got;
        TELL("timeout", setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
        n = sizeof got;
        getsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &got, &n);
        SAY("timeout %ld %d length %d\n", (long)got.tv_sec, got.tv_usec >= 30000, (int)n);
        char c;
        TELL("in time", recv(pair[0], &c, 1, 0));
        TELL("in time", read(pair[0], &c, 1));
        t.tv_usec = 1000000;
        TELL("timeout", setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
        t.tv_usec = 20000;
        setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
        static char block[20000];
        long all = 0, r;
        while ((r = send(pair[0], block, sizeof block, 0)) > 0) all += r;
        SAY("full: %s\n", error(r));
        close(pair[0]);
        close(pair[1]);
    }
    /* How much of the sender's buffer is taken. */
    for (int i = 0; i < 3; i++) {
        int lengths[] = {1, 64, 192, 193, 500, 1000, 3776, 3777, 4096, 8000, 20000, 40000, 100000};
        for (int k = 0; k < 13; k++) {
            static char data[100000];
            int out = -1, in = -1;
            socketpair(AF_UNIX, types[i] | SOCK_NONBLOCK, 0, pair);
            long r = send(pair[0], data, lengths[k], 0);
            ioctl(pair[0], SIOCOUTQ, &out);
            ioctl(pair[1], FIONREAD, &in);
            SAY("type %d sent %ld takes %d, there %d\n", types[i], r, out, in);
            while (recv(pair[1], data, sizeof data, 0) > 0);
            ioctl(pair[0], SIOCOUTQ, &out);
            SAY("then %d\n", out);
            close(pair[0]);
            close(pair[1]);
        }
        int count = 0;
        socketpair(AF_UNIX, types[i] | SOCK_NONBLOCK, 0, pair);
        while (send(pair[0], "x", 1, 0) == 1) count++;
        SAY("type %d: %d bytes one by one, %s, ready %x\n", types[i], count, error(-1), ready(pair[0]));
        char c;
        while (!(ready(pair[0]) & POLLOUT) && recv(pair[1], &c, 1, 0) == 1) count--;
        SAY("writable with %d\n", count);
        close(pair[0]);
        close(pair[1]);
    }
    /* And how many a server has. */
    int s = socket(AF_UNIX, SOCK_DGRAM, 0), t = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), count = 0;
    bind_to(s, "datagrams");
    connect_to(t, "datagrams");
    while (send(t, "x", 1, 0) == 1) count++;
    SAY("%d datagrams, %s, ready %x\n", count, error(-1), ready(t));
    char c;
    recv(s, &c, 1, 0);
    SAY("ready %x\n", ready(t));
    TELL("one more", send(t, "x", 1, 0));
    TELL("and another", send_to(t, "x", 0, "datagrams"));
    for (int backlog = 0; backlog < 4; backlog++) {
        char name[20];
        sprintf(name, "backlog%d", backlog);
        s = listener(SOCK_STREAM, name, backlog);
        int made = 0;
        for (;; made++) {
            t = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
            if (connect_to(t, name)) break;
        }
        SAY("backlog %d: %d connections, then %s\n", backlog, made, error(-1));
    }
}

static void datagrams(void) {
    struct sockaddr_un a;
    socklen_t n;
    char b[100];
    int s = socket(AF_UNIX, SOCK_DGRAM, 0), t = socket(AF_UNIX, SOCK_DGRAM, 0), u = socket(AF_UNIX, SOCK_DGRAM, 0);
    bind_to(s, "one");
    bind_to(t, "@two");
    TELL("to one", send_to(t, "from two", 0, "one"));
    TELL("to one", send_to(u, "from nobody", 0, "one"));
    TELL("empty", send_to(u, "", 0, "one"));
    TELL("peek", recv(s, b, 4, MSG_PEEK));
    TELL("peek", recv(s, b, 4, MSG_PEEK | MSG_TRUNC));
    n = sizeof a;
    TELL("from", recvfrom(s, b, 4, MSG_TRUNC, (void *)&a, &n));
    say_address("from", &a, n);
    memset(&a, 0, sizeof a);
    n = sizeof a;
    TELL("from", recvfrom(s, b, sizeof b, 0, (void *)&a, &n));
    say_address("from", &a, n);
    TELL("empty", recv(s, b, sizeof b, 0));
    TELL("none", recv(s, b, sizeof b, MSG_DONTWAIT));
    TELL("connect", connect_to(u, "one"));
    say_names("connected", u);
    TELL("send", send(u, "a", 1, 0));
    TELL("elsewhere", send_to(u, "b", 0, "@two"));
    TELL("recv", recv(t, b, 1, 0));
    TELL("connect back", connect_to(s, "@two"));
    TELL("not mine", send(u, "c", 1, 0));
    TELL("not mine", connect_to(u, "one"));
    TELL("still there", recv(s, b, 1, MSG_DONTWAIT));
    TELL("send", send_to(t, "d", 0, "one"));
    TELL("recv", recv(s, b, 1, MSG_DONTWAIT));
    a.sun_family = AF_UNSPEC;
    TELL("disconnect", connect(s, (void *)&a, 2));
    TELL("send", send(s, "x", 1, 0));
    TELL("again", send(u, "c", 1, 0));
    /* What is lost is told to who was connected back. */
    int pair[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    send(pair[0], "lost", 4, 0);
    TELL("disconnect", connect(pair[1], (void *)&a, 2));
    TELL("ready", ready(pair[0]));
    int value = 0;
    n = sizeof value;
    getsockopt(pair[0], SOL_SOCKET, SO_ERROR, &value, &n);
    SAY("error %d\n", value);
    TELL("nothing", recv(pair[1], b, 4, MSG_DONTWAIT));
    TELL("one way", send(pair[0], "x", 1, 0));
    close(pair[1]);
    TELL("gone", send(pair[0], "x", 1, 0));
    TELL("disconnected", send(pair[0], "x", 1, 0));
    /* To itself. */
    int self = socket(AF_UNIX, SOCK_DGRAM, 0);
    bind_to(self, "self");
    TELL("connect", connect_to(self, "self"));
    TELL("send", send(self, "hello", 5, 0));
    TELL("recv", recv(self, b, 9, 0));
    for (n = 0; send(self, "y", 1, MSG_DONTWAIT) == 1; n++);
    SAY("%d to itself, %s\n", (int)n, error(-1));
    /* Many at once. */
    struct iovec v[12];
    struct mmsghdr m[12] = {0};
    char words[12][8];
    for (int i = 0; i < 12; i++) {
        sprintf(words[i], "m%d", i);
        v[i] = (struct iovec){words[i], strlen(words[i])};
        m[i].msg_hdr.msg_iov = &v[i];
        m[i].msg_hdr.msg_iovlen = 1;
    }
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    TELL("sendmmsg", sendmmsg(pair[0], m, 12, 0));
    SAY("lengths %d %d\n", m[0].msg_len, m[11].msg_len);
    for (int i = 0; i < 12; i++) { v[i].iov_len = 8; memset(words[i], 0, 8); m[i].msg_len = 99; }
    TELL("recvmmsg", recvmmsg(pair[1], m, 5, 0, 0));
    TELL("recvmmsg", recvmmsg(pair[1], m + 5, 7, MSG_DONTWAIT, 0));
    TELL("recvmmsg", recvmmsg(pair[1], m, 7, MSG_DONTWAIT, 0));
    for (int i = 0; i < 12; i++) SAY("%d %s\n", m[i].msg_len, words[i]);
    send(pair[0], "1", 1, 0);
    send(pair[0], "2", 1, 0);
    TELL("for one", recvmmsg(pair[1], m, 5, MSG_WAITFORONE, 0));
    TELL("none", recvmmsg(pair[1], m, 0, 0, 0));
    /* A time limit that is looked at behind each message. */
    for (int i = 0; i < 3; i++) {
        struct timespec limit = {i == 2 ? 0 : 100, 10000000};
        if (fork() == 0) {
            for (int j = 0; j < 3; j++) usleep(15000), sendmmsg(pair[0], m, 1, 0);
            _exit(0);
        }
        TELL("with a limit", recvmmsg(pair[1], m, i == 1 ? 1 : 3, 0, &limit));
        printf("left %d\n", (int)limit.tv_sec);
        wait(0);
        while (recvmmsg(pair[1], m, 1, MSG_DONTWAIT, 0) == 1) {}
    }
    /* A server waits for a client and answers it by its name. */
    while (recv(s, b, 1, MSG_DONTWAIT) > 0);
    pid_t child = fork();
    if (!child) {
        int c = socket(AF_UNIX, SOCK_DGRAM, 0);
        bind_to(c, "client");
        send_to(c, "question", 0, "one");
        long got = recv(c, b, sizeof b, 0);
        _exit(got == 6 ? 5 : 6);
    }
    n = sizeof a;
    long got = recvfrom(s, b, sizeof b, 0, (void *)&a, &n);
    sendto(s, "answer", 6, 0, (void *)&a, n);
    int status;
    waitpid(child, &status, 0);
    SAY("%.*s %x\n", (int)got, b, status);
    /* A sender waits for room with the receiver. */
    child = fork();
    if (!child) {
        int c = socket(AF_UNIX, SOCK_DGRAM, 0);
        connect_to(c, "one");
        for (int i = 0; i < 100; i++) if (send(c, &i, 4, 0) != 4) _exit(1);
        _exit(7);
    }
    int sum = 0;
    for (int i = 0; i < 100; i++) {
        int k;
        recv(s, &k, 4, 0);
        sum = sum * 3 + k;
    }
    waitpid(child, &status, 0);
    SAY("sum %d %x\n", sum, status);
}

/* Messages with control data. */
static long send_with(int s, const char *text, const int *fds, int count, const struct ucred *creds, int flags) {
    char control[2000] = "";
    struct iovec v = {(void *)text, strlen(text)};
    struct msghdr m = {0, 0, &v, 1, control, 0, 0};
    struct cmsghdr *c = (void *)control;
    if (count) {
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(4 * count);
        memcpy(CMSG_DATA(c), fds, 4 * count);
        m.msg_controllen += CMSG_SPACE(4 * count);
        c = (void *)(control + m.msg_controllen);
    }
    if (creds) {
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_CREDENTIALS;
        c->cmsg_len = CMSG_LEN(sizeof *creds);
        memcpy(CMSG_DATA(c), creds, sizeof *creds);
        m.msg_controllen += CMSG_SPACE(sizeof *creds);
    }
    return sendmsg(s, &m, flags);
}

static int received[300];

/* Receives, and says what came; how many descriptors that were. */
static int receive_with(const char *what, int s, int len, int room, int flags) {
    char control[2000] = "", text[1000] = "";
    struct iovec v = {text, len};
    struct msghdr m = {0, 0, &v, 1, room < 0 ? 0 : control, room < 0 ? 0 : room, 0};
    long r = recvmsg(s, &m, flags);
    int count = 0;
    SAY("%s: %ld %s %.*s flags %x control %d\n", what, r, error(r), r > 0 ? (int)r : 0, text, m.msg_flags,
        (int)m.msg_controllen);
    if (r < 0) return 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        SAY("  level %d type %d length %d", c->cmsg_level, c->cmsg_type, (int)c->cmsg_len);
        if (c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred u;
            memcpy(&u, CMSG_DATA(c), sizeof u);
            SAY(" pid %s uid %d gid %d", u.pid == getpid() ? "own" : u.pid == getppid() ? "parent" : u.pid ? "other" : "0",
                (int)u.uid, (int)u.gid);
        } else {
            count = (c->cmsg_len - CMSG_LEN(0)) / 4;
            memcpy(received, CMSG_DATA(c), 4 * count);
            SAY(" descriptors %d cloexec %d", count, fcntl(received[0], F_GETFD));
        }
        SAY("\n");
    }
    return count;
}

static int open_descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void passing(void) {
    int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    int before = open_descriptors();
    for (int i = 0; i < 3; i++) {
        int pair[2], p[2];
        char b[100] = "";
        SAY("type %d\n", types[i]);
        socketpair(AF_UNIX, types[i], 0, pair);
        pipe(p);
        /* To another process. */
        pid_t child = fork();
        if (!child) {
            close(p[0]);
            close(p[1]);
            int n = receive_with("child", pair[1], 50, 200, MSG_CMSG_CLOEXEC);
            write(received[1], "by the child", 12);
            lseek(received[0], 3, SEEK_SET);
            _exit(n);
        }
        int file = open("passed", O_CREAT | O_RDWR, 0600);
        long sent = send_with(pair[0], "two", (int[]){file, p[1]}, 2, 0, 0);
        close(p[1]);
        int status;
        waitpid(child, &status, 0);
        SAY("sent %ld\n", sent);
        long r = read(p[0], b, sizeof b);
        SAY("%s, end %ld, offset %ld, status %x\n", b, (long)read(p[0], b, 1), (long)lseek(file, 0, SEEK_CUR), status);
        close(p[0]);
        /* A message that nobody receives lets go of what it holds. */
        pipe(p);
        send_with(pair[0], "x", &p[1], 1, 0, 0);
        close(p[1]);
        TELL("held", (nonblocking(p[0]), read(p[0], b, 1)));
        recv(pair[1], b, 1, 0);
        TELL("let go", read(p[0], b, 1));
        close(p[0]);
        pipe(p);
        nonblocking(p[0]);
        send_with(pair[0], "x", &p[1], 1, 0, 0);
        close(p[1]);
        TELL("peeked", receive_with("peek", pair[1], 9, 100, MSG_PEEK));
        close(received[0]);
        TELL("held", read(p[0], b, 1));
        receive_with("without", pair[1], 9, -1, 0);
        TELL("let go", read(p[0], b, 1));
        close(p[0]);
        /* Room for fewer. */
        int three[3] = {file, file, file};
        for (int room = 12; room <= 32; room += 4) {
            send_with(pair[0], "abc", three, 3, 0, 0);
            int n = receive_with("room", pair[1], 9, room, 0);
            SAY("room %d: %d\n", room, n);
            while (n--) close(received[n]);
        }
        /* Borders of a stream; messages as they are. */
        send(pair[0], "before ", 7, 0);
        send_with(pair[0], "with one ", &file, 1, 0, 0);
        send(pair[0], "between ", 8, 0);
        send_with(pair[0], "again ", &file, 1, 0, 0);
        send(pair[0], "after", 5, 0);
        int n;
        for (int k = 0; k < 5; k++) {
            n = receive_with("part", pair[1], 100, 100, MSG_DONTWAIT);
            while (n--) close(received[n]);
        }
        send_with(pair[0], "in two", &file, 1, 0, 0);
        for (int k = 0; k < 2; k++) {
            n = receive_with("half", pair[1], 3, 100, MSG_DONTWAIT);
            while (n--) close(received[n]);
        }
        while (recv(pair[1], b, 100, MSG_DONTWAIT) > 0);
        /* Too many, and bad ones. */
        int many[254];
        for (int k = 0; k < 254; k++) many[k] = file;
        TELL("253", send_with(pair[0], "x", many, 253, 0, 0));
        n = receive_with("253", pair[1], 9, 2000, 0);
        SAY("%d\n", n);
        while (n--) close(received[n]);
        TELL("254", send_with(pair[0], "x", many, 254, 0, 0));
        many[1] = 999;
        TELL("bad", send_with(pair[0], "x", many, 2, 0, 0));
        many[1] = -1;
        TELL("bad", send_with(pair[0], "x", many, 2, 0, 0));
        TELL("only descriptors", send_with(pair[0], "", &file, 1, 0, 0));
        n = receive_with("only descriptors", pair[1], 9, 100, MSG_DONTWAIT);
        while (n--) close(received[n]);
        /* No room in the table. */
        struct rlimit limit, few;
        getrlimit(RLIMIT_NOFILE, &limit);
        send_with(pair[0], "abc", three, 3, 0, 0);
        few = limit;
        few.rlim_cur = dup(file) + 1;
        close(few.rlim_cur - 1);
        setrlimit(RLIMIT_NOFILE, &few);
        n = receive_with("one number", pair[1], 9, 100, 0);
        SAY("%d\n", n);
        setrlimit(RLIMIT_NOFILE, &limit);
        while (n--) close(received[n]);
        close(file);
        close(pair[0]);
        close(pair[1]);
    }
    SAY("left open %d\n", open_descriptors() - before);
    /* A socket that waits to be accepted, with a socket in its queue. */
    int s = listener(SOCK_STREAM, "passing", 3), c = socket(AF_UNIX, SOCK_STREAM, 0), pair[2];
    connect_to(c, "passing");
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    TELL("before accept", send_with(c, "early", &pair[0], 1, 0, 0));
    close(pair[0]);
    TELL("alive", ready(pair[1]));
    int d = accept(s, 0, 0);
    int n = receive_with("accepted", d, 9, 100, 0);
    write(pair[1], "through", 7);
    char b[10] = "";
    read(received[0], b, 9);
    SAY("%s\n", b);
    close(received[0]);
    TELL("gone", ready(pair[1]));
    close(pair[1]);
    /* So many may be in messages, for who is not privileged. */
    if (!fork()) {
        struct rlimit few = {20, 20};
        setresgid(1001, 1001, 1001);
        setresuid(1000, 1000, 1000);
        setrlimit(RLIMIT_NOFILE, &few);
        int count = 0;
        socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
        while (send_with(pair[0], "x", (int[]){0}, 1, 0, MSG_DONTWAIT) == 1) count++;
        SAY("%d in messages, %s\n", count, error(-1));
        recv(pair[1], b, 1, 0);
        TELL("one more", send_with(pair[0], "x", (int[]){0, 0, 0}, 3, 0, 0));
        TELL("another", send_with(pair[0], "x", (int[]){0}, 1, 0, 0));
        _exit(0);
    }
    wait(0);
    /* Sockets that hold each other are found. */
    pipe(pair);
    int x[2], y[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, x);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, y);
    send_with(x[0], "pipe", &pair[1], 1, 0, 0);
    send_with(x[0], "self", &x[1], 1, 0, 0);
    send_with(x[0], "other", y, 2, 0, 0);
    send_with(y[0], "back", x, 2, 0, 0);
    close(pair[1]);
    close(x[0]);
    close(x[1]);
    close(y[0]);
    nonblocking(pair[0]);
    TELL("reachable", read(pair[0], b, 1));
    close(y[1]);
    /* Linux looks for them when a socket is released, and later. */
    socketpair(AF_UNIX, SOCK_DGRAM, 0, x);
    close(x[0]);
    close(x[1]);
    struct pollfd p = {pair[0], POLLIN, 0};
    TELL("collected", poll(&p, 1, 5000));
    TELL("end", read(pair[0], b, 1));
}

static void credentials(void) {
    int pair[2], on = 1;
    struct ucred u, own = {getpid(), getuid(), getgid()};
    socklen_t n = sizeof u;
    int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (int i = 0; i < 3; i++) {
        socketpair(AF_UNIX, types[i], 0, pair);
        getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &u, &n);
        SAY("peer own %d %d %d length %d\n", u.pid == getpid(), (int)u.uid, (int)u.gid, (int)n);
        send(pair[0], "early", 5, 0);
        TELL("set", setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
        send(pair[0], "late", 4, 0);
        write(pair[0], "written", 7);
        for (int k = 0; k < 3; k++) receive_with("with", pair[1], 50, 100, MSG_DONTWAIT);
        send_with(pair[0], "mine", 0, 0, &own, 0);
        receive_with("mine", pair[1], 50, 100, MSG_DONTWAIT);
        send_with(pair[0], "both", &pair[0], 1, &own, 0);
        if (receive_with("both", pair[1], 50, 100, MSG_DONTWAIT)) close(received[0]);
        send(pair[0], "no room", 7, 0);
        receive_with("no room", pair[1], 50, 20, MSG_DONTWAIT);
        send(pair[0], "nowhere", 7, 0);
        receive_with("nowhere", pair[1], 50, -1, MSG_DONTWAIT);
        struct ucred other = {getppid(), 5, 6};
        TELL("as root", send_with(pair[0], "claimed", 0, 0, &other, 0));
        receive_with("claimed", pair[1], 50, 100, MSG_DONTWAIT);
        other.pid = 4000000;
        TELL("nobody", send_with(pair[0], "claimed", 0, 0, &other, 0));
        if (!fork()) {
            setresgid(1001, 1001, 1001);
            setresuid(1000, 1000, 1000);
            struct ucred claims[] = {{getpid(), 1000, 1001}, {getpid(), 0, 1001}, {getpid(), 1000, 0}, {getppid(), 1000, 1001}};
            for (int k = 0; k < 4; k++) TELL("claim", send_with(pair[0], "as user", 0, 0, &claims[k], 0));
            _exit(0);
        }
        wait(0);
        receive_with("from a child", pair[1], 50, 100, MSG_DONTWAIT);
        /* Two writers' bytes are not glued. */
        send(pair[0], "parent ", 7, 0);
        if (!fork()) { send(pair[0], "child ", 6, 0); _exit(0); }
        wait(0);
        send(pair[0], "parent ", 7, 0);
        send(pair[0], "again", 5, 0);
        for (int k = 0; k < 4; k++) receive_with("glue", pair[1], 50, 100, MSG_DONTWAIT);
        close(pair[0]);
        close(pair[1]);
    }
    /* Of a connection: who listens, and who connected. */
    int s = listener(SOCK_STREAM, "cred", 3), c = socket(AF_UNIX, SOCK_STREAM, 0);
    getsockopt(c, SOL_SOCKET, SO_PEERCRED, &u, &n);
    SAY("unconnected %d %d %d\n", u.pid, (int)u.uid, (int)u.gid);
    chmod("cred", 0777);
    chmod(".", 0755);
    pid_t child = fork();
    if (!child) {
        setresgid(1001, 1001, 1001);
        setresuid(1000, 1000, 1000);
        c = socket(AF_UNIX, SOCK_STREAM, 0);
        TELL("connect", connect_to(c, "cred"));
        getsockopt(c, SOL_SOCKET, SO_PEERCRED, &u, &n);
        SAY("server parent %d %d %d\n", u.pid == getppid(), (int)u.uid, (int)u.gid);
        write(c, "x", 1);
        read(c, &c, 1);
        _exit(0);
    }
    int d = accept(s, 0, 0);
    setsockopt(d, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    char b[4];
    recv(d, b, 1, MSG_PEEK);
    receive_with("before accept", d, 9, 100, 0);
    getsockopt(d, SOL_SOCKET, SO_PEERCRED, &u, &n);
    SAY("client child %d %d %d\n", u.pid == child, (int)u.uid, (int)u.gid);
    close(d);
    wait(0);
    /* A sender gets a name when credentials are asked for. */
    d = socket(AF_UNIX, SOCK_DGRAM, 0);
    s = socket(AF_UNIX, SOCK_DGRAM, 0);
    bind_to(s, "named");
    setsockopt(d, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    send_to(d, "x", 0, "named");
    struct sockaddr_un a;
    n = sizeof a;
    recvfrom(s, b, 1, 0, (void *)&a, &n);
    SAY("name of %d bytes\n", (int)n);
}

static void *connects(void *name) {
    int c = socket(AF_UNIX, SOCK_STREAM, 0);
    long r = connect_to(c, name);
    return (void *)(r ? -(long)errno : (long)c);
}

static void *accepts(void *s) {
    int c = accept((int)(long)s, 0, 0);
    return (void *)(c < 0 ? -(long)errno : (long)c);
}

static void *reads(void *s) {
    static char text[100];
    long r = recv((int)(long)s, text, 6, MSG_WAITALL);
    return (void *)(r < 0 ? -(long)errno : r);
}

static void nothing(int signal) {}

static void waiting(void) {
    pthread_t t, more[4];
    void *r;
    int s = listener(SOCK_STREAM, "waiting", 0);
    pthread_create(&t, 0, accepts, (void *)(long)s);
    usleep(20000);
    int c = (long)connects("waiting");
    pthread_join(t, &r);
    SAY("accepted %d\n", (long)r > 0);
    write((long)r, "x", 1);
    char b[100];
    TELL("read", read(c, b, 1));
    /* Who connects waits until there is room. */
    for (int i = 0; i < 4; i++) pthread_create(&more[i], 0, connects, "waiting");
    usleep(20000);
    for (int i = 0; i < 4; i++) SAY("accept %d\n", accept(s, 0, 0) >= 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(more[i], &r);
        SAY("connected %d\n", (long)r > 0);
    }
    /* Until nobody listens any more. */
    connects("waiting");
    pthread_create(&t, 0, connects, "waiting");
    usleep(20000);
    close(s);
    pthread_join(t, &r);
    SAY("refused: %s\n", strerrorname_np(-(long)r));
    /* Shutting wakes who accepts. */
    s = listener(SOCK_STREAM, "shut", 5);
    pthread_create(&t, 0, accepts, (void *)(long)s);
    usleep(20000);
    TELL("shutdown", shutdown(s, SHUT_RDWR));
    pthread_join(t, &r);
    SAY("shut: %s\n", strerrorname_np(-(long)r));
    SAY("connect: %s\n", strerrorname_np(-(long)connects("shut")));
    nonblocking(s);
    TELL("accept", accept(s, 0, 0));
    TELL("ready", ready(s));
    close(s);
    /* All of it, or the end. */
    int pair[2];
    for (int i = 0; i < 3; i++) {
        socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
        pthread_create(&t, 0, reads, (void *)(long)pair[1]);
        write(pair[0], "abc", 3);
        usleep(20000);
        if (i == 0) write(pair[0], "defg", 4);
        if (i == 1) shutdown(pair[0], SHUT_WR);
        if (i == 2) close(pair[0]);
        pthread_join(t, &r);
        SAY("all: %ld\n", (long)r);
        if (i < 2) close(pair[0]);
        close(pair[1]);
    }
    /* A signal ends a wait. */
    struct sigaction act = {.sa_handler = nothing};
    sigaction(SIGALRM, &act, 0);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    struct itimerval soon = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &soon, 0);
    TELL("interrupted", recv(pair[0], b, 1, 0));
    write(pair[1], "ab", 2);
    setitimer(ITIMER_REAL, &soon, 0);
    TELL("interrupted", recv(pair[0], b, 9, MSG_WAITALL));
    static char big[1 << 20];
    setitimer(ITIMER_REAL, &soon, 0);
    long sent = send(pair[0], big, sizeof big, 0);
    SAY("sent a part %d\n", sent > 0 && sent < sizeof big);
    setitimer(ITIMER_REAL, &soon, 0);
    TELL("nothing", send(pair[0], big, sizeof big, 0));
    act.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &act, 0);
    struct timeval longer = {1, 0};
    int other[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, other);
    setsockopt(other[0], SOL_SOCKET, SO_RCVTIMEO, &longer, sizeof longer);
    setitimer(ITIMER_REAL, &soon, 0);
    TELL("not restarted", recv(other[0], b, 1, 0));
    /* Who waits to send learns that nobody receives. */
    signal(SIGPIPE, SIG_IGN);
    if (!fork()) { usleep(20000); _exit(0); }
    close(pair[1]);
    TELL("reset", send(pair[0], big, sizeof big, 0));
    wait(0);
    close(pair[0]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    if (!fork()) { close(pair[0]); usleep(50000); _exit(0); }
    close(pair[1]);
    errno = 0;
    sent = send(pair[0], big, sizeof big, 0);
    SAY("a part %d\n", sent > 0 && sent < sizeof big);
    wait(0);
    TELL("then", send(pair[0], big, 1, 0));
    TELL("read", recv(pair[0], b, 1, 0));
    TELL("read", recv(pair[0], b, 1, 0));
}

static void closing(void) {
    int types[] = {SOCK_STREAM, SOCK_SEQPACKET};
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        int pair[2];
        char b[10];
        SAY("type %d\n", types[i]);
        /* With something unread. */
        socketpair(AF_UNIX, types[i], 0, pair);
        write(pair[0], "unread", 6);
        write(pair[1], "left", 4);
        close(pair[1]);
        TELL("ready", ready(pair[0]));
        TELL("read", recv(pair[0], b, 10, 0));
        TELL("read", recv(pair[0], b, 10, 0));
        TELL("read", recv(pair[0], b, 10, 0));
        TELL("write", write(pair[0], "x", 1));
        close(pair[0]);
        /* With nothing unread. */
        socketpair(AF_UNIX, types[i], 0, pair);
        write(pair[1], "left", 4);
        close(pair[1]);
        TELL("ready", ready(pair[0]));
        TELL("read", recv(pair[0], b, 10, 0));
        TELL("read", recv(pair[0], b, 10, 0));
        TELL("write", write(pair[0], "x", 1));
        close(pair[0]);
        socketpair(AF_UNIX, types[i], 0, pair);
        write(pair[0], "unread", 6);
        close(pair[1]);
        TELL("write", write(pair[0], "x", 1));
        TELL("write", write(pair[0], "x", 1));
        TELL("read", recv(pair[0], b, 10, 0));
        close(pair[0]);
        /* Connections that nobody accepts. */
        char name[20];
        sprintf(name, "closing%d", i);
        int s = listener(types[i], name, 5), c = socket(AF_UNIX, types[i], 0);
        connect_to(c, name);
        TELL("write", write(c, "to nobody", 9));
        close(s);
        TELL("ready", ready(c));
        TELL("read", recv(c, b, 10, 0));
        TELL("read", recv(c, b, 10, 0));
        TELL("write", write(c, "x", 1));
        close(c);
        /* A client that is gone is accepted, with what it sent. */
        s = (unlink(name), listener(types[i], name, 5));
        c = socket(AF_UNIX, types[i], 0);
        connect_to(c, name);
        write(c, "bye", 3);
        close(c);
        int d = accept(s, 0, 0);
        TELL("ready", ready(d));
        TELL("read", recv(d, b, 10, 0));
        TELL("read", recv(d, b, 10, 0));
        close(d);
        close(s);
    }
}

static void say_events(const char *what, int e) {
    struct epoll_event events[10];
    int n = epoll_wait(e, events, 10, 0);
    SAY("%s:", what);
    for (int data = 0; data < 10; data++)
        for (int i = 0; i < n; i++)
            if (events[i].data.u32 == data) SAY(" %d %x", data, events[i].events);
    SAY("\n");
}

static void polling(void) {
    int s = socket(AF_UNIX, SOCK_STREAM, 0), e = epoll_create1(0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    struct epoll_event all = {EPOLLIN | EPOLLOUT | EPOLLRDHUP, {.u32 = 1}};
    char b[100];
    SAY("new %x\n", ready(s));
    bind_to(s, "polling");
    SAY("bound %x\n", ready(s));
    epoll_ctl(e, EPOLL_CTL_ADD, s, &all);
    say_events("bound", e);
    listen(s, 5);
    SAY("listening %x\n", ready(s));
    say_events("listening", e);
    connect_to(c, "polling");
    SAY("pending %x, client %x\n", ready(s), ready(c));
    say_events("pending", e);
    int d = accept4(s, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
    SAY("accepted %x, flags %x %x\n", ready(s), fcntl(d, F_GETFL), fcntl(d, F_GETFD));
    say_events("accepted", e);
    all.data.u32 = 2;
    epoll_ctl(e, EPOLL_CTL_ADD, c, &all);
    all.data.u32 = 3;
    all.events |= EPOLLET;
    epoll_ctl(e, EPOLL_CTL_ADD, d, &all);
    say_events("both", e);
    write(c, "abc", 3);
    say_events("written", e);
    say_events("written", e);
    read(d, b, 1);
    say_events("read a part", e);
    write(c, "d", 1);
    say_events("written more", e);
    read(d, b, 100);
    shutdown(c, SHUT_WR);
    say_events("shut", e);
    shutdown(c, SHUT_RD);
    say_events("shut", e);
    close(c);
    say_events("closed", e);
    /* A thread waits for a listener. */
    pthread_t t;
    pthread_create(&t, 0, (void *)connects, "polling");
    struct epoll_event got;
    TELL("wait", epoll_wait(e, &got, 1, 5000));
    void *r;
    pthread_join(t, &r);
    SAY("event %d %x\n", got.data.u32, got.events);
    close(accept(s, 0, 0));
    /* For room to write. */
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
    static char big[10000];
    while (write(pair[0], big, sizeof big) > 0);
    SAY("full %x\n", ready(pair[0]));
    if (!fork()) {
        usleep(20000);
        while (read(pair[1], big, sizeof big) > 0);
        _exit(0);
    }
    struct pollfd p = {pair[0], POLLOUT, 0};
    TELL("poll", poll(&p, 1, 5000));
    SAY("room %x\n", p.revents);
    wait(0);
    int u = socket(AF_UNIX, SOCK_DGRAM, 0), v = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    SAY("datagram %x\n", ready(u));
    bind_to(u, "@polling");
    connect_to(v, "@polling");
    while (send(v, "x", 1, 0) > 0);
    SAY("full %x, receiver %x\n", ready(v), ready(u));
    if (!fork()) {
        usleep(20000);
        read(u, b, 10);
        _exit(0);
    }
    p.fd = v;
    TELL("poll", poll(&p, 1, 5000));
    SAY("room %x\n", p.revents);
    wait(0);
    send(v, "x", 1, 0);
    if (!fork()) { close(v); usleep(20000); _exit(0); }
    close(u);
    TELL("poll", poll(&p, 1, 5000));
    SAY("gone %x\n", p.revents);
    TELL("send", send(v, "x", 1, 0));
    wait(0);
    u = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    SAY("packets %x\n", ready(u));
    /* What else descriptors do. */
    int file = open("content", O_CREAT | O_RDWR, 0600);
    write(file, "content of a file", 17);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    TELL("sendfile", sendfile(pair[0], file, &(off_t){0}, 100));
    TELL("read", read(pair[1], b, 100));
    SAY("%.17s\n", b);
    /* A file longer than buffers are, to one who reads late. */
    static char page[4096];
    for (int i = 0; i < 500; i++) memset(page, i, 4096), pwrite(file, page, 4096, i * 4096);
    for (int way = 0; way < 2; way++) {
        pid_t child = fork();
        if (!child) {
            off_t from = 4096;
            lseek(file, 4096, SEEK_SET);
            close(pair[1]);
            long sent = sendfile(pair[0], file, way ? &from : 0, 10 << 20);
            _exit(sent == 499 * 4096 && (way ? from : lseek(file, 0, SEEK_CUR)) == 500 * 4096 ? 3 : 4);
        }
        usleep(20000);
        long all = 0, got;
        unsigned sum = 0;
        while (all < 499 * 4096 && (got = read(pair[1], page, 4096)) > 0) {
            all += got;
            for (int i = 0; i < got; i++) sum = sum * 31 + (unsigned char)page[i];
        }
        int status;
        waitpid(child, &status, 0);
        SAY("sendfile %ld, sum %u, status %x\n", all, sum, status);
    }
    char link[100] = "", path[50];
    sprintf(path, "/proc/self/fd/%d", pair[0]);
    readlink(path, link, sizeof link - 1);
    SAY("%.8s\n", link);
    TELL("opened", open(path, O_RDWR));
}

/* Makes what the sandbox must bear. */
static void hostile(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    /* Sockets that hold themselves, again and again. */
    for (int i = 0; i < 8000; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)) { SAY("%s\n", error(-1)); break; }
        send_with(pair[0], "x", pair, 2, 0, 0);
        send_with(pair[1], "x", pair, 2, 0, 0);
        close(pair[0]);
        close(pair[1]);
    }
    SAY("cycles\n");
    /* A chain: each socket's queue has the one before, and only that. */
    int last = -1, depth = 0;
    for (; depth < 8000; depth++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)) break;
        if (last >= 0) { send_with(pair[0], "x", &last, 1, 0, 0); close(last); }
        close(pair[0]);
        last = pair[1];
    }
    SAY("chain\n");
    close(last);
    /* Connections that nobody accepts. */
    int made = 0, s = listener(SOCK_STREAM, "@hostile", 4000);
    for (;; made++) {
        int c = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect_to(c, "@hostile")) break;
        close(c);
    }
    SAY("%d connections, %s\n", made, error(-1));
    close(s);
    /* Full queues. */
    static char block[100000];
    int ends[1000][2], count = 0;
    for (; count < 1000; count++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends[count])) break;
        while (send(ends[count][0], block, sizeof block, 0) > 0);
    }
    SAY("full: %s\n", errno == EAGAIN || errno == ENFILE || errno == ENOBUFS ? "bounded" : error(-1));
    while (count--) { close(ends[count][0]); close(ends[count][1]); }
    /* Descriptors in messages. */
    int pair[2], many[253], passed = 0;
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
    for (int i = 0; i < 253; i++) many[i] = pair[i & 1];
    for (int i = 0; i < 4000; i++) {
        int two[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, two)) break;
        while (send_with(two[0], "x", many, 253, 0, 0) == 1) passed += 253;
        if (errno != EAGAIN) break;
    }
    SAY("passed: %s\n", errno == ETOOMANYREFS || errno == ENOBUFS || errno == EMFILE ? "bounded" : error(-1));
}

int main(int argc, char **argv) {
    const char *part = argc > 1 ? argv[1] : "";
    in_directory();
    if (!strcmp(part, "echo")) echo();
    if (!strcmp(part, "names")) names();
    if (!strcmp(part, "errors")) errors();
    if (!strcmp(part, "options")) options();
    if (!strcmp(part, "datagrams")) datagrams();
    if (!strcmp(part, "passing")) passing();
    if (!strcmp(part, "credentials")) credentials();
    if (!strcmp(part, "waiting")) waiting();
    if (!strcmp(part, "closing")) closing();
    if (!strcmp(part, "polling")) polling();
    if (!strcmp(part, "hostile")) hostile();
    if (!strcmp(part, "deadlock")) accept(listener(SOCK_STREAM, "deadlock", 1), 0, 0);
    SAY("to the end\n");
    char remove[100];
    snprintf(remove, sizeof remove, "rm -rf %s", directory);
    if (argc < 3) return 0;
    return system(remove);
}
