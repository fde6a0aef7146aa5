/* Calls on files whose answers depend on flags, locks, seals or attributes. Prints what each gives: the
 * same program runs natively, and the two outputs are compared. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#define MFD_EXEC 0x10
#endif

static void show(const char *what, long result) {
    if (result == -1) printf("%s: %s\n", what, strerrorname_np(errno));
    else printf("%s: %ld\n", what, result);
}
#define SHOW(call) (errno = 0, show(#call, (long)(call)))
/* For calls whose descriptor does not matter. */
#define FD(call) ({ errno = 0; long fd_ = (call); if (fd_ == -1) show(#call, -1); else printf("%s: a descriptor\n", #call); (int)fd_; })

static int file(const char *name, const char *text) {
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (write(fd, text, strlen(text)) < 0) abort();
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static void rwf(void) {
    int fd = file("rwf", "0123456789");
    char buf[16] = {0};
    struct iovec v[2] = {{buf, 3}, {buf + 3, 4}};
    SHOW(preadv2(fd, v, 2, -1, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(preadv2(fd, v, 2, 1, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(preadv2(fd, v, 2, -2, 0));
    SHOW(syscall(SYS_preadv, fd, v, 2, -1L, -1L));
    SHOW(preadv2(fd, v, 2, 0, 1));
    SHOW(preadv2(fd, v, 2, 0, 2 | 4));
    SHOW(preadv2(fd, v, 2, 0, 8));
    SHOW(preadv2(fd, v, 2, 0, 0x40));
    SHOW(preadv2(fd, v, 2, 0, 0x10000000));
    SHOW(pwritev2(fd, v, 1, 0, 0x10));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(lseek(fd, 2, SEEK_SET));
    SHOW(pwritev2(fd, v, 1, -1, 0x10));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(pwritev2(fd, v, 1, 0, 0x10 | 0x20));
    SHOW(pwritev2(fd, v, 1, 0, 0x10000000));
    int append = open("rwf", O_WRONLY | O_APPEND);
    SHOW(pwritev2(append, v, 1, 0, 0x20));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(pwritev2(append, v, 1, 0, 0));
    SHOW(lseek(fd, 0, SEEK_END));
    int p[2];
    if (pipe(p)) abort();
    SHOW(preadv2(p[0], v, 1, -1, 8));
    SHOW(preadv2(p[0], v, 1, 0, 0));
    SHOW(pwritev2(p[1], v, 2, -1, 8));
    SHOW(preadv2(p[0], v, 2, -1, 8));
    SHOW(read(p[0], (void *)8, 0));
    SHOW(write(p[1], (void *)8, 4));
    int dir = open(".", O_RDONLY);
    SHOW(preadv2(dir, v, 1, -1, 0));
    SHOW(read(dir, buf, 0));
    SHOW(read(fd, (void *)8, 4));
    SHOW(pread(fd, (void *)8, 4, 0));
    SHOW(write(fd, (void *)8, 4));
    SHOW(readv(fd, v, 0));
    SHOW(readv(fd, v, 1025));
    SHOW(readv(append, v, 1));
    v[1].iov_len = -1;
    SHOW(readv(fd, v, 2));
    SHOW(readv(append, v, 2));
    v[1].iov_len = 4;
    v[1].iov_base = (void *)8;
    SHOW(preadv(fd, v, 2, 0));
    SHOW(pwritev(fd, v, 2, 0));
    v[0].iov_base = (void *)-1;
    SHOW(preadv(fd, v, 2, 0));
    int null = open("/dev/null", O_RDWR);
    SHOW(write(null, (void *)8, 100));
    SHOW(read(null, (void *)8, 100));
    static char low[1]; // far from the end of what a program may name, unlike the stack
    SHOW(write(null, low, 0x7ffff000));
    SHOW(write(null, low, 0x80000000));
    SHOW(write(null, (void *)0x7fff80000000, 0x7fffe000));
    SHOW(write(null, (void *)0x7fff80000000, 0x7ffff000));
    SHOW(write(null, (void *)0x7fff80000001, 0x7ffff000));
    SHOW(write(null, (void *)0x7ffffffff000, 0));
    SHOW(write(null, (void *)0x7ffffffff001, 0));
    int zero = open("/dev/zero", O_RDWR);
    SHOW(read(zero, (void *)8, 100));
    SHOW(write(zero, (void *)8, 100));
    size_t big = 40u << 20;
    char *much = mmap(NULL, big, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SHOW(read(zero, much, big));
    int random = open("/dev/urandom", O_RDONLY);
    SHOW(read(random, much, 3 << 20));
    SHOW(syscall(SYS_getrandom, much, 5 << 20, 0));
    SHOW(syscall(SYS_getrandom, much, 5, 6));
    SHOW(syscall(SYS_getrandom, much, 5, 8));
    SHOW(pwrite(fd, much, big, 5));
    SHOW(pread(fd, much, big, 5));
    SHOW(lseek(fd, 0, SEEK_END));
}

static void flags(void) {
    close(file("plain", "x"));
    mkdir("dir", 0755);
    symlink("plain", "link");
    FD(open("plain", 3));
    SHOW(read(open("plain", 3), NULL, 0));
    FD(open("dir", O_RDONLY | O_TRUNC));
    FD(open("dir", 3));
    FD(open("dir", O_DIRECTORY | O_CREAT, 0600));
    FD(open("dir", O_TMPFILE | O_RDONLY, 0600));
    FD(open("dir", O_TMPFILE | O_RDWR, 0600));
    FD(open("dir", O_TMPFILE | O_WRONLY | O_EXCL, 0600));
    FD(open("plain", O_TMPFILE | O_RDWR, 0600));
    FD(open("nowhere", O_TMPFILE | O_RDWR, 0600));
    FD(open("/dev/null", O_RDWR | O_DIRECT));
    FD(open("link", O_PATH | O_NOFOLLOW));
    FD(open("link", O_NOFOLLOW));
    FD(open("plain", O_PATH | O_CREAT | O_EXCL, 0600));
    FD(open("plain", O_PATH | O_DIRECTORY));
    SHOW(fcntl(open("plain", O_PATH | O_RDWR | O_CLOEXEC), F_GETFL));
    SHOW(fcntl(open("plain", O_RDWR | O_SYNC | O_NOFOLLOW | O_CREAT), F_GETFL));
    SHOW(fcntl(open("/dev/null", O_RDWR), F_SETFL, O_DIRECT));
    SHOW(renameat2(AT_FDCWD, "plain", AT_FDCWD, "dir", 1));
    SHOW(renameat2(AT_FDCWD, "plain", AT_FDCWD, "nowhere", 2));
    SHOW(renameat2(AT_FDCWD, "plain", AT_FDCWD, "dir", 3));
    SHOW(renameat2(AT_FDCWD, "plain", AT_FDCWD, "dir", 8));
    SHOW(renameat2(AT_FDCWD, "plain", AT_FDCWD, "dir", 2 | 4));
    SHOW(fchownat(AT_FDCWD, "plain", -1, -1, 0x8000));
    SHOW(fchownat(AT_FDCWD, "link", -1, -1, AT_SYMLINK_NOFOLLOW));
    SHOW(syscall(452, AT_FDCWD, "plain", 0600, 0x8000));
    SHOW(syscall(452, AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW));
    SHOW(syscall(452, open("plain", O_PATH), "", 0640, AT_EMPTY_PATH));
    struct stat st;
    SHOW(fstatat(AT_FDCWD, "plain", &st, 0x10));
    SHOW(fstatat(AT_FDCWD, "plain", &st, AT_NO_AUTOMOUNT));
    struct statx stx;
    SHOW(statx(AT_FDCWD, "plain", 0x6000, 0, &stx));
    SHOW(statx(AT_FDCWD, "plain", 0x2000, 0, &stx));
    SHOW(statx(AT_FDCWD, "plain", 0x10, 0, &stx));
    struct timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
    SHOW(utimensat(AT_FDCWD, "nowhere", omit, 0));
    SHOW(utimensat(AT_FDCWD, "plain", NULL, 0x10));
    SHOW(syscall(SYS_utimensat, open("plain", O_RDONLY), NULL, NULL, AT_SYMLINK_NOFOLLOW));
    SHOW(syscall(SYS_utimensat, open("plain", O_RDONLY), NULL, NULL, 0));
    SHOW(unlinkat(AT_FDCWD, "plain", 0x100));
    SHOW(linkat(AT_FDCWD, "plain", AT_FDCWD, "other", 0x100));
    SHOW(faccessat(AT_FDCWD, "plain", F_OK, 0x1));
    int p[2];
    SHOW(pipe2(p, 0x10));
    SHOW(dup3(0, 9, 0x800));
    SHOW(syscall(SYS_close_range, 50, 60, 8));
    int fd = open("plain", O_RDWR), path = open("plain", O_PATH);
    SHOW(sync_file_range(fd, 0, 0, 0));
    SHOW(sync_file_range(fd, 0, 0, 8));
    SHOW(sync_file_range(fd, -1, 0, 0));
    SHOW(sync_file_range(path, 0, 0, 0));
    SHOW(sync_file_range(77, 0, 0, 8));
    if (pipe(p)) abort();
    SHOW(sync_file_range(p[0], 0, 0, 0));
    SHOW(readahead(fd, 0, 10));
    SHOW(readahead(p[0], 0, 10));
    SHOW(readahead(open("plain", O_WRONLY), 0, 10));
    SHOW(readahead(path, 0, 10));
    SHOW(fcntl(fd, 9999));
    SHOW(fcntl(fd, F_SETOWN, getpid()));
    SHOW(fcntl(fd, F_GETOWN) == getpid());
    SHOW(fcntl(fd, F_GETPIPE_SZ));
    SHOW(fallocate(fd, 0x80, 0, 10));
    SHOW(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
    SHOW(copy_file_range(fd, NULL, fd, NULL, 1, 1));
}

struct how { uint64_t flags, mode, resolve; };
static long open2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct how how = {flags, mode, resolve};
    long fd = syscall(437, dir, path, &how, sizeof how);
    return fd < 0 ? fd : (close(fd), 1000);
}

static void openat2_(void) {
    mkdir("o", 0755), mkdir("o/in", 0755);
    close(file("o/in/f", "x")), close(file("out", "x"));
    symlink("in/f", "o/link"), symlink("../out", "o/up"), symlink("/dev/null", "o/absolute");
    symlink("/in/f", "o/rooted");
    int dir = open("o", O_PATH);
    const char *paths[] = {"in/f", "in/../in/f", "../out", "link", "up", "absolute", "rooted", "/dev/null", "in/../..", "", "..", "/"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        for (int r = 0; r < 6; r++) {
            printf("%s %d ", paths[i], 1 << r);
            /* What is cached natively is chance. */
            if (r == 5) printf("\n");
            else SHOW(open2(dir, paths[i], O_RDONLY, 0, 1 << r));
        }
    SHOW(open2(AT_FDCWD, "/proc/self/cwd", O_RDONLY, 0, 2));
    SHOW(open2(AT_FDCWD, "/proc/self/cwd", O_RDONLY, 0, 0));
    SHOW(open2(AT_FDCWD, "/proc/self/exe", O_RDONLY, 0, 2));
    SHOW(open2(AT_FDCWD, "/dev/null", O_RDONLY, 0, 1));
    SHOW(open2(dir, "link", O_PATH | O_NOFOLLOW, 0, 4));
    SHOW(open2(dir, "in", O_RDONLY, 0, 0x18));
    SHOW(open2(dir, "in", O_RDONLY, 0, 0x40));
    SHOW(open2(dir, "in", O_RDONLY, 0600, 0));
    SHOW(open2(dir, "in", O_PATH | O_RDWR, 0, 0));
    SHOW(open2(dir, "in", 1ull << 40, 0, 0));
    SHOW(open2(dir, "in", 1ull << 31, 0, 0));
    SHOW(open2(dir, "new", O_CREAT | O_RDWR, 0100600, 0));
    SHOW(open2(dir, "new", O_CREAT | O_RDWR, 0600, 8));
    SHOW(open2(dir, "new", O_TRUNC | O_RDWR, 0, 0x20));
    SHOW(open2(77, "new", O_RDONLY, 0, 0));
    SHOW(open2(77, "/dev/null", O_RDONLY, 0, 0));
    SHOW(open2(77, "/dev/null", O_RDONLY, 0, 0x10));
    char how[5000] = {0};
    SHOW(syscall(437, dir, "in", how, 23));
    SHOW(syscall(437, dir, "in", how, 0));
    SHOW(syscall(437, dir, "in", how, 4097));
    SHOW(syscall(437, dir, "in", (void *)8, 24));
    how[30] = 1;
    SHOW(syscall(437, dir, "in", how, 40));
    how[30] = 0;
    FD(syscall(437, dir, "in", how, 40));
}

static void names(const char *where) {
    DIR *dir = opendir(where);
    char *all[64];
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) && n < 64;)
        all[n++] = strdup(entry->d_name);
    closedir(dir);
    qsort(all, n, sizeof *all, (int (*)(const void *, const void *))(void *)({
        int by_name(const char **a, const char **b) { return strcmp(*a, *b); }
        by_name;
    }));
    for (int i = 0; i < n; i++) printf("%s ", all[i]);
    printf("\n");
}

static void exchange(void) {
    mkdir("a", 0755), mkdir("b", 0755), mkdir("a/deep", 0755);
    close(file("a/f", "from a")), close(file("b/g", "from b"));
    SHOW(renameat2(AT_FDCWD, "a/f", AT_FDCWD, "b/g", 2));
    names("a"), names("b");
    char text[8] = {0};
    SHOW(read(open("a/f", O_RDONLY), text, 8));
    puts(text);
    SHOW(renameat2(AT_FDCWD, "a", AT_FDCWD, "b/g", 2));
    names("b"), names("b/g");
    SHOW(renameat2(AT_FDCWD, "b", AT_FDCWD, "b/g/deep", 2));
    SHOW(renameat2(AT_FDCWD, "b/g/deep", AT_FDCWD, "b", 2));
    SHOW(renameat2(AT_FDCWD, "b/nothing", AT_FDCWD, "b", 2));
    SHOW(renameat2(AT_FDCWD, "a/", AT_FDCWD, "b", 2));
    SHOW(renameat2(AT_FDCWD, "a", AT_FDCWD, "b/", 2));
    SHOW(renameat2(AT_FDCWD, "b", AT_FDCWD, "b", 2));
    SHOW(renameat2(AT_FDCWD, "b/.", AT_FDCWD, "a", 2));
    struct stat st;
    SHOW(stat("b", &st) ? -1 : (long)st.st_nlink);
    SHOW(stat("b/g/..", &st));
}

static void lock_of(const char *what, int fd, int command, short type, short whence, long start, long len) {
    struct flock lock = {.l_type = type, .l_whence = whence, .l_start = start, .l_len = len};
    int done = fcntl(fd, command, &lock);
    if (done) printf("%s: %s\n", what, strerrorname_np(errno));
    else if (command == F_GETLK || command == F_OFD_GETLK)
        printf("%s: type %d whence %d %ld+%ld pid %d\n", what, lock.l_type, lock.l_whence, (long)lock.l_start,
               (long)lock.l_len, lock.l_pid == getpid() ? 1 : lock.l_pid);
    else printf("%s: ok\n", what);
}

static void locks(void) {
    close(file("locked", "0123456789"));
    int a = open("locked", O_RDWR), b = open("locked", O_RDWR), r = open("locked", O_RDONLY);
    int w = open("locked", O_WRONLY), path = open("locked", O_PATH), same = dup(a);
    SHOW(flock(a, LOCK_EX | LOCK_NB));
    SHOW(flock(b, LOCK_EX | LOCK_NB));
    SHOW(flock(b, LOCK_SH | LOCK_NB));
    SHOW(flock(same, LOCK_SH | LOCK_NB));
    SHOW(flock(b, LOCK_SH | LOCK_NB));
    SHOW(flock(a, LOCK_EX | LOCK_NB));
    SHOW(flock(b, LOCK_EX | LOCK_NB)); /* a lost its lock */
    SHOW(flock(r, LOCK_SH | LOCK_NB));
    SHOW(flock(b, LOCK_UN));
    SHOW(flock(r, LOCK_EX | LOCK_NB));
    SHOW(flock(path, LOCK_SH | LOCK_NB));
    SHOW(flock(a, 77));
    SHOW(flock(a, LOCK_NB));
    SHOW(flock(99, 77));
    close(r);
    SHOW(flock(a, LOCK_EX | LOCK_NB));
    r = open("locked", O_RDONLY);
    lock_of("posix a", a, F_SETLK, F_WRLCK, SEEK_SET, 0, 0);
    lock_of("posix b", b, F_SETLK, F_WRLCK, SEEK_SET, 0, 0);
    lock_of("posix get b", b, F_GETLK, F_WRLCK, SEEK_SET, 0, 0);
    lock_of("ofd get b", b, F_OFD_GETLK, F_WRLCK, SEEK_SET, 3, 2);
    lock_of("ofd b", b, F_OFD_SETLK, F_RDLCK, SEEK_SET, 3, 2);
    lock_of("posix part", a, F_SETLK, F_UNLCK, SEEK_SET, 2, 4);
    lock_of("ofd get b again", b, F_OFD_GETLK, F_WRLCK, SEEK_SET, 0, 1);
    lock_of("ofd get behind", b, F_OFD_GETLK, F_WRLCK, SEEK_SET, 4, 100);
    lock_of("ofd b again", b, F_OFD_SETLK, F_RDLCK, SEEK_SET, 3, 2);
    lock_of("ofd a", a, F_OFD_SETLK, F_WRLCK, SEEK_SET, 4, 1);
    lock_of("ofd a shared", a, F_OFD_SETLK, F_RDLCK, SEEK_SET, 4, 1);
    lock_of("posix over ofd", a, F_SETLK, F_WRLCK, SEEK_SET, 3, 1);
    lock_of("posix get over ofd", a, F_GETLK, F_WRLCK, SEEK_SET, 3, 1);
    lock_of("ofd from the end", b, F_OFD_SETLK, F_WRLCK, SEEK_END, -10, 1);
    close(dup(a)); /* The process's locks are gone. */
    lock_of("after close", b, F_OFD_GETLK, F_WRLCK, SEEK_SET, 0, 1);
    lock_of("from the end", b, F_OFD_SETLK, F_WRLCK, SEEK_END, -10, 1);
    lock_of("before the start", b, F_OFD_SETLK, F_WRLCK, SEEK_SET, -1, 1);
    lock_of("before the start by length", b, F_OFD_SETLK, F_WRLCK, SEEK_SET, 1, -2);
    lock_of("backwards", b, F_OFD_SETLK, F_WRLCK, SEEK_SET, 100, -50);
    lock_of("get backwards", a, F_OFD_GETLK, F_WRLCK, SEEK_SET, 0, 0);
    lock_of("too long", b, F_OFD_SETLK, F_WRLCK, SEEK_SET, 100, 0x7fffffffffffffff);
    lock_of("too far", b, F_OFD_SETLK, F_WRLCK, SEEK_END, 0x7fffffffffffffff, 1);
    lock_of("bad whence", b, F_OFD_SETLK, F_WRLCK, 9, 0, 1);
    lock_of("bad type", b, F_OFD_SETLK, 9, SEEK_SET, 0, 1);
    lock_of("get nothing", b, F_GETLK, F_UNLCK, SEEK_SET, 0, 1);
    lock_of("read-only write", r, F_SETLK, F_WRLCK, SEEK_SET, 900, 1);
    lock_of("write-only read", w, F_SETLK, F_RDLCK, SEEK_SET, 900, 1);
    lock_of("path", path, F_SETLK, F_RDLCK, SEEK_SET, 900, 1);
    struct flock lock = {.l_type = F_WRLCK, .l_pid = 5};
    SHOW(fcntl(b, F_OFD_SETLK, &lock));
    close(b);
    lock_of("after the description", a, F_OFD_GETLK, F_WRLCK, SEEK_SET, 0, 0);
    /* Pieces of one kind are one lock. */
    lock_of("join 1", a, F_OFD_SETLK, F_WRLCK, SEEK_SET, 0, 10);
    lock_of("join 2", a, F_OFD_SETLK, F_WRLCK, SEEK_SET, 20, 10);
    lock_of("join 3", a, F_OFD_SETLK, F_WRLCK, SEEK_SET, 10, 10);
    lock_of("joined", w, F_OFD_GETLK, F_WRLCK, SEEK_SET, 5, 1);
}

static void memfd(void) {
    int fd = memfd_create("name", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    char path[64] = {0}, proc[64];
    sprintf(proc, "/proc/self/fd/%d", fd);
    if (readlink(proc, path, 63) < 0) abort();
    puts(path);
    struct stat st;
    fstat(fd, &st);
    printf("%o %d %ld\n", st.st_mode, (int)st.st_nlink, (long)st.st_size);
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fcntl(fd, F_GETFL));
    SHOW(fcntl(fd, F_GET_SEALS));
    SHOW(write(fd, "0123456789", 10));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    SHOW(ftruncate(fd, 5));
    SHOW(ftruncate(fd, 20));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    SHOW(ftruncate(fd, 30));
    SHOW(write(fd, "x", 1));
    SHOW(pwrite(fd, "xyz", 3, 18));
    SHOW(pwrite(fd, "xyz", 3, 30));
    SHOW(fallocate(fd, 0, 0, 100));
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    map[0] = 'm';
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    munmap(map, 4096);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    SHOW(fcntl(fd, F_GET_SEALS));
    SHOW(pwrite(fd, "x", 1, 0));
    SHOW(write(fd, "x", 0));
    SHOW(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    SHOW(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
    SHOW(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0);
    char c = 0;
    SHOW(pread(fd, &c, 1, 0));
    SHOW(c);
    FD(open(proc, O_RDWR | O_TRUNC));
    FD(open(proc, O_RDONLY));
    SHOW(fcntl(open(proc, O_RDONLY), F_ADD_SEALS, F_SEAL_SEAL));
    SHOW(fcntl(fd, F_ADD_SEALS, 0x100));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_EXEC));
    SHOW(fcntl(memfd_create("", 0), F_GET_SEALS));
    SHOW(fcntl(memfd_create("", 0), F_ADD_SEALS, F_SEAL_GROW));
    int x = memfd_create("x", MFD_NOEXEC_SEAL);
    fstat(x, &st);
    printf("%o\n", st.st_mode);
    SHOW(fcntl(x, F_GET_SEALS));
    SHOW(fchmod(x, 0755));
    SHOW(fchmod(x, 0600));
    int e = memfd_create("e", MFD_EXEC | MFD_ALLOW_SEALING);
    SHOW(fcntl(e, F_ADD_SEALS, F_SEAL_EXEC));
    SHOW(fcntl(e, F_GET_SEALS));
    FD(memfd_create("e", MFD_EXEC | MFD_NOEXEC_SEAL));
    FD(memfd_create("e", 0x100));
    FD(memfd_create((char *)8, 0));
    char name[300];
    memset(name, 'n', 299), name[299] = 0;
    FD(memfd_create(name, 0));
    name[249] = 0;
    FD(memfd_create(name, 0));
    SHOW(fcntl(file("plain", ""), F_GET_SEALS));
    int shm = open("/dev/shm/sealed-files-test", O_RDWR | O_CREAT, 0600);
    unlink("/dev/shm/sealed-files-test");
    SHOW(fcntl(shm, F_GET_SEALS));
    SHOW(fcntl(shm, F_ADD_SEALS, F_SEAL_GROW));
    int future = memfd_create("f", MFD_ALLOW_SEALING);
    ftruncate(future, 4096);
    map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0);
    SHOW(fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    map[1] = 'k';
    SHOW(pwrite(future, "x", 1, 0));
    SHOW(pread(future, &c, 1, 1));
    SHOW(c);
    SHOW(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0) == MAP_FAILED ? -1 : 0);
}

static void xattr(void) {
    close(file("f", "")), mkdir("d", 0755), symlink("f", "l"), mkfifo("p", 0600);
    char buf[70000] = {0}, *big = calloc(1, 70000);
    SHOW(setxattr("f", "user.a", "one", 3, 0));
    SHOW(setxattr("f", "user.a", "two", 3, XATTR_CREATE));
    SHOW(setxattr("f", "user.b", "two", 3, XATTR_REPLACE));
    SHOW(setxattr("f", "user.b", "", 0, XATTR_CREATE));
    SHOW(setxattr("f", "user.a", "three", 5, XATTR_REPLACE));
    SHOW(setxattr("f", "user.a", "x", 1, 3));
    SHOW(setxattr("f", "user.a", "x", 1, 4));
    SHOW(getxattr("f", "user.a", buf, 100));
    puts(buf);
    SHOW(getxattr("f", "user.a", NULL, 0));
    SHOW(getxattr("f", "user.a", buf, 4));
    SHOW(getxattr("f", "user.b", buf, 4));
    SHOW(getxattr("f", "user.none", buf, 4));
    SHOW(getxattr("f", "user.a", (void *)8, 100));
    SHOW(getxattr("none", "user.a", buf, 4));
    SHOW(getxattr("l", "user.a", buf, 10));
    SHOW(lgetxattr("l", "user.a", buf, 10));
    SHOW(lsetxattr("l", "user.a", "x", 1, 0));
    SHOW(lsetxattr("l", "trusted.a", "x", 1, 0));
    SHOW(setxattr("p", "user.a", "x", 1, 0));
    SHOW(setxattr("d", "user.a", "x", 1, 0));
    SHOW(setxattr("f", "user.", "x", 1, 0));
    SHOW(setxattr("f", "", "x", 1, 0));
    SHOW(setxattr("f", "nothing", "x", 1, 0));
    SHOW(setxattr("f", "foo.bar", "x", 1, 0));
    SHOW(getxattr("f", "foo.bar", buf, 1));
    SHOW(removexattr("f", "foo.bar"));
    SHOW(setxattr("f", "trusted.x", "x", 1, 0));
    SHOW(setxattr("f", "security.x", "x", 1, 0));
    SHOW(setxattr("f", "user.big", big, 65537, 0));
    SHOW(setxattr("f", "user.bad", (void *)8, 5, 0));
    char name[300] = "user.";
    memset(name + 5, 'n', 290);
    SHOW(setxattr("f", name, "x", 1, 0));
    name[255] = 0;
    SHOW(setxattr("f", name, "x", 1, 0));
    SHOW(removexattr("f", name));
    SHOW(listxattr("f", NULL, 0));
    SHOW(listxattr("f", buf, 5));
    long n = listxattr("f", buf, sizeof buf);
    int found = 0;
    for (char *at = buf; at < buf + n; at += strlen(at) + 1)
        found += !strcmp(at, "user.a") + 10 * !strcmp(at, "user.b") + 100 * !strcmp(at, "trusted.x");
    printf("%d\n", found);
    SHOW(removexattr("f", "user.b"));
    SHOW(removexattr("f", "user.b"));
    SHOW(fgetxattr(open("f", O_RDONLY), "user.a", buf, 100));
    SHOW(fsetxattr(open("f", O_RDONLY), "user.c", "c", 1, 0));
    SHOW(fremovexattr(open("f", O_RDONLY), "user.c"));
    SHOW(fgetxattr(open("f", O_PATH), "user.a", buf, 100));
    SHOW(fsetxattr(99, "user.c", "c", 1, 0));
    SHOW(flistxattr(99, buf, 0));
    SHOW(fsetxattr(99, "", "c", 1, 0));
    rename("f", "moved"), link("moved", "also");
    SHOW(getxattr("also", "user.a", buf, 100));
    SHOW(getxattr("/proc/self/status", "user.a", buf, 100));
    SHOW(setxattr("/proc/self/status", "user.a", buf, 1, 0));
}

/* Descriptors for paths only, empty paths, and offsets at the end of what there is. */
static void edges(void) {
    close(file("f", "hello")), mkdir("d", 0755), mkfifo("p", 0600);
    int path = open("f", O_PATH), dir = open("d", O_RDONLY), plain = open("f", O_RDWR), mem = memfd_create("m", 0);
    struct stat st;
    struct timespec times[2] = {{1, 0}, {2, 0}};
    char buf[8];
    SHOW(fchmod(path, 0600));
    SHOW(fchown(path, -1, -1));
    SHOW(fsync(path));
    SHOW(fdatasync(path));
    SHOW(syncfs(path));
    SHOW(syscall(SYS_fadvise64, path, 0, 0, 3));
    SHOW(syscall(SYS_utimensat, path, NULL, times, 0));
    SHOW(syscall(SYS_utimensat, plain, NULL, times, 0));
    SHOW(fstat(path, &st));
    SHOW(fchdir(path));
    SHOW(fchdir(open("d", O_PATH)));
    SHOW(chdir(".."));
    int at[] = {path, plain, dir, 99, AT_FDCWD};
    for (int i = 0; i < 5; i++) {
        SHOW(fstatat(at[i], "", &st, AT_SYMLINK_NOFOLLOW));
        SHOW(syscall(SYS_faccessat2, at[i], "", R_OK, 0));
        SHOW(fchownat(at[i], "", -1, -1, 0));
        SHOW(utimensat(at[i], "", times, 0));
        SHOW(openat(at[i], "", O_RDONLY));
        SHOW(unlinkat(at[i], "", 0));
        SHOW(mkdirat(at[i], "", 0700));
        SHOW(renameat(at[i], "", at[i], "x"));
        SHOW(linkat(at[i], "", AT_FDCWD, "x", 0));
        SHOW(readlinkat(at[i], "", buf, sizeof buf));
    }
    SHOW(open("p", 3 | O_NONBLOCK));
    long offsets[] = {-1, -5, 0x7fffffffffffffff, 0x7ffffffffffffffb, 0x7ffffffffffffffa};
    int fds[] = {plain, dir, mem, open("/dev/null", O_RDWR), open("/dev/zero", O_RDWR)};
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 5; k++) {
            struct iovec vec = {buf, 5};
            SHOW(pread(fds[i], buf, 5, offsets[k]));
            SHOW(preadv(fds[i], &vec, 1, offsets[k]));
            if (i != 2 || k < 4) SHOW(pwrite(fds[i], buf, 5, offsets[k]));
            if (i != 2 || k < 4) SHOW(pwritev(fds[i], &vec, 1, offsets[k]));
            if (i != 1) SHOW(lseek(fds[i], offsets[k], SEEK_SET));
            if (i != 1) SHOW(lseek(fds[i], 0, SEEK_SET));
        }
    SHOW(fcntl(plain, F_SETFL, O_ASYNC | O_APPEND));
    SHOW(fcntl(plain, F_GETFL));
}

struct old { unsigned long ino, off; unsigned short len; char name[]; };

static void dents(void) {
    mkdir("many", 0755);
    for (int i = 0; i < 40; i++) {
        char name[64];
        sprintf(name, "many/%0*d", i + 1, i);
        if (i % 3 == 0) mkdir(name, 0755);
        else close(open(name, O_CREAT | O_WRONLY, 0600));
    }
    int fd = open("many", O_RDONLY);
    char buf[512];
    unsigned sum = 0, count = 0;
    for (long n; (n = syscall(SYS_getdents, fd, buf, sizeof buf)) > 0;)
        for (char *at = buf; at < buf + n;) {
            struct old *entry = (void *)at;
            char type = at[entry->len - 1];
            sum += type * 7 + strlen(entry->name) + entry->len % 8 * 1000;
            count++;
            at += entry->len;
        }
    printf("%u %u\n", count, sum);
    lseek(fd, 0, SEEK_SET);
    SHOW(syscall(SYS_getdents, fd, buf, 10));
    SHOW(syscall(SYS_getdents, fd, (void *)8, 512));
    SHOW(syscall(SYS_getdents, 99, buf, 512));
    SHOW(syscall(SYS_getdents, open("many/00", O_RDONLY), buf, 512));
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    char dir[200];
    snprintf(dir, sizeof dir, "%s/files-XXXXXX", getenv("TMPDIR") ?: "/tmp");
    if (!mkdtemp(dir) || chdir(dir)) return 1;
    if (!strcmp(argv[1], "rwf")) rwf();
    else if (!strcmp(argv[1], "flags")) flags();
    else if (!strcmp(argv[1], "openat2")) openat2_();
    else if (!strcmp(argv[1], "exchange")) exchange();
    else if (!strcmp(argv[1], "locks")) locks();
    else if (!strcmp(argv[1], "memfd")) memfd();
    else if (!strcmp(argv[1], "xattr")) xattr();
    else if (!strcmp(argv[1], "dents")) dents();
    else if (!strcmp(argv[1], "edges")) edges();
    else return 2;
    puts("done");
    char command[300];
    sprintf(command, "rm -rf %s", dir);
    return argc > 2 ? system(command) : 0;
}
