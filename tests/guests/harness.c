// A parser of bytes that is called once, and functions to be called from outside.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int calls;
static char *kept;

// Says what it has found; dies of "die", and does not come back from "loop".
__attribute__((noinline)) int parse(const uint8_t *data, size_t size) {
    calls++;
    if (size == 3 && data[0] == 'd' && data[1] == 'i' && data[2] == 'e') *(volatile char *)8 = 1;
    if (size == 4 && memcmp(data, "loop", 4) == 0) for (;;) __asm__ volatile("");
    if (size == 4 && memcmp(data, "exit", 4) == 0) exit(3);
    free(kept);
    kept = malloc(size + 1);
    int sum = 0;
    for (size_t i = 0; i < size; i++) sum += kept[i] = data[i];
    return sum * 100 + calls;
}

// Comes to the parser itself, so many times.
__attribute__((noinline)) long often(long times, long a, long b, long c, long d, long e) {
    long sum = 0;
    for (long i = 0; i < times; i++) sum += parse((const uint8_t *)"a", 1);
    return sum + a * b + c * d + e;
}

int main(void) {
    printf("%d\n", parse((const uint8_t *)"abc", 3));
    return 0;
}
