// Does what each byte of its input says, and prints what it sees: for a sandbox that is put back again and again.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *blocks[64];
static int count, fds[64], opened;
static char *mapped, *shared, *of_file;
static volatile int alarms, handled, ran;
static uint64_t sum = 1469598103934665603u;

static void add(const void *bytes, size_t len)
{
    for (const unsigned char *at = bytes; len--; at++)
        sum = (sum ^ *at) * 1099511628211u;
}

// Code that is written at run time: it gives a number.
static unsigned char *code;

static void write_code(int number)
{
    const unsigned char instructions[] = {0xb8, number, 0, 0, 0, 0xc3}; // mov $number, %eax; ret
    mprotect(code, 4096, PROT_READ | PROT_WRITE);
    memcpy(code, instructions, sizeof instructions);
    mprotect(code, 4096, PROT_READ | PROT_EXEC);
}

// Code of a file, with an instruction in it that the monitor replaces, or, at the same place, others.
static void run_file(int replaced)
{
    unsigned char bytes[] = {
        0x53,                         // push %rbx
        0x31, 0xc0, 0x04, 7,          // xor %eax, %eax; add $7, %al
        0x5b,                         // pop %rbx
    };
    if (replaced) memcpy(bytes + 3, "\x0f\xa2", 2); // cpuid
    unsigned char all[96];
    for (int n = 0; n < 90; n += 2) memcpy(all + n, "\x55\x5d", 2); // push %rbp; pop %rbp
    memcpy(all + 40, bytes, sizeof bytes);
    memcpy(all + 90, replaced ? "\xb8\x05\0\0\0\xc3" : "\x66\x66\x66\x66\x90\xc3", 6); // mov $5, %eax, or nop; ret
    int fd = open("/tmp/code", O_RDWR | O_CREAT | O_TRUNC, 0755);
    if (write(fd, all, sizeof all) != sizeof all) abort();
    int (*run)(void) = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    close(fd);
    ran += run();
}

static void on_alarm(int signal) { alarms++; }
static void on_signal(int signal) { handled++; }
static void *thread(void *arg) { ran += (int)(intptr_t)arg; return NULL; }
static void *waiter(void *arg) { pause(); return NULL; }

static void act(char what)
{
    struct itimerval soon = {{0, 500}, {0, 500}};
    pthread_t id;
    char text[64];
    int fd, n;
    switch (what) {
    case 'm': // memory of malloc's
        if (count < 64) memset(blocks[count] = malloc(100000 + count), count, 100000), count++;
        break;
    case 'f':
        while (count) free(blocks[--count]);
        break;
    case 'b':
        memset(sbrk(8192), 7, 8192);
        break;
    case 'M': // mappings
        mapped = mmap(0, 3 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (n = 0; n < 3 << 20; n += 4096) mapped[n] = n >> 12;
        break;
    case 'L': // much memory
        memset(mmap(0, 100 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 100 << 20);
        break;
    case 'U':
        if (mapped) munmap(mapped + (1 << 20), 1 << 20);
        break;
    case 'P':
        mprotect(mapped, 1 << 19, PROT_READ);
        break;
    case 'D':
        madvise(mapped, 1 << 20, MADV_DONTNEED);
        break;
    case 'R':
        mapped = mremap(mapped, 1 << 20, 5 << 20, MREMAP_MAYMOVE);
        mapped[(5 << 20) - 1] = 1;
        break;
    case 'S':
        shared[4096] += 3, shared[0]++;
        break;
    case 'F': // a file's pages, some written
        fd = open("/usr/bin/env", O_RDONLY);
        of_file = mmap(0, 40000, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        close(fd);
        add(of_file + 8192, 4096);
        of_file[12288] = 9;
        break;
    case 'w': // files
        fd = open("/tmp/written", O_RDWR | O_CREAT | O_APPEND, 0644);
        n = write(fd, "some text\n", 10);
        n = pread(fd, text, sizeof text, 0);
        add(text, n);
        close(fd);
        break;
    case 'W':
        fd = open("/tmp/before", O_RDWR);
        n = pwrite(fd, "else", 4, 2);
        ftruncate(fd, 5000);
        close(fd);
        break;
    case 'd':
        unlink("/tmp/before");
        mkdir("/tmp/dir", 0755);
        chdir("/tmp/dir");
        break;
    case 'o':
        if (opened < 64) fds[opened++] = open("/etc/passwd", O_RDONLY), n = read(fds[opened - 1], text, 5);
        break;
    case 'p': // pipes, and what is in them
        pipe(&fds[opened]);
        n = write(fds[opened + 1], "abc", 3);
        break;
    case 'k': // processes
        fflush(stdout);
        if (!fork()) {
            shared[8]++;
            sum = 0;
            if (mapped) mapped[4096] = 77;
            for (n = 0; n < count; n++) blocks[n][5000] = 1;
            _exit(3);
        }
        wait(&n);
        add(&n, sizeof n);
        break;
    case 'K': // one that stays
        if (!fork()) {
            if (mapped) mapped[8192] = 78;
            pause();
        }
        break;
    case 'x':
        execl("/bin/echo", "echo", "executed", NULL);
        break;
    case 't': // threads
        pthread_create(&id, NULL, thread, (void *)5);
        pthread_join(id, NULL);
        break;
    case 'T':
        pthread_create(&id, NULL, waiter, NULL);
        break;
    case 'a': // timers and signals
        setitimer(ITIMER_REAL, &soon, NULL);
        for (n = 0; n < 200; n++) getppid();
        break;
    case 'A':
        alarm(1000);
        break;
    case 'j': // code
        write_code(n = count + 2);
    case 'J':
        for (n = 0; n < 1000; n++) ran += ((int (*)(void))code)();
        break;
    case 'c':
    case 'C':
        run_file(what == 'c');
        break;
    case 's':
        signal(SIGUSR1, on_signal);
        raise(SIGUSR1);
        break;
    case 'u':
        umask(077);
        break;
    case 'g': // chance and time
        n = getrandom(text, 8, 0);
        add(text, 8);
        break;
    case 'z':
        n = time(NULL);
        add(&n, sizeof n);
        break;
    case 'q':
        abort();
    case 'v':
        *(volatile int *)16 = 1;
        break;
    case 'h':
        for (;;) ;
    case 'y': // vector registers
        __asm__ volatile("pcmpeqd %%xmm5, %%xmm5" ::: "xmm5");
        break;
    }
    struct timespec now;
    struct stat stat_of;
    clock_gettime(CLOCK_MONOTONIC, &now);
    add(&now, sizeof now);
    n = stat("/tmp/before", &stat_of);
    add(&n, sizeof n);
    if (!n) add(&stat_of.st_size, 8), add(&stat_of.st_mtim, 16);
    for (n = 0; n < count; n++) add(blocks[n] + 5000, 1);
    add(shared, 16);
    void *brk = sbrk(0);
    add(&brk, 8), add(&mapped, 8), add(&of_file, 8);
    if (of_file) add(of_file + 12288, 1);
    fd = dup(0);
    add(&fd, sizeof fd);
    close(fd);
    printf("%c %016lx %d %d %d %d\n", what, sum, alarms, handled, ran, shared[8]);
}

int main(int argc, char **argv)
{
    signal(SIGALRM, on_alarm);
    shared = mmap(0, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared[100] = 1;
    code = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    write_code(1);
    close(open("/tmp/before", O_RDWR | O_CREAT, 0644));
    for (const char *at = argc > 1 ? argv[1] : ""; *at; at++) act(*at);
    char input[256];
    int n = read(0, input, sizeof input);
    for (int i = 0; i < n; i++) act(input[i]);
    return n;
}
