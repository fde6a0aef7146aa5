/* Runs random bytes as code, under RFLAGS.TF so that they end, and prints what came of each: the signal, its
 * code and where. The same natively and in the sandbox, but for what CPUs and time make of them. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { CODE = 64, STEPS = 12, DATA = 4096 * 4 };
static sigjmp_buf back;
static unsigned char *code, *data;
static volatile int steps;
static uint64_t random_state;

static uint64_t next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t fs, gs;

static void caught(int number, siginfo_t *info, void *context) {
    /* The code may have changed what the C library needs. */
    __asm__ volatile("wrfsbase %0\n wrgsbase %1\n cld\n pushf\n andl $~0x44100, (%%rsp)\n popf" ::"r"(fs), "r"(gs) : "memory", "cc");
    ucontext_t *c = context;
    greg_t *g = c->uc_mcontext.gregs;
    int own = g[REG_RIP] >= (greg_t)code && g[REG_RIP] < (greg_t)code + CODE;
    /* What a step has come to is no end of it, as long as it is in the code. */
    if (number == SIGTRAP && info->si_code == TRAP_TRACE && own && ++steps < STEPS) {
        unsigned char *at = (unsigned char *)g[REG_RIP];
        int enters = at[0] == 0x0f && (at[1] == 0x05 || at[1] == 0x34);
        if (!enters) {
            g[REG_EFL] |= 0x100;
            return;
        }
    }
    printf(" %d/%d", number, info->si_code);
    if (own) printf("@%d", (int)(g[REG_RIP] - (greg_t)code));
    siglongjmp(back, 1);
}

/* Instructions that are worth more tries than chance gives them. */
static const unsigned char seeds[][6] = {
    {0xe4, 0x10}, {0xe5, 0x10}, {0xe6, 0x10}, {0xe7, 0x10}, {0xec}, {0xed}, {0xee}, {0xef}, {0x6c}, {0x6d}, {0x6e},
    {0x6f}, {0xf3, 0x6c}, {0xf3, 0x6e}, {0xf3, 0x6f}, {0x66, 0x6f}, {0xcc}, {0xcd}, {0xce}, {0xcf}, {0x48, 0xcf},
    {0xf1}, {0xf4}, {0xfa}, {0xfb}, {0x9c}, {0x9d}, {0x0f, 0x01}, {0x0f, 0x00}, {0x0f, 0x20}, {0x0f, 0x21},
    {0x0f, 0x22}, {0x0f, 0x23}, {0x0f, 0x30}, {0x0f, 0x31}, {0x0f, 0x32}, {0x0f, 0x33}, {0x0f, 0x06}, {0x0f, 0x07},
    {0x0f, 0x08}, {0x0f, 0x09}, {0x0f, 0x35}, {0x8e}, {0x8c}, {0xca}, {0xcb}, {0x48, 0xcb}, {0xff}, {0x48, 0xff},
    {0x0f, 0xae}, {0x48, 0x0f, 0xae}, {0x0f, 0xc7}, {0x48, 0x0f, 0xc7}, {0x0f, 0xa1}, {0x0f, 0xa9}, {0x0f, 0xb2},
    {0x0f, 0xb4}, {0x0f, 0x02}, {0x0f, 0x03}, {0xf0}, {0xc8}, {0xc9}, {0x0f, 0x0d}, {0x0f, 0x18}, {0xd9}, {0xdd},
    {0xdb}, {0x9b}, {0xc5}, {0xc4}, {0x62}, {0x8f}, {0xf3, 0x0f, 0xae}, {0xf3, 0x48, 0x0f, 0xae}, {0x0f, 0xff},
    {0x0f, 0x0b}, {0x0f, 0xb9}, {0xe2}, {0xe3}, {0xa4}, {0xf3, 0xa4}, {0xaa}, {0xf3, 0xab}, {0x0f, 0xa2},
};

static void fill(void) {
    for (int i = 0; i < CODE; i++) code[i] = next();
    for (int at = 0; at < CODE - 8;) {
        if (next() % 4) {
            const unsigned char *seed = seeds[next() % (sizeof seeds / sizeof *seeds)];
            for (int i = 0; i < 6 && (i == 0 || seed[i]); i++) code[at + i] = seed[i];
        }
        at += 1 + next() % 8;
    }
}

/* System calls and what waits or kills by them are other tests' business. */
static int is_left_out(void) {
    for (int i = 0; i < CODE - 1; i++) {
        if (code[i] == 0x0f && (code[i + 1] == 0x05 || code[i + 1] == 0x34)) return 1;
        if (code[i] == 0xcd && code[i + 1] == 0x80) return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1, count = argc > 2 ? strtoull(argv[2], NULL, 0) : 100;
    int quiet = argc > 3;
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    code = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    data = mmap((void *)0x20000000, DATA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    char *stack = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t alt = {.ss_sp = stack, .ss_size = 1 << 16};
    sigaltstack(&alt, NULL);
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    for (int i = 0; i < 5; i++) sigaction(numbers[i], &action, NULL);
    __asm__ volatile("rdfsbase %0; rdgsbase %1" : "=r"(fs), "=r"(gs));
    for (uint64_t seed = first; seed < first + count; seed++) {
        random_state = seed * 0x9e3779b97f4a7c15 + 1;
        next(), next();
        memset(code, 0x0b, 4096);
        fill();
        memset(data, 0, DATA);
        if (is_left_out()) continue;
        printf("%lu:", (unsigned long)seed);
        steps = 0;
        unsigned normal = 0x1f80;
        if (!sigsetjmp(back, 1)) {
            /* Registers that point into the data, count little, or name the ports of the stubs. */
            __asm__ volatile(
                "mov %0, %%rsp\n push %1\n"
                "mov %2, %%rdi\n lea 512(%%rdi), %%rsi\n lea 1024(%%rdi), %%rbx\n lea 2048(%%rdi), %%rbp\n"
                "mov %%rbx, %%r8\n mov %%rbx, %%r9\n mov %%rbx, %%r10\n mov %%rbx, %%r11\n"
                "mov %%rbx, %%r12\n mov %%rbx, %%r13\n mov %%rbx, %%r14\n mov %%rbx, %%r15\n"
                "mov $0x10, %%edx\n mov $3, %%ecx\n xor %%eax, %%eax\n"
                "pushf\n orl $0x100, (%%rsp)\n popf\n ret\n"
                ::"r"(data + DATA - 1024), "r"(code), "r"(data + 4096)
                : "memory", "cc", "rax", "rbx", "rcx", "rdx", "rsi", "rdi");
        }
        /* The code may have changed these. */
        __asm__ volatile("cld\n fninit\n ldmxcsr %0\n" ::"m"(normal));
        __asm__ volatile("pushf; andl $~0x44100, (%%rsp); popf" ::: "memory", "cc");
        printf("\n");
        if (quiet) rewind(stdout);
    }
    fflush(stdout);
    return 0;
}
