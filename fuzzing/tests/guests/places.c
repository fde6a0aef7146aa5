/* Takes long to start, works on its input, and takes long to end. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile unsigned long sum;

static void spend(void)
{
    for (unsigned long n = 0; n < 1000000; n++)
        sum += n;
}

void never(void)
{
    sum = 0;
}

__attribute__((noinline)) void finish(void)
{
    spend();
    _exit(9);
}

__attribute__((noinline)) void work(int fd)
{
    char in[16] = "";
    if (read(fd, in, sizeof in) < 0)
        _exit(3);
    if (in[0] == 'b' && in[1] == 'u' && in[2] == 'g')
        abort();
    if (in[0] == 'q')
        _exit(4);
}

int main(int argc, char **argv)
{
    spend();
    int fd = open("/dev/dejavm", O_WRONLY);
    if (fd >= 0 && write(fd, "snapshot", 8) == 8)
        close(fd);
    work(argc > 1 ? open(argv[1], O_RDONLY) : 0);
    finish();
}
