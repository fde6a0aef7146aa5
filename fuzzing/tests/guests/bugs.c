/* Reads its input, and has a bug for some: behind three comparisons, behind one, and a loop. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void crash(void) { *(volatile int *)0 = 1; }

static void compare(const char *in, long n)
{
    if (n > 0 && in[0] == 'B')
        if (n > 1 && in[1] == 'U')
            if (n > 2 && in[2] == 'G')
                crash();
}

int main(int argc, char **argv)
{
    char in[64] = "";
    int from = argc > 1 ? open(argv[1], O_RDONLY) : 0;
    long n = read(from, in, sizeof in);
    if (n < 0)
        return 3;
    compare(in, n);
    if (!strncmp(in, "abort!", 6))
        abort();
    if (!strncmp(in, "exhaust!", 8)) {
        for (long size = 1 << 20;; size += 1 << 20) {
            char *more = malloc(size);
            if (!more)
                return 4;
            memset(more, 1, size);
        }
    }
    while (!strncmp(in, "loop!", 5))
        ;
    return n == 0;
}
