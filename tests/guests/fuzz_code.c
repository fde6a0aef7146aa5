/* Runs pieces of code that standard input has, one after the other, and writes what came of each: the signal,
 * its code, where, and a digest of the registers. Free-standing, since a piece may change what a C library
 * relies on. With an argument it first gives up all system calls but those it needs, for native runs. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>

enum { CODE_AT = 0x10000000, DATA_AT = 0x20000000, DATA = 16 * 4096, STEPS = 48, PIECES = 64, TRACE = 0x100 };

struct piece {
    uint64_t offset;             /* Where in its page the code begins. */
    uint64_t regs[16];           /* As instructions number them. */
    uint64_t flags;
    unsigned char code[64];
};

struct result {
    int32_t signal, code;
    int64_t at;
    uint64_t digest;
};

static struct piece pieces[PIECES];
static unsigned char stack[1 << 16] __attribute__((aligned(64)));
static volatile int running, steps;
struct piece *piece;
uint64_t saved_rsp, target;

static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

void *memset(void *to, int byte, size_t n) {
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t n) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return to;
}

void enter(void);
void leave(void);
void restore(void);
__asm__(
    "restore: mov $15, %eax\n syscall\n"
    /* Each load is by the address of the piece, which is in RAX until the last. */
    "enter: push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "mov %rsp, saved_rsp(%rip)\n mov piece(%rip), %rax\n"
    "pushq 136(%rax)\n popfq\n"
    "mov 16(%rax), %rcx\n mov 24(%rax), %rdx\n mov 32(%rax), %rbx\n mov 40(%rax), %rsp\n mov 48(%rax), %rbp\n"
    "mov 56(%rax), %rsi\n mov 64(%rax), %rdi\n mov 72(%rax), %r8\n mov 80(%rax), %r9\n mov 88(%rax), %r10\n"
    "mov 96(%rax), %r11\n mov 104(%rax), %r12\n mov 112(%rax), %r13\n mov 120(%rax), %r14\n"
    "mov 128(%rax), %r15\n mov 8(%rax), %rax\n"
    "jmp *target(%rip)\n"
    "leave: cld\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

static void caught(int number, siginfo_t *info, void *context) {
    ucontext_t *c = context;
    greg_t *g = c->uc_mcontext.gregs;
    uint64_t at = (uint64_t)g[REG_RIP] - CODE_AT;
    if (!running)
        call(SYS_exit, 3, 0, 0, 0, 0, 0);
    if (number == SIGTRAP && info->si_code == TRAP_TRACE && (g[REG_EFL] & TRACE) && ++steps < STEPS)
        return;
    running = 0;
    uint64_t digest = 0;
    for (int n = 0; n < REG_RIP; n++)
        digest = (digest ^ (uint64_t)g[n]) * 0x9e3779b97f4a7c15;
    struct result result = { number, info->si_code, at < 4096 ? (int64_t)at : -1, digest };
    call(SYS_write, 1, (long)&result, sizeof result, 0, 0, 0);
    g[REG_RIP] = (greg_t)leave;
    g[REG_RSP] = (greg_t)saved_rsp;
    g[REG_EFL] = 0x202;
    g[REG_CSGSFS] = 0x2b000000000033;
    if (c->uc_mcontext.fpregs) {
        c->uc_mcontext.fpregs->mxcsr = 0x1f80;
        c->uc_mcontext.fpregs->cwd = 0x37f;
        c->uc_mcontext.fpregs->swd = 0;
    }
}

static void give_up_calls(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xc000003e, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
    struct rlimit seconds = { 2, 2 };
    call(SYS_setrlimit, RLIMIT_CPU, (long)&seconds, 0, 0, 0, 0);
    call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
    if (call(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)&program, 0, 0, 0))
        call(SYS_exit, 4, 0, 0, 0, 0, 0);
}

static void map(long at, long length, int protection) {
    call(SYS_mmap, at, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

__attribute__((used)) void start(long *arguments) {
    long got, have = 0;
    while ((got = call(SYS_read, 0, (long)pieces + have, sizeof pieces - have, 0, 0, 0)) > 0)
        have += got;
    map(CODE_AT, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    map(DATA_AT, DATA, PROT_READ | PROT_WRITE);
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    call(SYS_sigaltstack, (long)&alternate, 0, 0, 0, 0, 0);
    /* As the kernel has it. */
    struct { void *handler; unsigned long flags; void *restorer; unsigned long mask; } action = {
        caught, SA_SIGINFO | SA_ONSTACK | 0x04000000, restore, 0,
    };
    int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS };
    for (int n = 0; n < 6; n++)
        call(SYS_rt_sigaction, numbers[n], (long)&action, 0, 8, 0, 0);
    if (arguments[0] > 1)
        give_up_calls();
    for (piece = pieces; piece < pieces + have / sizeof *piece; piece++) {
        memset((void *)(uintptr_t)CODE_AT, 0xcc, 4096);
        unsigned long room = 4096 - piece->offset % 4096;
        memcpy((void *)(CODE_AT + piece->offset % 4096), piece->code, room < 64 ? room : 64);
        memset((void *)(uintptr_t)DATA_AT, 0, DATA);
        target = CODE_AT + piece->offset % 4096;
        steps = 0;
        running = 1;
        enter();
    }
    call(SYS_exit, 0, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call start\n");
