/* Looks at the last byte of the file that it is told of in three ways, and dies if it is an exclamation mark. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *suffix = strrchr(argv[1], '.');
    struct stat before, now;
    if (argc < 2 || !suffix || strcmp(suffix, ".bin") || stat(argv[1], &before) || !before.st_size)
        return 2;
    int fd = open(argv[1], O_RDONLY);
    char last = 0;
    if (fd < 0 || fstat(fd, &now) || now.st_size != before.st_size)
        return 3;
    if (lseek(fd, -1, SEEK_END) != now.st_size - 1 || read(fd, &last, 1) != 1)
        return 4;
    const char *all = mmap(0, now.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (all == MAP_FAILED || all[now.st_size - 1] != last)
        return 5;
    if (last == '!')
        abort();
    return now.st_size % 7 + 10;
}
