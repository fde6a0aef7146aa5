// The main() of all targets here: calls the function with a file, as the drivers of fuzzers do.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// More than any input: --max-len is smaller.
#define LARGEST (1 << 16)

int main(int argc, char **argv) {
    static uint8_t data[LARGEST];
    FILE *file = argc < 2 ? stdin : fopen(argv[argc - 1], "rb");
    if (!file) return perror(argv[argc - 1]), 1;
    size_t size = fread(data, 1, sizeof data, file);
    // Of its own length, so that AddressSanitizer sees what is read behind it.
    uint8_t *input = malloc(size ? size : 1);
    for (size_t i = 0; i < size; i++) input[i] = data[i];
    LLVMFuzzerTestOneInput(input, size);
    free(input);
    return 0;
}
