/* Fills as many MiB as its argument says with content that compresses about two to one, reads a line
 * and answers with a sum over a few pages. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    size_t bytes = (size_t)atoi(argc > 1 ? argv[1] : "1") << 20;
    uint64_t *data = malloc(bytes), x = 88172645463325252u;
    for (size_t i = 0; i < bytes / 8; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        data[i] = i % 2 ? x : i;
    }
    char line[64];
    if (read(0, line, sizeof line) < 0) return 1;
    uint64_t sum = 0;
    for (size_t i = 0; i < 16; i++) sum += data[bytes / 8 / 16 * i];
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}
