/* What processes see of memory that a fork left to both: each part has a way in which a page table may be
   out of date. All of it is far more than is copied at once at a fork. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 1500 };

static char *memory;
static int to_child[2], to_parent[2], letters, data;

static void fail(const char *what, long at) {
    printf("%s: page %ld\n", what, at);
    fflush(stdout);
    _exit(1);
}

static char *page(long at) { return memory + at * PAGE; }

static void put(long at, uint32_t value) {
    uint32_t *words = (uint32_t *)page(at);
    words[0] = value;
    words[PAGE / 4 - 1] = ~value;
}

static uint32_t get(long at) {
    volatile uint32_t *words = (volatile uint32_t *)page(at);
    uint32_t value = words[0];
    if (value != 0 && words[PAGE / 4 - 1] != ~value) fail("torn", at);
    return value;
}

static void put_all(uint32_t base) {
    for (long at = 0; at < PAGES; at++) put(at, base + at);
}

static void expect_all(const char *what, uint32_t base) {
    for (long at = 0; at < PAGES; at++)
        if (get(at) != base + at) fail(what, at);
}

/* The two sides take turns. */
static void tell(int *pipe) {
    if (write(pipe[1], "x", 1) != 1) fail("pipe", 0);
}
static void hear(int *pipe) {
    char byte;
    if (read(pipe[0], &byte, 1) != 1) fail("pipe", 1);
}

static void reap(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) fail("child", status);
}

/* Entries made read-only in place: what either side writes does not reach the other. */
static void writes(void) {
    put_all(1);
    pid_t child = fork();
    if (child == 0) {
        hear(to_child);
        expect_all("the parent's writes", 1);
        put_all(200000);
        tell(to_parent);
        hear(to_child);
        expect_all("the parent's second writes", 200000);
        _exit(0);
    }
    put_all(100000);
    tell(to_child);
    hear(to_parent);
    expect_all("the child's writes", 100000);
    put_all(300000);
    tell(to_child);
    reap(child);
    expect_all("after the child", 300000);
}

/* The kernel writes where the program only reads then; and the other side writes as the last one. */
static void calls(void) {
    put_all(1);
    pid_t child = fork();
    long sum = 0;
    for (long at = 0; at < PAGES; at++) sum += get(at);
    for (long at = 0; at < PAGES; at += 3) {
        uint32_t value = 500000 + at;
        if (pread(data, page(at), 4, 0) != 4) fail("pread", at);
        memcpy(page(at) + PAGE - 4, page(at), 4);
        uint32_t got = *(volatile uint32_t *)page(at);
        if (got != 0x64636261) fail("stale behind a call", at);
        put(at, child ? value : value + 1);
    }
    if (child == 0) {
        hear(to_child);
        for (long at = 0; at < PAGES; at++)
            if (get(at) != (at % 3 ? 1 + at : 500001 + at)) fail("the child's own", at);
        put_all(7);
        tell(to_parent);
        hear(to_child);
        expect_all("the last to see a page", 7);
        _exit(0);
    }
    tell(to_child);
    hear(to_parent);
    for (long at = 0; at < PAGES; at++)
        if (get(at) != (at % 3 ? 1 + at : 500000 + at)) fail("the parent's own", at);
    put_all(9);
    tell(to_child);
    reap(child);
    expect_all("the parent's", 9);
    printf("%ld\n", sum);
}

/* Pages are unmapped, and what held them is given out anew. */
static void unmaps(void) {
    put_all(1);
    pid_t child = fork();
    if (child == 0) {
        if (munmap(page(0), PAGES / 2 * PAGE)) fail("munmap", 0);
        tell(to_parent);
        hear(to_child);
        for (long at = PAGES / 2; at < PAGES; at++)
            if (get(at) != 1 + at) fail("what stays", at);
        char *again = mmap(page(0), PAGES / 2 * PAGE, PROT_READ | PROT_WRITE,
                           MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (long at = 0; at < PAGES / 2; at++)
            if (again != page(0) || get(at)) fail("zeros", at);
        if (madvise(page(PAGES / 2), 100 * PAGE, MADV_DONTNEED)) fail("madvise", 0);
        for (long at = 0; at < 100; at++)
            if (get(PAGES / 2 + at)) fail("discarded", at);
        _exit(0);
    }
    hear(to_parent);
    char *other = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(other, 0x5a, PAGES * PAGE);
    expect_all("what the child unmapped", 1);
    put_all(100000);
    tell(to_child);
    reap(child);
    expect_all("the parent's", 100000);
    munmap(other, PAGES * PAGE);
}

/* Tables come and go by the hundred, and the pages that they pointed to stay. */
static void tables(void) {
    enum { FAR = 60 };
    static char *far[FAR];
    put_all(1);
    for (int i = 0; i < FAR; i++)
        far[i] = mmap((char *)0x100000000000 + ((long)i << 32), PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < FAR; i++) *(volatile int *)far[i] = round * 1000 + i;
        put(round, 600000 + round);
        pid_t child = fork();
        if (child == 0) {
            for (int turn = 0; turn < 2; turn++)
                for (int i = 0; i < FAR; i++)
                    if (*(volatile int *)far[i] != round * 1000 + i) fail("far away", i);
            for (int i = round; i < FAR; i += 2) *(volatile int *)far[i] = -1;
            for (long at = 0; at < PAGES; at += 97) put(at, 1);
            _exit(0);
        }
        reap(child);
        for (int i = 0; i < FAR; i++)
            if (*(volatile int *)far[i] != round * 1000 + i) fail("far away, in the parent", i);
        for (long at = 0; at < PAGES; at += 97)
            if (get(at) != (at <= round ? 600000 : 1) + at) fail("near", at);
    }
}

/* Upper entries go in a space that goes on: all of a region is unmapped, and mapped again. */
static void regions(void) {
    for (int round = 0; round < 20; round++) {
        put_all(1 + round);
        pid_t child = fork();
        for (int turn = 0; turn < 3; turn++) {
            if (mmap(memory, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0) != memory)
                fail("mmap", round);
            for (long at = 0; at < PAGES; at += 50) {
                if (get(at)) fail("zeros", at);
                put(at, 5);
            }
        }
        if (child == 0) _exit(0);
        reap(child);
    }
}

/* From read-only to writable and back. */
static void protections(void) {
    put_all(1);
    if (mprotect(memory, PAGES * PAGE, PROT_READ)) fail("mprotect", 0);
    pid_t child = fork();
    expect_all("read-only", 1);
    if (mprotect(memory, PAGES / 2 * PAGE, PROT_READ | PROT_WRITE)) fail("mprotect", 1);
    for (long at = 0; at < PAGES / 2; at++) put(at, (child ? 10000 : 20000) + at);
    if (mprotect(memory, PAGES * PAGE, PROT_NONE)) fail("mprotect", 2);
    if (mprotect(memory, PAGES * PAGE, PROT_READ)) fail("mprotect", 3);
    if (child == 0) {
        tell(to_parent);
        hear(to_child);
    } else {
        hear(to_parent);
    }
    for (long at = 0; at < PAGES; at++)
        if (get(at) != (at >= PAGES / 2 ? 1 : child ? 10000 : 20000) + at) fail("half", at);
    if (child == 0) _exit(0);
    tell(to_child);
    reap(child);
    if (mprotect(memory, PAGES * PAGE, PROT_READ | PROT_WRITE)) fail("mprotect", 4);
    put_all(3);
    expect_all("at the end", 3);
}

/* Children of children, all of which live. */
static void generations(int depth) {
    for (long at = depth; at < PAGES; at += 7) put(at, 1000000 * depth + at);
    if (depth < 8) {
        pid_t child = fork();
        if (child == 0) {
            generations(depth + 1);
            _exit(0);
        }
        for (long at = 0; at < PAGES; at += 11) put(at, 31);
        reap(child);
        for (long at = 0; at < PAGES; at++)
            if (get(at) == 1000000 * (uint32_t)(depth + 1) + at && at % 7 == depth + 1) fail("a child's", at);
        for (long at = 0; at < PAGES; at += 11)
            if (get(at) != 31) fail("written while the child ran", at);
    }
    if (depth > 1) return;
    /* One after the other, with a little written in between: what is left of each comes together. */
    put_all(1);
    for (int round = 0; round < 30; round++) {
        put(round * 13, 77);
        pid_t child = fork();
        if (child == 0) {
            for (int i = 0; i < PAGES; i++)
                if (get(i) != (i % 13 == 0 && i <= round * 13 ? 77 : 1 + i)) fail("a round", i);
            put(5, 1);
            _exit(0);
        }
        put(round * 13, 77);
        if (round % 3 == 0) put(round * 13, 77);
        reap(child);
    }
    for (int i = 0; i < PAGES; i++)
        if (get(i) != (i % 13 == 0 && i < 30 * 13 ? 77 : 1 + i)) fail("behind the rounds", i);
}

/* A file's private pages, some written before and some behind the fork, and a file that changes. */
static void files(void) {
    char *of_file = mmap(NULL, 600 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, letters, 0);
    for (int i = 0; i < 600; i += 2) of_file[i * PAGE] = 1;
    for (int i = 0; i < 600; i += 5) of_file[i * PAGE + 1] = 2;
    pid_t child = fork();
    for (int i = 0; i < 600; i += 3) of_file[i * PAGE + 2] = child ? 3 : 4;
    if (child == 0) {
        hear(to_child);
        for (int i = 0; i < 300; i += 7)
            if (pwrite(letters, "yyyy", 4, i * PAGE + 100) != 4) fail("pwrite", i);
        tell(to_parent);
        hear(to_child);
    } else {
        tell(to_child);
        hear(to_parent);
    }
    for (int i = 0; i < 600; i++) {
        char *at = of_file + i * PAGE;
        int own = i % 2 == 0 || i % 3 == 0 || i % 5 == 0;
        if (at[0] != (i % 2 ? 'z' : 1) || at[1] != (i % 5 ? 'z' : 2)) fail("before the fork", i);
        if (at[2] != (i % 3 ? 'z' : child ? 3 : 4)) fail("behind the fork", i);
        if (at[100] != (!own && i % 7 == 0 && i < 300 ? 'y' : 'z')) fail("the file's", i);
    }
    if (child == 0) _exit(0);
    tell(to_child);
    reap(child);
}

/* Everything at random, against what is known to be there. */
static uint64_t state;
static uint32_t expected[PAGES];
static uint32_t below(uint32_t n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 20) % n;
}

static void random_run(int depth) {
    pid_t children[4];
    int n = 0;
    for (int step = 0; step < 24; step++) {
        long at = below(PAGES - 64);
        int len = 1 + below(64);
        switch (below(9)) {
        case 0:
        case 1:
        case 2:
            for (int i = 0; i < len; i++) put(at + i, expected[at + i] = (uint32_t)state + i);
            break;
        case 3: {
            uint32_t value;
            if (pread(data, page(at), 4, 0) != 4 || pread(data, &value, 4, 0) != 4) fail("pread", at);
            put(at, expected[at] = value);
            break;
        }
        case 4:
            madvise(page(at), len * PAGE, MADV_DONTNEED);
            memset(expected + at, 0, len * 4);
            break;
        case 5:
            mmap(page(at), len * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memset(expected + at, 0, len * 4);
            break;
        case 6: {
            long to = below(PAGES - 64);
            if (labs(to - at) < len) break;
            if (mremap(page(at), len * PAGE, len * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(to)) != page(to)) {
                /* Kernels before 6.17 move no more than one mapping, and look only when nothing is at the new
                   place any more. */
                mmap(page(to), len * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                memset(expected + to, 0, len * 4);
                break;
            }
            memcpy(expected + to, expected + at, len * 4);
            mmap(page(at), len * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memset(expected + at, 0, len * 4);
            break;
        }
        case 7:
            mprotect(page(at), len * PAGE, PROT_READ);
            for (int i = 0; i < len; i++)
                if (get(at + i) != expected[at + i]) fail("read-only", at + i);
            mprotect(page(at), len * PAGE, PROT_READ | PROT_WRITE);
            break;
        case 8:
            if (n == 4 || depth == 2) break;
            children[n] = fork();
            if (children[n] == 0) {
                state += 0x9e3779b97f4a7c15 * (step + 1);
                random_run(depth + 1);
                _exit(0);
            }
            n++;
            if (below(2)) reap(children[--n]);
            break;
        }
        for (int i = 0; i < 40; i++) {
            long other = below(PAGES);
            if (get(other) != expected[other]) fail("at random", other);
        }
    }
    while (n) reap(children[--n]);
    for (long at = 0; at < PAGES; at++)
        if (get(at) != expected[at]) fail("at the end", at);
}

static void anything(void) {
    for (int seed = 1; seed < 3; seed++) {
        state = 0x1234567 * seed;
        for (long at = 0; at < PAGES; at++) put(at, expected[at] = at + 1);
        random_run(0);
    }
}

int main(int argc, char **argv) {
    char dir[] = "/tmp/forks.XXXXXX";
    const char *part = argc > 1 ? argv[1] : "";
    if (!mkdtemp(dir) || chdir(dir)) return 1;
    letters = open("letters", O_RDWR | O_CREAT, 0600);
    data = open("data", O_RDWR | O_CREAT, 0600);
    char *content = malloc(600 * PAGE);
    memset(content, 'z', 600 * PAGE);
    if (write(letters, content, 600 * PAGE) != 600 * PAGE) return 1;
    free(content);
    if (write(data, "abcdefgh", 8) != 8 || pipe(to_child) || pipe(to_parent)) return 1;
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!strcmp(part, "writes")) writes();
    if (!strcmp(part, "calls")) calls();
    if (!strcmp(part, "unmaps")) unmaps();
    if (!strcmp(part, "tables")) tables();
    if (!strcmp(part, "regions")) regions();
    if (!strcmp(part, "protections")) protections();
    if (!strcmp(part, "generations")) generations(1);
    if (!strcmp(part, "files")) files();
    if (!strcmp(part, "anything")) anything();
    unlink("letters");
    unlink("data");
    rmdir(dir);
    puts("to the end");
    return 0;
}
