// Takes memory (argv[1] MiB), then reads a number, and writes to as many pages of it.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    size_t pages = (size_t)atoi(argv[1]) << 8;
    char *memory = mmap(0, pages << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t wanted = 0;
    memset(memory, 1, pages << 12);
    read(0, &wanted, sizeof wanted);
    for (size_t n = 0; n < wanted; n++) memory[(n * 7 % pages) << 12]++;
    getppid();
    return memory[0];
}
