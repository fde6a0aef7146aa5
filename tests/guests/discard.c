/* Private mappings of files, before and behind a read of standard input, where a snapshot may be
 * made: dropped by MADV_DONTNEED, moved and grown by mremap. Prints what it finds in them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096L
#define PAGES 1300L /* More than two 2 MiB regions, wherever the mapping starts. */

/* What the file called `name` holds at a page: its first bytes, so that pages are told apart. */
static void fill(const char *name, char mark) {
    int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
    static char page[PAGE];
    for (long i = 0; i < PAGES; i++) {
        memset(page, 0, sizeof page);
        /* Every fifth page is zeros. */
        if (i % 5 != 4) snprintf(page, sizeof page, "%c%ld", mark, i);
        if (write(fd, page, sizeof page) != sizeof page) exit(9);
    }
    if (write(fd, "tail", 4) != 4) exit(9);
    close(fd);
}

static char *map(const char *name) {
    int fd = open(name, O_RDONLY);
    char *at = mmap(NULL, (PAGES + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) exit(8);
    close(fd);
    return at;
}

/* A sum over all pages, and a few of them. */
static void show(const char *what, const char *at, long pages) {
    unsigned long sum = 0;
    for (long i = 0; i < pages * PAGE; i += i % PAGE == 64 ? PAGE - 64 : 1) sum = sum * 31 + (unsigned char)at[i];
    printf("%s %lx: %s %s %s %s\n", what, sum, at, at + PAGE, at + 4 * PAGE, at + (pages - 1) * PAGE);
    fflush(stdout);
}

static void scribble(char *at) {
    strcpy(at + PAGE, "written");
    strcpy(at + 4 * PAGE, "into zeros");
    memset(at + 2 * PAGE, 0, PAGE);
    strcpy(at + 600 * PAGE, "far");
}

static void drop(const char *what, char *at) {
    show(what, at, PAGES + 1);
    int few = madvise(at + PAGE, 2 * PAGE, MADV_DONTNEED);
    show(what, at, PAGES + 1);
    int all = madvise(at, (PAGES + 1) * PAGE, MADV_DONTNEED);
    printf("%d %d\n", few, all);
    show(what, at, PAGES + 1);
}

/* Moves all but the last 300 pages, then grows it over those again, and drops it. */
static char *move(const char *what, char *at) {
    long some = (PAGES - 300) * PAGE;
    char *moved = mremap(at, some, (PAGES - 100) * PAGE, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) exit(7);
    show(what, moved, PAGES - 100);
    moved = mremap(moved, (PAGES - 100) * PAGE, (PAGES + 1) * PAGE, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) exit(6);
    show(what, moved, PAGES + 1);
    return moved;
}

/* A page of a file in the place of one of zeros and in the midst of others that a snapshot holds. */
static void amidst(const char *name, char *memory) {
    int fd = open(name, O_RDONLY);
    char *at = mmap(memory + 8 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 3 * PAGE);
    if (at == MAP_FAILED) exit(5);
    close(fd);
    for (long i = 0; i < 16; i++) printf("%s ", memory + i * PAGE);
    printf("\n");
}

int main(void) {
    char byte;
    fill("a", 'a');
    fill("b", 'b');
    char *early = map("a"), *late = map("a"), *untouched = map("a"), *of_host = map("host");
    char *old = map("b"), *to_move = map("a"), *moved_before = map("a"), *to_move_untouched = map("a");
    char *heap = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long i = 0; i < 16; i++) snprintf(heap + i * PAGE, PAGE, "heap %ld", i);
    scribble(early);
    scribble(late);
    scribble(of_host);
    scribble(old);
    scribble(to_move);
    scribble(moved_before);
    /* The file that `b` was goes away, but not from the mapping. */
    fill("c", 'c');
    if (rename("c", "b")) exit(4);
    drop("early", early);
    moved_before = move("moved before", moved_before);
    char *fresh = move("moved fresh", map("a"));

    if (read(0, &byte, 1) != 1) exit(3);
    printf("read %c\n", byte);
    fflush(stdout);

    amidst("a", heap);
    drop("late", late);
    drop("early again", early);
    drop("untouched", untouched);
    drop("of the host", of_host);
    drop("old", old);
    drop("moved before", moved_before);
    drop("moved fresh", fresh);
    drop("moved", move("moved", to_move));
    drop("moved untouched", move("moved untouched", to_move_untouched));
    return 0;
}
