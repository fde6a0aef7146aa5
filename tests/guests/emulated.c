/* Does what some KVMs emulate: operands that a CPU refuses, a stack pointer that is not canonical, stores of
 * selectors. Prints the signals and how often it was trapped. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGES = 48 };
static char pages[PAGES * 4096] __attribute__((aligned(4096)));
static sigjmp_buf back;
static volatile int traps, last, last_code;

static void caught(int number, siginfo_t *info, void *context) {
    (void)context;
    if (number == SIGTRAP) {
        traps++;
        return;
    }
    last = number, last_code = info->si_code;
    siglongjmp(back, 1);
}

#define REFUSED(text, address) do { \
    last = 0; \
    if (!sigsetjmp(back, 1)) __asm__ volatile(text :: "a"((uint64_t)(address)) : "memory", "xmm0"); \
    printf("%s %#lx: %d/%d\n", text, (unsigned long)(address) & 0xffff800000000fff, last, last_code); \
} while (0)

/* Stores of the IDT's place, one trapped instruction a page: with UMIP a CPU leaves them to the kernel. */
static void whole_stores(void) {
    uint64_t at = (uint64_t)pages;
    memset(pages, 1, sizeof pages);
    __asm__ volatile(
        "pushf\n orl $0x100, (%%rsp)\n popf\n"
        "1: sidt 256(%%rdi)\n add $4096, %%rdi\n dec %%ecx\n jnz 1b\n"
        "pushf\n andl $~0x100, (%%rsp)\n popf\n"
        : "+D"(at) : "c"(PAGES) : "memory", "cc");
    printf("%d traps, %lu bytes on, signal %d\n", traps, (unsigned long)(at - (uint64_t)pages), last);
}

/* LOCK FXSAVE is invalid; what comes of it must not depend on what is there. */
static void invalid_stores(void) {
    for (int n = 0; n < PAGES; n++) {
        traps = last = 0;
        if (!sigsetjmp(back, 1))
            __asm__ volatile(
                "pushf\n orl $0x100, (%%rsp)\n popf\n .byte 0xf0, 0x0f, 0xae, 0x40, 0x0f\n"
                "pushf\n andl $~0x100, (%%rsp)\n popf\n" :: "a"(pages + n * 4096) : "memory", "cc");
        printf("%d/%d ", last, traps);
    }
    printf("\n");
}

/* A repeated store that comes to itself, one iteration a trap, and makes itself `add (%rdx), %ebp`. */
static void overwrites_itself(void) {
    static const unsigned char code[] = {
        0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d,
        0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xf3, 0xaa, 0, 0, 0, 0,
        0x9c, 0x81, 0x24, 0x24, 0xff, 0xfe, 0xff, 0xff, 0x9d, 0xc3,
    };
    char *place = mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    traps = 0;
    for (int n = 0; n < PAGES; n++) {
        char *to = place + 14;
        long count = 100;
        memcpy(place, code, sizeof code);
        __asm__ volatile("push %%rbp\n call *%[code]\n pop %%rbp\n"
                         : "+D"(to), "+c"(count) : [code] "r"(place), "a"(3), "d"(pages + n * 4096) : "memory", "cc");
    }
    printf("%d traps of what overwrites itself\n", traps);
}

int main(int count, char **words) {
    (void)words;
    stack_t stack = { .ss_sp = malloc(1 << 16), .ss_size = 1 << 16 };
    sigaltstack(&stack, 0);
    struct sigaction action = { .sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
    int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGTRAP };
    for (int n = 0; n < 4; n++) sigaction(numbers[n], &action, 0);
    if (count > 1) {
        whole_stores();
        invalid_stores();
        return 0;
    }
    REFUSED("addps (%%rax), %%xmm0", pages + 8);
    REFUSED("movaps %%xmm0, (%%rax)", pages + 1);
    REFUSED("paddb (%%rax), %%xmm0", 1ul << 62);
    REFUSED("pand (%%rax), %%mm0\n emms", 1ul << 47);
    REFUSED("movups (%%rax), %%xmm0", 1ul << 63);
    REFUSED("movss %%xmm0, (%%rax)", 1ul << 60);
    REFUSED("mulsd (%%rax), %%xmm0", 1ul << 60);
    REFUSED("xchg %%rax, %%rbp\n addps (%%rbp), %%xmm0", 1ul << 60);
    REFUSED("ud2", 0);
    for (int turn = 0; turn < 4; turn++) {
        uint64_t sum = 0, own;
        traps = last = 0;
        memset(pages, turn, sizeof pages);
        if (!sigsetjmp(back, 1))
            __asm__ volatile(
                "mov %%rsp, %[own]\n pushf\n orl $0x100, (%%rsp)\n popf\n mov %[odd], %%rsp\n"
                "1: add (%%rdi), %[sum]\n movups 64(%%rdi), %%xmm0\n mov %%cs, 128(%%rdi)\n"
                "mov %%rax, 136(%%rdi)\n add $4096, %%rdi\n dec %%ecx\n jnz 1b\n"
                "mov %[own], %%rsp\n pushf\n andl $~0x100, (%%rsp)\n popf\n"
                : [own] "=&r"(own), [sum] "+r"(sum) : "D"(pages), "c"(PAGES), [odd] "r"(0x6e84be5932a24c89), "a"(5)
                : "memory", "cc", "xmm0");
        printf("%d traps, sum %lx, signal %d\n", traps, (unsigned long)sum, last);
        for (int n = 0; n < PAGES; n++) sum = sum * 31 + pages[n * 4096 + 128] + pages[n * 4096 + 136];
        printf("%lx\n", (unsigned long)sum);
        syscall(SYS_getpid);
    }
    overwrites_itself();
    return 0;
}
