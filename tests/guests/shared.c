/* A shared, writable mapping of the host's file, beside private ones, before and behind a read of
 * standard input, where a snapshot may be made: written, cut, punched and given up. Prints what the file
 * and its mappings hold. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096L

static int file;
static long len;

static unsigned long sum(const char *bytes, long n) {
    unsigned long sum = 0;
    for (long i = 0; i < n; i += i % PAGE == 64 ? PAGE - 64 : 1) sum = sum * 31 + (unsigned char)bytes[i];
    return sum;
}

/* What the file holds, read. */
static void show(const char *what) {
    static char all[1400 * PAGE];
    long n = pread(file, all, sizeof all, 0);
    printf("%s: %ld %lx: %s %s %s\n", what, n, sum(all, n), all, all + PAGE, all + 700 * PAGE);
    fflush(stdout);
}

static char *map(int how) {
    char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, how, file, 0);
    if (at == MAP_FAILED) exit(8);
    return at;
}

static void punch(long from, long n) {
    if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, n)) exit(7);
}

static void work(char *shared, char *private, long at) {
    printf("%s %s %s\n", shared + at, private + at, private + PAGE);
    strcpy(shared + at + PAGE, "by the mapping");
    if (pwrite(file, "by write", 9, at + 2 * PAGE - 4) != 9) exit(6);
    printf("%s %s %s\n", shared + at + 2 * PAGE - 4, private + at + PAGE, private + at + 2 * PAGE - 4);
    punch(at + 20 * PAGE + 5, 3 * PAGE);
    punch(at + 30 * PAGE, 100 * PAGE + 1);
    printf("%d %d %d\n", shared[at + 20 * PAGE], shared[at + 21 * PAGE], shared[at + 31 * PAGE]);
    strcpy(shared + at + 40 * PAGE, "in a hole");
    show("changed");
    int memory = open("/proc/self/mem", O_RDWR);
    char word[8] = "";
    long address = (long)(shared + at + 200 * PAGE);
    printf("%zd %s\n", pread(memory, word, 5, address), word);
    printf("%zd\n", pwrite(memory, "poke", 5, address + 16 * PAGE));
    address = (long)(private + at + 400 * PAGE);
    printf("%zd %s\n", pread(memory, word, 5, address), word);
    close(memory);
    show("poked");
}

int main(void) {
    file = open("host", O_RDWR);
    struct stat stat;
    if (file < 0 || fstat(file, &stat)) return 9;
    len = stat.st_size;
    char *private = map(MAP_PRIVATE);
    strcpy(private + PAGE, "private");
    char *shared = map(MAP_SHARED);
    work(shared, private, 3 * PAGE);
    if (ftruncate(file, len - 100 * PAGE - 7) || ftruncate(file, len)) return 5;
    printf("%d %d\n", shared[len - 100 * PAGE - 8], shared[len - 100 * PAGE]);
    show("cut");
    char byte;
    if (read(0, &byte, 1) != 1) return 4;
    show("on");
    work(shared, private, 600 * PAGE);
    munmap(shared, len);
    show("unmapped");
    shared = map(MAP_SHARED);
    strcpy(shared + 900 * PAGE, "again");
    char *other = map(MAP_PRIVATE);
    printf("%lx %lx %lx\n", sum(shared, len), sum(private, len), sum(other, len));
    if (ftruncate(file, len + 50 * PAGE) || pwrite(file, "behind", 7, len + 10 * PAGE) != 7) return 3;
    munmap(shared, len);
    munmap(other, len);
    munmap(private, len);
    show("end");
    unlink("host");
    show("unlinked");
    return 0;
}
