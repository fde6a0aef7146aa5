/* Asks the outside for some of everything, and writes what follows from it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    static char buffer[40000];
    unsigned long sum = 0;
    DIR *dir = opendir("/guest");
    for (struct dirent *entry; (entry = readdir(dir));) sum = sum * 31 + strlen(entry->d_name);
    for (int n = 0; n < 3; n++) {
        char name[40];
        snprintf(name, sizeof name, "/guest/file%d", n);
        int file = open(name, O_RDONLY);
        struct stat status;
        fstat(file, &status);
        sum = sum * 31 + status.st_size;
        for (int got; (got = read(file, buffer, sizeof buffer)) > 0;)
            for (int i = 0; i < got; i++) sum = sum * 31 + buffer[i];
        char *map = mmap(0, status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        for (int i = 0; i < status.st_size; i += 4096) sum = sum * 31 + map[i];
        if (readlink(name, buffer, sizeof buffer) > 0) sum++;
        close(file);
    }
    int made = open("/tmp/made", O_RDWR | O_CREAT, 0644);
    for (int got, turn = 0; turn < 12; turn++) {
        struct pollfd wait = { 0, POLLIN, 0 };
        poll(&wait, 1, 10);
        got = read(0, buffer, 90);
        for (int i = 0; i < got; i++) sum = sum * 31 + buffer[i];
        printf("%d %lu\n", got, sum);
        fflush(stdout);
        write(made, buffer, 5000);
        struct timespec now, nap = { 0, 1000000 };
        clock_gettime(CLOCK_REALTIME, &now);
        nanosleep(&nap, 0);
        getrandom(buffer, 100, 0);
        sum = sum * 31 + buffer[3] + now.tv_nsec;
        char *memory = malloc(200000);
        memset(memory, turn, 200000);
        if (turn % 2) free(memory);
    }
    fprintf(stderr, "%lu\n", sum);
    return 7;
}
