/* Calls every system call that the monitor answers with bad pointers, lengths and descriptors, and
 * prints what each gives. The same program runs natively, and the two outputs are compared. With an
 * argument it does one thing that a well-behaved program does not do. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Kinds of arguments: p pointer, f descriptor, l length, s a good path, b a good buffer,
 * d AT_FDCWD, L a small length, z zeros, m the address of a mapping that may be lost, else a digit: that number. */
struct call {
    long number;
    const char *name;
    const char *kinds;
};

#define C(name, kinds) {SYS_##name, #name, kinds}
static const struct call calls[] = {
    C(read, "fpl"),        C(write, "fpl"),        C(open, "p0"),          C(close, "f"),
    C(stat, "pp"),         C(fstat, "fp"),         C(lstat, "pp"),         C(poll, "pl0"),
    C(lseek, "fl0"),       C(mmap, "0l32f0"),      C(mprotect, "mL1"),     C(munmap, "ml"),
    C(rt_sigaction, "2pp8"), C(rt_sigprocmask, "0pp8"), C(ioctl, "f0p"),   C(pread64, "fpl0"),
    C(pwrite64, "fpl0"),   C(readv, "fp1"),        C(writev, "fp1"),       C(access, "p0"),
    C(pipe, "p"),          C(select, "9pppz"),     C(mremap, "mll1"),      C(msync, "ml4"),
    C(madvise, "mL4"),     C(dup, "f"),            C(dup2, "f5"),          C(nanosleep, "p0"),
    C(getitimer, "0p"),    C(setitimer, "0pp"),    C(sendfile, "ff01"),    C(uname, "p"),
    C(fcntl, "f30"),       C(flock, "f2"),         C(fsync, "f"),          C(fdatasync, "f"),
    C(truncate, "pl"),     C(ftruncate, "fl"),     C(getcwd, "pl"),        C(chdir, "p"),
    C(fchdir, "f"),        C(rename, "pp"),        C(mkdir, "p0"),         C(rmdir, "p"),
    C(creat, "p0"),        C(link, "pp"),          C(unlink, "p"),         C(symlink, "pp"),
    C(readlink, "ppl"),    C(chmod, "p0"),         C(fchmod, "f0"),        C(chown, "p00"),
    C(fchown, "f00"),      C(lchown, "p00"),       C(gettimeofday, "pp"),  C(getrlimit, "7p"),
    C(getrusage, "0p"),    C(sysinfo, "p"),        C(times, "p"),          C(getgroups, "9p"),
    C(rt_sigpending, "p8"), C(sigaltstack, "pp"),  C(utime, "sp"),         C(statfs, "pp"),
    C(fstatfs, "fp"),      C(prctl, "6p"),         C(arch_prctl, "5p"),    C(setrlimit, "7p"),
    C(getdents64, "fpl"),  C(fadvise64, "f000"),   C(clock_gettime, "1p"), C(clock_getres, "1p"),
    C(clock_nanosleep, "10pp"), C(utimes, "sp"),   C(openat, "dp0"),       C(mkdirat, "dp0"),
    C(newfstatat, "dpp0"), C(unlinkat, "dp0"),     C(renameat, "dpdp"),    C(linkat, "dpdp0"),
    C(symlinkat, "pdp"),   C(readlinkat, "dppl"),  C(fchmodat, "dp0"),     C(faccessat, "dp0"),
    C(ppoll, "plzp8"),     C(utimensat, "dsp0"),   C(fallocate, "f00l"),   C(dup3, "f50"),
    C(pipe2, "p0"),        C(preadv, "fp10"),      C(pwritev, "fp10"),     C(prlimit64, "07pp"),
    C(renameat2, "dpdp0"), C(getrandom, "pl0"),    C(copy_file_range, "f0f010"), C(statx, "dp00p"),
    C(faccessat2, "dp00"), C(close_range, "950"),  C(getxattr, "pppl"),    C(fgetxattr, "fppl"),
    C(sched_getaffinity, "0lp"), C(time, "p"),     C(getcpu, "pp0"),       C(set_robust_list, "p9"),
};

static const uint64_t pointers[] = {0, 1, 0x1000, 0xdead0000beef, 0x7ffffffff000, 0x7ffffffffffe,
                                    0x800000000000, 0xffff800000000000, 0xffffffffffffffff};
static const uint64_t descriptors[] = {77, 1023, 1024, 0x7fffffff, 0x80000000, 0xffffffff};
static const uint64_t lengths[] = {0, 1, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff};

static char buffer[65536] __attribute__((aligned(4096)));
static char zeros[64];
static const char path[] = "/tmp/hostile-does-not-exist";

static uint64_t good(char kind) {
    switch (kind) {
    case 'p': return (uint64_t)buffer;
    case 'm':
        return (uint64_t)mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    case 'f': return 40; /* nothing is open there */
    case 'l':
    case 'L': return 16;
    case 'z': return (uint64_t)zeros;
    case 's': return (uint64_t)path;
    case 'd': return (uint64_t)AT_FDCWD;
    default: return (uint64_t)(kind - '0');
    }
}

static void one(const struct call *call, const uint64_t *args, int which, uint64_t bad) {
    memset(buffer, 0, sizeof buffer);
    errno = 0;
    long result = syscall(call->number, args[0], args[1], args[2], args[3], args[4], args[5]);
    printf("%s arg%d=%#lx: %s %s\n", call->name, which, (unsigned long)bad,
           result == -1 ? "error" : "ok", result == -1 ? strerrorname_np(errno) : "");
}

static void all_calls(void) {
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++) {
        const struct call *call = &calls[c];
        uint64_t args[6] = {0};
        int count = (int)strlen(call->kinds);
        for (int i = 0; i < count; i++)
            args[i] = good(call->kinds[i]);
        for (int i = 0; i < count; i++) {
            const uint64_t *bad = NULL;
            size_t n = 0;
            if (call->kinds[i] == 'p' || call->kinds[i] == 'm') bad = pointers, n = sizeof pointers / sizeof *pointers;
            if (call->kinds[i] == 'f') bad = descriptors, n = sizeof descriptors / sizeof *descriptors;
            if (call->kinds[i] == 'l') bad = lengths, n = sizeof lengths / sizeof *lengths;
            if (call->kinds[i] == 'L') bad = lengths, n = 2;
            for (size_t b = 0; b < n; b++) {
                if (call->kinds[0] == 'm')
                    args[0] = good('m');
                uint64_t keep = args[i];
                args[i] = bad[b];
                one(call, args, i, bad[b]);
                args[i] = keep;
            }
        }
    }
}

static int recurse(int depth) {
    volatile char frame[4096];
    frame[0] = (char)depth;
    return recurse(depth + 1) + frame[0];
}

static volatile sig_atomic_t caught;
static void handler(int number, siginfo_t *info, void *context) {
    (void)context;
    printf("handler %d code %d\n", number, info->si_code);
    fflush(stdout);
    caught++;
    _exit(42);
}

static void jump(uint64_t address) {
    ((void (*)(void))address)();
}

static void wild(const char *what) {
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("%s\n", what);
    if (!strcmp(what, "jump-null")) jump(0);
    if (!strcmp(what, "jump-unmapped")) jump(0x123456789000);
    if (!strcmp(what, "jump-noncanonical")) jump(0x8000000000000000);
    if (!strcmp(what, "jump-kernel")) jump(0xffffffff81000000);
    if (!strcmp(what, "jump-data")) jump((uint64_t)buffer);
    if (!strcmp(what, "read-null")) printf("%d\n", *(volatile int *)8);
    if (!strcmp(what, "read-kernel")) printf("%d\n", *(volatile int *)0xffff888000000000);
    if (!strcmp(what, "write-text")) *(volatile char *)(uintptr_t)wild = 1;
    if (!strcmp(what, "write-string")) *(volatile char *)(uintptr_t)path = 1;
    if (!strcmp(what, "overflow")) printf("%d\n", recurse(0));
    if (!strcmp(what, "divide")) printf("%d\n", 1 / (int)(caught));
    if (!strcmp(what, "ud2")) __asm__ volatile("ud2");
    if (!strcmp(what, "hlt")) __asm__ volatile("hlt");
    if (!strcmp(what, "cli")) __asm__ volatile("cli");
    if (!strcmp(what, "out")) __asm__ volatile("outb %%al, $0x10" ::"a"(0));
    if (!strcmp(what, "out-exception")) __asm__ volatile("outb %%al, $0x11" ::"a"(0));
    if (!strcmp(what, "in")) __asm__ volatile("inb $0x60, %%al" ::: "rax");
    if (!strcmp(what, "in-open")) __asm__ volatile("inb $0x10, %%al" ::: "rax");
    if (!strcmp(what, "in-string")) __asm__ volatile("rep insb" ::"D"(buffer), "d"(0x10), "c"(100) : "memory");
    /* Where the monitor's entry stub is: a call by a jump, and one that returns there. */
    if (!strcmp(what, "to-the-stub")) __asm__ volatile("jmp *%0" ::"r"(0x7fffff000000), "a"(SYS_exit), "D"(9));
    if (!strcmp(what, "by-the-stub")) __asm__ volatile("mov %0, %%rcx; jmp *%0" ::"r"(0x7fffff000000), "a"(SYS_getpid) : "rcx");
    if (!strcmp(what, "int3")) __asm__ volatile("int3");
    if (!strcmp(what, "int-80")) __asm__ volatile("int $0x55");
    if (!strcmp(what, "wrmsr")) __asm__ volatile("wrmsr" ::"a"(0), "d"(0), "c"(0xc0000082));
    if (!strcmp(what, "cr3")) __asm__ volatile("mov %%cr3, %%rax" ::: "rax");
    if (!strcmp(what, "lgdt")) __asm__ volatile("lgdt %0" ::"m"(buffer));
    if (!strcmp(what, "stack-gone")) __asm__ volatile("xor %%esp, %%esp; push %%rax" ::: "memory");
    if (!strcmp(what, "abort")) abort();
    if (!strcmp(what, "raise-kill")) raise(SIGKILL);
    if (!strcmp(what, "handled-segv")) {
        struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
        sigaction(SIGSEGV, &action, NULL);
        *(volatile int *)16 = 1;
    }
    if (!strcmp(what, "overflow-on-alt-stack")) {
        static char stack[65536];
        stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
        sigaltstack(&alt, NULL);
        struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigaction(SIGSEGV, &action, NULL);
        printf("%d\n", recurse(0));
    }
    if (!strcmp(what, "beyond-file")) {
        int fd = open("/tmp/hostile-file", O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (write(fd, "x", 1) != 1) _exit(1);
        unlink("/tmp/hostile-file");
        volatile char *map = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
        printf("%d\n", map[0]);
        printf("%d\n", map[4096]);
    }
    if (!strcmp(what, "bad-sigreturn")) __asm__ volatile("xor %%esp, %%esp; mov $15, %%eax; syscall" ::: "memory");
    if (!strcmp(what, "guard")) {
        volatile char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        map[4096] = 1;
        mprotect((void *)(map + 4096), 4096, PROT_NONE);
        map[0] = 1;
        map[4096] = 2;
    }
    if (!strcmp(what, "write-after-protect")) {
        volatile char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        map[0] = 1;
        mprotect((void *)map, 4096, PROT_READ);
        printf("%d\n", map[0]);
        map[0] = 2;
    }
    if (!strcmp(what, "use-after-unmap")) {
        volatile char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        map[0] = 1;
        munmap((void *)map, 4096);
        map[0] = 2;
    }
    if (!strcmp(what, "exec-after-protect")) {
        unsigned char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        map[0] = 0xc3;
        jump((uint64_t)map);
        mprotect(map, 4096, PROT_READ);
        jump((uint64_t)map);
    }
    printf("still here\n");
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        wild(argv[1]);
    else
        all_calls();
    return 0;
}
