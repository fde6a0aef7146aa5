/* Has segments of every kind, and says that it came to its end. */
#include <stdio.h>
#include <stdlib.h>

static __thread int of_thread = 3;
static int zeros[30000], numbers[20000] = { 1, 2, 3 };

int main(int argc, char **argv) {
    for (int i = 0; i < 20000; i += 100) zeros[i] += numbers[i] + of_thread;
    printf("%d %d %s\n", argc, zeros[0], argv[0]);
    return zeros[100];
}
