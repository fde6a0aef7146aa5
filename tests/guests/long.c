// Computes for long without a system call: a hot loop, and something that it does rarely.
#include <stdio.h>
#include <stdlib.h>

// Each in a page of its own.
volatile unsigned long rare __attribute__((aligned(4096)));
volatile unsigned long often __attribute__((aligned(4096)));
volatile unsigned long table[256] __attribute__((aligned(4096)));

static unsigned long mix(unsigned long x) {
    x ^= x << 13;
    x ^= x >> 7;
    return x ^ x << 17;
}

int main(int argc, char **argv) {
    unsigned long x = 1, rounds = argc > 1 ? strtoul(argv[1], 0, 10) : 1000;
    for (unsigned long i = 0; i < rounds; i++) {
        x = mix(x);
        table[x & 255] += x;
        often = i;
        if (i % (rounds / 16) == 7)
            rare++;
    }
    printf("%lx %lu\n", x ^ table[x & 255], rare);
    return 0;
}
