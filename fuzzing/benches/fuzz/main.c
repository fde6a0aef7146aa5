// A program as users have it: gives the function the file that its last argument names, or else standard input, once.
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    static uint8_t data[1 << 20];
    FILE *file = argc > 1 ? fopen(argv[argc - 1], "rb") : stdin;
    if (!file) {
        perror(argv[argc - 1]);
        return 1;
    }
    return LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof data, file));
}
