// A parser that is called as libFuzzer's targets are, with a main() that gives it a file.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((noinline)) static int digits(const uint8_t *data, size_t size) {
    int numbers[4], n = 0;
    for (size_t i = 0; i < size; i++) {
        if (data[i] < '0' || data[i] > '9') return -1;
        // There may be more of them than there is room for.
        numbers[n++] = data[i];
        if (n > 4) abort();
    }
    return numbers[0];
}

__attribute__((noinline)) int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = malloc(size);
    memcpy(copy, data, size);
    int result = size > 2 && copy[0] == 'N' && copy[1] == ':' ? digits((uint8_t *)copy + 2, size - 2) : 0;
    free(copy);
    return result < 0 ? -1 : 0;
}

// Not libFuzzer's name: no driver gives it a file.
__attribute__((noipa)) int other(const uint8_t *data, size_t size) {
    if (size > 1 && data[0] == 'X') *(volatile char *)8 = 1;
    return 0;
}

int main(int argc, char **argv) {
    static uint8_t data[4096];
    if (argc < 2) return LLVMFuzzerTestOneInput(data, 1) + other(data, 1);
    FILE *file = fopen(argv[argc - 1], "r");
    if (!file) return 1;
    return LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof data, file)) + other(data, 0);
}
