// Computes for long without a system call, and changes memory meanwhile, in every way in which it may seem not to have
// changed: back again, to what was there, through another mapping, and where a page comes about by that.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE __attribute__((aligned(4096)))

// Each in a page of its own, but for the last.
volatile unsigned long toggled PAGE, same PAGE = 7, late_data PAGE = 5, late_zeros PAGE, never_written PAGE = 1;
volatile char pages[2 * 4096] PAGE;
volatile unsigned long busy PAGE, beside;

#define SHARED ((volatile unsigned long *)0x10000000)
#define ALIAS ((volatile unsigned long *)0x10010000)
#define PRIVATE ((volatile unsigned long *)0x10020000)

static void map(volatile unsigned long *at, int flags, int file) {
    if (mmap((void *)at, 4096, PROT_READ | PROT_WRITE, flags | MAP_FIXED, file, 0) == MAP_FAILED) exit(1);
}

__attribute__((noinline)) void never(void) {
    puts("never");
}

int main(int argc, char **argv) {
    unsigned long x = 1, rounds = strtoul(argv[1], 0, 10);
    int file = memfd_create("file", 0);
    if (ftruncate(file, 4096)) return 1;
    map(SHARED, MAP_SHARED, file);
    map(ALIAS, MAP_SHARED, file);
    map(PRIVATE, MAP_PRIVATE, file);
    x += *SHARED + *ALIAS + *PRIVATE;
    for (unsigned long i = 0; i < rounds; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        busy = x ^= x << 17;
        unsigned long part = i * 16 / rounds;
        if (i != (part * rounds + 15) / 16 + 100) continue;
        switch (part) {
        case 2:
        case 9:
            toggled = 1;
            toggled = 0;
            break;
        case 3:
            same = 7;
            break;
        case 4:
            ALIAS[0] = 1;
            break;
        case 5:
            *(volatile unsigned long *)(pages + 4092) = 0x1234567890;
            break;
        case 6:
            late_data = 6;
            break;
        case 7:
            late_zeros = 1;
            break;
        case 8:
            PRIVATE[0] = 2;
            break;
        case 10:
            SHARED[0] = 3;
            break;
        case 11:
            beside++;
            break;
        case 12:
            PRIVATE[0] = 4;
            break;
        }
    }
    printf("%lx %lu\n", x, beside);
    if (argc > 2) never();
    return 0;
}
