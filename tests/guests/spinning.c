/* Tasks that wait in loops, and code that has instructions replaced: the argument names the part. What a part
 * prints is the same natively and in the sandbox, but for `cpuid`. Each ends by saying so. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define PAUSE() __asm__ volatile("pause" ::: "memory")
#define BARE() __asm__ volatile("" ::: "memory")

static _Atomic int held, go, done;
static int total;

static void lock(void) {
    while (__atomic_exchange_n(&held, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&held, __ATOMIC_RELAXED)) PAUSE();
}

static void *counts(void *unused) {
    for (int i = 0; i < 200; i++) {
        lock();
        int seen = total;
        getppid();
        total = seen + 1;
        __atomic_store_n(&held, 0, __ATOMIC_RELEASE);
    }
    return unused;
}

static void *sets(void *sleeps) {
    if (sleeps) nanosleep(&(struct timespec){0, 3000000}, NULL);
    go = 1;
    return NULL;
}

static void *calls(void *unused) {
    for (;;) getppid();
    return unused;
}

static void *circles(void *unused) {
    while (!done) BARE();
    return unused;
}

static pthread_t begin(void *(*task)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, task, argument)) exit(3);
    return thread;
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void on_alarm(int number) {
    (void)number;
    done = 1;
}

static volatile int traps, last_signal;
static volatile uintptr_t fault_at;
static sigjmp_buf back;

static void on_trap(int number) {
    (void)number;
    traps++;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)info;
    last_signal = number;
    fault_at = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    siglongjmp(back, 1);
}

/* Jumps to code that must fault, and says how. */
__attribute__((noinline)) static void faulting(const char *what, void *code) {
    fault_at = last_signal = 0;
    if (!sigsetjmp(back, 1)) __asm__ volatile("subq $1024, %%rsp\n\tjmp *%0" ::"r"(code) : "memory");
    printf("%s: signal %d", what, last_signal);
    if (code < (void *)0x7fffff000000) printf(" at %+ld", (long)(fault_at - (uintptr_t)code));
    printf("\n");
}

/* Bytes that are those of what is looked for, in numbers and in a table between functions. */
__asm__(".text\n.globl table\ntable:\n"
        ".rept 16\n.byte 0x0f, 0xa2, 0x61, 0x06, 0xf3, 0x90, 0xea, 0x37, 0x9a, 0x0f, 0xc7, 0xf8, 0x82\n.endr\n"
        ".balign 16\n");
extern const unsigned char table[16 * 13];

int main(int argc, char **argv) {
    char *part = argc > 1 ? argv[1] : "";
    if (!strcmp(part, "lock")) {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) threads[i] = begin(counts, NULL);
        for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
        printf("%d\n", total);
    } else if (!strcmp(part, "handoff") || !strcmp(part, "sleeper")) {
        pthread_t thread = begin(sets, part[0] == 's' ? part : NULL);
        while (!go) PAUSE();
        pthread_join(thread, NULL);
    } else if (!strcmp(part, "clock") || !strcmp(part, "clock-sleeper")) {
        pthread_t thread = begin(sets, part[5] ? part : NULL);
        while (!go) now();
        pthread_join(thread, NULL);
    } else if (!strcmp(part, "call-sleeper")) {
        pthread_t thread = begin(sets, part);
        while (!go) getppid();
        pthread_join(thread, NULL);
    } else if (!strcmp(part, "processes")) {
        _Atomic int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pid_t child = fork();
        for (int i = 0; i < 50; i++) {
            while (*word % 2 != (child != 0)) PAUSE();
            ++*word;
        }
        if (!child) _exit(0);
        waitpid(child, NULL, 0);
        printf("%d\n", *word);
    } else if (!strcmp(part, "alarm")) {
        signal(SIGALRM, on_alarm);
        setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 2000}}, NULL);
        while (!done) PAUSE();
    } else if (!strcmp(part, "alarm-clock")) {
        signal(SIGALRM, on_alarm);
        setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 2000}}, NULL);
        while (!done) now();
    } else if (!strcmp(part, "limit")) {
        int64_t until = now() + 30000000;
        while (now() < until) PAUSE();
    } else if (!strcmp(part, "alone")) {
        for (int i = 0; i < 100000; i++) PAUSE();
    } else if (!strcmp(part, "bare")) {
        begin(calls, NULL);
        for (uint64_t n = 0;; n++) __asm__ volatile("" : "+r"(n)::"memory");
    } else if (!strcmp(part, "circle") || !strcmp(part, "circle-sleeper")) {
        pthread_t thread = begin(sets, part[6] ? part : NULL);
        while (!go) BARE();
        pthread_join(thread, NULL);
    } else if (!strcmp(part, "circle-mutex")) {
        /* What it calls and writes is the same each time around. */
        pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        pthread_t thread = begin(sets, part);
        for (int over = 0; !over;) {
            pthread_mutex_lock(&mutex);
            over = go;
            pthread_mutex_unlock(&mutex);
        }
        pthread_join(thread, NULL);
    } else if (!strcmp(part, "circle-now")) {
        /* It has gone off by the time that the loop is looked at. */
        signal(SIGALRM, on_alarm);
        setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 1}}, NULL);
        while (!done) BARE();
    } else if (!strcmp(part, "circle-alarm") || !strcmp(part, "circle-cpu")) {
        int real = part[7] == 'a';
        signal(real ? SIGALRM : SIGVTALRM, on_alarm);
        setitimer(real ? ITIMER_REAL : ITIMER_VIRTUAL, &(struct itimerval){{0, 0}, {0, 2000}}, NULL);
        while (!done) BARE();
    } else if (!strcmp(part, "circles")) {
        /* Both wait for the timer; no one for the other. */
        signal(SIGALRM, on_alarm);
        pthread_t thread = begin(circles, NULL);
        setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {2, 0}}, NULL);
        while (!done) BARE();
        pthread_join(thread, NULL);
    } else if (!strcmp(part, "circle-turns")) {
        /* No time passes for a timer while they go on by each other. */
        _Atomic int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        signal(SIGALRM, on_alarm);
        pid_t child = fork();
        setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {30, 0}}, NULL);
        for (int i = 0; i < 20; i++) {
            while (*word % 2 != (child != 0)) BARE();
            ++*word;
        }
        if (!child) _exit(done);
        int status;
        waitpid(child, &status, 0);
        printf("%d %d %d\n", *word, done, status);
    } else if (!strcmp(part, "circle-for-ever")) {
        begin(circles, NULL);
        for (;;) BARE();
    } else if (!strcmp(part, "step")) {
        signal(SIGTRAP, on_trap);
        __asm__ volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\t"
                         "nop\n\tpause\n\tnop\n\txorl %%eax, %%eax\n\tcpuid\n\tnop\n\tpause\n\tpause\n\t"
                         "pushfq\n\tandl $~0x100, (%%rsp)\n\tpopfq\n\tnop\n\tnop\n\tnop" ::
                             : "rax", "rbx", "rcx", "rdx", "cc", "memory");
        printf("%d\n", traps);
    } else if (!strcmp(part, "own")) {
        struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
        for (int i = 0; i < 3; i++) sigaction((int[]){SIGSEGV, SIGILL, SIGTRAP}[i], &action, NULL);
        unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        const unsigned char codes[][2] = {{0xcd, 0x20}, {0xcd, 0x06}, {0xcc, 0x06}, {0xcc, 0x0e}, {0xcc, 0x90}, {0x06, 0x90}, {0x0f, 0x0b}};
        for (size_t i = 0; i < sizeof codes / 2; i++) {
            char name[16];
            snprintf(name, sizeof name, "%02x %02x", codes[i][0], codes[i][1]);
            memcpy(code, codes[i], 2);
            faulting(name, code);
            code[4095] = codes[i][0];
            faulting(name, code + 4095);
        }
        for (long at = 0x100; at < 0x112; at += 16) faulting("a stub", (void *)(0x7fffff000000 + at));
        /* The red zone stays as it is. */
        long zone;
        __asm__ volatile("movq $77, -8(%%rsp)\n\tpause\n\txorl %%eax, %%eax\n\tcpuid\n\tmovq -8(%%rsp), %0"
                         : "=r"(zone) : : "rax", "rbx", "rcx", "rdx");
        printf("%ld\n", zone);
    } else if (!strcmp(part, "data")) {
        unsigned sum = 0, number = 0;
        for (size_t i = 0; i < sizeof table; i++) sum = sum * 31 + table[i];
        __asm__ volatile("movl $0x90f3a20f, %0\n\tpause\n\tadcl $0, %0" : "=r"(number));
        printf("%x %x\n", sum, number);
    } else if (!strcmp(part, "cpuid")) {
        for (unsigned leaf = 0; leaf < 0x10; leaf++)
            for (unsigned index = 0; index < 5; index++) {
                unsigned a, b, c, d;
                __cpuid_count(leaf < 14 ? leaf : 0x80000000 + leaf - 14, index, a, b, c, d);
                printf("%x.%x: %x %x %x %x\n", leaf, index, a, b, c, d);
            }
        uint64_t cpu;
        unsigned a, d;
        __asm__ volatile("rdpid %0" : "=r"(cpu));
        __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
        printf("%lx %x %x\n", (unsigned long)cpu, a, d);
        FILE *info = fopen("/proc/cpuinfo", "r");
        char line[4096];
        while (fgets(line, sizeof line, info)) fputs(line, stdout);
        printf("%ld %ld %ld\n", sysconf(_SC_LEVEL1_DCACHE_SIZE), sysconf(_SC_LEVEL2_CACHE_SIZE), sysconf(_SC_LEVEL3_CACHE_SIZE));
    } else {
        fprintf(stderr, "no such part: %s\n", part);
        return 2;
    }
    puts("to the end");
    return 0;
}
