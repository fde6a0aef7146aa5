/* Mappings and the files behind them: what programs see of each other's writes through maps and
 * descriptors, what goes when a file is cut, what grows. With no argument it makes hundreds of calls
 * with arguments at the edges. Runs natively and in the sandbox; the two outputs are compared.
 *
 * Where it reads a byte of standard input (`pause_here`), a snapshot may be made. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096L
#define BASE ((char *)0x200000000)

static void pause_here(void) {
    char byte;
    fflush(stdout);
    if (read(0, &byte, 1) != 1) _exit(3);
}

static sigjmp_buf back;
static volatile int code_seen;

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    code_seen = info->si_code;
    siglongjmp(back, number);
}

static void catch_faults(void) {
    static char stack[65536];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alt, NULL);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

/* What the byte at an address is, or the signal that looking gives. */
static const char *look(const volatile char *at) {
    static char text[8][32];
    static int turn;
    char *out = text[turn++ % 8];
    int number = sigsetjmp(back, 1);
    if (number == 0) {
        char c = *at;
        snprintf(out, 32, c ? "%c" : "0", c);
    } else {
        snprintf(out, 32, "%s/%d", number == SIGBUS ? "BUS" : "SEGV", code_seen);
    }
    return out;
}

static const char *store(volatile char *at, char c) {
    static char text[8][32];
    static int turn;
    char *out = text[turn++ % 8];
    int number = sigsetjmp(back, 1);
    if (number == 0) {
        *at = c;
        return "stored";
    }
    snprintf(out, 32, "%s/%d", number == SIGBUS ? "BUS" : "SEGV", code_seen);
    return out;
}

static const char *name_of(long result) { return result == -1 ? strerrorname_np(errno) : "ok"; }

static void show(const char *what, char *at, int pages) {
    printf("%s:", what);
    for (int i = 0; i < pages; i++) printf(" %s", look(at + i * PAGE));
    printf("\n");
}

/* A file of pages of one letter each, open for reading and writing. */
static int file_of(const char *name, const char *letters) {
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    static char page[PAGE];
    for (; *letters; letters++) {
        memset(page, *letters, PAGE);
        if (write(fd, page, PAGE) != PAGE) _exit(9);
    }
    return fd;
}

static void put(int fd, long page, char c) {
    static char bytes[PAGE];
    memset(bytes, c, PAGE);
    if (pwrite(fd, bytes, PAGE, page * PAGE) != PAGE) printf("pwrite: %s\n", strerrorname_np(errno));
}

static char *map(int fd, int pages, int protection, int flags) {
    char *at = mmap(NULL, pages * PAGE, protection, flags, fd, 0);
    if (at == MAP_FAILED) printf("mmap: %s\n", strerrorname_np(errno));
    return at;
}

/* Shared maps by descriptors that cannot write see later writes, by another descriptor too. */
static void shared_reader(void) {
    int fd = file_of("f", "abcd");
    close(fd);
    int reader = open("f", O_RDONLY);
    char *at = map(reader, 4, PROT_READ, MAP_SHARED), *late = map(reader, 4, PROT_READ, MAP_SHARED);
    show("before", at, 4);
    int writer = open("f", O_RDWR);
    put(writer, 1, 'B');
    show("after a write", at, 4);
    show("never looked at", late, 4);
    printf("mprotect: %s\n", name_of(mprotect(at, PAGE, PROT_READ | PROT_WRITE)));
    printf("store: %s\n", store(at, 'x'));
    pause_here();
    char *both = map(writer, 4, PROT_READ | PROT_WRITE, MAP_SHARED);
    both[2 * PAGE] = 'C';
    put(writer, 3, 'D');
    show("after a store", at, 4);
    show("never looked at", late, 4);
    munmap(both, 4 * PAGE);
    put(writer, 0, 'A');
    show("once the writer is unmapped", at, 4);
    char *some = map(writer, 4, PROT_READ, MAP_SHARED);
    printf("mprotect: %s\n", name_of(mprotect(some, PAGE, PROT_READ | PROT_WRITE)));
    printf("store: %s\n", store(some, 'z'));
    show("after that", at, 4);
    unlink("f");
    close(writer);
    close(reader);
    show("without a name", late, 4);
}

/* Private maps see the file's writes until their pages are copied. */
static void private_reader(void) {
    int fd = file_of("f", "abcdef");
    char *at = map(fd, 6, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    char *untouched = map(fd, 6, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    at[0] = 'x';
    *(volatile char *)(at + PAGE) = at[PAGE]; /* A copy, though alike. */
    show("read", at, 3);
    for (int i = 0; i < 6; i++) put(fd, i, (char)('A' + i));
    show("after writes", at, 6);
    show("untouched", untouched, 6);
    at[3 * PAGE] = 'y';
    untouched[4 * PAGE + 1] = 'w';
    put(fd, 3, '3');
    put(fd, 4, '4');
    put(fd, 5, '5');
    show("after more", at, 6);
    show("untouched", untouched, 6);
    pause_here();
    put(fd, 2, '2');
    put(fd, 5, '6');
    show("later", at, 6);
    show("untouched", untouched, 6);
    char *both = map(fd, 6, PROT_READ | PROT_WRITE, MAP_SHARED);
    both[2 * PAGE] = 's';
    both[0] = 's';
    show("after stores", at, 6);
    printf("dontneed: %s\n", name_of(madvise(at, 6 * PAGE, MADV_DONTNEED)));
    show("dropped", at, 6);
    char *moved = mremap(untouched, 6 * PAGE, 9 * PAGE, MREMAP_MAYMOVE);
    show("moved", moved, 7);
    put(fd, 1, '1');
    show("moved", moved, 6);
    mprotect(moved, 6 * PAGE, PROT_READ);
    mprotect(moved, 6 * PAGE, PROT_READ | PROT_WRITE);
    moved[PAGE] = 'p';
    put(fd, 1, '!');
    show("protected", moved, 6);
    if (pread(fd, moved + 2 * PAGE, 10, PAGE) != 10) printf("pread\n");
    put(fd, 2, '?');
    show("read into", moved, 6);
    char byte = 0;
    if (pread(fd, &byte, 1, 2 * PAGE) != 1) printf("pread\n");
    printf("file: %c\n", byte);
    close(fd);
}

/* A file of the host, of which the maps are made before anybody thinks of writing to it. */
static void host_file(void) {
    int fd = open("host", O_RDWR);
    if (fd < 0) printf("open: %s\n", strerrorname_np(errno));
    int reader = open("host", O_RDONLY);
    char *at = map(reader, 6, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    char *untouched = map(reader, 6, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    char *shared = map(reader, 6, PROT_READ, MAP_SHARED);
    at[PAGE] = 'x';
    show("before", at, 4);
    put(fd, 0, 'A');
    put(fd, 1, 'B');
    show("written", at, 6);
    show("untouched", untouched, 6);
    show("shared", shared, 6);
    pause_here();
    put(fd, 4, 'E');
    untouched[5 * PAGE] = 'u';
    put(fd, 5, 'F');
    show("later", at, 6);
    show("untouched", untouched, 6);
    show("shared", shared, 6);
    printf("truncate: %s\n", name_of(truncate("host", 2 * PAGE + 100)));
    show("cut", at, 6);
    show("untouched", untouched, 6);
    show("shared", shared, 6);
    printf("truncate: %s\n", name_of(truncate("host", 6 * PAGE)));
    show("grown", at, 6);
    show("untouched", untouched, 6);
    show("shared", shared, 6);
}

/* Cutting a file takes its pages away, private copies included. */
static void cut(void) {
    int fd = file_of("f", "abcdef");
    char *shared = map(fd, 8, PROT_READ | PROT_WRITE, MAP_SHARED);
    char *private = map(fd, 8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    char *untouched = map(fd, 8, PROT_READ, MAP_PRIVATE);
    private[5 * PAGE] = 'x';
    private[0] = 'y';
    show("whole", shared, 8);
    show("private", private, 8);
    printf("ftruncate: %s\n", name_of(ftruncate(fd, 3 * PAGE + 10)));
    show("cut", shared, 8);
    show("private", private, 8);
    show("untouched", untouched, 8);
    printf("tail: %s %s\n", look(shared + 3 * PAGE + 9), look(shared + 3 * PAGE + 10));
    printf("store: %s %s\n", store(shared + 4 * PAGE, 'n'), store(private + 4 * PAGE, 'n'));
    pause_here();
    char byte[2];
    errno = 0;
    printf("read: %s\n", name_of(read(fd, shared + 5 * PAGE, 1)));
    printf("pread: %s\n", name_of(pread(fd, private + 5 * PAGE, 1, 0)));
    printf("pwrite: %s\n", name_of(pwrite(fd, shared + 5 * PAGE, 1, 0)));
    printf("ftruncate: %s\n", name_of(ftruncate(fd, 7 * PAGE)));
    show("grown", shared, 8);
    show("private", private, 8);
    show("untouched", untouched, 8);
    printf("punch: %s\n",
           name_of(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, 2 * PAGE)));
    show("punched", shared, 8);
    show("private", private, 8);
    put(fd, 6, 'g');
    private[6 * PAGE] = 'h';
    printf("again: %d\n", open("f", O_RDWR | O_TRUNC) > 0);
    show("empty", shared, 8);
    show("private", private, 8);
    put(fd, 1, 'z');
    show("written", shared, 8);
    show("private", private, 8);
    munmap(shared, 8 * PAGE);
    munmap(private, 8 * PAGE);
    printf("%zd\n", pread(fd, byte, 1, PAGE));
    show("left", untouched, 4);
}

static void remove_pages(void) {
    char *at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 4; i++) at[i * PAGE] = (char)('a' + i);
    printf("dontneed: %s\n", name_of(madvise(at, 4 * PAGE, MADV_DONTNEED)));
    show("shared", at, 4);
    printf("remove: %s\n", name_of(madvise(at + PAGE, 2 * PAGE, MADV_REMOVE)));
    show("removed", at, 4);
    int fd = file_of("f", "abcd");
    char *of_file = map(fd, 4, PROT_READ | PROT_WRITE, MAP_SHARED);
    printf("remove: %s\n", name_of(madvise(of_file + PAGE, PAGE, MADV_REMOVE)));
    show("removed", of_file, 4);
    char byte;
    printf("%zd %d\n", pread(fd, &byte, 1, PAGE), byte);
    char *again = mremap(at, 0, 4 * PAGE, MREMAP_MAYMOVE);
    again[0] = '!';
    show("twice", at, 4);
    char *private = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(private, 'p', 4 * PAGE);
    char *to = mremap(private, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    show("moved", to, 4);
    show("left", private, 4);
    char *copies = map(fd, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    copies[3 * PAGE] = 'c';
    to = mremap(copies, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    show("moved", to, 4);
    show("left", copies, 4);
    to = mremap(of_file, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    show("moved", to, 4);
    show("left", of_file, 4);
    int zero = open("/dev/zero", O_RDWR);
    char *zeros = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    zeros[PAGE] = 'z';
    show("zeros", zeros, 2);
    zeros = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, zero, 0);
    zeros[PAGE] = 'z';
    show("zeros", zeros, 2);
}

static int deep(long bytes) {
    volatile char frame[16384];
    frame[0] = (char)bytes;
    if (bytes <= 0) return frame[0];
    return deep(bytes - (long)sizeof frame) + frame[0];
}

static void stack(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    limit.rlim_cur = 64 << 20;
    printf("setrlimit: %s\n", name_of(setrlimit(RLIMIT_STACK, &limit)));
    printf("%d\n", deep(50 << 20));
    /* A call that writes where the stack has not grown to yet. */
    int fd = file_of("f", "abcdefgh");
    char *here = (char *)__builtin_frame_address(0);
    printf("pread: %zd\n", pread(fd, here - (55 << 20), 8 * PAGE, 0));
    pause_here();
    printf("far: %s\n", look(here - (55 << 20)));
    printf("further: %s\n", look(here - (70L << 20)));
    int number = sigsetjmp(back, 1);
    if (number == 0) printf("%d\n", deep(1L << 30));
    printf("%d %d\n", number, code_seen);
}

static void grows_down(void) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    char *at = mmap(BASE + 600 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE, flags | MAP_GROWSDOWN, -1, 0);
    at[0] = 'a';
    printf("below: %s %s\n", store(at - PAGE, 'b'), store(at - 3 * PAGE, 'd'));
    mmap(BASE, PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    printf("gap: %s %s\n", store(BASE + 257 * PAGE, 'g'), store(BASE + 256 * PAGE, 'n'));
    printf("mprotect: %s\n", name_of(mprotect(at + 2 * PAGE, PAGE, PROT_READ | PROT_GROWSDOWN)));
    printf("%s %s %s %s\n", store(at + 3 * PAGE, 's'), store(at + 2 * PAGE, 's'), store(at, 's'),
           look(BASE + 257 * PAGE));
    printf("plain: %s\n", name_of(mprotect(BASE, PAGE, PROT_READ | PROT_GROWSDOWN)));
    char *here = (char *)((uintptr_t)__builtin_frame_address(0) & -PAGE);
    printf("stack: %s\n", name_of(mprotect(here, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN)));
    printf("%d\n", deep(1 << 20));
    memcpy(here - (2 << 20), "\xc3", 1);
    ((void (*)(void))(here - (2 << 20)))();
    printf("executed\n");
}

static void proc_mem(void) {
    int fd = open("/proc/self/mem", O_RDWR);
    char *at = mmap(BASE, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memset(at, 'a', 4 * PAGE);
    mprotect(at + PAGE, PAGE, PROT_READ);
    mprotect(at + 2 * PAGE, PAGE, PROT_NONE);
    munmap(at + 3 * PAGE, PAGE);
    static char buffer[5 * PAGE];
    printf("%zd\n", pread(fd, buffer, 5 * PAGE, (off_t)(uintptr_t)at));
    printf("%s\n", name_of(pread(fd, buffer, PAGE, (off_t)(uintptr_t)(at + 3 * PAGE))));
    printf("%zd\n", pwrite(fd, "xyz", 3, (off_t)(uintptr_t)(at + PAGE + 5)));
    printf("%.9s\n", at + PAGE);
    printf("%zd\n", pwrite(fd, "none", 4, (off_t)(uintptr_t)(at + 2 * PAGE)));
    printf("%zd\n", pwrite(fd, buffer, 2 * PAGE, (off_t)(uintptr_t)(at + 2 * PAGE)));
    mprotect(at + 2 * PAGE, PAGE, PROT_READ);
    printf("%c\n", at[2 * PAGE]);
    printf("%lx\n", (long)lseek(fd, (off_t)(uintptr_t)at, SEEK_SET));
    printf("%zd %c\n", read(fd, buffer, 7), buffer[0]);
    printf("%lx %s\n", (long)(lseek(fd, 0, SEEK_CUR) - (long)at), name_of(lseek(fd, 0, SEEK_END)));
    printf("%s\n", name_of(pread(fd, buffer, 1, 0)));
    printf("%s\n", name_of(pwrite(fd, buffer, 1, 0)));
    printf("%zd\n", pread(fd, buffer, 0, 0));
    int file = file_of("f", "abcd"), reader = open("f", O_RDONLY);
    char *shared = map(reader, 2, PROT_READ, MAP_SHARED), *both = map(file, 2, PROT_READ, MAP_SHARED);
    char *private = map(reader, 2, PROT_READ, MAP_PRIVATE);
    printf("%s\n", name_of(pwrite(fd, "q", 1, (off_t)(uintptr_t)shared)));
    printf("%s\n", name_of(pwrite(fd, "q", 1, (off_t)(uintptr_t)both)));
    printf("%s\n", name_of(pwrite(fd, "q", 1, (off_t)(uintptr_t)private)));
    put(file, 0, 'F');
    show("shared", shared, 2);
    show("private", private, 2);
}

#define T(call) (errno = 0, print_result(#call, (long)(call)))

static void print_result(const char *call, long result) { printf("%s: %s\n", call, name_of(result)); }

static void *anonymous(int pages, int flags) {
    return mmap(BASE, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0);
}

/* Advice of several ranges: what this process's own number stands for is always there, but has been named
 * by it only since Linux 6.14. */
static void advise_vectors(void) {
    int self = -10001;
    if (syscall(SYS_process_madvise, self, 0, 0, MADV_DONTNEED, 0)) self = syscall(SYS_pidfd_open, getpid(), 0);
    char *at = anonymous(8, 0);
    struct iovec parts[] = {{at, PAGE}, {at + 2 * PAGE, 10}, {at, 0}, {at + 4 * PAGE, PAGE}, {at + 6 * PAGE, PAGE}};
    struct iovec odd[] = {{at, PAGE}, {at + 1, PAGE}}, far[] = {{at, PAGE}, {(void *)-PAGE, PAGE}};
    struct iovec long_one[] = {{at, PAGE}, {at, -1}};
    for (int advice = 0; advice < 25; advice++) {
        /* What is not there for all, or is an end. */
        if (advice == 5 || advice == 6 || advice == 7 || advice == 12 || advice == 13) continue;
        memset(at, 'x', 8 * PAGE);
        mprotect(at + 6 * PAGE, PAGE, PROT_READ);
        long n = syscall(SYS_process_madvise, self, parts, 5, advice, 0);
        printf("advice %d: %ld %s; %d %d %d\n", advice, n, n < 0 ? strerror(errno) : "", at[0], at[2 * PAGE], at[4 * PAGE]);
        mprotect(at + 6 * PAGE, PAGE, PROT_READ | PROT_WRITE);
    }
    munmap(at + 4 * PAGE, PAGE);
    long n = syscall(SYS_process_madvise, self, parts, 5, MADV_DONTNEED, 0);
    printf("advice by vectors: %ld %d %d\n", n, at[0], at[6 * PAGE]);
    parts[0].iov_base = at + 4 * PAGE;
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, self, parts, 5, MADV_DONTNEED, 0)));
    printf("advice by vectors: %ld\n", syscall(SYS_process_madvise, self, odd, 2, MADV_DONTNEED, 0));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, self, odd + 1, 1, MADV_DONTNEED, 0)));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, self, far, 2, MADV_DONTNEED, 0)));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, self, long_one, 2, MADV_DONTNEED, 0)));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, self, parts, 1025, MADV_DONTNEED, 0)));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, self, (void *)8, 1, MADV_DONTNEED, 0)));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, self, odd, 1, MADV_DONTNEED, 1)));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, self, odd, 1, 1000, 0)));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, self, odd, 0, 1000, 0)));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, -1, odd, 1, MADV_DONTNEED, 0)));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, 0, odd, 1, MADV_DONTNEED, 0)));
    printf("advice by vectors: %s\n", name_of(syscall(SYS_process_madvise, 0, (void *)8, 1, MADV_DONTNEED, 0)));
}

/* What is placed beside what is alike is one mapping with it. */
static void neighbours(void) {
    char *at[5], line[512];
    for (int i = 0; i < 5; i++)
        at[i] = mmap((char *)BASE + (4 - i) * 3 * PAGE, 3 * PAGE, PROT_READ | PROT_WRITE,
                     MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(at[2], 3 * PAGE);
    for (int turn = 0; turn < 2; turn++) {
        FILE *maps = fopen("/proc/self/maps", "r");
        unsigned long start, end;
        int n = 0;
        while (fgets(line, sizeof line, maps))
            if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start < (unsigned long)at[0] + 3 * PAGE)
                n += (unsigned long)at[4] < end;
        fclose(maps);
        printf("%d mappings, %ld pages apart\n", n, (at[0] - at[4]) / PAGE);
        mmap(at[2], 3 * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
}

static void edges(void) {
    char *p = anonymous(16, 0);
    int fd = file_of("f", "abcd"), reader = open("f", O_RDONLY), writer = open("f", O_WRONLY);
    int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;
    T(mmap(0, PAGE, rw, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0));
    T(mmap(0, PAGE, rw, MAP_SHARED_VALIDATE, fd, 0));
    T(mmap(0, PAGE, rw, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0));
    T(mmap(0, PAGE, rw, MAP_SHARED | MAP_SYNC, fd, 0));
    T(mmap(0, PAGE, rw, MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE, fd, 0));
    T(mmap(p, PAGE, rw, anon | MAP_FIXED_NOREPLACE, -1, 0));
    T(mmap(p + 1, PAGE, rw, anon | MAP_FIXED, -1, 0));
    T(mmap((void *)-PAGE, PAGE, rw, anon | MAP_FIXED, -1, 0));
    T(mmap(0, -PAGE, rw, anon, -1, 0));
    T(mmap(0, 1L << 47, rw, anon, -1, 0));
    T(mmap(0, PAGE, rw, anon | MAP_HUGETLB, -1, 0));
    T(mmap(0, PAGE, rw, anon | MAP_HUGETLB | 20 << 26, -1, 0));
    T(mmap(0, PAGE, rw, MAP_PRIVATE | MAP_HUGETLB, fd, 0));
    T(mmap(0, PAGE, rw, MAP_PRIVATE | MAP_GROWSDOWN, fd, 0));
    T(mmap(0, PAGE, rw, MAP_SHARED | MAP_GROWSDOWN | MAP_ANONYMOUS, -1, 0));
    T(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0x7ffffffffffff000));
    T(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, -PAGE));
    T(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 1));
    T(mmap(0, PAGE, PROT_READ, anon, -1, 1));
    T(mmap(0, 2 * PAGE, PROT_READ, anon, -1, -PAGE));
    T(mmap(0, PAGE, rw, MAP_SHARED, reader, 0));
    T(mmap(0, PAGE, rw, MAP_PRIVATE, reader, 0));
    T(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, writer, 0));
    T(mmap(0, PAGE, PROT_WRITE, MAP_SHARED, writer, 0));
    T(mmap(0, PAGE, rw, 0, fd, 0));
    T(mmap(0, PAGE, rw, 4, fd, 0));
    T(mmap(0, PAGE, rw, MAP_ANONYMOUS | 4, -1, 0));
    T(mmap(0, 0, rw, anon, -1, 0));
    T(mmap(0, PAGE, rw, anon | MAP_POPULATE | MAP_LOCKED, -1, 0));
    T(mmap(0, PAGE, rw, MAP_PRIVATE, -1, 0));
    int dir = open(".", O_RDONLY), path = open(".", O_PATH), ends[2];
    T(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, dir, 0));
    T(mmap(0, PAGE, rw, MAP_SHARED, dir, 0));
    T(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, path, 0));
    static const char *const devices[] = {"/dev/zero", "/dev/null", "/dev/full", "/dev/urandom",
                                          "/proc/self/maps", "/proc/self/mem"};
    for (int i = 0; i < 6; i++) {
        int device = open(devices[i], O_RDONLY);
        printf("%s ", devices[i]);
        T(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, device, 0));
        printf("%s ", devices[i]);
        T(mmap(0, PAGE, PROT_READ, MAP_SHARED, device, 0));
    }
    if (pipe(ends)) _exit(1);
    T(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, ends[0], 0));
    unsigned long low = (unsigned long)mmap(0, PAGE, rw, anon | MAP_32BIT, -1, 0);
    printf("low: %d\n", low < 0x80000000ul);

    /* MADV_COLLAPSE depends on the kernel's build, and what comes after 25 on its age. */
    for (int advice = -1; advice < 25; advice++) {
        char *hole = anonymous(4, 0), *ro = map(reader, 2, PROT_READ, MAP_SHARED);
        munmap(hole + PAGE, PAGE);
        char *shared = map(fd, 2, PROT_READ, MAP_SHARED), *private = map(fd, 2, rw, MAP_PRIVATE);
        printf("advice %d\n", advice);
        T(madvise(hole, 4 * PAGE, advice));
        T(madvise(hole, PAGE, advice));
        T(madvise(hole + 1, PAGE, advice));
        T(madvise(hole + PAGE, PAGE, advice));
        T(madvise(hole, -PAGE, advice));
        T(madvise(hole, -1, advice));
        T(madvise(hole, 0, advice));
        T(madvise(ro, PAGE, advice));
        T(madvise(shared, PAGE, advice));
        T(madvise(private, PAGE, advice));
        mprotect(hole, PAGE, PROT_NONE);
        T(madvise(hole, PAGE, advice));
        mprotect(hole, PAGE, PROT_READ);
        T(madvise(hole, PAGE, advice));
        mlock(hole, PAGE);
        T(madvise(hole, PAGE, advice));
        munmap(hole, 4 * PAGE), munmap(ro, 2 * PAGE), munmap(shared, 2 * PAGE), munmap(private, 2 * PAGE);
    }
    T(madvise(p, PAGE, 26));
    T(madvise(p, PAGE, 1000));
    p = anonymous(16, 0);
    p[0] = p[2 * PAGE] = 'x';
    munmap(p + PAGE, PAGE);
    T(madvise(p, 4 * PAGE, MADV_DONTNEED));
    printf("%d %d\n", p[0], p[2 * PAGE]);
    p = anonymous(16, 0);
    char *beyond = map(fd, 8, PROT_READ, MAP_PRIVATE), *none = mmap(0, PAGE, PROT_NONE, anon, -1, 0);
    T(madvise(beyond, 8 * PAGE, MADV_POPULATE_READ));
    T(madvise(beyond, 4 * PAGE, MADV_POPULATE_READ));
    T(mlock(beyond, 8 * PAGE));
    T(mlock(none, PAGE));
    T(munlock(none, PAGE));
    T(mlock(p, 0));
    T(mlock((void *)1, PAGE));
    T(mlock(p, -1));
    T(mlock(p, -PAGE));
    T(munlock((void *)1, PAGE));
    T(syscall(SYS_mlock2, p, PAGE, 2));
    T(syscall(SYS_mlock2, p, PAGE, 1));
    T(syscall(SYS_mlock2, none, PAGE, 1));
    T(mlockall(0));
    T(mlockall(4));
    T(mlockall(8));
    T(munlockall());
    T(mlock(p, PAGE));
    T(msync(p, PAGE, MS_INVALIDATE));
    T(munlock(p, PAGE));
    for (int flags = 0; flags < 9; flags++) {
        printf("msync %d\n", flags);
        T(msync(p, PAGE, flags));
        T(msync(p, 0, flags));
        T(msync(p + 1, PAGE, flags));
        T(msync((void *)PAGE, PAGE, flags));
        T(msync(p, 17 * PAGE, flags));
        T(msync(p, -PAGE, flags));
        T(msync(p, -1, flags));
    }
    T(mprotect(p, PAGE, PROT_GROWSDOWN | 1));
    T(mprotect(p, PAGE, PROT_GROWSUP | 1));
    T(mprotect(p, PAGE, PROT_GROWSUP | PROT_GROWSDOWN));
    T(mprotect(p - 4 * PAGE, PAGE, PROT_GROWSDOWN | 1));
    T(mprotect(p - 4 * PAGE, PAGE, PROT_GROWSUP | 1));
    T(mprotect(p - 4 * PAGE, 8 * PAGE, 1));
    T(mprotect(p, 17 * PAGE, rw));
    T(mprotect(p, PAGE, 8 | rw));
    T(mprotect(p, PAGE, 16));
    T(mprotect(p, PAGE, -1));
    T(mprotect(p, -1, rw));
    T(mprotect(p, -PAGE, rw));
    T(mprotect(p, 0, rw));
    T(mprotect(p, 0, 77));
    T(mprotect(p + 1, 0, rw));
    char *ro = map(reader, 2, PROT_READ, MAP_SHARED), *both = map(fd, 2, PROT_READ, MAP_SHARED);
    T(mprotect(ro, PAGE, rw));
    T(mprotect(ro, PAGE, PROT_NONE));
    T(mprotect(ro, PAGE, PROT_READ));
    T(mprotect(both, PAGE, rw));
    T(munmap(p, 0));
    T(munmap(p + 1, PAGE));
    T(munmap(p, -PAGE));
    T(munmap(p - 8 * PAGE, 4 * PAGE));
    T(munmap((void *)-PAGE, PAGE));
    T(mremap(p, PAGE, PAGE, 2, 0));
    T(mremap(p, PAGE, PAGE, 3, p));
    T(mremap(p, 2 * PAGE, 2 * PAGE, 3, p + PAGE));
    T(mremap(p, PAGE, PAGE, 3, p + 20 * PAGE + 1));
    T(mremap(p, PAGE, 2 * PAGE, 5, 0));
    T(mremap(p, PAGE, PAGE, 4, 0));
    T(mremap(p, 0, PAGE, 1));
    T(mremap(both, 0, PAGE, 0));
    T(mremap(both, 0, PAGE, 1));
    T(mremap(ro, 0, PAGE, 1));
    T(mremap(both, 0, 2 * PAGE, 3, p + 40 * PAGE));
    T(mremap(p, 0, 0, 1));
    T(mremap(p, PAGE, 0, 1));
    T(mremap(p, PAGE, PAGE, 8));
    T(mremap(p, PAGE, -PAGE, 1));
    T(mremap(p, PAGE, -1, 1));
    T(mremap(p + 1, PAGE, PAGE, 0));
    T(mremap(p - 8 * PAGE, PAGE, PAGE, 0));
    T(mremap(p - 8 * PAGE, PAGE, 0, 0));
    T(mremap(p, 2 * PAGE, 3 * PAGE, 0));
    T(mremap(p, 16 * PAGE, 17 * PAGE, 0));
    T(mremap(p, 17 * PAGE, 17 * PAGE, 0));
    T(mremap(p, 18 * PAGE, 19 * PAGE, 1));
    T(mremap(p, 18 * PAGE, 2 * PAGE, 0));
    T(mremap(p, 2 * PAGE, 2 * PAGE, 7, p + 60 * PAGE));
    T(mremap(p, PAGE, PAGE, 3, p + 80 * PAGE));
    T(mremap(p, PAGE, PAGE, 3, p + 80 * PAGE));
    T(syscall(SYS_remap_file_pages, p, PAGE, 0, 0, 0));
    T(syscall(SYS_remap_file_pages, both, PAGE, 0, 3, 0));
    T(syscall(SYS_remap_file_pages, both, PAGE, 1, 3, 0));
    T(syscall(SYS_remap_file_pages, both, 0, 0, 3, 0));
    T(syscall(SYS_remap_file_pages, both, -PAGE, 0, 3, 0));
    printf("%s %s\n", look(both), look(both + PAGE));
    unsigned char answer[4] = {0};
    p = anonymous(16, 0);
    T(syscall(SYS_mincore, none, PAGE, p));
    T(syscall(SYS_mincore, none, PAGE, answer));
    T(syscall(SYS_mincore, p + 16 * PAGE, PAGE, answer));
    T(syscall(SYS_mincore, p + 1, PAGE, answer));
    T(syscall(SYS_mincore, p, -1, answer));
    T(syscall(SYS_mincore, p, PAGE, NULL));
    T(syscall(SYS_mincore, p, 0, NULL));
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    catch_faults();
    static const struct {
        const char *name;
        void (*act)(void);
    } acts[] = {{"shared-reader", shared_reader}, {"private-reader", private_reader}, {"host-file", host_file},
                {"cut", cut}, {"remove", remove_pages}, {"stack", stack}, {"grows-down", grows_down},
                {"proc-mem", proc_mem}, {"vectors", advise_vectors}, {"edges", edges}, {"neighbours", neighbours}};
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (!strcmp(what, acts[i].name)) acts[i].act();
    printf("the end\n");
    return 0;
}
