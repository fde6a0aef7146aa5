/* Makes system calls with arguments that are drawn from a seed: numbers from the whole table, and values
 * that are often nearly right. The second argument says how many. Nothing is printed: what the calls gave
 * is in the recording. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t state;

static uint64_t draw(void) {
    /* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators) */
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t n) {
    return draw() % n;
}

static char buffer[1 << 16] __attribute__((aligned(4096)));
static char *area;

static const char *const paths[] = {
    "/tmp/a", "/tmp/b", "/tmp/d", "/tmp/d/x", "/tmp/link", "/proc/self/maps", "/proc/self/mem", "/dev/zero",
    "/dev/full", "/dev/null", "/dev/tty", "/etc/passwd", "/usr", ".", "..", "", "/tmp/d/../a", "/proc/self/fd/0",
    "/proc/self/exe", "/dev/shm/s",
};

static uint64_t edge(void) {
    static const uint64_t edges[] = {
        0, 1, 2, 3, 7, 8, 16, 63, 64, 255, 256, 4095, 4096, 4097, 65535, 65536, 1 << 20, 1u << 31, 0xffffffff,
        1ull << 32, 1ull << 40, 0x7fffffffffff, 0x800000000000, 0x7fffffffffffffff, 0x8000000000000000,
        0xffffffffffffffff, 0xfffffffffffff000, -100,
    };
    return edges[below(sizeof edges / sizeof *edges)];
}

static uint64_t argument(void) {
    switch (below(12)) {
    case 0: case 1: return below(10);              /* descriptors, small numbers */
    case 2: return (uint64_t)buffer + below(sizeof buffer);
    case 3: return (uint64_t)buffer + below(16) * 4096;
    case 4: return (uint64_t)area + below(64) * 4096;
    case 5: return (uint64_t)paths[below(sizeof paths / sizeof *paths)];
    case 6: return below(1 << 14);
    case 7: return 1ull << below(64);
    case 8: return draw();
    default: return edge();
    }
}

static void ignore(int signal) {
    (void)signal;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    state = strtoull(argv[1], 0, 0);
    long count = strtol(argv[2], 0, 0);
    for (int s = 1; s < 32; s++)
        if (s != SIGSEGV && s != SIGBUS)
            signal(s, ignore);
    area = mmap(0, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < sizeof buffer / 8; i++)
        ((uint64_t *)buffer)[i] = below(4) ? below(64) : draw();
    mkdir("/tmp/d", 0755);
    symlink("a", "/tmp/link");
    for (int n = 0; n < 4; n++)
        open(paths[n % 2], O_RDWR | O_CREAT, 0644);
    for (long n = 0; n < count; n++) {
        uint64_t number = below(8) ? below(335) : 424 + below(50);
        /* Its own end, what a handler returns by, and what takes away its code or stack end it early. */
        if (number == SYS_exit || number == SYS_exit_group || number == SYS_rt_sigreturn)
            continue;
        if ((number == SYS_munmap || number == SYS_mremap || number == SYS_mprotect || number == SYS_brk)
            && below(4))
            continue;
        if (below(16) == 0)
            ((uint64_t *)buffer)[below(sizeof buffer / 8)] = argument();
        uint64_t a = argument(), b = argument(), c = argument(), d = argument(), e = argument(), f = argument();
        syscall(number, a, b, c, d, e, f);
    }
    return 0;
}
