/* What signals, their masks and their contexts look like. Prints the same natively and in the sandbox. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile int came;
static char *page; /* Two pages: readable, then nothing at all. */

static void show(int number, siginfo_t *info, void *context) {
    /* Handlers keep the alignment check. */
    __asm__ volatile("pushf; andl $~0x40000, (%%rsp); popf" ::: "memory", "cc");
    ucontext_t *c = context;
    char *address = info->si_addr;
    const char *place = "elsewhere";
    greg_t *g = c->uc_mcontext.gregs;
    if (address == NULL) place = "null";
    else if (address == (char *)g[REG_RIP]) place = "rip";
    else if (address >= page && address < page + 8192) place = "page";
    printf("  signal %d code %d at %s trap %lld error %#llx", number, info->si_code, place,
           g[REG_TRAPNO], g[REG_ERR]);
    if (g[REG_TRAPNO] == 14) printf(" cr2 %s", g[REG_CR2] == (greg_t)address ? "same" : "other");
    printf("\n");
    siglongjmp(back, 1);
}

static void catch_all(void (*act)(int, siginfo_t *, void *)) {
    static char own[65536];
    stack_t alt = {.ss_sp = own, .ss_size = sizeof own};
    sigaltstack(&alt, NULL);
    struct sigaction action = {.sa_sigaction = act, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    for (int i = 0; i < 5; i++) sigaction(numbers[i], &action, NULL);
}

#define TRY(name, act)            \
    do {                          \
        printf("%s\n", name);     \
        if (!sigsetjmp(back, 1)) { \
            act;                  \
            printf("  nothing\n"); \
        }                         \
    } while (0)

static void mxcsr(unsigned value) { __asm__ volatile("ldmxcsr %0" ::"m"(value)); }
static void x87(unsigned short value) { __asm__ volatile("fninit; fldcw %0" ::"m"(value)); }

static void exceptions(void) {
    volatile double zero = 0, one = 1, huge = 1e308, tiny = 1e-308, sink;
    volatile long double lzero = 0, lone = 1, lsink;
    volatile int izero = 0;
    page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    catch_all(show);
    TRY("null read", *(volatile int *)8);
    TRY("unmapped read", *(volatile char *)(page + 4096));
    TRY("unmapped write", *(volatile char *)(page + 4096) = 1);
    *(volatile char *)page;
    TRY("write to read-only", *(volatile char *)page = 1);
    TRY("run data", ((void (*)(void))page)());
    TRY("read kernel", *(volatile char *)0xffff888000000000);
    TRY("write kernel", *(volatile char *)0xffff888000000000 = 1);
    TRY("run kernel", ((void (*)(void))0xffffffff81000000)());
    TRY("not canonical", *(volatile char *)0x800000000000);
    TRY("not canonical by rsp", __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; mov (%%rsp), %%rax; mov %%rbx, %%rsp" ::"r"(0x900000000000) : "rax", "rbx", "memory"));
    TRY("hlt", __asm__ volatile("hlt"));
    TRY("int1", __asm__ volatile(".byte 0xf1"));
    TRY("int3", __asm__ volatile("int3"));
    TRY("int $3", __asm__ volatile(".byte 0xcd, 3"));
    TRY("int $4", __asm__ volatile("int $4"));
    TRY("int $1", __asm__ volatile(".byte 0xcd, 1"));
    TRY("int $14", __asm__ volatile("int $14"));
    TRY("int $32", __asm__ volatile("int $32"));
    TRY("int $0x55", __asm__ volatile("int $0x55"));
    TRY("int $0xff", __asm__ volatile("int $0xff"));
    TRY("ud2", __asm__ volatile("ud2"));
    TRY("bad opcode", __asm__ volatile(".byte 0x06"));
    TRY("in imm8", __asm__ volatile("inb $0x10, %%al" ::: "rax"));
    TRY("in ax", __asm__ volatile("inw $0x10, %%ax" ::: "rax"));
    TRY("in eax", __asm__ volatile("inl $0x10, %%eax" ::: "rax"));
    TRY("in dx", __asm__ volatile("inb %%dx, %%al" ::"d"(0x10) : "rax"));
    TRY("in other", __asm__ volatile("inb $0x60, %%al" ::: "rax"));
    TRY("in exception port", __asm__ volatile("inb $0x11, %%al" ::: "rax"));
    TRY("out imm8", __asm__ volatile("outb %%al, $0x10" ::"a"(0)));
    TRY("out ax", __asm__ volatile("outw %%ax, $0x10" ::"a"(0)));
    TRY("out ax below", __asm__ volatile("outw %%ax, $0xf" ::"a"(0)));
    TRY("out eax", __asm__ volatile("outl %%eax, $0x10" ::"a"(0)));
    TRY("out exception port", __asm__ volatile("outb %%al, $0x11" ::"a"(0)));
    TRY("out dx", __asm__ volatile("outb %%al, %%dx" ::"a"(0), "d"(0x10)));
    static char text[64];
    TRY("outsb", __asm__ volatile("outsb" ::"S"(text), "d"(0x10)));
    TRY("rep outsb", __asm__ volatile("rep outsb" ::"S"(text), "d"(0x10), "c"(8)));
    TRY("outsl", __asm__ volatile("outsl" ::"S"(text), "d"(0x10)));
    TRY("rep outsw", __asm__ volatile("rep outsw" ::"S"(text), "d"(0xf), "c"(8)));
    TRY("sysret", __asm__ volatile("sysretq"));
    TRY("sysexit", __asm__ volatile("sysexit"));
    TRY("swapgs", __asm__ volatile("swapgs"));
    TRY("clts", __asm__ volatile("clts"));
    TRY("rdmsr", __asm__ volatile("rdmsr" ::"c"(0x10) : "rax", "rdx"));
    TRY("rdpmc", __asm__ volatile("rdpmc" ::"c"(0) : "rax", "rdx"));
    TRY("invlpg", __asm__ volatile("invlpg (%0)" ::"r"(text)));
    TRY("mov dr", __asm__ volatile("mov %%dr7, %%rax" ::: "rax"));
    TRY("mov cr8", __asm__ volatile("mov %%cr8, %%rax" ::: "rax"));
    TRY("lidt", __asm__ volatile("lidt (%0)" ::"r"(text)));
    TRY("ltr", __asm__ volatile("ltr %w0" ::"r"(0)));
    TRY("wbinvd", __asm__ volatile("wbinvd"));
    TRY("xsetbv", __asm__ volatile("xsetbv" ::"a"(7), "d"(0), "c"(0)));
    TRY("far jump to nowhere", __asm__ volatile("ljmp *%0" ::"m"(*(struct { uint32_t o; uint16_t s; } *)text)));
    TRY("bad ds", __asm__ volatile("mov %w0, %%ds" ::"r"(0x50)));
    TRY("kernel ss", __asm__ volatile("mov %w0, %%ss" ::"r"(0x18)));
    TRY("null ss", __asm__ volatile("mov %w0, %%ss" ::"r"(0)));
    TRY("divide", __asm__ volatile("idivl %0" ::"r"(0), "a"(1), "d"(0)));
    TRY("divide overflow", __asm__ volatile("idivl %0" ::"r"(-1), "a"(0x80000000), "d"(-1)));
    mxcsr(0x1f80 & ~(1 << 9)); TRY("sse division", sink = one / zero);
    mxcsr(0x1f80 & ~(1 << 7)); TRY("sse invalid", sink = zero / zero);
    mxcsr(0x1f80 & ~(1 << 10)); TRY("sse overflow", sink = huge * huge);
    mxcsr(0x1f80 & ~(1 << 11)); TRY("sse underflow", sink = tiny * tiny);
    mxcsr(0x1f80 & ~(1 << 12)); TRY("sse inexact", sink = one / 3);
    mxcsr(0x1f80);
    x87(0x37f & ~4); TRY("x87 division", lsink = lone / lzero; __asm__ volatile("fwait"));
    x87(0x37f & ~1); TRY("x87 invalid", lsink = lzero / lzero; __asm__ volatile("fwait"));
    x87(0x37f & ~32); TRY("x87 inexact", lsink = lone / 3; __asm__ volatile("fwait"));
    x87(0x37f);
    TRY("alignment", __asm__ volatile("pushf; orl $0x40000, (%%rsp); popf; movl 1(%0), %%eax" ::"r"(text) : "rax", "memory", "cc"));
    __asm__ volatile("pushf; andl $~0x40000, (%%rsp); popf" ::: "memory", "cc");
    TRY("trace", __asm__ volatile("pushf; orl $0x100, (%%rsp); popf; nop; nop" ::: "memory", "cc"));
    TRY("nested task", __asm__ volatile("pushf; orl $0x4000, (%%rsp); popf; nop" ::: "memory", "cc"));
    TRY("iret with nested task", __asm__ volatile("pushf; orl $0x4000, (%%rsp); popf; iretq" ::: "memory", "cc"));
    __asm__ volatile("pushf; andl $~0x4000, (%%rsp); popf" ::: "memory", "cc");
    TRY("popf with iopl", __asm__ volatile("pushf; orl $0x3000, (%%rsp); popf; cli" ::: "memory", "cc"));
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    if (fd < 0) { fd = open("/tmp/signals-file", O_RDWR | O_CREAT | O_TRUNC, 0600); unlink("/tmp/signals-file"); }
    if (write(fd, "x", 1) != 1) abort();
    munmap(page, 4096);
    page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TRY("behind a file", *(volatile char *)(page + 4096));
    TRY("write behind a file", page[4097] = 1);
}

static void count(int number) {
    (void)number;
    came++;
}

static uint64_t blocked(void) {
    uint64_t mask = 0;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    return mask;
}

static void masks(void) {
    sigset_t usr, none, old;
    struct timespec zero = {0, 0}, long_time = {3, 0};
    int pair[2];
    if (pipe(pair) != 0 || write(pair[1], "x", 1) != 1) abort();
    struct pollfd ready = {pair[0], POLLIN, 0}, idle = {pair[1], POLLIN, 0};
    sigemptyset(&none);
    sigemptyset(&usr);
    sigaddset(&usr, SIGUSR1);
    signal(SIGUSR1, count);
    sigprocmask(SIG_BLOCK, &usr, NULL);
#define PENDING(name, act)                                                                   \
    do {                                                                                     \
        came = 0;                                                                            \
        kill(getpid(), SIGUSR1);                                                             \
        errno = 0;                                                                           \
        int result = act;                                                                    \
        printf("%s: %d %s, handler ran %d times", name, result, errno ? strerrorname_np(errno) : "-", came); \
        sigpending(&old);                                                                    \
        printf(", pending %d, mask %#lx\n", sigismember(&old, SIGUSR1), blocked());          \
    } while (0)
    PENDING("ppoll, none ready", ppoll(&idle, 1, &long_time, &none));
    PENDING("ppoll, no time", ppoll(&idle, 1, &zero, &none));
    PENDING("ppoll for ever", ppoll(&idle, 1, NULL, &none));
    PENDING("ppoll, one ready", ppoll(&ready, 1, &long_time, &none));
    PENDING("ppoll, blocked too", ppoll(&idle, 1, &zero, &usr));
    PENDING("ppoll without mask", ppoll(&idle, 1, &zero, NULL));
    fd_set set;
    FD_ZERO(&set);
    PENDING("pselect", pselect(0, NULL, NULL, NULL, &long_time, &none));
    FD_SET(pair[0], &set);
    PENDING("pselect, one ready", pselect(pair[0] + 1, &set, NULL, NULL, &long_time, &none));
    PENDING("sigsuspend", sigsuspend(&none));
    siginfo_t info;
    PENDING("sigtimedwait", sigtimedwait(&usr, &info, &zero));
    printf("  signal %d code %d pid %d\n", info.si_signo, info.si_code, info.si_pid == getpid());
    errno = 0;
    printf("sigtimedwait for nothing: %d", sigtimedwait(&usr, &info, &zero));
    printf(" %s\n", strerrorname_np(errno));
    struct timespec bad = {0, 1000000000};
    printf("sigtimedwait, bad time: %d", sigtimedwait(&usr, &info, &bad));
    printf(" %s\n", strerrorname_np(errno));
    printf("ppoll, bad size: %ld", syscall(SYS_ppoll, &idle, 1, &zero, &none, 4));
    printf(" %s\n", strerrorname_np(errno));
    signal(SIGALRM, count);
    struct itimerval soon = {{0, 0}, {0, 20000}};
    came = 0;
    setitimer(ITIMER_REAL, &soon, NULL);
    printf("sigtimedwait, another comes: %d", sigtimedwait(&usr, &info, NULL));
    printf(" %s %d\n", strerrorname_np(errno), came);
    sigset_t alarm_set;
    sigemptyset(&alarm_set);
    sigaddset(&alarm_set, SIGALRM);
    setitimer(ITIMER_REAL, &soon, NULL);
    sigprocmask(SIG_BLOCK, &alarm_set, NULL);
    printf("sigwaitinfo, blocked alarm: %d", sigwaitinfo(&alarm_set, &info));
    printf(" code %d\n", info.si_code);
    setitimer(ITIMER_REAL, &soon, NULL);
    came = 0;
    printf("ppoll, alarm in its mask: %d", ppoll(&idle, 1, NULL, &none));
    printf(" %s %d mask %#lx\n", strerrorname_np(errno), came, blocked());
    sigprocmask(SIG_UNBLOCK, &alarm_set, NULL);

    int empty[2];
    if (pipe(empty) != 0) abort();
    struct sigaction action = {.sa_handler = count};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    char byte;
    errno = 0;
    printf("read, alarm: %zd", read(empty[0], &byte, 1));
    printf(" %s\n", strerrorname_np(errno));
}

static void order_handler(int number) { printf("  handler of %d\n", number); }

static void order(void) {
    int numbers[] = {SIGTERM, SIGHUP, SIGUSR2, SIGINT, SIGCHLD, SIGWINCH};
    sigset_t all, old;
    sigfillset(&all);
    struct sigaction action = {.sa_handler = order_handler};
    sigfillset(&action.sa_mask);
    for (int i = 0; i < 6; i++) sigaction(numbers[i], &action, NULL);
    sigprocmask(SIG_BLOCK, &all, &old);
    for (int i = 0; i < 6; i++) kill(getpid(), numbers[i]);
    printf("to the process\n");
    sigprocmask(SIG_SETMASK, &old, NULL);
    sigprocmask(SIG_BLOCK, &all, &old);
    kill(getpid(), SIGHUP);
    syscall(SYS_tgkill, getpid(), getpid(), SIGUSR2);
    kill(getpid(), SIGINT);
    printf("one to the thread\n");
    sigprocmask(SIG_SETMASK, &old, NULL);
    fflush(stdout);
}

static char stack[65536];
static volatile int depth;
static void on_stack(int number) {
    stack_t now;
    sigaltstack(NULL, &now);
    char here;
    printf("  on it %d, flags %#x\n", &here > stack && &here < stack + sizeof stack, now.ss_flags);
    if (depth++ == 0) raise(number);
}

static void stacks(void) {
    stack_t old, alt = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_stack, .sa_flags = SA_ONSTACK | SA_NODEFER};
    sigaction(SIGUSR1, &action, NULL);
    sigset_t usr;
    sigemptyset(&usr);
    sigaddset(&usr, SIGUSR1);
    sigprocmask(SIG_UNBLOCK, &usr, NULL);
    sigaltstack(NULL, &old);
    printf("at first: flags %#x\n", old.ss_flags);
    int flags[] = {0, SS_ONSTACK, 1 << 31, 1 << 31 | SS_ONSTACK, SS_DISABLE, 1 << 31 | SS_DISABLE, 4};
    for (int i = 0; i < 7; i++) {
        alt.ss_flags = flags[i];
        errno = 0;
        int result = sigaltstack(&alt, &old);
        printf("flags %#x: %d %s\n", flags[i], result, errno ? strerrorname_np(errno) : "-");
        depth = 0;
        raise(SIGUSR1);
        sigaltstack(NULL, &old);
        printf("  afterwards: flags %#x, size %zu\n", old.ss_flags, old.ss_size);
    }
    alt.ss_flags = 0;
    alt.ss_size = 2047;
    printf("too small: %d", sigaltstack(&alt, NULL));
    printf(" %s\n", strerrorname_np(errno));
    fflush(stdout);
}

/* rt_sigreturn with a frame that was changed. */
static int change;
static unsigned char *fp(ucontext_t *c) { return (unsigned char *)c->uc_mcontext.fpregs; }
static void changing(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    ucontext_t *c = context;
    greg_t *g = c->uc_mcontext.gregs;
    uint16_t *selectors = (uint16_t *)&g[REG_CSGSFS];
    switch (change) {
    case 0: break;
    case 1: *(uint32_t *)(fp(c) + 24) = 0xffffffff; break;             /* MXCSR */
    case 2: *(uint64_t *)(fp(c) + 512) = ~0ull; break;                 /* XSTATE_BV */
    case 3: *(uint64_t *)(fp(c) + 512) |= 1ull << 63; break;
    case 4: *(uint64_t *)(fp(c) + 520) = 1; break;                     /* XCOMP_BV */
    case 5: *(uint64_t *)(fp(c) + 528) = 1; break;                     /* reserved, looked at */
    case 6: *(uint64_t *)(fp(c) + 568) = ~0ull; break;                 /* reserved, not looked at */
    case 7: *(uint64_t *)(fp(c) + 512) = 0; break;                     /* all initial */
    case 8: *(uint32_t *)(fp(c) + 464) = 0; break;                     /* no magic */
    case 9: *(uint32_t *)(fp(c) + 464 + 16) = 100; break;              /* too short */
    case 10: *(uint32_t *)(fp(c) + 464 + 16) = 1 << 30; break;         /* too long */
    case 11: *(uint64_t *)(fp(c) + 464 + 8) = 1; break;                /* x87 only */
    case 12: c->uc_mcontext.fpregs = NULL; break;
    case 13: c->uc_mcontext.fpregs = (void *)8; break;
    case 14: c->uc_mcontext.fpregs = (void *)0x800000000000; break;
    case 15: c->uc_mcontext.fpregs = (void *)(fp(c) + 8); break;       /* not aligned */
    case 16: selectors[0] = 0; break;
    case 17: selectors[0] = 0x10; break;
    case 18: selectors[0] = 0x2b; break;
    case 19: selectors[0] = 0x30; break;                               /* RPL 0: made 3 */
    case 20: selectors[3] = 0; break;
    case 21: selectors[3] = 0x18; break;
    case 22: selectors[3] = 0xfff8; break;
    case 23: g[REG_EFL] |= 0x3000; break;                              /* IOPL */
    case 24: g[REG_EFL] |= 0x4000; break;                              /* NT */
    case 25: g[REG_EFL] |= 0x10000; break;                             /* RF */
    case 26: g[REG_EFL] |= 0x20000; break;                             /* VM */
    case 27: g[REG_EFL] = ~0x40500ull; break;                          /* all but AC, TF, DF */
    case 28: g[REG_EFL] |= 0x100; break;                               /* TF */
    case 29: g[REG_RIP] = 0x800000000000; break;
    case 30: g[REG_RIP] = 0xffffffff81000000; break;
    case 31: g[REG_RIP] = 0xffff800000000000; break;
    case 32: g[REG_RIP] = 0x7fffffffffff; break;
    case 33: g[REG_RIP] = 0; break;
    case 34: g[REG_RIP] = (greg_t)0x8000000000000000; break;
    case 35: *(uint32_t *)(fp(c) + 24) = 0x5f80; break;                /* rounding */
    case 36: *(uint64_t *)(fp(c) + 512) &= ~2ull; *(uint32_t *)(fp(c) + 24) = 0x7f80; break;
    case 37: c->uc_flags = 0; selectors[3] = 0x18; break;              /* SS need not be right */
    }
}

static void returned(int number, siginfo_t *info, void *context) {
    ucontext_t *c = context;
    greg_t *g = c->uc_mcontext.gregs;
    printf("  signal %d code %d address %#lx trap %lld flags %#llx\n", number, info->si_code,
           (info->si_code > 0 && info->si_code < 0x80 && change >= 29) ? (long)info->si_addr : 0L, g[REG_TRAPNO], g[REG_EFL] & 0x47700);
    siglongjmp(back, 1);
}

static void returns(void) {
    struct sigaction action = {.sa_sigaction = changing, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR2, &action, NULL);
    static char own[65536];
    stack_t alt = {.ss_sp = own, .ss_size = sizeof own};
    sigaltstack(&alt, NULL);
    struct sigaction fault = {.sa_sigaction = returned, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    for (int i = 0; i < 5; i++) sigaction(numbers[i], &fault, NULL);
    for (change = 0; change < 38; change++) {
        printf("change %d\n", change);
        if (!sigsetjmp(back, 1)) {
            unsigned long xmm = 0x1234, flags;
            unsigned csr;
            __asm__ volatile("movq %0, %%xmm7" ::"r"(xmm) : "xmm7");
            syscall(SYS_tgkill, getpid(), getpid(), SIGUSR2);
            __asm__ volatile("movq %%xmm7, %0; stmxcsr %1; pushf; pop %2" : "=r"(xmm), "=m"(csr), "=r"(flags));
            printf("  went on: xmm7 %#lx mxcsr %#x flags %#lx\n", xmm, csr & 0xffc0, flags & 0x47700);
        }
        unsigned normal = 0x1f80;
        __asm__ volatile("cld; ldmxcsr %0; fninit" ::"m"(normal));
    }
}

/* A handler that cannot be entered. */
static void second(int number) {
    (void)number;
    printf("  SIGSEGV instead\n");
    fflush(stdout);
    siglongjmp(back, 1);
}

static void no_stack(void) {
    static char own[65536];
    stack_t alt = {.ss_sp = own, .ss_size = sizeof own};
    sigaltstack(&alt, NULL);
    struct sigaction fault = {.sa_handler = second, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &fault, NULL);
    signal(SIGUSR1, count);
    TRY("no stack for a handler",
        __asm__ volatile("mov %%rsp, %%rbx; xor %%esp, %%esp; syscall; mov %%rbx, %%rsp" ::"a"(SYS_kill), "D"(getpid()), "S"(SIGUSR1) : "rbx", "rcx", "r11", "memory"));
    struct sigaction nowhere = {.sa_handler = (void (*)(int))0x800000000000};
    sigaction(SIGUSR1, &nowhere, NULL);
    TRY("a handler nowhere", raise(SIGUSR1));
    nowhere.sa_handler = (void (*)(int))0xffffffff81000000;
    sigaction(SIGUSR1, &nowhere, NULL);
    TRY("a handler in the kernel", raise(SIGUSR1));
    struct sigaction itself = {.sa_handler = (void (*)(int))0x800000000000, .sa_flags = SA_NODEFER};
    printf("both nowhere\n");
    fflush(stdout);
    sigaction(SIGSEGV, &itself, NULL);
    sigaction(SIGUSR1, &itself, NULL);
    /* On a small stack, which is soon used up. */
    char *small = mmap((void *)0x30000000, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    __asm__ volatile("mov %0, %%rsp; syscall" ::"r"(small + 65536), "a"(SYS_kill), "D"(getpid()), "S"(SIGUSR1) : "rcx", "r11", "memory");
}

static long int80(long number, long b, long c, long d) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(b), "c"(c), "d"(d) : "memory");
    return result;
}

/* int 0x80, and the vsyscall page. */
static void old_ways(void) {
    int pair[2];
    char *low = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (pipe(pair) != 0) abort();
    strcpy(low, "written by int 0x80");
    printf("write %ld", int80(4, pair[1], (long)low, 19));
    memset(low, 0, 64);
    printf(" read %ld %s\n", int80(3, pair[0], (long)low, 64), low);
    printf("getpid %d, getuid %d, upper halves %ld\n", int80(20, 0, 0, 0) == getpid(), int80(199, 0, 0, 0) == getuid(),
           int80(6, 0x100000000 + 99, 0, 0));
    printf("bad pointer %ld, no such call %ld\n", int80(4, pair[1], 8, 4), int80(4000, 0, 0, 0));
    struct timeval time = {0};
    unsigned cpu = 99;
    long (*gettimeofday)(void *, void *) = (void *)0xffffffffff600000;
    long (*get_time)(long *) = (void *)0xffffffffff600400;
    long (*get_cpu)(void *, void *, void *) = (void *)0xffffffffff600800;
    printf("gettimeofday %ld %d\n", gettimeofday(&time, NULL), time.tv_sec > 1000000000);
    long now = 0;
    printf("time %d", get_time(&now) > 1000000000);
    printf(" %d\n", now > 1000000000);
    printf("getcpu %ld", get_cpu(&cpu, NULL, NULL));
    printf(" %d\n", cpu < 99);
    catch_all(show);
    TRY("read the vsyscall page", *(volatile char *)0xffffffffff600000);
    TRY("call into its middle", ((void (*)(void))0xffffffffff600010)());
    TRY("bad pointer", gettimeofday((void *)8, NULL));
    fflush(stdout);
    int80(1, 7, 0, 0);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "exceptions")) exceptions();
    if (!strcmp(what, "masks")) masks();
    if (!strcmp(what, "order")) order();
    if (!strcmp(what, "stacks")) stacks();
    if (!strcmp(what, "returns")) returns();
    if (!strcmp(what, "no-stack")) no_stack();
    if (!strcmp(what, "old-ways")) old_ways();
    return 0;
}
