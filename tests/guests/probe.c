/* Prints what a program can learn from one source of nondeterminism: the argument names the row of
 * docs/determinism.md. Every run must print the same. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void bytes(const void *data, size_t n) {
    for (size_t i = 0; i < n; i++) printf("%02x", ((const unsigned char *)data)[i]);
    printf("\n");
}

static void file(const char *path) {
    char buffer[65536];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, buffer, sizeof buffer);
    printf("%s %zd\n", path, n);
    if (n > 0) fwrite(buffer, 1, (size_t)n, stdout);
    if (fd >= 0) close(fd);
}

static volatile sig_atomic_t alarms;
static void on_alarm(int number) {
    (void)number;
    alarms++;
}

int main(int argc, char **argv, char **envp) {
    const char *row = argc > 1 ? argv[1] : "";
    if (!strcmp(row, "clock")) {
        struct timespec t;
        struct timeval v;
        for (int id = 0; id < 12; id++)
            if (clock_gettime(id, &t) == 0) printf("%d %ld.%09ld\n", id, (long)t.tv_sec, t.tv_nsec);
        gettimeofday(&v, NULL);
        printf("%ld.%06ld %ld\n", (long)v.tv_sec, (long)v.tv_usec, (long)time(NULL));
        usleep(250000);
        clock_gettime(CLOCK_MONOTONIC, &t);
        printf("%ld.%09ld %ld\n", (long)t.tv_sec, t.tv_nsec, (long)clock());
    } else if (!strcmp(row, "tsc")) {
        unsigned aux;
        for (int i = 0; i < 3; i++) printf("%llx\n", (unsigned long long)__builtin_ia32_rdtsc());
        printf("%llx %x\n", (unsigned long long)__builtin_ia32_rdtscp(&aux), aux);
    } else if (!strcmp(row, "random")) {
        /* A name that Linux gives to a socket. */
        struct sockaddr_un name = {AF_UNIX};
        socklen_t length = sizeof name;
        int named = socket(AF_UNIX, SOCK_DGRAM, 0);
        bind(named, (struct sockaddr *)&name, 2);
        getsockname(named, (struct sockaddr *)&name, &length);
        bytes(&name, length);
        char buffer[32];
        syscall(SYS_getrandom, buffer, sizeof buffer, 0);
        bytes(buffer, sizeof buffer);
        int fd = open("/dev/urandom", O_RDONLY);
        if (read(fd, buffer, sizeof buffer) != sizeof buffer) return 1;
        bytes(buffer, sizeof buffer);
        bytes((void *)getauxval(AT_RANDOM), 16);
    } else if (!strcmp(row, "layout")) {
        void *heap = malloc(10), *big = malloc(1 << 24);
        printf("%p %p %p %p %p %p\n", (void *)main, (void *)&row, heap, big, sbrk(0), (void *)printf);
        printf("%p\n", mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        file("/proc/self/maps");
    } else if (!strcmp(row, "identity")) {
        printf("%d %d %d %d %d\n", getpid(), getppid(), (int)syscall(SYS_gettid), getpgrp(), getuid());
        file("/proc/self/stat");
    } else if (!strcmp(row, "auxv")) {
        char **p = envp;
        while (*p) p++;
        for (Elf64_auxv_t *a = (Elf64_auxv_t *)(p + 1); a->a_type; a++)
            printf("%lu %lx\n", (unsigned long)a->a_type, (unsigned long)a->a_un.a_val);
    } else if (!strcmp(row, "environment")) {
        for (char **e = environ; *e; e++) puts(*e);
        char cwd[4096];
        puts(getcwd(cwd, sizeof cwd) ? cwd : "?");
        for (int i = 0; i < argc; i++) puts(i ? argv[i] : "");
    } else if (!strcmp(row, "machine")) {
        struct utsname u;
        struct sysinfo s;
        uname(&u);
        sysinfo(&s);
        printf("%s %s %s %s %s\n", u.sysname, u.nodename, u.release, u.version, u.machine);
        printf("%ld %lu %lu %d\n", s.uptime, s.totalram, s.freeram, s.procs);
        printf("%ld %ld %d\n", sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_PHYS_PAGES), sched_getcpu());
        for (int i = 0; i < 16; i++) {
            struct rlimit l;
            getrlimit(i, &l);
            printf("%llu %llu\n", (unsigned long long)l.rlim_cur, (unsigned long long)l.rlim_max);
        }
        const char *files[] = {"/proc/meminfo", "/proc/cpuinfo", "/proc/uptime", "/proc/loadavg", "/proc/stat",
                               "/proc/version", "/proc/self/status", "/proc/self/limits", "/proc/self/mountinfo",
                               "/proc/sys/kernel/random/boot_id", "/sys/devices/system/cpu/online"};
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) file(files[i]);
    } else if (!strcmp(row, "directory")) {
        const char *dirs[] = {"/usr/lib/x86_64-linux-gnu", "/etc", "/dev", "/proc/self/fd"};
        for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
            DIR *d = opendir(dirs[i]);
            for (struct dirent *e; d && (e = readdir(d));)
                printf("%s %lu %d\n", e->d_name, (unsigned long)e->d_ino, e->d_type);
            if (d) closedir(d);
        }
    } else if (!strcmp(row, "stat")) {
        const char *files[] = {"/bin/sh", "/usr/bin/env", "/etc/passwd", "/dev/null", "/proc/self/maps", "/tmp", "/"};
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            struct stat s;
            if (stat(files[i], &s) == 0) bytes(&s, sizeof s);
        }
        int fd = open("/tmp/new", O_CREAT | O_RDWR, 0644);
        struct stat s;
        if (fstat(fd, &s) == 0) bytes(&s, sizeof s);
    } else if (!strcmp(row, "usage")) {
        struct rusage r;
        struct tms t;
        getrusage(RUSAGE_SELF, &r);
        bytes(&r, sizeof r);
        printf("%ld ", (long)times(&t));
        bytes(&t, sizeof t);
    } else if (!strcmp(row, "residency")) {
        size_t n = 64;
        unsigned char resident[64];
        char *map = mmap(NULL, n * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t i = 0; i < n; i += 3) map[i * 4096] = 1;
        printf("%d ", mincore(map, n * 4096, resident));
        bytes(resident, n);
    } else if (!strcmp(row, "timer")) {
        signal(SIGALRM, on_alarm);
        struct itimerval timer = {{0, 100000}, {0, 100000}};
        setitimer(ITIMER_REAL, &timer, NULL);
        unsigned long calls = 0;
        while (alarms < 5) {
            getppid();
            calls++;
        }
        printf("%lu\n", calls);
    } else if (!strcmp(row, "descriptors")) {
        int pipes[2];
        int fd = open("/etc/passwd", O_RDONLY);
        if (pipe(pipes)) return 1;
        printf("%d %d %d %d\n", fd, pipes[0], pipes[1], isatty(0));
    } else if (!strcmp(row, "fpu")) {
        unsigned mxcsr;
        unsigned short fcw;
        __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(fcw));
        printf("%x %x\n", mxcsr, fcw);
    } else if (!strcmp(row, "cpuid")) {
        const unsigned leaves[] = {0, 1, 7, 0xd, 0x80000000, 0x80000001, 0x80000002, 0x80000003, 0x80000004};
        for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++) {
            unsigned a, b, c, d;
            __cpuid_count(leaves[i], 0, a, b, c, d);
            /* The upper byte of EBX in leaf 1 is the number of the CPU that it ran on. */
            if (leaves[i] == 1) b &= 0xffffff;
            printf("%x: %x %x %x %x\n", leaves[i], a, b, c, d);
        }
    } else if (!strcmp(row, "hardware-random")) {
        /* The same bytes as those of `rdrand %eax`, in a number, with a jump on carry behind. */
        uint32_t number;
        asm volatile("movl $0x72f0c70f, %0\n\tjc 1f\n1:" : "=r"(number));
        printf("%#x\n", number);
        for (int i = 0; i < 4; i++) {
            uint64_t a, b, d;
            uint32_t c;
            uint16_t w = 0;
            uint64_t keeps = 0x1122334455667788;
            asm volatile("1: rdrand %0\n\tjnc 1b" : "=r"(a) : : "cc");
            asm volatile("1: rdseed %0\n\tjnc 1b" : "=r"(b) : : "cc");
            asm volatile("1: rdrand %%r10d\n\tjnc 1b\n\tmovl %%r10d, %0" : "=r"(c) : : "cc", "r10");
            asm volatile("1: rdrand %w0\n\tjnc 1b" : "+r"(keeps) : : "cc");
            asm volatile("rdseed %0\n\tmovl $0, %%ecx\n\tcmovcq %0, %%rcx\n\tmovq %%rcx, %0" : "=r"(d) : : "cc", "rcx");
            printf("%#lx %#lx %#x %#lx %#lx\n", a, b, c, keeps, d);
        }
    } else if (!strcmp(row, "xgetbv")) {
        unsigned a, d;
        __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
        printf("%x %x\n", a, d);
    } else if (!strcmp(row, "stdin")) {
        char buffer[100];
        ssize_t n;
        while ((n = read(0, buffer, sizeof buffer)) > 0) {
            printf("%zd ", n);
            bytes(buffer, (size_t)n);
        }
    } else if (!strcmp(row, "file")) {
        file("/etc/passwd");
        file("/etc/os-release");
    } else {
        fprintf(stderr, "no such row: %s\n", row);
        return 2;
    }
    return 0;
}
