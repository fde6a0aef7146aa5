// Thousands of instructions that are answered in the guest, a few bytes apart, in one stretch without exits; and traps of
// the program's own, with bytes behind them that look like what the monitor puts in the place of such instructions.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static volatile sig_atomic_t traps;

// Goes on behind the byte.
static void trapped(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP]++;
    traps++;
}

int main(void) {
    asm volatile(".rept 12000\n rdtsc\n nop\n pause\n xor %%ecx, %%ecx\n .endr" ::: "rax", "rcx", "rdx");
    asm volatile(".rept 5000\n xor %%eax, %%eax\n xor %%ecx, %%ecx\n cpuid\n .endr" ::: "rax", "rbx", "rcx", "rdx");
    asm volatile(".rept 12000\n xor %%ecx, %%ecx\n xgetbv\n .endr" ::: "rax", "rcx", "rdx");
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const unsigned char looks_like[] = {0x06, 0x0e, 0x1e};
    for (int i = 0; i < 3; i++)
        memcpy(code + 16 * i, (unsigned char[]){0xcc, looks_like[i], 0xc3}, 3);
    mprotect(code, 4096, PROT_READ | PROT_EXEC);
    for (int i = 0; i < 3; i++)
        ((void (*)(void))(code + 16 * i))();
    printf("%d traps\n", traps);
    return 0;
}
